"""What stands before a transfer in its queue; only for people who ask."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ecpds.model.arbitration import Rival
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement

MOST_AHEAD: Final = 10_000
"""Above this the count says "at least"."""

AHEAD = statement("""
    SELECT COUNT(*) AS files FROM (
        SELECT 1 FROM transfer INDEXED BY transfer_queue
        WHERE destination = :destination AND status IN ('WAIT', 'RETR') AND deleted = 0
          AND priority <= :priority AND due_at <= :now
          AND (priority < :priority OR due_at < :due OR due_at = :due AND id < :id)
        LIMIT :limit)""")


def ahead(db: Connection, one: Transfer, *, now: datetime) -> int:
    """Return how many due transfers of its destination go before a pending one, at most 10,000."""
    values = {
        "destination": one.destination,
        "priority": one.priority,
        "due": to_micros(one.due_at),
        "id": one.id,
        "now": to_micros(now),
        "limit": MOST_AHEAD,
    }
    found: int = db.execute(AHEAD.sql, values).fetchone()["files"]
    return found


COPIED = statement("SELECT proxy_host FROM transfer WHERE id = :id", hot=True)


def is_copied(db: Connection, number: int) -> bool:
    """Tell whether a transfer has a copy at a proxy host."""
    row = db.execute(COPIED.sql, {"id": number}).fetchone()
    return row is not None and bool(row["proxy_host"])


RIVALS = statement(
    """
    SELECT transfer.id, status, data_file.size AS size,
        COALESCE(data_file.file_time, data_file.arrived_at) AS time
    FROM transfer INDEXED BY transfer_target
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE destination = :destination AND target = :target AND transfer.deleted = 0
    ORDER BY transfer.id DESC LIMIT :limit""",
    hot=True,
)
MOST_RIVALS: Final = 1000


def rivals(db: Connection, destination: str, target: str) -> list[Rival]:
    """Return the live transfers of a destination with that target, newest first, at most 1,000."""
    values = {"destination": destination, "target": target, "limit": MOST_RIVALS}
    return [
        Rival(
            id=row["id"],
            time=row["time"] // 1000,
            size=row["size"],
            status=TransferStatus[row["status"]],
        )
        for row in db.execute(RIVALS.sql, values)
    ]
