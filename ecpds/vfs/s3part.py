"""One part of an upload on its way to the disk, and the rooms where requests for one upload meet.

Parts of one length are written where the object wants them, all into one temporary file.  What does
not fit (a part sent twice, a longer part) lies in a file of its own.  A stored part is never
written to again.  Spec: portal.md 3.6; interface.md 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from isal import isal_zlib

from ecpds.engine.core import Core
from ecpds.model.errors import (
    NotFound,
    SourceBroke,
    Stopping,
    TooLarge,
)
from ecpds.objects.directory import sync_directory
from ecpds.objects.upload import Upload, full
from ecpds.objects.volume import Volume
from ecpds.store import multipart
from ecpds.store.db import Connection
from ecpds.store.multipart import StoredPart, StoredUpload
from ecpds.vfs.limits import Pace
from ecpds.vfs.s3contract import PartInfo, PartWriter, UploadInfo

SMALLEST_STRIDE: Final = 5 * 1024 * 1024
"""Parts below it can only be the last, so none tells where the others belong."""

LARGEST_PLACE: Final = 1 << 42  # bytes; the end of a sparse file that every file system takes
COPY_BLOCK: Final = 16 * 1024 * 1024  # bytes that the kernel copies between two looks
ROOM_EVERY: Final = 16 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Room:
    """One unfinished upload while requests are at it."""

    guests: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # of the choice of places
    volume: Volume | None = None
    name: str = ""  # of the common file
    stride: int = 0
    descriptor: int = -1
    placed: set[int] = field(default_factory=set)  # numbers being written in the common file
    is_closed: bool = False  # it is being completed: nobody may write any more
    copying: int = 0  # kernel copies that run
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        """Raise NotFound once the upload is being completed or aborted."""
        if self.is_closed:
            raise NotFound("the upload has ended")


class Rooms:
    """The unfinished uploads of a node that requests are at."""

    def __init__(self) -> None:
        self._open: dict[str, Room] = {}

    def enter(self, number: str) -> Room:
        """Return the room of an upload; leave it afterwards."""
        room = self._open.setdefault(number, Room())
        room.guests += 1
        return room

    def leave(self, number: str) -> None:
        """Forget a room that nobody is in any more."""
        room = self._open.get(number)
        if room is None:
            return
        room.guests -= 1
        if not room.guests:
            del self._open[number]
            if room.descriptor >= 0:
                os.close(room.descriptor)
                room.descriptor = -1


class PortalPart(PartWriter):
    """A part on its way."""

    def __init__(
        self, core: Core, rooms: Rooms, room: Room, info: UploadInfo, number: int, limit: int | None
    ) -> None:
        self.descriptor = -1
        self.offset = 0
        self.received = 0
        self.room = room
        self._core = core
        self._rooms = rooms
        self._info = info
        self._number = number
        self._limit = limit
        self._own: Upload | None = None  # the file, when it is not the common one
        self._volume: Volume | None = None
        self._name = ""
        self._adler: int | None = 1
        self._next_look = ROOM_EVERY
        self._is_open = True
        self._is_stored = False
        self._pace = Pace(None)

    # --- where it goes ------------------------------------------------------------------

    async def place(self, stored: StoredUpload, size: int | None, rate: int | None) -> None:
        """Choose where the bytes go."""
        room = self.room
        self.rate = rate
        self._pace = Pace(rate)
        before = await self._core.store.read(multipart.part_of, self._info.id, self._number)
        async with room.lock:
            room.check()
            if before is None and size is not None and self._number not in room.placed:
                await self._common(stored, size)
            if self.descriptor < 0:
                self._apart(size)

    async def _common(self, stored: StoredUpload, size: int) -> None:
        room = self.room
        if room.descriptor < 0:
            await self._open_common(stored, size)
        if room.volume is None or not 0 < size <= room.stride:
            return
        offset = (self._number - 1) * room.stride
        if offset + size > LARGEST_PLACE:
            return
        room.volume.check_room(size)
        room.placed.add(self._number)
        self.descriptor, self.offset = room.descriptor, offset
        self._volume, self._name = room.volume, room.name

    async def _open_common(self, stored: StoredUpload, size: int) -> None:
        """Open the common file; the first part that is long enough to be told makes it."""
        room, core = self.room, self._core
        fresh = await core.store.read(multipart.upload, stored.id)
        if fresh is not None and fresh.temporary:
            with contextlib.suppress(NotFound, FileNotFoundError):
                volume = core.objects.volume(fresh.volume)
                path = volume.temporary / Path(fresh.temporary).name
                room.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                room.volume, room.name, room.stride = volume, path.name, fresh.stride
            return
        if size < SMALLEST_STRIDE:
            return
        made = core.objects.create(size)
        try:
            await core.store.write(
                multipart.set_base, stored.id, made.volume.name, made.path.name, size
            )
        except BaseException:
            made.discard()
            raise
        room.descriptor, made.descriptor = made.descriptor, -1
        room.volume, room.name, room.stride = made.volume, made.path.name, size

    def _apart(self, size: int | None) -> None:
        self._own = self._core.objects.create(size)
        self.descriptor, self.offset = self._own.descriptor, 0
        self._volume, self._name = self._own.volume, self._own.path.name

    # --- bytes --------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write a block."""
        self.room.check()
        self._check(self.received + len(data))
        view, done = memoryview(data), 0
        start = self.offset + self.received
        try:
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], start + done)
        except OSError as error:
            raise full(error, self._place_of()) from error
        if self._adler is not None:
            self._adler = isal_zlib.adler32(view, self._adler)
        self._count(done)
        return done

    def _count(self, count: int) -> None:
        self.received += count
        if self.received >= self._next_look:
            self._next_look = self.received + ROOM_EVERY
            self._place_of().check_room(0)

    def _place_of(self) -> Volume:
        if self._volume is None:
            raise Stopping("the part has ended")
        return self._volume

    def _check(self, end: int) -> None:
        if self._limit is not None and end > self._limit:
            raise TooLarge(f"the object would be larger than {self._limit} bytes allow")

    def pause(self) -> float:
        """Return the seconds to wait before the next block."""
        return self._pace.pause(self.received)

    async def take(self, source: int, offset: int, length: int) -> None:
        """Let the kernel copy bytes of an open file."""
        room, run = self.room, self._core.threads.run
        self._check(length)
        self._adler = 1
        while self.received < length:
            count = min(COPY_BLOCK, length - self.received)
            room.check()
            room.copying += 1
            try:
                where = self.offset + self.received
                await run("disk", copy_all, source, self.descriptor, count, offset, where)
                self._adler = await run(
                    "digest", _adler, self.descriptor, where, count, self._adler
                )
            finally:
                room.copying -= 1
                if not room.copying:
                    room.quiet.set()
            offset += count
            self._count(count)

    # --- the end ------------------------------------------------------------------------

    async def finish(self, *, md5: str, checksums: Mapping[str, str]) -> PartInfo:
        """Make the part durable."""
        core, volume = self._core, self._place_of()
        self.room.check()
        part = StoredPart(
            number=self._number, volume=volume.name, temporary=self._name, place=self.offset,
            size=self.received, adler=1 if self._adler is None else self._adler, md5=md5,
            checksums=checksums, stored_at=core.clock.now(),
        )  # fmt: skip
        if core.settings.store.durability == "full":
            await core.threads.run("disk", _sync, self.descriptor, volume.temporary)
        core.failpoints.hit("objects.synced")
        async with self.room.lock:
            self.room.check()  # else it would be stored behind the back of the completion
            gone = await core.store.write(store_part, self._info.id, part)
        self._is_stored = True
        forget([(core.objects.volume(one.volume), one.temporary) for one in gone])
        return info_of(part)

    async def close(self) -> None:
        """Release."""
        if not self._is_open:
            return
        self._is_open = False
        self.room.placed.discard(self._number)
        if self._own is not None:
            if self._is_stored:
                self._own.close()
            else:
                self._own.discard()
        self.descriptor = -1
        self._rooms.leave(self._info.id)


