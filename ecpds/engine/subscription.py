"""Acquisition from Hosts that announce their files: one lasting subscription for each.

What arrives becomes files in the same transaction as the memory of the message; the broker hears of
it after the commit, so that nothing announced is lost and nothing is taken twice.  While we are too
slow or the store is busy, messages wait at the broker.
Spec: notifications.md section 4 and 5.4.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.acquisition import AcquisitionScheduler
from ecpds.engine.acquisition_run import Run, host_tokens
from ecpds.engine.acquisition_take import submission_of
from ecpds.engine.announce_script import read_messages
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.submit import Plan, Registered, Submission, plan, register
from ecpds.engine.telling import Teller
from ecpds.engine.wis2_passing import PASSED_ON, Cache, pass_on
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import EcpdsError, RemoteConfig, RemoteVerify
from ecpds.model.mqtttopics import matches
from ecpds.model.search import Search
from ecpds.model.selection import Choice, Selector
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Transfer
from ecpds.objects.directory import Stored
from ecpds.store import announced, files, history, outbox, transfers, wis2
from ecpds.store.db import Connection
from ecpds.transfer.subscription import Notification, Subscriber, Subscription

log = get_logger(__name__)

FIRST_PAUSE: Final = 1.0  # seconds after a connection was lost
LAST_PAUSE: Final = 60.0
TOLD_EVERY: Final = timedelta(seconds=15)  # figures of the pages
OVERLAP: Final = timedelta(minutes=10)  # of what is asked for again; what is known is passed over
_BUFFER: Final = 1024 * 1024


def subscriber_of(core: Core, host: HostEntry | None) -> Subscriber | None:
    """Return who listens to a Host, None for those that are listed."""
    access = host.access if host is not None else None
    if access is None:
        return None
    return access.module.subscriber(access.target, access.options, core.around)


@dataclass(slots=True)
class _Job:
    """One notification on its way into the store."""

    note: Notification
    plans: tuple[Plan, ...] = ()


class SubscriptionScheduler(AcquisitionScheduler):
    """The subscription of one Destination at one Host."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._teller = Teller(node=self._core.node)
        self._listening: list[asyncio.Task[None]] = []  # one for each broker
        self._connected = 0
        self._lost: dict[int, int] = {}  # failures in a row, by broker
        self.lag: timedelta | None = None  # from the publication of the last message to us
        self._random = random.Random()  # noqa: S311 - spreads connections, guards nothing
        self._told_at: datetime | None = None

    # --- asked from outside -------------------------------------------------------------

    def run_now(self) -> None:
        """Connect anew."""
        self._lost.clear()
        for task in self._listening:
            task.cancel()
        self._wake.set()

    def interrupt(self) -> bool:
        """Connect anew; tell whether there was a connection."""
        was_running = self.is_running
        self.run_now()
        return was_running

    def drain(self) -> None:
        """Take nothing any more."""
        self._draining = True
        self.run_now()

    # --- the connection -----------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled or drained."""
        while not self._draining:
            self._wake.clear()
            if not self._may_listen():
                await self._core.clock.wait(self._wake, None)
                continue
            subscriber = subscriber_of(self._core, self._core.snapshot.host(self.host))
            async with asyncio.TaskGroup() as group:
                name = f"subscription {self.name} {self.host}"
                self._listening = [
                    group.create_task(self._keep_listening(number), name=name)
                    for number in range(subscriber.brokers if subscriber else 1)
                ]
            self._listening = []

    async def _keep_listening(self, broker: int) -> None:
        """Listen to one of the brokers until something changes."""
        while self._may_listen() and not self._draining:
            await self._listen(broker)
            if self._lost.get(broker) and not self._draining:
                await self._pause(broker)

    def _may_listen(self) -> bool:
        entry = self._core.snapshot.destinations.get(self.name)
        host = self._core.snapshot.hosts.get(self.host)
        return entry is not None and host is not None and entry.state is not StoredState.STOP

    async def _pause(self, broker: int) -> None:
        """Wait before the next try, a little different for each of us."""
        failures = self._lost.get(broker, 1)
        longest = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LAST_PAUSE)
        seconds = max(self._random.uniform(longest / 2, longest), FIRST_PAUSE)
        self.due_at = self._core.clock.now() + timedelta(seconds=seconds)
        self._wake.clear()
        await self._core.clock.wait(self._wake, self.due_at)
        self.due_at = None

    async def _listen(self, broker: int) -> None:
        entry = self._core.snapshot.destination(self.name)
        host = self._core.snapshot.host(self.host)
        run = self.last = Run(self._core.clock.now())
        with log_context(destination=self.name, host=self.host):
            try:
                await self._take_all(entry, host, run, broker)
            except (EcpdsError, OSError, TimeoutError) as error:
                self._lost[broker] = self._lost.get(broker, 0) + 1
                run.error(str(error) or type(error).__name__)
                log.warning("subscription lost", reason=str(error) or type(error).__name__)
        await self._tell(run)

    async def _take_all(
        self, entry: DestinationEntry, host: HostEntry, run: Run, broker: int
    ) -> None:
        subscriber = subscriber_of(self._core, host)
        if subscriber is None:
            raise RemoteConfig(host.problem or "the host announces nothing")
        now = self._core.clock.now()
        searches = self._searches(host, now)
        client = _client_id(self._core.node, host.host.id, self.name, broker)
        topics = [one.path for one in searches]
        is_raw = bool(host.host.script.strip())
        async with subscriber.listen(
            topics, client, now, broker=broker, is_raw=is_raw
        ) as subscription:
            self._connected += 1
            self.is_running, run.was_connected = True, True
            self._lost.pop(broker, None)
            try:
                log.info("subscribed", topics=len(searches), was_known=subscription.was_known)
                await self._tell(run)
                if subscriber.replays and not subscription.was_known:
                    await self._catch_up(subscriber, entry, host, searches, run)
                await self._take_from(subscriber, subscription, entry, host, searches, run)
            finally:
                self._connected -= 1
                self.is_running = self._connected > 0

    async def _take_from(
        self,
        subscriber: Subscriber,
        subscription: Subscription,
        entry: DestinationEntry,
        host: HostEntry,
        searches: Sequence[Search],
        run: Run,
    ) -> None:
        while not self._draining:
            arrived = await subscription.next()
            notes = await self._read(subscriber, host, [one.notification for one in arrived])
            await self._take(entry, host, searches, notes, run)
            subscription.acknowledge(arrived)
            if self._told_at is None or self._told_at + TOLD_EVERY <= self._core.clock.now():
                await self._tell(run)

    async def _catch_up(
        self,
        subscriber: Subscriber,
        entry: DestinationEntry,
        host: HostEntry,
        searches: Sequence[Search],
        run: Run,
    ) -> None:
        """Ask for what was announced while we were away, when the broker does not know us."""
        since = await self._core.store.read(announced.latest, self.name)
        if since is None:
            return
        now = self._core.clock.now()
        topics = [one.path for one in searches]
        is_raw = bool(host.host.script.strip())
        async for page in subscriber.missed(topics, since - OVERLAP, now, is_raw=is_raw):
            await self._take(entry, host, searches, await self._read(subscriber, host, page), run)
            run.count("replayed", len(page))

    async def _read(
        self, subscriber: Subscriber, host: HostEntry, notes: Sequence[Notification]
    ) -> Sequence[Notification]:
        """Let the script of the Host read messages, if it has one."""
        if not host.host.script:
            return notes
        return await read_messages(self._core.scripts, host.host.script, subscriber, notes)

    def _searches(self, host: HostEntry, now: datetime) -> list[Search]:
        """Return the lines of the directory: topic filters with the options of acquisition."""
        directory = parse_directory(
            host.host.directory,
            host.host.options,
            tokens=host_tokens(host),
            zone=ZoneInfo(self._core.settings.node.timezone),
        )
        found = [line.at(now) for line in directory.lines]
        if not found:
            raise RemoteConfig("the directory names no topic")
        return found

    async def _tell(self, run: Run) -> None:
        self._told_at = now = self._core.clock.now()
        metrics = self._core.metrics
        for word, count in run.outcomes.items():
            metrics.acquisition_files.labels(self.host, word).inc(count)
        run.outcomes.clear()
        await self._core.store.write_lazily(self._store, run, "failed" if run.errors else "ok", now)
        self._core.bus.tell("host", self.host, destination=self.name)

    # --- messages -----------------------------------------------------------------------

    async def _take(
        self,
        entry: DestinationEntry,
        host: HostEntry,
        searches: Sequence[Search],
        notes: Sequence[Notification],
        run: Run,
    ) -> None:
        """Store what messages announce; returns when all of it is on disk."""
        jobs: list[_Job] = []
        cache = Cache.of(entry)
        for note in notes:
            run.listed += 1
            job = await self._job(host, searches, note, run, cache)
            self._look_at(note)
            if job is not None:
                jobs.append(job)
        if not jobs:
            return
        now = self._core.clock.now()
        done = await self._core.store.write(
            store_all, jobs, self.name, self._teller, now=now, cache=cache
        )
        self._core.failpoints.hit("acquisition.registered")
        names: set[str] = set()
        for outcome, registered in done:
            run.count(outcome)
            if registered is not None:
                run.selected += 1
                names.update(registered.destinations)
        if names:
            first = min((one.expires_at for _, one in done if one and one.expires_at), default=None)
            self._submitted(
                Registered(file=0, transfers=(), destinations=tuple(names), expires_at=first)
            )
        if any(outcome == PASSED_ON for outcome, _ in done):
            self._core.bus.tell("outbox", self.name, destination=self.name)

    def _look_at(self, note: Notification) -> None:
        """Count a message of WIS2 and see how late it is."""
        metrics = self._core.metrics
        if note.problem or note.warning:
            metrics.wis2_invalid.labels("in", "refused" if note.problem else "warning").inc()
        if note.warning:
            log.info("message is not valid", topic=note.topic, reason=note.warning)
        if note.published is not None:
            metrics.wis2_messages.labels("in").inc()
            self.lag = max(self._core.clock.now() - note.published, timedelta(0))
            metrics.wis2_lag.labels(self.host).set(self.lag.total_seconds())

    async def _job(
        self,
        host: HostEntry,
        searches: Sequence[Search],
        note: Notification,
        run: Run,
        cache: Cache | None,
    ) -> _Job | None:
        if note.problem:
            run.count("invalid")
            run.error(f"{note.topic}: {note.problem}")
            log.warning("message refused", topic=note.topic, reason=note.problem)
            return None
        search = next((one for one in searches if matches(one.path, note.topic)), None)
        if note.ignored or search is None:
            run.count("ignored")
            return None
        if note.operation == "deletion" or (cache is not None and cache.passes(note)):
            return _Job(note)
        if await self._core.store.read(is_known, self.name, note):
            run.count("exists")
            await self._know_link(note)
            return None
        return await self._planned(host, search, note, run)

    async def _know_link(self, note: Notification) -> None:
        """Remember another address of a datum that is known."""
        core = self._core
        if not await core.store.read(has_other_link, self.name, note):
            return
        if await core.store.write(other_link, self.name, note, now=core.clock.now()):
            self._submitted(
                Registered(file=0, transfers=(), destinations=(self.name,), expires_at=None)
            )

    async def _planned(
        self, host: HostEntry, search: Search, note: Notification, run: Run
    ) -> _Job | None:
        choice = _choice(search, note, self.name)
        if not choice.is_selected:
            run.count(choice.outcome.value)
            return None
        now, snapshot = self._core.clock.now(), self._core.snapshot
        try:
            content = await self._stored(note.body)
            given = submission_of(choice, search, host, self.name, "overwrite", content)
            given = _announced(given, note)
            plans = [plan(given, snapshot, now)]
            if note.add_message:
                message = await self._stored(note.message)
                extra = choice.target + search.options.payload_extension
                plans.append(plan(_beside(given, extra, message, len(note.message)), snapshot, now))
        except EcpdsError as error:
            run.count("registration error")
            run.error(f"{note.name}: {error.message}")
            return None
        return _Job(note, tuple(plans))

    async def _stored(self, body: bytes | None) -> Stored | None:
        if body is None:
            return None
        upload = self._core.objects.create(len(body))
        try:
            upload.write(body)
            return await self._core.objects.seal(upload)
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()


