"""Options of the `s3` family.

Keys that older set-ups carry and that mean nothing here are accepted and say so.

Spec: transfer-modules-protocols.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.errors import Phase, RemoteConfig
from ecpds.model.names import ByteCount
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.transfer.options import HOST

MIB = 1024 * 1024
Checksums = Literal["auto", "WHEN_SUPPORTED", "WHEN_REQUIRED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options(OptionFamily):
    """How objects of an S3 service are reached, sent and fetched."""

    prefix: ClassVar[str] = "s3"
    scopes: ClassVar[frozenset[str]] = HOST

    url: str = opt("", "Address of the service; empty = from host, scheme and port.")
    scheme: Literal["https", "http"] = opt("https", "https or http.")
    port: int | None = opt(None, "Port; empty = 443 or 80.", low=1, high=65535)
    region: str = opt("", "Region; empty = as the service tells, else us-east-1.")
    bucket_name: str = opt(
        "", "Bucket; empty = the first part of each name is one.", key="bucketName"
    )
    allow_empty_bucket_name: bool = opt(
        False, "The address itself stands for the bucket.", key="allowEmptyBucketName"
    )
    key_prefix: str = opt("", "Put before every key; / is added.", key="prefix")
    recursive_level: int | None = opt(
        None,
        "Levels below the directory in one listing; 0 = all; empty = only the directory.",
        key="recursiveLevel",
        low=-1,
        high=1000,
    )
    path_style: bool | None = opt(
        None,
        "The bucket stands in the path, not in the host name; empty = unless it is AWS.",
        key="enablePathStyleAccess",
    )
    cross_region: bool = opt(
        False, "Follow the bucket to another region than the given one.", key="crossRegionAccess"
    )
    dualstack: bool = opt(False, "IPv6 too (AWS).")
    acceleration: bool = opt(False, "Transfer acceleration (AWS).")
    make_bucket: bool = opt(False, "Create a missing bucket.", key="mkBucket")
    credentials: Literal["host", "anonymous", "instance", "webIdentity"] = opt(
        "host",
        "host: login and password are the keys, blank = anonymous; instance: those of the AWS"
        " machine; webIdentity: by a token file and roleArn.",
    )
    token_file: str = opt(
        "", "Token of webIdentity, below the directory of host keys.", key="webIdentityTokenFile"
    )
    session_token: Secret = opt(Secret(""), "Token of temporary keys.", key="sessionToken")
    role_arn: str = opt("", "Role to assume.", key="roleArn")
    role_session_name: str = opt("ecpds", "Name of that session.", key="roleSessionName")
    duration_seconds: int = opt(
        3600, "Seconds that it lasts.", key="durationSeconds", low=900, high=43200
    )
    external_id: Secret = opt(Secret(""), "External id of the role.", key="externalId")
    sts_url: str = opt("", "Where roles are assumed; empty = AWS.", key="stsUrl")
    ssl_validation: bool = opt(True, "Check the certificate.", key="sslValidation")
    strict: bool = opt(True, "Check the name in the certificate.")
    protocol: str = opt("TLS", "Least TLS version: TLS (1.2), TLSv1.2 or TLSv1.3.")
    proxy: Secret = opt(Secret(""), "Proxy: http://[login:password@]host:port.")
    listen_address: str = opt("", "Local address to connect from.", key="listenAddress")
    keep_alive: timedelta = opt(
        timedelta(seconds=30), "How long idle connections are kept.", key="keepAlive", low=0
    )
    multipart_size: ByteCount = opt(
        ByteCount(64 * MIB), "From this size on in parts.", key="multipartSize", low=1, high=5 << 30
    )
    part_size: ByteCount = opt(
        ByteCount(10 * MIB),
        "Size of a part, more where 10,000 would not do; AWS wants 5 MiB.",
        key="partSize",
        low=64 * 1024,
        high=5 << 30,
    )
    upload_threads: int = opt(
        2, "Parts of one file sent at a time.", key="numUploadThreads", low=1, high=64
    )
    queue_capacity: int = opt(
        4,
        "Further parts kept in memory, for content that is compressed on the way.",
        key="queueCapacity",
        low=0,
        high=64,
    )
    parallel_ranges: int = opt(
        1, "Ranges of one file fetched at a time.", key="parallelRanges", low=1, high=32
    )
    range_size: ByteCount = opt(
        ByteCount(8 * MIB), "Size of a range.", key="rangeSize", low=64 * 1024, high=256 * MIB
    )
    request_checksums: Checksums = opt(
        "auto",
        "CRC-32C with every upload: WHEN_SUPPORTED, WHEN_REQUIRED (no) or auto (AWS only).",
        key="requestChecksumCalculation",
    )
    response_checksums: Checksums = opt(
        "auto", "The same for downloads.", key="responseChecksumValidation"
    )
    sign_payload: Literal["auto", "yes", "no"] = opt(
        "auto", "SHA-256 of the content in the signature; auto: without TLS.", key="signPayload"
    )
    no_retries: bool = opt(
        False, "Send nothing again by itself; the next attempt does.", key="disableSdkRetries"
    )
    overwrite: bool = opt(True, "Replace an existing object; no = refuse (If-None-Match).")
    content_type: str = opt("application/octet-stream", "Of uploads.", key="contentType")
    storage_class: str = opt("", "For example STANDARD_IA.", key="storageClass")
    encryption: Literal["", "AES256", "aws:kms"] = opt(
        "", "Encryption by the service.", key="serverSideEncryption"
    )
    kms_key: str = opt("", "Key of aws:kms.", key="sseKmsKeyId")
    acl: str = opt("", "Canned access list of uploads, for example bucket-owner-full-control.")
    tags: str = opt("", "Tags of uploads, as k=v,k=v.")
    stale_uploads: timedelta = opt(
        timedelta(days=1),
        "Broken uploads of a name are dropped after this time, when it is sent again; 0 = never.",
        key="staleUploads",
        low=0,
    )
    chunked_off: bool = opt(
        False, "Accepted from older set-ups: never used.", key="disableChunkedEncoding"
    )
    byte_array: bool = opt(
        False, "Accepted from older set-ups: not needed.", key="useByteArrayInputStream"
    )
    single_part_size: str = opt(
        "", "Accepted from older set-ups: see multipartSize.", key="singlepartSize"
    )

    def tag_pairs(self) -> Sequence[tuple[str, str]]:
        """Return the tags; raises RemoteConfig for a text that is none."""
        pairs = []
        for part in filter(str.strip, self.tags.split(",")):
            name, equals, value = part.partition("=")
            if not equals or not name.strip():
                raise RemoteConfig(f"s3.tags: {part.strip()!r} is not k=v", phase=Phase.CONNECT)
            pairs.append((name.strip(), value.strip()))
        return pairs

    def object_headers(self) -> Mapping[str, str]:
        """Return the headers that say how a new object is kept."""
        given = {
            "Content-Type": self.content_type,
            "x-amz-storage-class": self.storage_class,
            "x-amz-server-side-encryption": self.encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.kms_key,
            "x-amz-acl": self.acl,
        }
        return {name: value for name, value in given.items() if value}
