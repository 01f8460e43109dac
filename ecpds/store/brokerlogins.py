"""Passwords in the form of another broker, each beside the hash that the portals check.

A form belongs to one stored hash: when the password changes, it is nobody's any more.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from ecpds.store.codec import dump, to_micros
from ecpds.store.db import Connection, statement

PUT = statement(
    """
    INSERT INTO broker_login (of, form, created_at) VALUES (:of, :form, :now)
    ON CONFLICT (of) DO NOTHING""",
    hot=True,
)
HAS = statement("SELECT 1 FROM broker_login WHERE of = :of", hot=True)
ALL = statement("SELECT of, form FROM broker_login")
PURGE = statement("""
    DELETE FROM broker_login
    WHERE created_at < :before AND of NOT IN (SELECT value FROM json_each(:known))""")


def put(db: Connection, of: str, form: str, *, now: datetime) -> None:
    """Keep a form unless there is one."""
    db.execute(PUT.sql, {"of": of, "form": form, "now": to_micros(now)})


def has(db: Connection, of: str) -> bool:
    """Tell whether there is a form of that hash."""
    return db.execute(HAS.sql, {"of": of}).fetchone() is not None


def everything(db: Connection) -> dict[str, str]:
    """Return all forms by what they belong to."""
    return {row["of"]: row["form"] for row in db.execute(ALL.sql)}


def purge(db: Connection, known: Collection[str], *, before: datetime) -> None:
    """Forget old forms that belong to none of these hashes."""
    db.execute(PURGE.sql, {"known": dump(sorted(known)), "before": to_micros(before)})
