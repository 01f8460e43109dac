"""What the MQTT broker keeps over a restart, seen from the broker: load once, then tell changes.

Changes that an acknowledgement depends on are awaited; those that only save a later repetition
(an acknowledged message, an expired topic) are gathered and written together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.model.message import Message
from ecpds.store import mqtt
from ecpds.store.db import Connection, Store
from ecpds.store.mqtt import (
    Change,
    Dequeue,
    DropRetained,
    DropSession,
    Enqueue,
    KeptSession,
    PutRetained,
    PutSession,
    Queued,
)

__all__ = [
    "BrokerMemory",
    "Change",
    "Dequeue",
    "DropRetained",
    "DropSession",
    "Enqueue",
    "KeptSession",
    "Loaded",
    "PutRetained",
    "PutSession",
    "Queued",
]

PAUSE: Final = timedelta(milliseconds=200)
MOST_GATHERED: Final = 10_000  # changes; more are written at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Everything that was kept."""

    retained: Sequence[tuple[Message, datetime]]
    sessions: Sequence[tuple[KeptSession, Sequence[Queued]]]
    last: int  # largest id of a queued message


class BrokerMemory:
    """The store as the broker sees it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._later: list[Change] = []

    async def load(self) -> Loaded:
        """Return what was kept."""
        return await self._store.read(_load)

    async def keep(self, changes: Sequence[Change]) -> None:
        """Write changes, after all earlier ones; return when they are on disk."""
        later, self._later = self._later, []
        await self._store.write(mqtt.apply, [*later, *changes])

    def later(self, change: Change) -> None:
        """Write a change soon."""
        self._later.append(change)

    async def flush(self) -> None:
        """Write what was gathered."""
        while self._later:
            changes, self._later = self._later[:MOST_GATHERED], self._later[MOST_GATHERED:]
            await self._store.write_lazily(mqtt.apply, changes)

    async def run(self) -> None:
        """Write gathered changes again and again, until cancelled."""
        while True:
            await self.flush()
            await self._clock.sleep(PAUSE)


def _load(db: Connection) -> Loaded:
    found = mqtt.sessions(db)
    return Loaded(
        retained=mqtt.retained(db),
        sessions=[(one, mqtt.queue(db, one.user, one.client)) for one in found],
        last=mqtt.last_queued(db),
    )
