"""A sink that takes a remote file into an object on its way in."""

from __future__ import annotations

import os

from ecpds.base.threads import Threads
from ecpds.objects.upload import Upload, full
from ecpds.transfer.contract import ByteSink

SMALL = 256 * 1024  # bytes that are copied in the loop: a hop to a thread costs more


class UploadSink(ByteSink):
    """Writes what comes into an `Upload`; closing and sealing are the caller's."""

    def __init__(self, upload: Upload, threads: Threads) -> None:
        self._upload = upload
        self._threads = threads

    async def write(self, block: bytes | memoryview) -> None:
        """Take one block in order; raises StorageFull."""
        self._upload.write(block)

    async def copy_from(self, descriptor: int, offset: int, count: int) -> int:
        """Copy up to `count` bytes of a local file; return how many, 0 at its end."""
        if count <= SMALL:
            block = os.pread(descriptor, count, offset)
            self._upload.write(block)
            return len(block)
        copied = await self._threads.run("disk", self._copy, descriptor, offset, count)
        self._upload.advance(copied)
        return copied

    def _copy(self, descriptor: int, offset: int, count: int) -> int:
        try:
            return os.copy_file_range(
                descriptor, self._upload.descriptor, count, offset, self._upload.received
            )
        except OSError as error:
            raise full(error, self._upload.volume) from error
