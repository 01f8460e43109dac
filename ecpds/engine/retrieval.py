"""Fetches the content of registered files, one scheduler a Destination.

The unit of work is the DataFile: all its live transfers go FETC and then further together.  Files
found by acquisition come from the Host that found them, others from the Destination's source host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.content import UploadSink
from ecpds.engine.core import Core, HostEntry, Snapshot
from ecpds.engine.guard import LAST, Guard
from ecpds.engine.listed import fetch_listed
from ecpds.engine.receiving import Halves
from ecpds.engine.retrievalcontrol import RetrievalControl
from ecpds.engine.retry import reason_of
from ecpds.engine.submit import standby_after
from ecpds.engine.subscription import check_digest, subscriber_of, take_other_link
from ecpds.engine.telling import Teller
from ecpds.model.errors import EcpdsError, RemoteConfig
from ecpds.model.host import HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.objects.directory import Stored
from ecpds.store import files, groups, history, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import TransferModule
from ecpds.transfer.fetch import fetch
from ecpds.transfer.meter import Meter, Watch

log = get_logger(__name__)

LOOK_AGAIN = timedelta(minutes=1)
MOST_CLAIMED = 64
FAST_TRIES = {True: 3, False: 50}  # failures without a pause: acquisition files, fetch mode
PAUSES = {True: timedelta(seconds=180), False: timedelta(seconds=30)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file whose transfers are in FETC."""

    file: DataFile
    transfers: tuple[Transfer, ...]


GIVEN_UP = frozenset({"missing", "name", "invalid-name"})  # no try of a registered file helps


