"""Options of the `gcs` family.

Spec: transfer-modules-protocols.md section 7; interface.md 8 (`gcs.url`, `gcs.anonymous`,
`gcs.tokenUrl`).
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
GOOGLE = "https://storage.googleapis.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsOptions(CloudOptions):
    """How objects of Google Cloud Storage are reached, sent and fetched."""

    prefix: ClassVar[str] = "gcs"
    scopes: ClassVar[frozenset[str]] = HOST

    url: str = opt("", "Address of the service; empty = Google's, or host, scheme and port.")
    bucket_name: str = opt(
        "", "Bucket; empty = the first part of each name is one.", key="bucketName"
    )
    object_prefix: str = opt("", "Put before every name; / is added.", key="prefix")
    make_bucket: bool = opt(False, "Create a missing bucket.", key="mkBucket")
    bucket_location: str = opt("", "Where it is created.", key="bucketLocation")
    project_id: str = opt("", "Project of a bucket that is created.", key="projectId")
    credentials: Secret = opt(
        Secret(""), "The key file of a service account, as JSON; wins over the fields below."
    )
    client_id: str = opt("", "Id of the service account; the host's login wins.", key="clientId")
    client_email: str = opt("", "Address of the service account.", key="clientEmail")
    private_key: Secret = opt(Secret(""), "Its private key, PEM (PKCS8).", key="privateKey")
    private_key_id: Secret = opt(
        Secret(""), "Id of that key; the host's password wins.", key="privateKeyId"
    )
    token_url: str = opt(
        "https://oauth2.googleapis.com/token", "Where tokens are given.", key="tokenUrl"
    )
    metadata_url: str = opt(
        "",
        "Gives tokens to this machine instead: http://metadata.google.internal/computeMetadata/v1/"
        "instance/service-accounts/default/token.",
        key="metadataUrl",
    )
    anonymous: bool = opt(False, "Ask without a login: public buckets, emulators.")
    multipart_size: ByteCount = opt(
        ByteCount(8 * MIB), "From this size on in chunks that can be gone on with.",
        key="multipartSize", low=0,
    )  # fmt: skip
    chunk_size: ByteCount = opt(
        ByteCount(16 * MIB), "Bytes of a chunk, rounded down to 256 KiB.", key="chunkSize",
        low=256 * 1024, high=1024 * MIB,
    )  # fmt: skip
    overwrite: bool = opt(True, "Replace existing objects; no = refuse.")
