"""Small files of a directory of this machine: their content comes with the discovery, many at once.

A file that is registered first and fetched later costs a claim, a task and a transaction of its
own.  Where content can be had at once, a lot of files is read in one visit to a thread, sealed
together and registered together as stored.  What does not go that way, for whatever reason, is
registered without content; the retrieval then tells why.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ecpds.engine.core import Core, DestinationEntry, HostEntry, Snapshot
from ecpds.engine.submit import Plan, PlannedTransfer, Registered, register, status_of
from ecpds.engine.telling import Teller
from ecpds.model.errors import EcpdsError
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.objects.upload import Upload
from ecpds.store import history
from ecpds.store.db import Connection
from ecpds.transfer.contract import SmallFiles, TransferModule
from ecpds.transfer.source import SMALL

MOST_FILES: Final = 64
MOST_BYTES: Final = 4 * 1024 * 1024  # of one lot


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A plan with content, and when that was fetched."""

    plan: Plan
    started_at: datetime
    duration: timedelta


class _Reading:
    """A lot that a thread reads; one that nobody waits for any more leaves nothing open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._uploads: Sequence[Upload | None] = ()

    def end(self, uploads: Sequence[Upload | None]) -> None:
        """Tell what was read."""
        with self._lock:
            self._uploads = uploads
            if self._is_abandoned:
                self._discard()

    def abandon(self) -> None:
        """Tell that nobody takes it."""
        with self._lock:
            self._is_abandoned = True
            self._discard()

    def _discard(self) -> None:
        for one in self._uploads:
            if one is not None:
                one.discard()


class SmallLots:
    """Fetches small files of one Host."""

    def __init__(self, core: Core, host: HostEntry, module: TransferModule[Any]) -> None:
        self._core = core
        self._host = host
        self._small = module.small
        self.peer = module.peer

    def split(self, plans: Sequence[Plan]) -> Iterator[tuple[list[Plan], list[Plan]]]:
        """Yield lots to be fetched, and beside each the plans that go the other way."""
        lot: list[Plan] = []
        others: list[Plan] = []
        left = MOST_BYTES
        for one in plans:
            if not self._suits(one):
                others.append(one)
                continue
            lot.append(one)
            left -= one.file.size
            if len(lot) == MOST_FILES or left <= 0:
                yield lot, others
                lot, others, left = [], [], MOST_BYTES
        if lot or others:
            yield lot, others

    def _suits(self, plan: Plan) -> bool:
        file = plan.file
        if self._small is None or file.stored or plan.no_retrieval or file.is_list:
            return False
        if file.delete_original or plan.on_duplicate != "skip":
            return False
        return 0 <= file.size <= SMALL

    async def fetch(self, lot: Sequence[Plan]) -> tuple[list[Fetched], list[Plan]]:
        """Return those whose content is durable now, and those without."""
        if not lot or self._small is None:
            return [], list(lot)
        started = self._core.clock.now()
        reading = _Reading()
        try:
            uploads = await self._core.threads.run("disk", self._read, self._small, lot, reading)
        except BaseException:
            reading.abandon()
            raise
        try:
            stored = await self._core.objects.seal_lot([one for one in uploads if one is not None])
        finally:
            for one in uploads:
                if one is not None:
                    one.close()
        found = iter(stored)
        now = self._core.clock.now()
        done: list[Fetched] = []
        others: list[Plan] = []
        for plan, upload in zip(lot, uploads, strict=True):
            content = next(found) if upload is not None else None
            if content is None:
                others.append(plan)
                continue
            file = replace(
                plan.file, stored=True, checksum=content.checksum, volume=content.volume,
                object_key=content.key, get_started_at=started, get_duration=now - started,
                remote_host=self.peer,
            )  # fmt: skip
            whole = replace(plan, file=file, fetched=True)
            done.append(Fetched(plan=whole, started_at=started, duration=now - started))
        return done, others

    def _read(
        self, small: SmallFiles, lot: Sequence[Plan], reading: _Reading
    ) -> list[Upload | None]:
        """Read files into new objects; None for those that cannot be read as they were listed."""
        found = [self._read_one(small, plan) for plan in lot]
        reading.end(found)
        return found

    def _read_one(self, small: SmallFiles, plan: Plan) -> Upload | None:
        upload: Upload | None = None
        try:
            content = small.read(plan.file.source, plan.file.size + 1)
            if len(content) != plan.file.size:
                return None
            upload = self._core.objects.create(len(content), group=plan.file.transfer_group)
            upload.write(content)
        except (EcpdsError, OSError):
            if upload is not None:
                upload.discard()
            return None
        return upload


def may_come_at_once(host: HostEntry) -> bool:
    """Tell whether nothing of the Host's options wants its files to be fetched one by one."""
    access = host.access
    if access is None or access.retrievals or access.retrieval.rate_throttling:
        return False
    return access.ectrans.progress_every is None and access.fetching.slow is None


def register_fetched(
    db: Connection,
    lot: Sequence[Fetched],
    host: HostEntry,
    snapshot: Snapshot,
    teller: Teller,
    *,
    now: datetime,
) -> tuple[list[Registered], list[str], list[Plan]]:
    """Register a lot in one transaction; return what was refused, and whose content is not used."""
    done: list[Registered] = []
    refused: list[str] = []
    unused: list[Plan] = []
    for one in lot:
        try:
            registered = register(db, one.plan, now=now)
        except EcpdsError as error:
            refused.append(f"{one.plan.file.source}: {error.message}")
            unused.append(one.plan)
            continue
        done.append(registered)
        if registered.skipped:
            unused.append(one.plan)
            continue
        for number, planned in zip(registered.transfers, one.plan.transfers, strict=True):
            entry = snapshot.destinations.get(planned.destination)
            _tell(db, one, registered.file, number, planned, entry, host, teller, now=now)
    return done, refused, unused


def _tell(
    db: Connection,
    one: Fetched,
    file_number: int,
    number: int,
    planned: PlannedTransfer,
    entry: DestinationEntry | None,
    host: HostEntry,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Note the retrieval of one transfer, as if it had been a step of its own."""
    plan, size = one.plan, one.plan.file.size
    status = status_of(plan, planned)
    fetching = TransferStatus.FETC
    history.step(db, number, planned.destination, fetching, time=one.started_at, host=host.name)
    history.step(
        db, number, planned.destination, status, time=now, host=host.name, sent=size,
        duration=one.duration, comment=f"Retrieved {size} bytes from {host.name}",
    )  # fmt: skip
    transfer = Transfer(
        id=number,
        destination=planned.destination,
        data_file=file_number,
        target=planned.target,
        identity=planned.target if planned.is_alias else plan.identity,
        priority=planned.priority,
        status=status,
        scheduled_at=planned.scheduled_at,
        queue_at=planned.scheduled_at,
        due_at=planned.scheduled_at,
        expires_at=planned.expires_at,
        created_at=now,
        asap=planned.asap,
    )
    teller.retrieved(
        db,
        transfer,
        replace(plan.file, id=file_number),
        entry,
        host_id=host.host.id,
        login=host.host.login,
        address=host.host.host,
        protocol=host.access.module.name if host.access else "",
        member=plan.file.remote_host,
        duration=one.duration,
        reason=None,
        started_at=one.started_at,
        now=now,
    )
