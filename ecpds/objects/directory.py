"""The object directory: create, seal, open, remove.

An object is `<volume>/<yyyymmdd>/<hh>/<key>`; the day and hour are those of its arrival, so that
the files of one commit share a directory and one fsync makes all their names durable.  Uploads lie
below `<volume>/tmp/`.  Sealing is: fdatasync of the file, rename, fsync of the directory; a thread
does it for all uploads that wait together, and only then may metadata be committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import random
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ecpds.base.clock import Clock
from ecpds.base.failpoints import Failpoints
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError, NotFound, StorageFull
from ecpds.objects.digests import adler_of
from ecpds.objects.upload import Upload, full
from ecpds.objects.volume import Volume

SMALL = 1024 * 1024  # bytes; bigger files are synced one by one before they join a batch
BATCH = 128
SYNCERS = 8  # files of one batch synced at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A sealed object."""

    volume: str
    key: str
    size: int
    checksum: str  # Adler-32, 8 hex digits


class _Seal:
    __slots__ = ("error", "future", "upload")

    def __init__(self, upload: Upload, future: asyncio.Future[None]) -> None:
        self.upload, self.future = upload, future
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(None)


class ObjectDirectory:
    """All volumes of one node."""

    def __init__(
        self,
        volumes: Sequence[Volume],
        *,
        threads: Threads,
        clock: Clock,
        durability: Literal["full", "normal"] = "full",
        failpoints: Failpoints | None = None,
    ) -> None:
        self._volumes = {volume.name: volume for volume in volumes}
        self._for_all = [volume for volume in volumes if not volume.groups] or list(volumes)
        self._by_group: dict[str, list[Volume]] = {}
        for volume in volumes:
            for group in volume.groups:
                self._by_group.setdefault(group, []).append(volume)
        self._threads = threads
        self._clock = clock
        self._durable = durability == "full"
        self._failpoints = failpoints or Failpoints()
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._waiting: queue.SimpleQueue[_Seal | None] = queue.SimpleQueue()
        self._made: set[Path] = set()
        self._closed = False
        self._syncers = ThreadPoolExecutor(SYNCERS, thread_name_prefix="ecpds-sync")
        for volume in volumes:
            volume.prepare(self._syncers)
        self._sealer = threading.Thread(target=self._seal_all, name="ecpds-sealer", daemon=True)
        self._sealer.start()

    @property
    def volumes(self) -> list[Volume]:
        """Return the volumes in the order of configuration."""
        return list(self._volumes.values())

    def volume(self, name: str) -> Volume:
        """Return one volume; NotFound when it is configured no longer."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"volume {name!r} is not configured") from None

    def create(self, size: int | None = None, *, group: str = "") -> Upload:
        """Begin an object of about `size` bytes on a volume with room; StorageFull if none has.

        A storage group with volumes of its own uses only these, all others use the rest.
        """
        volume = self._choose(size or 0, self._by_group.get(group, self._for_all))
        key, name = self._new_key()
        path = f"{volume.temporary_text}/{name}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise full(error, volume) from error
        self._failpoints.hit("objects.opened")
        return Upload(volume, key, Path(path), descriptor)

    def _new_key(self) -> tuple[str, str]:
        """Return a new key and its last part."""
        now = self._clock.now()
        name = f"{self._random.getrandbits(96):024x}"
        return f"{now.year:04}{now.month:02}{now.day:02}/{now.hour:02}/{name}", name

    def reopen(self, volume: str, temporary: str, size: int) -> Upload:
        """Go on with a parked upload; NotFound when its file is gone or shorter than `size`."""
        place = self.volume(volume)
        path = place.temporary / Path(temporary).name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("the partial upload is gone") from None
        key = f"{self._clock.now():%Y%m%d/%H}/{self._random.getrandbits(96):024x}"
        upload = Upload(place, key, path, descriptor)
        if os.fstat(descriptor).st_size < size:
            upload.close()
            raise NotFound("the partial upload is shorter than that")
        os.ftruncate(descriptor, size)
        upload.reopen_at(size)
        return upload

    def link(self, volume: str, key: str) -> Upload:
        """Begin an object with the content of another, shared on the disk; never write to it.

        NotFound when the other is gone; OSError when the file system takes no more links.
        """
        place = self.volume(volume)
        name = f"{self._random.getrandbits(96):024x}"
        path = place.temporary / name
        try:
            os.link(place.path / key, path)
        except FileNotFoundError:
            raise NotFound(f"object {key} is missing on volume {volume}") from None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        upload = Upload(place, f"{self._clock.now():%Y%m%d/%H}/{name}", path, descriptor)
        upload.reopen_at(os.fstat(descriptor).st_size)
        return upload

    def adopt(self, volume: str, temporary: str) -> Upload:
        """Begin an object that shares the bytes of a temporary file; tell it what it holds.

        The other name stays, so that nothing is lost when the object is not registered.  NotFound
        when it is gone.
        """
        place = self.volume(volume)
        name = f"{self._random.getrandbits(96):024x}"
        path = place.temporary / name
        try:
            os.link(place.temporary / Path(temporary).name, path)
        except FileNotFoundError:
            raise NotFound("the parts of the upload are gone") from None
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return Upload(place, f"{self._clock.now():%Y%m%d/%H}/{name}", path, descriptor)

    def _choose(self, size: int, allowed: Sequence[Volume]) -> Volume:
        rooms = [(volume, volume.room) for volume in allowed]
        fitting = [(volume, room) for volume, room in rooms if room > max(size, 0)]
        if not fitting:
            raise StorageFull(f"no volume has room for {size} bytes above its reserve")
        if len(fitting) == 1:
            return fitting[0][0]
        weights = [room * volume.weight for volume, room in fitting]
        if not any(weights):
            weights = [room for _, room in fitting]
        return self._random.choices([volume for volume, _ in fitting], weights)[0]

    async def seal(self, upload: Upload) -> Stored:
        """Make the upload durable under its final name; the caller then commits metadata.

        The descriptor stays open.  Raises StorageFull or OSError; the temporary file is left then.
        """
        size = upload.received
        if upload.adler is None:
            checksum = await self._threads.run("digest", adler_of, upload.descriptor, size)
        else:
            checksum = f"{upload.adler:08x}"
        if self._durable and size > SMALL:
            try:
                await self._threads.run("disk", os.fdatasync, upload.descriptor)
            except OSError as error:
                raise full(error, upload.volume) from error
        future = asyncio.get_running_loop().create_future()
        self._waiting.put(_Seal(upload, future))
        await future
        return Stored(volume=upload.volume.name, key=upload.key, size=size, checksum=checksum)

    async def seal_lot(self, uploads: Sequence[Upload]) -> list[Stored | None]:
        """Make small uploads durable together; None for each that could not be, and is gone."""
        loop = asyncio.get_running_loop()
        seals = [_Seal(upload, loop.create_future()) for upload in uploads]
        for seal in seals:
            self._waiting.put(seal)
        done: list[Stored | None] = []
        for seal in seals:
            upload = seal.upload
            try:
                await seal.future
            except (EcpdsError, OSError):
                upload.discard()
                done.append(None)
            else:
                checksum = f"{upload.adler or 1:08x}"
                done.append(Stored(volume=upload.volume.name, key=upload.key,
                                   size=upload.received, checksum=checksum))  # fmt: skip
        return done

    def _seal_all(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            ended = False
            while len(batch) < BATCH:
                try:
                    one = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if one is None:
                    ended = True
                    break
                batch.append(one)
            try:
                self._seal_batch(batch)
            except (OSError, EcpdsError) as error:  # else the thread would end, and all uploads
                for one in batch:
                    one.error = one.error or error
            self._answer(batch)
            if ended:
                break

    def _seal_batch(self, batch: list[_Seal]) -> None:
        directories: dict[Path, list[_Seal]] = {}
        self._sync_batch(batch)
        for one in batch:
            if one.error is not None:
                continue
            try:
                directories.setdefault(self._seal_one(one.upload), []).append(one)
            except (OSError, EcpdsError) as error:
                one.error = error
        for directory, seals in directories.items():
            try:
                if self._durable:
                    sync_directory(directory)
            except OSError as error:
                for one in seals:
                    one.error = error
        self._failpoints.hit("objects.directory_synced")

    def _sync_batch(self, batch: list[_Seal]) -> None:
        """Sync all files of a batch side by side: the file system commits them together."""
        for volume in {one.upload.volume for one in batch}:
            if volume.look() < 0:
                volume_full = StorageFull(f"volume {volume.name} has reached its reserve")
                for one in batch:
                    if one.upload.volume is volume:
                        one.error = volume_full
        if self._durable:
            shares = [batch[number::SYNCERS] for number in range(min(SYNCERS, len(batch)))]
            if len(shares) == 1:
                _sync_some(shares[0])
            else:
                list(self._syncers.map(_sync_some, shares))
        self._failpoints.hit("objects.synced")

    def _seal_one(self, upload: Upload) -> Path:
        final = upload.volume.path / upload.key
        try:
            self._make(final.parent, upload.volume.path)
            upload.path.rename(final)
            upload.path = final
            self._failpoints.hit("objects.renamed")
        except OSError as error:
            raise full(error, upload.volume) from error
        return final.parent

    def _make(self, directory: Path, root: Path) -> None:
        if directory in self._made and directory.is_dir():
            return
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._durable:
            sync_directory(directory.parent)
            sync_directory(root)
        if len(self._made) > 1000:
            self._made.clear()
        self._made.add(directory)

    @staticmethod
    def _answer(batch: list[_Seal]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, nobody waits
            batch[0].future.get_loop().call_soon_threadsafe(_settle, batch)

    def path_text(self, volume: str, key: str) -> str:
        """Return where an object lies, as text."""
        return f"{self.volume(volume).path_text}/{key}"

    def path(self, volume: str, key: str) -> Path:
        """Return where an object lies."""
        return self.volume(volume).path / key

    def open(self, volume: str, key: str) -> int:
        """Return a read-only descriptor, to be closed by the caller; NotFound when it is gone."""
        try:
            return os.open(f"{self.volume(volume).path_text}/{key}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"object {key} is missing on volume {volume}") from None

    async def remove(self, objects: Sequence[tuple[str, str]]) -> None:
        """Remove objects (volume, key); missing ones are fine."""
        paths = [self.path(volume, key) for volume, key in objects if key]
        await self._threads.run("disk", remove_all, paths)
        for volume in self._volumes.values():
            volume.forget_free()

    def close(self) -> None:
        """Seal what waits and end the thread; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        self._sealer.join()
        self._syncers.shutdown()


def _sync_some(seals: list[_Seal]) -> None:
    for seal in seals:
        if seal.error is not None:
            continue
        try:
            os.fdatasync(seal.upload.descriptor)
        except OSError as error:
            seal.error = full(error, seal.upload.volume)


def _settle(batch: list[_Seal]) -> None:
    for one in batch:
        one.settle()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_all(paths: Iterable[Path]) -> None:
    """Unlink files; directories that became empty go too, up to the volume."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
