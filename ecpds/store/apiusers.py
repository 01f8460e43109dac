"""Users of the v1 API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.model.apiuser import ApiUser
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, Row, statement

PUT = statement("""
    INSERT INTO api_user (name, active, comment, password_hash, services, updated_at)
    VALUES (:name, :active, :comment, :password_hash, :services, :now)
    ON CONFLICT (name) DO UPDATE SET
        active = excluded.active, comment = excluded.comment,
        password_hash = excluded.password_hash, services = excluded.services,
        version = version + 1, updated_at = excluded.updated_at""")
ONE = statement("SELECT * FROM api_user WHERE name = :name", hot=True)
ALL = statement("SELECT * FROM api_user ORDER BY name")
DELETE = statement("DELETE FROM api_user WHERE name = :name")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApiUser:
    """A user with what only the login check may see."""

    user: ApiUser
    password_hash: str
    version: int


def _stored(row: Row) -> StoredApiUser:
    user = ApiUser(
        name=row["name"],
        active=bool(row["active"]),
        comment=row["comment"],
        services=row["services"],
        has_password=bool(row["password_hash"]),
    )
    return StoredApiUser(user=user, password_hash=row["password_hash"], version=row["version"])


def put(db: Connection, user: ApiUser, *, password_hash: str, now: datetime) -> None:
    """Create or replace a user."""
    db.execute(
        PUT.sql,
        {
            "name": user.name,
            "active": user.active,
            "comment": user.comment,
            "password_hash": password_hash,
            "services": user.services,
            "now": to_micros(now),
        },
    )


def get(db: Connection, name: str) -> StoredApiUser | None:
    """Return one user, None if there is none."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    return _stored(row) if row else None


def everyone(db: Connection) -> list[StoredApiUser]:
    """Return all users by name."""
    return [_stored(row) for row in db.execute(ALL.sql)]


def delete(db: Connection, name: str) -> bool:
    """Remove a user; tell whether it was there."""
    return db.execute(DELETE.sql, {"name": name}).rowcount > 0