def _client_id(node: str, host: int, destination: str, broker: int = 0) -> str:
    """Return an id that stays the same, so that the broker knows us again."""
    mark = hashlib.sha256(f"{node}/{host}/{destination}".encode()).hexdigest()[:12]
    return f"ecpds-{host}-{mark}" + (f"-{broker}" if broker else "")


def _choice(search: Search, note: Notification, destination: str) -> Choice:
    """Return the verdict of the line on what a message announces."""
    entry = Entry(kind=Kind.FILE, name=note.name, size=note.size, mtime=note.time, url=note.href)
    return Selector(search, destination).test(entry)


def _announced(given: Submission, note: Notification) -> Submission:
    """Return a submission with what only the message knows."""
    metadata = dict(given.metadata)
    for part in filter(None, note.metadata.split(",")):
        name, _, value = part.partition("=")
        metadata.setdefault(name, value)
    return replace(
        given,
        source=note.href or given.source,
        original=note.href or given.original,
        unique_name=note.data_id or given.unique_name,
        time_base=note.base,
        metadata=metadata,
        comment=f"Announced on {note.topic}"[:500],
    )


def _beside(given: Submission, target: str, content: Stored | None, size: int) -> Submission:
    return replace(
        given, target=target, unique_name=target, content=content, event=False, size=size,
        source="", no_retrieval=False,
    )  # fmt: skip


