"""Files of a destination by product date: what a tree with one directory a date needs.

The index `transfer_date` skips from date to date; see `store.portal` for what is visible.
"""

from __future__ import annotations

from datetime import datetime

from ecpds.store.codec import from_micros, maybe_time, to_micros
from ecpds.store.db import Connection, statement
from ecpds.store.portal import NEWEST_OF, Entry, entry_of

NEXT_DATE = statement(
    """
    SELECT time_base FROM portal_entry
    WHERE destination = :destination AND time_base >= :start AND time_base < :end
      AND visible_at <= :now AND expires_at > :now
    ORDER BY time_base LIMIT 1""",
    hot=True,
)
LAST_DATE = statement(
    """
    SELECT time_base FROM portal_entry
    WHERE destination = :destination AND time_base >= :start AND time_base < :end
      AND visible_at <= :now AND expires_at > :now
    ORDER BY time_base DESC LIMIT 1""",
    hot=True,
)
OF_DATE = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND time_base >= :start AND time_base < :end
      AND visible_at <= :now AND expires_at > :now
    ORDER BY transfer DESC LIMIT :limit""",
)
IN_DATE = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND time_base >= :start AND time_base < :end
      AND (target = :base OR substr(target, :tail) = :suffix)
      AND visible_at <= :now AND expires_at > :now
    ORDER BY transfer""",
    hot=True,
)
NEWEST_OF_DATE = statement(
    """
    SELECT MAX(arrived_at) AS newest FROM (
        SELECT arrived_at FROM portal_entry
        WHERE destination = :destination AND time_base >= :start AND time_base < :end
          AND visible_at <= :now AND expires_at > :now
        ORDER BY time_base DESC LIMIT :limit)""",
)


def _dates(destination: str, start: datetime, end: datetime) -> dict[str, object]:
    return {"destination": destination, "start": to_micros(start), "end": to_micros(end)}


def next_date(
    db: Connection, destination: str, start: datetime, end: datetime, *, now: datetime
) -> datetime | None:
    """Return the first product time in [start, end) that has a visible file."""
    values = _dates(destination, start, end)
    row = db.execute(NEXT_DATE.sql, values | {"now": to_micros(now)}).fetchone()
    return from_micros(row["time_base"]) if row else None


def last_date(
    db: Connection, destination: str, start: datetime, end: datetime, *, now: datetime
) -> datetime | None:
    """Return the last product time in [start, end) that has a visible file."""
    values = _dates(destination, start, end)
    row = db.execute(LAST_DATE.sql, values | {"now": to_micros(now)}).fetchone()
    return from_micros(row["time_base"]) if row else None


def newest_of_date(
    db: Connection, destination: str, start: datetime, end: datetime, *, now: datetime
) -> datetime | None:
    """Return the latest arrival among the last files of [start, end)."""
    values = _dates(destination, start, end)
    values |= {"now": to_micros(now), "limit": NEWEST_OF}
    return maybe_time(db.execute(NEWEST_OF_DATE.sql, values).fetchone()["newest"])


def of_date(
    db: Connection,
    destination: str,
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    limit: int,
) -> list[Entry]:
    """Return up to `limit` files of [start, end), each base name once, newest transfer first."""
    values = _dates(destination, start, end)
    values |= {"now": to_micros(now), "limit": limit}
    found: dict[str, Entry] = {}
    for row in db.execute(OF_DATE.sql, values):
        found.setdefault(row["target"].rpartition("/")[2], entry_of(row))
    return list(found.values())


def in_date(
    db: Connection,
    destination: str,
    start: datetime,
    end: datetime,
    base: str,
    *,
    now: datetime,
) -> list[Entry]:
    """Return the visible files of that base name in [start, end), oldest transfer first."""
    values = _dates(destination, start, end) | {"now": to_micros(now)}
    values |= {"base": base, "suffix": f"/{base}", "tail": -len(base) - 1}
    return [entry_of(row) for row in db.execute(IN_DATE.sql, values)]
