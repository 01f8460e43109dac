"""The clock of the tests keeps what `Clock` promises, in a fixed order."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from ecpds.base.clock import Clock
from tests.clock import START, FakeClock

SECOND = timedelta(seconds=1)


async def test_waiters_wake_in_order_at_their_own_time() -> None:
    """Also one that waits twice within one advance."""
    clock = FakeClock()
    seen: list[tuple[str, datetime]] = []

    async def sleep(name: str, seconds: int, times: int = 1) -> None:
        for _ in range(times):
            await clock.sleep(seconds * SECOND)
            seen.append((name, clock.now()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("three", 3))
        group.create_task(sleep("one", 1, times=4))
        await clock.advance(SECOND / 2)
        assert seen == []
        await clock.advance(3 * SECOND)
        expected = [("one", 1), ("one", 2), ("three", 3), ("one", 3)]
        assert seen == [(name, START + at * SECOND) for name, at in expected]
        assert clock.now() == START + 3.5 * SECOND
        await clock.advance_to(START + 4 * SECOND)
    assert (clock.waiting, clock.next_due) == (0, None)


async def test_a_wait_ends_by_event_or_time() -> None:
    """And leaves no alarm behind."""
    clock: Clock = FakeClock()
    assert isinstance(clock, FakeClock)
    event = asyncio.Event()
    await clock.wait(event, clock.now() - SECOND)
    async with asyncio.TaskGroup() as group:
        both = [
            group.create_task(clock.wait(event, None)),
            group.create_task(clock.wait(event, clock.now() + SECOND)),
        ]
        await clock.advance(SECOND)
        assert [task.done() for task in both] == [False, True]
        late = group.create_task(clock.wait(event, clock.now() + SECOND))
        await clock.advance(SECOND / 2)
        event.set()
        await late
    assert clock.waiting == 0
    assert clock.now() == START + 1.5 * SECOND


async def test_a_cancelled_wait_is_forgotten() -> None:
    """Else time would stop at it."""
    clock = FakeClock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.wait(asyncio.Event(), clock.now() + SECOND))
        await clock.advance(SECOND / 2)
        assert clock.waiting == 1
        task.cancel()
    assert clock.waiting == 0
