"""What a client keeps with an object: from the fields of a request, and into those of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from ecpds.portals.https.fields import Types
from ecpds.portals.s3.checksums import FIELD
from ecpds.portals.s3.codes import S3Error
from ecpds.vfs.contract import Node
from ecpds.vfs.s3contract import Attributes

META = "x-amz-meta-"
KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
MOST_METADATA = 2 * 1024  # bytes of names and values together
MOST_FIELD = 4 * 1024  # bytes of one of the kept fields
MOST_TAGS = 10
LONGEST_TAG = (128, 256)  # characters of key and value
_UNKNOWN = "binary/octet-stream"


def read(headers: Mapping[str, str]) -> Attributes:
    """Return the attributes that the fields of an upload give; S3Error above a limit."""
    fields = {name: headers[name] for name in KEPT if headers.get(name)}
    coding = [
        part.strip()
        for part in fields.get("content-encoding", "").split(",")
        if part.strip() and part.strip() != "aws-chunked"
    ]
    fields["content-encoding"] = ",".join(coding)
    fields = {name: text for name, text in fields.items() if text}
    if any(len(text) > MOST_FIELD for text in fields.values()):
        raise S3Error("InvalidRequest", "A header of the object is too long.")
    metadata = {
        name.removeprefix(META): text for name, text in headers.items() if name.startswith(META)
    }
    if sum(len(name) + len(text) for name, text in metadata.items()) > MOST_METADATA:
        raise S3Error(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            MaxSizeAllowed=str(MOST_METADATA),
        )
    _check_storage(headers)
    return Attributes(
        fields=fields, metadata=metadata, tags=read_tags(headers.get("x-amz-tagging", ""))
    )


def _check_storage(headers: Mapping[str, str]) -> None:
    """Refuse what is asked for and would not be done."""
    if headers.get("x-amz-storage-class", "STANDARD") not in ("STANDARD", "REDUCED_REDUNDANCY"):
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid")
    if any(name.startswith("x-amz-server-side-encryption") for name in headers):
        raise S3Error("NotImplemented", "Server side encryption is not configured here.")
    if any(name.startswith("x-amz-object-lock-") for name in headers):
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


def read_tags(text: str) -> dict[str, str]:
    """Return the tags of an x-amz-tagging field."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError:
        raise S3Error("InvalidArgument", "The header 'x-amz-tagging' cannot be read") from None
    return checked_tags(pairs)


def checked_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return tags within their limits; S3Error for any other."""
    tags = dict(pairs)
    if len(tags) != len(pairs):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    if len(tags) > MOST_TAGS:
        raise S3Error("InvalidTag", f"Object tags cannot be greater than {MOST_TAGS}")
    for key, value in tags.items():
        if not 0 < len(key) <= LONGEST_TAG[0] or key.startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > LONGEST_TAG[1]:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
        if not (key + value).isprintable():
            raise S3Error("InvalidTag", "A tag has control characters")
    return tags


class Describer:
    """Makes the fields of an answer."""

    def __init__(self) -> None:
        self._types = Types()

    def fields(self, node: Node, kept: Attributes, *, checksums: bool) -> dict[str, str]:
        """Return the fields that describe an object."""
        kind = "application/x-directory" if node.is_directory else self._types.of(node.name)
        if kind == "application/octet-stream":
            kind = _UNKNOWN
        fields = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        for name, text in kept.fields.items():
            fields[name.title()] = text
        fields["ETag"] = node.etag
        for name, text in kept.metadata.items():
            fields[META + name] = text
        if kept.tags:
            fields["x-amz-tagging-count"] = str(len(kept.tags))
        if checksums:
            fields |= {FIELD + name: text for name, text in kept.checksums.items()}
            if kept.checksums:
                fields["x-amz-checksum-type"] = checksum_type(kept)
        return fields


def checksum_type(kept: Attributes) -> str:
    """Tell whether a checksum is one of the whole or of the checksums of the parts."""
    return "COMPOSITE" if any("-" in text for text in kept.checksums.values()) else "FULL_OBJECT"


def with_checksums(kept: Attributes, sums: Mapping[str, str]) -> Attributes:
    """Return attributes with these checksums."""
    return replace(kept, checksums=dict(sums))
