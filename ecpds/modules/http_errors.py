"""What answers and failures of HTTP mean.

Spec: transfer-modules.md section 6; RFC 9110 section 15.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.modules.http_body import SourceBody
from ecpds.modules.trust import tls_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    method: str
    url: URL
    about: str  # for messages
    phase: Phase
    headers: Mapping[str, str] | None = None
    body: SourceBody | None = None
    content: bytes | None = None  # a small body
    missing: bool = False  # 404 means that the file is not there
    limit: float  # seconds until the answer, counted from the end of our body
    stall: float = 0.0  # seconds between parts of the answer's body; 0 = as `limit`
    follow: bool = True  # redirects


_CLASSES: Final[dict[int, type[RemoteError]]] = {
    400: RemoteName,
    401: RemoteAuth,
    403: RemoteAuth,
    404: RemoteName,
    405: RemoteConfig,
    407: RemoteAuth,
    408: RemoteTransient,
    409: RemoteName,
    410: RemoteName,
    411: RemoteConfig,
    412: RemoteName,
    413: RemoteSpace,
    414: RemoteName,
    415: RemoteConfig,
    423: RemoteTransient,
    429: RemoteTransient,
    501: RemoteConfig,
    507: RemoteSpace,
}


def refusal(response: aiohttp.ClientResponse, ask: Ask) -> RemoteError:
    """Return the error for an answer that is none of the wanted ones."""
    status, reason = response.status, (response.reason or "")[:200]
    cls = _CLASSES.get(status, RemoteTransient if status >= 500 else RemoteError)
    if ask.missing and status in (404, 410):
        cls = RemoteMissing
    phase = Phase.AUTH if cls is RemoteAuth else ask.phase
    return cls(
        f"{ask.about}: {status} {reason}",
        phase=phase,
        remote_code=str(status),
        remote_text=reason,
        retry_after=response.headers.get("Retry-After", ""),
    )


@contextmanager
def translated(ask: Ask, origin: URL) -> Iterator[None]:
    """Turn errors of aiohttp and of sockets into ours."""
    try:
        yield
    except EcpdsError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        body = ask.body
        if body is not None and isinstance(body.error, EcpdsError):
            raise body.error from error
        raise _error(error, ask, origin) from error


def _error(error: Exception, ask: Ask, origin: URL) -> RemoteError:
    host = origin.host or ""
    for kind, make in _TRANSLATIONS:
        if isinstance(error, kind):
            return make(error, ask, host)
    return ConnectionLost(f"{ask.about}: {error or type(error).__name__}", phase=ask.phase)


def _no_time(error: Any, ask: Ask, host: str) -> RemoteError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return RemoteTimeout(f"no connection to {host} in time", phase=Phase.CONNECT)
    return RemoteTimeout(f"{ask.about}: no answer in time", phase=ask.phase)


def _untrusted(error: Any, ask: Ask, host: str) -> RemoteError:
    cause = getattr(error, "certificate_error", None) or error
    return tls_error(cause, host)


def _no_tls(error: Any, ask: Ask, host: str) -> RemoteError:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        return tls_error(cause, host)
    text = str(cause) or "the server closed the connection"
    return ConnectionLost(f"TLS with {host} failed: {text}", phase=Phase.TLS)


def _no_connection(error: Any, ask: Ask, host: str) -> RemoteError:
    if error.os_error.errno is None:  # the event loop's own error: the peer left the handshake
        return _no_tls(error, ask, host)
    code = errno.errorcode.get(error.os_error.errno or 0, "")
    text = error.os_error.strerror or str(error.os_error)
    return RemoteTransient(
        f"no connection to {host}: {text}", phase=Phase.CONNECT, remote_code=code
    )


def _bad_answer(error: Any, ask: Ask, host: str) -> RemoteError:
    return RemoteTransient(f"{ask.about}: the answer is no HTTP", phase=ask.phase)


def _bad_address(error: Any, ask: Ask, host: str) -> RemoteError:
    return RemoteName(f"{ask.about}: no usable address", phase=ask.phase)


_TRANSLATIONS: Final = (
    (TimeoutError, _no_time),
    (aiohttp.ClientConnectorCertificateError, _untrusted),
    (ssl.SSLCertVerificationError, _untrusted),
    (aiohttp.ClientConnectorSSLError, _no_tls),
    (aiohttp.ClientConnectorError, _no_connection),
    (aiohttp.InvalidURL, _bad_address),
    (aiohttp.ClientResponseError, _bad_answer),
)
