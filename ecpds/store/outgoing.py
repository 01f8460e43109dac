"""Content on its way: compressed copies, half-received files, what stays at remote sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ecpds.store.codec import dump, from_micros, load, to_micros
from ecpds.store.db import Connection, Row, statement

SQUEEZED = statement(
    """
    SELECT * FROM squeezed
    WHERE data_file = :file AND instance = :instance AND filters = :filters""",
    hot=True,
)
ADD_SQUEEZED = statement("""
    INSERT INTO squeezed
        (data_file, instance, filters, version, size, volume, object_key, made_at)
    VALUES (:file, :instance, :filters, :version, :size, :volume, :object_key, :now)
    ON CONFLICT (data_file, instance, filters) DO UPDATE SET
        version = excluded.version, size = excluded.size, volume = excluded.volume,
        object_key = excluded.object_key, made_at = excluded.made_at""")
UNSQUEEZED = statement("""
    SELECT DISTINCT transfer.data_file FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND transfer.deleted = 0
      AND transfer.status IN ('WAIT', 'RETR', 'HOLD')
      AND data_file.stored = 1 AND data_file.deleted = 0
      AND NOT EXISTS (
          SELECT 1 FROM squeezed WHERE squeezed.data_file = data_file.id
            AND squeezed.instance = COALESCE(data_file.instance, 0))
    ORDER BY transfer.data_file LIMIT :limit""")
UNUSED = statement("""
    SELECT * FROM squeezed WHERE NOT EXISTS (
        SELECT 1 FROM data_file WHERE id = squeezed.data_file AND deleted = 0
          AND COALESCE(instance, 0) = squeezed.instance)
    LIMIT :limit""")
DROP_SQUEEZED = statement(
    """
    DELETE FROM squeezed
    WHERE data_file = :file AND instance = :instance AND filters = :filters""",
    hot=True,
)
IS_SQUEEZED = statement(
    "SELECT 1 FROM squeezed WHERE object_key = :key AND object_key != ''", hot=True
)
PUT_HALF = statement("""
    INSERT INTO half_received
        (data_file, host, source, version, volume, temporary, received, updated_at)
    VALUES (:file, :host, :source, :version, :volume, :temporary, :received, :now)
    ON CONFLICT (data_file) DO UPDATE SET
        host = excluded.host, source = excluded.source, version = excluded.version,
        volume = excluded.volume, temporary = excluded.temporary, received = excluded.received,
        updated_at = excluded.updated_at""")
HALF = statement("SELECT * FROM half_received WHERE data_file = :file", hot=True)
DROP_HALF = statement("DELETE FROM half_received WHERE data_file = :file", hot=True)
HALF_NAMES = statement("SELECT temporary FROM half_received")
FORGET_HALVES = statement("DELETE FROM half_received WHERE updated_at < :before")
DONE_RESUME = statement(
    "UPDATE resume_record SET record = '' WHERE transfer = :transfer AND host = :host", hot=True
)
DROP_ONE_RESUME = statement(
    "DELETE FROM resume_record WHERE transfer = :transfer AND host = :host", hot=True
)
STALE_AT = statement(
    "SELECT * FROM stale_partial WHERE host = :host ORDER BY due_at, id LIMIT :limit"
)
RESUMES_AT = statement("""
    SELECT transfer, record, updated_at FROM resume_record
    WHERE host = :host AND record NOT IN ('', '{}') ORDER BY updated_at LIMIT :limit""")
NOTE_INTERRUPTED = statement("""
    INSERT INTO resume_record (transfer, host, record, updated_at)
    SELECT transfer, host, '{}', time FROM transfer_history
    WHERE transfer = :transfer AND status = 'EXEC' AND host != '' ORDER BY id DESC LIMIT 1
    ON CONFLICT (transfer, host) DO NOTHING""")
INTERRUPTED = statement("SELECT transfer, host, updated_at FROM resume_record WHERE record = '{}'")
NAME_INTERRUPTED = statement("""
    UPDATE resume_record SET record = :record
    WHERE transfer = :transfer AND host = :host AND record = '{}'""")
DROP_UNNAMED = statement("""
    DELETE FROM resume_record WHERE transfer = :transfer AND host = :host AND record = ''""")
ADD_STALE = statement("""
    INSERT INTO stale_partial (host, record, tries, due_at) VALUES (:host, :record, 0, :now)""")
STALE = statement(
    "SELECT * FROM stale_partial WHERE due_at <= :now ORDER BY due_at LIMIT :limit", hot=True
)
STALE_LATER = statement("""
    UPDATE stale_partial SET tries = tries + 1, due_at = :at WHERE id = :id""")
DROP_STALE = statement("DELETE FROM stale_partial WHERE id = :id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeezed:
    """A compressed copy of the content of one instance of a data file."""

    file: int
    instance: int
    filters: str
    version: str
    size: int  # -1: not worth keeping, send the original
    volume: str = ""
    object_key: str = ""


def _squeezed(row: Row) -> Squeezed:
    return Squeezed(
        file=row["data_file"],
        instance=row["instance"],
        filters=row["filters"],
        version=row["version"],
        size=row["size"],
        volume=row["volume"],
        object_key=row["object_key"],
    )


def squeezed(db: Connection, file: int, instance: int | None, filters: str) -> Squeezed | None:
    """Return the compressed copy of that content, None if there is none yet."""
    values = {"file": file, "instance": instance or 0, "filters": filters}
    row = db.execute(SQUEEZED.sql, values).fetchone()
    return _squeezed(row) if row else None


def add_squeezed(db: Connection, one: Squeezed, *, now: datetime) -> None:
    """Keep a copy, or that none is worth it."""
    db.execute(
        ADD_SQUEEZED.sql,
        {
            "file": one.file,
            "instance": one.instance,
            "filters": one.filters,
            "version": one.version,
            "size": one.size,
            "volume": one.volume,
            "object_key": one.object_key,
            "now": to_micros(now),
        },
    )


def unsqueezed(db: Connection, destination: str, *, limit: int) -> list[int]:
    """Return queued files of a destination for which no copy was made or thought of."""
    values = {"destination": destination, "limit": limit}
    return [row["data_file"] for row in db.execute(UNSQUEEZED.sql, values)]


def unused_copies(db: Connection, *, limit: int) -> list[Squeezed]:
    """Return copies of content that is deleted or was replaced."""
    return [_squeezed(row) for row in db.execute(UNUSED.sql, {"limit": limit})]


def drop_copies(db: Connection, copies: Sequence[Squeezed]) -> None:
    """Forget copies whose bytes are gone."""
    for one in copies:
        values = {"file": one.file, "instance": one.instance, "filters": one.filters}
        db.execute(DROP_SQUEEZED.sql, values)


def is_copy(db: Connection, key: str) -> bool:
    """Tell whether an object is a compressed copy."""
    return db.execute(IS_SQUEEZED.sql, {"key": key}).fetchone() is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """What is there of a download that broke off."""

    file: int
    host: str
    source: str
    version: str  # of the content at the source
    volume: str
    temporary: str  # name in the volume's directory of uploads
    received: int


def put_half(db: Connection, half: Half, *, now: datetime) -> None:
    """Keep it for the next try."""
    db.execute(
        PUT_HALF.sql,
        {
            "file": half.file,
            "host": half.host,
            "source": half.source,
            "version": half.version,
            "volume": half.volume,
            "temporary": half.temporary,
            "received": half.received,
            "now": to_micros(now),
        },
    )


def half(db: Connection, file: int) -> Half | None:
    """Return what an earlier try received, None if nothing."""
    row = db.execute(HALF.sql, {"file": file}).fetchone()
    if row is None:
        return None
    return Half(
        file=row["data_file"],
        host=row["host"],
        source=row["source"],
        version=row["version"],
        volume=row["volume"],
        temporary=row["temporary"],
        received=row["received"],
    )


def drop_half(db: Connection, file: int) -> None:
    """Forget it."""
    db.execute(DROP_HALF.sql, {"file": file})


def half_names(db: Connection) -> list[str]:
    """Return the temporary names that a try will go on with."""
    return [row["temporary"] for row in db.execute(HALF_NAMES.sql)]


def forget_halves(db: Connection, *, before: datetime) -> list[str]:
    """Forget old ones; return the temporary names of the others."""
    db.execute(FORGET_HALVES.sql, {"before": to_micros(before)})
    return half_names(db)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A partial file at a remote site that nobody will go on with."""

    id: int
    host: str
    record: dict[str, Any]
    tries: int
    due_at: datetime


