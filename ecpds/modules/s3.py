"""`genericS3`: objects of Amazon S3 and of services that speak like it.

An object appears when all of it has arrived and not before, so that no temporary name is needed.
Small content is one signed request whose digest the service compares; larger content goes up in
parts (`s3_upload`) and is gone on with after a break.  Without `s3.bucketName` the first part of
each name is the bucket, and buckets are what directories are elsewhere.

Spec: transfer-modules-protocols.md section 5; AWS S3 API reference.
"""

from __future__ import annotations

from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final, Self, cast

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteMissing,
    RemoteName,
    RemoteVerify,
    SourceBroke,
    Unsupported,
)
from ecpds.modules.s3_address import Endpoint
from ecpds.modules.s3_client import Call, S3Client
from ecpds.modules.s3_copy import Copier, Original
from ecpds.modules.s3_download import Download, Ranges
from ecpds.modules.s3_listing import S3Lister, Wanted
from ecpds.modules.s3_options import S3Options
from ecpds.modules.s3_put import Putter
from ecpds.modules.s3_upload import Upload
from ecpds.modules.s3_xml import element, texts
from ecpds.modules.trust import certificate_of
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)

TAGS: Final = 256
"""Objects whose tags are remembered from `stat`, for going on with a download."""

_MEMORY: Final = "s3"
_KEPT_DIGESTS: Final = ("sha256", "sha1", "crc32c", "crc32", "crc64nvme")