# --- in the transaction ----------------------------------------------------------------------


def is_known(db: Connection, destination: str, note: Notification) -> bool:
    """Tell whether a message came before, or tells nothing newer of its datum."""
    if note.identifier and announced.is_seen(db, destination, note.identifier):
        return True
    if not note.data_id or note.published is None:
        return False
    known = announced.datum(db, destination, note.data_id)
    return known is not None and note.published <= known.published


def store_all(
    db: Connection,
    jobs: Sequence[_Job],
    destination: str,
    teller: Teller,
    *,
    now: datetime,
    cache: Cache | None = None,
) -> list[tuple[str, Registered | None]]:
    """Register files and remember messages; one that fails does not harm the others.

    For a `cache` the messages are kept too, to be told again.
    """
    return [_store_one(db, job, destination, teller, now=now, cache=cache) for job in jobs]


def _store_one(
    db: Connection,
    job: _Job,
    destination: str,
    teller: Teller,
    *,
    now: datetime,
    cache: Cache | None,
) -> tuple[str, Registered | None]:
    note, keeps = job.note, cache is not None
    if is_known(db, destination, note):
        return "exists", None
    if note.identifier:
        announced.note(db, destination, note.identifier, now=now)
    if cache is not None and cache.passes(note):
        return pass_on(db, cache, note, destination, now=now), None
    if note.operation == "deletion":
        return _withdraw(db, note, destination, teller, now=now, keeps=keeps), None
    try:
        return "selected", _registered(db, job, destination, now=now, keeps=keeps)
    except EcpdsError as error:
        log.warning("announced file not registered", target=note.name, reason=error.message)
        return "registration error", None


