"""Small files for a directory of this machine: delivered many in one visit to a thread.

Each is still a transfer of its own, with its attempt, its history and its event; what they share
is the session, the wait for the disk and the transaction of the results.  A file that cannot be
delivered in a lot is tried again alone, at once, and that attempt tells why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecpds.engine.attempt import RATE, Attempts, Finished, Running
from ecpds.engine.attempt_store import Claimed, protocol_of, settle_state, store_delivered
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.resuming import token_of
from ecpds.engine.telling import Teller
from ecpds.model.compression import NONE
from ecpds.model.destination import OnHostFailure
from ecpds.model.errors import EcpdsError, InvalidName, TemplateError
from ecpds.model.status import TransferStatus
from ecpds.model.template import checked_path
from ecpds.store import transfers
from ecpds.store.claims import Lots
from ecpds.store.db import Connection
from ecpds.transfer.contract import Delivered, SmallPut
from ecpds.transfer.deliver import checked_name
from ecpds.transfer.meter import Meter
from ecpds.transfer.source import SMALL

LOTS: Final = Lots(files=32, size=SMALL)


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivered transfer."""

    claimed: Claimed
    delivered: Delivered


def lots_for(host: HostEntry, entry: DestinationEntry) -> Lots | None:
    """Tell how many small files of that destination count as one at the Host; None: each does."""
    access = host.access
    if access is None or not access.delivers_small or host.directory_only is None:
        return None
    destination = entry.destination
    if destination.on_host_failure is OnHostFailure.REVERT or RATE in destination.options:
        return None
    return LOTS if destination.filter_name == NONE else None


def lots_of(claimed: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Yield what is to be attempted together: lots of small files, and single ones."""
    lot: list[Claimed] = []
    for one in claimed:
        if not _suits(one):
            yield [one]
            continue
        lot.append(one)
        if len(lot) == LOTS.files:
            yield lot
            lot = []
    if lot:
        yield lot


def _suits(one: Claimed) -> bool:
    if one.proxy is not None or one.resume is not None:
        return False
    lots = lots_for(one.host, one.entry)
    return lots is not None and lots.takes(one.file.size, one.transfer.attempts - 1)


class SmallAttempts:
    """Attempts of many small files at once."""

    def __init__(self, core: Core, attempts: Attempts) -> None:
        self._core = core
        self._attempts = attempts
        self._teller = Teller(node=core.node)

    async def run(self, lot: Sequence[Claimed], finished: Finished) -> None:
        """Deliver a lot; those that cannot go with it are attempted one by one."""
        if len(lot) == 1:
            await self._attempts.run(lot[0], finished)
            return
        running = [Running(one, Meter(), asyncio.Event()) for one in lot]
        free: set[int] = set()

        def once(claimed: Claimed, pause_until: datetime | None) -> None:
            if claimed.transfer.id not in free:
                free.add(claimed.transfer.id)
                finished(claimed, pause_until)

        with self._attempts.shown(running):
            self._core.failpoints.hit("attempt.claimed", len(lot))
            try:
                left = await self._deliver(lot, once)
            except asyncio.CancelledError:
                for attempt in running:
                    await self._attempts.cut_off(attempt, once)
                raise
        await self._one_by_one(left, finished)

    async def _one_by_one(self, left: Sequence[Claimed], finished: Finished) -> None:
        """Attempt what is left, one behind the other: a lot has one connection."""
        for number, one in enumerate(left):
            begun = number  # those before it account for themselves
            try:
                present = await self._core.store.read(transfers.get, one.transfer.id)
                if present is None or present.status is not TransferStatus.EXEC:
                    finished(one, None)  # stopped or replaced while it waited
                    continue
                begun = number + 1
                await self._attempts.run(one, finished)
            except asyncio.CancelledError:
                for other in left[begun:]:
                    waiting = Running(other, Meter(), asyncio.Event())
                    await self._attempts.cut_off(waiting, finished)
                raise

    async def _deliver(self, lot: Sequence[Claimed], finished: Finished) -> list[Claimed]:
        """Return those that could not be delivered so."""
        access = lot[0].host.access
        assert access is not None  # noqa: S101 - else it would be no lot
        started = self._core.clock.now()
        wanted = [one for one in lot if _path(one) is not None]
        try:
            puts = [self._put_of(one) for one in wanted]
            async with self._core.pool.session(access) as module:
                if module.small is None:
                    return list(lot)
                done = await self._core.threads.run("disk", module.small.put, puts)
                peer = module.peer
        except (EcpdsError, OSError):
            return list(lot)
        self._core.failpoints.hit("attempt.renamed", sum(done))
        now = self._core.clock.now()
        sent = [
            Sent(one, _delivered(put, peer, started, now))
            for one, put, is_there in zip(wanted, puts, done, strict=True)
            if is_there
        ]
        for one in sent:
            finished(one.claimed, None)
        if sent:
            await self._done(sent)
        gone = {one.claimed.transfer.id for one in sent}
        return [one for one in lot if one.transfer.id not in gone]

    async def _done(self, sent: Sequence[Sent]) -> None:
        first = sent[0].claimed
        self._core.failpoints.hit("attempt.sent", len(sent))
        self._attempts.breakers.succeeded(first.host.name)
        now = self._core.clock.now()
        await self._core.store.write(
            store_lot, sent, self._core, self._teller, protocol_of(first), now
        )
        self._core.failpoints.hit("attempt.committed", len(sent))
        for one in sent:
            self._attempts.count(one.claimed, one.delivered)
            self._attempts.tell(one.claimed)

    def _put_of(self, one: Claimed) -> SmallPut:
        access, file, name = one.host.access, one.file, _path(one)
        assert access is not None and name is not None  # noqa: S101, PT018
        token = token_of(one.transfer, one.transfer.attempts)
        return SmallPut(
            written=access.delivery.naming.written_name(name, token),
            name=name,
            source=self._core.objects.path_text(file.volume, file.object_key),
            size=file.size,
        )


def _path(one: Claimed) -> str | None:
    """Return where the file goes, None when that name is refused."""
    try:
        return checked_name(checked_path((one.host.directory_only or "") + one.transfer.target))
    except (InvalidName, TemplateError):
        return None


def _delivered(put: SmallPut, peer: str, started: datetime, now: datetime) -> Delivered:
    size = put.size
    return Delivered(
        path=put.name, sent=size, size=size, peer=peer, started_at=started, finished_at=now
    )


def store_lot(
    db: Connection, lot: Sequence[Sent], core: Core, teller: Teller, protocol: str, now: datetime
) -> None:
    """Store the results of a lot; what concerns its destination is decided once."""
    last: Sent | None = None
    for one in lot:
        if store_delivered(db, one.claimed, one.delivered, teller, protocol, now):
            last = one
    if last is not None:
        settle_state(db, last.claimed.transfer, last.claimed.entry, core, now=now)
