"""Content that is compressed on its way out.

Reading and compressing run in the `codec` pool, a MiB at a time and one step ahead of what is sent,
so that a transfer holds a few MiB whatever the file has.  Nobody knows the size before the end
(-1); an upload that broke off goes on by compressing again and leaving out what is there already:
that costs time on our side and not a byte on the wire.

Spec: transfer-modules.md 4.6.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from ecpds.base.checksums import Digest, new_digest
from ecpds.base.threads import Threads
from ecpds.model.compression import (
    Compression,
    extension,
    parse_compression,
    parse_levels,
)
from ecpds.model.errors import OptionError, SourceBroke
from ecpds.model.units import parse_bytes
from ecpds.transfer.codecs import (
    VERSIONS,
    Codec,
    block_size,
    is_parallel,
    level_of,
    make_codec,
)
from ecpds.transfer.contract import ByteSource
from ecpds.transfer.meter import Meter

if TYPE_CHECKING:
    from ecpds.transfer.options import EctransOptions

SIDE_BY_SIDE: Final = 3
"""Blocks of one transfer that are compressed at a time, where the filter allows it."""


@dataclass(frozen=True, slots=True)
class Squeeze:
    """How one file is compressed."""

    filters: tuple[str, ...]
    levels: Mapping[str, int] = field(default_factory=dict)
    name: str = ""  # of the content, inside archives

    @property
    def extension(self) -> str:
        """Return what is added to the name."""
        return extension(self.filters)

    @property
    def label(self) -> str:
        """Return the filters for people and records: `zstd`, `gzip,bzip2`."""
        return ",".join(self.filters)

    @property
    def version(self) -> str:
        """Return what decides about the bytes that come out, beside the content."""
        levels = ",".join(f"{name}{level_of(name, self.levels)}" for name in self.filters)
        return f"{levels}/{self.name if 'zip' in self.filters else ''}/{VERSIONS}"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which files of a Host are compressed, and how (`filter_name`, `ectrans.filter*`)."""

    compression: Compression
    pattern: re.Pattern[str]
    minimum: int
    levels: Mapping[str, int]

    @classmethod
    def make(cls, filter_name: str, ectrans: EctransOptions) -> Self:
        """Read the texts; raises OptionError."""
        try:
            pattern = re.compile(ectrans.filter_pattern)
        except re.error as error:
            raise OptionError(f"ectrans.filterpattern: {error}") from None
        levels = parse_levels(ectrans.filter_levels)
        return cls(parse_compression(filter_name), pattern, ectrans.filter_minimum, levels)

    def of_destination(self, filter_name: str, options: Mapping[str, str]) -> Filters:
        """Return those of a Destination: its own texts, else the Host's; raises OptionError."""
        pattern, minimum = self.pattern, self.minimum
        if text := options.get("ectrans.filterpattern", ""):
            try:
                pattern = re.compile(text)
            except re.error as error:
                raise OptionError(f"ectrans.filterpattern: {error}") from None
        if text := options.get("ectrans.filterMinimumSize", ""):
            minimum = parse_bytes(text, legacy_unit="b")
        return Filters(parse_compression(filter_name), pattern, minimum, self.levels)

    def squeeze(self, original: str, size: int) -> Squeeze | None:
        """Return how a file is compressed, None when it is sent as it is."""
        name = original.rpartition("/")[2]
        filters = self.compression.filters(size)
        if not filters or size < self.minimum or not self.pattern.fullmatch(name):
            return None
        return Squeeze(filters, self.levels, name)


NO_FILTERS: Final = Filters(Compression(), re.compile(".*"), 0, {})


