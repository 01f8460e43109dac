"""One scheduler a Destination: claims what is due, keeps within the limits, starts attempts.

Nothing polls: a scheduler sleeps until a hint, the next due time, or the end of a pause.  It holds
at most the transfers that it is sending; the queue itself stays in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from ecpds.base.logs import get_logger
from ecpds.engine.arbitration import arbitrated
from ecpds.engine.attempt import Attempts
from ecpds.engine.attempt_small import SmallAttempts, lots_for, lots_of
from ecpds.engine.attempt_store import Claimed
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.replication import chosen_proxy
from ecpds.engine.retry import host_in_use
from ecpds.model.dates import parse_zone
from ecpds.model.destination import DestinationState
from ecpds.model.host import HostRole
from ecpds.model.status import DestinationStatus, StoredState
from ecpds.store import claims, destinations, files, history, transfers
from ecpds.store.db import Connection

log = get_logger(__name__)

MOST_CLAIMED = 64  # transfers taken in one claim
LOOK_AGAIN = timedelta(minutes=1)  # however quiet it is
GRACE = timedelta(hours=1)  # for what runs when its destination is stopped


@dataclass(slots=True)
class Slots:
    """How many transfers run: in all, and on each Host."""

    limit: int
    running: int = 0
    hosts: dict[str, int] = field(default_factory=dict)

    def free(self, host: HostEntry) -> int:
        """Return how many more may start on that Host."""
        left = self.limit - self.running
        most = host.host.max_connections
        if most >= 0:
            left = min(left, most - self.hosts.get(host.name, 0))
        return max(left, 0)

    def take(self, host: str) -> None:
        """Count one more."""
        self.running += 1
        self.hosts[host] = self.hosts.get(host, 0) + 1

    def give(self, host: str) -> None:
        """Count one less."""
        self.running -= 1
        self.hosts[host] = self.hosts.get(host, 1) - 1


class DestinationScheduler:
    """The queue of one Destination at work."""

    def __init__(
        self,
        core: Core,
        name: str,
        *,
        slots: Slots,
        breakers: Breakers,
        attempts: Attempts,
        freed: Callable[[str], None],
    ) -> None:
        self.name = name
        self.running = 0
        self.pause_until: datetime | None = None
        self.waits_for = ""  # why nothing starts, for people
        self._core = core
        self._slots = slots
        self._breakers = breakers
        self._attempts = attempts
        self._small = SmallAttempts(core, attempts)
        self._freed = freed
        self._wake = asyncio.Event()
        self._draining = False
        self._stopped_at: datetime | None = None

    def poke(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def drain(self) -> None:
        """Start nothing any more; what runs goes on."""
        self._draining = True
        self._wake.set()

    def resume(self) -> None:
        """Forget a pause, for a start by a person."""
        self.pause_until = None
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled or drained; a cancelled run leaves no transfer unaccounted for."""
        clock = self._core.clock
        async with asyncio.TaskGroup() as group:
            while not (self._draining and not self.running):
                self._wake.clear()  # before looking, so that no hint is lost
                until = clock.now() + LOOK_AGAIN
                if not self._draining:
                    due = await self._start_due(group)
                    until = min(until, due) if due is not None else until
                await clock.wait(self._wake, until)

    async def _start_due(self, group: asyncio.TaskGroup) -> datetime | None:
        """Start what may start; return when to look again at the latest."""
        now = self._core.clock.now()
        entry = self._core.snapshot.destinations.get(self.name)
        if entry is None or not self._may_start(entry):
            return self._end_stopped(now) if entry is not None and self.running else None
        self._stopped_at = None
        if self.pause_until is not None and self.pause_until > now:
            self.waits_for = "pause"
            return self.pause_until
        if entry.active_times is not None:
            local = now.astimezone(self._zone(entry))
            if not entry.active_times.contains(local):
                self.waits_for = "schedule"
                return entry.active_times.next_change(local)
        free = self._free_connections(entry)
        if not free:
            self.waits_for = "max_connections"
            return None
        return await self._claim(group, entry, free, now)

    def _end_stopped(self, now: datetime) -> datetime:
        """Interrupt what still runs an hour after a graceful stop; return when that is."""
        if self._stopped_at is None:
            self._stopped_at = now
        until = self._stopped_at + GRACE
        if now >= until:
            for running in self._attempts.running.values():
                if running.claimed.entry.name == self.name:
                    running.meter.stop("the destination was stopped an hour ago")
            return now + LOOK_AGAIN
        return until

    def _zone(self, entry: DestinationEntry) -> tzinfo:
        return parse_zone(entry.scheduler.time_zone or self._core.settings.node.timezone)

    def _may_start(self, entry: DestinationEntry) -> bool:
        if not entry.destination.active:
            self.waits_for = "disabled"
        elif entry.state is not StoredState.WAIT:
            self.waits_for = entry.state.value
        elif not self._core.snapshot.hosts_of(self.name, HostRole.DISSEMINATION):
            self.waits_for = "no-hosts"
        else:
            self.waits_for = ""
            return True
        return False

    def _free_connections(self, entry: DestinationEntry) -> int:
        most = entry.destination.max_connections
        return MOST_CLAIMED if most < 0 else max(0, most - self.running)

    async def _claim(
        self, group: asyncio.TaskGroup, entry: DestinationEntry, free: int, now: datetime
    ) -> datetime | None:
        hosts = self._core.snapshot.hosts_of(self.name, HostRole.DISSEMINATION)
        usable = [
            host
            for host in hosts
            if self._breakers.open_reason(host.name, version=host.version) is None
        ]
        if not usable:
            self.waits_for = "breaker"
            return self._breakers.next_probe()
        most = min(free, MOST_CLAIMED, max(self._slots.free(host) for host in usable))
        if not most:
            self.waits_for = "host_connections"
            return None
        proxies = self._core.snapshot.hosts_of(self.name, HostRole.PROXY)
        claim = await self._core.store.write_lazily(
            claim_for, self.name, entry, usable, self._slots, most, now, proxies
        )
        if claim.expired:
            self._core.bus.tell("expired", self.name)
        for lot in lots_of(claim.claimed):
            self.running += 1
            self._slots.take(lot[0].host.name)
            group.create_task(
                self._small.run(lot, self._when_all(lot)), name=f"transfer-{lot[0].transfer.id}"
            )
        for claimed in claim.claimed:
            self._core.bus.tell("transfer", claimed.transfer.id, destination=self.name)
        if claim.claimed:
            self._core.bus.tell("destination", self.name, destination=self.name)
        if len(claim.claimed) > most:  # in lots: there may be connections left
            self._wake.set()
        return claim.next_due

    def _when_all(self, lot: list[Claimed]) -> Callable[[Claimed, datetime | None], None]:
        """Return what gives the slot of a lot back at its last end."""
        if len(lot) == 1:
            return self._finished
        left = len(lot)

        def finished(claimed: Claimed, pause_until: datetime | None) -> None:
            nonlocal left
            left -= 1
            if pause_until is not None:
                self.pause_until = pause_until
            if not left:
                self._finished(claimed, None)

        return finished

    def _finished(self, claimed: Claimed, pause_until: datetime | None) -> None:
        """Give the slot back; called as soon as the connection is free."""
        self.running -= 1
        self._slots.give(claimed.host.name)
        if pause_until is not None:
            self.pause_until = pause_until
        self._wake.set()
        self._freed(claimed.host.name)

    def status(self, pending: int, now: datetime) -> DestinationStatus:
        """Return the runtime status that people see."""
        entry = self._core.snapshot.destinations.get(self.name)
        if entry is None or not entry.destination.active:
            return DestinationStatus.DISABLED
        stored = {
            StoredState.STOP: DestinationStatus.STOPPED,
            StoredState.HOLD: DestinationStatus.GAVE_UP,
        }
        if entry.state in stored:
            return stored[entry.state]
        if self.running:
            return DestinationStatus.RUNNING
        if pending and self.waits_for == "no-hosts":
            return DestinationStatus.NO_HOSTS
        if self.pause_until is not None and self.pause_until > now:
            return DestinationStatus.SLEEPING
        if pending and self.waits_for == "breaker":
            return DestinationStatus.RETRYING
        return DestinationStatus.WAITING if pending else DestinationStatus.IDLE


