"""What people do with incidents: look after them, leave a note, keep them quiet for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.errors import InputError, NotFound
from ecpds.store import incidents
from ecpds.store.db import Connection
from ecpds.store.incidents import Incident

LONGEST_NOTE: Final = 4000  # characters
LONGEST_MUTE: Final = timedelta(days=366)


class IncidentOperations:
    """Verbs on incidents."""

    def __init__(self, engine: Engine) -> None:
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def opened(self) -> list[Incident]:
        """Return the open ones, worst first, then newest."""
        found = await self._core.store.read(incidents.opened)
        return sorted(found, key=_urgency)

    async def resolved(
        self, *, limit: int, before: tuple[datetime, int] | None = None
    ) -> list[Incident]:
        """Return closed ones, last closed first."""
        return await self._core.store.read(incidents.resolved, limit=limit, before=before)

    async def get(self, number: int) -> Incident:
        """Return one; NotFound."""
        found = await self._core.store.read(incidents.get, number)
        if found is None:
            raise NotFound(f"Incident {number} not found")
        return found

    def destinations_of(self, one: Incident) -> tuple[str, ...]:
        """Return the destinations that an incident belongs to, none: the node as a whole."""
        if one.problem.subject_kind == "destination":
            return (one.problem.subject,)
        if one.problem.subject_kind == "host":
            return self._core.snapshot.users.get(one.problem.subject, ())
        return ()

    async def acknowledge(self, number: int, actor: Actor, note: str | None = None) -> Incident:
        """Say that somebody looks after it, maybe with a note."""
        text = _checked(note) if note is not None else None
        now = self._core.clock.now()

        def change(db: Connection) -> dict[str, Any]:
            incidents.acknowledge(db, number, actor.name, now=now)
            if text:
                incidents.set_note(db, number, text)
            return {"note": text} if text else {}

        return await self._changed(number, "acknowledge", actor, change)

    async def release(self, number: int, actor: Actor) -> Incident:
        """Say that nobody looks after it any more."""

        def change(db: Connection) -> dict[str, Any]:
            incidents.acknowledge(db, number, "", now=None)
            return {}

        return await self._changed(number, "release", actor, change)

    async def note(self, number: int, note: str, actor: Actor) -> Incident:
        """Write what others should know about it."""
        text = _checked(note)
        old = await self.get(number)

        def change(db: Connection) -> dict[str, Any]:
            incidents.set_note(db, number, text)
            return {"note": [old.note, text]}

        return await self._changed(number, "note", actor, change)

    async def mute(self, number: int, until: datetime, actor: Actor) -> Incident:
        """Keep it out of what needs attention until then; InputError for more than a year."""
        now = self._core.clock.now()
        if not now < until <= now + LONGEST_MUTE:
            raise InputError("the end lies between now and a year from now", pointer="until")

        def change(db: Connection) -> dict[str, Any]:
            incidents.mute(db, number, actor.name, until)
            return {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}"}

        return await self._changed(number, "mute", actor, change)

    async def unmute(self, number: int, actor: Actor) -> Incident:
        """Bring it back to what needs attention."""

        def change(db: Connection) -> dict[str, Any]:
            incidents.mute(db, number, "", None)
            return {}

        return await self._changed(number, "unmute", actor, change)

    async def _changed(
        self,
        number: int,
        action: str,
        actor: Actor,
        change: Callable[[Connection], dict[str, Any]],
    ) -> Incident:
        found = await self.get(number)
        now = self._core.clock.now()

        def write(db: Connection) -> None:
            facts = change(db)
            name = found.problem.key
            record(db, actor, action, "incident", name, facts, self._teller, now=now)

        await self._core.store.write(write)
        self._core.bus.tell("incident", number)
        return await self.get(number)


def _urgency(one: Incident) -> tuple[int, float]:
    ranks = {"critical": 0, "error": 1, "warning": 2}
    return ranks.get(one.problem.severity, 3), -one.last_at.timestamp()


def _checked(note: str) -> str:
    text = note.strip()
    if len(text) > LONGEST_NOTE:
        raise InputError(f"a note has at most {LONGEST_NOTE} characters", pointer="note")
    return text
