"""Reading an open file for the network without holding up the loop.

What is in the page cache is copied in the loop, because a hand-over to a thread costs more than the
copy; what is not is read in a thread.  The kernel tells the difference (RWF_NOWAIT).
"""

from __future__ import annotations

import errno
import os

from ecpds.base.threads import Threads
from ecpds.model.errors import SourceBroke

BLOCK = 256 * 1024  # bytes
_NOT_NOW = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL})


class FileBlocks:
    """Reads blocks of files."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def read(self, descriptor: int, offset: int, length: int) -> bytearray:
        """Return `length` bytes from `offset`; raise SourceBroke when the file is shorter."""
        block = bytearray(length)
        got = cached(descriptor, block, offset)
        if got < length:
            await self._threads.run("disk", _fill, descriptor, block, offset, got)
        return block


def cached(descriptor: int, block: bytearray, offset: int) -> int:
    """Fill `block` as far as the page cache goes; return how many bytes that were."""
    try:
        return os.preadv(descriptor, (block,), offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _NOT_NOW:
            raise SourceBroke(f"reading the file failed: {error.strerror}") from error
        return 0


def _fill(descriptor: int, block: bytearray, offset: int, got: int) -> None:
    view = memoryview(block)
    while got < len(block):
        try:
            count = os.preadv(descriptor, (view[got:],), offset + got)
        except OSError as error:
            raise SourceBroke(f"reading the file failed: {error.strerror}") from error
        if not count:
            raise SourceBroke("the file is shorter than it was when it was opened")
        got += count
