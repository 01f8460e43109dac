"""Bring a store to the schema of this release: numbered SQL files, forward only."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from ecpds.model.errors import StoreError, StoreTooNew
from ecpds.store.db import Connection


def migrations() -> list[tuple[int, str, str]]:
    """Return number, name and text of each migration, in order."""
    files = resources.files("ecpds.store").joinpath("migrations").iterdir()
    named = ((re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name), file) for file in files)
    return sorted((int(m[1]), m[2], file.read_text("utf-8")) for m, file in named if m)


def version(db: Connection) -> int:
    """Return the number of the last migration applied."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: Connection) -> int:
    """Apply what is missing; return the version reached.

    Raises StoreTooNew for a store that a newer release wrote: nothing is changed then.
    """
    steps = migrations()
    newest = steps[-1][0]
    present = version(db)
    if present > newest:
        raise StoreTooNew(
            f"the store has schema {present}, this release knows only {newest}: "
            "install the newer release again or restore a backup"
        )
    for number, name, text in steps:
        if number <= present:
            continue
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise StoreError(f"migration {number:04d}_{name} failed: {error}") from error
    return newest
