"""S3 key pairs of data users; secrets are sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, maybe_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

PUT = statement("""
    INSERT INTO s3_key
        (access_key, login, secret, prefix, read_only, comment, subscriber, created_at, expires_at)
    VALUES (:access_key, :login, :secret, :prefix, :read_only, :comment, :subscriber, :now,
        :expires_at)""")
ONE = statement(
    """
    SELECT s3_key.* FROM s3_key LEFT JOIN subscriber ON subscriber.id = s3_key.subscriber
    WHERE access_key = :access_key AND (s3_key.subscriber IS NULL OR subscriber.active = 1)""",
    hot=True,
)
OF_USER = statement("SELECT * FROM s3_key WHERE login = :login ORDER BY created_at, access_key")
DROP = statement("DELETE FROM s3_key WHERE login = :login AND access_key = :access_key")
USED = statement("UPDATE s3_key SET last_used_at = :now WHERE access_key = :access_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key pair and what it is good for."""

    access_key: str
    login: str
    secret: str  # sealed
    prefix: str = ""  # of `<destination>/<path>`
    read_only: bool = False
    comment: str = ""
    subscriber: int | None = None
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


def _row(row: Row) -> StoredKey:
    return StoredKey(
        access_key=row["access_key"],
        login=row["login"],
        secret=row["secret"],
        prefix=row["prefix"],
        read_only=bool(row["read_only"]),
        comment=row["comment"],
        subscriber=row["subscriber"],
        created_at=from_micros(row["created_at"]),
        expires_at=maybe_time(row["expires_at"]),
        last_used_at=maybe_time(row["last_used_at"]),
    )


def put(db: Connection, key: StoredKey) -> None:
    """Add a key pair."""
    db.execute(
        PUT.sql,
        {
            "access_key": key.access_key,
            "login": key.login,
            "secret": key.secret,
            "prefix": key.prefix,
            "read_only": key.read_only,
            "comment": key.comment,
            "subscriber": key.subscriber,
            "now": to_micros(key.created_at),
            "expires_at": maybe_micros(key.expires_at),
        },
    )


def one(db: Connection, access_key: str) -> StoredKey | None:
    """Return a key pair; None for an unknown one, or one of a subscriber that is not active."""
    row = db.execute(ONE.sql, {"access_key": access_key}).fetchone()
    return _row(row) if row else None


def of_user(db: Connection, login: str) -> Sequence[StoredKey]:
    """Return the key pairs of a data user, oldest first."""
    return [_row(row) for row in db.execute(OF_USER.sql, {"login": login})]


def drop(db: Connection, login: str, access_key: str) -> bool:
    """Take a key pair away; tell whether there was one."""
    values = {"login": login, "access_key": access_key}
    return db.execute(DROP.sql, values).rowcount > 0


def used(db: Connection, access_key: str, *, now: datetime) -> None:
    """Remember that a key pair was used."""
    db.execute(USED.sql, {"access_key": access_key, "now": to_micros(now)})
