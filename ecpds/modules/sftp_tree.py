"""Listing a directory of an SFTP server with all that is below it, several directories at a time.

One answer of each open directory is held at most, so that a tree of any size needs no more memory
than its directories that wait.

Spec: transfer-modules-protocols.md section 2 (`listRecursive`, `listMax…`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import Phase, RemoteError, RemoteMissing, RemoteName


@dataclass(frozen=True, slots=True)
class Acts:
    """What a listing asks the server for; names are relative to the root of the tree."""

    open: Callable[[str], Awaitable[bytes]]  # gives a handle
    read: Callable[[bytes, str], Awaitable[tuple[Entry, ...] | None]]  # None: the end
    close: Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class _Open:
    """A directory that is being read."""

    below: str
    depth: int
    handle: bytes | None = None
    found: tuple[Entry, ...] = ()
    ended: bool = False
    error: RemoteError | None = field(default=None)


async def tree(acts: Acts, *, at_a_time: int, most: int, deepest: int) -> AsyncIterator[Entry]:
    """Yield the files of a tree, with their path below its root.

    A directory that cannot be read is an entry with an error; the root raises.  More than `most`
    directories are an error, levels below `deepest` are left out.
    """
    walk = _Walk(acts, most, deepest)
    try:
        while await walk.round(at_a_time):
            for entry in walk.found():
                yield entry
    finally:
        await walk.close()


class _Walk:
    """The directories that wait and those that are read."""

    def __init__(self, acts: Acts, most: int, deepest: int) -> None:
        self._acts = acts
        self._left = most
        self._deepest = deepest
        self._waiting = deque([_Open("", 0)])
        self._active: list[_Open] = []

    async def round(self, at_a_time: int) -> bool:
        """Take the next answer of each directory; False when there is none any more."""
        while self._waiting and len(self._active) < at_a_time:
            self._active.append(self._waiting.popleft())
        if len(self._active) == 1:
            await _step(self._acts, self._active[0])
        elif self._active:
            async with asyncio.TaskGroup() as group:
                for one in self._active:
                    group.create_task(_step(self._acts, one))
        return bool(self._active)

    def found(self) -> Iterator[Entry]:
        """Yield the files of the answers; the directories wait for their turn."""
        for one in self._active:
            if one.error is not None:
                yield _failed(one)
            for entry in one.found:
                placed = _placed(one, entry)
                if entry.kind is not Kind.DIRECTORY:
                    yield placed
                elif one.depth < self._deepest:
                    self._enter(placed.name, one.depth + 1)
        self._active = [one for one in self._active if not one.ended]

    def _enter(self, name: str, depth: int) -> None:
        self._left -= 1
        if self._left < 1:
            raise RemoteError("the listing has too many directories", phase=Phase.LIST)
        self._waiting.append(_Open(name, depth))

    async def close(self) -> None:
        """Close what is open."""
        for one in self._active:
            if one.handle is not None:
                await self._acts.close(one.handle)


async def _step(acts: Acts, one: _Open) -> None:
    one.found = ()
    try:
        if one.handle is None:
            one.handle = await acts.open(one.below)
        found = await acts.read(one.handle, one.below)
    except RemoteError as error:
        one.error, one.ended, found = error, True, None
    if found is not None:
        one.found = found
        return
    one.ended = True
    if one.handle is not None:
        handle, one.handle = one.handle, None
        await acts.close(handle)


def _failed(one: _Open) -> Entry:
    error = one.error
    if error is None or not one.below or not isinstance(error, RemoteMissing | RemoteName):
        raise error or RemoteError("no error", phase=Phase.LIST)
    one.error = None
    return Entry(kind=Kind.OTHER, name=one.below, error=f"{one.below}: {error.message}")


def _placed(one: _Open, entry: Entry) -> Entry:
    return replace(entry, name=f"{one.below}/{entry.name}") if one.below else entry
