"""Which objects each site file created, for pruning."""

from __future__ import annotations

from collections.abc import Sequence

from ecpds.store.db import Connection, statement

APPLIED = statement("SELECT kind, name FROM applied WHERE file = :file")
FORGET = statement("DELETE FROM applied WHERE file = :file")
REMEMBER = statement("INSERT INTO applied (file, kind, name) VALUES (:file, :kind, :name)")
GET_META = statement("SELECT value FROM meta WHERE key = :key")
SET_META = statement("""
    INSERT INTO meta (key, value) VALUES (:key, :value)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value""")


def applied(db: Connection, file: str) -> list[tuple[str, str]]:
    """Return kind and name of the objects that the file named when it was applied last."""
    return [(row["kind"], row["name"]) for row in db.execute(APPLIED.sql, {"file": file})]


def set_applied(db: Connection, file: str, names: Sequence[tuple[str, str]]) -> None:
    """Remember what the file names now."""
    db.execute(FORGET.sql, {"file": file})
    for kind, name in names:
        db.execute(REMEMBER.sql, {"file": file, "kind": kind, "name": name})


def meta(db: Connection, key: str) -> str | None:
    """Return a fact about the store itself."""
    row = db.execute(GET_META.sql, {"key": key}).fetchone()
    return row["value"] if row else None


def set_meta(db: Connection, key: str, value: str) -> None:
    """Keep a fact about the store itself."""
    db.execute(SET_META.sql, {"key": key, "value": value})
