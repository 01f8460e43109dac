"""TLS on the client side: which certificates are believed, and sessions that are taken up again.

The pin and the session live in the context, because both event loops and aiohttp take a context and
nothing else.  A pinned certificate is compared inside the handshake, before a byte of ours is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteConfig,
    RemoteError,
    RemotePin,
    RemoteTimeout,
)
from ecpds.transfer.contract import Identity, Surroundings, Target, TlsTrust
from ecpds.transfer.memory import Made
from ecpds.transfer.sockets import open_socket

VERSIONS: Final = {
    "tls": ssl.TLSVersion.TLSv1_2,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
"""Least protocol versions that may be asked for, by option text in lower case."""


class PinnedObject(ssl.SSLObject):
    """A TLS connection whose certificate must be the pinned one, if there is a pin."""

    def do_handshake(self) -> None:
        """Shake hands; raises SSLCertVerificationError when the certificate is another one."""
        super().do_handshake()
        _check_pin(self)


class PinnedSocket(ssl.SSLSocket):
    """The same for libraries that want a socket."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; raises SSLCertVerificationError when the certificate is another one."""
        super().do_handshake(block)
        _check_pin(self)


def _check_pin(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    pin = getattr(connection.context, "pin", b"")
    if not pin:
        return
    found = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest()
    if not hmac.compare_digest(found, pin):
        raise ssl.SSLCertVerificationError(
            f"the certificate has the SHA-256 {found.hex()}, not the pinned one"
        )


class ClientContext(ssl.SSLContext):
    """A client context that knows a pin and the session to resume."""

    pin: bytes = b""
    resume: ssl.SSLSession | None = None
    sslobject_class = PinnedObject
    sslsocket_class = PinnedSocket

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Make a connection that takes up the session `resume`."""
        if self.resume is not None:
            kwargs.setdefault("session", self.resume)
        return super().wrap_bio(*args, **kwargs)


def client_context(trust: TlsTrust, *, minimum: str = "TLS") -> ClientContext:
    """Make the context for one session; reads files, so call it in a thread.

    Raises:
        RemoteConfig: a file cannot be read, or a pin or version has no meaning.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = max(_version(minimum), _version(f"TLSv{trust.minimum or '1.2'}"))
    context.pin = _pin(trust.pin)
    if context.pin or not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_authorities(context, trust.ca)
    if trust.client_certificate:
        _load_own(context, trust.client_certificate)
    return context


async def shared_context(
    around: Surroundings, trust: TlsTrust, *, minimum: str = "TLS", check_host: bool = True
) -> ClientContext:
    """Return the context of all sessions with that trust; making one takes 30 ms.

    A file that was replaced is read again; the authorities of the system are after an hour.
    Raises RemoteConfig as `client_context` does.
    """
    key = (trust, minimum, check_host)
    if not (_is_path(trust.ca) or _is_path(trust.client_certificate)):
        found: ClientContext | None = around.made.find(key)
        if found is not None:
            return found
    return await around.threads.run("disk", _shared, around.made, key)


def _shared(made: Made, key: tuple[TlsTrust, str, bool]) -> ClientContext:
    trust, minimum, check_host = key
    full = (*key, _stamp(trust.ca), _stamp(trust.client_certificate))
    plain = full[3:] == ((), ())
    context: ClientContext | None = made.find(key if plain else full)
    if context is None:
        context = client_context(trust, minimum=minimum)
        if not check_host:
            context.check_hostname = False
        made.keep(key if plain else full, context)
    return context


def _is_path(text: str) -> bool:
    return bool(text) and "-----BEGIN" not in text


def _stamp(text: str) -> tuple[int, ...]:
    """Return what changes with a file; nothing for a text."""
    if not _is_path(text):
        return ()
    try:
        state = Path(text).stat()
    except OSError:
        return (0,)  # told when it is loaded
    return (state.st_ino, state.st_mtime_ns, state.st_size)


def _version(text: str) -> ssl.TLSVersion:
    found = VERSIONS.get(text.strip().lower())
    if found is None:
        raise RemoteConfig(
            f"TLS version {text!r} is none of {', '.join(VERSIONS)}", phase=Phase.TLS
        )
    return found


def _pin(text: str) -> bytes:
    plain = re.sub(r"^sha-?256:|[:\s]", "", text.strip().lower())
    if plain and not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise RemoteConfig("tlsPin is not a SHA-256 in hex", phase=Phase.TLS)
    return bytes.fromhex(plain)


def _load_authorities(context: ssl.SSLContext, ca: str) -> None:
    try:
        if not ca:
            context.load_default_certs()
        elif "-----BEGIN" in ca:
            context.load_verify_locations(cadata=ca)
        else:
            context.load_verify_locations(cafile=ca)
    except (OSError, ValueError) as error:
        raise RemoteConfig(f"tlsCa cannot be read: {error}", phase=Phase.TLS) from None


def _load_own(context: ssl.SSLContext, text: str) -> None:
    try:
        if "-----BEGIN" not in text:
            context.load_cert_chain(text, password=_no_pass_phrase)
            return
        # the library reads files only; this one has no name and is gone when it is closed
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_pass_phrase)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise RemoteConfig(f"tlsClientCert cannot be read: {error}", phase=Phase.TLS) from None