def _registered(
    db: Connection, job: _Job, destination: str, *, now: datetime, keeps: bool
) -> Registered | None:
    """Register the file of a message, and the message beside it."""
    note, registered = job.note, None
    for number, planned in enumerate(job.plans):
        made = register(db, planned, now=now)
        registered = made if not number else registered
    if registered is None:
        return None
    announced.expect(db, registered.file, note.method, note.digest)
    if note.data_id and note.published is not None:
        announced.put_datum(db, destination, note.data_id, note.published, registered.file, now=now)
    _keep(db, note, registered.file, keeps=keeps)
    return registered


def _keep(db: Connection, note: Notification, file: int, *, keeps: bool) -> None:
    if keeps:
        wis2.put_origin(db, file, note.topic, note.message.decode())


def _withdraw(
    db: Connection,
    note: Notification,
    destination: str,
    teller: Teller,
    *,
    now: datetime,
    keeps: bool = False,
) -> str:
    known = announced.datum(db, destination, note.data_id) if note.data_id else None
    if note.data_id and note.published is not None:
        announced.put_datum(db, destination, note.data_id, note.published, None, now=now)
    if known is None or known.file is None:
        return "nothing to withdraw"
    _keep(db, note, known.file, keeps=keeps)
    for one in transfers.of_file(db, known.file):
        _delete(db, one, f"Withdrawn on {note.topic}"[:500], teller, now=now)
    return "withdrawn"


