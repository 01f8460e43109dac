"""Counting, holding back, giving up."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ecpds.model.errors import RemoteCancelled, RemoteTimeout
from ecpds.transfer.meter import Meter, SlowRule, Throttle, Watch, watched
from ecpds.transfer.progress import Progress


class Time:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def throttle(time: Time, rate: int, burst: int) -> Throttle:
    return Throttle(rate, burst=burst, monotonic=time.monotonic, sleep=time.sleep)


def milli(count: int) -> timedelta:
    return timedelta(milliseconds=count)


async def test_a_throttle_lets_a_burst_pass_and_then_the_rate() -> None:
    time = Time()
    bucket = throttle(time, 1000, 500)
    for _ in range(5):
        await bucket.take(250)
    assert time.slept == [0.25, 0.25, 0.25]


async def test_a_throttle_fills_up_while_nobody_takes_but_not_beyond_its_burst() -> None:
    time = Time()
    bucket = throttle(time, 1000, 500)
    await bucket.take(500)
    time.now += 3600
    await bucket.take(1000)
    assert time.slept == [0.5]


async def test_the_mean_rate_over_a_long_time_is_the_given_one() -> None:
    time = Time()
    bucket = throttle(time, 1_000_000, 250_000)
    meter = Meter((bucket,), monotonic=time.monotonic)
    while meter.moved < 10_000_000:
        meter.add(await meter.allow(256 * 1024))
    assert 950_000 < meter.rate() < 1_050_000


async def test_a_meter_asks_all_its_throttles_and_takes_no_more_than_the_smallest() -> None:
    time = Time()
    meter = Meter((throttle(time, 1000, 500), throttle(time, 100, 50)))
    assert await meter.allow(300) == 50
    assert await meter.allow(300) == 50
    assert time.slept == [0.5]


def test_a_rate_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Throttle(0)


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_silent_peer_is_given_up() -> None:
    with pytest.raises(RemoteTimeout, match="no byte moved for 20ms"):
        await watched(never(), Meter(), Watch(stall=milli(20)))


async def test_moving_bytes_keep_an_act_alive() -> None:
    meter = Meter()

    async def slowly() -> str:
        for _ in range(15):
            await asyncio.sleep(0.02)
            meter.add(1)
        return "done"

    assert await watched(slowly(), meter, Watch(stall=milli(250))) == "done"


async def test_the_longest_time_ends_an_act_that_moves() -> None:
    meter = Meter()

    async def endlessly() -> None:
        while True:
            meter.add(1000)
            await asyncio.sleep(0.002)

    with pytest.raises(RemoteTimeout, match="not finished after 20ms"):
        await watched(endlessly(), meter, Watch(stall=milli(15), longest=milli(20)))


async def test_only_complete_windows_count_for_the_slow_rule() -> None:
    """The example of schedulers.md section 3: a quick beginning does not save a trickle."""
    meter = Meter()

    async def trickle() -> None:
        meter.add(50_000)
        while True:
            await asyncio.sleep(0.002)
            meter.add(1)

    rule = SlowRule(window=milli(16), rate=1_000_000)
    with pytest.raises(RemoteTimeout, match="slower than"):
        await watched(trickle(), meter, Watch(slow=rule))
    assert meter.moved > 50_005


async def test_a_stop_ends_a_silent_act_at_once() -> None:
    meter = Meter()
    asyncio.get_running_loop().call_later(0.005, meter.stop, "by an operator")
    with pytest.raises(RemoteCancelled, match="by an operator"):
        await watched(never(), meter, Watch())
    with pytest.raises(RemoteCancelled):
        meter.add(1)
    with pytest.raises(RemoteCancelled):
        await meter.allow(1)


async def test_progress_is_told_while_an_act_is_watched() -> None:
    told: list[int] = []
    meter = Meter(on_progress=lambda one: told.append(one.moved))

    async def act() -> None:
        meter.add(7)
        await asyncio.sleep(0.02)

    await watched(act(), meter, Watch(stall=milli(20)))
    assert told
    assert set(told) == {7}


async def test_a_cancelled_act_is_cancelled_and_not_timed_out() -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched(never(), Meter(), Watch()))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_a_time_out_of_the_act_itself_stays_its_own() -> None:
    async def act() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await watched(act(), Meter(), Watch())


def test_progress_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = [0.0]
    meter = Meter()
    progress = Progress(timedelta(seconds=10), monotonic=lambda: now[0])
    for second in range(0, 31, 3):
        now[0] = float(second)
        progress(meter)
    assert len([one for one in caplog.records if "goes on" in one.getMessage()]) == 2
