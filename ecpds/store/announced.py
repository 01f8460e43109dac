"""What brokers have announced, so that each message counts once and the latest wins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, maybe_time, to_micros
from ecpds.store.db import Connection, statement

SEEN = statement("SELECT 1 FROM announced WHERE destination = :destination AND id = :id", hot=True)
NOTE = statement(
    """
    INSERT INTO announced (destination, id, time) VALUES (:destination, :id, :now)
    ON CONFLICT (destination, id) DO NOTHING""",
    hot=True,
)
DATUM = statement(
    """
    SELECT published, data_file FROM announced_data
    WHERE destination = :destination AND data_id = :data_id""",
    hot=True,
)
LATEST = statement("SELECT MAX(time) AS time FROM announced_data WHERE destination = :destination")
PUT_DATUM = statement(
    """
    INSERT INTO announced_data (destination, data_id, published, data_file, time)
    VALUES (:destination, :data_id, :published, :data_file, :now)
    ON CONFLICT (destination, data_id) DO UPDATE SET
        published = excluded.published, data_file = excluded.data_file, time = excluded.time""",
    hot=True,
)
EXPECT = statement(
    """
    INSERT INTO expected_digest (data_file, method, digest) VALUES (:file, :method, :digest)
    ON CONFLICT (data_file) DO UPDATE SET method = excluded.method, digest = excluded.digest""",
    hot=True,
)
EXPECT_NOTHING = statement("DELETE FROM expected_digest WHERE data_file = :file", hot=True)
EXPECTED = statement("SELECT method, digest FROM expected_digest WHERE data_file = :file", hot=True)
PURGE = statement("DELETE FROM announced WHERE time < :before")
PURGE_DATA = statement("DELETE FROM announced_data WHERE time < :before")
PURGE_DIGESTS = statement("""
    DELETE FROM expected_digest
    WHERE data_file NOT IN (SELECT id FROM data_file WHERE removed = 0)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """The latest publication of one datum."""

    published: datetime
    file: int | None  # None: withdrawn


def is_seen(db: Connection, destination: str, identifier: str) -> bool:
    """Tell whether that message came before."""
    values = {"destination": destination, "id": identifier}
    return db.execute(SEEN.sql, values).fetchone() is not None


def note(db: Connection, destination: str, identifier: str, *, now: datetime) -> None:
    """Remember a message."""
    db.execute(NOTE.sql, {"destination": destination, "id": identifier, "now": to_micros(now)})


def datum(db: Connection, destination: str, data_id: str) -> Datum | None:
    """Return the latest publication of a datum."""
    row = db.execute(DATUM.sql, {"destination": destination, "data_id": data_id}).fetchone()
    if row is None:
        return None
    return Datum(published=from_micros(row["published"]), file=row["data_file"])


def latest(db: Connection, destination: str) -> datetime | None:
    """Return when the last datum was announced."""
    return maybe_time(db.execute(LATEST.sql, {"destination": destination}).fetchone()["time"])


def put_datum(
    db: Connection,
    destination: str,
    data_id: str,
    published: datetime,
    file: int | None,
    *,
    now: datetime,
) -> None:
    """Remember the latest publication of a datum."""
    values = {
        "destination": destination,
        "data_id": data_id,
        "published": to_micros(published),
        "data_file": file,
        "now": to_micros(now),
    }
    db.execute(PUT_DATUM.sql, values)


def expect(db: Connection, file: int, method: str, digest: bytes) -> None:
    """Say which digest the content of a file has to have; no method: any."""
    if method:
        db.execute(EXPECT.sql, {"file": file, "method": method, "digest": digest.hex()})
    else:
        db.execute(EXPECT_NOTHING.sql, {"file": file})


def expected(db: Connection, file: int) -> tuple[str, str] | None:
    """Return method and hex digest that content has to have."""
    row = db.execute(EXPECTED.sql, {"file": file}).fetchone()
    return None if row is None else (row["method"], row["digest"])


def purge(db: Connection, *, messages_before: datetime, data_before: datetime) -> None:
    """Forget what is old."""
    db.execute(PURGE.sql, {"before": to_micros(messages_before)})
    db.execute(PURGE_DATA.sql, {"before": to_micros(data_before)})
    db.execute(PURGE_DIGESTS.sql)
