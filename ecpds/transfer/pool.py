"""Sessions with Hosts: a bounded number of each, idle ones kept for the next file.

A session that was used in a failed act is closed, never lent again: nobody knows what the other
side still believes.  Connecting is tried again within one budget; everything later is the
scheduler's business.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Any

from ecpds.model.errors import EcpdsError, RemoteError, RemoteTimeout, Stopping
from ecpds.transfer.contract import Surroundings, Target, TransferModule
from ecpds.transfer.handlers import handlers_of
from ecpds.transfer.registry import Access
from ecpds.transfer.trace import trace

HOSTS = 10_000
"""Hosts that are remembered although nobody uses them."""

SWEEP = timedelta(seconds=5)
"""Pause between looks for sessions that were idle too long."""


@dataclass(slots=True, eq=False)
class _Idle:
    """A session that waits for its next use."""

    access: Access
    module: TransferModule[Any]
    context: AbstractAsyncContextManager[TransferModule[Any]]
    until: float
    probe_at: float
    asks: bool  # whether the module has a way to tell that the other side is gone


class _Lane:
    """All sessions with one Host."""

    def __init__(self) -> None:
        self.used = 0
        self.idle: deque[_Idle] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()


class Pool:
    """Lends sessions; built once by the daemon."""

    def __init__(
        self, around: Surroundings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._around = around
        self._monotonic = monotonic
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._closed = False
        self._leaving: list[_Idle] = []  # to be closed beside
        self._wake = asyncio.Event()

    def session(self, access: Access) -> AbstractAsyncContextManager[TransferModule[Any]]:
        """Lend a session with the Host of `access`, a fresh or an idle one.

        Waits while `ectrans.maxSessions` are in use.  When the block is left by an error the
        session is closed; else it is kept for the module's keep-alive time, zero = closed.

        Raises:
            RemoteError: of the last try to connect.
            Stopping: the pool is closed.
        """
        return _Loan(self, access)

    async def lend(self, access: Access) -> tuple[_Lane, _Idle]:
        """Return a session and its lane; for `session`."""
        lane = self._lane(access)
        await self._enter(lane, access.ectrans.max_sessions)
        try:
            return lane, await self._borrow(lane, access) or await self._connect(lane, access)
        except BaseException:
            self._leave(lane)
            raise

    async def take_back(self, lane: _Lane, idle: _Idle, error: BaseException | None) -> None:
        """Keep a session for the next file, or close it; for `session`."""
        try:
            if error is None:
                await self._give_back(lane, idle)
            else:
                await self._discard(idle, error)
        finally:
            self._leave(lane)

    async def run(self) -> None:
        """Close sessions that were idle too long, until cancelled."""
        clock = self._around.clock
        while True:
            self._wake.clear()
            await self._let_go()
            await clock.wait(self._wake, clock.now() + SWEEP)
            await self.sweep()

    async def _let_go(self) -> None:
        """Close the sessions whose users did not want to wait for that, side by side."""
        leaving, self._leaving = self._leaving, []
        if leaving:
            async with asyncio.TaskGroup() as group:
                for idle in leaving:
                    group.create_task(self._discard(idle, None))

    async def sweep(self) -> None:
        """Close the sessions whose idle time is over, and lanes that nobody uses."""
        now = self._monotonic()
        for name, lane in list(self._lanes.items()):
            for idle in [one for one in lane.idle if one.until <= now]:
                if idle in lane.idle:  # unless it was lent while another one closed
                    lane.idle.remove(idle)
                    await self._discard(idle, None)
            for idle in [one for one in lane.idle if one.asks and one.probe_at <= now]:
                if idle in lane.idle:
                    await self._probe(lane, idle)
            if not lane.used and not lane.idle and len(self._lanes) > HOSTS:
                self._lanes.pop(name, None)

    async def close(self) -> None:
        """Close all idle sessions and refuse new ones."""
        self._closed = True
        await self._let_go()
        for lane in list(self._lanes.values()):
            while lane.idle:
                await self._discard(lane.idle.popleft(), None)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return for each Host how many sessions are in use and idle, for the metrics."""
        return {name: (lane.used, len(lane.idle)) for name, lane in self._lanes.items()}

    def _lane(self, access: Access) -> _Lane:
        name = access.target.host_name
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        self._lanes.move_to_end(name)
        return lane

    async def _enter(self, lane: _Lane, limit: int) -> None:
        """Take one of the places of a Host; who waits longest gets the next one."""
        if self._closed:
            raise Stopping("no new session is opened")
        if lane.used < limit and not lane.waiting:
            lane.used += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in lane.waiting:
                lane.waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._leave(lane)
            raise

    def _leave(self, lane: _Lane) -> None:
        """Give a place to the next who waits, or back."""
        while lane.waiting:
            turn = lane.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        lane.used -= 1

    async def _borrow(self, lane: _Lane, access: Access) -> _Idle | None:
        """Return the session that was used last, if it still lives; close those of old options."""
        while lane.idle:
            idle = lane.idle.pop()
            fitting = same_session(idle.access, access) and idle.until > self._monotonic()
            if fitting and (not idle.asks or await self._alive(idle)):
                idle.access = access
                return idle
            await self._discard(idle, None)
        return None

    async def _probe(self, lane: _Lane, idle: _Idle) -> None:
        """Ask an idle session for a sign of life; nobody may borrow it meanwhile."""
        lane.idle.remove(idle)
        if await self._alive(idle):
            idle.probe_at = self._next_probe(idle)
            lane.idle.appendleft(idle)
        else:
            await self._discard(idle, None)

    def _next_probe(self, idle: _Idle) -> float:
        pause = idle.access.module.probe_every(idle.access.options).total_seconds()
        return self._monotonic() + pause if pause else float("inf")

    async def _alive(self, idle: _Idle) -> bool:
        try:
            async with asyncio.timeout(idle.access.target.timeouts.command.total_seconds()):
                return await idle.module.alive()
        except (EcpdsError, OSError):
            return False

    async def _connect(self, lane: _Lane, access: Access) -> _Idle:
        budget = access.target.timeouts.connect.total_seconds()
        deadline = self._monotonic() + budget
        tries = access.ectrans.retry_count + 1
        while True:
            tries -= 1
            left = deadline - self._monotonic()
            try:
                return await self._open(lane, access, max(left, 0.001))
            except RemoteError as error:
                pause = access.ectrans.retry_frequency.total_seconds() * jitter()
                left = deadline - self._monotonic()
                if not error.retryable or tries <= 0 or left <= pause:
                    raise
            await self._around.clock.sleep(timedelta(seconds=pause))

    async def _open(self, lane: _Lane, access: Access, seconds: float) -> _Idle:
        target, take_over = access.target, None
        if access.ectrans.put_handler or access.ectrans.get_handler:
            take_over = handlers_of(target, access.ectrans)
        context = access.module.connect(
            with_connect_time(target, seconds), access.options, self._around
        )
        try:
            async with asyncio.timeout(seconds):
                module = await context.__aenter__()
        except TimeoutError:
            raise RemoteTimeout(
                f"no session with {target.host or target.host_name} in time"
            ) from None
        if take_over is not None:
            take_over(module)
        if access.ectrans.debug:
            trace(module)
        asks = type(module).alive is not TransferModule.alive
        return _Idle(access, module, context, 0.0, 0.0, asks)

    async def _give_back(self, lane: _Lane, idle: _Idle) -> None:
        keep = idle.access.module.keep_alive(idle.access.options).total_seconds()
        if keep <= 0 or self._closed:
            if idle.access.ectrans.close_in_background and not self._closed:
                self._leaving.append(idle)
                self._wake.set()
                return
            await self._discard(idle, None)
            return
        idle.until = self._monotonic() + keep
        if idle.asks:
            idle.probe_at = self._next_probe(idle)
        lane.idle.append(idle)

    async def _discard(self, idle: _Idle, error: BaseException | None) -> None:
        """Close a session; what goes wrong while closing changes nothing."""
        kind = type(error) if error is not None else None
        trace = error.__traceback__ if error is not None else None
        with suppress(EcpdsError, OSError, TimeoutError):
            async with asyncio.timeout(idle.access.target.timeouts.close.total_seconds()):
                await idle.context.__aexit__(kind, error, trace)


class _Loan:
    """The block in which a session is lent; a class, as it is entered for every small file."""

    __slots__ = ("_access", "_idle", "_lane", "_pool")

    def __init__(self, pool: Pool, access: Access) -> None:
        self._pool = pool
        self._access = access

    async def __aenter__(self) -> TransferModule[Any]:
        self._lane, self._idle = await self._pool.lend(self._access)
        return self._idle.module

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.take_back(self._lane, self._idle, error)


def jitter() -> float:
    """Return a factor from 1 to 1.2, so that many sessions do not come back in one moment."""
    return 1 + random.random() / 5  # noqa: S311 - not for secrets


def with_connect_time(target: Target, seconds: float) -> Target:
    """Return `target` with what is left of the time to connect."""
    if seconds >= target.timeouts.connect.total_seconds() - 0.001:
        return target
    return replace(target, timeouts=replace(target.timeouts, connect=timedelta(seconds=seconds)))


def same_session(one: Access, other: Access) -> bool:
    """Tell whether a session made for `one` may serve `other`: all that matters is equal."""
    if one is other:
        return True
    return (
        one.module is other.module and one.target == other.target and one.options == other.options
    )
