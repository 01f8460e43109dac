"""Batches are sent when they are complete, whatever completed them.

The retrieval of the last file does it at once; a stop, a delete or an expiry of the last one that
was missing is found by a look each half minute.  Spec: schedulers.md 6 (`asap`), cli.md 7.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from ecpds.engine.core import Core
from ecpds.store import groups
from ecpds.store.db import Connection

LOOK_EVERY = timedelta(seconds=30)


class GroupWatch:
    """Looks for batches that became complete without a retrieval."""

    def __init__(self, core: Core, poke: Callable[[str], None]) -> None:
        self._core = core
        self._poke = poke

    async def look(self) -> None:
        """Send what nothing holds back any more."""
        now = self._core.clock.now()
        if not await self._core.store.read(groups.held_back, now=now):
            return
        for name in await self._core.store.write_lazily(send_complete, now=now):
            self._poke(name)


def send_complete(db: Connection, *, now: datetime) -> list[str]:
    """Make the `asap` transfers of all complete batches due; return their destinations."""
    found: dict[str, None] = {}
    for name in groups.held_back(db, now=now):
        found |= dict.fromkeys(groups.send_if_complete(db, name, now=now))
    return list(found)
