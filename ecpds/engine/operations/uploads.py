"""Uploads that go on where they broke off: bytes first, a submission when they are all there.

What is acknowledged of them is on disk: after a power cut a program goes on behind it.  They go
24 hours after they were last used (`engine.retention`).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ecpds.engine.operations.files import FileOperations
from ecpds.engine.retention import PARKED_FOR
from ecpds.engine.submit import Registered, Submission, storage_group
from ecpds.engine.supervisor import Engine
from ecpds.model.errors import BadState, ChecksumMismatch, Conflict, Incomplete, NotFound, TooLarge
from ecpds.objects.digests import digests_of
from ecpds.objects.upload import Upload
from ecpds.store import uploads
from ecpds.store.uploads import ParkedUpload

MOST: Final = 200  # uploads of one owner at a time
BLOCK: Final = 1024 * 1024  # bytes that one call of `upload.write` takes
WAIT: Final = 10.0  # seconds for whoever sends the same upload
NOTE_LIMIT: Final = 60.0  # seconds to make the last bytes durable
SYNC_EVERY: Final = 64 * 1024 * 1024  # bytes between two notes of how far it came


class UploadOperations:
    """Verbs on uploads of programs."""

    def __init__(self, engine: Engine, files: FileOperations) -> None:
        self._core = engine.core
        self._files = files
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._using: Counter[tuple[str, str]] = Counter()

    @property
    def kept_for(self) -> timedelta:
        """Return how long an upload waits for its next bytes."""
        return PARKED_FOR

    async def list(self, owner: str) -> list[ParkedUpload]:
        """Return the uploads of an owner by name."""
        return await self._core.store.read(uploads.of_owner, owner)

    async def get(self, owner: str, name: str) -> ParkedUpload:
        """Return one upload; NotFound."""
        found = await self._core.store.read(uploads.get, owner, name)
        if found is None:
            raise NotFound(f"Upload {name} not found")
        return found

    async def begin(self, owner: str, name: str, destination: str) -> tuple[ParkedUpload, bool]:
        """Return the upload of that name and whether it is new; Conflict, StorageFull."""
        known = await self._core.store.read(uploads.get, owner, name)
        if known is not None:
            if known.destination != destination:
                raise Conflict(f"Upload {name} is for destination {known.destination}")
            return known, False
        if len(await self.list(owner)) >= MOST:
            raise BadState(f"{MOST} uploads wait already: delete some", status="too-many")
        entry = self._core.snapshot.destination(destination)
        upload = self._core.objects.create(group=storage_group(entry, ""))
        upload.close()
        now = self._core.clock.now()
        made = ParkedUpload(
            name=name, destination=destination, volume=upload.volume.name,
            temporary=upload.path.name, received=0, used_at=now,
        )  # fmt: skip
        await self._core.store.write(uploads.put, owner, made, now=now)
        return made, True

    async def append(
        self, owner: str, name: str, offset: int, blocks: AsyncIterator[bytes]
    ) -> ParkedUpload:
        """Write what comes behind `offset`; return how far it came.

        What came before the sender broke off is kept.  Raises Conflict for another offset or a
        second sender, TooLarge, StorageFull.
        """
        async with self._alone(owner, name):
            one = await self.get(owner, name)
            if offset != one.received:
                text = f"{one.received} bytes are there, not {offset}"
                raise Conflict(text, received=one.received)
            return await self._append(owner, one, blocks)

    @asynccontextmanager
    async def _alone(self, owner: str, name: str) -> AsyncIterator[None]:
        """Keep others off an upload; who comes while one that broke off is noted waits for that."""
        key = (owner, name)
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._using[key] += 1
        try:
            try:
                async with asyncio.timeout(WAIT):
                    await lock.acquire()
            except TimeoutError:
                raise BadState("somebody is sending it now", status="busy") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            self._using[key] -= 1
            if not self._using[key]:
                del self._using[key], self._locks[key]

    async def _append(
        self, owner: str, one: ParkedUpload, blocks: AsyncIterator[bytes]
    ) -> ParkedUpload:
        entry = self._core.snapshot.destination(one.destination)
        most = entry.destination.max_file_size
        upload = self._core.objects.reopen(one.volume, one.temporary, one.received)
        try:
            async for block in blocks:
                if most is not None and upload.received + len(block) > most:
                    raise TooLarge(f"Destination {one.destination} accepts at most {most} bytes")
                for start in range(0, len(block), BLOCK):
                    upload.write(memoryview(block)[start : start + BLOCK])
                if upload.received - one.received >= SYNC_EVERY:
                    one = await self._noted(owner, one, upload)
        finally:
            try:
                async with asyncio.timeout(NOTE_LIMIT):  # also when the sender is gone
                    one = await self._noted(owner, one, upload)
            finally:
                upload.close()
        return one

    async def _noted(self, owner: str, one: ParkedUpload, upload: Upload) -> ParkedUpload:
        """Make what came durable, then remember how much it is."""
        received, now = upload.received, self._core.clock.now()
        await self._core.threads.run("disk", os.fdatasync, upload.descriptor)
        moved = replace(one, received=received, used_at=now)
        await self._core.store.write(uploads.put, owner, moved, now=now)
        return moved

    async def submit(
        self, owner: str, name: str, submission: Submission, *, size: int | None,
        digests: dict[str, str],
    ) -> Registered:  # fmt: skip
        """Register the bytes; the upload is gone then, and stays when anything is wrong.

        `digests` are algorithm to hex as the sender has them.  Raises as `engine.submit` does, and
        Incomplete, ChecksumMismatch.
        """
        async with self._alone(owner, name):
            return await self._submit(owner, name, submission, size, digests)

    async def _submit(
        self, owner: str, name: str, submission: Submission, size: int | None,
        digests: dict[str, str],
    ) -> Registered:  # fmt: skip
        one = await self.get(owner, name)
        if size is not None and size != one.received:
            raise Incomplete(f"{one.received} of {size} bytes are there")
        upload = self._core.objects.adopt(one.volume, one.temporary)
        try:
            wanted = ["adler32", *(key for key in digests if key != "adler32")]
            found = await self._core.threads.run("digest", digests_of, upload.descriptor, wanted)
            for algorithm, value in digests.items():
                if found[algorithm] != value.lower():
                    raise ChecksumMismatch(f"{algorithm} is {found[algorithm]}, not {value[:128]}")
            upload.take_over(one.received, int(found["adler32"], 16))
        except BaseException:
            upload.discard()
            raise
        registered = await self._files.submit(submission, upload)
        await self.delete(owner, name)
        return registered

    async def delete(self, owner: str, name: str) -> None:
        """Forget an upload and its bytes; NotFound."""
        one = await self.get(owner, name)
        await self._core.store.write(uploads.delete, owner, name)
        path = self._core.objects.volume(one.volume).temporary / Path(one.temporary).name

        def remove() -> None:
            with suppress(FileNotFoundError):
                path.unlink()

        await self._core.threads.run("disk", remove)

    def expires_at(self, one: ParkedUpload) -> datetime:
        """Return when an upload goes if nothing more comes."""
        return one.used_at + PARKED_FOR