def _delete(db: Connection, old: Transfer, comment: str, teller: Teller, *, now: datetime) -> None:
    status = old.status if old.status is TransferStatus.DONE else TransferStatus.STOP
    gone = replace(old, status=status, deleted=True, comment=comment)
    transfers.save(db, gone, now=now)
    history.step(db, old.id, old.destination, status, time=now, comment=comment)
    history.drop_resume(db, old.id)
    files.mark_unused(db, old.data_file)
    outbox.add_deleted(db, old.id, expires_at=None, now=now)
    teller.plain(
        db,
        "DEL",
        now=now,
        transfer_id=old.id,
        file_id=old.data_file,
        destination={"name": old.destination},
        file={"name": old.target, "size": old.size},
        user={"id": "broker", "kind": "system"},
        outcome="ok",
    )


def has_other_link(db: Connection, destination: str, note: Notification) -> bool:
    """Tell whether a message may name another address of a datum that is known."""
    if not note.href or not note.data_id:
        return False
    return not announced.is_seen(db, destination, note.identifier)


def other_link(db: Connection, destination: str, note: Notification, *, now: datetime) -> bool:
    """Remember another address of a datum that is known; take it at once if it is preferred.

    Tells whether a download that had failed begins anew with it.
    """
    known = announced.datum(db, destination, note.data_id)
    file = files.get(db, known.file) if known is not None and known.file is not None else None
    if file is None or file.stored or file.source == note.href:
        return False
    if known is not None and known.published != note.published:
        return False
    failed = [one for one in transfers.of_file(db, file.id) if one.status is TransferStatus.FAIL]
    if note.preferred or failed:
        files.set_source(db, file.id, note.href)
        wis2.add_link(db, file.id, file.source)
    else:
        wis2.add_link(db, file.id, note.href)
    for one in failed:
        transfers.set_status(db, one.id, TransferStatus.SCHE, now=now, comment="another address")
        history.step(db, one.id, one.destination, TransferStatus.SCHE, time=now)
    return bool(failed)


def take_other_link(db: Connection, file: DataFile) -> bool:
    """Let a file be fetched from another address that was told; tell whether there was one."""
    others = wis2.links(db, file.id)
    if not others:
        return False
    files.set_source(db, file.id, others[0])
    wis2.set_links(db, file.id, others[1:])
    return True


# --- after the content was fetched -----------------------------------------------------------


async def check_digest(core: Core, file: DataFile, host: HostEntry, stored: Stored) -> None:
    """Raise RemoteVerify, and remove the content, when it is not what was announced."""
    if subscriber_of(core, host) is None:
        return
    wanted = await core.store.read(announced.expected, file.id)
    if wanted is None:
        return
    method, digest = wanted
    found = await core.threads.run("digest", _digest, core, stored, method)
    if found != digest:
        await core.objects.remove([(stored.volume, stored.key)])
        raise RemoteVerify(f"the {method} of the content is not the announced one")


def _digest(core: Core, stored: Stored, method: str) -> str:
    descriptor = core.objects.open(stored.volume, stored.key)
    try:
        made, offset = hashlib.new(method, usedforsecurity=False), 0
        while block := os.pread(descriptor, _BUFFER, offset):
            made.update(block)
            offset += len(block)
        return made.hexdigest()
    finally:
        os.close(descriptor)
