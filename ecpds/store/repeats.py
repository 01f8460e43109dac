"""Answers to requests that carried an Idempotency-Key, so that a repeat gets the same one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ecpds.store.codec import dump, load, to_micros
from ecpds.store.db import Connection, statement

GET = statement("SELECT answer FROM idempotency WHERE key = :key AND created_at > :since", hot=True)
PUT = statement(
    """
    INSERT INTO idempotency (key, actor, answer, created_at)
    VALUES (:key, :actor, :answer, :now)
    ON CONFLICT (key) DO UPDATE SET answer = excluded.answer, created_at = excluded.created_at""",
    hot=True,
)
FORGET = statement("DELETE FROM idempotency WHERE created_at <= :before")


def get(db: Connection, key: str, *, since: datetime) -> dict[str, Any] | None:
    """Return the answer to the first request with that key, None if there is none since then."""
    row = db.execute(GET.sql, {"key": key, "since": to_micros(since)}).fetchone()
    return dict(load(row["answer"])) if row else None


def put(
    db: Connection,
    key: str,
    actor: str,
    answer: dict[str, Any],
    *,
    now: datetime,
    before: datetime,
) -> None:
    """Keep an answer; those given before that time go."""
    db.execute(FORGET.sql, {"before": to_micros(before)})
    values: dict[str, object] = {"key": key, "actor": actor, "answer": dump(answer)}
    db.execute(PUT.sql, values | {"now": to_micros(now)})
