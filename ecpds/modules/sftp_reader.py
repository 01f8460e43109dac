"""Reading one file over SFTP: several blocks asked for ahead, given in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ecpds.model.errors import RemoteTransient
from ecpds.modules import sftp_link as wire
from ecpds.modules.sftp_link import Answer, Fields, SftpLink, SftpStatus

AHEAD: Final = 2 * 1024 * 1024
"""Bytes under way at most, whatever the number of requests: the window of OpenSSH's server.  More
would wait in our memory."""


class Reader:
    """Reads one file ahead and gives its blocks in order; `first` was asked for already."""

    def __init__(
        self,
        link: SftpLink,
        field: bytes,
        offset: int,
        size: int,
        requests: int,
        first: asyncio.Future[Answer],
    ) -> None:
        self._link = link
        self._field = field
        self._next = offset
        self._size = size  # 0: unknown or empty, read until the server says the end
        self._most = max(min(requests, AHEAD // link.read_size), 1)
        self._pending: deque[tuple[asyncio.Future[Answer], int, int]] = deque()
        self._whole: int | None = link.read_size  # asked for in the first block
        left = min(size - offset, link.read_size) if size else link.read_size
        if left > 0:
            self._pending.append((first, offset, left))
            self._next += left if size else 0

    async def next(self) -> bytes:
        """Return the next block, empty at the end."""
        self._fill()
        if not self._pending:
            return b""
        future, position, count = self._pending.popleft()
        block = self._checked(await future, position, count)  # failed when the server is silent
        if block is None:
            return b""
        if len(block) < count and self._size:
            self._ask(position + len(block), count - len(block), first=True)
        elif not self._size:
            self._next = position + len(block)
        return block

    def _checked(self, answer: Answer, position: int, count: int) -> bytes | None:
        """Return the content of an answer, None at the end of a file of unknown size."""
        try:
            block = Fields(wire.expect(answer, wire.DATA)).string()
        except SftpStatus as end:
            if end.code != wire.EOF:
                raise
            if self._size:
                text = f"the file ends at {position} of {self._size} bytes"
                raise RemoteTransient(text) from None
            return None
        whole, self._whole = self._whole or count, None
        if not block or len(block) > whole:
            raise RemoteTransient("the server sent a malformed answer")
        return block[:count]  # of the first block more was asked for, and the file may have grown

    def _fill(self) -> None:
        step = self._link.read_size
        if not self._size:
            if not self._pending:
                self._ask(self._next, step)
            return
        while len(self._pending) < self._most and self._next < self._size:
            count = min(step, self._size - self._next)
            self._ask(self._next, count)
            self._next += count

    def _ask(self, position: int, count: int, *, first: bool = False) -> None:
        wish = (self._link.read(self._field, position, count), position, count)
        if first:
            self._pending.appendleft(wish)
        else:
            self._pending.append(wish)
