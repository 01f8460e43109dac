"""Copies of content at backup and proxy hosts: what is missing, what is there, what has to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ecpds.store.codec import dump, from_micros, to_micros
from ecpds.store.db import Connection, Row, statement

Role = Literal["backup", "proxy"]

BACKUP = statement(
    """
    SELECT MIN(transfer.id) AS transfer, transfer.data_file AS file
    FROM transfer INDEXED BY transfer_status JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND transfer.deleted = 0
      AND transfer.status IN ('WAIT', 'RETR', 'HOLD', 'DONE') AND transfer.expires_at > :now
      AND data_file.stored = 1 AND data_file.deleted = 0
      AND NOT EXISTS (SELECT 1 FROM content_copy AS copy
        WHERE copy.data_file = transfer.data_file AND copy.destination = ''
          AND (copy.state = 'there' AND copy.instance = COALESCE(data_file.instance, 0)
              AND copy.host IN (SELECT value FROM json_each(:hosts))
            OR copy.state = 'waiting' AND copy.host = :host AND copy.due_at > :now))
    GROUP BY transfer.data_file
    ORDER BY data_file.group_by, MIN(transfer.queue_at), transfer LIMIT :limit""",
)
PROXY = statement(
    """
    SELECT transfer.id AS transfer, transfer.data_file AS file
    FROM transfer INDEXED BY transfer_queue JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND transfer.deleted = 0
      AND transfer.status IN ('WAIT', 'RETR') AND transfer.expires_at > :now
      AND data_file.stored = 1 AND data_file.deleted = 0 AND data_file.arrived_at <= :arrived
      AND NOT EXISTS (SELECT 1 FROM content_copy AS copy
        WHERE copy.data_file = transfer.data_file AND copy.destination = :destination
          AND (copy.state = 'there' AND copy.instance = COALESCE(data_file.instance, 0)
              AND copy.host IN (SELECT value FROM json_each(:hosts))
            OR copy.state = 'waiting' AND copy.host = :host AND copy.due_at > :now))
    ORDER BY transfer.priority, transfer.queue_at, transfer.id LIMIT :limit""",
)
PUT = statement("""
    INSERT INTO content_copy
        (data_file, instance, host, role, destination, state, place, tries, due_at, error)
    VALUES (:file, :instance, :host, :role, :destination, :state, :place, :tries, :due, :error)
    ON CONFLICT (data_file, host, destination) DO UPDATE SET
        instance = excluded.instance, state = excluded.state, place = excluded.place,
        tries = excluded.tries, due_at = excluded.due_at, error = excluded.error""")
OF_FILE = statement("""
    SELECT * FROM content_copy WHERE data_file = :file AND state != 'doomed' ORDER BY host""")
ONE = statement("""
    SELECT * FROM content_copy
    WHERE data_file = :file AND host = :host AND destination = :destination""")
UNUSED = statement("""
    SELECT copy.* FROM content_copy AS copy
    LEFT JOIN data_file ON data_file.id = copy.data_file
    WHERE copy.state IN ('there', 'doomed') AND copy.due_at <= :now
      AND (data_file.id IS NULL OR data_file.deleted = 1 OR copy.role = 'proxy' AND NOT EXISTS (
        SELECT 1 FROM transfer WHERE transfer.data_file = copy.data_file
          AND transfer.destination = copy.destination AND transfer.deleted = 0))
    LIMIT :limit""")
FORGET = statement("""
    DELETE FROM content_copy
    WHERE data_file = :file AND host = :host AND destination = :destination""")
FORGET_WAITING = statement("""
    DELETE FROM content_copy WHERE state = 'waiting' AND NOT EXISTS (
        SELECT 1 FROM data_file WHERE data_file.id = content_copy.data_file
          AND data_file.deleted = 0)""")
FAILING = statement("""
    SELECT host, MAX(due_at) AS due_at FROM content_copy
    WHERE state = 'waiting' AND due_at > :now GROUP BY host""")
SET_HOST = statement("UPDATE transfer SET backup_host = :host WHERE data_file = :file")
SET_PROXY = statement("UPDATE transfer SET proxy_host = :host WHERE id = :id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy; `place` is a path at a backup host, a transfer number at a proxy."""

    file: int
    instance: int
    host: str
    role: Role
    destination: str = ""
    state: str = "there"
    place: str = ""
    tries: int = 0
    due_at: datetime
    error: str = ""


def _row(row: Row, at: datetime) -> Copy:
    return Copy(
        file=row["data_file"],
        instance=row["instance"],
        host=row["host"],
        role=row["role"],
        destination=row["destination"],
        state=row["state"],
        place=row["place"],
        tries=row["tries"],
        due_at=at,
        error=row["error"],
    )


def missing(
    db: Connection,
    role: Role,
    destination: str,
    host: str,
    *,
    hosts: Sequence[str],
    now: datetime,
    arrived: datetime,
    limit: int,
) -> list[tuple[int, int]]:
    """Return transfer and file of what has no copy at any of `hosts` yet, in order.

    `host` is the one that is to get it: what failed there a short while ago is left out.
    """
    values = {"destination": destination, "host": host, "hosts": dump(list(hosts)), "limit": limit}
    times = {"now": to_micros(now)} | ({"arrived": to_micros(arrived)} if role == "proxy" else {})
    rows = db.execute((BACKUP if role == "backup" else PROXY).sql, values | times)
    return [(row["transfer"], row["file"]) for row in rows]


def put(db: Connection, copy: Copy) -> None:
    """Store what is known of a copy."""
    db.execute(
        PUT.sql,
        {
            "file": copy.file,
            "instance": copy.instance,
            "host": copy.host,
            "role": copy.role,
            "destination": copy.destination,
            "state": copy.state,
            "place": copy.place,
            "tries": copy.tries,
            "due": to_micros(copy.due_at),
            "error": copy.error,
        },
    )


def mark(db: Connection, copy: Copy, transfer: int) -> None:
    """Tell the transfers where a copy of their content is."""
    if copy.role == "backup":
        db.execute(SET_HOST.sql, {"host": copy.host, "file": copy.file})
    else:
        db.execute(SET_PROXY.sql, {"host": copy.host, "id": transfer})


def get(db: Connection, file: int, host: str, destination: str, *, now: datetime) -> Copy | None:
    """Return one copy, None if nothing is known of it."""
    values = {"file": file, "host": host, "destination": destination}
    row = db.execute(ONE.sql, values).fetchone()
    return _row(row, now) if row else None


def failing(db: Connection, *, now: datetime) -> dict[str, datetime]:
    """Return the hosts at which a copy failed a short while ago, each with the end of its pause."""
    rows = db.execute(FAILING.sql, {"now": to_micros(now)})
    return {row["host"]: from_micros(row["due_at"]) for row in rows}


def of_file(db: Connection, file: int, *, now: datetime) -> list[Copy]:
    """Return the copies of a file."""
    return [_row(row, now) for row in db.execute(OF_FILE.sql, {"file": file})]


def unused(db: Connection, *, now: datetime, limit: int) -> list[Copy]:
    """Return copies that nobody needs any more."""
    rows = db.execute(UNUSED.sql, {"now": to_micros(now), "limit": limit})
    return [_row(row, now) for row in rows]


def forget(db: Connection, copy: Copy) -> None:
    """Drop what is known of a copy."""
    db.execute(FORGET.sql, {"file": copy.file, "host": copy.host, "destination": copy.destination})


def forget_waiting(db: Connection) -> None:
    """Drop failed copies of files that are gone."""
    db.execute(FORGET_WAITING.sql)
