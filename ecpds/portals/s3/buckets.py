"""Buckets: which there are, and the keys in them.  Spec: portal.md 3.6, Ex 19."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

from ecpds.portals.s3 import xml
from ecpds.portals.s3.call import Call
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.xml import group, maybe, tag
from ecpds.vfs.s3contract import KeyLine, KeyPage, KeyQuery

MOST = 1_000  # lines of one page
LONGEST = 2_048  # characters of a prefix, marker or delimiter

Text = Callable[[str], str]


async def list_buckets(call: Call) -> None:
    """ListBuckets."""
    found = await call.session.buckets()
    shown = [
        group("Bucket", tag("Name", one.name), tag("CreationDate", xml.moment(one.created)))
        for one in found
    ]
    await call.document("ListAllMyBucketsResult", owner(call), group("Buckets", *shown))


def owner(call: Call, name: str = "Owner") -> str:
    """Return who has everything here."""
    login = call.session.profile.user.login
    return group(name, tag("ID", login), tag("DisplayName", login))


async def head_bucket(call: Call) -> None:
    """HeadBucket."""
    _ = call.bucket
    await call.done(fields={"x-amz-bucket-region": call.region})


async def location(call: Call) -> None:
    """GetBucketLocation; us-east-1 has the empty name."""
    _ = call.bucket
    region = "" if call.region == "us-east-1" else call.region
    await call.document("LocationConstraint", region)


async def create_bucket(call: Call) -> None:
    """CreateBucket: buckets are destinations, which operators make."""
    if "/" in call.address.bucket:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.")
    try:
        _ = call.bucket
    except S3Error as error:
        if error.name == "InvalidBucketName":
            raise
        raise S3Error("AccessDenied") from None
    raise S3Error(
        "BucketAlreadyOwnedByYou",
        "Your previous request to create the named bucket succeeded and you already own it.",
        BucketName=call.address.bucket,
    )


async def delete_bucket(call: Call) -> None:
    """DeleteBucket: never, and not empty is told first."""
    page = await call.session.keys(call.bucket, KeyQuery(limit=1))
    if page.lines:
        raise S3Error("BucketNotEmpty", "The bucket you tried to delete is not empty")
    raise S3Error("AccessDenied")


# --- keys ------------------------------------------------------------------------------------


def _asked(call: Call, name: str) -> str:
    text = call.query.get(name, "")
    if len(text) > LONGEST:
        raise S3Error("InvalidArgument", f"{name} is too long", ArgumentName=name)
    return text


def _encoding(call: Call) -> tuple[str, Text]:
    kind = call.query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise S3Error(
            "InvalidArgument", "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type", ArgumentValue=kind[:100],
        )  # fmt: skip
    return kind, _quoted if kind else str


def _quoted(text: str) -> str:
    return quote(text, safe="/~")


def _contents(call: Call, lines: Sequence[KeyLine], text: Text, *, with_owner: bool) -> str:
    who = owner(call) if with_owner else ""
    files = [line for line in lines if line.etag]
    # stored names have no control characters, so all are made ready in one go
    if text is str:
        names = escape("\n".join([line.name for line in files])).split("\n")
    else:
        names = [text(line.name) for line in files]
    stamp = xml.stamp
    # written out: this line is the cost of a listing; stored names hold nothing XML cannot
    return "".join(
        [
            f"<Contents><Key>{name}</Key><LastModified>{stamp(micros)}</LastModified>"
            f"<ETag>&quot;{etag[1:-1]}&quot;</ETag><Size>{size}</Size>{who}"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for name, (_, size, micros, etag) in zip(names, files, strict=False)
        ]
    )


def _prefixes(lines: Sequence[KeyLine], text: Text) -> str:
    return "".join(
        group("CommonPrefixes", tag("Prefix", text(line.name))) for line in lines if not line.etag
    )


async def _page(call: Call, query: KeyQuery) -> KeyPage:
    bucket = call.bucket
    page = await call.session.keys(bucket, query)
    if not query.limit:
        return KeyPage([])
    return page


async def list_objects(call: Call) -> None:
    """ListObjects in its first form, paged by the last name."""
    kind, text = _encoding(call)
    prefix, delimiter, marker = (_asked(call, n) for n in ("prefix", "delimiter", "marker"))
    limit = call.count("max-keys", MOST, MOST)
    page = await _page(
        call, KeyQuery(prefix=prefix, delimiter=delimiter, after=marker, limit=limit)
    )
    following = ""
    if page.position and delimiter and page.lines:
        following = tag("NextMarker", text(page.lines[-1].name))
    await call.document(
        "ListBucketResult",
        tag("Name", call.address.bucket),
        tag("Prefix", text(prefix)),
        tag("Marker", text(marker)),
        following,
        tag("MaxKeys", limit),
        maybe("Delimiter", text(delimiter)),
        maybe("EncodingType", kind),
        tag("IsTruncated", "true" if page.position else "false"),
        _contents(call, page.lines, text, with_owner=True),
        _prefixes(page.lines, text),
    )


def _token(position: str) -> str:
    """Return where a listing goes on, as a text that means nothing to clients."""
    raw = position.encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(b"\x01" + raw).decode()


def _position(token: str) -> str:
    try:
        raw = base64.urlsafe_b64decode(token[: 4 * LONGEST].encode())
        if raw[:1] != b"\x01":
            raise ValueError
        return raw[1:].decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        raise S3Error(
            "InvalidArgument", "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        ) from None  # fmt: skip


async def list_objects_2(call: Call) -> None:
    """ListObjects in its second form, paged by a token."""
    kind, text = _encoding(call)
    prefix, delimiter, after = (_asked(call, n) for n in ("prefix", "delimiter", "start-after"))
    token = call.query.get("continuation-token")
    limit = call.count("max-keys", MOST, MOST)
    query = KeyQuery(
        prefix=prefix,
        delimiter=delimiter,
        after="" if token else after,
        position=_position(token) if token else "",
        limit=limit,
    )
    page = await _page(call, query)
    await call.document(
        "ListBucketResult",
        tag("Name", call.address.bucket),
        tag("Prefix", text(prefix)),
        maybe("Delimiter", text(delimiter)),
        maybe("StartAfter", text(after)),
        maybe("EncodingType", kind),
        "" if token is None else tag("ContinuationToken", token),
        maybe("NextContinuationToken", _token(page.position) if page.position else ""),
        tag("KeyCount", len(page.lines)),
        tag("MaxKeys", limit),
        tag("IsTruncated", "true" if page.position else "false"),
        _contents(call, page.lines, text, with_owner=call.query.get("fetch-owner", "") == "true"),
        _prefixes(page.lines, text),
    )


async def list_versions(call: Call) -> None:
    """ListObjectVersions: every object has one version, `null`."""
    kind, text = _encoding(call)
    prefix, delimiter, marker = (_asked(call, n) for n in ("prefix", "delimiter", "key-marker"))
    limit = call.count("max-keys", MOST, MOST)
    page = await _page(
        call, KeyQuery(prefix=prefix, delimiter=delimiter, after=marker, limit=limit)
    )
    following = ""
    if page.position and page.lines:
        following = tag("NextKeyMarker", text(page.lines[-1].name))
        following += tag("NextVersionIdMarker", "null")
    who = owner(call)
    versions = [
        group(
            "Version",
            tag("Key", text(line.name)),
            "<VersionId>null</VersionId><IsLatest>true</IsLatest>",
            tag("LastModified", xml.stamp(line.micros)),
            tag("ETag", line.etag),
            tag("Size", line.size),
            who,
            "<StorageClass>STANDARD</StorageClass>",
        )
        for line in page.lines
        if line.etag
    ]
    await call.document(
        "ListVersionsResult",
        tag("Name", call.address.bucket),
        tag("Prefix", text(prefix)),
        tag("KeyMarker", text(marker)),
        tag("VersionIdMarker", ""),
        following,
        tag("MaxKeys", limit),
        maybe("Delimiter", text(delimiter)),
        maybe("EncodingType", kind),
        tag("IsTruncated", "true" if page.position else "false"),
        *versions,
        _prefixes(page.lines, text),
    )
