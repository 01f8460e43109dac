"""Sends what the outbox holds: in order for each destination, again until it is accepted.

Rows are made by `notices` in the transaction of what they tell of; here they become messages, are
given to the driver of their kind, and only then marked as sent.  A crash may repeat a message,
with the same id, but never loses one.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.host_publish import HostBrokers, asks_sha512, message_for
from ecpds.engine.notices import CLEARED, EMBEDDED, EVENTS, EXTERNAL, IS_WIS2
from ecpds.engine.publish_drivers import Broker, Driver
from ecpds.engine.publish_script import scripted
from ecpds.engine.publish_text import Subject, is_scripted, message_of, wants_sha512
from ecpds.engine.telling import Teller, stamp
from ecpds.engine.wis2_publish import NO_RECORD, Memory, NothingNew, Wis2Publisher, remember
from ecpds.model.errors import EcpdsError, NotFound, TemplateError
from ecpds.model.message import Message
from ecpds.model.transfer import DataFile, Transfer
from ecpds.objects.digests import digests_of
from ecpds.store import files, outbox, transfers
from ecpds.store.db import Connection
from ecpds.store.outbox import HOST, Publication, Settled

log = get_logger(__name__)

BATCH: Final = 200
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=10)
LOOK_EVERY: Final = timedelta(seconds=5)  # at the table, whatever hints were lost
GOING: Final = frozenset({"deleted", CLEARED})
SHOWN: Final = 16 * 1024  # characters of a payload kept for people


@dataclass(slots=True)
class _Batch:
    """Rows of one destination on their way."""

    messages: list[Message] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)  # topics, before the messages
    ended: list[Settled] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)  # of WIS2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What a publication tells of, as it is now."""

    transfer: Transfer
    file: DataFile
    metadata: Mapping[str, str]
    retained: tuple[str, ...] = ()


