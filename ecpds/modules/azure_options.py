"""Options of the `azure` family.

Spec: transfer-modules-protocols.md section 6; interface.md 8 (`azure.url`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ecpds.model.decode import opt
from ecpds.model.names import ByteCount
from ecpds.model.secret import Secret
from ecpds.modules.cloud_options import CloudOptions
from ecpds.transfer.options import HOST

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOptions(CloudOptions):
    """How blobs of an Azure storage account are reached, sent and fetched."""

    prefix: ClassVar[str] = "azure"
    scopes: ClassVar[frozenset[str]] = HOST

    url: str = opt(
        "", "The account's endpoint; empty = from host, scheme and port, or of the login's account."
    )
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