class RetrievalSlots:
    """How many retrievals run in all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.control = RetrievalControl()

    @property
    def most(self) -> int:
        """Return how many may run at a time."""
        return self.control.streams or self.limit

    @property
    def free(self) -> int:
        """Return how many more may start."""
        return 0 if self.control.stopped else self.most - self.running


class RetrievalScheduler:
    """The retrievals of one Destination."""

    def __init__(
        self,
        core: Core,
        name: str,
        *,
        slots: RetrievalSlots,
        halves: Halves,
        stored: Callable[[str], None],
    ) -> None:
        self.name = name
        self.running = 0
        self.meters: dict[int, Meter] = {}
        self.guard: Guard | None = None  # which priorities may take room
        self._core = core
        self._slots = slots
        self._halves = halves
        self._stored = stored
        self._teller = Teller(node=core.node)
        self._wake = asyncio.Event()
        self._draining = False

    def poke(self) -> None:
        """Look for work now."""
        self._wake.set()

    def drain(self) -> None:
        """Start nothing any more."""
        self._draining = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled or drained."""
        clock = self._core.clock
        async with asyncio.TaskGroup() as group:
            while not (self._draining and not self.running):
                self._wake.clear()
                until = clock.now() + LOOK_AGAIN
                if not self._draining:
                    due = await self._start_due(group)
                    until = min(until, due) if due is not None else until
                await clock.wait(self._wake, until)

    async def _start_due(self, group: asyncio.TaskGroup) -> datetime | None:
        now = self._core.clock.now()
        entry = self._core.snapshot.destinations.get(self.name)
        if entry is None or entry.state is StoredState.STOP:
            return None
        most = entry.destination.max_connections
        free = MOST_CLAIMED if most < 0 else most - self.running
        free = min(free, MOST_CLAIMED, self._slots.free)
        if free <= 0:
            return None
        most = self.guard.cutoff if self.guard is not None else LAST
        tasks, next_due = await self._core.store.write_lazily(
            claim_retrievals, self.name, now=now, limit=free, most=most
        )
        for task in tasks:
            self.running += 1
            self._slots.running += 1
            group.create_task(self._one(task), name=f"retrieval-{task.file.id}")
        if len(tasks) == free:
            return None  # the end of one of them looks again
        if next_due is not None and next_due <= now:
            return now + timedelta(seconds=1)
        return next_due

    async def _one(self, task: Task) -> None:
        known = self._core.snapshot.hosts.get(task.file.host)
        access = known.access if known is not None else None
        meter = access.retrieval_meter() if access is not None else Meter()
        self.meters[task.file.id] = meter
        with log_context(file=task.file.id, destination=self.name):
            try:
                await self._retrieve(task, meter)
            finally:
                self._leave(task)

    def _leave(self, task: Task) -> None:
        """Give the slot back, once; the source is done, the store may still be at work."""
        if self.meters.pop(task.file.id, None) is not None:
            self.running -= 1
            self._slots.running -= 1
            self._wake.set()

    def _host(self, file: DataFile) -> HostEntry:
        name = file.host
        if not name:
            name = self._core.snapshot.destination(self.name).destination.source_host
        if not name:
            raise RemoteConfig(f"Destination {self.name} has no source host")
        host = self._core.snapshot.host(name)
        if not host.host.active:
            raise RemoteConfig(f"host {name} is not active")
        return host

    async def _retrieve(self, task: Task, meter: Meter) -> None:
        started = self._core.clock.now()
        host: HostEntry | None = None
        try:
            host = self._host(task.file)
            stored, peer, tcp = await self._fetch(task.file, host, meter)
            await check_digest(self._core, task.file, host, stored)
        except Exception as error:  # noqa: BLE001 - one file's mishap must not stop the others
            if not isinstance(error, (EcpdsError, OSError)):
                log.error("retrieval broke", exc=error)  # noqa: TRY400 - the trace is in `exc`
            await self._failed(task, host, reason_of(error), started)
            return
        self._leave(task)
        self._core.failpoints.hit("retrieval.stored")
        now = self._core.clock.now()
        names = await self._core.store.write(
            store_retrieved, task, stored, host, peer, self._core.snapshot, self._teller,
            started, now, tcp=tcp,
        )  # fmt: skip
        self._core.failpoints.hit("retrieval.committed")
        self._core.metrics.retrievals.labels(host.name, "ok").inc()
        for name in names:
            self._stored(name)
        if task.file.delete_original:
            await self._delete_original(task.file, host)

    async def _fetch(
        self, file: DataFile, host: HostEntry, meter: Meter
    ) -> tuple[Stored, str, Mapping[str, int]]:
        access = host.access
        if access is None:
            raise RemoteConfig(host.problem)
        skip = host.acquisition.skip_size_check
        check = not (skip and re.fullmatch(skip, file.source))
        watch = access.fetching
        if self._slots.control.stall is not None:
            watch = replace(watch, stall=self._slots.control.stall)
        expected = file.size if check else -1
        async with self._core.pool.session(access) as module:
            if file.is_list:
                stored, peer = await self._fetch_list(module, file, watch, meter, expected)
                return stored, peer, module.statistics()
            receiving = await self._halves.begin(file, host.name, module)
            upload = receiving.upload
            try:
                fetched = await fetch(
                    module,
                    file.source,
                    UploadSink(upload, self._core.threads),
                    around=self._core.around,
                    watch=watch,
                    meter=meter,
                    expected_size=expected,
                    offset=upload.received,
                )
                stored = await self._core.objects.seal(upload)
                await self._halves.done(receiving)
            except BaseException as error:
                await self._halves.broke(receiving, error)
                raise
            finally:
                upload.close()
        return stored, fetched.peer, fetched.statistics

    async def _fetch_list(
        self, module: TransferModule[Any], file: DataFile, watch: Watch, meter: Meter, expected: int
    ) -> tuple[Stored, str]:
        """Fetch the files that the source lists, one behind the other."""
        upload = self._core.objects.create(max(file.size, 0), group=file.transfer_group)
        try:
            sink = UploadSink(upload, self._core.threads)
            _, peer = await fetch_listed(
                module, file.source, sink, around=self._core.around, watch=watch, meter=meter,
                expected_size=expected,
            )  # fmt: skip
            return await self._core.objects.seal(upload), peer
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()

    async def _failed(
        self, task: Task, host: HostEntry | None, reason: Reason, started: datetime
    ) -> None:
        again = _tries_again(task.file, host, reason)
        if subscriber_of(self._core, host) is not None:
            again = await self._core.store.write(take_other_link, task.file) or again
        names = await self._core.store.write(
            store_failed, task, host, reason, self._core.snapshot, self._teller, started,
            self._core.clock.now(), again=again,
        )  # fmt: skip
        for one in names:
            self._stored(one)
        name = host.name if host else ""
        self._core.metrics.retrievals.labels(name, "failed").inc()
        log.warning("retrieval failed", host=name, kind=reason.kind, reason=reason.text)

    async def _delete_original(self, file: DataFile, host: HostEntry) -> None:
        if host.access is None:
            return
        try:
            async with self._core.pool.session(host.access) as module:
                await module.delete(file.source)
        except EcpdsError as error:
            log.warning("original not deleted", source=file.source, reason=error.message)

    def stop(self, file: int, reason: str) -> bool:
        """Interrupt the retrieval of a file; tell whether one ran."""
        meter = self.meters.get(file)
        if meter is not None:
            meter.stop(reason)
        return meter is not None


def is_acquired(host: HostEntry | None) -> bool:
    """Tell whether the files of that host were found by a discovery; others were registered."""
    return host is not None and host.host.role is HostRole.ACQUISITION


def _tries_again(file: DataFile, host: HostEntry | None, reason: Reason) -> bool:
    """Tell whether a failed retrieval is tried again by itself; a person may requeue the others."""
    if host is None:  # a host that is switched off comes back, one that was never named does not
        return bool(file.host)
    if is_acquired(host):
        return host.acquisition.requeue_on_failure
    return reason.kind not in GIVEN_UP


def claim_retrievals(
    db: Connection, name: str, *, now: datetime, limit: int, most: int = LAST
) -> tuple[list[Task], datetime | None]:
    """Move the transfers of up to `limit` files from SCHE to FETC; tell when the next is due."""
    tasks: list[Task] = []
    for _, number in transfers.preset(db, name, now=now, limit=limit, most=most):
        file = files.get(db, number)
        if file is None or any(task.file.id == number for task in tasks):
            continue
        waiting = [t for t in transfers.of_file(db, number) if t.status is TransferStatus.SCHE]
        for one in waiting:
            transfers.set_status(db, one.id, TransferStatus.FETC, now=now)
            history.step(db, one.id, one.destination, TransferStatus.FETC, time=now, host=file.host)
        tasks.append(Task(file=file, transfers=tuple(waiting)))
    return tasks, transfers.next_preset(db, name) if len(tasks) < limit else None


