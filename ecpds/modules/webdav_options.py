"""Options of the `webdav` family.

Spec: transfer-modules-protocols.md section 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.errors import Phase, RemoteConfig
from ecpds.model.secret import Secret
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Target
from ecpds.transfer.options import NamingOptions

_VERSIONS = {"tlsv1.2", "tlsv1.3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebdavOptions(NamingOptions):
    """How a WebDAV server is spoken to."""

    prefix: ClassVar[str] = "webdav"

    scheme: Literal["https", "http"] = opt("https", "https or http.")
    port: int | None = opt(None, "Port; empty = 443 or 80.", low=1, high=65535)
    user_name: str = opt("", "Login, where the host has none.", key="username")
    password: Secret = opt(Secret(""), "Password, where the host has none.")
    token: Secret = opt(Secret(""), "Bearer token, instead of login and password.")
    path: str = opt("/", "Directory of the server below which all names are.")
    ssl_validation: bool = opt(True, "Check the certificate.", key="sslValidation")
    strict: bool = opt(True, "Check the name in the certificate.")
    supported_protocols: str = opt(
        "TLS", "TLS versions that may be used, TLSv1.2,TLSv1.3.", key="supportedProtocols"
    )
    proxy: Secret = opt(Secret(""), "Proxy: host:port or http://[login:password@]host:port.")
    headers: Secret = opt(
        Secret(""), "Further header lines, Name: value; only for the host itself."
    )
    connect_timeout: timedelta | None = opt(
        None, "Longest connect; empty = ectrans.connectTimeOut.", key="connectTimeout", low=0.001
    )
    socket_timeout: timedelta | None = opt(
        None,
        "Longest wait for an answer; empty = those of ectrans.",
        key="socketTimeout",
        low=0.001,
    )
    keep_alive: timedelta = opt(
        timedelta(seconds=30), "How long idle connections are kept.", key="keepAlive", low=0
    )
    use_lock: bool = opt(False, "Lock a name while it is written.", key="useLock")
    lock_timeout: int = opt(300, "Seconds; 0 = for ever.", key="lockTimeout", low=0, high=86_400)
    lock_owner: str = opt("ecpds", "Owner of the lock.", key="lockOwner")
    list_files: int = opt(
        500_000, "Most entries of a listing.", key="listMaxFiles", low=1, high=10_000_000
    )

    @property
    def origin_port(self) -> int:
        """Return the port of the host itself."""
        return self.port or (443 if self.scheme == "https" else 80)

    def http(self, target: Target) -> HttpOptions:
        """Return the options of the HTTP session below; raises RemoteConfig."""
        headers = self.headers.reveal()
        token = self.token.reveal()
        if token:
            if any(ord(c) < 33 or ord(c) > 126 for c in token):
                raise RemoteConfig("webdav.token has blanks or odd letters", phase=Phase.CONNECT)
            headers = f"{headers}\nAuthorization: Bearer {token}"
        with_host = bool(target.login)
        return HttpOptions(
            scheme=self.scheme,
            port=self.port,
            protocol=_minimum(self.supported_protocols),
            ssl_validation=self.ssl_validation,
            strict=self.strict,
            login="" if with_host else self.user_name,
            password=Secret("") if with_host else self.password,
            auth_header=not token,
            headers=Secret(headers),
            proxy=_proxy(self.proxy),
            keep_alive=self.keep_alive,
            dav="yes",
        )


def _minimum(text: str) -> str:
    """Return the least of the allowed versions; older ones than 1.2 are not spoken."""
    named = {part.strip().lower() for part in text.split(",") if part.strip()}
    return "TLSv1.3" if named & _VERSIONS == {"tlsv1.3"} else "TLS"


def _proxy(given: Secret) -> Secret:
    text = given.reveal().strip()
    plain = re.fullmatch(r"[^/@,=\s]+:\d+", text)
    return Secret(f"http://{text}") if plain else given
