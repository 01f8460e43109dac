"""Dead properties of files: texts that WebDAV clients keep with them (RFC 4918 section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ecpds.store.codec import dump
from ecpds.store.db import Connection, statement

OF = statement(
    """
    SELECT transfer, name, value FROM dav_property
    WHERE transfer IN (SELECT value FROM json_each(:transfers)) ORDER BY transfer, name""",
    hot=True,
)
PUT = statement("""
    INSERT INTO dav_property (transfer, name, value) VALUES (:transfer, :name, :value)
    ON CONFLICT (transfer, name) DO UPDATE SET value = excluded.value""")
DROP = statement("DELETE FROM dav_property WHERE transfer = :transfer AND name = :name")
CLEAR = statement("DELETE FROM dav_property WHERE transfer = :transfer")


def of(db: Connection, transfers: Sequence[int]) -> dict[int, dict[str, str]]:
    """Return the properties of these transfers, those without any left out."""
    found: dict[int, dict[str, str]] = {}
    for row in db.execute(OF.sql, {"transfers": dump(list(transfers))}):
        found.setdefault(row["transfer"], {})[row["name"]] = row["value"]
    return found


def change(db: Connection, transfer: int, changes: Mapping[str, str | None]) -> None:
    """Set properties; None removes one, which need not be there."""
    for name, value in changes.items():
        values = {"transfer": transfer, "name": name}
        if value is None:
            db.execute(DROP.sql, values)
        else:
            db.execute(PUT.sql, values | {"value": value})


def replace(db: Connection, transfer: int, given: Mapping[str, str]) -> None:
    """Give a transfer these properties and no others."""
    db.execute(CLEAR.sql, {"transfer": transfer})
    change(db, transfer, given)