class CompressedSource(ByteSource):
    """A plain file, compressed while it is read; can be begun again at any byte."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        squeeze: Squeeze,
        *,
        threads: Threads,
        meter: Meter | None = None,
        block_size: int = 256 * 1024,
        algorithms: Sequence[str] = (),
    ) -> None:
        """Take a descriptor that stays open while this is in use, and the size of its content.

        `algorithms`: digests wanted of what comes out.
        """
        self.descriptor = None
        self.size = -1
        self.offset = 0
        self.meter = meter or Meter()
        self.made = 0  # bytes that came out, those left out included
        self._content = descriptor
        self._total = size
        self._squeeze = squeeze
        self._threads = threads
        self._block_size = block_size
        self._algorithms = tuple(algorithms)
        self.digests: dict[str, str] = {}  # hex by algorithm of all that comes out, at its end

    def start_at(self, offset: int) -> None:
        """Begin again, at that byte of what comes out."""
        self.offset = offset

    def count(self, sent: int) -> None:
        """Count bytes."""
        self.meter.add(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield compressed blocks from `offset` on."""
        self.made = 0
        running = {name: new_digest(name) for name in self._algorithms}
        press = _Press(self._content, self._total, self._squeeze, self._threads)
        try:
            while (chunk := await press.next()) is not None:
                if running:
                    await self._threads.run("digest", _update, running, chunk)
                skip = max(min(self.offset - self.made, len(chunk)), 0)
                self.made += len(chunk)
                start = skip
                while start < len(chunk):
                    count = min(self._block_size, len(chunk) - start)
                    if self.meter.limited:
                        count = await self.meter.allow(count)
                    yield chunk[start : start + count]
                    self.meter.add(count)
                    start += count
        finally:
            press.release()
        self.digests.update({name: one.hexdigest() for name, one in running.items()})
        if self.made < self.offset:
            raise SourceBroke(f"the compressed content has {self.made} bytes, not {self.offset}")


def _update(running: Mapping[str, Digest], chunk: bytes) -> None:
    for one in running.values():
        one.update(chunk)


class _Press:
    """Reads and compresses ahead of its taker; owns a descriptor of its own."""

    def __init__(self, content: int, size: int, squeeze: Squeeze, threads: Threads) -> None:
        self._size = size
        self._block = block_size(squeeze.filters, squeeze.levels)
        self._codec: Codec = make_codec(squeeze.filters, squeeze.levels, name=squeeze.name)
        self._ahead = SIDE_BY_SIDE if is_parallel(squeeze.filters) else 1
        self._threads = threads
        self._position = 0
        self._ended = False
        self._pending: deque[asyncio.Future[bytes]] = deque()
        # a step may run on in its thread when the taker has gone
        self._lock = threading.Lock()
        self._running = 0
        self._released = False
        self._descriptor = os.dup(content)

    async def next(self) -> bytes | None:
        """Return the next bytes, maybe none; None at the end."""
        self._start()
        if not self._pending:
            return None
        # behind the failure or cancellation of one step nothing more is wanted
        chunk = await self._pending[0]
        self._pending.popleft()
        self._start()
        return chunk

    def _start(self) -> None:
        while len(self._pending) < self._ahead and not self._ended:
            at, self._position = self._position, self._position + self._block
            self._ended = self._position >= self._size
            self._pending.append(self._threads.start("codec", self._step, at, self._ended))

    def _step(self, position: int, is_last: bool) -> bytes:
        with self._lock:
            if self._released:
                return b""
            self._running += 1
        try:
            block = self._read(position, min(self._block, self._size - position))
            made = self._codec.feed(block) if block else b""
            return made + self._codec.finish() if is_last else made
        finally:
            with self._lock:
                self._running -= 1
                self._close_unused()

    def _read(self, position: int, count: int) -> bytes:
        try:
            block = os.pread(self._descriptor, count, position)
        except OSError as error:
            raise SourceBroke(f"the content cannot be read: {error.strerror}") from error
        if len(block) != count:
            raise SourceBroke(f"the content ends before its {self._size} bytes")
        return block

    def release(self) -> None:
        """Let go of the content, now or when the step under way has ended; may be called twice."""
        for future in self._pending:
            future.add_done_callback(_forget)
        self._pending.clear()
        self._ended = True
        with self._lock:
            self._released = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._released and not self._running and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _forget(future: asyncio.Future[bytes]) -> None:
    if not future.cancelled():
        future.exception()
