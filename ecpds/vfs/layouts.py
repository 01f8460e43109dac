"""The two ways in which a destination shows its files: by name, or one directory a product date.

Plain functions of a reader's connection, so that a question of a client costs one hop.
Spec: portal.md 2.2, 2.5, Ex 7, 8 and 26.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from ecpds.engine.core import DestinationEntry
from ecpds.model.dates import DatePattern
from ecpds.model.errors import InputError, InvalidName, RuleError
from ecpds.store import portal, productdates
from ecpds.store.db import Connection
from ecpds.store.portal import Directory, Entry

MOST_OF_DATE: Final = 50_000
"""Files of one date that are listed, the newest ones."""

FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
BEYOND: Final = datetime(9999, 12, 31, tzinfo=UTC)
LATEST: Final = "@latest"
_BY_ID: Final = re.compile(r"DataTransferId=([0-9]{1,18})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_DEFAULT_DATE: Final = "yyyyMMdd"
_STEPS: Final = (
    ("Ss", timedelta(seconds=1)),
    ("m", timedelta(minutes=1)),
    ("HhKk", timedelta(hours=1)),
    ("dDE", timedelta(days=1)),
)

Found = Entry | Directory


# --- dates as names --------------------------------------------------------------------------


@lru_cache(maxsize=256)
def date_pattern(text: str) -> DatePattern:
    """Return the pattern of date directories; one that cannot be read back is `yyyyMMdd`."""
    try:
        pattern = DatePattern.parse(text or _DEFAULT_DATE)
        pattern.read(pattern.format(BEYOND))
    except (RuleError, InputError):
        return DatePattern.parse(_DEFAULT_DATE)
    readable = pattern.has_year and "/" not in text
    return pattern if readable else DatePattern.parse(_DEFAULT_DATE)


@dataclass(frozen=True, slots=True)
class DateRange:
    """The product times that one date directory stands for."""

    name: str
    start: datetime
    end: datetime

    @classmethod
    def named(cls, name: str, pattern: DatePattern) -> DateRange:
        """Read the name of a directory; raises InvalidName (`Invalid date`)."""
        try:
            start = pattern.read(name)
        except InputError:
            raise InvalidName(f"Invalid date {name!r}") from None
        if pattern.format(start) != name:
            raise InvalidName(f"Invalid date {name!r}")
        return cls(name, start, _end(start, pattern))

    @classmethod
    def around(cls, moment: datetime, pattern: DatePattern) -> DateRange:
        """Return the range that holds this moment."""
        return cls.named(pattern.format(moment), pattern)

    def __contains__(self, moment: datetime | None) -> bool:
        return moment is not None and self.start <= moment < self.end


def _end(start: datetime, pattern: DatePattern) -> datetime:
    for letters, step in _STEPS:
        if any(letter in pattern.letters for letter in letters):
            return min(start + step, BEYOND)
    if start.year >= BEYOND.year:
        return BEYOND
    if "M" in pattern.letters or "L" in pattern.letters:
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start.replace(year=start.year + 1)


# --- one path --------------------------------------------------------------------------------


def find(db: Connection, entry: DestinationEntry, inner: str, *, now: datetime) -> Found | None:
    """Return the file or directory at a path inside a destination (not its top)."""
    name = inner.rpartition("/")[2]
    if (number := _BY_ID.fullmatch(name)) is not None:
        return _of_destination(db, entry, int(number[1]), now=now)
    if entry.destination.group_by_date:
        return _find_dated(db, entry, inner, now=now)
    return portal.newest(db, entry.name, inner, now=now) or portal.directory(
        db, entry.name, inner, now=now
    )


def _of_destination(
    db: Connection, entry: DestinationEntry, number: int, *, now: datetime
) -> Entry | None:
    found = portal.by_id(db, number, now=now)
    return found if found is not None and found.destination == entry.name else None


def _find_dated(
    db: Connection, entry: DestinationEntry, inner: str, *, now: datetime
) -> Found | None:
    date, slash, base = inner.partition("/")
    day = date_range(db, entry, date, now=now)
    if day is None or "/" in base:
        return None
    if not slash:
        newest = productdates.newest_of_date(db, entry.name, day.start, day.end, now=now)
        return Directory(name=date, newest=newest) if newest else None
    found = productdates.in_date(db, entry.name, day.start, day.end, base, now=now)
    if not found and _NUMBER.fullmatch(base):
        return _of_destination(db, entry, int(base), now=now)
    return found[-1] if found else None


def date_range(
    db: Connection, entry: DestinationEntry, name: str, *, now: datetime
) -> DateRange | None:
    """Return the range of a date directory, None when the name is no date."""
    pattern = date_pattern(entry.destination.date_format)
    if name == LATEST:
        newest = productdates.last_date(db, entry.name, FIRST, BEYOND, now=now)
        return DateRange.around(newest, pattern) if newest else None
    try:
        return DateRange.named(name, pattern)
    except InvalidName:
        return None


def versions(db: Connection, entry: DestinationEntry, inner: str, *, now: datetime) -> list[Entry]:
    """Return every visible transfer that a file name stands for, oldest first."""
    name = inner.rpartition("/")[2]
    if _BY_ID.fullmatch(name) is not None:
        found = find(db, entry, inner, now=now)
        return [found] if isinstance(found, Entry) else []
    if not entry.destination.group_by_date:
        return portal.versions(db, entry.name, inner, now=now)
    date, slash, base = inner.partition("/")
    day = date_range(db, entry, date, now=now) if slash and "/" not in base else None
    return productdates.in_date(db, entry.name, day.start, day.end, base, now=now) if day else []


def dates(db: Connection, entry: DestinationEntry, *, now: datetime) -> Iterator[Directory]:
    """Yield the date directories of a destination, oldest first."""
    pattern, start = date_pattern(entry.destination.date_format), FIRST
    while (moment := productdates.next_date(db, entry.name, start, BEYOND, now=now)) is not None:
        day = DateRange.around(moment, pattern)
        newest = productdates.newest_of_date(db, entry.name, day.start, day.end, now=now)
        yield Directory(name=day.name, newest=newest)
        start = day.end


def files_of_date(
    db: Connection, entry: DestinationEntry, name: str, *, now: datetime
) -> list[Entry] | None:
    """Return the files of a date directory, each base name once; None when there is no such."""
    day = date_range(db, entry, name, now=now)
    if day is None:
        return None
    found = productdates.of_date(db, entry.name, day.start, day.end, now=now, limit=MOST_OF_DATE)
    return found or None


def shown_path(entry: DestinationEntry, found: Entry) -> str:
    """Return the path inside its destination under which a file is seen."""
    if not entry.destination.group_by_date:
        return found.target
    pattern = date_pattern(entry.destination.date_format)
    date = pattern.format(found.time_base or found.arrived_at)
    return f"{date}/{found.target.rpartition('/')[2]}"
