"""Writing objects: PutObject and CopyObject.  Spec: portal.md 3.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError, InvalidName, NotFound, PreconditionFailed
from ecpds.portals.https import conditions
from ecpds.portals.https.conditions import Verdict
from ecpds.portals.s3 import attributes, checksums, xml
from ecpds.portals.s3.attributes import with_checksums
from ecpds.portals.s3.call import Call, bucket_path, key_path
from ecpds.portals.s3.checksums import FIELD
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.payload import Intake, Promise, promise
from ecpds.portals.s3.xml import tag
from ecpds.vfs.contract import Node
from ecpds.vfs.s3contract import NOTHING, Attributes, ObjectWish

_COPY = "x-amz-copy-source"
_SOURCE_CONDITIONS = {
    "x-amz-copy-source-if-match": "if-match",
    "x-amz-copy-source-if-none-match": "if-none-match",
    "x-amz-copy-source-if-modified-since": "if-modified-since",
    "x-amz-copy-source-if-unmodified-since": "if-unmodified-since",
}


def write_conditions(headers: Mapping[str, str]) -> tuple[bool, Sequence[str]]:
    """Return whether the name has to be free, and which entity tag it has to have."""
    none = headers.get("if-none-match", "").strip()
    if none and none != "*":
        raise S3Error("NotImplemented", "If-None-Match of a write takes only *.")
    if "if-modified-since" in headers or "if-unmodified-since" in headers:
        raise S3Error("NotImplemented", "A write has no condition on times.")
    return none == "*", conditions.strong(headers.get("if-match", ""))


async def failed_condition(call: Call, path: str, error: PreconditionFailed) -> EcpdsError:
    """Return what a failed If-Match is to the client: a key that is not there has no tag."""
    if "if-match" in call.ask.headers:
        try:
            await call.session.find(path)
        except NotFound:
            return S3Error("NoSuchKey", Key=call.key)
    return error


class Writing:
    """Answers requests that write an object as a whole."""

    def __init__(self, threads: Threads, clock: Clock) -> None:
        self._intake = Intake(threads, clock)

    async def put(self, call: Call) -> None:
        """PutObject or, with a source, CopyObject; a directory at a slash."""
        if _COPY in call.ask.headers:
            await self.copy(call)
            return
        given = promise(call.ask, call.payload)
        path = call.path(new=True)
        if path.endswith("/"):
            await self._directory(call, given, path)
            return
        headers = call.ask.headers
        exclusive, if_match = write_conditions(headers)
        kept = attributes.read(headers)
        wanted = checksums.wanted_algorithm(headers, "x-amz-sdk-checksum-algorithm")
        if wanted and not (given.trailer or given.sums):
            raise S3Error(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
                "or x-amz-trailer headers were found.",
            )
        wish = ObjectWish(size=given.size, exclusive=exclusive, if_match=if_match, attributes=kept)
        try:
            node, sums = await self.store(call, path, wish, given)
        except PreconditionFailed as error:
            raise await failed_condition(call, path, error) from None
        fields = {"ETag": node.etag}
        fields |= {FIELD + name: text for name, text in sums.items()}
        if sums:
            fields["x-amz-checksum-type"] = "FULL_OBJECT"
        await call.done(fields=fields)

    async def store(
        self, call: Call, path: str, wish: ObjectWish, given: Promise
    ) -> tuple[Node, Mapping[str, str]]:
        """Take the content of a request as an object; return it and its checksums."""
        upload = await call.session.write_object(path, wish)
        async with upload.writer as writer:
            taken = await self._intake.take(
                call.ask.body, given, call.signatures, writer, look=call.look
            )
            sums = taken.checksums()
            upload.attributes = with_checksums(wish.attributes, sums)
            node = await upload.commit(taken.size, taken.md5, {"md5": taken.md5})
        return node, sums

    async def _directory(self, call: Call, given: Promise, path: str) -> None:
        if given.size:
            raise S3Error("InvalidArgument", "A key that ends with a slash holds no content.")
        await call.ask.body.read()
        await call.session.mkdir(path)
        await call.done(fields={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})

    # --- copies --------------------------------------------------------------------------

    async def copy(self, call: Call) -> None:
        """CopyObject."""
        headers = call.ask.headers
        target = call.path(new=True)
        source = source_path(call)
        if target.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends with a slash holds no content.")
        exclusive, if_match = write_conditions(headers)
        change = _change(headers, is_same=source == target)
        wish = ObjectWish(exclusive=exclusive, if_match=if_match)
        try:
            node = await call.session.copy_object(
                source, target, wish, lambda node: judge_source(headers, node), change
            )
        except PreconditionFailed as error:
            raise await failed_condition(call, target, error) from None
        _, kept = await call.session.find(target)
        await call.document(
            "CopyObjectResult",
            tag("LastModified", xml.moment(node.mtime)),
            tag("ETag", node.etag),
            *(tag(f"Checksum{name.upper()}", text) for name, text in kept.checksums.items()),
        )


def source_path(call: Call) -> str:
    """Return the path of the source of a copy."""
    text = call.header(_COPY)
    name, _, version = text.partition("?versionId=")
    if version not in ("", "null"):
        raise S3Error("NoSuchVersion", "The specified version does not exist.")
    try:
        name = unquote_to_bytes(name.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise InvalidName("the source of the copy is not UTF-8") from None
    bucket, slash, key = name.removeprefix("/").partition("/")
    if not slash or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key.")
    return key_path(call.session, bucket_path(call.session, bucket), key)


def judge_source(headers: Mapping[str, str], node: Node) -> None:
    """Raise S3Error unless the conditions on the source of a copy hold."""
    asked = {name: headers[field] for field, name in _SOURCE_CONDITIONS.items() if field in headers}
    verdict = conditions.judge(asked, etag=node.etag, mtime=node.mtime, reading=True)
    if verdict is not Verdict.GO:
        raise S3Error(
            "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
        )


class _Change:
    """Makes the attributes of a copy from those of its source."""

    def __init__(self, given: Attributes, *, metadata: bool, tags: bool) -> None:
        self._given = given
        self._metadata = metadata
        self._tags = tags

    def __call__(self, kept: Attributes) -> Attributes:
        """Return the attributes of the copy."""
        if self._metadata:
            kept = replace(kept, fields=self._given.fields, metadata=self._given.metadata)
        return replace(kept, tags=self._given.tags) if self._tags else kept


def _change(headers: Mapping[str, str], *, is_same: bool) -> _Change:
    directives = {}
    for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        directives[name] = headers.get(name, "COPY").upper()
        if directives[name] not in ("COPY", "REPLACE"):
            raise S3Error("InvalidArgument", f"Unknown {name}.")
    metadata = directives["x-amz-metadata-directive"] == "REPLACE"
    tags = directives["x-amz-tagging-directive"] == "REPLACE"
    if is_same and not (metadata or tags):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata or tags.",
        )
    given = attributes.read(headers) if metadata or tags else NOTHING
    return _Change(given, metadata=metadata, tags=tags)