class Outbox:
    """See the module."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)
        self.wis2 = Wis2Publisher(core)
        self._wake = asyncio.Event()
        self._draining = False
        self._is_open = False
        self._following: asyncio.Task[None] | None = None
        self._hosts = HostBrokers(core)
        self._sending: set[tuple[str, str]] = set()  # queues of Hosts that have a task
        self.drivers: dict[str, Driver] = {}
        self.broker: Broker | None = None  # the embedded one
        self.base_url = f"https://{core.settings.node.public_host}"

    def open(self) -> None:
        """Begin to send: the drivers and our own address are known."""
        self._is_open = True
        self._wake.set()

    def poke(self) -> None:
        """Look now."""
        self._wake.set()

    def drain(self) -> None:
        """Send nothing any more."""
        self._draining = True
        self._wake.set()

    @property
    def _is_used(self) -> bool:
        snapshot = self._core.snapshot
        return any(entry.notices for entry in snapshot.destinations.values()) or any(
            host.notice for host in snapshot.hosts.values()
        )

    async def run(self) -> None:
        """Send until cancelled or drained."""
        try:
            async with asyncio.TaskGroup() as group:
                self._following = None
                try:
                    await self._send_all(group)
                finally:
                    if self._following is not None:
                        self._following.cancel()
        finally:
            await self._hosts.close()

    async def _follow(self) -> None:
        with self._core.bus.listener() as hints:
            while True:
                found = await hints.wait_some()
                destinations = self._core.snapshot.destinations
                if any(self._concerns(destinations.get(hint.destination)) for hint in found):
                    self._wake.set()

    def _concerns(self, entry: DestinationEntry | None) -> bool:
        if entry is None or entry.notices is not None:
            return entry is not None
        found = map(self._core.snapshot.hosts.get, entry.destination.hosts)
        return any(host is not None and host.notice is not None for host in found)

    async def _send_all(self, group: asyncio.TaskGroup) -> None:
        clock = self._core.clock
        while not self._draining:
            self._wake.clear()
            if self._following is None and self._is_used:  # who publishes nothing hears no hints
                self._following = group.create_task(self._follow(), name="outbox-hints")
            due = await self._round(group)
            await self._hosts.close_idle()
            latest = clock.now() + LOOK_EVERY
            await clock.wait(self._wake, min(due, latest) if due else latest)

    async def _round(self, group: asyncio.TaskGroup) -> datetime | None:
        """Send everything that may be sent; return when the next try is due."""
        next_due: datetime | None = None
        if not self._is_open:
            return None
        for name, kind in await self._core.store.read(outbox.waiting_queues):
            due = await self._queue(group, kind, name)
            if due is not None and (next_due is None or due < next_due):
                next_due = due
        return next_due

    async def _queue(self, group: asyncio.TaskGroup, kind: str, name: str) -> datetime | None:
        if not kind.startswith(HOST):
            driver = self.drivers.get(kind)
            return await self._destination(kind, driver, name) if driver is not None else None
        if (kind, name) in self._sending:
            return None
        waiting = await self._core.store.read(outbox.head, kind, name, limit=1)
        if waiting and waiting[0].due_at > self._core.clock.now():
            return waiting[0].due_at
        # a task of its own: a broker that does not answer delays nobody else
        self._sending.add((kind, name))
        group.create_task(self._to_host(kind, name), name="outbox-host")
        return None

    async def _to_host(self, kind: str, name: str) -> None:
        try:
            await self._destination(kind, self._hosts.driver(kind), name)
        finally:
            self._sending.discard((kind, name))
            self._wake.set()

    async def _destination(self, kind: str, driver: Driver, name: str) -> datetime | None:
        while not self._draining:
            waiting = await self._core.store.read(outbox.head, kind, name, limit=BATCH)
            if not waiting:
                return None
            rows = stretch(waiting)
            if rows[0].due_at > self._core.clock.now():
                return rows[0].due_at
            until = await self._send(driver, rows)
            if until is not None:
                return until
        return None

    async def _send(self, driver: Driver, rows: Sequence[Publication]) -> datetime | None:
        """Send rows of one destination in their order; return when to try again after a failure."""
        core = self._core
        batch = await self._prepare(rows)
        core.failpoints.hit("outbox.prepared")
        try:
            if batch.cleared:
                await driver.clear(batch.cleared)
            if batch.messages:
                await driver.publish(batch.messages)
        except (EcpdsError, OSError) as error:
            return await self._failed(rows[0], str(error))
        core.failpoints.hit("outbox.published")
        await core.store.write(settle_all, batch, rows, self._teller, now=core.clock.now())
        core.failpoints.hit("outbox.settled")
        for one in batch.ended:
            core.metrics.publications.labels(one.state).inc()
        if rows[0].kind in IS_WIS2:
            self._count(batch)
        core.bus.tell("outbox", rows[0].destination)
        return None

    def _count(self, batch: _Batch) -> None:
        metrics = self._core.metrics
        if batch.messages:
            metrics.wis2_messages.labels("out").inc(len(batch.messages))
            metrics.wis2_published.set(self._core.clock.now().timestamp())
        if batch.memory.records:  # data that waited for them
            self.poke()

    async def _failed(self, first: Publication, reason: str) -> datetime:
        now = self._core.clock.now()
        until: datetime = now + min(FIRST_PAUSE * 2 ** min(first.tries, 10), LONGEST_PAUSE)
        log.warning(
            "publication failed", destination=first.destination, kind=first.kind, reason=reason,
            tries=first.tries + 1, until=until,
        )  # fmt: skip
        await self._core.store.write(outbox.delay, first.id, reason, until)
        self._core.metrics.publications.labels("retried").inc()
        return until

    # --- from rows to messages ----------------------------------------------------------

    async def _prepare(self, rows: Sequence[Publication]) -> _Batch:
        found = await self._core.store.read(facts_of, rows)
        batch = _Batch()
        for row in rows:
            await self._add(batch, row, found.get(row.id))
        return batch

    async def _add(self, batch: _Batch, row: Publication, facts: _Facts | None) -> None:
        now = self._core.clock.now()
        entry = self._core.snapshot.destinations.get(row.destination)
        ended = Settled(id=row.id, state="dropped", content={})
        if row.transfer is None and row.kind in IS_WIS2:
            await self._add_wis2(batch, row, None)
        elif facts is None or entry is None:
            batch.ended.append(replace(ended, error="the transfer or destination is gone"))
        elif row.event in GOING:
            await self._add_deleted(batch, row, facts, entry, now)
        elif row.expires_at is not None and row.expires_at <= now:
            batch.ended.append(replace(ended, state="expired", error="the transfer has expired"))
        elif facts.transfer.deleted and row.event != "delivered":
            batch.ended.append(replace(ended, error="the transfer was deleted"))
        elif row.kind.startswith(HOST):
            await self._add_for_host(batch, row, facts, entry)
        else:
            await self._add_message(batch, row, facts, entry, now)

    async def _add_deleted(
        self, batch: _Batch, row: Publication, facts: _Facts, entry: DestinationEntry, now: datetime
    ) -> None:
        batch.cleared += facts.retained
        if row.kind in IS_WIS2:
            await self._add_message(batch, row, facts, entry, now)
            return
        if entry.notices is not None and row.event in entry.notices.events:
            await self._add_message(batch, row, facts, entry, now)
            return
        content = {"cleared": list(facts.retained)}
        batch.ended.append(Settled(id=row.id, state="sent", content=content))

    async def _add_message(
        self, batch: _Batch, row: Publication, facts: _Facts, entry: DestinationEntry, now: datetime
    ) -> None:
        if row.kind in IS_WIS2:
            await self._add_wis2(
                batch, row, self._plain(row.id, row.created_at, row.event, facts, entry)
            )
            return
        try:
            subject = await self._subject(row.id, row.created_at, row.event, facts, entry)
            message = message_of(subject, now)
        except TemplateError as error:
            self._cannot(batch, row, error)
            return
        if message is None:
            text = "there is no payload"
            batch.ended.append(Settled(id=row.id, state="dropped", error=text, content={}))
            return
        if message.client and row.kind == EXTERNAL:
            text = "another broker would send what is for one client to everybody"
            state = "dropped" if EMBEDDED in self.drivers else "failed"
            batch.ended.append(Settled(id=row.id, state=state, error=text, content={}))
            return
        self._put(batch, row, message)

    async def _add_for_host(
        self, batch: _Batch, row: Publication, facts: _Facts, entry: DestinationEntry
    ) -> None:
        notice = self._hosts.notice(row.kind)
        reason, message = "the host wants no messages any more", None
        try:
            if notice is not None:
                reason = "there is no topic or no payload"
                subject = self._plain(row.id, row.created_at, row.event, facts, entry)
                if asks_sha512(notice):
                    subject = await self._with_sha512(subject)
                message = message_for(subject, notice, self._core.clock.now())
        except TemplateError as error:
            self._cannot(batch, row, error)
            return
        if message is None:
            ended = Settled(id=row.id, state="dropped", error=reason, content={})
            batch.ended.append(ended)
        else:
            self._put(batch, row, message)

    async def _add_wis2(self, batch: _Batch, row: Publication, subject: Subject | None) -> None:
        """Add a message of WIS2, about a transfer or else about a discovery record."""
        try:
            if subject is None:
                message = await self.wis2.record(row, self.base_url, batch.memory)
            else:
                message = await self.wis2.message(subject, subject.entry.wis2, batch.memory)
        except NothingNew as error:
            ended = Settled(id=row.id, state="dropped", error=error.message, content=row.content)
            batch.ended.append(ended)
        except TemplateError as error:
            self._cannot(batch, row, error)
        else:
            self._put(batch, row, message)

    def _cannot(self, batch: _Batch, row: Publication, error: TemplateError) -> None:
        reason = error.message
        log.warning("publication cannot be made", destination=row.destination, reason=reason)
        batch.ended.append(Settled(id=row.id, state="failed", error=reason, content=row.content))

    @staticmethod
    def _put(batch: _Batch, row: Publication, message: Message) -> None:
        batch.messages.append(message)
        content = shown(message) if row.transfer is not None else row.content | shown(message)
        batch.ended.append(
            Settled(
                id=row.id, state="sent", topic=message.topic, retained=message.retain,
                content=content,
            )
        )  # fmt: skip

    async def _subject(
        self, number: int, noted_at: datetime, event: str, facts: _Facts, entry: DestinationEntry
    ) -> Subject:
        made = self._plain(number, noted_at, event, facts, entry)
        if wants_sha512(entry):
            made = await self._with_sha512(made)
        if is_scripted(entry):
            return await scripted(self._core.scripts, made, self._core.clock.now())
        return made

    def _plain(
        self, number: int, noted_at: datetime, event: str, facts: _Facts, entry: DestinationEntry
    ) -> Subject:
        return Subject(
            number=number,
            noted_at=noted_at,
            event=event,
            transfer=facts.transfer,
            file=facts.file,
            metadata=facts.metadata,
            entry=entry,
            node=self._core.node,
            base_url=self.base_url,
        )

    async def _with_sha512(self, made: Subject) -> Subject:
        if not made.file.stored or made.file.removed:
            return made
        return replace(made, sha512=await self._sha512(made.file))

    async def _sha512(self, file: DataFile) -> str:
        """Return the digest of the content in base64, computed once; empty when it is gone."""
        core = self._core
        known = await core.store.read(files.digests, file.id, file.instance)
        if "sha512" not in known:
            try:
                descriptor = core.objects.open(file.volume, file.object_key)
            except (NotFound, OSError):
                return ""
            try:
                made = await core.threads.run("digest", digests_of, descriptor, ["sha512"])
            finally:
                os.close(descriptor)
            await core.store.write(files.set_digests, file.id, file.instance, made)
            known |= made
        return base64.b64encode(bytes.fromhex(known["sha512"])).decode()

    # --- what people ask ----------------------------------------------------------------

    async def preview(self, transfer: int, event: str = "") -> Message:
        """Return the message that a transfer would lead to now.

        Raises NotFound, TemplateError (also when there is no payload).
        """
        facts = await self._core.store.read(facts_for, transfer)
        if facts is None:
            raise NotFound(f"Transfer {transfer} not found")
        entry = self._core.snapshot.destination(facts.transfer.destination)
        chosen = event if event in EVENTS else _likely(entry)
        now = self._core.clock.now()
        if entry.notices is not None and entry.notices.wis2_kinds and not entry.notices.kinds:
            subject = self._plain(0, now, event or "available", facts, entry)
            return await self.wis2.message(subject, entry.wis2, Memory(), is_trial=True)
        message = message_of(await self._subject(0, now, chosen, facts, entry), now)
        if message is None:
            raise TemplateError("the options lead to no payload")
        return message


def stretch(rows: Sequence[Publication]) -> Sequence[Publication]:
    """Return the first rows that are all deletions or all none.

    What a deletion clears is known only when everything before it was sent.
    """
    for number, row in enumerate(rows):
        if (row.event in GOING) is not (rows[0].event in GOING):
            return rows[:number]
    return rows


def _likely(entry: DestinationEntry) -> str:
    rule = entry.notices
    return "delivered" if rule is not None and rule.wants("delivered", held=False) else "available"


def shown(message: Message) -> dict[str, Any]:
    """Return what is kept of a message for people."""
    text = message.payload.decode("utf-8", "replace")
    found = {
        "payload": text[:SHOWN],
        "qos": message.qos,
        "retain": message.retain,
        "content_type": message.content_type,
        "expires": None if message.expires_at is None else stamp(message.expires_at),
    }
    if len(text) > SHOWN:
        found["size"] = len(message.payload)
    if message.client:
        found["client"] = message.client
    return found


def facts_for(db: Connection, number: int) -> _Facts | None:
    """Return what a message about a transfer may tell."""
    transfer = transfers.get(db, number)
    file = files.get(db, transfer.data_file) if transfer is not None else None
    if transfer is None or file is None:
        return None
    return _Facts(transfer=transfer, file=file, metadata=files.metadata(db, file.id))


def facts_of(db: Connection, rows: Sequence[Publication]) -> dict[int, _Facts]:
    """Return what rows tell of, by their ids."""
    found = {}
    for row in rows:
        facts = facts_for(db, row.transfer) if row.transfer is not None else None
        if facts is not None and row.event in GOING:
            topics = outbox.retained_topics(db, row.kind, facts.transfer.id)
            facts = replace(facts, retained=tuple(topics))
        if facts is not None:
            found[row.id] = facts
    return found


def settle_all(
    db: Connection,
    batch: _Batch,
    rows: Sequence[Publication],
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Store how rows ended, with a PUB event for each message."""
    outbox.settle(db, batch.ended, now=now)
    for record in remember(db, batch.memory, now=now):
        outbox.try_refused(db, NO_RECORD + record, now=now)
    by_id = {row.id: row for row in rows}
    for one in batch.ended:
        row = by_id[one.id]
        if not one.topic and one.state == "sent":
            continue
        teller.plain(
            db,
            "PUB",
            now=now,
            transfer_id=row.transfer,
            destination={"name": row.destination},
            action=row.event,
            topic=one.topic or None,
            driver=row.kind,
            outcome="ok" if one.state == "sent" else "failed",
            **(
                {"error": {"code": one.state, "message": one.error, "retryable": False}}
                if one.error
                else {}
            ),
        )
