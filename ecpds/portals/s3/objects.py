"""Reading and removing objects.  Spec: portal.md 3.6; RFC 9110 sections 13 and 14."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ecpds.model.errors import EcpdsError
from ecpds.portals.https import conditions, ranges
from ecpds.portals.https.conditions import Verdict
from ecpds.portals.https.exchange import Answer, FileBody, Slice
from ecpds.portals.https.head import http_date
from ecpds.portals.s3 import codes, xml
from ecpds.portals.s3.attributes import Describer, checksum_type
from ecpds.portals.s3.call import Call, key_path
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.documents import read_document
from ecpds.portals.s3.xml import group, maybe, tag
from ecpds.vfs.contract import Node
from ecpds.vfs.s3contract import Attributes

MOST_DELETED = 1_000  # keys of one DeleteObjects
_OVERRIDES = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
_RANGE = re.compile(r"bytes\s*=\s*(\d*)-(\d*)\s*", re.ASCII)


def check_version(call: Call) -> None:
    """Refuse every version but the one that there is."""
    version = call.query.get("versionId", "null")
    if version not in ("null", ""):
        raise S3Error("NoSuchVersion", "The specified version does not exist.")


class Objects:
    """Answers requests for objects."""

    def __init__(self) -> None:
        self._describer = Describer()

    # --- reading -------------------------------------------------------------------------

    async def head(self, call: Call) -> None:
        """HeadObject."""
        check_version(call)
        node, kept = await call.session.find(call.path())
        if self._is_known(call, node):
            await call.send(self._not_modified(node))
            return
        part = self._part(call, node, kept)
        fields = self._fields(call, node, kept, part)
        length = node.size
        if part is not None:
            length = part.length
        await call.send(Answer(status=200 if part is None else 206, headers=fields, length=length))

    async def get(self, call: Call) -> None:
        """GetObject."""
        check_version(call)
        path = call.path()
        if path.endswith("/"):
            await self._directory(call, path)
            return
        early = await self._early(call, path)
        if early is not None:
            await call.send(early)
            return
        reader, kept = await call.session.open_object(path)
        async with reader:
            part = self._part(call, reader.node, kept)
            fields = self._fields(call, reader.node, kept, part)
            whole = part or Slice(0, reader.size)
            await call.send(
                Answer(
                    status=200 if part is None else 206,
                    headers=fields,
                    body=FileBody(reader, (whole,), call.look),
                )
            )

    async def _directory(self, call: Call, path: str) -> None:
        node, kept = await call.session.find(path)
        await call.send(Answer(headers=self._fields(call, node, kept, None)))

    async def _early(self, call: Call, path: str) -> Answer | None:
        """Return the answer that needs no content, so that no download is recorded for it."""
        headers = call.ask.headers
        if headers.keys().isdisjoint(conditions.FIELDS):
            return None
        node, _ = await call.session.find(path)
        return self._not_modified(node) if self._is_known(call, node) else None

    def _is_known(self, call: Call, node: Node) -> bool:
        """Tell whether the client has the object already; raise when a condition fails."""
        verdict = judge(call.ask.headers, node)
        if verdict is Verdict.FAILED:
            raise S3Error(
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            )
        return verdict is Verdict.NOT_MODIFIED

    def _not_modified(self, node: Node) -> Answer:
        fields = {"ETag": node.etag}
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        return Answer(status=304, headers=fields)

    def _part(self, call: Call, node: Node, kept: Attributes) -> Slice | None:
        """Return the bytes that are asked for, None for all."""
        if "partNumber" in call.query:
            if "range" in call.ask.headers:
                raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber")
            return _numbered(call, node, kept)
        text = call.header("range")
        if not text or not conditions.range_holds(
            call.ask.headers, etag=node.etag, mtime=node.mtime
        ):
            return None
        if not _RANGE.fullmatch(text):
            return None  # several ranges, or another unit: the whole object, as S3 does
        wanted = ranges.parse(text, node.size, most=1)
        if wanted is None:
            return None
        if not wanted:
            raise S3Error(
                "InvalidRange", "The requested range is not satisfiable",
                RangeRequested=text[:100], ActualObjectSize=str(node.size),
            )  # fmt: skip
        return wanted[0]

    def _fields(
        self, call: Call, node: Node, kept: Attributes, part: Slice | None
    ) -> dict[str, str]:
        wants = call.header("x-amz-checksum-mode").upper() == "ENABLED" and (
            part is None or part.length == node.size
        )
        fields = self._describer.fields(node, kept, checksums=wants)
        if not node.etag:  # a directory
            fields["ETag"] = '"d41d8cd98f00b204e9800998ecf8427e"'
        if node.mtime is not None:
            fields["Last-Modified"] = http_date(node.mtime)
        if part is not None:
            fields["Content-Range"] = ranges.content_range(part, node.size)
        if "partNumber" in call.query and kept.parts:
            fields["x-amz-mp-parts-count"] = str(sum(count for count, _ in kept.parts))
        return fields | self._overrides(call)

    def _overrides(self, call: Call) -> dict[str, str]:
        given = {
            name.title(): call.query[f"response-{name}"]
            for name in _OVERRIDES
            if f"response-{name}" in call.query
        }
        if given and not call.is_signed:
            raise S3Error(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        if any(not text.isprintable() for text in given.values()):
            raise S3Error("InvalidArgument", "A response header has control characters.")
        return given

    # --- attributes ----------------------------------------------------------------------

    async def attributes(self, call: Call) -> None:
        """GetObjectAttributes."""
        check_version(call)
        asked = {one.strip() for one in call.header("x-amz-object-attributes").split(",")} - {""}
        known = {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}
        if not asked or asked - known:
            raise S3Error("InvalidArgument", "Invalid attribute name specified.")
        node, kept = await call.session.find(call.path())
        sums = "".join(
            tag(f"Checksum{name.upper()}", text) for name, text in kept.checksums.items()
        )
        parts = sum(count for count, _ in kept.parts)
        shown = {
            "ETag": tag("ETag", node.etag.strip('"')),
            "Checksum": group("Checksum", sums, tag("ChecksumType", checksum_type(kept)))
            if sums
            else "",
            "ObjectParts": group("ObjectParts", tag("PartsCount", parts)) if parts else "",
            "StorageClass": tag("StorageClass", "STANDARD"),
            "ObjectSize": tag("ObjectSize", node.size),
        }
        if node.mtime is not None:
            call.fields["Last-Modified"] = http_date(node.mtime)
        await call.document(
            "GetObjectAttributesResponse", *(shown[name] for name in shown if name in asked)
        )

    # --- removing ------------------------------------------------------------------------

    async def delete(self, call: Call) -> None:
        """DeleteObject: 204, also for what is not there."""
        check_version(call)
        try:
            path = call.path()
        except S3Error as error:
            if error.name != "NoSuchKey":
                raise
        else:
            await call.session.delete_object(path)
        await call.done(204)

    async def delete_many(self, call: Call) -> None:
        """DeleteObjects, of at most a thousand keys."""
        bucket = call.bucket
        root = await read_document(call, "Delete")
        named = [one for one in root if one.tag == "Object"]
        if not 0 < len(named) <= MOST_DELETED:
            raise xml.malformed()
        quiet = xml.text_of(root, "Quiet").strip().lower() == "true"
        lines: list[str] = []
        for one in named:
            key = xml.text_of(one, "Key")
            if not key:
                raise xml.malformed()
            call.look()
            lines.append(await self._delete_one(call, bucket, key, xml.text_of(one, "VersionId")))
        shown = [line for line in lines if not (quiet and line.startswith("<Deleted>"))]
        await call.document("DeleteResult", *shown)

    async def _delete_one(self, call: Call, bucket: str, key: str, version: str) -> str:
        told = maybe("VersionId", version)
        try:
            if version not in ("", "null"):
                raise S3Error("NoSuchVersion", "The specified version does not exist.")
            await self._remove(call, bucket, key)
        except EcpdsError as error:
            return group(
                "Error", tag("Key", key), told,
                tag("Code", codes.code_of(error)), tag("Message", codes.text_of(error)),
            )  # fmt: skip
        return group("Deleted", tag("Key", key), told)

    async def _remove(self, call: Call, bucket: str, key: str) -> None:
        try:
            path = key_path(call.session, bucket, key)
        except S3Error as error:
            if error.name == "NoSuchKey":
                return
            raise
        await call.session.delete_object(path)


def judge(headers: Mapping[str, str], node: Node) -> Verdict:
    """Weigh the conditions of a request for reading."""
    return conditions.judge(headers, etag=node.etag, mtime=node.mtime, reading=True)


def _numbered(call: Call, node: Node, kept: Attributes) -> Slice:
    number = call.count("partNumber", 0, 10_001)
    parts: Sequence[tuple[int, int]] = kept.parts or ((1, node.size),)
    first, offset = 1, 0
    for count, size in parts:
        if first <= number < first + count:
            return Slice(offset + (number - first) * size, size)
        first, offset = first + count, offset + count * size
    raise S3Error("InvalidPartNumber", "The requested partnumber is not satisfiable")
