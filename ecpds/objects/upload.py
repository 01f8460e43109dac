"""An object on its way in: a temporary file that takes bytes in any order and knows its gaps."""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
from pathlib import Path

from isal import isal_zlib

from ecpds.model.errors import Incomplete, StorageFull
from ecpds.objects.volume import Volume

MOST_GAPS = 4096  # pieces that may lie ahead of the first missing byte
ROOM_EVERY = 16 * 1024 * 1024  # bytes between two looks at the free space


class Upload:
    """Bytes received so far, their Adler-32, and the temporary file that holds them."""

    __slots__ = (
        "_adler",
        "_ahead",
        "_next_look",
        "descriptor",
        "key",
        "path",
        "received",
        "volume",
    )

    def __init__(self, volume: Volume, key: str, path: Path, descriptor: int) -> None:
        self.volume = volume
        self.key = key
        self.path = path
        self.descriptor = descriptor
        self.received = 0  # bytes without a gap from the start on
        self._adler: int | None = 1
        self._ahead: list[tuple[int, int]] = []  # [start, end) pieces behind a gap, sorted
        self._next_look = ROOM_EVERY

    @property
    def adler(self) -> int | None:
        """Return the running checksum, None when it must be computed from the file."""
        return self._adler

    @property
    def has_gap(self) -> bool:
        """Tell whether bytes are missing before the last one received."""
        return bool(self._ahead)

    def write(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> int:
        """Write `data` at `offset` (None: behind what is there); return its length.

        Raises StorageFull when the volume has no room above its reserve.
        """
        start = self.received if offset is None else offset
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], start + done)
        except OSError as error:
            raise full(error, self.volume) from error
        self._account(start, start + len(view), view)
        return len(view)

    def advance(self, count: int) -> None:
        """Tell that the kernel wrote `count` bytes behind what was there."""
        self._adler = None
        self._account(self.received, self.received + count, None)

    def _account(self, start: int, end: int, view: memoryview | None) -> None:
        if start == self.received and not self._ahead:
            if self._adler is not None and view is not None:
                self._adler = isal_zlib.adler32(view, self._adler)
            self.received = end
        else:
            self._adler = None
            self._merge(start, end)
        if self.received >= self._next_look:
            self._next_look = self.received + ROOM_EVERY
            self.volume.check_room(0)

    def _merge(self, start: int, end: int) -> None:
        if start > self.received:
            bisect.insort(self._ahead, (start, end))
            if len(self._ahead) > MOST_GAPS:
                self._compact()
            if len(self._ahead) > MOST_GAPS:
                raise Incomplete(f"more than {MOST_GAPS} gaps in one upload")
        else:
            self.received = max(self.received, end)
        while self._ahead and self._ahead[0][0] <= self.received:
            self.received = max(self.received, self._ahead.pop(0)[1])

    def _compact(self) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in self._ahead:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._ahead = merged

    def cut(self, size: int) -> None:
        """Keep only the first `size` bytes."""
        os.ftruncate(self.descriptor, size)
        self.received = size
        self._ahead.clear()
        self._adler = 1 if size == 0 else None

    def reopen_at(self, size: int) -> None:
        """Go on with a file that already holds `size` bytes."""
        self.received = size
        self._adler = 1 if size == 0 else None

    def take_over(self, size: int, adler: int | None) -> None:
        """Tell that the file holds `size` bytes, written by somebody else, and their checksum."""
        self.received = size
        self._adler = adler
        self._ahead.clear()

    def discard(self) -> None:
        """Close and remove the temporary file; may be called twice."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Close the descriptor and leave the file; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def full(error: OSError, volume: Volume) -> Exception:
    """Turn 'no space' into our own error, leave others as they are."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        volume.forget_free()
        return StorageFull(f"volume {volume.name} is full", volume=volume.name)
    return error
