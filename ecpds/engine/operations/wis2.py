"""What people do with the discovery records of a WIS2 node, and how they check messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ecpds.engine.notices import KINDS, WIS2_KINDS
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.engine.wis2_selftest import selftest
from ecpds.model.errors import Conflict, InputError, NotFound, PreconditionFailed, TooLarge
from ecpds.model.secret import Secret
from ecpds.model.wis2_check import Finding, check_message, problems
from ecpds.model.wis2_record import LARGEST, check_record
from ecpds.store import outbox, wis2
from ecpds.store.db import Connection
from ecpds.store.wis2 import Record

UPDATED: Final = "updated"
DELETED: Final = "deleted"


class Wis2Operations:
    """Verbs on discovery records."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return tuple(WIS2_KINDS[kind] for kind in KINDS[self._core.settings.mqtt.driver])

    async def records(self) -> list[Record]:
        """Return all records, by id."""
        return await self._core.store.read(wis2.records)

    async def get(self, identifier: str) -> Record:
        """Return one record; NotFound."""
        found = await self._core.store.read(wis2.record, identifier)
        if found is None:
            raise NotFound(f"Record {identifier} not found")
        return found

    async def put(
        self,
        document: dict[str, Any],
        actor: Actor,
        *,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> Record:
        """Store a record and announce it; InputError tells all that is wrong with it."""
        wrong = problems(check_record(document))
        if wrong:
            raise InputError("; ".join(wrong))
        text = json.dumps(document, ensure_ascii=False, indent=1)
        if len(text.encode()) > LARGEST:
            raise TooLarge(f"a record has at most {LARGEST} bytes")
        identifier, now = str(document["id"]), self._core.clock.now()
        if dry_run:
            return Record(id=identifier, text=text, version=0, changed_at=now, announced_at=None)
        await self._core.store.write(
            self._put, identifier, text, actor, must_be_new, if_version, now
        )
        self._engine.outbox.poke()
        return await self.get(identifier)

    def _put(
        self,
        db: Connection,
        identifier: str,
        text: str,
        actor: Actor,
        must_be_new: bool,
        if_version: int | None,
        now: datetime,
    ) -> None:
        old = wis2.record(db, identifier)
        if old is not None and must_be_new:
            raise Conflict(f"Record {identifier} exists")
        if if_version is not None and (old is None or old.version != if_version):
            raise PreconditionFailed(f"Record {identifier} was changed meanwhile")
        wis2.put_record(db, identifier, text, now=now)
        self._announce(db, identifier, UPDATED, now)
        action = "change" if old is not None else "create"
        record(db, actor, action, "wis2-record", identifier, {}, self._teller, now=now)

    async def announce(self, identifier: str, actor: Actor) -> Record:
        """Announce a record once more; NotFound."""
        found = await self.get(identifier)
        now = self._core.clock.now()

        def change(db: Connection) -> None:
            self._announce(db, identifier, UPDATED, now)
            record(db, actor, "announce", "wis2-record", identifier, {}, self._teller, now=now)

        await self._core.store.write(change)
        self._engine.outbox.poke()
        return replace(found)

    async def delete(self, identifier: str, actor: Actor) -> None:
        """Withdraw a record, telling so; data of it are refused from now on; NotFound."""
        found = await self.get(identifier)
        now = self._core.clock.now()

        def change(db: Connection) -> None:
            wis2.delete_record(db, identifier)
            if found.announced_at is not None:
                self._announce(db, identifier, DELETED, now)
            record(db, actor, "delete", "wis2-record", identifier, {}, self._teller, now=now)

        await self._core.store.write(change)
        self._engine.outbox.poke()

    def _announce(self, db: Connection, identifier: str, event: str, now: datetime) -> None:
        content = {"record": identifier, "base_url": self._base_url(identifier)}
        outbox.add_record(db, self._kinds, event, content, now=now)

    def _base_url(self, identifier: str) -> str:
        """Return where the destinations of a record say that the portal is, empty: its address."""
        for entry in self._core.snapshot.destinations.values():
            if entry.wis2.metadata_id == identifier and entry.wis2.base_url:
                return entry.wis2.base_url
        return ""

    async def selftest(self, login: str, password: Secret) -> Sequence[Finding]:
        """Look at this node as a Global Broker and a Global Cache do."""
        return await selftest(self._core, self._engine.outbox, login, password)

    def validate(self, message: Any, topic: str) -> Sequence[Finding]:
        """Check a message of anybody's: one finding for each requirement."""
        payload = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        known = self._engine.outbox.wis2.known_topics
        return check_message(payload, topic, now=self._core.clock.now(), known_topics=known)