class S3Module(TransferModule[S3Options]):
    """A session with one bucket."""

    name = "s3"
    options = S3Options
    features: ClassVar[Feature] = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.RESUME_PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.ATOMIC_PUT
        | Feature.CHECKSUM
        | Feature.COPY
    )
    keeps_digests: ClassVar[bool] = True

    def __init__(
        self, client: S3Client, target: Target, options: S3Options, around: Surroundings
    ) -> None:
        self._client = client
        self._target = target
        self._options = options
        self._around = around
        self._putter = Putter(client, target, options, around)
        self._tags: OrderedDict[str, str] = OrderedDict()
        self._under_way: Upload | None = None
        sums = options.response_checksums
        self._checked = sums == "WHEN_SUPPORTED" or (sums == "auto" and client.endpoint.is_aws)

    @classmethod
    def naming(cls, options: S3Options) -> Naming:
        """Return that files have their final name from the start."""
        return Naming(temporary=False, make_parents=options.make_bucket)

    @classmethod
    def keep_alive(cls, options: S3Options) -> timedelta:
        """Return how long idle connections may wait for their next use."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: S3Options) -> tuple[str, int] | None:
        """Return where sessions connect to, unless a proxy does that for us."""
        endpoint = Endpoint(target, options)
        origin = endpoint.origin(endpoint.first_region)
        if options.proxy or origin.host is None or origin.port is None:
            return None
        return origin.host, origin.port

    @classmethod
    async def identity(
        cls, target: Target, options: S3Options, around: Surroundings
    ) -> Identity | None:
        """Return the certificate."""
        endpoint = Endpoint(target, options)
        origin = endpoint.origin(endpoint.first_region)
        if origin.scheme != "https" or options.proxy:
            return None
        there = replace(target, host=origin.host or "", address="")
        return await certificate_of(there, origin.port or 443, around, minimum=options.protocol)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: S3Options, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; apart from `mkBucket`, nothing is connected before the first act."""
        async with S3Client.open(target, options, around) as client:
            has_one = options.bucket_name or options.allow_empty_bucket_name
            kind = S3Module if has_one else S3Buckets
            module = kind(client, target, options, around)
            if options.make_bucket and options.bucket_name:
                await module.ensure_bucket(options.bucket_name)
            yield cast(Self, module)

    @property
    def peer(self) -> str:
        """Return the address of the service, once it was asked something."""
        return self._client.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the last connection."""
        return self._client.statistics()

    def _split(self, name: str) -> tuple[str, str]:
        bucket, key = self._client.endpoint.split(self._target.directory, name)
        if not key or key.endswith("/"):
            raise RemoteName(f"{name!r} names no object")
        return bucket, key

    def _call(
        self, method: str, name: str, phase: Phase, *, limit: timedelta | None = None
    ) -> Call:
        bucket, key = self._split(name)
        return Call(
            method=method,
            about=f"{name!r}",
            bucket=bucket,
            key=key,
            phase=phase,
            limit=limit or self._target.timeouts.command,
        )

    # --- names ------------------------------------------------------------------------------

    async def stat(self, name: str) -> Entry:
        """Return size, time and tag of an object."""
        headers = await self._head(name)
        size = headers.get("Content-Length", "")
        tag = headers.get("ETag", "")
        self._tags[name] = tag
        self._tags.move_to_end(name)
        if len(self._tags) > TAGS:
            self._tags.popitem(last=False)
        return Entry(
            kind=Kind.FILE,
            name=name,
            size=int(size) if size.isascii() and size.isdigit() else None,
            mtime=_http_date(headers.get("Last-Modified", "")),
            etag=tag,
        )

    async def _head(self, name: str, headers: Mapping[str, str] | None = None) -> Mapping[str, str]:
        call = self._call("HEAD", name, Phase.VERIFY)
        try:
            return (await self._client.demand(replace(call, headers=headers or {}))).headers
        except RemoteMissing:
            await self._check_bucket()
            raise

    async def _check_bucket(self) -> None:
        """Raise RemoteConfig when the one bucket is missing: HEAD does not tell the difference."""
        bucket, memory = self._client.endpoint.bucket, self._around.memory
        fact = f"bucket {bucket}"
        if not bucket or memory.recall(_MEMORY, self._target.host_name, fact):
            return
        if not await self._is_there(bucket):
            raise RemoteConfig(f"there is no bucket {bucket!r}", remote_code="NoSuchBucket")
        memory.keep(_MEMORY, self._target.host_name, fact, "yes")

    async def _is_there(self, bucket: str) -> bool:
        call = Call(
            method="HEAD",
            about=f"bucket {bucket!r}",
            bucket=bucket,
            phase=Phase.CWD,
            limit=self._target.timeouts.command,
            accepted=(404,),
        )
        try:
            return (await self._client.demand(call)).status != 404
        except RemoteAuth:
            return True  # there, and not ours to look at

    async def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket unless it is there."""
        if await self._is_there(bucket):
            return
        region = self._client.region_of(bucket)
        content = b""
        if self._client.endpoint.is_aws and region != "us-east-1":
            inner = texts([("LocationConstraint", region)])
            content = element("CreateBucketConfiguration", inner).encode()
        call = Call(
            method="PUT",
            about=f"bucket {bucket!r}",
            bucket=bucket,
            content=content,
            phase=Phase.MKDIR,
            limit=self._target.timeouts.mkdir,
        )
        try:
            await self._client.demand(call)
        except RemoteName:
            if not await self._is_there(bucket):  # somebody else made it meanwhile
                raise

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries below a directory: prefixes with a slash behind them.

        One that has no entries is as good as none; it yields nothing.
        """
        lister = S3Lister(self._client, self._target, self._around)
        async with aclosing(self._listing(lister, directory, filter_text)) as entries:
            async for entry in entries:
                yield entry

    def _listing(
        self, lister: S3Lister, directory: str, filter_text: str
    ) -> AsyncGenerator[Entry, None]:
        path = directory.strip("/")
        if not path and type(self) is S3Buckets:
            return lister.buckets()
        bucket, prefix = self._client.endpoint.split(self._target.directory, path)
        prefix = prefix.rstrip("/")
        level = self._options.recursive_level
        return lister.entries(
            Wanted(
                bucket=bucket,
                prefix=f"{prefix}/" if prefix else "",
                pattern=filter_text,
                levels=1 if level is None else max(level, 0),
            )
        )

    async def copy(self, old: str, new: str) -> None:
        """Let the service copy an object, also between buckets."""
        entry = await self.stat(old)
        bucket, key = self._split(old)
        original = Original(bucket=bucket, key=key, size=entry.size or 0, tag=entry.etag)
        # the service may need as long as a transfer
        limit = max(self._target.timeouts.rename, self._target.timeouts.stall)
        copier = Copier(self._client, self._putter, limit)
        await copier.copy(original, *self._split(new), self._putter.headers({}))

    async def delete(self, name: str) -> None:
        """Delete an object."""
        await self._head(name)  # the service says yes to what is not there
        await self._client.demand(
            self._call("DELETE", name, Phase.VERIFY, limit=self._target.timeouts.delete)
        )

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the digest that the service keeps of a whole object."""
        headers = await self._head(name, {"x-amz-checksum-mode": "ENABLED"})
        told = headers.get(f"x-amz-checksum-{algorithm}", "")
        is_whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
        if algorithm in _KEPT_DIGESTS and told and "-" not in told and is_whole:
            return b64decode(told).hex()
        tag = headers.get("ETag", "").strip('"').lower()
        is_plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
        if algorithm == "md5" and len(tag) == 32 and is_plain and tag.isalnum():
            return tag
        return None

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on."""
        stall = self._target.timeouts.stall.total_seconds()
        call = replace(self._call("GET", name, Phase.DATA), stall=stall)
        if offset and (await self.stat(name)).size == offset:
            return
        tag = self._tags.get(name, "")
        download = Download(self._client, call, offset=offset, tag=tag, checked=self._checked)
        options = self._options
        ranges = Ranges(at_once=options.parallel_ranges, size=options.range_size)
        blocks = download.ranges(ranges) if ranges.at_once > 1 else download.whole()
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    yield block
        except RemoteName as error:
            if error.remote_code not in ("PreconditionFailed", "412"):
                raise
            raise RemoteVerify(f"{name!r} has become another one", remote_code="412") from error

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Send the content; the object appears when all of it is there."""
        bucket, key = self._split(name)
        self.proven = None
        headers = self._putter.headers(self.digests)
        if offset:
            return await self._go_on(name, bucket, key, source, offset)
        self._under_way = None
        self.upload = ""
        compared = await self._putter.whole(bucket, key, source, headers)
        if compared is not None:
            self.proven = source.size if compared else None
            return source.size
        if source.descriptor is not None and source.size >= 0:
            upload = await self._begun(bucket, key, source.size, headers)
            await self._putter.sending(upload, self._reached_from(0)).file(source)
            return await self._completed(upload, source.size, offset=0)
        return await self._flowing(bucket, key, source, headers)

    async def _flowing(
        self, bucket: str, key: str, source: ByteSource, headers: Mapping[str, str]
    ) -> int:
        content, rest = await self._putter.head_of(source)
        if rest is None:
            _check_size(source, len(content))
            if await self._putter.collected(bucket, key, content, headers):
                self.proven = len(content)
            return len(content)
        async with aclosing(rest):
            upload = await self._begun(bucket, key, source.size, headers)
            sent = await self._putter.sending(upload, self._reached_from(0)).flow(rest, 1)
        _check_size(source, sent)
        return await self._completed(upload, sent, offset=0)

    async def _go_on(
        self, name: str, bucket: str, key: str, source: ByteSource, offset: int
    ) -> int:
        upload = self._under_way
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise Unsupported("an object is sent from its first byte on", file=name, offset=offset)
        sending = self._putter.sending(upload, self._reached_from(offset))
        if source.descriptor is not None and source.size >= 0:
            await sending.file(source)
            return await self._completed(upload, offset + source.size, offset=offset)
        first = offset // upload.part_size + 1
        sent = await sending.flow(cast("AsyncGenerator[bytes, None]", aiter(source)), first)
        _check_size(source, sent)
        return await self._completed(upload, offset + sent, offset=offset)

    async def _begun(self, bucket: str, key: str, total: int, headers: Mapping[str, str]) -> Upload:
        upload = await self._putter.begin(bucket, key, total, headers)
        self.confirmed = 0
        self.began(upload.state)
        return upload

    async def _completed(self, upload: Upload, total: int, *, offset: int) -> int:
        await self._putter.complete(upload, total)
        self.upload = ""
        self._under_way = None
        return total - offset

    def _reached_from(self, offset: int) -> Callable[[int], None]:
        def reached(count: int) -> None:
            self.confirmed = count - offset

        return reached

    async def uploaded(self, name: str, state: str) -> int:
        """Return how many bytes of an interrupted upload are there without a hole."""
        upload = Upload.of_state(*self._split(name), state)
        if upload is None or not await self._putter.uploads.look(upload):
            return 0
        self._under_way = upload
        self.upload = state
        return upload.reached

    async def forget(self, name: str, state: str) -> None:
        """Drop an interrupted upload."""
        upload = Upload.of_state(*self._split(name), state)
        if upload is not None:
            await self._putter.uploads.abort(upload)


