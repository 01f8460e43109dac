"""A copy of the store that is one moment of it, while the node works; and what is wrong with one.

The copy is a database file of its own.  Uploads in progress and compressed copies are no part of
it: the first are acknowledged to nobody, the others are made again when they are needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ecpds.model.errors import StoreError, StoreTooNew
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement
from ecpds.store.lost import lose
from ecpds.store.migrate import migrations, version

MOST_TOLD = 100  # findings that are spelled out; the others are counted
PASSING = (
    "parked_upload", "half_received", "multipart_part", "multipart_upload", "tus_upload",
    "squeezed",
)  # fmt: skip

CONTENT = statement("""
    SELECT id, volume, object_key, size, checksum FROM data_file
    WHERE stored = 1 AND deleted = 0 AND removed = 0 AND object_key != ''
    ORDER BY volume, object_key""")
LIVE_OBJECT = statement("""
    SELECT 1 FROM data_file
    WHERE volume = :volume AND object_key = :key AND deleted = 0 AND stored = 1""")
MISSING = statement("""
    SELECT COUNT(*) FROM copy.data_file AS file
    WHERE stored = 1 AND deleted = 0 AND removed = 0 AND object_key != '' AND NOT EXISTS (
        SELECT 1 FROM seen WHERE seen.volume = file.volume AND seen.key = file.object_key)""")
DIFFERENT = statement("""
    SELECT COUNT(*) FROM copy.data_file AS file
    JOIN seen ON seen.volume = file.volume AND seen.key = file.object_key
    WHERE stored = 1 AND deleted = 0 AND removed = 0
      AND (seen.size != file.size OR file.checksum NOT IN ('', seen.adler))""")
FILES = statement("SELECT COUNT(*) FROM data_file WHERE deleted = 0")
TRANSFERS = statement("SELECT COUNT(*) FROM transfer WHERE deleted = 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The object of one data file."""

    file: int
    volume: str
    key: str
    size: int
    checksum: str  # Adler-32, 8 hex digits; '' when unknown


def _open(path: Path) -> Connection:
    try:
        db = sqlite3.connect(path, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA busy_timeout = 10000")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    return db


def snapshot(source: Path, target: Path) -> None:
    """Copy the store of a node, at work or at rest, as it is at one moment; blocks.

    Writers go on meanwhile; their log grows until the copy is made.
    """
    if not source.exists():
        raise StoreError(f"there is no store {source}")
    live, copy = _open(source), _open(target)
    try:
        live.execute("PRAGMA query_only = ON")
        live.backup(copy)  # one step: in several a busy writer would make it begin again for ever
        copy.execute("PRAGMA journal_mode = DELETE")
        present = {row["name"] for row in copy.execute("SELECT name FROM sqlite_master")}
        copy.execute("BEGIN")
        for table in PASSING:
            if table in present:
                copy.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        copy.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error
    finally:
        live.close()
        copy.close()


def schema(path: Path) -> int:
    """Return the number of the last migration of a store."""
    db = _open(path)
    try:
        return version(db)
    except sqlite3.Error as error:
        raise StoreError(f"{path} is no store: {error}") from error
    finally:
        db.close()


def contents(path: Path) -> Iterator[Content]:
    """Yield the objects that a copy refers to, by volume and key."""
    db = _open(path)
    try:
        for row in db.execute(CONTENT.sql):
            yield Content(
                file=row["id"],
                volume=row["volume"],
                key=row["object_key"],
                size=row["size"],
                checksum=row["checksum"],
            )
    finally:
        db.close()


def is_needed(path: Path, volume: str, key: str) -> bool:
    """Tell whether the store, at work, still refers to an object."""
    db = _open(path)
    try:
        found = db.execute(LIVE_OBJECT.sql, {"volume": volume, "key": key}).fetchone()
        return found is not None
    finally:
        db.close()


def forget_content(path: Path, files: list[int], text: str, *, now: datetime) -> None:
    """Tell in a copy that the content of these files is not there."""
    db = _open(path)
    try:
        db.execute("BEGIN")
        for number in files:
            lose(db, number, text, now=to_micros(now))
        db.execute("COMMIT")
    finally:
        db.close()


def damage(db: Connection) -> list[str]:
    """Return what SQLite finds wrong with the pages of a database; it cannot be believed then."""
    try:
        rows = db.execute(f"PRAGMA integrity_check({MOST_TOLD})")
        return [str(row[0]) for row in rows if row[0] != "ok"]
    except sqlite3.DatabaseError as error:
        return [str(error)]


def references(db: Connection) -> list[tuple[str, str]]:
    """Return table and table of rows that refer to a row that is not there."""
    rows = db.execute("PRAGMA foreign_key_check")
    return [(str(row[0]), str(row[2])) for row, _ in zip(rows, range(MOST_TOLD), strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a copy holds and what is wrong with it."""

    files: int
    transfers: int
    missing: int  # objects that are referred to and were not seen
    different: int  # objects of another size or checksum
    problems: list[str]


class Tally:
    """Objects that were seen, on disk, to be compared with what a copy of the store says."""

    def __init__(self, path: Path) -> None:
        self._db = _open(path)
        self._db.executescript(
            "PRAGMA synchronous = OFF; BEGIN; CREATE TABLE seen (volume TEXT, key TEXT,"
            " size INTEGER, adler TEXT, PRIMARY KEY (volume, key)) WITHOUT ROWID;"
        )

    def add(self, volume: str, key: str, size: int, adler: str) -> None:
        """Note one object; StoreError when it was there before."""
        try:
            self._db.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", (volume, key, size, adler))
        except sqlite3.IntegrityError:
            raise StoreError(f"object {key} is there twice") from None

    def compare(self, copy: Path, *, content: bool) -> Checked:
        """Look at a copy of the store; `content`: it should have all its objects."""
        newest = migrations()[-1][0]
        if (found := schema(copy)) > newest:
            raise StoreTooNew(f"the store has schema {found}, this release knows only {newest}")
        self._db.execute("COMMIT")
        try:
            self._db.execute("ATTACH DATABASE ? AS copy", (str(copy),))
            counts = [
                int(self._db.execute(one.sql).fetchone()[0])
                for one in (FILES, TRANSFERS, MISSING, DIFFERENT)
            ]
        except sqlite3.DatabaseError as error:
            raise StoreError(f"the store is damaged: {error}") from error
        db = _open(copy)
        try:
            problems = damage(db)
        finally:
            db.close()
        return Checked(
            files=counts[0],
            transfers=counts[1],
            missing=counts[2] if content else 0,
            different=counts[3],
            problems=problems,
        )

    def close(self) -> None:
        """Close; may be called twice."""
        self._db.close()
