"""Sessions are lent, kept, probed, bounded, and never lent again after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self

import pytest

from ecpds.base.threads import Threads
from ecpds.model.decode import opt
from ecpds.model.errors import (
    ConnectionLost,
    RemoteAuth,
    RemoteError,
    RemoteTimeout,
    RemoteTransient,
    Stopping,
)
from ecpds.model.host import Host
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.transfer.contract import Surroundings, Target, TransferModule
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from tests.clock import FakeClock


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedOptions(OptionFamily):
    prefix: ClassVar[str] = "counted"
    scopes: ClassVar[frozenset[str]] = frozenset({"host"})
    keep_alive: timedelta = opt(timedelta(seconds=10), "Idle time.", key="keepAlive")
    use_noop: timedelta = opt(timedelta(0), "Probes.", key="useNoop")


class Counts:
    """What the sessions of one test did; the host's login names it."""

    def __init__(self) -> None:
        self.opened = self.closed = self.probed = 0
        self.failures: list[Exception] = []
        self.alive = True


COUNTS: dict[str, Counts] = {}


class CountedModule(TransferModule[CountedOptions]):
    name = "counted"
    options = CountedOptions

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    @classmethod
    def keep_alive(cls, options: CountedOptions) -> timedelta:
        return options.keep_alive

    @classmethod
    def probe_every(cls, options: CountedOptions) -> timedelta:
        return options.use_noop

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: CountedOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        counts = COUNTS[target.login]
        if counts.failures:
            raise counts.failures.pop(0)
        counts.opened += 1
        try:
            yield cls(counts)
        finally:
            counts.closed += 1

    async def alive(self) -> bool:
        self.counts.probed += 1
        if not self.counts.alive:
            raise ConnectionLost("gone")
        return True


class Rig:
    """A pool with its time."""

    def __init__(self, name: str) -> None:
        self.counts = COUNTS[name] = Counts()
        self.now = 0.0
        self.clock = FakeClock()
        self.threads = Threads()
        around = Surroundings(threads=self.threads, clock=self.clock)
        self.pool = Pool(around, monotonic=lambda: self.now)
        self.name = name

    def access(self, **options: object) -> Access:
        host = Host(
            name="h",
            method="genericCounted",
            host="x",
            login=self.name,
            password=Secret(str(options.pop("password", ""))),
            options={key.replace("__", "."): value for key, value in options.items()},
        )
        return Registry([CountedModule]).access(host)

    async def use(self, access: Access) -> TransferModule[Any]:
        async with self.pool.session(access) as module:
            return module


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.node.name)


async def test_an_idle_session_is_lent_again(rig: Rig) -> None:
    access = rig.access()
    first = await rig.use(access)
    assert await rig.use(access) is first
    assert await rig.use(rig.access()) is first  # the same options, read anew
    assert (rig.counts.opened, rig.counts.closed) == (1, 0)
    assert rig.pool.counts() == {"h": (0, 1)}
    await rig.pool.close()
    assert rig.counts.closed == 1


@pytest.mark.parametrize("change", [{"password": "new"}, {"counted__keepAlive": "9s"}])
async def test_other_options_get_another_session(rig: Rig, change: dict[str, object]) -> None:
    first = await rig.use(rig.access())
    assert await rig.use(rig.access(**change)) is not first
    assert (rig.counts.opened, rig.counts.closed) == (2, 1)
    await rig.pool.close()


async def test_a_session_that_failed_is_closed(rig: Rig) -> None:
    access = rig.access()
    with pytest.raises(RemoteTransient):
        async with rig.pool.session(access):
            raise RemoteTransient("the act failed")
    assert (rig.counts.opened, rig.counts.closed) == (1, 1)
    await rig.use(access)
    assert rig.counts.opened == 2
    await rig.pool.close()


async def test_an_idle_session_ends_after_its_time(rig: Rig) -> None:
    await rig.use(rig.access())
    rig.now = 9.9
    await rig.pool.sweep()
    assert rig.counts.closed == 0
    rig.now = 10
    await rig.pool.sweep()
    assert (rig.counts.closed, rig.pool.counts()) == (1, {"h": (0, 0)})


async def test_an_idle_session_that_died_is_not_lent(rig: Rig) -> None:
    access = rig.access()
    await rig.use(access)
    rig.counts.alive = False
    await rig.use(access)
    assert (rig.counts.opened, rig.counts.closed) == (2, 1)
    await rig.pool.close()


