"""Transfers that were tried or failed and are not done: what somebody should look at.

The condition is that of the counts in `transfers.counts` (monitor.md 3.3).
"""

from __future__ import annotations

from ecpds.model.transfer import Transfer
from ecpds.store import transfers
from ecpds.store.db import Connection, statement

IDS = statement("""
    SELECT id FROM transfer
    WHERE deleted = 0 AND id < :before
      AND (:destination IS NULL OR destination = :destination)
      AND (status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '')
    ORDER BY id DESC LIMIT :limit""")


def page(
    db: Connection, *, limit: int, before: int | None = None, destination: str | None = None
) -> list[Transfer]:
    """Return outstanding transfers, newest first, with id below `before`."""
    values = {
        "limit": limit, "before": before if before is not None else 2**62,
        "destination": destination,
    }  # fmt: skip
    numbers = [row["id"] for row in db.execute(IDS.sql, values)]
    return [one for number in numbers if (one := transfers.get(db, number)) is not None]