def _no_pass_phrase() -> str:
    raise ValueError("the key has a pass phrase")  # else the library asks on the terminal


def tls_error(error: ssl.SSLError, host: str) -> RemoteError:
    """Return our error for a failed handshake or a broken TLS stream."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = getattr(error, "verify_message", "") or str(error)
        return RemotePin(f"the certificate of {host} is refused: {text}", phase=Phase.TLS)
    return ConnectionLost(
        f"TLS with {host} failed: {error.reason or error}",
        phase=Phase.TLS,
        remote_code=error.reason or "",
    )


def unverified(target: Target) -> Target:
    """Return a target whose certificate is taken as it comes, to be looked at and for no login."""
    return replace(target, tls=replace(target.tls, verify=False, pin=""))


async def certificate_of(
    target: Target, port: int, around: Surroundings, *, minimum: str = "TLS"
) -> Identity | None:
    """Return the certificate that a server shows which speaks TLS from the first byte.

    Raises RemoteError with phase resolve, connect or tls.
    """
    trust = unverified(target).tls
    context = await shared_context(around, trust, minimum=minimum)
    sock = await open_socket(target, port, around)
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(target.timeouts.connect.total_seconds()):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=sock, ssl=context, server_hostname=target.host
            )
        return identity_of(transport)
    except TimeoutError:
        raise RemoteTimeout(f"no certificate of {target.host} in time", phase=Phase.TLS) from None
    except ssl.SSLError as error:
        raise tls_error(error, target.host) from error
    except OSError as error:
        raise ConnectionLost(f"TLS with {target.host} failed: {error}", phase=Phase.TLS) from error
    finally:
        if transport is not None:
            transport.abort()
        sock.close()


def identity_of(transport: asyncio.BaseTransport) -> Identity | None:
    """Return the certificate of the other side of a TLS connection."""
    spoken = transport.get_extra_info("ssl_object")
    shown = spoken.getpeercert(binary_form=True) if spoken is not None else None
    if not shown:
        return None
    from cryptography import x509  # 30 ms that a session does not need

    certificate = x509.load_der_x509_certificate(shown)
    until = certificate.not_valid_after_utc
    return Identity(
        kind="certificate",
        fingerprint=hashlib.sha256(shown).hexdigest(),
        text=(
            f"for {certificate.subject.rfc4514_string() or 'nobody'},"
            f" by {certificate.issuer.rfc4514_string() or 'nobody'}, until {until:%Y-%m-%d %H:%M}"
        )[:500],
        pin_option="ectrans.tlsPin",
    )
