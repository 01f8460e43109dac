"""Making files and directories durable, many in one visit to a thread.

Small files are written in the event loop; what each of them would wait for is the disk.  While
one batch is at the disk the next one gathers, as in a group commit: eight deliveries at a time
then need one hand-over instead of eight, and one sync of the directory they share.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from ecpds.base.threads import Threads


@dataclass(slots=True, eq=False)
class _Wish:
    """One descriptor to be synced."""

    descriptor: int
    directory: bool
    done: asyncio.Future[bool]  # true: synced; false: lead the next batch
    error: OSError | None = None


class Syncs:
    """Gathers wishes to sync; one for the process, used from its event loop."""

    def __init__(self) -> None:
        self._wishes: list[_Wish] = []
        self._busy = False

    async def file(self, threads: Threads, descriptor: int) -> None:
        """Write the content of an open file to the disk; raises OSError."""
        await self._sync(threads, descriptor, directory=False)

    async def directory(self, threads: Threads, descriptor: int) -> None:
        """Write the names in a directory, open at least with O_PATH, to the disk."""
        await self._sync(threads, descriptor, directory=True)

    async def _sync(self, threads: Threads, descriptor: int, *, directory: bool) -> None:
        wish = _Wish(descriptor, directory, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._busy:
            try:
                if await wish.done:
                    return _answer(wish)
            except asyncio.CancelledError:
                self._leave(wish)
                raise
        await self._lead(threads, wish)
        return _answer(wish)

    async def _lead(self, threads: Threads, own: _Wish) -> None:
        """Sync all that waits, then let the first of those who came meanwhile lead."""
        self._busy = True
        batch, self._wishes = self._wishes, []
        try:
            await threads.run("disk", _sync_all, batch)
        except BaseException:
            # the one who led was cancelled: the others need not know, they are synced once more
            self._wishes[:0] = [w for w in batch if w is not own and not w.done.cancelled()]
            self._pass_on()
            raise
        for wish in batch:
            if not wish.done.done():
                wish.done.set_result(True)
        self._pass_on()

    def _pass_on(self) -> None:
        self._busy = False
        for wish in self._wishes:
            if not wish.done.done():
                self._busy = True
                wish.done.set_result(False)
                return

    def _leave(self, wish: _Wish) -> None:
        if wish in self._wishes:
            self._wishes.remove(wish)
            if wish.done.done() and not wish.done.cancelled() and not wish.done.result():
                self._pass_on()  # it was to lead


def _answer(wish: _Wish) -> None:
    if wish.error is not None:
        raise wish.error


def _sync_all(batch: list[_Wish]) -> None:
    seen: dict[tuple[int, int], OSError | None] = {}
    for wish in batch:
        try:
            if not wish.directory:
                os.fdatasync(wish.descriptor)
                continue
            state = os.fstat(wish.descriptor)
            key = state.st_dev, state.st_ino
            if key not in seen:
                seen[key] = sync_names(wish.descriptor)
            wish.error = seen[key]
        except OSError as error:
            wish.error = error


def synced(descriptor: int) -> bool:
    """Write the content of an open file to the disk; False when it failed.  Blocks."""
    try:
        os.fdatasync(descriptor)
    except OSError:
        return False
    return True


def sync_names(descriptor: int) -> OSError | None:
    """Write the names in a directory, open at least with O_PATH, to the disk.  Blocks."""
    try:
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        return error
    return None
