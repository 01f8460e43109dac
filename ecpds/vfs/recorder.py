"""Writes what happened without making a client wait: downloads, refusals, logouts.

What a client was promised never goes through here; a kill loses at most the records of the last
hundredths of a second.  The queue is bounded: a caller that finds it full writes for itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Final, ParamSpec

from ecpds.base.logs import get_logger
from ecpds.model.errors import EcpdsError
from ecpds.store.db import Connection, Store

P = ParamSpec("P")
Memory = dict[tuple[str, int], Any]
"""What record functions have read already, by kind and number; valid until the tree changes."""

Act = Callable[[Connection, Memory], Any]

log = get_logger(__name__)

MOST_WAITING: Final = 2_000
GATHERED_FOR: Final = 0.02
"""Seconds between two writes, the first of a burst is done at once: a client that fetches small
files one by one would else have a commit for each of them."""
MOST_REMEMBERED: Final = 4_096  # rows
BATCH: Final = 64  # records of one write call: it holds up the others of the same commit


class Recorder:
    """A queue of write functions and the one task that runs them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Act] = deque()
        self._some = asyncio.Event()
        self._hurry = asyncio.Event()  # somebody waits
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_running = False
        self._memory: Memory = {}  # of the store's writer, and so is the count of changes
        self._changes = -1

    async def put(
        self, fn: Callable[Concatenate[Connection, P], Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have `fn(db, …)` run soon; at once when nobody else does it or too much waits.

        It may change histories, events and counters only.
        """
        await self._put(lambda db, _: fn(db, *args, **kwargs))

    async def put_sharing(
        self,
        fn: Callable[Concatenate[Connection, Memory, P], Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have `fn(db, memory, …)` run soon; `memory` is shared until something is changed."""
        await self._put(lambda db, memory: fn(db, memory, *args, **kwargs))

    async def _put(self, act: Act) -> None:
        if not self._is_running or len(self._waiting) >= MOST_WAITING:
            await self._write([act])
            return
        self._waiting.append(act)
        self._idle.clear()
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled; nothing is lost by the cancellation but what `flush` writes."""
        self._is_running = True
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                await self._drain()
                await self._gather()
        finally:
            self._is_running = False

    async def _gather(self) -> None:
        """Let some records come together."""
        self._hurry.clear()
        try:
            async with asyncio.timeout(GATHERED_FOR):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def flush(self) -> None:
        """Return when everything that waits now is written."""
        if self._is_running:
            self._hurry.set()
            await self._idle.wait()
        else:
            await self._drain()

    async def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            await self._write(batch)
        self._idle.set()

    async def _write(self, batch: Sequence[Act]) -> None:
        try:
            await self._store.write_aside(self._all, batch)
        except EcpdsError as error:
            log.error("records are lost", count=len(batch), reason=error.message)  # noqa: TRY400
        except Exception as error:  # noqa: BLE001 - one bad record must not take the others along
            if len(batch) == 1:
                log.error("a record is lost", exc=error)  # noqa: TRY400 - the trace is in `exc`
                return
            for act in batch:
                await self._write([act])

    def _all(self, db: Connection, acts: Sequence[Act]) -> None:
        """Run records; in the store's writer, where nothing changes beside them."""
        changes = self._store.changes
        if changes != self._changes or len(self._memory) > MOST_REMEMBERED:
            self._memory, self._changes = {}, changes
        for act in acts:
            act(db, self._memory)
