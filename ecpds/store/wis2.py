"""What a WIS2 node remembers: its discovery records, what it told of each datum, who told it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecpds.store.codec import dump, from_micros, load, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

RECORDS = statement("SELECT * FROM wis2_record ORDER BY id")
RECORD = statement("SELECT * FROM wis2_record WHERE id = :id", hot=True)
PUT_RECORD = statement("""
    INSERT INTO wis2_record (id, document, version, changed_at)
    VALUES (:id, :document, 1, :now)
    ON CONFLICT (id) DO UPDATE SET
        document = excluded.document, version = version + 1, changed_at = excluded.changed_at""")
DELETE_RECORD = statement("DELETE FROM wis2_record WHERE id = :id")
ANNOUNCED = statement("""
    UPDATE wis2_record SET announced_at = :now WHERE id = :id AND announced_at IS NULL""")
TOLD = statement("SELECT * FROM wis2_told WHERE data_id = :data_id", hot=True)
OF_TRANSFER = statement(
    "SELECT * FROM wis2_told INDEXED BY wis2_told_transfer WHERE transfer = :transfer", hot=True
)
LAST_TOLD = statement(
    "SELECT * FROM wis2_told INDEXED BY wis2_told_time ORDER BY time DESC LIMIT 1", hot=True
)
PUT_TOLD = statement(
    """
    INSERT INTO wis2_told (data_id, destination, transfer, digest, relation, href, time)
    VALUES (:data_id, :destination, :transfer, :digest, :relation, :href, :now)
    ON CONFLICT (data_id) DO UPDATE SET
        destination = excluded.destination, transfer = excluded.transfer,
        digest = excluded.digest, relation = excluded.relation, href = excluded.href,
        time = excluded.time""",
    hot=True,
)
DROP_TOLD = statement("DELETE FROM wis2_told WHERE data_id = :data_id", hot=True)
PURGE_TOLD = statement("DELETE FROM wis2_told WHERE time < :before")
PUT_ORIGIN = statement(
    """
    INSERT INTO wis2_origin (data_file, topic, document) VALUES (:file, :topic, :document)
    ON CONFLICT (data_file) DO UPDATE SET topic = excluded.topic, document = excluded.document""",
    hot=True,
)
ORIGIN = statement("SELECT topic, document FROM wis2_origin WHERE data_file = :file", hot=True)
SET_LINKS = statement(
    """
    INSERT INTO wis2_origin (data_file, topic, document, links) VALUES (:file, '', '', :links)
    ON CONFLICT (data_file) DO UPDATE SET links = excluded.links""",
    hot=True,
)
LINKS = statement("SELECT links FROM wis2_origin WHERE data_file = :file", hot=True)
PURGE_ORIGINS = statement("""
    DELETE FROM wis2_origin
    WHERE data_file NOT IN (SELECT id FROM data_file WHERE removed = 0)""")

MOST_LINKS = 10  # other addresses of one content that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One discovery record."""

    id: str
    text: str  # JSON, as it is served
    version: int
    changed_at: datetime
    announced_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was told of a datum last."""

    data_id: str
    destination: str
    transfer: int
    digest: str  # hex
    relation: str
    href: str
    told_at: datetime


def _record(row: Row) -> Record:
    return Record(
        id=row["id"],
        text=row["document"],
        version=row["version"],
        changed_at=from_micros(row["changed_at"]),
        announced_at=maybe_time(row["announced_at"]),
    )


def records(db: Connection) -> list[Record]:
    """Return all records, by id."""
    return [_record(row) for row in db.execute(RECORDS.sql)]


def record(db: Connection, identifier: str) -> Record | None:
    """Return one record."""
    row = db.execute(RECORD.sql, {"id": identifier}).fetchone()
    return None if row is None else _record(row)


def put_record(db: Connection, identifier: str, text: str, *, now: datetime) -> None:
    """Store a record; an announcement that was made stays made."""
    db.execute(PUT_RECORD.sql, {"id": identifier, "document": text, "now": to_micros(now)})


def delete_record(db: Connection, identifier: str) -> None:
    """Forget a record."""
    db.execute(DELETE_RECORD.sql, {"id": identifier})


def set_announced(db: Connection, identifier: str, *, now: datetime) -> bool:
    """Remember that a record was announced; tell whether that is new."""
    return db.execute(ANNOUNCED.sql, {"id": identifier, "now": to_micros(now)}).rowcount > 0


def _told(row: Row) -> Told:
    return Told(
        data_id=row["data_id"],
        destination=row["destination"],
        transfer=row["transfer"],
        digest=row["digest"],
        relation=row["relation"],
        href=row["href"],
        told_at=from_micros(row["time"]),
    )


def told(db: Connection, data_id: str) -> Told | None:
    """Return what was told of a datum last."""
    row = db.execute(TOLD.sql, {"data_id": data_id}).fetchone()
    return None if row is None else _told(row)


def told_of(db: Connection, transfer: int) -> Told | None:
    """Return what was told of a transfer last."""
    row = db.execute(OF_TRANSFER.sql, {"transfer": transfer}).fetchone()
    return None if row is None else _told(row)


def last_told(db: Connection) -> Told | None:
    """Return what was told last of all."""
    row = db.execute(LAST_TOLD.sql).fetchone()
    return None if row is None else _told(row)


def put_told(db: Connection, one: Told) -> None:
    """Remember what was told of a datum."""
    values = {
        "data_id": one.data_id,
        "destination": one.destination,
        "transfer": one.transfer,
        "digest": one.digest,
        "relation": one.relation,
        "href": one.href,
        "now": to_micros(one.told_at),
    }
    db.execute(PUT_TOLD.sql, values)


def drop_told(db: Connection, data_id: str) -> None:
    """Forget a datum that was withdrawn."""
    db.execute(DROP_TOLD.sql, {"data_id": data_id})


def put_origin(db: Connection, file: int, topic: str, document: str) -> None:
    """Remember the message that announced a file."""
    db.execute(PUT_ORIGIN.sql, {"file": file, "topic": topic, "document": document})


def origin(db: Connection, file: int) -> tuple[str, str] | None:
    """Return topic and text of the message that announced a file."""
    row = db.execute(ORIGIN.sql, {"file": file}).fetchone()
    return None if row is None or not row["topic"] else (row["topic"], row["document"])


def links(db: Connection, file: int) -> list[str]:
    """Return other addresses of the content of a file."""
    row = db.execute(LINKS.sql, {"file": file}).fetchone()
    found: Any = [] if row is None else load(row["links"])
    return list(found)


def add_link(db: Connection, file: int, href: str) -> None:
    """Remember another address of the content of a file."""
    known = links(db, file)
    if href not in known and len(known) < MOST_LINKS:
        set_links(db, file, [*known, href])


def set_links(db: Connection, file: int, found: Sequence[str]) -> None:
    """Replace the other addresses of the content of a file."""
    db.execute(SET_LINKS.sql, {"file": file, "links": dump(list(found))})


def purge(db: Connection, *, before: datetime) -> None:
    """Forget what is old; a datum that comes again after that is new."""
    db.execute(PURGE_TOLD.sql, {"before": to_micros(before)})
    db.execute(PURGE_ORIGINS.sql)
