"""Rows and sums that a transaction gathers and writes at its end, many in one statement.

Every statement hands the interpreter to another thread and back; histories, events and counters
of a hundred transfers are therefore written by a few statements instead of hundreds.  On a
connection that does not gather (readers, tests, migrations) each is executed at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecpds.store.statement import Statement

CHUNKS = (16, 4, 1)  # rows of one INSERT; few texts, so that all stay prepared


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one table that only history reads; never read again in the same transaction."""

    texts: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """A statement that adds to columns; `keys` name the row, `adds` what is added."""

    one: Statement
    keys: tuple[str, ...]
    adds: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Last:
    """A statement of which only the last call for each `key` counts."""

    one: Statement
    key: str


def rows(table: str, *columns: str) -> Rows:
    """Declare rows by table and columns, in the order in which values come."""
    marks = f"({', '.join('?' * len(columns))})"
    begin = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - our own words
    return Rows(tuple((count, begin + ", ".join([marks] * count)) for count in CHUNKS))


class Gathering(sqlite3.Connection):
    """A connection that keeps rows and sums until `flush`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[Rows, list[tuple[Any, ...]]] = {}
        self._sums: dict[tuple[Sums, tuple[Any, ...]], list[int]] = {}
        self._last: dict[tuple[Last, Any], Mapping[str, Any]] = {}

    def add_row(self, kind: Rows, values: tuple[Any, ...]) -> None:
        """Keep a row."""
        self._rows.setdefault(kind, []).append(values)

    def add_sum(self, kind: Sums, keys: tuple[Any, ...], adds: tuple[int, ...]) -> None:
        """Add to a sum."""
        found = self._sums.get((kind, keys))
        if found is None:
            self._sums[kind, keys] = list(adds)
        else:
            found[:] = map(int.__add__, found, adds)

    def set_last(self, kind: Last, values: Mapping[str, Any]) -> None:
        """Keep the values of the last call."""
        self._last[kind, values[kind.key]] = values

    def flush(self) -> None:
        """Write what was gathered."""
        for kind, values in self._rows.items():
            _insert(self, kind, values)
        for (sums, keys), adds in self._sums.items():
            self.execute(
                sums.one.sql, dict(zip(sums.keys + sums.adds, keys + tuple(adds), strict=True))
            )
        for (last, _), found in self._last.items():
            self.execute(last.one.sql, found)
        self.forget()

    def forget(self) -> None:
        """Drop what was gathered: the transaction was undone."""
        self._rows.clear()
        self._sums.clear()
        self._last.clear()


def _insert(db: sqlite3.Connection, kind: Rows, values: list[tuple[Any, ...]]) -> None:
    begin = 0
    for count, text in kind.texts:
        while len(values) - begin >= count:
            part = values[begin : begin + count]
            db.execute(text, [value for row in part for value in row] if count > 1 else part[0])
            begin += count


def add_row(db: sqlite3.Connection, kind: Rows, values: tuple[Any, ...]) -> None:
    """Insert a row, at the latest with the commit."""
    if isinstance(db, Gathering):
        db.add_row(kind, values)
    else:
        _insert(db, kind, [values])


def add_sum(
    db: sqlite3.Connection, kind: Sums, keys: tuple[Any, ...], adds: tuple[int, ...]
) -> None:
    """Add to a sum, at the latest with the commit."""
    if isinstance(db, Gathering):
        db.add_sum(kind, keys, adds)
    else:
        db.execute(kind.one.sql, dict(zip(kind.keys + kind.adds, keys + adds, strict=True)))


def set_last(db: sqlite3.Connection, kind: Last, values: Mapping[str, Any]) -> None:
    """Execute a statement of which the last call counts, at the latest with the commit."""
    if isinstance(db, Gathering):
        db.set_last(kind, values)
    else:
        db.execute(kind.one.sql, values)
