"""Content on its way out: a plain descriptor, or bytes in memory.

Blocks up to 256 KiB come from the page cache faster than a thread can be asked for them, so that
a small file is one read in the loop; larger content is read in the disk pool, a MiB at a time.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from ecpds.base.threads import Threads
from ecpds.model.errors import SourceBroke
from ecpds.transfer.contract import ByteSource
from ecpds.transfer.meter import Meter

SMALL = 256 * 1024
"""Bytes that are read in the loop; more goes to the disk pool."""

READ = 1024 * 1024
"""Bytes of one read in the disk pool."""


class ContentSource(ByteSource):
    """A plain file, given as a descriptor that stays open while this is in use.

    `size` is the size that the content must have: an end before it raises SourceBroke.
    """

    def __init__(
        self,
        descriptor: int,
        size: int,
        *,
        threads: Threads,
        meter: Meter | None = None,
        block_size: int = SMALL,
    ) -> None:
        self.descriptor = descriptor
        self.offset = 0
        self.size = size
        self.meter = meter or Meter()
        self._total = size
        self._threads = threads
        self._block_size = block_size

    def start_at(self, offset: int) -> None:
        """Begin again at that byte."""
        if not 0 <= offset <= self._total:
            raise SourceBroke(f"the content has {self._total} bytes, none at {offset}")
        self.offset = offset
        self.size = self._total - offset

    async def allow(self, count: int) -> int:
        """Wait for the rate limits; return how many of `count` bytes may go."""
        return await self.meter.allow(count) if self.meter.limited else count

    def count(self, sent: int) -> None:
        """Count bytes taken through the descriptor; raises RemoteCancelled after a stop."""
        self.meter.add(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks of at most the block size, counted when the taker comes back for more."""
        position = self.offset
        while position < self._total:
            chunk = await self._read(position, self._total - position)
            position += len(chunk)
            async for block in self._blocks(chunk):
                yield block

    async def _blocks(self, chunk: bytes) -> AsyncIterator[bytes]:
        start = 0
        while start < len(chunk):
            count = await self.allow(min(self._block_size, len(chunk) - start))
            whole = count == len(chunk)
            yield chunk if whole else chunk[start : start + count]
            self.meter.add(count)
            start += count

    async def _read(self, position: int, left: int) -> bytes:
        try:
            if left <= SMALL:
                chunk = os.pread(self.descriptor or 0, left, position)
            else:
                count = min(READ, left)
                chunk = await self._threads.run(
                    "disk", os.pread, self.descriptor or 0, count, position
                )
        except OSError as error:
            raise SourceBroke(f"the content cannot be read: {error.strerror}") from error
        if not chunk:
            raise SourceBroke(f"the content ends at {position} instead of {self._total} bytes")
        return chunk


class BytesSource(ByteSource):
    """A few bytes in memory (sidecar files, probes)."""

    def __init__(self, content: bytes, *, meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self._content = content
        self.start_at(0)

    def start_at(self, offset: int) -> None:
        """Begin again at that byte."""
        self.offset = offset
        self.size = len(self._content) - offset

    def count(self, sent: int) -> None:
        """Count bytes."""
        self.meter.add(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the content as one block, nothing when it is empty."""
        if self.size > 0:
            yield self._content[self.offset :]
            self.meter.add(self.size)