def done_resume(db: Connection, transfer: int, host: str) -> None:
    """Forget what an attempt left at that host: nothing is there any more."""
    values = {"transfer": transfer, "host": host}
    db.execute(DONE_RESUME.sql, values)
    db.execute(DROP_ONE_RESUME.sql, values)


def add_stale(db: Connection, host: str, record: dict[str, Any], *, now: datetime) -> None:
    """Have a partial file removed."""
    db.execute(ADD_STALE.sql, {"host": host, "record": dump(record), "now": to_micros(now)})


def stale(db: Connection, *, now: datetime, limit: int) -> list[Stale]:
    """Return partial files whose removal is due."""
    found = db.execute(STALE.sql, {"now": to_micros(now), "limit": limit})
    return [_stale(row) for row in found]


def _stale(row: Row) -> Stale:
    return Stale(
        id=row["id"],
        host=row["host"],
        record=dict(load(row["record"])),
        tries=row["tries"],
        due_at=from_micros(row["due_at"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A partial file at a remote site, for people."""

    path: str
    reached: int  # bytes that are known to be there
    transfer: int | None  # that may go on with it; None: to be removed
    tries: int  # to remove it
    time: datetime  # of the last byte, or when it is removed


def stale_at(db: Connection, host: str, *, limit: int) -> list[Stale]:
    """Return partial files at one host that are to be removed, due or not."""
    return [_stale(row) for row in db.execute(STALE_AT.sql, {"host": host, "limit": limit})]


def left_at(db: Connection, host: str, *, limit: int) -> list[Left]:
    """Return all that is known to lie at one host, what is to be removed first."""
    found = [
        Left(
            path=str(one.record.get("name", "")),
            reached=int(one.record.get("offset", 0)),
            transfer=None,
            tries=one.tries,
            time=one.due_at,
        )
        for one in stale_at(db, host, limit=limit)
    ]
    for row in db.execute(RESUMES_AT.sql, {"host": host, "limit": limit - len(found)}):
        record = load(row["record"])
        found.append(
            Left(
                path=str(record.get("name", "")),
                reached=int(record.get("offset", 0)),
                transfer=row["transfer"],
                tries=0,
                time=from_micros(row["updated_at"]),
            )
        )
    return found


def try_later(db: Connection, number: int, pause: timedelta, *, now: datetime) -> None:
    """Try the removal again after a pause."""
    db.execute(STALE_LATER.sql, {"id": number, "at": to_micros(now + pause)})


def drop_stale(db: Connection, number: int) -> None:
    """It is gone, or given up."""
    db.execute(DROP_STALE.sql, {"id": number})


def note_interrupted(db: Connection, transfer: int) -> None:
    """Note that the last attempt may have left a file of which nobody has told the name yet."""
    db.execute(NOTE_INTERRUPTED.sql, {"transfer": transfer})


def interrupted(db: Connection) -> list[tuple[int, str, datetime]]:
    """Return what was noted so, as transfer, host and begin of the attempt."""
    found = db.execute(INTERRUPTED.sql)
    return [(row["transfer"], row["host"], from_micros(row["updated_at"])) for row in found]


def name_interrupted(db: Connection, transfer: int, host: str, record: dict[str, Any]) -> None:
    """Put the name to it; without a record there is nothing to remove."""
    values = {"transfer": transfer, "host": host, "record": dump(record) if record else ""}
    db.execute(NAME_INTERRUPTED.sql, values)
    db.execute(DROP_UNNAMED.sql, {"transfer": transfer, "host": host})
