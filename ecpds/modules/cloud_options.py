"""What the `azure` and `gcs` families have in common: how the service is connected to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ecpds.model.decode import opt
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.modules.http_options import HttpOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions(OptionFamily):
    """How an object store that speaks REST is connected to."""

    scheme: Literal["https", "http"] = opt("https", "https or http.")
    port: int | None = opt(None, "Port; empty = 443 or 80.", low=1, high=65535)
    disable_retries: bool = opt(
        False, "Send no request again before the whole attempt fails.", key="disableRetries"
    )
    ssl_validation: bool = opt(True, "Check the certificate.", key="sslValidation")
    strict: bool = opt(True, "Check the name in the certificate.")
    protocol: str = opt("TLS", "Least TLS version: TLS (1.2), TLSv1.2 or TLSv1.3.")
    proxy: Secret = opt(Secret(""), "Proxy: http://[login:password@]host:port.")
    keep_alive: timedelta = opt(
        timedelta(seconds=30), "How long idle connections are kept.", key="keepAlive", low=0
    )

    def http(self) -> HttpOptions:
        """Return how the service is connected to."""
        return HttpOptions(
            scheme=self.scheme,
            port=self.port,
            protocol=self.protocol,
            ssl_validation=self.ssl_validation,
            strict=self.strict,
            auth_header=False,
            proxy=self.proxy,
            keep_alive=self.keep_alive,
        )
