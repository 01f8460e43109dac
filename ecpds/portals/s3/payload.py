"""The content of an upload in every form that S3 knows, with whatever vouches for it.

Plain, or in `aws-chunked` pieces of which each may be signed, with checksums before or behind it.
Bytes go to the file as they come; nothing is registered before all has been verified.
Spec: Amazon S3 API Reference, Signature Calculations: Transferring Payload in Multiple Chunks.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.portals.https.exchange import Ask, Body
from ecpds.portals.s3 import checksums
from ecpds.portals.s3.checksums import ALGORITHMS, FIELD, Sums, encoded
from ecpds.portals.s3.codes import S3Error
from ecpds.portals.s3.signature import UNSIGNED, Signatures

LARGEST = 5 * 1024**3  # bytes of one request
SMALLEST_CHUNK = 8 * 1024  # bytes; smaller ones only at the end
_LINE = 1024  # bytes of the line before a piece
_TRAILER = 4 * 1024  # bytes of the fields behind the last one
_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?\s*")
_STREAM = re.compile(r"STREAMING-(AWS4-HMAC-SHA256|UNSIGNED)-PAYLOAD(-TRAILER)?")


class Sink(Protocol):
    """Where the bytes go: an object or a part under way."""

    descriptor: int
    rate: int | None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write behind what came before."""

    def pause(self) -> float:
        """Return the seconds to wait before the next block."""


@dataclass(slots=True, kw_only=True)
class Promise:
    """What a request says of its content before the first byte."""

    size: int | None  # bytes of the content itself; None: not said
    sha256: str = ""  # hex, as it was signed
    chunked: bool = False
    signed: bool = False  # each piece
    trailer: str = ""  # algorithm whose value comes behind
    md5: bytes | None = None
    sums: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def algorithms(self) -> list[str]:
        """Return the sums that are needed."""
        names = ["md5", *self.sums]
        if self.sha256:
            names.append("sha256")
        return [*names, self.trailer] if self.trailer else names


@dataclass(frozen=True, slots=True)
class Taken:
    """What came, and its sums."""

    size: int
    digests: Mapping[str, bytes]
    vouched: str = ""  # algorithm that the client gave a value for

    @property
    def md5(self) -> str:
        """Return the MD5 in hex."""
        return self.digests["md5"].hex()

    def checksums(self, *more: str) -> dict[str, str]:
        """Return what is kept with the object: the sum that the client vouched for."""
        names = [name for name in (self.vouched, *more) if name]
        return {name: encoded(self.digests[name]) for name in names if name in self.digests}


def promise(ask: Ask, payload: str) -> Promise:
    """Read the fields of an upload; `payload` is what stands for the content in the signature."""
    headers = ask.headers
    size = ask.body.length if ask.body.announced else 0
    found = Promise(size=size, md5=checksums.content_md5(headers))
    found.sums = checksums.announced(headers)
    stream = _STREAM.fullmatch(payload)
    if stream is not None:
        _read_stream(found, headers, signed=stream[1] != "UNSIGNED", trailer=bool(stream[2]))
    elif payload.startswith("STREAMING-"):
        raise S3Error("NotImplemented", "This form of a signed payload is not supported.")
    elif payload != UNSIGNED:
        if not _HEX.fullmatch(payload):
            raise S3Error(
                "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a SHA-256."
            )
        found.sha256 = payload
    if found.size is None:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    if found.size > LARGEST:
        raise S3Error(
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed size",
            ProposedSize=str(found.size),
            MaxSizeAllowed=str(LARGEST),
        )
    return found


def _read_stream(
    found: Promise, headers: Mapping[str, str], *, signed: bool, trailer: bool
) -> None:
    text = headers.get("x-amz-decoded-content-length", "")
    if not re.fullmatch(r"\d{1,15}", text):
        raise S3Error("MissingContentLength", "x-amz-decoded-content-length is missing.")
    found.size, found.chunked, found.signed = int(text), True, signed
    if not trailer:
        return
    name = headers.get("x-amz-trailer", "").strip().lower()
    found.trailer = name.removeprefix(FIELD)
    if not name.startswith(FIELD) or found.trailer not in ALGORITHMS:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is wrong")


