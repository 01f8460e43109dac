"""Why a transfer waits, or why it failed, and what happens next.

The causes are those that the schedulers act upon, asked in their order: each says since what it
stands in the way, until when if that is known, and what it is about.  Nothing is stored for this;
the answer is made from the configuration, the queue and the schedulers of this moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ecpds.engine.core import DestinationEntry, HostEntry
from ecpds.engine.supervisor import Engine
from ecpds.model.dates import parse_zone
from ecpds.model.destination import DestinationState
from ecpds.model.errors import NotFound
from ecpds.model.host import HostRole
from ecpds.model.status import PENDING, StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import destinations, files, history, queueing, transfers
from ecpds.store.db import Connection

S = TransferStatus
SOON: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that stands in the way, or that happened."""

    code: str  # stable, for programs
    text: str
    until: datetime | None = None  # None: nobody knows, or somebody has to act
    subject: str = ""  # what it is about: "destination NORTH", "host a", "transfer 7"
    blocks: bool = True  # False: told for completeness, it keeps nobody from going on


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All causes in the order in which the schedulers ask, and when something happens by itself."""

    transfer: int
    status: TransferStatus
    causes: tuple[Cause, ...]
    next: datetime | None  # the next step comes then; None: only after somebody acts, or never
    step: str  # what that step is: attempt, retrieval, discovery, probe, nothing

    @property
    def summary(self) -> str:
        """Return the first cause as one sentence."""
        return self.causes[0].text if self.causes else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the store knows of one transfer."""

    transfer: Transfer
    file: DataFile | None
    state: DestinationState | None
    ahead: int = 0
    original: Transfer | None = None  # of a copy: the transfer that fetches the content
    is_copied: bool = False  # to a proxy host
    clock: history.AcquisitionClock = field(default_factory=history.AcquisitionClock)


def read_facts(db: Connection, number: int, *, now: datetime) -> Facts:
    """Read what an explanation needs; NotFound."""
    one = transfers.get(db, number)
    if one is None:
        raise NotFound(f"Transfer {number} not found")
    file = files.get(db, one.data_file)
    same = transfers.of_file(db, one.data_file) if one.is_alias and one.status is S.SCHE else []
    original = next((other for other in same if not other.is_alias), None)
    waits = one.status in PENDING and one.due_at <= now
    fetched_by = original.destination if original is not None else one.destination
    has_source = file is not None and file.host and not file.stored
    return Facts(
        transfer=one,
        file=file,
        state=destinations.state(db, one.destination),
        ahead=queueing.ahead(db, one, now=now) if waits else 0,
        is_copied=queueing.is_copied(db, one.id),
        original=original,
        clock=history.clock(db, fetched_by, file.host)
        if has_source and file is not None
        else history.AcquisitionClock(),
    )


async def explain(engine: Engine, number: int) -> Explanation:
    """Explain one transfer; NotFound."""
    now = engine.core.clock.now()
    facts = await engine.core.store.read(read_facts, number, now=now)
    return _Explainer(engine, facts, now).explanation()


