"""A clock that a test holds: time passes only when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
_ROUNDS = 50  # turns of the loop that everything woken gets before time goes on


class FakeClock:
    """A `Clock` that stands still until `advance`.

    Waiters wake in the order of their times, each with `now()` exactly its own time, and run until
    they wait again before the next one wakes. What needs the real world in between (a thread, a
    socket) is not waited for: the test waits for that condition itself.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._alarms: list[tuple[datetime, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        """Return the present time, UTC and aware."""
        return self._now

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        """Return when `event` is set or at `until`, whichever is first; None: only the event."""
        if event.is_set():
            return
        if until is None:
            await event.wait()
            return
        if until <= self._now:
            await asyncio.sleep(0)
            return
        alarm = self._alarm(until)
        try:
            await _either(event, alarm[2])
        finally:
            self._forget(alarm)

    async def sleep(self, duration: timedelta) -> None:
        """Return after `duration`."""
        if duration <= timedelta():
            await asyncio.sleep(0)
            return
        alarm = self._alarm(self._now + duration)
        try:
            await alarm[2].wait()
        finally:
            self._forget(alarm)

    @property
    def waiting(self) -> int:
        """How many waits have a time at which they end."""
        return len(self._alarms)

    @property
    def next_due(self) -> datetime | None:
        """The time at which the next wait ends."""
        return self._alarms[0][0] if self._alarms else None

    async def advance(self, duration: timedelta) -> None:
        """Let `duration` pass; return when everything that it woke has waited again.

        A wait that starts meanwhile and ends within `duration` ends too.
        """
        end = self._now + duration
        await settle()
        while self._alarms and self._alarms[0][0] <= end:
            self._now = max(self._now, self._alarms[0][0])
            while self._alarms and self._alarms[0][0] <= self._now:
                heapq.heappop(self._alarms)[2].set()
            await settle()
        self._now = end

    async def advance_to(self, moment: datetime) -> None:
        """Let time pass until `moment`, which may not lie in the past."""
        await self.advance(moment - self._now)

    def _alarm(self, at: datetime) -> tuple[datetime, int, asyncio.Event]:
        alarm = (at, next(self._order), asyncio.Event())
        heapq.heappush(self._alarms, alarm)
        return alarm

    def _forget(self, alarm: tuple[datetime, int, asyncio.Event]) -> None:
        if alarm in self._alarms:
            self._alarms.remove(alarm)
            heapq.heapify(self._alarms)


async def settle() -> None:
    """Let every ready task run until nothing but waiting is left (or 50 turns are over)."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Return when one of two events is set."""

    async def wait(event: asyncio.Event) -> None:
        await event.wait()
        done.set()

    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait(event)) for event in (first, second)]
        await done.wait()
        for task in tasks:
            task.cancel()
