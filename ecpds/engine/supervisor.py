"""The engine as a whole: schedulers follow the configuration, hints reach those they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

from ecpds.base.logs import get_logger
from ecpds.base.tasks import every, supervise
from ecpds.engine.acquisition import AcquisitionScheduler
from ecpds.engine.attempt import Attempts
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, HostEntry
from ecpds.engine.dissemination import DestinationScheduler, Slots
from ecpds.engine.eventlog import EventLog
from ecpds.engine.guard import LAST
from ecpds.engine.learning import KEEP_EVERY, Learning
from ecpds.engine.leftovers import Leftovers
from ecpds.engine.lights import Lights
from ecpds.engine.outbox import Outbox
from ecpds.engine.receiving import Halves
from ecpds.engine.recovery import name_interrupted, sweep
from ecpds.engine.replication import Replicator
from ecpds.engine.retention import Retention
from ecpds.engine.retrieval import RetrievalScheduler, RetrievalSlots
from ecpds.engine.retrievalcontrol import read_control
from ecpds.engine.retry import reason_of
from ecpds.engine.sinkkinds import make_sink
from ecpds.engine.sinks import Feeder, feed_all
from ecpds.engine.submit import Plan, Registered, Submission, plan, register
from ecpds.engine.subscription import SubscriptionScheduler, subscriber_of
from ecpds.engine.watches import Watches
from ecpds.model.errors import EcpdsError, RemoteConfig
from ecpds.store import transfers
from ecpds.store.db import Connection

log = get_logger(__name__)

FORGET_EVERY = timedelta(hours=1)
FIGURES_EVERY = timedelta(seconds=10)
PACK_EVERY = timedelta(seconds=5)
RECORD_EVERY = timedelta(seconds=2)
LEFTOVERS_EVERY = timedelta(seconds=10)

Told = Callable[[Connection, Registered, datetime], None]
Key = tuple[str, str, str]  # kind of scheduler, destination, acquisition host


class Scheduler(Protocol):
    """What the three kinds of schedulers have in common."""

    async def run(self) -> None:
        """Serve until cancelled or drained."""

    def poke(self) -> None:
        """Look for work now."""

    def drain(self) -> None:
        """Start nothing any more."""


def register_told(db: Connection, plan: Plan, told: Told | None, *, now: datetime) -> Registered:
    """Register, and tell of it in the same transaction."""
    registered = register(db, plan, now=now)
    if told is not None:
        told(db, registered, now)
    return registered


class Engine:
    """All schedulers of the node."""

    def __init__(self, core: Core) -> None:
        self.core = core
        settings = core.settings.scheduler
        self.breakers = Breakers()
        self.attempts = Attempts(core, self.breakers)
        self.slots = Slots(settings.transfers)
        self.retrieval_slots = RetrievalSlots(settings.retrievals)
        self.acquisition_slots = asyncio.Semaphore(settings.acquisition_hosts)
        self.halves = Halves(core)
        self.leftovers = Leftovers(core)
        self.learning = Learning(core)
        self.retention = Retention(core)
        self.eventlog = EventLog(core)
        self.feeders = [
            Feeder(core, one, make_sink(core, one)) for one in core.settings.events.sinks
        ]
        self.outbox = Outbox(core)
        self.disseminations: dict[str, DestinationScheduler] = {}
        self.retrievals: dict[str, RetrievalScheduler] = {}
        self.acquisitions: dict[tuple[str, str], AcquisitionScheduler] = {}
        self.lights = Lights()
        self.watches = Watches(self)
        self.replicator = Replicator(core, self.poke)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._draining = False
        self._probe = asyncio.Event()
        self._started_at = core.clock.now()
        self.is_running = asyncio.Event()

    async def run(self) -> None:
        """Run all schedulers until cancelled."""
        core, clock = self.core, self.core.clock
        self.retrieval_slots.control = await core.store.read(read_control)
        await self.learning.restore()
        await name_interrupted(core)
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._supervised("retention", self.retention.run)
            self._supervised("eventlog", self.eventlog.run)
            self._supervised("outbox", self.outbox.run)
            group.create_task(feed_all(core, self.feeders), name="sinks")
            self._supervised("pool", core.pool.run)
            self._supervised("mail", core.mailer.run)
            self._supervised("breakers", self._probe_hosts)
            self._supervised("hints", self._follow_hints)
            self._supervised("copies", self.replicator.run)
            self._supervised("sweep", self._sweep)
            group.create_task(every("forget", FORGET_EVERY, self.retention.forget, clock))
            self.watches.start(group)
            group.create_task(every("packing", PACK_EVERY, self.attempts.packing.work_ahead, clock))
            group.create_task(every("records", RECORD_EVERY, self._record, clock))
            group.create_task(every("leftovers", LEFTOVERS_EVERY, self.leftovers.remove, clock))
            group.create_task(every("learned", KEEP_EVERY, self.learning.keep, clock))
            group.create_task(every("figures", FIGURES_EVERY, self._figures, clock))
            self.follow()
            self.is_running.set()

    def _supervised(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        assert self._group is not None  # noqa: S101 - only called while running
        return self._group.create_task(supervise(name, run, self.core.clock), name=name)

    def follow(self) -> None:
        """Start and stop schedulers so that they fit the present configuration."""
        if self._group is None or self._draining:
            return
        wanted = self._wanted()
        self.replicator.poke()
        for key in [key for key in self._tasks if key not in wanted]:
            self._forget(key)
        for key in wanted:
            if key not in self._tasks or self._tasks[key].done():
                self._tasks[key] = self._supervised(" ".join(key), self._make(key).run)
        for scheduler in self._all():
            scheduler.poke()
        self.outbox.poke()

    def _wanted(self) -> set[Key]:
        snapshot = self.core.snapshot
        wanted: set[Key] = set()
        for name, entry in snapshot.destinations.items():
            wanted |= {("dissemination", name, ""), ("retrieval", name, "")}
            if entry.destination.acquisition and entry.destination.active:
                wanted |= {
                    (self._way(host), name, host.name) for host in snapshot.acquisition_hosts(name)
                }
        return wanted

    def _way(self, host: HostEntry) -> str:
        """Return how a Host is asked for its files."""
        return "acquisition" if subscriber_of(self.core, host) is None else "subscription"

    def _make(self, key: Key) -> Scheduler:
        kind, name, host = key
        if kind == "dissemination":
            return self._dissemination(name)
        if kind == "retrieval":
            return self._retrieval(name)
        return self._acquisition((name, host), kind)

    def _forget(self, key: Key) -> None:
        self._tasks.pop(key).cancel()
        kind, name, host = key
        if kind == "dissemination":
            self.disseminations.pop(name, None)
        elif kind == "retrieval":
            self.retrievals.pop(name, None)
        else:
            self.acquisitions.pop((name, host), None)

    def _dissemination(self, name: str) -> DestinationScheduler:
        made = DestinationScheduler(
            self.core,
            name,
            slots=self.slots,
            breakers=self.breakers,
            attempts=self.attempts,
            freed=self._host_freed,
        )
        self.disseminations[name] = made
        return made

    def _retrieval(self, name: str) -> RetrievalScheduler:
        made = RetrievalScheduler(
            self.core, name, slots=self.retrieval_slots, halves=self.halves, stored=self._stored
        )
        self.retrievals[name] = made
        return made

    def _acquisition(self, pair: tuple[str, str], way: str) -> AcquisitionScheduler:
        kind = SubscriptionScheduler if way == "subscription" else AcquisitionScheduler
        made = kind(self.core, *pair, slots=self.acquisition_slots, submitted=self.accepted)
        made.may_fetch = self._may_fetch
        self.acquisitions[pair] = made
        return made

    def _may_fetch(self) -> bool:
        """Tell whether discoveries may bring content: as long as nothing limits the retrieval."""
        return self.retrieval_slots.free > 0 and self.watches.guard.cutoff >= LAST

    def _all(self) -> list[Scheduler]:
        return [
            *self.disseminations.values(),
            *self.retrievals.values(),
            *self.acquisitions.values(),
        ]

    def poke(self, name: str) -> None:
        """Look at the queue of a destination now."""
        scheduler = self.disseminations.get(name)
        if scheduler is not None:
            scheduler.poke()
        self.core.bus.tell("destination", name, destination=name)

    def _stored(self, name: str) -> None:
        """Look at the queue of a destination to which content came, unless it wants no look."""
        entry = self.core.snapshot.destinations.get(name)
        if entry is None or entry.scheduler.reset_queue_on_change:
            self.poke(name)
        else:
            self.core.bus.tell("destination", name, destination=name)

    def poke_retrieval(self, name: str) -> None:
        """Look at what a destination has to fetch now."""
        scheduler = self.retrievals.get(name)
        if scheduler is not None:
            scheduler.poke()
        self.core.bus.tell("destination", name, destination=name)

    def accepted(self, registered: Registered) -> None:
        """Wake everybody whom a new submission concerns."""
        self.retention.expect(registered.expires_at)
        for name in registered.destinations:
            self.poke_retrieval(name)
            self.poke(name)

    def _host_freed(self, host: str) -> None:
        for name in self.core.snapshot.users.get(host, ()):
            scheduler = self.disseminations.get(name)
            if scheduler is not None:
                scheduler.poke()

    async def submit(self, submission: Submission, told: Told | None = None) -> Registered:
        """Plan and register one submission; wake whom it concerns.  Raises as these two do.

        `told` adds to the same transaction what there is to tell of it.
        """
        now = self.core.clock.now()
        planned = plan(submission, self.core.snapshot, now)
        if self.watches.guard.cutoff < LAST:
            self.watches.guard.check(min(one.priority for one in planned.transfers))
        if submission.on_duplicate == "overwrite":
            await self.interrupt(planned.key, "content replaced")
        registered = await self.core.store.write(register_told, planned, told, now=now)
        self.accepted(registered)
        return registered

    async def interrupt(self, key: tuple[str, str, str], reason: str) -> None:
        """Stop running attempts of the transfers with that key; new content comes."""
        for one in await self.core.store.read(transfers.with_key, key):
            await self.attempts.stop(one.id, reason, wait=timedelta(seconds=5))

    async def reload(self) -> None:
        """Take the configuration of the store and let the schedulers follow."""
        await self.core.configuration.reload()
        self.follow()
        self.core.bus.tell("configuration", "")

    async def _follow_hints(self) -> None:
        with self.core.bus.listener() as listener:
            while True:
                for hint in await listener.wait_some():
                    if hint.kind == "configuration" and hint.name:
                        await self.reload()
                    elif hint.kind == "expired":
                        self.retention.poke()
                    elif hint.kind == "breaker":
                        self._probe.set()

    async def _probe_hosts(self) -> None:
        """Probe hosts whose breaker is open, when their pause is over."""
        clock = self.core.clock
        while True:
            self._probe.clear()
            for name in self.breakers.due(clock.now()):
                await self._probe_one(name)
            await clock.wait(self._probe, self.breakers.next_probe())

    async def _probe_one(self, name: str) -> None:
        host = self.core.snapshot.hosts.get(name)
        if host is None or not host.host.active:
            self.breakers.succeeded(name)
            return
        try:
            if host.access is None:
                raise RemoteConfig(host.problem)
            async with self.core.pool.session(host.access):
                pass
        except (EcpdsError, OSError) as error:
            self.breakers.probe_failed(name, reason_of(error), now=self.core.clock.now())
            log.warning("probe failed", host=name, reason=str(error))
        else:
            self.breakers.succeeded(name)
            log.info("host works again", host=name)
            self._host_freed(name)

    async def _sweep(self) -> None:
        await sweep(self.core, self._started_at)

    async def _record(self) -> None:
        """Store how far long transfers came."""
        await self.attempts.record()
        await self.halves.record()

    async def _figures(self) -> None:
        """Refresh the gauges that are counted from the store."""
        metrics = self.core.metrics
        counts = await self.core.store.read(transfers.status_counts)
        metrics.transfers.clear()
        for (name, status), count in counts.items():
            metrics.transfers.labels(name, status.word).set(count)
        for volume in self.core.objects.volumes:
            metrics.storage_free.labels(volume.name).set(volume.room)
        metrics.raise_to(metrics.store_writes, "store", self.core.store.writes)
        metrics.store_waiting.set(self.core.store.waiting)

    def drain(self) -> None:
        """Start nothing any more; what runs goes on."""
        self._draining = True
        self.outbox.drain()
        for scheduler in self._all():
            scheduler.drain()

    @property
    def busy(self) -> list[str]:
        """Return what still runs, for the log of a stop."""
        sending = [f"transfer {number}" for number in self.attempts.running]
        fetching = [f"retrieval {file}" for one in self.retrievals.values() for file in one.meters]
        return sending + fetching
