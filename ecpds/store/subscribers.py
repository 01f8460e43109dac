"""Subscribers: the people behind a self-service data user, each with a generated password.

Passwords and tokens are random and long, so that a plain SHA-256 of them is what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, maybe_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement

ALL = statement("SELECT * FROM subscriber WHERE login = :login ORDER BY id")
ONE = statement("SELECT * FROM subscriber WHERE id = :id", hot=True)
BY_EMAIL = statement("SELECT * FROM subscriber WHERE login = :login AND email = :email", hot=True)
BY_TOKEN = statement(
    "SELECT * FROM subscriber WHERE verify_token_hash = :hash AND verify_token_hash != ''", hot=True
)
BY_RESET = statement(
    "SELECT * FROM subscriber WHERE reset_token_hash = :hash AND reset_token_hash != ''", hot=True
)
ADD = statement("""
    INSERT INTO subscriber (login, email, name, country, created_at, changed_at)
    VALUES (:login, :email, :name, :country, :now, :now)""")
DESCRIBE = statement("UPDATE subscriber SET name = :name, country = :country WHERE id = :id")
SET_TOKEN = statement("""
    UPDATE subscriber SET verify_token_hash = :hash, verify_expires_at = :expires WHERE id = :id""")
SET_RESET = statement("""
    UPDATE subscriber SET reset_token_hash = :hash, reset_expires_at = :expires WHERE id = :id""")
SET_STATE = statement("""
    UPDATE subscriber SET
        active = :active, password_hash = :password_hash, changed_at = :now,
        verify_token_hash = '', verify_expires_at = NULL,
        reset_token_hash = '', reset_expires_at = NULL
    WHERE id = :id""")
DELETE = statement("DELETE FROM subscriber WHERE id = :id")
FORGET = statement("""
    DELETE FROM subscriber
    WHERE active = 0 AND password_hash = '' AND verify_token_hash != ''
      AND verify_expires_at < :before""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """One person; `verified` once the link in the mail was followed."""

    id: int
    login: str
    email: str
    name: str
    country: str
    active: bool
    has_password: bool
    created_at: datetime
    changed_at: datetime  # of password or state
    verify_expires_at: datetime | None = None  # None: no link is open
    reset_expires_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Tell whether the mail address has not been verified yet."""
        return self.verify_expires_at is not None


def _subscriber(row: Row) -> Subscriber:
    return Subscriber(
        id=row["id"],
        login=row["login"],
        email=row["email"],
        name=row["name"],
        country=row["country"],
        active=bool(row["active"]),
        has_password=bool(row["password_hash"]),
        created_at=from_micros(row["created_at"]),
        changed_at=from_micros(row["changed_at"]),
        verify_expires_at=maybe_time(row["verify_expires_at"]),
        reset_expires_at=maybe_time(row["reset_expires_at"]),
    )


def of(db: Connection, login: str) -> list[Subscriber]:
    """Return the subscribers of a data user, oldest first."""
    return [_subscriber(row) for row in db.execute(ALL.sql, {"login": login})]


def get(db: Connection, number: int) -> Subscriber | None:
    """Return one subscriber, None if there is none."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _subscriber(row) if row else None


def by_email(db: Connection, login: str, email: str) -> Subscriber | None:
    """Return the subscriber with that address, None if there is none."""
    row = db.execute(BY_EMAIL.sql, {"login": login, "email": email}).fetchone()
    return _subscriber(row) if row else None


def by_token(db: Connection, hashed: str, *, now: datetime) -> Subscriber | None:
    """Return whom a link of a verification mail belongs to, None when it is over."""
    row = db.execute(BY_TOKEN.sql, {"hash": hashed}).fetchone()
    return _subscriber(row) if row and row["verify_expires_at"] > to_micros(now) else None


def by_reset(db: Connection, hashed: str, *, now: datetime) -> Subscriber | None:
    """Return whom a link of a reset mail belongs to, None when it is over."""
    row = db.execute(BY_RESET.sql, {"hash": hashed}).fetchone()
    return _subscriber(row) if row and row["reset_expires_at"] > to_micros(now) else None


def add(
    db: Connection, login: str, *, email: str, name: str, country: str, now: datetime
) -> Subscriber:
    """Add an inactive subscriber without a password."""
    values = {"login": login, "email": email, "name": name, "country": country}
    number = db.execute(ADD.sql, values | {"now": to_micros(now)}).lastrowid or 0
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return _subscriber(row)


def describe(db: Connection, number: int, *, name: str, country: str) -> None:
    """Change name and country."""
    db.execute(DESCRIBE.sql, {"id": number, "name": name, "country": country})


def set_token(db: Connection, number: int, hashed: str, expires: datetime | None) -> None:
    """Remember (or with empty texts forget) the link of a verification mail."""
    db.execute(SET_TOKEN.sql, {"id": number, "hash": hashed, "expires": maybe_micros(expires)})


def set_reset(db: Connection, number: int, hashed: str, expires: datetime) -> None:
    """Remember the link of a reset mail."""
    db.execute(SET_RESET.sql, {"id": number, "hash": hashed, "expires": to_micros(expires)})


def set_state(
    db: Connection, number: int, *, active: bool, password_hash: str, now: datetime
) -> None:
    """Change state and password; all open links are void."""
    values = {"id": number, "active": active, "password_hash": password_hash}
    db.execute(SET_STATE.sql, values | {"now": to_micros(now)})


def delete(db: Connection, number: int) -> None:
    """Remove a subscriber."""
    db.execute(DELETE.sql, {"id": number})


def forget(db: Connection, *, before: datetime) -> None:
    """Remove those who never verified their address."""
    db.execute(FORGET.sql, {"before": to_micros(before)})
