"""Jobs over many transfers: what was asked for, how far it is, the first errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ecpds.store.codec import dump, from_micros, load, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

State = Literal["running", "done", "cancelled", "failed"]

ADD = statement("""
    INSERT INTO job (verb, request, actor, state, position, total, total_is_minimum,
        created_at, updated_at)
    VALUES (:verb, :request, :actor, 'running', :position, :total, :total_is_minimum,
        :now, :now)""")
ONE = statement("SELECT * FROM job WHERE id = :id")
PAGE = statement("SELECT * FROM job WHERE id < :before ORDER BY id DESC LIMIT :limit")
RUNNING = statement("""
    SELECT * FROM job INDEXED BY job_running WHERE state = 'running' ORDER BY id LIMIT :limit""")
SAVE = statement("""
    UPDATE job SET position = :position, done = :done, skipped = :skipped, failed = :failed,
        errors = :errors, state = CASE WHEN state = 'running' THEN :state ELSE state END,
        total = MAX(total, :done + :skipped + :failed), updated_at = :now,
        ended_at = CASE WHEN :state = 'running' THEN ended_at ELSE :now END
    WHERE id = :id""")
CANCEL = statement("""
    UPDATE job SET state = 'cancelled', updated_at = :now, ended_at = :now
    WHERE id = :id AND state = 'running'""")
FORGET = statement("DELETE FROM job WHERE state != 'running' AND updated_at < :before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One bulk action."""

    id: int = 0
    verb: str
    request: Mapping[str, Any]
    actor: Mapping[str, str]
    state: State = "running"
    position: int
    total: int
    total_is_minimum: bool = False
    done: int = 0
    skipped: int = 0
    failed: int = 0
    errors: tuple[Mapping[str, Any], ...] = field(default=())
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None


def _row(row: Row) -> Job:
    return Job(
        id=row["id"],
        verb=row["verb"],
        request=load(row["request"]),
        actor=load(row["actor"]),
        state=row["state"],
        position=row["position"],
        total=row["total"],
        total_is_minimum=bool(row["total_is_minimum"]),
        done=row["done"],
        skipped=row["skipped"],
        failed=row["failed"],
        errors=tuple(load(row["errors"])),
        created_at=from_micros(row["created_at"]),
        updated_at=from_micros(row["updated_at"]),
        ended_at=maybe_time(row["ended_at"]),
    )


def add(db: Connection, job: Job) -> int:
    """Add a running job; return its id."""
    values = {
        "verb": job.verb,
        "request": dump(job.request),
        "actor": dump(job.actor),
        "position": job.position,
        "total": job.total,
        "total_is_minimum": job.total_is_minimum,
        "now": to_micros(job.created_at),
    }
    number = db.execute(ADD.sql, values).lastrowid
    assert number is not None  # noqa: S101 - an INSERT that worked has one
    return number


def get(db: Connection, number: int) -> Job | None:
    """Return one job, None if there is none."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _row(row) if row else None


def page(db: Connection, *, before: int | None, limit: int) -> list[Job]:
    """Return jobs, newest first."""
    values = {"before": before if before is not None else 2**62, "limit": limit}
    return [_row(row) for row in db.execute(PAGE.sql, values)]


def running(db: Connection, *, limit: int = 20) -> list[Job]:
    """Return jobs that are to go on, oldest first."""
    return [_row(row) for row in db.execute(RUNNING.sql, {"limit": limit})]


def save(db: Connection, job: Job, *, now: datetime) -> None:
    """Store how far a job is; a cancelled one stays cancelled."""
    db.execute(
        SAVE.sql,
        {
            "id": job.id,
            "position": job.position,
            "done": job.done,
            "skipped": job.skipped,
            "failed": job.failed,
            "errors": dump(list(job.errors)),
            "state": job.state,
            "now": to_micros(now),
        },
    )


def cancel(db: Connection, number: int, *, now: datetime) -> bool:
    """End a running job where it is; False when it does not run."""
    return db.execute(CANCEL.sql, {"id": number, "now": to_micros(now)}).rowcount > 0


def forget(db: Connection, *, before: datetime) -> None:
    """Drop ended jobs that are older than that."""
    db.execute(FORGET.sql, {"before": to_micros(before)})
