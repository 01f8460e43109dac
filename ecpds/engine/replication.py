"""Keeps copies of content at backup hosts and at proxies, and removes those that nobody needs.

Which files lack a copy is asked of the store, so that nothing is added to the way of a submission;
the longer that question takes, the longer the pause until the next.  Only destinations with
`backup` and a backup host, or with a proxy host, are asked about.  Spec: schedulers.md section 5.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.proxy import ProxyOptions, linked
from ecpds.engine.retry import reason_of
from ecpds.engine.telling import Teller, millis, stamp
from ecpds.model.errors import EcpdsError, NotFound, RemoteConfig, RemoteMissing
from ecpds.model.host import HostRole
from ecpds.model.status import StoredState
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import copies, files, transfers
from ecpds.store.copies import Copy, Role
from ecpds.store.db import Connection
from ecpds.transfer.deliver import deliver
from ecpds.transfer.source import ContentSource

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=2)
AT_ONCE: Final = 15  # copies under way in all
SETTLED: Final = timedelta(seconds=5)  # content is so old before it goes to a proxy
AGAIN: Final[dict[Role, timedelta]] = {
    "backup": timedelta(minutes=30),
    "proxy": timedelta(minutes=3),
}
EVENT: Final[dict[Role, str]] = {"backup": "replicate", "proxy": "proxy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One copy to be made."""

    role: Role
    entry: DestinationEntry
    host: HostEntry
    file: DataFile
    transfer: Transfer
    old: Copy | None = None

    @property
    def instance(self) -> int:
        """Return the instance of the content, 0 for the first."""
        return self.file.instance or 0

    @property
    def destination(self) -> str:
        """Return for whom the copy is: a backup serves all."""
        return self.entry.name if self.role == "proxy" else ""


