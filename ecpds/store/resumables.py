"""Uploads by the tus protocol: whose they are, where they go, how far they came."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, to_micros
from ecpds.store.db import Connection, statement

ADD = statement("""
    INSERT INTO tus_upload (token_hash, login, path, size, metadata, created_at, expires_at)
    VALUES (:hash, :login, :path, :size, :metadata, :now, :expires)""")
ONE = statement("SELECT * FROM tus_upload WHERE token_hash = :hash", hot=True)
ADVANCE = statement("""
    UPDATE tus_upload SET received = :received, size = :size, done = :done, expires_at = :expires
    WHERE token_hash = :hash""")
DROP = statement("DELETE FROM tus_upload WHERE token_hash = :hash")
FORGET = statement("DELETE FROM tus_upload WHERE expires_at <= :now")
LIMIT = statement("""
    DELETE FROM tus_upload WHERE token_hash IN (
        SELECT token_hash FROM tus_upload WHERE login = :login
        ORDER BY created_at DESC LIMIT -1 OFFSET :most)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """One upload."""

    token_hash: str
    login: str
    path: str
    size: int | None  # bytes, None: not told yet
    received: int  # bytes
    done: bool
    metadata: str
    expires_at: datetime


def add(db: Connection, one: Resumable, *, most: int, now: datetime) -> None:
    """Add an upload; of more than `most` of one user the oldest are dropped."""
    values = {
        "hash": one.token_hash, "login": one.login, "path": one.path, "size": one.size,
        "metadata": one.metadata, "now": to_micros(now), "expires": to_micros(one.expires_at),
    }  # fmt: skip
    db.execute(ADD.sql, values)
    db.execute(LIMIT.sql, {"login": one.login, "most": most})


def get(db: Connection, token_hash: str, *, now: datetime) -> Resumable | None:
    """Return an upload that has not expired, None if there is none."""
    row = db.execute(ONE.sql, {"hash": token_hash}).fetchone()
    if row is None or row["expires_at"] <= to_micros(now):
        return None
    return Resumable(
        token_hash=row["token_hash"],
        login=row["login"],
        path=row["path"],
        size=row["size"],
        received=row["received"],
        done=bool(row["done"]),
        metadata=row["metadata"],
        expires_at=from_micros(row["expires_at"]),
    )


def advance(db: Connection, one: Resumable) -> None:
    """Store how far an upload came."""
    values = {"hash": one.token_hash, "received": one.received, "size": one.size}
    db.execute(ADVANCE.sql, values | {"done": one.done, "expires": to_micros(one.expires_at)})


def drop(db: Connection, token_hash: str) -> None:
    """Remove an upload."""
    db.execute(DROP.sql, {"hash": token_hash})


def forget(db: Connection, *, now: datetime) -> None:
    """Remove what has expired."""
    db.execute(FORGET.sql, {"now": to_micros(now)})
