"""Product status: one row for each accepted report, the latest of a key counts."""

from __future__ import annotations

from datetime import datetime, timedelta

from ecpds.model.product import ProductEntry, ProductKey, ProductState
from ecpds.store.codec import (
    from_micros,
    length,
    maybe_micros,
    maybe_time,
    to_micros,
)
from ecpds.store.db import Connection, Row, statement

LATEST = statement("""
    SELECT * FROM product_status
    WHERE stream = :stream AND time = :time AND step = :step AND type = :type
    ORDER BY id DESC LIMIT 1""")
ADD = statement("""
    INSERT INTO product_status
        (stream, time, step, type, status, schedule_at, time_base, buffer, updated_at)
    VALUES (:stream, :time, :step, :type, :status, :schedule_at, :time_base, :buffer, :now)""")
CURRENT = statement("""
    SELECT * FROM product_status WHERE id IN (
        SELECT MAX(id) FROM product_status
        WHERE (:stream IS NULL OR stream = :stream) AND (:time IS NULL OR time = :time)
        GROUP BY stream, time, step, type)
    ORDER BY stream, time, step, type LIMIT :limit""")
HISTORY = statement("""
    SELECT * FROM product_status
    WHERE stream = :stream AND time = :time AND step = :step AND type = :type
    ORDER BY id DESC LIMIT :limit""")
COMPLETED = statement(
    """
    SELECT * FROM product_status
    WHERE stream = :stream AND time = :time AND status = 'DONE' ORDER BY id DESC LIMIT :limit""",
    hot=True,
)
RESET = statement("""
    DELETE FROM product_status
    WHERE (:stream IS NULL OR stream = :stream) AND (:time IS NULL OR time = :time)
      AND (:step IS NULL OR step = :step)""")
FORGET = statement("DELETE FROM product_status WHERE updated_at < :before")


def _values(key: ProductKey) -> dict[str, object]:
    return {"stream": key.stream, "time": key.time, "step": key.step, "type": key.type}


def _row(row: Row) -> ProductEntry:
    return ProductEntry(
        id=row["id"],
        key=ProductKey(stream=row["stream"], time=row["time"], step=row["step"], type=row["type"]),
        state=ProductState[row["status"]],
        scheduled_at=maybe_time(row["schedule_at"]),
        time_base=maybe_time(row["time_base"]),
        buffer=timedelta(microseconds=row["buffer"]),
        updated_at=from_micros(row["updated_at"]),
    )


def latest(db: Connection, key: ProductKey) -> ProductEntry | None:
    """Return the entry that counts, None when nothing was reported."""
    row = db.execute(LATEST.sql, _values(key)).fetchone()
    return _row(row) if row else None


def add(db: Connection, entry: ProductEntry) -> int:
    """Add an entry (its `id` is ignored); return the new id."""
    values = _values(entry.key) | {
        "status": entry.state.code,
        "schedule_at": maybe_micros(entry.scheduled_at),
        "time_base": maybe_micros(entry.time_base),
        "buffer": length(entry.buffer),
        "now": to_micros(entry.updated_at),
    }
    number = db.execute(ADD.sql, values).lastrowid
    assert number is not None  # noqa: S101 - an INSERT that worked has one
    return number


def current(
    db: Connection, *, stream: str | None = None, time: str | None = None, limit: int = 10_000
) -> list[ProductEntry]:
    """Return the entries that count, by stream, time, step and type."""
    values = {"stream": stream, "time": time, "limit": limit}
    return [_row(row) for row in db.execute(CURRENT.sql, values)]


def history(db: Connection, key: ProductKey, *, limit: int = 1000) -> list[ProductEntry]:
    """Return all entries of one key, newest first."""
    return [_row(row) for row in db.execute(HISTORY.sql, _values(key) | {"limit": limit})]


def completed(db: Connection, stream: str, time: str, *, limit: int = 10_000) -> list[ProductEntry]:
    """Return when steps of a product were completed, newest first."""
    values = {"stream": stream, "time": time, "limit": limit}
    return [_row(row) for row in db.execute(COMPLETED.sql, values)]


def reset(
    db: Connection,
    *,
    stream: str | None = None,
    time: str | None = None,
    step: int | None = None,
) -> int:
    """Remove entries, all without a filter; return how many products there were."""
    found = current(db, stream=stream, time=time, limit=1_000_000)
    count = sum(step is None or entry.key.step == step for entry in found)
    db.execute(RESET.sql, {"stream": stream, "time": time, "step": step})
    return count


def forget(db: Connection, *, before: datetime) -> None:
    """Drop entries that are older than that."""
    db.execute(FORGET.sql, {"before": to_micros(before)})