@dataclass(frozen=True, slots=True)
class Claim:
    """What one look at the queue gave."""

    claimed: list[Claimed]
    expired: bool
    next_due: datetime | None


def claim_for(
    db: Connection,
    name: str,
    entry: DestinationEntry,
    usable: list[HostEntry],
    slots: Slots,
    most: int,
    now: datetime,
    proxies: list[HostEntry],
) -> Claim:
    """Choose the Host, claim due transfers for it, and load what their attempts need."""
    state = destinations.state(db, name)
    if state is None or state.state is not StoredState.WAIT:
        return Claim([], expired=False, next_due=None)
    host = _choose(db, state, entry, usable, now)
    room = min(most, slots.free(host))
    if room <= 0:
        return Claim([], expired=False, next_due=None)
    only_copied = bool(proxies) and entry.destination.force_proxy
    lots = None if proxies else lots_for(host, entry)
    due, expired = claims.claim_due(
        db, name, now=now, limit=room, only_copied=only_copied, lots=lots
    )
    taken = len(due) if lots is None else 0  # of lots nobody knows whether all were taken
    if entry.arbiter is not None:
        due = arbitrated(db, entry.arbiter, due, now=now)
    claimed = []
    numbers = [transfer.data_file for transfer in due]
    contents, metadata = files.many(db, numbers), files.metadata_of(db, numbers)
    for transfer in due:
        file = contents.get(transfer.data_file)
        if file is None:
            continue
        comment = f"Trying {host.name}"
        history.step(
            db, transfer.id, name, transfer.status, time=now, host=host.name, comment=comment
        )
        claimed.append(
            Claimed(
                transfer=transfer,
                file=file,
                metadata=metadata.get(file.id, {}),
                entry=entry,
                host=host,
                started_at=now,
                resume=history.resume(db, transfer.id, host.name)
                if transfer.attempts > 1
                else None,
                proxy=chosen_proxy(db, transfer, file, proxies, now=now) if proxies else None,
            )
        )
    # Below the limit everything due is claimed, so the next due time lies ahead.
    next_due = transfers.next_due(db, name) if taken < room or not due else None
    if next_due is not None and next_due <= now:
        next_due = now + timedelta(seconds=1)  # expired ones, until retention has failed them
    return Claim(claimed, expired=bool(expired), next_due=next_due)


def _choose(
    db: Connection,
    state: DestinationState,
    entry: DestinationEntry,
    usable: list[HostEntry],
    now: datetime,
) -> HostEntry:
    by_name = {host.name: host for host in usable}
    chosen, host = host_in_use(state, entry.destination, [one.host for one in usable], now)
    assert host is not None  # noqa: S101 - `usable` is not empty
    if chosen != state:
        destinations.set_run(db, entry.name, chosen)
    return by_name[host.name]
