"""Destinations that are held until some time: released then by themselves.

The time is a fact beside the state: whoever starts or stops the destination meanwhile ends the
hold.  Spec: rest-api.md B.5 (`hold` with `until`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.engine.operations.actor import SYSTEM, record
from ecpds.engine.telling import Teller
from ecpds.model.status import StoredState
from ecpds.store import destinations, site
from ecpds.store.db import Connection

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=2)


def key_of(name: str) -> str:
    """Return where the end of a hold is kept."""
    return f"held.{name}"


def set_end(db: Connection, name: str, until: datetime | None) -> None:
    """Store when the hold of a destination ends, None: it does not by itself."""
    if until is not None or site.meta(db, key_of(name)):
        site.set_meta(db, key_of(name), until.isoformat() if until else "")


class Holds:
    """Releases what was held long enough."""

    def __init__(self, core: Core, released: Callable[[str], None]) -> None:
        self._core = core
        self._released = released
        self._teller = Teller(node=core.node)

    async def look(self) -> None:
        """Release the destinations whose time has come."""
        entries = self._core.snapshot.destinations.values()
        held = [entry.name for entry in entries if entry.state is StoredState.STOP]
        if not held:
            return
        now = self._core.clock.now()
        if not await self._core.store.read(over, held, now=now):
            return
        for name in await self._core.store.write(release, held, self._teller, now=now):
            log.info("hold is over", destination=name)
            self._core.bus.tell("configuration", name)
            self._released(name)


def over(db: Connection, names: Sequence[str], *, now: datetime) -> list[str]:
    """Return those of the destinations whose hold has ended."""
    found = [(name, site.meta(db, key_of(name))) for name in names]
    return [name for name, text in found if text and datetime.fromisoformat(text) <= now]


def release(db: Connection, names: Sequence[str], teller: Teller, *, now: datetime) -> list[str]:
    """Start the destinations whose hold has ended, if nobody decided otherwise meanwhile."""
    done = []
    for name in over(db, names, now=now):
        set_end(db, name, None)
        state = destinations.state(db, name)
        if state is not None and state.state is StoredState.STOP:
            destinations.set_state(db, name, StoredState.WAIT)
            record(db, SYSTEM, "release", "destination", name, {}, teller, now=now)
            done.append(name)
    return done
