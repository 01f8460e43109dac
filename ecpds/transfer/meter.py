"""Counting bytes, holding them back, and giving up on transfers that stall or crawl.

The guard looks at the counter from a timer and not from the copy loop, because a dead peer moves
no byte and so would never come back to a check made there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TypeVar

from ecpds.model.errors import RemoteCancelled, RemoteError, RemoteTimeout
from ecpds.model.units import format_duration, format_rate

T = TypeVar("T")

LONGEST_TICK = 1.0
"""Most seconds between two looks at the counter."""


class Throttle:
    """A token bucket: `rate` bytes per second in the mean, up to `burst` bytes at once.

    One bucket may be shared by many transfers (a Host, a Destination); who asks first goes first.
    """

    def __init__(
        self,
        rate: int,
        *,
        burst: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if rate <= 0:
            raise ValueError("a rate limit is a positive number of bytes per second")
        self._rate = rate
        self._burst = burst if burst is not None else max(rate // 4, 1)
        self._tokens = float(self._burst)
        self._monotonic = monotonic
        self._sleep = sleep
        self._at = monotonic()

    @property
    def step(self) -> int:
        """Return the most bytes that one call of `take` should ask for."""
        return max(self._burst, 1)

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may go."""
        now = self._monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst) - count
        self._at = now
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._rate)


class Meter:
    """Counts the bytes of one attempt, and carries the order to stop it.

    `moved` may be read at any time.  `on_progress` is called about once a second while an act is
    watched.
    """

    def __init__(
        self,
        throttles: Sequence[Throttle] = (),
        *,
        on_progress: Callable[[Meter], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.moved = 0
        self.on_progress = on_progress
        self._throttles = tuple(throttles)
        self._monotonic = monotonic
        self._begun = monotonic()
        self._stopped: RemoteCancelled | None = None
        self._trip: Callable[[RemoteError], None] | None = None

    def add(self, count: int) -> None:
        """Count bytes; raises RemoteCancelled after `stop`."""
        if self._stopped is not None:
            raise self._stopped
        self.moved += count

    async def allow(self, count: int) -> int:
        """Wait until the rate limits let bytes go; return how many of `count`."""
        if self._stopped is not None:
            raise self._stopped
        for throttle in self._throttles:
            count = min(count, throttle.step)
        for throttle in self._throttles:
            await throttle.take(count)
        return count

    @property
    def limited(self) -> bool:
        """Whether a rate limit applies."""
        return bool(self._throttles)

    def rate(self) -> float:
        """Return the mean rate since the beginning in bytes per second."""
        return self.moved / max(self._monotonic() - self._begun, 1e-6)

    def stop(self, reason: str) -> None:
        """End the act that is under way with RemoteCancelled, even if its peer is silent."""
        self._stopped = RemoteCancelled(reason)
        if self._trip is not None:
            self._trip(self._stopped)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRule:
    """When a transfer counts as too slow (`upload.interruptSlow`, `retrieval.interruptSlow`)."""

    window: timedelta = timedelta(minutes=1)
    rate: int = 0  # least bytes per second in each complete window; 0 = any
    longest: timedelta | None = None  # of the whole transfer


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What ends a put or get that does not get on."""

    stall: timedelta = timedelta(minutes=5)  # no byte moved for this long
    longest: timedelta | None = None  # getTimeOut, putTimeOut
    slow: SlowRule | None = None

    @cached_property
    def period(self) -> float:
        """Return the seconds between two looks at the counter."""
        shortest = self.stall.total_seconds() / 4
        if self.slow is not None:
            shortest = min(shortest, self.slow.window.total_seconds() / 4)
        return max(min(shortest, LONGEST_TICK), 0.001)


class _Guard:
    """The timer of one watched act."""

    def __init__(self, meter: Meter, watch: Watch) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a transfer is watched inside a task")
        self.verdict: RemoteError | None = None
        self._task = task
        self._cancelling = task.cancelling()
        self._is_taken_back = False
        self._meter = meter
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._begun = self._moved_at = self._window_at = now
        self._seen = self._window_seen = meter.moved
        self._period = watch.period
        self._timer = self._loop.call_later(self._period, self._tick)

    def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()
        self.take_back()

    def trip(self, error: RemoteError) -> None:
        """End the act with `error`."""
        if self.verdict is None:
            self.verdict = error
            self._task.cancel()

    def take_back(self) -> bool:
        """Take back the cancellation of `trip`, once; True when there was no other one."""
        if self.verdict is None or self._is_taken_back:
            return False
        self._is_taken_back = True
        return self._task.uncancel() <= self._cancelling

    def _tick(self) -> None:
        now = self._loop.time()
        moved = self._meter.moved
        if moved != self._seen:
            self._seen, self._moved_at = moved, now
        error = self._stalled(now) or self._too_long(now) or self._too_slow(now, moved)
        if error is not None:
            self.trip(error)
            return
        self._timer = self._loop.call_later(self._period, self._tick)
        if self._meter.on_progress is not None:
            self._meter.on_progress(self._meter)

    def _stalled(self, now: float) -> RemoteError | None:
        if now - self._moved_at < self._watch.stall.total_seconds():
            return None
        return RemoteTimeout(f"no byte moved for {format_duration(self._watch.stall)}")

    def _too_long(self, now: float) -> RemoteError | None:
        slow = self._watch.slow
        for longest in (self._watch.longest, slow.longest if slow is not None else None):
            if longest is not None and now - self._begun >= longest.total_seconds():
                return RemoteTimeout(f"not finished after {format_duration(longest)}")
        return None

    def _too_slow(self, now: float, moved: int) -> RemoteError | None:
        slow = self._watch.slow
        if slow is None or now - self._window_at < slow.window.total_seconds():
            return None
        rate = (moved - self._window_seen) / (now - self._window_at)
        self._window_at, self._window_seen = now, moved
        if rate >= slow.rate:
            return None
        return RemoteTimeout(f"{format_rate(int(rate))} is slower than {format_rate(slow.rate)}")


async def watched(act: Awaitable[T], meter: Meter, watch: Watch) -> T:
    """Await `act`; raise RemoteTimeout or RemoteCancelled when watch or `Meter.stop` end it."""
    guard = _Guard(meter, watch)
    meter._trip = guard.trip  # noqa: SLF001 - one file, one mechanism
    try:
        return await act
    except asyncio.CancelledError:
        if guard.take_back() and guard.verdict is not None:
            raise guard.verdict from None
        raise
    finally:
        meter._trip = None  # noqa: SLF001
        guard.close()
