"""Problems grouped by their cause: one row each, open until the cause is gone.

A cause that comes back opens its row again and is counted; note and mute stay, the acknowledgement
does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

RAISE = statement("""
    INSERT INTO incident (dedup_key, kind, subject_kind, subject, severity, text, first_at, last_at)
    VALUES (:key, :kind, :subject_kind, :subject, :severity, :text, :now, :now)
    ON CONFLICT (dedup_key) DO UPDATE SET
        severity = excluded.severity, text = excluded.text, last_at = excluded.last_at,
        count = count + (resolved_at IS NOT NULL),
        acknowledged_by = CASE WHEN resolved_at IS NULL THEN acknowledged_by ELSE '' END,
        acknowledged_at = CASE WHEN resolved_at IS NULL THEN acknowledged_at ELSE NULL END,
        resolved_at = NULL""")
RESOLVE = statement("""
    UPDATE incident SET resolved_at = :now, last_at = :now
    WHERE dedup_key = :key AND resolved_at IS NULL""")
OPEN = statement("SELECT * FROM incident INDEXED BY incident_open WHERE resolved_at IS NULL")
RESOLVED = statement("""
    SELECT * FROM incident INDEXED BY incident_resolved
    WHERE resolved_at IS NOT NULL
      AND (resolved_at < :before OR (resolved_at = :before AND id < :before_id))
    ORDER BY resolved_at DESC, id DESC LIMIT :limit""")
ONE = statement("SELECT * FROM incident WHERE id = :id", hot=True)
ACKNOWLEDGE = statement("""
    UPDATE incident SET acknowledged_by = :by, acknowledged_at = :now WHERE id = :id""")
NOTE = statement("UPDATE incident SET note = :note WHERE id = :id")
MUTE = statement("UPDATE incident SET muted_until = :until, muted_by = :by WHERE id = :id")
PURGE = statement("""
    DELETE FROM incident
    WHERE resolved_at < :before AND (muted_until IS NULL OR muted_until < :now)""")
FAILED = statement("""
    SELECT destination, COUNT(*) AS files, MAX(id) AS newest FROM outbox INDEXED BY outbox_failed
    WHERE state = 'failed' GROUP BY destination""")
SENT_AFTER = statement("""
    SELECT 1 FROM outbox WHERE id > :id AND destination = :destination AND state = 'sent'
    LIMIT 1""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong now."""

    kind: str  # breaker, late, gave-up, acquisition, storage, text, certificate, publication
    subject_kind: str  # destination, host, volume, certificate
    subject: str
    severity: str  # warning, error, critical
    text: str

    @property
    def key(self) -> str:
        """Return what makes two sightings the same incident."""
        return f"{self.kind}:{self.subject_kind}:{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One row."""

    id: int
    problem: Problem
    first_at: datetime
    last_at: datetime
    count: int
    acknowledged_by: str
    acknowledged_at: datetime | None
    note: str
    muted_until: datetime | None
    muted_by: str
    resolved_at: datetime | None

    def is_muted(self, now: datetime) -> bool:
        """Tell whether nobody wants to be told of it now."""
        return self.muted_until is not None and self.muted_until > now


def _incident(row: Row) -> Incident:
    return Incident(
        id=row["id"],
        problem=Problem(
            kind=row["kind"],
            subject_kind=row["subject_kind"],
            subject=row["subject"],
            severity=row["severity"],
            text=row["text"],
        ),
        first_at=from_micros(row["first_at"]),
        last_at=from_micros(row["last_at"]),
        count=row["count"],
        acknowledged_by=row["acknowledged_by"],
        acknowledged_at=maybe_time(row["acknowledged_at"]),
        note=row["note"],
        muted_until=maybe_time(row["muted_until"]),
        muted_by=row["muted_by"],
        resolved_at=maybe_time(row["resolved_at"]),
    )


def raise_one(db: Connection, problem: Problem, *, now: datetime) -> None:
    """Open an incident, or bring an open one up to date."""
    db.execute(
        RAISE.sql,
        {
            "key": problem.key,
            "kind": problem.kind,
            "subject_kind": problem.subject_kind,
            "subject": problem.subject,
            "severity": problem.severity,
            "text": problem.text,
            "now": to_micros(now),
        },
    )


def resolve(db: Connection, keys: Iterable[str], *, now: datetime) -> None:
    """Close incidents whose cause is gone."""
    for key in keys:
        db.execute(RESOLVE.sql, {"key": key, "now": to_micros(now)})


def opened(db: Connection) -> list[Incident]:
    """Return the open ones."""
    return [_incident(row) for row in db.execute(OPEN.sql)]


def resolved(
    db: Connection, *, limit: int, before: tuple[datetime, int] | None = None
) -> list[Incident]:
    """Return closed ones, last closed first."""
    place = (to_micros(before[0]), before[1]) if before is not None else (2**62, 0)
    values = {"limit": limit, "before": place[0], "before_id": place[1]}
    return [_incident(row) for row in db.execute(RESOLVED.sql, values)]


def get(db: Connection, number: int) -> Incident | None:
    """Return one, None if there is none."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _incident(row) if row else None


def acknowledge(db: Connection, number: int, by: str, *, now: datetime | None) -> None:
    """Store who looks after it; nobody, when `by` is empty."""
    time = to_micros(now) if now is not None else None
    db.execute(ACKNOWLEDGE.sql, {"id": number, "by": by, "now": time})


def set_note(db: Connection, number: int, note: str) -> None:
    """Store what people should know about it."""
    db.execute(NOTE.sql, {"id": number, "note": note})


def mute(db: Connection, number: int, by: str, until: datetime | None) -> None:
    """Keep it out of what needs attention until then; None: no more."""
    time = to_micros(until) if until is not None else None
    db.execute(MUTE.sql, {"id": number, "by": by, "until": time})


def purge(db: Connection, *, before: datetime, now: datetime) -> None:
    """Forget what was closed before."""
    db.execute(PURGE.sql, {"before": to_micros(before), "now": to_micros(now)})


def failed_publications(db: Connection) -> dict[str, tuple[int, int]]:
    """Return destinations whose last publications failed: how many there are, and the newest."""
    found = {}
    for row in db.execute(FAILED.sql).fetchall():
        values = {"id": row["newest"], "destination": row["destination"]}
        if db.execute(SENT_AFTER.sql, values).fetchone() is None:
            found[row["destination"]] = (row["files"], row["newest"])
    return found
