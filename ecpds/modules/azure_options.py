"""Options of the `azure` family.

Spec: transfer-modules-protocols.md section 6; interface.md 8 (`azure.url`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.options import HOST

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOptions(OptionFamily):
    """How blobs of an Azure storage account are reached, sent and fetched."""

    prefix: ClassVar[str] = "azure"
    scopes: ClassVar[frozenset[str]] = HOST

    url: str = opt(
        "", "The account's endpoint; empty = from host, scheme and port, or of the login's account."
    )
    scheme: Literal["https", "http"] = opt("https", "https or http.")
    port: int | None = opt(None, "Port; empty = 443 or 80.", low=1, high=65535)
    container_name: str = opt(
        "", "Container; empty = the first part of each name is one.", key="containerName"
    )
    make_container: bool = opt(False, "Create a missing container.", key="mkContainer")
    blob_prefix: str = opt("", "Put before every name; / is added.", key="prefix")
    multipart_size: ByteCount = opt(
        ByteCount(64 * MIB), "From this size on in blocks.", key="multipartSize", low=0
    )
    block_size: ByteCount = opt(
        ByteCount(8 * MIB), "Bytes of a block; grows for large blobs.", key="blockSize",
        low=64 * 1024, high=4000 * MIB,
    )  # fmt: skip
    buffers: int = opt(
        2, "Blocks sent at a time; in memory only for content of unknown size.", key="numBuffers",
        low=1, high=32,
    )  # fmt: skip
    disable_retries: bool = opt(
        False, "Send no request again before the whole attempt fails.", key="disableRetries"
    )
    overwrite: bool = opt(True, "Replace existing blobs; no = refuse.")
    ignore_check: bool = opt(False, "Do not compare sizes after a PUT.", key="ignoreCheck")
    use_md5: bool = opt(
        False, "Compute an MD5 before sending, for the service to compare and keep.", key="useMD5"
    )
    sas_token: Secret = opt(Secret(""), "Shared access signature, sv=…&sig=….", key="sasToken")
    sas_url: str = opt("", "Address that gives such a signature as JSON.", key="sasUrl")
    sas_subscription_key: Secret = opt(
        Secret(""), "Subscription key for that address.", key="sasSubscriptionKey"
    )
    managed_client_id: Secret = opt(
        Secret(""), "Client id of the managed identity of this machine; none = not used.",
        key="userAssignedClientId",
    )  # fmt: skip
    identity_url: str = opt(
        "http://169.254.169.254/metadata/identity/oauth2/token",
        "Where the managed identity gets its tokens.",
        key="identityUrl",
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
