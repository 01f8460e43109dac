"""Transfers that have waited long become more important, where a destination asks for that.

`scheduler.ageing` is the time after which a due transfer gains one priority.  Off by default: order
by priority alone is what the original does, and what starves the last ones on a busy link.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ecpds.engine.core import Core
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement

LOOK_EVERY: Final = timedelta(seconds=10)
MOST: Final = 5_000  # of one destination in one look

RISE = statement("""
    UPDATE transfer SET priority = priority - 1 WHERE id IN (
        SELECT id FROM transfer INDEXED BY transfer_due
        WHERE destination = :destination AND status IN ('WAIT', 'RETR') AND deleted = 0
          AND due_at <= :before AND priority > 0
        ORDER BY due_at LIMIT :limit)""")


class Ageing:
    """Raises priorities of those that wait."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._looked: dict[str, datetime] = {}

    async def look(self) -> None:
        """Let each destination that wants it age by one step, when its time has come."""
        now = self._core.clock.now()
        for name, entry in self._core.snapshot.destinations.items():
            step = entry.scheduler.ageing
            if step is None or step <= timedelta(0):
                continue
            last = self._looked.setdefault(name, now)
            if now - last >= step or now < last:
                self._looked[name] = now
                await self._core.store.write_lazily(rise, name, before=now - step)


def rise(db: Connection, destination: str, *, before: datetime) -> int:
    """Give one priority to transfers that were due before; return how many."""
    values = {"destination": destination, "before": to_micros(before), "limit": MOST}
    return db.execute(RISE.sql, values).rowcount
