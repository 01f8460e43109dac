"""Looks for what cannot be in a store, and brings back what can be known again; for `fsck`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ecpds.model.errors import BadState, NotFound, StoreError
from ecpds.store.codec import maybe_time, to_micros
from ecpds.store.db import Connection, statement
from ecpds.store.files import unknown_objects
from ecpds.store.lost import lose
from ecpds.store.migrate import migrations, version

COUNTERS = statement("""
    WITH counted AS (
        SELECT destination, status, COUNT(*) AS files,
            SUM(status = 'WAIT' AND start_count > 0 OR status = 'FAIL'
                OR status = 'RETR' AND status_by = '' OR status = 'STOP' AND status_by = '')
                AS outstanding
        FROM transfer WHERE deleted = 0 GROUP BY destination, status)
    SELECT destination AS name, status, COALESCE(kept.files, 0) AS kept, counted.files AS counted,
        counted.outstanding AS outstanding
    FROM counted LEFT JOIN transfer_count AS kept USING (destination, status)
    WHERE kept.files IS NOT counted.files OR kept.outstanding IS NOT counted.outstanding
    UNION ALL
    SELECT destination, status, files, 0, 0 FROM transfer_count AS kept
    WHERE (files != 0 OR outstanding != 0) AND NOT EXISTS (
        SELECT 1 FROM counted
        WHERE counted.destination = kept.destination AND counted.status = kept.status)
    ORDER BY 1, 2""")
SET_COUNTER = statement("""
    INSERT INTO transfer_count (destination, status, files, outstanding)
    VALUES (:name, :status, :counted, :outstanding)
    ON CONFLICT DO UPDATE SET files = excluded.files, outstanding = excluded.outstanding""")
FILELESS = statement("""
    SELECT id, destination, target, data_file FROM transfer
    WHERE NOT EXISTS (SELECT 1 FROM data_file WHERE data_file.id = transfer.data_file)""")
NOWHERE = statement("""
    SELECT id, destination, target, data_file FROM transfer
    WHERE deleted = 0
      AND NOT EXISTS (SELECT 1 FROM destination WHERE name = transfer.destination)""")
DROP = statement("DELETE FROM transfer WHERE id = :id")
DELETE = statement("UPDATE transfer SET deleted = 1, changed_at = :now WHERE id = :id")

Found = dict[str, Any]


@contextmanager
def opened(path: Path, *, read_only: bool) -> Iterator[Connection]:
    """Open a store of this release's schema; BadState for another one."""
    if not path.exists():
        raise NotFound(f"there is no store {path}")
    try:
        db = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    try:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("PRAGMA foreign_keys = OFF")  # rows that refer to none are to be removed
        if read_only:
            db.execute("PRAGMA query_only = ON")
        present, newest = version(db), migrations()[-1][0]
        if present != newest:
            raise BadState(
                f"the store has schema {present}, this release {newest}: check it with the "
                "release that wrote it, or let `ecpds init` of this one migrate it first"
            )
        yield db
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is damaged: {error}; restore a backup") from error
    finally:
        db.close()


def counters(db: Connection) -> list[Found]:
    """Return destinations and statuses whose count of transfers is wrong."""
    return [dict(row) for row in db.execute(COUNTERS.sql)]


def set_counter(db: Connection, found: Found) -> None:
    """Correct one counter that `counters` found."""
    db.execute(SET_COUNTER.sql, found)


def fileless(db: Connection) -> list[Found]:
    """Return transfers of a data file that there is not."""
    return [dict(row) for row in db.execute(FILELESS.sql)]


def nowhere(db: Connection) -> list[Found]:
    """Return live transfers of a destination that there is not."""
    return [dict(row) for row in db.execute(NOWHERE.sql)]


def drop(db: Connection, number: int) -> None:
    """Remove the row of a transfer."""
    db.execute(DROP.sql, {"id": number})


def delete(db: Connection, number: int, *, now: datetime) -> None:
    """Mark a transfer as deleted."""
    db.execute(DELETE.sql, {"id": number, "now": to_micros(now)})


def orphans(db: Connection, volume: str, keys: list[str]) -> list[str]:
    """Return the objects that nothing refers to."""
    return unknown_objects(db, volume, keys)


def mark_lost(db: Connection, file: int, text: str, *, now: datetime) -> list[int]:
    """Mark the content of a file as lost; return the transfers that fail by that."""
    return lose(db, file, text, now=to_micros(now))


NEWEST = statement("SELECT MAX(time) FROM event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a short look at a store tells."""

    schema: int
    newest_schema: int  # that this release knows
    problems: list[str]
    last_event: datetime | None


def glance(path: Path) -> Glance:
    """Look at a store of any schema, beside a daemon or without one; StoreError when unusable.

    The quick check of SQLite: pages, not indexes; seconds for a gigabyte.
    """
    try:
        db = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    try:
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("PRAGMA query_only = ON")
        problems = [row[0] for row in db.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
        last = db.execute(NEWEST.sql).fetchone()[0]
        return Glance(
            schema=version(db),
            newest_schema=migrations()[-1][0],
            problems=problems,
            last_event=maybe_time(last),
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    finally:
        db.close()


@contextmanager
def changing(db: Connection) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