class Replicator:
    """Makes and removes copies."""

    def __init__(self, core: Core, copied: Callable[[str], None]) -> None:
        """`copied` is told which destination may have something to send now."""
        self._core = core
        self._copied = copied
        self._teller = Teller(node=core.node)
        self._running: set[tuple[int, str, str]] = set()
        self._by_host: dict[str, int] = {}
        self._out: dict[str, datetime] = {}  # hosts that failed: the next one serves until then
        self._wake = asyncio.Event()

    def poke(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        clock = self._core.clock
        # a restart must not begin again with a host that failed: its files wait for it, not for us
        self._out = await self._core.store.read(copies.failing, now=clock.now())
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                begun = clock.now()
                pairs = list(self._pairs())
                for role, entry, host, others in pairs:
                    for task in await self._missing(role, entry, host, others):
                        self._start(group, task)
                if pairs or self._by_host:
                    await self._purge()
                pause = max(LOOK_EVERY, 10 * (clock.now() - begun)) if pairs else LOOK_EVERY * 5
                await clock.wait(self._wake, clock.now() + pause)

    def _pairs(self) -> Iterator[tuple[Role, DestinationEntry, HostEntry, list[str]]]:
        """Yield who gets copies now, and all hosts at which a copy counts."""
        snapshot = self._core.snapshot
        for name, entry in snapshot.destinations.items():
            if entry.destination.backup:
                found = snapshot.hosts_of(name, HostRole.BACKUP)
                for host in self._first_that_works(found):
                    yield "backup", entry, host, [one.name for one in found]
            if entry.state is not StoredState.STOP:
                found = snapshot.hosts_of(name, HostRole.PROXY)
                for host in self._first_that_works(found):
                    yield "proxy", entry, host, [one.name for one in found]

    def _first_that_works(self, hosts: list[HostEntry]) -> list[HostEntry]:
        """Return the first host that did not just fail, else the first; none if there is none."""
        now = self._core.clock.now()
        return [one for one in hosts if self._out.get(one.name, now) <= now][:1] or hosts[:1]

    async def _missing(
        self, role: Role, entry: DestinationEntry, host: HostEntry, others: list[str]
    ) -> list[Task]:
        most = host.host.max_connections
        here = self._by_host.get(host.name, 0)
        free = AT_ONCE - len(self._running)
        free = min(free, most - here) if most >= 0 else free
        if free <= 0:
            return []
        found = await self._core.store.read(
            read_missing, role, entry, host, others, now=self._core.clock.now(),
            limit=free + here,
        )  # fmt: skip
        return [task for task in found if self._key(task) not in self._running][:free]

    @staticmethod
    def _key(task: Task) -> tuple[int, str, str]:
        return task.file.id, task.host.name, task.destination

    def _start(self, group: asyncio.TaskGroup, task: Task) -> None:
        self._running.add(self._key(task))
        self._by_host[task.host.name] = self._by_host.get(task.host.name, 0) + 1
        group.create_task(self._one(task), name=f"copy-{task.file.id}")

    async def _one(self, task: Task) -> None:
        with log_context(file=task.file.id, host=task.host.name, destination=task.entry.name):
            try:
                await self._copy(task)
            finally:
                self._running.discard(self._key(task))
                self._by_host[task.host.name] -= 1
                self._wake.set()

    async def _copy(self, task: Task) -> None:
        core, started = self._core, self._core.clock.now()
        place, reason = "", None
        try:
            if task.old is not None and task.old.state == "there":
                await self._remove(task.old)  # of an earlier instance
            descriptor = core.objects.open(task.file.volume, task.file.object_key)
            try:
                act = self._to_backup if task.role == "backup" else self._to_proxy
                place = await act(task, descriptor)
            finally:
                os.close(descriptor)
        except (EcpdsError, OSError) as error:
            if isinstance(error, NotFound) and not await self._is_alive(task.file):
                return
            reason = reason_of(error)
            self._out[task.host.name] = core.clock.now() + AGAIN[task.role]
            log.warning("copy failed", role=task.role, reason=reason.text)
        core.failpoints.hit("copy.made")
        await core.store.write(
            store_copy, task, place, reason, self._teller, started, core.clock.now()
        )
        if reason is None:
            self._out.pop(task.host.name, None)
            log.info("copied", role=task.role, bytes=task.file.size, place=place)
            self._copied(task.entry.name)

    async def _is_alive(self, file: DataFile) -> bool:
        present = await self._core.store.read(files.get, file.id)
        return present is not None and not present.deleted and present.instance == file.instance

    async def _to_backup(self, task: Task, descriptor: int) -> str:
        access = task.host.access
        if access is None:
            raise RemoteConfig(task.host.problem)
        path = backup_path(task)
        source = ContentSource(
            descriptor, task.file.size, threads=self._core.threads, meter=access.upload_meter()
        )
        async with self._core.pool.session(access) as module:
            delivered = await deliver(
                module, path, source, size=task.file.size, rules=access.delivery,
                clock=self._core.clock, version=f"{task.file.etag}:{task.file.checksum}",
            )  # fmt: skip
        return delivered.path

    async def _to_proxy(self, task: Task, descriptor: int) -> str:
        transfer, file = task.transfer, task.file
        async with linked(task.host, self._core.threads) as link:
            number = await link.store(
                descriptor,
                file.size,
                {
                    "destination": link.options.destination or transfer.destination,
                    "target": transfer.target,
                    "original": file.original or transfer.target,
                    "version": f"{self._core.node}:{file.id}:{task.instance}",
                    "priority": str(transfer.priority),
                    "lifetime": f"{max(_left(transfer, self._core.clock.now()), 60)}s",
                },
            )
        return str(number)

    # --- removal ----------------------------------------------------------------------------

    async def _purge(self) -> None:
        now = self._core.clock.now()
        for copy in await self._core.store.read(copies.unused, now=now, limit=50):
            try:
                await self._remove(copy)
            except (EcpdsError, OSError) as error:
                log.warning("copy not removed", host=copy.host, reason=str(error))
                later = replace(copy, state="doomed", due_at=now + AGAIN[copy.role])
                await self._core.store.write_lazily(copies.put, later)
            else:
                await self._core.store.write_lazily(copies.forget, copy)
        await self._core.store.write_lazily(copies.forget_waiting)

    async def _remove(self, copy: Copy) -> None:
        host = self._core.snapshot.hosts.get(copy.host)
        if host is None or host.access is None or not copy.place:
            return  # the host is gone from the configuration
        if copy.role == "proxy":
            async with linked(host, self._core.threads) as link:
                await link.drop(int(copy.place))
            return
        try:
            async with self._core.pool.session(host.access) as module:
                await module.delete(copy.place)
        except RemoteMissing:
            return


def _left(transfer: Transfer, now: datetime) -> int:
    return int((transfer.expires_at - now).total_seconds())


def backup_path(task: Task) -> str:
    """Return where a copy goes: below the host's directory, by day, file and instance.

    Of the directory only the first line counts, up to the first `$` (dissemination.md 4).
    """
    first = task.host.host.directory.strip().split("\n")[0].strip()
    base = "" if first.startswith("(") else first.partition("$")[0]
    folder = base if not base or base.endswith("/") else f"{base}/"
    name = (task.file.original or task.transfer.target).rstrip("/").rpartition("/")[2]
    return f"{folder}{task.file.arrived_at:%Y%m%d}/{task.file.id}-{task.instance}-{name}"


def read_missing(
    db: Connection,
    role: Role,
    entry: DestinationEntry,
    host: HostEntry,
    hosts: list[str],
    *,
    now: datetime,
    limit: int,
) -> list[Task]:
    """Return copies that are to be made, with everything that is known."""
    found = copies.missing(
        db, role, entry.name, host.name, hosts=hosts, now=now, arrived=now - SETTLED,
        limit=limit,
    )  # fmt: skip
    tasks = []
    for number, file_number in found:
        transfer, file = transfers.get(db, number), files.get(db, file_number)
        if transfer is None or file is None:
            continue
        task = Task(role=role, entry=entry, host=host, file=file, transfer=transfer)
        old = copies.get(db, file.id, host.name, task.destination, now=now)
        tasks.append(replace(task, old=old))
    return tasks


def store_copy(
    db: Connection,
    task: Task,
    place: str,
    reason: Reason | None,
    teller: Teller,
    started: datetime,
    now: datetime,
) -> None:
    """Store a copy that was made or failed, with its CPY event."""
    tries = (task.old.tries if task.old else 0) + 1
    copy = Copy(
        file=task.file.id,
        instance=task.instance,
        host=task.host.name,
        role=task.role,
        destination=task.destination,
        state="waiting" if reason else "there",
        place=place,
        tries=tries if reason else 0,
        due_at=now + AGAIN[task.role] if reason else now,
        error=reason.text if reason else "",
    )
    copies.put(db, copy)
    if reason is None:
        copies.mark(db, copy, task.transfer.id)
    tell_copied(db, teller, task, reason, started=started, now=now)


def tell_copied(
    db: Connection,
    teller: Teller,
    task: Task,
    reason: Reason | None,
    *,
    started: datetime,
    now: datetime,
) -> None:
    """CPY: an attempt to copy has ended."""
    fields = teller.about(task.transfer, task.file, task.entry) | {
        "net": {
            "protocol": task.host.access.module.name if task.host.access else "",
            "remote": task.host.host.host,
            "server": teller.node,
        },
        "target": task.host.name,
        "action": EVENT[task.role],
        "started": stamp(started),
        "duration_ms": millis(now - started),
        "status": reason is None,
        "outcome": "failed" if reason else "ok",
    }
    if reason is not None:
        fields["error"] = {"code": reason.code, "message": reason.text, "retryable": True}
    teller.plain(db, "CPY", now=now, **fields)


def chosen_proxy(
    db: Connection,
    transfer: Transfer,
    file: DataFile,
    proxies: list[HostEntry],
    *,
    now: datetime,
) -> tuple[HostEntry, int] | None:
    """Return the proxy that is to send this attempt and the transfer there; None: directly."""
    for host in proxies:
        copy = copies.get(db, file.id, host.name, transfer.destination, now=now)
        if copy is None or copy.state != "there" or copy.instance != (file.instance or 0):
            continue
        if transfer.start_count % ProxyOptions.read(host.host.options).modulo > 0:
            return host, int(copy.place)
    return None
