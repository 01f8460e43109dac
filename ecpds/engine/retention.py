"""What has had its time goes: expiry at its moment, bytes of deleted files soon, old rows later.

Every reader checks expiry itself; this only makes room and tells what happened.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.engine.telling import Teller
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason
from ecpds.objects import sweep
from ecpds.store import (
    accounts,
    announced,
    files,
    history,
    multipart,
    outbox,
    outgoing,
    products,
    transfers,
    wis2,
)
from ecpds.store.db import Connection

log = get_logger(__name__)

BATCH = 200
LOOK_EVERY = timedelta(seconds=5)  # at the next expiry at least; asking costs 50 µs
NEVER_SENT = frozenset(
    {TransferStatus.WAIT, TransferStatus.RETR, TransferStatus.SCHE, TransferStatus.INTR}
)
PARKED_FOR = timedelta(hours=24)
MESSAGES_FOR = timedelta(days=1)  # ids of announcements
DATA_FOR = timedelta(days=30)  # latest publications of announced data
TOLD_FOR = timedelta(days=90)  # what was told of data: whether it is new or an update
PUBLICATIONS_FOR = timedelta(days=7)  # rows of the outbox that ended
IN_PARTS_FOR = timedelta(days=7)
PRODUCTS_FOR = timedelta(days=14)


class Retention:
    """Expires, purges and forgets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)
        self._wake = asyncio.Event()
        self._until: datetime | None = None
        self._held_until = 0.0  # on the clock that never steps

    def poke(self) -> None:
        """Look now."""
        self._wake.set()

    def expect(self, expires_at: datetime | None) -> None:
        """Look again when something expires before the next look."""
        if expires_at is not None and self._until is not None and expires_at < self._until:
            self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled: at each expiry, and at least each housekeeping interval."""
        clock = self._core.clock
        while True:
            self._wake.clear()
            await self.expire()
            await self.purge_bytes()
            interval = self._core.settings.scheduler.housekeeping_interval
            until = clock.now() + min(interval, LOOK_EVERY)
            due = await self._core.store.read(transfers.next_expiry)
            if due is not None:
                until = min(until, max(due, clock.now() + timedelta(milliseconds=200)))
            self._until = until
            await clock.wait(self._wake, until)

    def hold(self, length: timedelta) -> None:
        """Let nothing expire for so long: the clock was set on, perhaps by mistake."""
        self._held_until = time.monotonic() + length.total_seconds()

    async def expire(self) -> int:
        """Mark everything that is past its expiry; return how many transfers."""
        total = 0
        if time.monotonic() < self._held_until:
            return 0
        while True:
            now = self._core.clock.now()
            touched = await self._core.store.write(expire_some, self._teller, now=now)
            for name in set(touched):
                self._core.bus.tell("destination", name, destination=name)
            total += len(touched)
            if len(touched) < BATCH:
                break
        if total:
            log.info("transfers expired", count=total)
        return total

    async def purge_bytes(self) -> int:
        """Remove the bytes of deleted files and replaced objects; return how many objects."""
        total = 0
        while gone := await self._core.store.read(files.purgeable, limit=BATCH):
            self._core.failpoints.hit("retention.marked")
            await self._core.objects.remove([(volume, key) for _, volume, key in gone if key])
            self._core.failpoints.hit("retention.removed")
            await self._core.store.write(files.mark_removed, [number for number, _, _ in gone])
            total += len(gone)
        while old := await self._core.store.read(files.replaced, limit=BATCH):
            await self._core.objects.remove(old)
            await self._core.store.write(files.forget_replaced, old)
            total += len(old)
        return total

    async def forget(self) -> None:
        """Drop rows that are past their keeping; run about hourly."""
        now = self._core.clock.now()
        keep = self._core.settings.scheduler
        before = now - keep.history_for
        gone = BATCH
        while gone == BATCH:
            gone = await self._core.store.write(transfers.remove_old, before=before, limit=BATCH)
        await self._core.store.write(
            history.purge, history_before=before, events_before=now - keep.events_for
        )
        await self._core.store.write(products.forget, before=now - PRODUCTS_FOR)
        await self._core.store.write(accounts.expire_sessions, now=now)
        await self._core.store.write(outbox.purge, before=now - PUBLICATIONS_FOR)
        await self._core.store.write(
            announced.purge, messages_before=now - MESSAGES_FOR, data_before=now - DATA_FOR
        )
        await self._core.store.write(wis2.purge, before=now - TOLD_FOR)
        await self._forget_parked(now)
        today = f"{now:%Y%m%d}"
        for volume in self._core.objects.volumes:
            await self._core.threads.run("disk", sweep.drop_empty_directories, volume, today)

    async def _forget_parked(self, now: datetime) -> None:
        await self._core.store.write(
            multipart.drop_old, before=now - IN_PARTS_FOR, limit=BATCH
        )  # their files go below, as any that nobody claims
        before = now - PARKED_FOR
        kept = await self._core.store.write(files.forget_parked, before=before)
        kept += await self._core.store.write(outgoing.forget_halves, before=before)
        for volume in self._core.objects.volumes:
            await self._core.threads.run(
                "disk", sweep.sweep_temporaries, volume, frozenset(kept), before
            )


def expire_some(db: Connection, teller: Teller, *, now: datetime) -> list[str]:
    """Mark up to a batch of expired transfers; return their destinations."""
    touched = []
    for number, status in transfers.expired(db, now=now, limit=BATCH):
        present = transfers.get(db, number)
        if present is None:
            continue
        changed = replace(present, deleted=True)
        comment = "expired"
        if status in NEVER_SENT:
            comment = "not transferred before expiration"
            reason = Reason(kind="expired", code="expired", text=comment)
            changed = replace(
                changed, status=TransferStatus.FAIL, reason=reason, comment=comment, failed_at=now
            )
        transfers.save(db, changed, now=now)
        history.step(
            db, number, present.destination, changed.status, time=now, comment=comment,
            error=status in NEVER_SENT, reason=changed.reason,
        )  # fmt: skip
        history.drop_resume(db, number)
        teller.plain(
            db,
            "EXP",
            now=now,
            transfer_id=number,
            file_id=present.data_file,
            destination={"name": present.destination},
            file={"name": present.target, "size": present.size},
            status=changed.status.code,
            outcome="failed" if status in NEVER_SENT else "ok",
        )
        files.mark_unused(db, present.data_file)
        touched.append(present.destination)
    return touched
