"""Links of data users that let others read (share) or upload (request) below one path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ecpds.store.codec import from_micros, maybe_micros, to_micros
from ecpds.store.db import Connection, Row, statement

Kind = Literal["share", "request"]

ADD = statement("""
    INSERT INTO portal_link (token_hash, kind, login, path, comment, password_hash, created_at,
        expires_at, most_uses, most_bytes)
    VALUES (:hash, :kind, :login, :path, :comment, :password_hash, :now, :expires, :most_uses,
        :most_bytes)""")
BY_TOKEN = statement("SELECT * FROM portal_link WHERE token_hash = :hash", hot=True)
OF = statement("SELECT * FROM portal_link WHERE login = :login ORDER BY id", hot=True)
USE = statement("""
    UPDATE portal_link SET uses = uses + 1, bytes = bytes + :bytes, used_at = :now
    WHERE id = :id AND (most_uses IS NULL OR uses < most_uses)
      AND (most_bytes IS NULL OR bytes + :bytes <= most_bytes) RETURNING uses""")
DROP = statement("DELETE FROM portal_link WHERE id = :id AND login = :login")
FORGET = statement("DELETE FROM portal_link WHERE expires_at <= :now")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link; its token is not stored."""

    id: int = 0
    kind: Kind
    login: str
    path: str
    comment: str = ""
    password_hash: str = ""
    created_at: datetime
    expires_at: datetime
    most_uses: int | None = None  # None: any number
    uses: int = 0
    most_bytes: int | None = None  # of all uploads together
    bytes: int = 0

    @property
    def is_used_up(self) -> bool:
        """Tell whether nothing is left of it."""
        return self.most_uses is not None and self.uses >= self.most_uses


def _link(row: Row) -> Link:
    return Link(
        id=row["id"],
        kind=row["kind"],
        login=row["login"],
        path=row["path"],
        comment=row["comment"],
        password_hash=row["password_hash"],
        created_at=from_micros(row["created_at"]),
        expires_at=from_micros(row["expires_at"]),
        most_uses=row["most_uses"],
        uses=row["uses"],
        most_bytes=row["most_bytes"],
        bytes=row["bytes"],
    )


def add(db: Connection, one: Link, token_hash: str) -> int:
    """Add a link; return its number."""
    values = {
        "hash": token_hash, "kind": one.kind, "login": one.login, "path": one.path,
        "comment": one.comment, "password_hash": one.password_hash,
        "now": to_micros(one.created_at), "expires": maybe_micros(one.expires_at),
        "most_uses": one.most_uses, "most_bytes": one.most_bytes,
    }  # fmt: skip
    return int(db.execute(ADD.sql, values).lastrowid or 0)


def by_token(db: Connection, token_hash: str, *, now: datetime) -> Link | None:
    """Return the link with that token, None if there is none or it has expired."""
    row = db.execute(BY_TOKEN.sql, {"hash": token_hash}).fetchone()
    return _link(row) if row and row["expires_at"] > to_micros(now) else None


def of(db: Connection, login: str) -> list[Link]:
    """Return the links of a data user, oldest first."""
    return [_link(row) for row in db.execute(OF.sql, {"login": login})]


def use(db: Connection, number: int, count: int, *, now: datetime) -> bool:
    """Count a use and its uploaded bytes; tell whether both were left."""
    values = {"id": number, "bytes": count, "now": to_micros(now)}
    return db.execute(USE.sql, values).fetchone() is not None


def drop(db: Connection, login: str, number: int) -> bool:
    """Remove a link of a user; tell whether it was there."""
    return db.execute(DROP.sql, {"id": number, "login": login}).rowcount > 0


def forget(db: Connection, *, now: datetime) -> None:
    """Remove what has expired."""
    db.execute(FORGET.sql, {"now": to_micros(now)})
