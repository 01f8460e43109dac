"""Discoveries as a scheduler: one for each pair of Destination and Host, with a clock of its own.

The clock counts from the end of a run.  A run may be asked for, interrupted, and is begun anew when
its Host is edited.  On local directories a watch (`acquisition.watch`) tells new names at once; the
runs by the clock then sweep up whatever it missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.acquisition_run import Discovery, Run, Stability
from ecpds.engine.acquisition_take import Registering
from ecpds.engine.core import Core, HostEntry
from ecpds.engine.submit import Registered
from ecpds.engine.watch import Found, Watch
from ecpds.model.errors import EcpdsError
from ecpds.model.status import StoredState
from ecpds.store import history, hosts
from ecpds.store.db import Connection

log = get_logger(__name__)

GRACE = timedelta(seconds=10)  # for a run that is interrupted
FIRST_PAUSE = timedelta(seconds=1)  # after a run that got no session, if its clock is faster
LAST_PAUSE = timedelta(seconds=30)


class AcquisitionScheduler:
    """The discoveries of one Destination at one Host."""

    def __init__(
        self,
        core: Core,
        name: str,
        host: str,
        *,
        slots: asyncio.Semaphore,
        submitted: Callable[[Registered], None],
    ) -> None:
        self.name = name
        self.host = host
        self.is_running = False
        self.last: Run | None = None
        self.due_at: datetime | None = None  # of the next run, None: not before something changes
        self.watch: Watch | None = None
        self.may_fetch: Callable[[], bool] = lambda: (
            False
        )  # content at once, where that is possible
        self._core = core
        self._slots = slots
        self._submitted = submitted
        self._wake = asyncio.Event()
        self._now = False
        self._draining = False
        self._stability = Stability()
        self._task: asyncio.Task[None] | None = None
        self._version = self._host_version()  # of the host, when it was looked at
        self._failures = 0  # runs without a session, in a row

    # --- asked from outside -----------------------------------------------------------------

    def poke(self) -> None:
        """Look at the clock and the configuration; an edited host is looked at anew, and now."""
        version = self._host_version()
        if version not in (self._version, 0):
            self._version = version
            self.run_now()
        self._wake.set()

    def run_now(self) -> None:
        """Start a discovery as soon as possible; one under way is interrupted."""
        self._now = True
        self._failures = 0
        if self._task is not None:
            self._task.cancel()
        self._wake.set()

    def interrupt(self) -> bool:
        """End the discovery under way; the clock counts from now.  Tell whether there was one."""
        if self._task is None:
            return False
        self._task.cancel()
        return True

    def end_now(self) -> None:
        """End the discovery under way; the next one begins as soon as the destination allows."""
        self._now = self.interrupt() or self._now
        self._wake.set()

    def drain(self) -> None:
        """Start nothing any more."""
        self._draining = True
        self._wake.set()

    def _host_version(self) -> int:
        entry = self._core.snapshot.hosts.get(self.host)
        return entry.version if entry is not None else 0

    # --- the clock --------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled or drained."""
        clock = self._core.clock
        last = await self._core.store.read(history.clock, self.name, self.host)
        finished = last.finished_at
        try:
            while not self._draining:
                self._wake.clear()
                self._follow_watch()
                if finished is not None and finished > clock.now():
                    finished = clock.now()  # the clock was set back
                self.due_at = due = self._due(finished)
                names = self.watch.take() if self.watch is not None and due is not None else ()
                is_due = due is not None and due <= clock.now()
                if not is_due and not names:
                    await clock.wait(self._wake, due)
                    continue
                self._now = False
                await self._alone(() if is_due else names)
                if is_due:
                    finished = clock.now()
        finally:
            self._close_watch()

    def _due(self, finished: datetime | None) -> datetime | None:
        entry = self._core.snapshot.destinations.get(self.name)
        host = self._core.snapshot.hosts.get(self.host)
        if entry is None or host is None or entry.state is StoredState.STOP:
            return None
        if finished is None or self._now or (self.watch is not None and self.watch.is_overrun):
            return self._core.clock.now()
        pause = host.host.acquisition_frequency
        if self._failures:
            pause = max(pause, min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LAST_PAUSE))
        return finished + pause

    async def _alone(self, names: tuple[Found, ...]) -> None:
        """Run one discovery as a task of its own, so that it can be interrupted alone."""
        async with self._slots, asyncio.TaskGroup() as group:
            self._task = group.create_task(
                self._discover(names), name=f"discovery {self.name} {self.host}"
            )
            self._task.add_done_callback(lambda _: setattr(self, "_task", None))

    # --- a run ------------------------------------------------------------------------------

    async def _discover(self, names: tuple[Found, ...]) -> None:
        host = self._core.snapshot.host(self.host)
        run = Run(self._core.clock.now(), is_partial=bool(names))
        self.is_running = True
        if not names:
            self.last = run
        with log_context(destination=self.name, host=self.host):
            try:
                await self._limited(host, run, names)
            except (EcpdsError, OSError, TimeoutError) as error:
                run.error(str(error) or "time is over")
                log.warning("discovery failed", reason=str(error) or type(error).__name__)
            except asyncio.CancelledError:
                run.error("interrupted")
                async with asyncio.timeout(GRACE.total_seconds()):
                    await self._finished(run)
                raise
            finally:
                self.is_running = False
            await self._finished(run)

    async def _limited(self, host: HostEntry, run: Run, names: tuple[Found, ...]) -> None:
        entry = self._core.snapshot.destination(self.name)
        discovery = Discovery(
            self._core,
            entry,
            host,
            Registering(self._core, entry, host, self._submitted, may_fetch=self.may_fetch),
            stability=self._stability,
            goes_on=self._may_go_on,
        )
        options = host.acquisition
        limit = options.maximum_duration if options.interrupt_slow else timedelta(0)
        if limit is None:
            limit = self._core.settings.scheduler.acquisition_maximum
        async with asyncio.timeout(limit.total_seconds() if limit else None):
            if names:
                await discovery.run_names([(one.search, one.name) for one in names], run)
                return
            if self.watch is not None:
                self.watch.begin_sweep()
            await discovery.run(run)
            if self.watch is not None and await self.watch.follow(run.folders):
                self._now = True  # what came between listing and watching is found by one more
                self._wake.set()
        self._core.failpoints.hit("acquisition.listed")

    def _may_go_on(self) -> bool:
        entry = self._core.snapshot.destinations.get(self.name)
        return entry is not None and entry.state is not StoredState.STOP

    async def _finished(self, run: Run) -> None:
        outcome = "failed" if run.errors else "ok"
        metrics = self._core.metrics
        for word, count in run.outcomes.items():
            metrics.acquisition_files.labels(self.host, word).inc(count)
        if not run.is_partial:
            self._failures = 0 if run.was_connected else self._failures + 1
            metrics.acquisition_runs.labels(self.host, outcome).inc()
            await self._core.store.write(self._store, run, outcome, self._core.clock.now())
        self._core.bus.tell("host", self.host, destination=self.name)
        if run.selected or run.errors:
            log.info(
                "discovery ended", host=self.host, destination=self.name, listed=run.listed,
                selected=run.selected, errors=len(run.errors),
            )  # fmt: skip

    def _store(self, db: Connection, run: Run, outcome: str, now: datetime) -> None:
        clock = history.AcquisitionClock(
            started_at=run.started_at,
            finished_at=now,
            listed=run.listed,
            selected=run.selected,
            outcome=outcome,
            message="; ".join(run.errors)[:2000],
        )
        history.set_clock(db, self.name, self.host, clock)
        if run.errors or run.was_connected:
            hosts.failed(db, self.host, run.errors[0][:2000] if run.errors else "")

    # --- watching ---------------------------------------------------------------------------

    def _follow_watch(self) -> None:
        """Open or close the watch as the options of the host say."""
        host = self._core.snapshot.hosts.get(self.host)
        wanted = (
            host is not None
            and host.acquisition.watch
            and host.access is not None
            and host.access.module.name == "file"
        )
        if not wanted:
            self._close_watch()
        elif self.watch is None:
            try:
                self.watch = Watch(self._wake.set, self._core.threads)
                self._now = True
            except OSError as error:
                log.warning("directories cannot be watched", host=self.host, reason=str(error))

    def _close_watch(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None
