"""Large objects in parts: several at a time, gone on with after a break, complete or not there.

What an attempt leaves behind is the upload at the service, named by `Partial.state`; which parts of
it arrived the service tells itself.  Parts that arrived are not sent again, also those behind a
hole.  A part that fails is sent again while the others go on.

Content that can be read anywhere (a plain file) is read by each part for itself.  Other content
(compressed on the way, of unknown size) is collected in memory, a bounded number of parts ahead.

Spec: transfer-modules-protocols.md section 5; AWS "Uploading using multipart upload".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ecpds.model.errors import EcpdsError, RemoteConfig, RemoteError, RemoteMissing, RemoteVerify
from ecpds.modules.http_body import SourceBody
from ecpds.modules.s3_body import Bytes, Digests, Slice, digests_of, digests_of_slice
from ecpds.modules.s3_client import Call, S3Client
from ecpds.modules.s3_errors import failure, meaning
from ecpds.modules.s3_xml import element, read, texts
from ecpds.transfer.contract import ByteSource, Surroundings, Target

MOST_PARTS: Final = 10_000
MIB: Final = 1024 * 1024

GRACE: Final = 30.0
"""Seconds in which parts that are under way may end after another one has failed."""

_PAGES: Final = 11  # of 1,000 parts; one more than there can be


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that the service has."""

    etag: str
    size: int
    crc32c: str = ""


