"""Rows and sums gathered in a transaction: all there after it, in order, none after an undo."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from ecpds.store.db import Connection, Store
from ecpds.store.gather import Gathering, Last, Rows, Sums, add_row, add_sum, rows, set_last
from ecpds.store.statement import statement

LINE = rows("line", "number", "word")
COUNT = Sums(
    statement("UPDATE total SET bytes = bytes + :bytes, files = files + :files WHERE name = :name"),
    ("name",),
    ("bytes", "files"),
)
NEWEST = Last(statement("UPDATE total SET newest = :newest WHERE name = :name"), "name")
TABLES: Final = """
    CREATE TABLE line (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, word TEXT);
    CREATE TABLE total (name TEXT PRIMARY KEY, bytes INTEGER, files INTEGER, newest INTEGER);
    INSERT INTO total VALUES ('a', 0, 0, 0), ('b', 0, 0, 0)"""


@pytest.fixture(params=[sqlite3.Connection, Gathering], ids=["plain", "gathering"])
def db(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """Return a connection of either kind."""
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=request.param)) as found:
        found.executescript(TABLES)
        yield found


def flush(db: sqlite3.Connection) -> None:
    """End the transaction."""
    if isinstance(db, Gathering):
        db.flush()


@pytest.mark.parametrize("count", [1, 3, 4, 16, 37])
def test_rows_keep_their_order(db: sqlite3.Connection, count: int) -> None:
    """However many go into one statement."""
    for number in range(count):
        add_row(db, LINE, (number, f"w{number}"))
    flush(db)
    found = [tuple(row) for row in db.execute("SELECT number, word FROM line ORDER BY id")]
    assert found == [(number, f"w{number}") for number in range(count)]


def test_sums_add_up_and_the_last_call_counts(db: sqlite3.Connection) -> None:
    """By key."""
    for number in range(5):
        add_sum(db, COUNT, ("ab"[number % 2],), (10, 1))
        set_last(db, NEWEST, {"name": "ab"[number % 2], "newest": number})
    flush(db)
    found = [tuple(row) for row in db.execute("SELECT * FROM total ORDER BY name")]
    assert found == [("a", 30, 3, 4), ("b", 20, 2, 3)]


def test_what_is_forgotten_is_never_written() -> None:
    """After an undone transaction."""
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Gathering)) as db:
        db.executescript(TABLES)
        add_row(db, LINE, (1, "x"))
        add_sum(db, COUNT, ("a",), (1, 1))
        db.forget()
        db.flush()
        assert db.execute("SELECT count(*) FROM line").fetchone()[0] == 0
        assert db.execute("SELECT bytes FROM total WHERE name = 'a'").fetchone()[0] == 0


async def test_a_row_that_is_refused_undoes_only_its_own_call(tmp_path: Path) -> None:
    """Although it is written after all calls of its batch have run."""
    store = Store(tmp_path / "a.db")
    try:
        await store.call_alone(lambda db: db.executescript(TABLES))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(settled(store, number)) for number in (1, None, 3)]
        assert [task.result() for task in tasks] == ["", "IntegrityError", ""]
        assert await store.read(numbers) == [1, 3]
    finally:
        await store.aclose()


async def settled(store: Store, number: int | None) -> str:
    """Write a line; return the name of the error, nothing if there is none."""
    try:
        await store.write(add_numbered, LINE, number)
    except sqlite3.Error as error:
        return type(error).__name__
    return ""


def add_numbered(db: Connection, kind: Rows, number: int | None) -> None:
    """Add a line."""
    add_row(db, kind, (number, "w"))


def numbers(db: Connection) -> list[int]:
    """Return what is stored."""
    return [row["number"] for row in db.execute("SELECT number FROM line ORDER BY id")]
