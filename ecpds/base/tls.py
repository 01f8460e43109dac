"""The certificate of all listeners: self-signed at the first start, reloaded without a restart."""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ecpds.model.errors import ConfigError

VALID_FOR = timedelta(days=825)  # what browsers accept of a private authority
BACKDATED = timedelta(hours=1)  # for peers whose clock is behind


def make_self_signed(folder: Path, host: str, now: datetime) -> tuple[Path, Path]:
    """Write `certificate.pem` and `key.pem` (0600) for `host` and localhost; return their paths."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if host and host != "localhost":
        names.append(x509.DNSName(host))
    names += [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_path, certificate_path = folder / "key.pem", folder / "certificate.pem"
    _write(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate_path, key_path


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


class Certificates:
    """The server context that new connections get."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = (certificate, key)
        self._context = self._load()

    @property
    def certificate(self) -> Path:
        """Return the file of the certificate with its chain."""
        return self._paths[0]

    @property
    def key(self) -> Path:
        """Return the file of the private key."""
        return self._paths[1]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        try:
            context.load_cert_chain(*self._paths)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"certificate {self._paths[0]} cannot be used: {error}") from None
        return context

    def context(self) -> ssl.SSLContext:
        """Return the present context."""
        return self._context

    def reload(self, certificate: Path | None = None, key: Path | None = None) -> None:
        """Read the files anew, or others; on an error the old ones stay and ConfigError tells."""
        old = self._paths
        if certificate is not None:
            self._paths = (certificate, key or certificate)
        try:
            self._context = self._load()
        except ConfigError:
            self._paths = old
            raise

    def expires_at(self) -> datetime:
        """Return when the certificate ends."""
        data = self._paths[0].read_bytes()
        return x509.load_pem_x509_certificate(data).not_valid_after_utc
