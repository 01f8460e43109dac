"""Content of requests that can be sent twice: a stretch of a file, or bytes in memory.

Digests that stand before the content are computed in a thread, from the page cache.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from crc32c import crc32c

from ecpds.base.threads import Threads
from ecpds.model.errors import SourceBroke
from ecpds.modules.s3_sign import UNSIGNED
from ecpds.transfer.contract import ByteSource
from ecpds.transfer.meter import Meter

READ: Final = 512 * 1024
"""Bytes that are read and sent at a time."""

IN_LOOP: Final = 256 * 1024
"""Bytes whose digests are computed in the loop; more goes to a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What is said of a body before it is sent."""

    payload: str  # SHA-256 in hex, or UNSIGNED
    crc32c: str  # base64, empty = not asked for

    def headers(self) -> dict[str, str]:
        """Return the headers that let the service compare."""
        if not self.crc32c:
            return {}
        # the second one is for services that look for it first (moto)
        return {
            "x-amz-checksum-crc32c": self.crc32c,
            "x-amz-sdk-checksum-algorithm": "CRC32C",
        }


class Slice(ByteSource):
    """A stretch of a file; counts and waits as the content that it is part of."""

    def __init__(self, whole: ByteSource, start: int, size: int, threads: Threads) -> None:
        self.descriptor = None
        self.offset = start
        self.size = size
        self.meter = whole.meter
        self._whole = whole
        self._file = whole.descriptor if whole.descriptor is not None else -1
        self._threads = threads

    def start_at(self, offset: int) -> None:
        """Begin again; always the whole stretch."""

    def count(self, sent: int) -> None:
        """Count bytes."""
        self._whole.count(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks."""
        position, end = self.offset, self.offset + self.size
        while position < end:
            count = await self._whole.allow(min(READ, end - position))
            block = await self._threads.run("disk", _read, self._file, count, position)
            yield block
            self._whole.count(len(block))
            position += len(block)


class Bytes(ByteSource):
    """A part that was collected before; its bytes were counted then."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.offset = 0
        self.size = len(content)
        self.meter = Meter()
        self._content = content

    def start_at(self, offset: int) -> None:
        """Begin again; always at the first byte."""

    def count(self, sent: int) -> None:
        """Count nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks."""
        view = memoryview(self._content)
        for start in range(0, self.size, READ):
            yield bytes(view[start : start + READ])


def _read(file: int, count: int, position: int) -> bytes:
    try:
        block = os.pread(file, count, position)
    except OSError as error:
        raise SourceBroke(f"the content cannot be read: {error.strerror}") from error
    if not block:
        raise SourceBroke(f"the content ends at byte {position}")
    return block


def _finished(digest: Any, crc: int, *, with_crc: bool) -> Digests:
    payload = UNSIGNED if digest is None else digest.hexdigest()
    return Digests(payload=payload, crc32c=b64encode(crc.to_bytes(4, "big")).decode() * with_crc)


def digests_of(content: bytes | bytearray, *, signed: bool, with_crc: bool) -> Digests:
    """Return the digests of bytes."""
    digest = hashlib.sha256(content) if signed else None
    return _finished(digest, crc32c(content) if with_crc else 0, with_crc=with_crc)


def digests_of_slice(file: int, start: int, size: int, *, signed: bool, with_crc: bool) -> Digests:
    """Return the digests of a stretch of a file; blocks. Raises SourceBroke."""
    digest = hashlib.sha256() if signed else None
    crc, position, end = 0, start, start + size
    while position < end:
        block = _read(file, min(READ, end - position), position)
        position += len(block)
        if digest is not None:
            digest.update(block)
        if with_crc:
            crc = crc32c(block, crc)
    return _finished(digest, crc, with_crc=with_crc)