@dataclass(slots=True, kw_only=True)
class Upload:
    """An upload at the service."""

    bucket: str
    key: str
    id: str
    part_size: int
    parts: dict[int, Part] = field(default_factory=dict)
    has_checksums: bool = False

    @property
    def state(self) -> str:
        """Return what another session needs to go on with it."""
        return json.dumps(
            {"id": self.id, "part": self.part_size, "crc": self.has_checksums},
            separators=(",", ":"),
        )

    @property
    def reached(self) -> int:
        """Return the bytes from the start that are there without a hole."""
        return self.part_size * self.whole_parts

    @property
    def whole_parts(self) -> int:
        """Return how many parts from the first one on are there."""
        count = 0
        while (part := self.parts.get(count + 1)) and part.size == self.part_size:
            count += 1
        return count

    @classmethod
    def of_state(cls, bucket: str, key: str, state: str) -> Upload | None:
        """Return the upload that a state names, None for a text that names none."""
        try:
            found = json.loads(state)
            return cls(
                bucket=bucket,
                key=key,
                id=str(found["id"]),
                part_size=int(found["part"]),
                has_checksums=bool(found.get("crc")),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def part_size_for(total: int, wanted: int) -> int:
    """Return the size of parts for so many bytes: `wanted`, or more in whole MiB; -1 = unknown."""
    least = -(-total // MOST_PARTS)
    return wanted if least <= wanted else -(-least // MIB) * MIB


class Uploads:
    """The acts on uploads of one session."""

    def __init__(self, client: S3Client, target: Target, around: Surroundings) -> None:
        self._client = client
        self._target = target
        self._around = around

    def call(self, upload: Upload, method: str, query: tuple[tuple[str, str], ...] = ()) -> Call:
        """Return a request about an upload."""
        return Call(
            method=method,
            about=f"{upload.key!r}",
            bucket=upload.bucket,
            key=upload.key,
            query=(("uploadId", upload.id), *query),
            limit=self._target.timeouts.command,
        )

    async def begin(self, upload: Upload, headers: Mapping[str, str]) -> None:
        """Open an upload at the service; sets its id."""
        if upload.has_checksums:
            headers = {**headers, "x-amz-checksum-algorithm": "CRC32C"}
        call = Call(
            method="POST",
            about=f"{upload.key!r}",
            bucket=upload.bucket,
            key=upload.key,
            query=(("uploads", ""),),
            headers=headers,
            content=b"",
            limit=self._target.timeouts.command,
        )
        upload.id = read((await self._client.demand(call)).content).fields.get("UploadId", "")
        if not upload.id:
            raise RemoteError(f"{upload.key!r}: the service names no upload")

    async def look(self, upload: Upload) -> bool:
        """Learn which parts are there; False when the upload is gone."""
        marker = "0"
        for _ in range(_PAGES):
            call = self.call(upload, "GET", (("part-number-marker", marker),))
            try:
                document = read((await self._client.demand(call)).content, ("Part",))
            except RemoteMissing:
                return False
            for record in document.of("Part"):
                number, size = record.get("PartNumber", ""), record.get("Size", "")
                if number.isdigit() and size.isdigit():
                    upload.parts[int(number)] = Part(
                        etag=record.get("ETag", ""),
                        size=int(size),
                        crc32c=record.get("ChecksumCRC32C", ""),
                    )
            marker = document.fields.get("NextPartNumberMarker", "")
            if document.fields.get("IsTruncated") != "true" or not marker.isdigit():
                break
        return True

    async def complete(self, upload: Upload, headers: Mapping[str, str]) -> str:
        """Make one object of the parts; return its ETag."""
        inner = []
        for number, part in sorted(upload.parts.items()):
            pairs: list[tuple[str, object]] = [("PartNumber", number), ("ETag", part.etag)]
            if part.crc32c and upload.has_checksums:
                pairs.append(("ChecksumCRC32C", part.crc32c))
            inner.append(element("Part", texts(pairs)))
        namespace = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        text = f"<CompleteMultipartUpload{namespace}>{''.join(inner)}</CompleteMultipartUpload>"
        call = replace(
            self.call(upload, "POST"),
            content=text.encode(),
            headers={**headers, "Content-Type": "application/xml"},
            # the service puts the parts together before it answers
            limit=max(self._target.timeouts.command, self._target.timeouts.stall),
        )
        document = read((await self._client.demand(call)).content)
        if document.root == "Error":  # after it has said 200 already
            code = document.fields.get("Code", "")
            raise failure(
                meaning(code, 500),
                call.about,
                status=200,
                code=code,
                text=document.fields.get("Message", ""),
                phase=call.phase,
            )
        return document.fields.get("ETag", "")

    async def abort(self, upload: Upload) -> None:
        """Drop an upload; one that is gone is fine."""
        with suppress(RemoteMissing):
            await self._client.demand(self.call(upload, "DELETE"))

    async def drop_stale(self, bucket: str, key: str, older_than: timedelta) -> int:
        """Drop broken uploads of one key that nobody goes on with; return how many.

        A service that does not tell, or does not allow it, is left alone.
        """
        call = Call(
            method="GET",
            about=f"broken uploads of {key!r}",
            bucket=bucket,
            query=(("uploads", ""), ("prefix", key), ("max-uploads", "100")),
            limit=self._target.timeouts.command,
        )
        before = self._around.clock.now() - older_than
        count = 0
        with suppress(RemoteError):
            document = read((await self._client.demand(call)).content, ("Upload",))
            for record in document.of("Upload"):
                begun = _moment(record.get("Initiated", ""))
                if record.get("Key") == key and begun is not None and begun < before:
                    old = Upload(bucket=bucket, key=key, id=record.get("UploadId", ""), part_size=1)
                    await self.abort(old)
                    count += 1
        return count


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How parts are sent."""

    threads: int
    ahead: int  # further parts in memory, for content that comes in order only
    signed: bool  # SHA-256 of each part in its signature
    stall: float  # seconds


class Sending:
    """Sends the parts of one upload that are not there yet."""

    def __init__(
        self,
        uploads: Uploads,
        client: S3Client,
        upload: Upload,
        manner: Manner,
        around: Surroundings,
        on_reached: Callable[[int], None],
    ) -> None:
        self._uploads = uploads
        self._client = client
        self._upload = upload
        self._manner = manner
        self._around = around
        self._on_reached = on_reached
        self._failure: EcpdsError | None = None
        self._limit: asyncio.Timeout | None = None

    async def file(self, source: ByteSource) -> None:
        """Send the rest of a plain file, from `source.offset` on."""
        total, size = source.offset + source.size, self._upload.part_size
        numbers = iter(range(source.offset // size + 1, max(-(-total // size), 1) + 1))
        threads, file = self._around.threads, source.descriptor or 0

        async def work() -> None:
            while self._failure is None and (number := next(numbers, 0)):
                start = (number - 1) * size
                part = Slice(source, start, min(size, total - start), threads)
                await self._slice(number, part, file)

        await self._all([work] * self._manner.threads)

    async def flow(self, blocks: AsyncGenerator[bytes, None], first: int) -> int:
        """Send what comes in order, part `first` first; return the count of bytes."""
        parts: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(max(self._manner.ahead, 1))
        counted = [0]

        async def collect() -> None:
            async with aclosing(collected(blocks, self._upload.part_size)) as pieces:
                await self._collect(pieces, first, parts, counted)
            for _ in range(self._manner.threads):
                await parts.put(None)

        async def work() -> None:
            while (taken := await parts.get()) is not None:
                if self._failure is None:
                    await self._bytes(*taken)

        await self._all([collect, *[work] * self._manner.threads])
        return counted[0]

    async def _collect(
        self,
        pieces: AsyncGenerator[bytes, None],
        number: int,
        parts: asyncio.Queue[tuple[int, bytes] | None],
        counted: list[int],
    ) -> None:
        async for content in pieces:
            if self._failure is not None:
                return
            if number > MOST_PARTS:
                raise RemoteConfig(
                    f"the content needs more than {MOST_PARTS:,} parts: see s3.partSize"
                )
            counted[0] += len(content)
            await parts.put((number, content))
            number += 1

    async def _all(self, works: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run side by side; the first failure lets the others end what they do, for a while."""
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                async with asyncio.TaskGroup() as group:
                    for work in works:
                        group.create_task(self._guarded(work))
        except TimeoutError:
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except EcpdsError as error:
            if self._failure is not None:
                return
            self._failure = error
            if self._limit is not None:
                grace = 0.0 if self._manner.threads == 1 else GRACE
                self._limit.reschedule(asyncio.get_running_loop().time() + grace)

    async def _slice(self, number: int, part: Slice, file: int) -> None:
        if self._is_there(number, part.size):
            return
        digests = Digests(payload="", crc32c="")
        if self._manner.signed or self._upload.has_checksums:
            digests = await self._around.threads.run(
                "digest",
                digests_of_slice,
                file,
                part.offset,
                part.size,
                signed=self._manner.signed,
                with_crc=self._upload.has_checksums,
            )
        await self._send(number, part, digests)

    async def _bytes(self, number: int, content: bytes) -> None:
        if self._is_there(number, len(content)):
            return
        digests = await self._around.threads.run(
            "digest",
            digests_of,
            content,
            signed=self._manner.signed,
            with_crc=self._upload.has_checksums,
        )
        await self._send(number, Bytes(content), digests)

    def _is_there(self, number: int, size: int) -> bool:
        part = self._upload.parts.get(number)
        return part is not None and part.size == size

    async def _send(self, number: int, part: ByteSource, digests: Digests) -> None:
        call = replace(
            self._uploads.call(self._upload, "PUT", (("partNumber", str(number)),)),
            body=lambda: SourceBody(part, stall=self._manner.stall),
            payload=digests.payload or "UNSIGNED-PAYLOAD",
            headers=digests.headers(),
        )
        answer = await self._client.demand(call)
        etag = answer.headers.get("ETag", "")
        if not etag:
            raise RemoteVerify(f"part {number} was taken without a tag")
        self._upload.parts[number] = Part(etag=etag, size=part.size, crc32c=digests.crc32c)
        self._on_reached(self._upload.reached)


async def collected(blocks: AsyncGenerator[bytes, None], size: int) -> AsyncGenerator[bytes, None]:
    """Yield pieces of exactly `size` bytes, and the rest as a shorter one."""
    piece = bytearray()
    async with aclosing(blocks):
        async for block in blocks:
            piece += block
            while len(piece) >= size:
                yield bytes(piece[:size])
                del piece[:size]
    if piece:
        yield bytes(piece)