async def test_idle_sessions_are_probed_when_told(rig: Rig) -> None:
    await rig.use(rig.access(counted__useNoop="2s"))
    rig.now = 1
    await rig.pool.sweep()
    assert rig.counts.probed == 0
    rig.now = 3
    await rig.pool.sweep()
    await rig.pool.sweep()
    assert (rig.counts.probed, rig.counts.closed) == (1, 0)
    rig.counts.alive = False
    rig.now = 6
    await rig.pool.sweep()
    assert (rig.counts.probed, rig.counts.closed) == (2, 1)


async def test_without_a_keep_alive_time_sessions_are_closed_at_once(rig: Rig) -> None:
    await rig.use(rig.access(counted__keepAlive="0s"))
    assert rig.counts.closed == 1


async def test_no_more_sessions_than_allowed_and_first_come_first_served(rig: Rig) -> None:
    access = rig.access(ectrans__maxSessions=2)
    order: list[int] = []
    most = 0
    used = 0

    async def one(number: int) -> None:
        nonlocal most, used
        async with rig.pool.session(access):
            order.append(number)
            used += 1
            most = max(most, used)
            await asyncio.sleep(0)
            used -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(one(number))
    assert most == 2
    assert order == list(range(9))
    assert rig.counts.opened == 2
    await rig.pool.close()


async def test_who_is_cancelled_while_waiting_loses_no_place(rig: Rig) -> None:
    access = rig.access(ectrans__maxSessions=1)
    async with asyncio.TaskGroup() as group:
        async with rig.pool.session(access):
            waiting = group.create_task(rig.use(access))
            next_one = group.create_task(rig.use(access))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
        # the place is given away in this very moment: cancel the one who gets it
        next_one.cancel()
    assert rig.pool.counts() == {"h": (0, 1)}
    await rig.use(access)
    await rig.pool.close()


async def test_connecting_is_tried_again_within_one_budget(rig: Rig) -> None:
    rig.counts.failures = [RemoteTransient("no"), RemoteTransient("no")]
    access = rig.access(ectrans__retryCount=2, ectrans__retryFrequency="0s")
    await rig.use(access)
    assert rig.counts.opened == 1
    await rig.pool.close()


async def test_the_last_failure_to_connect_is_told(rig: Rig) -> None:
    rig.counts.failures = [RemoteTransient("first"), RemoteTransient("second")]
    access = rig.access(ectrans__retryCount=1, ectrans__retryFrequency="0s")
    with pytest.raises(RemoteTransient, match="second"):
        await rig.use(access)
    assert rig.pool.counts() == {"h": (0, 0)}


async def test_a_pause_longer_than_the_budget_is_not_made(rig: Rig) -> None:
    rig.counts.failures = [RemoteTransient("first")]
    access = rig.access(ectrans__retryCount=5, ectrans__retryFrequency="2m")
    with pytest.raises(RemoteTransient, match="first"):
        await rig.use(access)


@pytest.mark.parametrize("error", [RemoteAuth("no"), RemoteTimeout("late")])
async def test_what_no_retry_can_help_is_not_tried_again(rig: Rig, error: RemoteError) -> None:
    rig.counts.failures = [error, RemoteTransient("second")]
    access = rig.access(ectrans__retryCount=1, ectrans__retryFrequency="0s")
    with pytest.raises(RemoteError) as caught:
        await rig.use(access)
    assert (caught.value is error) is not error.retryable


async def test_a_closed_pool_lends_nothing(rig: Rig) -> None:
    await rig.pool.close()
    with pytest.raises(Stopping):
        await rig.use(rig.access())


async def test_ends_need_not_be_waited_for() -> None:
    """`ectrans.closeAsynchronous`: the pool's own loop closes them, and a closed pool all."""
    rig = Rig("beside")
    access = rig.access(counted__keepAlive="0s", ectrans__closeAsynchronous="yes")
    async with rig.pool.session(access):
        pass
    assert (rig.counts.opened, rig.counts.closed) == (1, 0)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(rig.pool.run())
        while not rig.counts.closed:
            await asyncio.sleep(0)
        running.cancel()
    async with rig.pool.session(access):
        pass
    await rig.pool.close()
    assert (rig.counts.opened, rig.counts.closed) == (2, 2)
    rig.threads.close()
