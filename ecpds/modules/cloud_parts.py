"""Sending content in parts, several at a time; which parts there are the service's module says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, cast

from ecpds.model.errors import EcpdsError, RemoteConfig
from ecpds.modules.s3_body import Bytes, Slice
from ecpds.modules.s3_upload import collected
from ecpds.transfer.contract import ByteSource, Surroundings

MIB: Final = 1024 * 1024

GRACE: Final = 30.0
"""Seconds in which parts that are under way may end after another one has failed."""

Send = Callable[[int, ByteSource], Awaitable[None]]
"""Sends one part, by its number from 0 on; raises RemoteError."""


def part_size_for(total: int, wanted: int, most: int) -> int:
    """Return the size of at most `most` parts for so many bytes: `wanted`, or more in whole MiB."""
    least = -(-total // most)
    return wanted if least <= wanted else -(-least // MIB) * MIB


class Parts:
    """Sends the parts of one upload from the first missing one on.

    `reached` bytes are at the far end without a hole, counted from the start of the content.
    """

    def __init__(
        self,
        size: int,
        first: int,
        send: Send,
        on_reached: Callable[[int], None],
        *,
        threads: int,
        most: int,
    ) -> None:
        self.count = first
        self._size = size
        self._first = first
        self._send = send
        self._on_reached = on_reached
        self._threads = threads
        self._most = most
        self._done: dict[int, int] = {}
        self._failure: EcpdsError | None = None
        self._failed = 0  # workers that ended by an error
        self._limit: asyncio.Timeout | None = None

    async def run(self, source: ByteSource, around: Surroundings) -> int:
        """Send everything from `source.offset` on; return the count of bytes of this run."""
        if source.descriptor is not None and source.size >= 0:
            await self._file(source, around)
        else:
            await self._flow(source)
        self.count = self._first + len(self._done)
        return sum(self._done.values())

    async def _file(self, source: ByteSource, around: Surroundings) -> None:
        total = source.offset + source.size
        numbers = iter(range(self._first, -(-total // self._size)))

        async def work() -> None:
            for number in numbers:
                if self._failure is not None:
                    return
                start = number * self._size
                part = Slice(source, start, min(self._size, total - start), around.threads)
                await self._sent(number, part)

        await self._all([work] * self._threads)

    async def _flow(self, source: ByteSource) -> None:
        parts: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(1)

        async def collect() -> None:
            try:
                await self._collect(source, parts)
            except EcpdsError:
                await parts.put(None)
                raise
            await parts.put(None)  # there is no more

        async def work() -> None:
            while (taken := await parts.get()) is not None:
                if self._failure is None:
                    await self._sent(taken[0], Bytes(taken[1]))
            parts.put_nowait(None)  # for the others

        await self._all([collect, *[work] * self._threads])

    async def _collect(
        self, source: ByteSource, parts: asyncio.Queue[tuple[int, bytes] | None]
    ) -> None:
        number = self._first
        blocks = cast(AsyncGenerator[bytes, None], aiter(source))
        async with aclosing(collected(blocks, self._size)) as pieces:
            async for content in pieces:
                if self._failure is not None:
                    return
                if number >= self._most:
                    raise RemoteConfig(f"the content needs more than {self._most:,} parts")
                await parts.put((number, content))
                number += 1

    async def _sent(self, number: int, part: ByteSource) -> None:
        await self._send(number, part)
        self._done[number] = part.size
        number = self._first
        while number in self._done:
            number += 1
        reached = self._first * self._size + sum(self._done[n] for n in range(self._first, number))
        self._on_reached(reached)

    async def _all(self, works: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run side by side; the first failure lets the others end what they do, for a while."""
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                async with asyncio.TaskGroup() as group:
                    for work in works:
                        group.create_task(self._guarded(work))
        except TimeoutError:
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except EcpdsError as error:
            self._failure = self._failure or error
            self._failed += 1
            if self._limit is not None:
                grace = GRACE if self._failed < self._threads else 0.0
                self._limit.reschedule(asyncio.get_running_loop().time() + grace)
