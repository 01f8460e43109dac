"""A certificate authority of the test's own, and what it signs.

Elliptic curve keys, because they are made in a millisecond.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ecpds.base.clock import SystemClock

LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key as PEM files; `bundle` has both in one file."""

    certificate: Path
    key: Path
    bundle: Path


class Authority:
    """Signs certificates; `ca` is its own certificate as a PEM file."""

    def __init__(self, folder: Path, name: str = "ecpds test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        certificate = (
            self._builder(self._name, self._key, timedelta(days=-1), timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str = "server",
        *,
        hosts: Sequence[str] = LOOPBACK,
        client: bool = False,
        starts: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=7),
    ) -> Issued:
        """Sign a certificate for `hosts`, valid from now + `starts` to now + `ends`.

        A past `ends` makes an expired one. `client` makes one that logs in.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(_named(name), key, starts, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(h) for h in hosts]), False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        issued = Issued(*(self.folder / f"{name}.{kind}.pem" for kind in ("cert", "key", "both")))
        issued.certificate.write_bytes(pem)
        for path, content in ((issued.key, secret), (issued.bundle, secret + pem)):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return issued

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, starts: timedelta, ends: timedelta
    ) -> x509.CertificateBuilder:
        now = SystemClock().now()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + min(starts, ends - timedelta(days=1)))
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
