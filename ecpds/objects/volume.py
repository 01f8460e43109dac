"""A directory tree on one file system, with the room that is left in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from concurrent.futures import Executor
from pathlib import Path

from ecpds.model.errors import StorageFull

LOOK_EVERY = 0.5  # seconds a free-space figure is believed


class Volume:
    """One place for objects.

    The free space is asked for in a thread, never in the loop: a hung network file system must not
    hold up anybody.  `room` may therefore be half a second old; sealing looks itself.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        reserve: int = 0,
        weight: int = 100,
        groups: Collection[str] = (),
    ) -> None:
        self.name = name
        self.groups = groups
        self.path = path
        self.path_text = str(path)  # opened for every small file
        self.temporary_text = str(path / "tmp")
        self.reserve = reserve
        self.weight = weight
        self._free = 0
        self._total = 0
        self._looked = float("-inf")
        self._executor: Executor | None = None
        self._looking = threading.Lock()

    @property
    def temporary(self) -> Path:
        """Return the directory of uploads under way."""
        return self.path / "tmp"

    def prepare(self, executor: Executor) -> None:
        """Create the directories and look for the first time; blocks."""
        self.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._executor = executor
        self.look()

    def forget_free(self) -> None:
        """Look anew at the next question for free space."""
        self._looked = float("-inf")

    def look(self) -> int:
        """Ask the file system now; blocks.  Return the room."""
        figures = os.statvfs(self.path)
        self._free = figures.f_bavail * figures.f_frsize
        self._total = figures.f_blocks * figures.f_frsize
        self._looked = time.monotonic()
        return self._free - self.reserve

    def _look_soon(self) -> None:
        stale = time.monotonic() - self._looked > LOOK_EVERY
        if stale and self._executor is not None and self._looking.acquire(blocking=False):
            self._executor.submit(self._look_and_release)

    def _look_and_release(self) -> None:
        try:
            self.look()
        finally:
            self._looking.release()

    @property
    def room(self) -> int:
        """Return the bytes that may still be stored; 0 or less when the reserve is reached."""
        self._look_soon()
        return self._free - self.reserve

    @property
    def total(self) -> int:
        """Return the size of the file system in bytes."""
        self._look_soon()
        return self._total

    def check_room(self, size: int) -> None:
        """Raise StorageFull unless `size` more bytes fit above the reserve."""
        if self.room < max(size, 1):
            raise StorageFull(
                f"volume {self.name} has no room for {size} bytes above its reserve",
                volume=self.name,
                room=self.room,
            )