def store_part(db: Connection, upload: str, part: StoredPart) -> list[StoredPart]:
    """Store a part; return the one that it replaces, if that had a file of its own.

    Raises NotFound when the upload has ended meanwhile.
    """
    found = multipart.upload(db, upload)
    if found is None or found.etag is not None:
        raise NotFound("the upload has ended")
    before = multipart.put_part(db, upload, part)
    if before is None or before.temporary in (found.temporary, part.temporary):
        return []
    return [before]


def copy_all(source: int, target: int, count: int, offset: int, where: int) -> None:
    """Copy bytes between files in the kernel; for the `disk` pool.  SourceBroke at an early end."""
    done = 0
    while done < count:
        moved = os.copy_file_range(source, target, count - done, offset + done, where + done)
        if not moved:
            raise SourceBroke("the source is shorter than it was")
        done += moved


def _adler(descriptor: int, offset: int, count: int, value: int) -> int:
    done = 0
    while done < count:
        block = os.pread(descriptor, min(1 << 20, count - done), offset + done)
        if not block:
            raise SourceBroke("the part is shorter than it was")
        value = isal_zlib.adler32(block, value)
        done += len(block)
    return value


def _sync(descriptor: int, directory: Path) -> None:
    os.fdatasync(descriptor)
    sync_directory(directory)


def forget(gone: Sequence[tuple[Volume, str]]) -> None:
    """Remove files of parts."""
    for volume, name in gone:
        (volume.temporary / Path(name).name).unlink(missing_ok=True)


def info_of(part: StoredPart) -> PartInfo:
    """Return what a client may know of a part."""
    return PartInfo(
        number=part.number,
        size=part.size,
        md5=part.md5,
        checksums=part.checksums,
        stored_at=part.stored_at,
    )
