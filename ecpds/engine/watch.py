"""Tells at once when files appear in local directories: inotify, through the C library.

A name is told when its writer has closed it or it was renamed into place.  Whatever the kernel
could not tell (a full queue, a new directory, a link) asks for a sweep, an ordinary discovery.

Spec: inotify(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.base.threads import Threads
from ecpds.model.search import Search

log = get_logger(__name__)

CLOSE_WRITE: Final = 0x8
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
Q_OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ONLY_DIRECTORY: Final = 0x1000000
IS_DIRECTORY: Final = 0x40000000
NEW: Final = CLOSE_WRITE | MOVED_TO
MASK: Final = NEW | CREATE | ONLY_DIRECTORY
MOST_NAMES: Final = 10_000  # that wait; above it a sweep is cheaper
MOST_WATCHES: Final = 4096  # directories of one pair of destination and host
READ: Final = 64 * 1024
_HEAD: Final = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Found:
    """A name relative to the path of its line."""

    search: Search
    name: str


class Watch:
    """The watched directories of one acquisition Host for one Destination."""

    def __init__(self, wake: Callable[[], None], threads: Threads) -> None:
        """Open an inotify descriptor; raises OSError when the system gives none."""
        self._libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._wake = wake
        self._threads = threads
        self._places: dict[int, list[tuple[Search, str]]] = {}  # watch to lines and folder below
        self._paths: dict[str, int] = {}
        self._names: dict[tuple[int, str], Found] = {}
        self.is_overrun = False  # a sweep is needed
        self.told = 0  # names, since the start
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        """Watch nothing any more; may be called twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    # --- what a discovery says --------------------------------------------------------------

    def begin_sweep(self) -> None:
        """Forget what waits: the sweep that begins now sees all of it."""
        self.is_overrun = False
        self._names.clear()

    async def follow(self, folders: Sequence[tuple[Search, str, str]]) -> bool:
        """Watch the directories that a sweep has listed; tell whether any of them is new."""
        return await self._threads.run("disk", self._follow, folders)

    def _follow(self, folders: Sequence[tuple[Search, str, str]]) -> bool:
        wanted: dict[str, list[tuple[Search, str]]] = {}
        for search, below, path in folders[:MOST_WATCHES]:
            wanted.setdefault(path.rstrip("/") or "/", []).append((search, below))
        for path in [path for path in self._paths if path not in wanted]:
            number = self._paths.pop(path)
            if self._places.pop(number, None) is not None:
                self._libc.inotify_rm_watch(self._descriptor, number)
        is_new = False
        for path, places in wanted.items():
            number = self._paths.get(path, -1)
            if number not in self._places:
                number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), MASK)
                if number < 0:  # gone, or no watch left: the sweep goes on looking there
                    continue
                is_new = True
                self._paths[path] = number
            self._places[number] = places
        return is_new

    def take(self) -> tuple[Found, ...]:
        """Return the names that came since, each once; nothing when a sweep is needed anyway."""
        if self.is_overrun:
            return ()
        found = tuple(self._names.values())
        self._names.clear()
        return found

    # --- what the kernel says ---------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.warning("watch broke", reason=str(error))
            self.is_overrun = True
            data = b""
        for number, mask, name in events(data):
            self._event(number, mask, name)
        if self.is_overrun or self._names:
            self._wake()

    def _event(self, number: int, mask: int, name: str) -> None:
        if mask & Q_OVERFLOW or (mask & IS_DIRECTORY and mask & (CREATE | MOVED_TO)):
            self.is_overrun = True
        elif mask & IGNORED:
            self._places.pop(number, None)
            self.is_overrun = True
        elif mask & NEW and name:
            for search, below in self._places.get(number, ()):
                self._found(search, f"{below}/{name}" if below else name)

    def _found(self, search: Search, name: str) -> None:
        self.told += 1
        if len(self._names) >= MOST_NAMES or _is_link(search, name):
            self.is_overrun = True
            return
        self._names[search.line.number, name] = Found(search, name)


def _is_link(search: Search, name: str) -> bool:
    """Tell whether a name is a symbolic link, whose rules only a listing knows."""
    try:
        return Path(f"{search.path.rstrip('/')}/{name}").is_symlink()
    except OSError:
        return False


def events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield watch, mask and name of each event in what was read."""
    here = 0
    while here + _HEAD.size <= len(data):
        number, mask, _, length = _HEAD.unpack_from(data, here)
        here += _HEAD.size
        raw = data[here : here + length].rstrip(b"\0")
        here += length
        yield number, mask, raw.decode(errors="surrogateescape")
