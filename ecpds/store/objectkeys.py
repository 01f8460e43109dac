"""Keys of a destination as object stores list them: any prefix and delimiter, one order, pages.

The order is that of the bytes of the keys, which is how SQLite compares texts.  What a delimiter
rolls up is skipped over in the index: a page costs one step for each thing that it shows, whatever
lies between them.  Made directories are keys with a slash at their end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ecpds.store import portal
from ecpds.store.codec import from_micros, maybe_time, to_micros
from ecpds.store.db import Connection, Row, statement
from ecpds.store.portal import Entry

MADE_AT = statement("""
    SELECT created_at FROM portal_directory WHERE destination = :destination AND path = :path""")
REMOVE_MADE = statement("""
    DELETE FROM portal_directory WHERE destination = :destination AND path = :path""")

SCAN = 5_000  # keys looked at in one call, when most of them are not shown

Shows = Callable[[str], bool]


class Key(NamedTuple):
    """One line of a listing: a file, a made directory or, with neither, a common prefix."""

    name: str
    entry: Entry | None = None
    made_at: datetime | None = None

    @property
    def is_prefix(self) -> bool:
        """Tell whether this stands for all keys that begin with it."""
        return self.entry is None and self.made_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which keys; `low` is the first name that may come."""

    prefix: str = ""
    delimiter: str = ""
    low: str = ""
    limit: int = 1_000
    shows: Shows | None = None  # whether the client may know of a key


@dataclass(slots=True)
class Page:
    """Keys in their order, and where to go on; None: there are no more."""

    keys: list[Key]
    position: str | None = None


def successor(text: str) -> str:
    """Return the first text behind all that begin with `text`."""
    for place in range(len(text) - 1, -1, -1):
        code = ord(text[place]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000  # surrogates are no characters
        if code <= 0x10FFFF:
            return text[:place] + chr(code)
    return portal.LAST


def group_of(name: str, prefix: str, delimiter: str) -> str | None:
    """Return the common prefix that a key is rolled up into, None for a key of its own."""
    if not delimiter:
        return None
    place = name.find(delimiter, len(prefix))
    return None if place < 0 else name[: place + len(delimiter)]


def start_after(after: str, wanted: Wanted) -> str:
    """Return the first name that may come behind `after`, be that a key or a common prefix."""
    if not after:
        return ""
    if after.startswith(wanted.prefix):
        group = group_of(after, wanted.prefix, wanted.delimiter)
        if group is not None:
            return successor(group)
    return after + "\0"


def page(db: Connection, destination: str, wanted: Wanted, *, now: datetime) -> Page:
    """Return the next keys of a destination, at most `limit`."""
    walk = _Walk(db, destination, wanted.prefix, now)
    if wanted.delimiter or wanted.shows is not None or walk.has_directories:
        return roll(walk, wanted)
    return walk.page(max(wanted.low, wanted.prefix), wanted.limit)


class _Walk:
    """Gives keys from any name on, forward, the newest version of each."""

    def __init__(self, db: Connection, destination: str, prefix: str, now: datetime) -> None:
        self._db = db
        self._values = {
            "destination": destination,
            "now": to_micros(now),
            "high": successor(prefix) if prefix else portal.LAST,
        }
        self._made = self._next_made(prefix)

    @property
    def has_directories(self) -> bool:
        """Tell whether directories were made behind the prefix."""
        return self._made is not None

    def page(self, low: str, limit: int) -> Page:
        """Return what `roll` does when every file is shown as it is, without a step for each."""
        cursor = self._db.execute(portal.FORWARD.sql, self._values | {"low": low})
        rows: dict[str, Row] = {}  # the newest version of a name comes last, and stays
        while len(rows) <= limit and (more := cursor.fetchmany(limit + 1 - len(rows))):
            rows.update(zip(map(portal.target_of, more), more, strict=True))
        position = rows.popitem()[0] if len(rows) > limit else None
        return Page(list(map(Key, rows, map(portal.entry_of, rows.values()))), position)

    def _next_made(self, low: str) -> Key | None:
        row = self._db.execute(portal.DIRECTORIES.sql, self._values | {"low": low}).fetchone()
        return Key(row["path"], made_at=from_micros(row["created_at"])) if row else None

    def __call__(self, low: str) -> Iterator[Key]:
        if self._made is not None and self._made.name < low:
            self._made = self._next_made(low)
        if self._made is None:  # nearly always
            return self._files(low)
        return heapq.merge(self._files(low), self._directories(low), key=_name)

    def _directories(self, low: str) -> Iterator[Key]:
        for row in self._db.execute(portal.DIRECTORIES.sql, self._values | {"low": low}):
            yield Key(row["path"], made_at=from_micros(row["created_at"]))

    def _files(self, low: str) -> Iterator[Key]:
        held: Entry | None = None  # the newest version of a name comes last
        for row in self._db.execute(portal.FORWARD.sql, self._values | {"low": low}):
            entry = portal.entry_of(row)
            if held is not None and held.target != entry.target:
                yield Key(held.target, held)
            held = entry
        if held is not None:
            yield Key(held.target, held)


def _name(key: Key) -> str:
    return key.name


def roll(walk: Callable[[str], Iterator[Key]], wanted: Wanted) -> Page:
    """Return what a walk shows with a delimiter; `walk(low)` begins anew at any name."""
    found = Page([])
    low: str | None = max(wanted.low, wanted.prefix)
    seen = 0
    while low is not None:
        start, low = low, None
        for key in walk(start):
            if len(found.keys) >= wanted.limit or seen >= SCAN:
                found.position = key.name
                return found
            seen += 1
            group = group_of(key.name, wanted.prefix, wanted.delimiter)
            line = key if group is None else Key(group)
            if wanted.shows is None or wanted.shows(line.name):
                found.keys.append(line)
            if group is not None:
                low = successor(group)
                break
    return found


def made_at(db: Connection, destination: str, path: str) -> datetime | None:
    """Return when the directory of exactly that path was made, None if it was not."""
    values = {"destination": destination, "path": f"{path}/"}
    row = db.execute(MADE_AT.sql, values).fetchone()
    return maybe_time(row["created_at"]) if row else None


def remove_made(db: Connection, destination: str, path: str) -> None:
    """Forget that a directory was made; its members stay."""
    db.execute(REMOVE_MADE.sql, {"destination": destination, "path": f"{path}/"})