class S3Buckets(S3Module):
    """A session without a bucket of its own: the first part of each name is one."""

    features: ClassVar[Feature] = S3Module.features | Feature.MKDIR | Feature.RMDIR

    async def mkdir(self, path: str) -> None:
        """Create a bucket; below it everything is there as soon as its bucket is."""
        bucket, key = self._client.endpoint.split(self._target.directory, path)
        if not key.rstrip("/"):
            await self.ensure_bucket(bucket)
        elif not await self._is_there(bucket):
            raise RemoteName(f"there is no bucket {bucket!r}", phase=Phase.MKDIR)

    async def rmdir(self, path: str) -> None:
        """Remove an empty bucket."""
        bucket, key = self._client.endpoint.split(self._target.directory, path)
        if key.rstrip("/"):
            raise RemoteName(f"{path!r} is no bucket", phase=Phase.MKDIR)
        call = Call(
            method="DELETE",
            about=f"bucket {bucket!r}",
            bucket=bucket,
            phase=Phase.MKDIR,
            limit=self._target.timeouts.rmdir,
        )
        await self._client.demand(call)


def _check_size(source: ByteSource, sent: int) -> None:
    if 0 <= source.size != sent:
        raise SourceBroke(f"the content has {sent} instead of {source.size} bytes")


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