class Intake:
    """Takes the content of one request."""

    def __init__(self, threads: Threads, clock: Clock) -> None:
        self._threads = threads
        self._clock = clock

    async def take(
        self,
        body: Body,
        given: Promise,
        signatures: Signatures,
        sink: Sink,
        *,
        look: Callable[[], None],
        offset: int = 0,
        more: tuple[str, ...] = (),
    ) -> Taken:
        """Write the content to `sink` and verify it.

        `look` is called with each block and may break off; `offset` is where in the file of the
        sink the content begins; `more` are algorithms that are wanted beside those announced.
        """
        names = [*given.algorithms, *more]
        sums = Sums(names, sink.descriptor, offset, given.size, self._threads)

        def store(block: bytes | memoryview) -> None:
            sink.write(block)
            sums.take(block)

        decoder = Chunks(given, signatures, store) if given.chunked else None
        plain = _Counted(given, store)
        feed = decoder.feed if decoder is not None else plain.feed

        def pour(block: bytes | memoryview) -> None:
            look()
            feed(block)

        if given.size is not None and given.size <= checksums.INLINE:
            await self._pour(body, pour, sink)
        else:
            await self._pour_and_sum(body, pour, sink, sums)
        if decoder is not None:
            decoder.finish()
        plain.check(decoder.received if decoder is not None else plain.received)
        digests = await sums.digests()
        vouched = _verified(given, digests, decoder.fields if decoder is not None else {})
        size = decoder.received if decoder is not None else plain.received
        return Taken(size, digests, vouched)

    async def _pour(
        self, body: Body, take: Callable[[bytes | memoryview], None], sink: Sink
    ) -> None:
        if sink.rate is None:
            await body.pour(take)
            return
        while block := await body.read():
            take(block)
            wait = sink.pause()
            if wait > 0:
                await self._clock.sleep(timedelta(seconds=wait))

    async def _pour_and_sum(
        self, body: Body, take: Callable[[bytes | memoryview], None], sink: Sink, sums: Sums
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(sums.follow(), name="sums")
                try:
                    await self._pour(body, take, sink)
                finally:
                    sums.end()
        except BaseExceptionGroup as error:
            raise _first(error) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


class _Counted:
    """A plain content, which may not be longer than promised."""

    def __init__(self, given: Promise, store: Callable[[bytes | memoryview], None]) -> None:
        self.received = 0
        self._given = given
        self._store = store

    def feed(self, block: bytes | memoryview) -> None:
        self.received += len(block)
        self._store(block)

    def check(self, received: int) -> None:
        if received != self._given.size:
            raise S3Error(
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length "
                "HTTP header.",
            )


def _verified(given: Promise, digests: Mapping[str, bytes], fields: Mapping[str, str]) -> str:
    """Return the algorithm that the client vouched for; raise S3Error for what does not hold."""
    if given.sha256 and digests["sha256"].hex() != given.sha256:
        raise S3Error(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    if given.md5 is not None and digests["md5"] != given.md5:
        raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    wanted = dict(given.sums)
    if given.trailer:
        text = fields.get(FIELD + given.trailer, "")
        message = f"Value for {FIELD}{given.trailer} trailing header is invalid."
        length = ALGORITHMS[given.trailer]
        wanted[given.trailer] = checksums.decoded(text, length, "InvalidRequest", message)
    for name, value in wanted.items():
        if digests[name] != value:
            raise S3Error(
                "BadDigest",
                f"The {name.upper()} you specified did not match the calculated checksum.",
            )
    return next(iter(wanted), "")


# --- aws-chunked -----------------------------------------------------------------------------


class Chunks:
    """Takes the pieces of an `aws-chunked` content apart."""

    def __init__(
        self, given: Promise, signatures: Signatures, store: Callable[[bytes | memoryview], None]
    ) -> None:
        self.received = 0
        self.fields: dict[str, str] = {}
        self._given = given
        self._signatures = signatures
        self._store = store
        self._line = bytearray()  # head of a piece, or what stands behind the last one
        self._left = 0  # bytes of this piece
        self._gap = 0  # bytes of the line end behind it
        self._size = -1  # of this piece
        self._signature = ""
        self._hash = hashlib.sha256()
        self._is_last = False

    def feed(self, block: bytes | memoryview) -> None:
        """Take bytes as they come; raises S3Error."""
        view = memoryview(block)
        while view:
            if self._is_last:
                self._keep(view, _TRAILER)
                return
            if self._left:
                view = self._data(view)
            elif self._gap:
                view = self._line_end(view)
            else:
                view = self._head(view)

    def _keep(self, view: memoryview, most: int) -> None:
        self._line += view
        if len(self._line) > most:
            raise _broken()

    def _data(self, view: memoryview) -> memoryview:
        mine, rest = view[: self._left], view[self._left :]
        self._left -= len(mine)
        self.received += len(mine)
        if self._given.size is not None and self.received > self._given.size:
            raise S3Error("IncompleteBody", "There is more content than was announced.")
        if self._given.signed:
            self._hash.update(mine)
        self._store(mine)
        if not self._left:
            self._verify()
            self._gap = 2
        return rest

    def _verify(self) -> None:
        if self._given.signed:
            self._signatures.check_chunk(self._hash.hexdigest(), self._signature)
            self._hash = hashlib.sha256()

    def _line_end(self, view: memoryview) -> memoryview:
        wanted = b"\r\n"[2 - self._gap]
        if view[0] != wanted:
            raise _broken()
        self._gap -= 1
        return view[1:]

    def _head(self, view: memoryview) -> memoryview:
        raw = bytes(view[:_LINE])
        end = raw.find(b"\n")
        if end < 0:
            self._keep(view, _LINE)
            return view[:0]
        self._line += raw[: end + 1]
        found = _CHUNK.fullmatch(bytes(self._line))
        if found is None or len(self._line) > _LINE or bool(found[2]) is not self._given.signed:
            raise _broken()
        self._line.clear()
        self._begin(int(found[1], 16), (found[2] or b"").decode())
        return view[end + 1 :]

    def _begin(self, size: int, signature: str) -> None:
        if 0 <= self._size < SMALLEST_CHUNK and size:
            raise S3Error(
                "InvalidChunkSizeError", "Only the last chunk is allowed to have less than 8192."
            )
        self._size = self._left = size
        self._signature = signature
        if not size:
            self._is_last = True
            self._verify()

    def finish(self) -> None:
        """Read what stands behind the last piece; raises S3Error when there is none."""
        if not self._is_last:
            raise S3Error("IncompleteBody", "The content ended before its last chunk.")
        lines = bytes(self._line).replace(b"\r\n", b"\n").split(b"\n")
        signed, signature = b"", ""
        for line in filter(None, (line.strip() for line in lines)):
            name, colon, value = line.partition(b":")
            key, text = name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")
            if not colon:
                raise _broken()
            if key == "x-amz-trailer-signature":
                signature = text
            else:
                self.fields[key] = text
                signed += f"{key}:{text}\n".encode("latin-1")
        if self._given.signed and self._given.trailer:
            self._signatures.check_trailer(signed, signature)


def _broken() -> S3Error:
    return S3Error("IncompleteBody", "The chunks of the content cannot be read.")