class _Explainer:
    """One explanation in the making."""

    def __init__(self, engine: Engine, facts: Facts, now: datetime) -> None:
        self._engine = engine
        self._facts = facts
        self._one = facts.transfer
        self._now = now
        self._snapshot = engine.core.snapshot
        self._entry: DestinationEntry | None = self._snapshot.destinations.get(
            self._one.destination
        )
        self._here = f"destination {self._one.destination}"

    def explanation(self) -> Explanation:
        one = self._one
        asked: Mapping[TransferStatus, Callable[[], Iterator[Cause]]] = {
            S.WAIT: self._queued,
            S.RETR: self._queued,
            S.INTR: self._queued,
            S.SCHE: self._preset,
            S.FETC: self._fetching,
            S.EXEC: self._transferring,
            S.HOLD: self._standby,
            S.FAIL: self._failed,
            S.STOP: self._stopped,
            S.DONE: self._done,
            S.INIT: self._arriving,
        }
        gone = list(self._gone())
        causes = tuple(gone or asked[one.status]())
        step = "nothing" if gone else _STEPS.get(one.status, "nothing")
        if one.status is S.FAIL and any(cause.code == "rediscovery" for cause in causes):
            step = "discovery"
        due = None if step == "nothing" else self._next(causes)
        return Explanation(
            transfer=one.id, status=one.status, causes=causes, next=due,
            step=step if due is not None else "nothing",
        )  # fmt: skip

    def _next(self, causes: tuple[Cause, ...]) -> datetime | None:
        """Return the last end of what blocks; None as soon as one has no end that is known."""
        ends = [cause.until for cause in causes if cause.blocks]
        known = [end for end in ends if end is not None]
        if len(known) < len(ends):
            return None
        return max(known, default=self._now)

    def _gone(self) -> Iterator[Cause]:
        one = self._one
        about = f"transfer {one.id}"
        if one.deleted:
            yield Cause(code="deleted", text="It was deleted.", subject=about)
        elif one.expires_at <= self._now and one.status not in {S.EXEC, S.DONE}:
            text = f"It expired at {_stamp(one.expires_at)}: nothing is done with it any more."
            yield Cause(code="expired", text=text, subject=about)

    # --- the queue --------------------------------------------------------------------------

    def _queued(self) -> Iterator[Cause]:
        yield from self._destination()
        hosts = self._snapshot.hosts_of(self._one.destination, HostRole.DISSEMINATION)
        if self._entry is not None and not hosts:
            text = "The destination has no active dissemination host."
            yield Cause(code="no-hosts", text=text, subject=self._here)
        yield from self._moment()
        yield from self._pause()
        yield from self._window()
        yield from self._proxy()
        yield from self._hosts(hosts)
        if self._one.due_at <= self._now:
            yield from self._limits(hosts)
            yield from self._order()

    def _destination(self) -> Iterator[Cause]:
        entry, state = self._entry, self._facts.state
        if entry is None:
            yield Cause(code="no-destination", text="The destination does not exist any more.",
                        subject=self._here)  # fmt: skip
            return
        if not entry.destination.active:
            yield Cause(code="disabled", text="The destination is disabled.", subject=self._here)
        stored = state.state if state is not None else entry.state
        if stored in _STATES:
            code, text = _STATES[stored]
            who = f" by {state.state_by}" if state is not None and state.state_by else ""
            why = f": {state.state_reason}" if state is not None and state.state_reason else ""
            yield Cause(code=code, text=f"{text}{who}{why}.", subject=self._here)

    def _moment(self) -> Iterator[Cause]:
        one = self._one
        if one.due_at <= self._now:
            return
        about, due = f"transfer {one.id}", _stamp(one.due_at)
        if one.reason is not None:
            code, text = "back-off", f"The last attempt failed, the next one is due at {due}"
            if one.start_count == 0 and one.requeue_count:
                code = "delayed"
                text = (
                    f"All attempts of this round failed, it was delayed for the "
                    f"{_ordinal(one.requeue_count)} time until {due}"
                )
            yield Cause(code=code, text=f"{text}: {_told(one.reason)}", until=one.due_at,
                        subject=about)  # fmt: skip
        else:
            yield Cause(code="schedule", text=f"It is scheduled for {due}.", until=one.due_at,
                        subject=about)  # fmt: skip

    def _pause(self) -> Iterator[Cause]:
        scheduler = self._engine.disseminations.get(self._one.destination)
        until = scheduler.pause_until if scheduler is not None else None
        if until is not None and until > self._now:
            text = f"The destination pauses after a failure until {_stamp(until)}."
            yield Cause(code="pause", text=text, until=until, subject=self._here)

    def _window(self) -> Iterator[Cause]:
        entry = self._entry
        if entry is None or entry.active_times is None:
            return
        name = entry.scheduler.time_zone or self._engine.core.settings.node.timezone
        times, local = entry.active_times, self._now.astimezone(parse_zone(name))
        if times.contains(local):
            return
        until = times.next_change(local)
        text = f"Transfers start only at {times} ({name})."
        yield Cause(code="window", text=text, until=until, subject=self._here)

    def _proxy(self) -> Iterator[Cause]:
        """Tell when a copy at a proxy host has to come first."""
        entry = self._entry
        if entry is None or not entry.destination.force_proxy or self._facts.is_copied:
            return
        proxies = self._snapshot.hosts_of(entry.name, HostRole.PROXY)
        if proxies:
            names = ", ".join(host.name for host in proxies)
            text = f"It goes out when it has been copied to a proxy host ({names})."
            yield Cause(
                code="proxy", text=text, until=self._soon, subject=f"host {proxies[0].name}"
            )

    def _hosts(self, hosts: list[HostEntry]) -> Iterator[Cause]:
        """Tell of hosts that are not used; they block when no other one is left."""
        found: list[Cause] = []
        for host in hosts:
            reason = self._engine.breakers.open_reason(host.name, version=host.version)
            about = f"host {host.name}"
            if host.access is None:
                text = f"Host {host.name} cannot be used: {host.problem}"
                found.append(Cause(code="host-config", text=text, subject=about))
            elif reason is not None:
                until = self._engine.breakers.probe_at(host.name)
                text = f"Host {host.name} is not used until a probe succeeds: {_told(reason)}"
                found.append(Cause(code="breaker", text=text, until=until, subject=about))
            elif host.host.max_connections == 0:
                text = f"Host {host.name} accepts no transfer: its max_connections is 0."
                found.append(Cause(code="host-blocked", text=text, subject=about))
        blocks = bool(found) and len(found) == len(hosts)
        for cause in found:
            yield cause if blocks else _passing(cause)

    def _limits(self, hosts: list[HostEntry]) -> Iterator[Cause]:
        scheduler, slots = (
            self._engine.disseminations.get(self._one.destination),
            self._engine.slots,
        )
        most = self._entry.destination.max_connections if self._entry is not None else -1
        if most == 0:
            text = "The destination accepts no transfer: its max_connections is 0."
            yield Cause(code="destination-blocked", text=text, subject=self._here)
        elif scheduler is not None and 0 <= most <= scheduler.running:
            text = f"All {most} connections of the destination are in use."
            yield Cause(code="destination-limit", text=text, until=self._soon, subject=self._here)
        if slots.running >= slots.limit:
            text = f"All {slots.limit} transfers of the node are running."
            yield Cause(code="node-limit", text=text, until=self._soon, subject="node")
        full = [host for host in hosts if host.host.max_connections and slots.free(host) <= 0]
        for host in full if slots.running < slots.limit else ():
            text = f"All {host.host.max_connections} connections of host {host.name} are in use."
            cause = Cause(code="host-limit", text=text, until=self._soon,
                          subject=f"host {host.name}")  # fmt: skip
            yield cause if len(full) == len(hosts) else _passing(cause)

    def _order(self) -> Iterator[Cause]:
        ahead = self._facts.ahead
        if ahead:
            count = f"at least {ahead}" if ahead >= queueing.MOST_AHEAD else str(ahead)
            text = f"It is due; {count} other transfers go first."
            yield _passing(Cause(code="queue", text=text, subject=self._here))
        else:
            text = "It is due and the next of its queue."
            yield _passing(Cause(code="due", text=text, until=self._now, subject=self._here))

    @property
    def _soon(self) -> datetime:
        """Return what stands for "when one of them ends": nobody knows, but nobody has to act."""
        return self._now + SOON

    # --- content ----------------------------------------------------------------------------

    def _preset(self) -> Iterator[Cause]:
        one, file = self._one, self._facts.file
        if self._facts.original is not None:
            first = self._facts.original
            text = f"It waits for the content, which comes with transfer {first.id} to "
            yield Cause(code="copy", text=f"{text}{first.destination}.", until=self._soon,
                        subject=f"transfer {first.id}")  # fmt: skip
        yield from self._destination_fetches()
        if one.queue_at > self._now:
            yield Cause(code="schedule", text=f"It is scheduled for {_stamp(one.queue_at)}.",
                        until=one.queue_at, subject=f"transfer {one.id}")  # fmt: skip
        if file is not None and file.retrieval_at is not None and file.retrieval_at > self._now:
            why = f": {_told(one.reason)}" if one.reason else "."
            text = f"Its content could not be fetched {file.retrieval_count} times; the next try is"
            yield Cause(code="retrieval-back-off", text=f"{text} {_stamp(file.retrieval_at)}{why}",
                        until=file.retrieval_at, subject=f"file {file.id}")  # fmt: skip
        yield from self._source()
        yield from self._storage()
        slots = self._engine.retrieval_slots
        if slots.control.stopped:
            text = "Retrieval is stopped on this node (ecpds retrieval start)."
            yield Cause(code="retrieval-stopped", text=text, subject="node")
        elif slots.free <= 0:
            text = f"All {slots.most} retrievals of the node are running."
            yield Cause(code="node-limit", text=text, until=self._soon, subject="node")
        text = "Its content has to be fetched from the source first."
        yield _passing(Cause(code="retrieval", text=text, subject=self._file))

    def _destination_fetches(self) -> Iterator[Cause]:
        entry = self._entry
        if entry is None or entry.state is StoredState.STOP:
            yield from self._destination()
        elif entry.destination.max_connections == 0:
            text = "The destination fetches nothing: its max_connections is 0."
            yield Cause(code="destination-blocked", text=text, subject=self._here)

    def _source(self) -> Iterator[Cause]:
        file, entry = self._facts.file, self._entry
        name = file.host if file is not None else ""
        if not name and entry is not None:
            name = entry.destination.source_host
        if not name:
            text = "The destination has no source host to fetch it from."
            yield Cause(code="no-source", text=text, subject=self._here)
            return
        host = self._snapshot.hosts.get(name)
        about = f"host {name}"
        if host is None:
            yield Cause(code="no-source", text=f"Host {name} does not exist.", subject=about)
        elif not host.host.active:
            yield Cause(code="source-disabled", text=f"Host {name} is disabled.", subject=about)
        elif host.access is None:
            text = f"Host {name} cannot be used: {host.problem}"
            yield Cause(code="host-config", text=text, subject=about)

    def _storage(self) -> Iterator[Cause]:
        volumes = self._engine.core.objects.volumes
        if all(volume.room <= 0 for volume in volumes):
            names = ", ".join(volume.name for volume in volumes)
            text = "No volume has room above its reserve."
            yield Cause(code="storage-full", text=text, subject=f"volume {names}")
        elif self._one.priority > self._engine.watches.guard.cutoff:
            most = self._engine.watches.guard.cutoff
            text = f"Room is short: only files of priority {most} and better are fetched now."
            yield Cause(code="storage-short", text=text, subject=f"transfer {self._one.id}")

    def _fetching(self) -> Iterator[Cause]:
        file = self._facts.file
        for one in self._engine.retrievals.values():
            meter = one.meters.get(file.id) if file is not None else None
            if meter is not None:
                text = f"Its content is being fetched, {meter.moved} bytes are here."
                yield _passing(Cause(code="fetching", text=text, subject=self._file))
                return
        text = "Its content is being fetched."
        yield _passing(Cause(code="fetching", text=text, subject=self._file))

    @property
    def _file(self) -> str:
        return f"file {self._one.data_file}"

    def _arriving(self) -> Iterator[Cause]:
        text = "Its content is arriving; it is queued when all of it is here."
        yield Cause(code="arriving", text=text, subject=self._file)

    # --- ends -------------------------------------------------------------------------------

    def _transferring(self) -> Iterator[Cause]:
        running = self._engine.attempts.running.get(self._one.id)
        text = "It is being sent."
        about = self._here
        if running is not None:
            host = running.claimed.host.name
            text = f"It is being sent to host {host}, {running.meter.moved} bytes went."
            about = f"host {host}"
        yield _passing(Cause(code="transferring", text=text, subject=about))

    def _standby(self) -> Iterator[Cause]:
        one = self._one
        about = f"transfer {one.id}"
        if one.temporary:
            text = "Its name is a temporary one: it is queued when it is renamed."
            yield Cause(code="temporary-name", text=text, subject=about)
        elif one.reason is not None:
            yield Cause(code=one.reason.kind, text=_told(one.reason), subject=about)
        else:
            who = f" It was held by {one.status_by}." if one.status_by else ""
            text = f"It waits until somebody releases it.{who}"
            yield Cause(code="standby", text=text, subject=about)

    def _failed(self) -> Iterator[Cause]:
        one, file = self._one, self._facts.file
        reason = one.reason or Reason(kind="failed", text=one.comment or "It failed.")
        about = f"host {one.host}" if one.host else f"transfer {one.id}"
        yield _passing(Cause(code=reason.kind, text=_told(reason), subject=about))
        if file is not None and file.host and not file.stored:
            yield from self._rediscovery(file)
        else:
            text = "No further attempt comes by itself: requeue it."
            yield Cause(code="gave-up", text=text, subject=f"transfer {one.id}")

    def _rediscovery(self, file: DataFile) -> Iterator[Cause]:
        """Tell when the discovery comes that registers a failed retrieval again."""
        name = self._one.destination
        host = self._snapshot.hosts.get(file.host)
        about = f"host {file.host}"
        if host is None or (name, file.host) not in self._engine.acquisitions:
            text = f"It is tried again when host {file.host} is acquired from, which is off now."
            yield Cause(code="acquisition-off", text=text, subject=about)
            return
        last = self._facts.clock.finished_at
        until = last + host.host.acquisition_frequency if last is not None else self._now
        text = f"It is fetched again if the next discovery at host {file.host} still finds it."
        yield Cause(code="rediscovery", text=text, until=max(until, self._now), subject=about)

    def _stopped(self) -> Iterator[Cause]:
        one = self._one
        who = f" by {one.status_by}" if one.status_by else ""
        why = f": {_told(one.reason)}" if one.reason and one.reason.kind != "stopped" else "."
        text = f"It was stopped{who}{why} Requeue it to have it sent."
        yield Cause(code="stopped", text=text, subject=f"transfer {one.id}")

    def _done(self) -> Iterator[Cause]:
        one = self._one
        when = f" at {_stamp(one.finished_at)}" if one.finished_at else ""
        text = f"It was delivered{when}: {one.comment}" if one.comment else f"It was sent{when}."
        yield _passing(Cause(code="done", text=text, subject=f"transfer {one.id}"))


_STEPS: Final = {
    S.WAIT: "attempt",
    S.RETR: "attempt",
    S.INTR: "attempt",
    S.SCHE: "retrieval",
}
_STATES: Final = {
    StoredState.STOP: ("destination-stopped", "The destination was stopped"),
    StoredState.HOLD: ("destination-paused", "The destination is on hold"),
    StoredState.FAIL: ("destination-failed", "The destination failed"),
}


def _passing(cause: Cause) -> Cause:
    return Cause(
        code=cause.code, text=cause.text, until=cause.until, subject=cause.subject, blocks=False
    )


def _told(reason: Reason) -> str:
    text = reason.text or reason.kind
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _ordinal(number: int) -> str:
    ending = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"
