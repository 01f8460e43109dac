"""Uploads of programs that go on where they broke off; they lie among the parked ones.

Their user is `api:NAME`, which no data user can be, and their path is the name that the program
gave them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, to_micros
from ecpds.store.db import Connection, Row, statement

PUT = statement(
    """
    INSERT INTO parked_upload (user, destination, path, volume, temporary, size, parked_at)
    VALUES (:user, :destination, :name, :volume, :temporary, :size, :now)
    ON CONFLICT (user, destination, path) DO UPDATE SET
        size = excluded.size, parked_at = excluded.parked_at""",
    hot=True,
)
ONE = statement("SELECT * FROM parked_upload WHERE user = :user AND path = :name", hot=True)
ALL = statement("SELECT * FROM parked_upload WHERE user = :user ORDER BY path", hot=True)
DELETE = statement("DELETE FROM parked_upload WHERE user = :user AND path = :name", hot=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedUpload:
    """Bytes that came so far, in the temporary file of a volume."""

    name: str
    destination: str
    volume: str
    temporary: str
    received: int  # bytes that are on disk
    used_at: datetime


def holder(owner: str) -> str:
    """Return the user that the uploads of a caller are parked under."""
    return f"api:{owner}"


def _upload(row: Row) -> ParkedUpload:
    return ParkedUpload(
        name=row["path"],
        destination=row["destination"],
        volume=row["volume"],
        temporary=row["temporary"],
        received=row["size"],
        used_at=from_micros(row["parked_at"]),
    )


def get(db: Connection, owner: str, name: str) -> ParkedUpload | None:
    """Return an upload of that owner, None if there is none."""
    row = db.execute(ONE.sql, {"user": holder(owner), "name": name}).fetchone()
    return _upload(row) if row else None


def of_owner(db: Connection, owner: str) -> list[ParkedUpload]:
    """Return the uploads of one owner by name."""
    return [_upload(row) for row in db.execute(ALL.sql, {"user": holder(owner)})]


def put(db: Connection, owner: str, one: ParkedUpload, *, now: datetime) -> None:
    """Store how far an upload came."""
    db.execute(
        PUT.sql,
        {
            "user": holder(owner),
            "destination": one.destination,
            "name": one.name,
            "volume": one.volume,
            "temporary": one.temporary,
            "size": one.received,
            "now": to_micros(now),
        },
    )


def delete(db: Connection, owner: str, name: str) -> bool:
    """Forget an upload; tell whether it was there."""
    return db.execute(DELETE.sql, {"user": holder(owner), "name": name}).rowcount > 0
