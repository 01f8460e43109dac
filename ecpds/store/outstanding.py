"""Transfers that were tried or failed and are not done: what somebody should look at.

The condition is that of the sums and indexes of migration 0015 (monitor.md 3.3).
"""

from __future__ import annotations

from ecpds.model.transfer import Transfer
from ecpds.store import transfers
from ecpds.store.db import Connection, statement

IDS = statement(
    """
    SELECT id FROM transfer INDEXED BY transfer_outstanding
    WHERE deleted = 0 AND id < :before
      AND (status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '')
    ORDER BY id DESC LIMIT :limit""",
    hot=True,
)
IDS_DESTINATION = statement(
    """
    SELECT id FROM transfer INDEXED BY transfer_outstanding_destination
    WHERE deleted = 0 AND destination = :destination AND id < :before
      AND (status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
        OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '')
    ORDER BY id DESC LIMIT :limit""",
    hot=True,
)


def page(
    db: Connection, *, limit: int, before: int | None = None, destination: str | None = None
) -> list[Transfer]:
    """Return outstanding transfers, newest first, with id below `before`."""
    values = {
        "limit": limit, "before": before if before is not None else 2**62,
        "destination": destination,
    }  # fmt: skip
    chosen = IDS if destination is None else IDS_DESTINATION
    numbers = [row["id"] for row in db.execute(chosen.sql, values)]
    return transfers.many(db, numbers)
