"""Transfers of monitored destinations that are past their scheduled time: a gauge and a warning.

Spec: schedulers.md section 1 (late-transfer refresh).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(minutes=1)
LATE: Final = timedelta(minutes=10)  # after the scheduled time
MOST: Final = 10_000  # counted for one destination

COUNT = statement("""
    SELECT COUNT(*) AS files FROM (
        SELECT 1 FROM transfer INDEXED BY transfer_status
        WHERE destination = :destination AND deleted = 0
          AND status IN ('WAIT', 'RETR', 'EXEC', 'SCHE', 'FETC', 'STOP', 'FAIL')
          AND scheduled_at <= :before AND expires_at > :now LIMIT :limit)""")


class Lateness:
    """Counts what is late."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._known: set[str] = set()

    @property
    def late(self) -> frozenset[str]:
        """Return the destinations that were late at the last look."""
        return frozenset(self._known)

    async def look(self) -> None:
        """Refresh the gauge; a destination that became late is logged once."""
        now = self._core.clock.now()
        names = [
            name
            for name, entry in self._core.snapshot.destinations.items()
            if entry.destination.monitor and entry.destination.active
        ]
        found = await self._core.store.read(late, names, before=now - LATE, now=now)
        gauge = self._core.metrics.late
        gauge.clear()
        for name, count in found.items():
            gauge.labels(name).set(count)
            if name not in self._known:
                log.warning("transfers are late", destination=name, count=count)
        self._known = set(found)


def late(
    db: Connection, names: Sequence[str], *, before: datetime, now: datetime
) -> dict[str, int]:
    """Return how many transfers of each destination were scheduled before, where there are any."""
    found = {}
    for name in names:
        values = {"destination": name, "before": to_micros(before), "now": to_micros(now)}
        count = db.execute(COUNT.sql, values | {"limit": MOST}).fetchone()["files"]
        if count:
            found[name] = count
    return found
