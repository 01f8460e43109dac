"""Certificates as files: what one says, a request for one, and a new pair put in place.

Spec: RFC 2986 (requests), RFC 7468 (PEM).
"""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from ecpds.model.errors import InputError

PENDING: Final = "pending-key.pem"  # of the last request
LONGEST: Final = 200_000  # characters of a PEM text
MOST_NAMES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins_at: datetime
    ends_at: datetime
    serial: str
    sha256: str
    is_self_signed: bool
    path: str


def describe(path: Path) -> CertificateFacts:
    """Return what the first certificate of a file says; OSError, ValueError."""
    one = x509.load_pem_x509_certificates(path.read_bytes())[0]
    try:
        extension = one.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(str(name.value) for name in extension.value)
    except x509.ExtensionNotFound:
        names = ()
    return CertificateFacts(
        subject=one.subject.rfc4514_string(),
        issuer=one.issuer.rfc4514_string(),
        names=names,
        begins_at=one.not_valid_before_utc,
        ends_at=one.not_valid_after_utc,
        serial=f"{one.serial_number:x}",
        sha256=one.fingerprint(hashes.SHA256()).hex(":"),
        is_self_signed=one.subject == one.issuer,
        path=str(path),
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.removeprefix("*.").split(".")
    is_name = len(name) <= 253 and all(
        0 < len(one) <= 63 and one.isascii() and one.replace("-", "").isalnum() for one in labels
    )
    if not is_name:
        raise InputError(f"{name[:100]!r} is no host name or address", pointer="names")
    return x509.DNSName(name)


def make_request(folder: Path, names: list[str]) -> str:
    """Make a key, kept aside until its certificate comes, and return the request as PEM.

    Raises InputError for names that are none.
    """
    if not 1 <= len(names) <= MOST_NAMES:
        raise InputError(f"1 to {MOST_NAMES} host names are needed", pointer="names")
    general = [_general(name) for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .sign(key, hashes.SHA256())
    )
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(folder / PENDING, data)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def install(certificate: Path, key: Path, chain: str, key_text: str, now: datetime) -> None:
    """Put a new certificate with its key in place of the present pair.

    Without a key it is that of the last request, or the present one.  Raises InputError for what
    does not fit together; nothing is written then.
    """
    if len(chain) > LONGEST or len(key_text) > LONGEST:
        raise InputError("that is too long for a certificate", pointer="certificate")
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
    except (ValueError, IndexError):
        raise InputError("that is no PEM certificate", pointer="certificate") from None
    if first.not_valid_after_utc <= now:
        raise InputError("that certificate has ended", pointer="certificate")
    data = _matching(first, key_text, [certificate.parent / PENDING, key])
    _write(key, data)
    _write(certificate, chain.strip().encode() + b"\n")
    (certificate.parent / PENDING).unlink(missing_ok=True)


def unpacked(text: str, password: str) -> tuple[str, str]:
    """Return chain and key of a PKCS #12 file in base64 as PEM; InputError."""
    if len(text) > LONGEST:
        raise InputError("that is too long for a certificate", pointer="pkcs12")
    try:
        found = pkcs12.load_pkcs12(
            base64.b64decode(text, validate=False), password.encode() or None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"that is no PKCS #12 file, or the password is wrong: {error}",
                         pointer="pkcs12") from None  # fmt: skip
    if found.cert is None or found.key is None:
        raise InputError("that file has no certificate with its key", pointer="pkcs12")
    several = [found.cert, *found.additional_certs]
    chain = b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in several)
    key = found.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return chain.decode(), key.decode()


def _matching(certificate: x509.Certificate, text: str, paths: list[Path]) -> bytes:
    """Return the key that belongs to a certificate."""
    candidates = [text.encode()] if text.strip() else [p.read_bytes() for p in paths if p.exists()]
    for data in candidates:
        try:
            key = serialization.load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if _public(key.public_key()) == _public(certificate.public_key()):
            return data
    raise InputError("the key does not belong to the certificate", pointer="key")


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return] # every public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _write(path: Path, data: bytes) -> None:
    """Write a file that only we can read, as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
