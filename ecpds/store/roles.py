"""Roles that a site made itself: names for sets of scopes, beside the four that are built in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import dump, load, to_micros
from ecpds.store.db import Connection, Row, statement

PUT = statement("""
    INSERT INTO role (name, comment, scopes, updated_at)
    VALUES (:name, :comment, :scopes, :now)
    ON CONFLICT (name) DO UPDATE SET
        comment = excluded.comment, scopes = excluded.scopes, version = version + 1,
        updated_at = excluded.updated_at""")
ONE = statement("SELECT * FROM role WHERE name = :name", hot=True)
ALL = statement("SELECT * FROM role ORDER BY name")
DELETE = statement("DELETE FROM role WHERE name = :name")
HOLDERS = statement("""
    SELECT DISTINCT web_user.name FROM web_user, json_each(web_user.grants) AS held
    WHERE json_extract(held.value, '$.role') = :name ORDER BY web_user.name""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRole:
    """A role with its scopes, each `area:verb`."""

    name: str
    scopes: tuple[str, ...] = ()
    comment: str = ""
    version: int = 0


def _role(row: Row) -> StoredRole:
    return StoredRole(
        name=row["name"],
        scopes=tuple(load(row["scopes"])),
        comment=row["comment"],
        version=row["version"],
    )


def get(db: Connection, name: str) -> StoredRole | None:
    """Return one role, None if there is none."""
    row = db.execute(ONE.sql, {"name": name}).fetchone()
    return _role(row) if row else None


def everything(db: Connection) -> list[StoredRole]:
    """Return all roles by name."""
    return [_role(row) for row in db.execute(ALL.sql)]


def put(db: Connection, role: StoredRole, *, now: datetime) -> None:
    """Create or replace a role."""
    values = {"name": role.name, "comment": role.comment, "scopes": dump(list(role.scopes))}
    db.execute(PUT.sql, values | {"now": to_micros(now)})


def delete(db: Connection, name: str) -> None:
    """Remove a role."""
    db.execute(DELETE.sql, {"name": name})


def holders(db: Connection, name: str) -> list[str]:
    """Return the web users that have a role."""
    return [row["name"] for row in db.execute(HOLDERS.sql, {"name": name})]
