"""Claims: due transfers go to EXEC, in their order, many in a few statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.model.transfer import Transfer
from ecpds.store import transfers
from ecpds.store.codec import dump, to_micros
from ecpds.store.db import Connection, statement

NEXT_PRIORITY = statement(
    """
    SELECT MIN(priority) AS priority FROM transfer INDEXED BY transfer_queue
    WHERE destination = :destination AND priority > :after
      AND status IN ('WAIT', 'RETR') AND deleted = 0""",
    hot=True,
)
DUE = statement(
    """
    SELECT id, expires_at FROM transfer INDEXED BY transfer_queue
    WHERE destination = :destination AND priority = :priority AND due_at <= :now
      AND status IN ('WAIT', 'RETR') AND deleted = 0
    ORDER BY due_at, id LIMIT :limit""",
    hot=True,
)
DUE_SIZED = statement(
    """
    SELECT transfer.id, expires_at, attempts, data_file.size AS size
    FROM transfer INDEXED BY transfer_queue
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE destination = :destination AND priority = :priority AND due_at <= :now
      AND status IN ('WAIT', 'RETR') AND transfer.deleted = 0
    ORDER BY due_at, transfer.id LIMIT :limit""",
    hot=True,
)
DUE_COPIED = statement(
    """
    SELECT id, expires_at FROM transfer INDEXED BY transfer_queue
    WHERE destination = :destination AND priority = :priority AND due_at <= :now
      AND status IN ('WAIT', 'RETR') AND deleted = 0 AND proxy_host != ''
    ORDER BY due_at, id LIMIT :limit""",
    hot=True,
)
CLAIM = statement(
    """
    UPDATE transfer SET
        status = 'EXEC', start_count = start_count + 1, attempts = attempts + 1,
        started_at = COALESCE(started_at, :now), put_at = NULL, changed_at = :now, reason = NULL
    WHERE id = :id""",
    hot=True,
)
CLAIM_MANY = statement(
    """
    UPDATE transfer SET
        status = 'EXEC', start_count = start_count + 1, attempts = attempts + 1,
        started_at = COALESCE(started_at, :now), put_at = NULL, changed_at = :now, reason = NULL
    WHERE id IN (SELECT value FROM json_each(:ids))""",
    hot=True,
)

MOST_IN_LOTS = 256  # files of one claim: longer ones hold up other writers


@dataclass(frozen=True, slots=True)
class Lots:
    """So many files of at most `size` bytes, never tried, count as one transfer."""

    files: int
    size: int

    def takes(self, size: int, attempts: int) -> bool:
        """Tell whether a file may go with others."""
        return 0 <= size <= self.size and not attempts


def claim_due(
    db: Connection,
    destination: str,
    *,
    now: datetime,
    limit: int,
    only_copied: bool = False,
    lots: Lots | None = None,
) -> tuple[list[Transfer], list[int]]:
    """Move up to `limit` due transfers to EXEC; return them and the ids of expired ones met.

    `only_copied` leaves those that are at no proxy yet; with `lots` small files that were never
    tried count less.

    Order: priority, due time, id.  Expired ones are left as they are, for `engine.retention`.
    """
    chosen: list[int] = []
    expired: list[int] = []
    moment, after = to_micros(now), -1
    due = DUE_COPIED if only_copied else DUE if lots is None else DUE_SIZED
    whole = 1 if lots is None or only_copied else lots.files
    room = min(limit * whole, max(limit, MOST_IN_LOTS))
    while room > 0:
        values = {"destination": destination, "after": after}
        after = db.execute(NEXT_PRIORITY.sql, values).fetchone()["priority"]
        if after is None:
            break
        values = {"destination": destination, "priority": after, "now": moment, "limit": room}
        for row in db.execute(due.sql, values).fetchall():
            if row["expires_at"] <= moment:
                expired.append(row["id"])
                continue
            if lots is None or only_copied:
                room -= 1
            else:
                room -= 1 if lots.takes(row["size"], row["attempts"]) else whole
            if room < 0:
                break
            chosen.append(row["id"])
    return _claimed(db, chosen, moment), expired


def _claimed(db: Connection, chosen: list[int], moment: int) -> list[Transfer]:
    """Move these to EXEC and return them in that order; each statement is a turn of two threads."""
    if len(chosen) == 1:
        db.execute(CLAIM.sql, {"id": chosen[0], "now": moment})
        only = transfers.get(db, chosen[0])
        return [] if only is None else [only]
    if not chosen:
        return []
    db.execute(CLAIM_MANY.sql, {"ids": dump(chosen), "now": moment})
    return transfers.many(db, chosen)
