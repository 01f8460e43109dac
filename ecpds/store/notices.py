"""What happened since some row of the history and of the audit, for those who write mails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecpds.model.status import TransferStatus
from ecpds.store.codec import dump, from_micros
from ecpds.store.db import Connection, statement

STEPS = statement("""
    SELECT step.id AS id, step.transfer AS transfer, step.destination AS destination,
        step.time AS time, step.status AS status, step.host AS host, step.comment AS comment,
        step.error AS error, transfer.target AS target, transfer.attempts AS attempts
    FROM transfer_history AS step JOIN transfer ON transfer.id = step.transfer
    WHERE step.id > :after AND step.id <= :last
      AND step.status IN ('EXEC', 'DONE', 'STOP', 'FAIL', 'RETR', 'INTR')
      AND step.destination IN (SELECT value FROM json_each(:names))
    ORDER BY step.id""")
LAST_STEP = statement("""
    SELECT MAX(id) AS id FROM (
        SELECT id FROM transfer_history WHERE id > :after ORDER BY id LIMIT :limit)""")
CHANGES = statement("""
    SELECT audit.id AS id, audit.time AS time, audit.actor AS actor, audit.action AS action,
        audit.object_type AS kind, audit.object_name AS name,
        COALESCE(transfer.destination, '') AS destination
    FROM audit LEFT JOIN transfer
        ON audit.object_type = 'transfer' AND transfer.id = CAST(audit.object_name AS INTEGER)
    WHERE audit.id > :after AND audit.object_type IN ('transfer', 'destination', 'host')
    ORDER BY audit.id LIMIT :limit""")
NEWEST = statement("""
    SELECT COALESCE((SELECT MAX(id) FROM transfer_history), 0) AS step,
        COALESCE((SELECT MAX(id) FROM audit), 0) AS change""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a transfer."""

    transfer: int
    destination: str
    target: str
    time: datetime
    status: TransferStatus
    host: str
    comment: str
    error: bool
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change by a person or program."""

    time: datetime
    actor: str
    action: str
    kind: str
    name: str
    destination: str


def newest(db: Connection) -> tuple[int, int]:
    """Return the last rows of history and audit."""
    row = db.execute(NEWEST.sql).fetchone()
    return row["step"], row["change"]


def steps_after(
    db: Connection, after: int, names: Sequence[str], *, limit: int
) -> tuple[list[Step], int]:
    """Return the steps of these destinations among the next `limit` rows, and the last row."""
    last = db.execute(LAST_STEP.sql, {"after": after, "limit": limit}).fetchone()["id"]
    if last is None:
        return [], after
    values = {"after": after, "last": last, "names": dump(list(names))}
    found = [
        Step(
            transfer=row["transfer"],
            destination=row["destination"],
            target=row["target"],
            time=from_micros(row["time"]),
            status=TransferStatus[row["status"]],
            host=row["host"],
            comment=row["comment"],
            error=bool(row["error"]),
            attempts=row["attempts"],
        )
        for row in db.execute(STEPS.sql, values)
    ]
    return found, last


def changes_after(db: Connection, after: int, *, limit: int) -> tuple[list[Change], int]:
    """Return changes of transfers, destinations and hosts, and the last row."""
    rows = db.execute(CHANGES.sql, {"after": after, "limit": limit}).fetchall()
    found = [
        Change(
            time=from_micros(row["time"]),
            actor=row["actor"],
            action=row["action"],
            kind=row["kind"],
            name=row["name"],
            destination=row["destination"],
        )
        for row in rows
    ]
    return found, rows[-1]["id"] if rows else after