def store_retrieved(
    db: Connection,
    task: Task,
    stored: Stored,
    host: HostEntry,
    peer: str,
    snapshot: Snapshot,
    teller: Teller,
    started: datetime,
    now: datetime,
    *,
    tcp: Mapping[str, int] | None = None,
) -> list[str]:
    """Store where the content is and release the transfers; return their destinations."""
    duration = now - started
    files.set_content(
        db,
        task.file.id,
        size=stored.size,
        checksum=stored.checksum,
        volume=stored.volume,
        object_key=stored.key,
        started=started,
        duration=duration,
        remote_host=peer,
        now=now,
    )
    file = replace(
        task.file,
        stored=True,
        size=stored.size,
        checksum=stored.checksum,
        volume=stored.volume,
        object_key=stored.key,
        get_started_at=started,
        get_duration=duration,
        remote_host=peer,
        arrived_at=now,
    )
    names = []
    in_batch = bool(file.group_by) and not is_acquired(host)
    for one in transfers.of_file(db, file.id):
        if one.status is not TransferStatus.FETC:
            continue
        entry = snapshot.destinations.get(one.destination)
        held = standby_after(file, one, entry)
        status = TransferStatus.HOLD if held else TransferStatus.WAIT
        released = replace(one, status=status, comment="retrieved", size=file.size)
        if one.asap and not in_batch:
            released = replace(released, queue_at=now, due_at=now)
            transfers.save(db, released, now=now)
        else:
            transfers.set_status(db, one.id, status, now=now, comment=released.comment)
        history.step(
            db, one.id, one.destination, status, time=now, host=host.name, sent=stored.size,
            duration=duration, comment=f"Retrieved {stored.size} bytes from {host.name}",
        )  # fmt: skip
        teller.retrieved(
            db,
            released,
            file,
            entry,
            host_id=host.host.id,
            login=host.host.login,
            address=host.host.host,
            protocol=host.access.module.name if host.access else "",
            member=peer,
            duration=duration,
            reason=None,
            started_at=started,
            now=now,
        )
        if entry is not None and entry.notices is not None:
            entry.notices.arrived(
                db, one.id, one.target, status, replaced=bool(file.instance), flagged=one.event,
                expires_at=one.expires_at, now=now,
            )  # fmt: skip
        names.append(one.destination)
    if in_batch and any(one.asap for one in task.transfers):
        names += groups.send_if_complete(db, file.group_by, now=now)
    if not names:  # everything was stopped or deleted meanwhile
        files.mark_unused(db, file.id)
    return names


def store_failed(
    db: Connection,
    task: Task,
    host: HostEntry | None,
    reason: Reason,
    snapshot: Snapshot,
    teller: Teller,
    started: datetime,
    now: datetime,
    *,
    again: bool,
) -> list[str]:
    """Send the transfers back to SCHE (`again`) or to FAIL; the next discovery retries those.

    Returns the destinations that have something to send now, because a batch ended with this.
    """
    acquired = is_acquired(host) or (host is None and bool(task.file.host))
    count = task.file.retrieval_count + 1
    pause = PAUSES[acquired] if count >= FAST_TRIES[acquired] else timedelta(0)
    files.set_retrieval(db, task.file.id, count=count, at=now + pause)
    for one in transfers.of_file(db, task.file.id):
        if one.status is not TransferStatus.FETC:
            continue
        status = TransferStatus.SCHE if again else TransferStatus.FAIL
        changed = replace(
            one, status=status, reason=reason, comment=reason.text, failed_at=now, finished_at=now
        )
        transfers.save(db, changed, now=now)
        history.step(
            db, one.id, one.destination, status, time=now, host=host.name if host else "",
            comment=reason.text, error=True, reason=reason,
        )  # fmt: skip
        teller.retrieved(
            db,
            changed,
            task.file,
            snapshot.destinations.get(one.destination),
            host_id=host.host.id if host else 0,
            login=host.host.login if host else "",
            address=host.host.host if host else "",
            protocol=host.access.module.name if host and host.access else "",
            member="",
            duration=now - started,
            reason=reason,
            started_at=started,
            now=now,
        )
    if again or acquired or not any(one.asap for one in task.transfers):
        return []
    return groups.send_if_complete(db, task.file.group_by, now=now)


def recover(db: Connection, *, now: datetime) -> int:
    """After a crash: FETC goes back to SCHE; return how many."""
    count = 0
    while found := transfers.with_status(db, TransferStatus.FETC):
        for one in found:
            text = "interrupted by a restart"
            transfers.set_status(db, one.id, TransferStatus.SCHE, now=now, comment=text)
            history.step(
                db, one.id, one.destination, TransferStatus.INTR, time=now, comment=text, error=True
            )
        count += len(found)
    return count
