"""Events for those who are told of them, and how far each of them is."""

from __future__ import annotations

from ecpds.store import site
from ecpds.store.db import Connection, statement

AFTER = statement("""
    SELECT id, type, record FROM event WHERE id > :after ORDER BY id LIMIT :limit""")
NEWEST = statement("SELECT COALESCE(MAX(id), 0) AS id FROM event")


def after(db: Connection, number: int, *, limit: int) -> list[tuple[int, str, str]]:
    """Return id, type and compact JSON of the events behind that id, oldest first."""
    rows = db.execute(AFTER.sql, {"after": number, "limit": limit})
    return [(row["id"], row["type"], row["record"]) for row in rows]


def place(db: Connection, name: str) -> int:
    """Return the last event that a sink has taken; a new one begins with what comes now."""
    text = site.meta(db, f"sink.{name}")
    if text is not None:
        return int(text)
    newest = int(db.execute(NEWEST.sql).fetchone()["id"])
    set_place(db, name, newest)
    return newest


def set_place(db: Connection, name: str, number: int) -> None:
    """Tell that a sink has taken everything up to that event."""
    site.set_meta(db, f"sink.{name}", str(number))
