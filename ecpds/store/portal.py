"""What the portal's tree reads and writes: visible files by name and by date, made directories.

Nothing here loads a whole destination: a directory is read by skipping over its subdirectories in
the index, in pages, and whoever wants more comes back with the position where the page ended.
`now` decides what is visible: the time of an embargo is over and the expiry not reached.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from ecpds.store import files
from ecpds.store.codec import dump, from_micros, maybe_time, to_micros
from ecpds.store.db import Connection, statement

NEWEST_OF = 32  # last names of a directory that are looked at for its time
BEHIND = "0"  # the character behind "/", so that `name + BEHIND` is behind all of `name/…`
LAST = "\U0010ffff"  # behind every name

AT = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND target = :target
      AND visible_at <= :now AND expires_at > :now
    ORDER BY transfer DESC LIMIT 1""",
    hot=True,
)
VERSIONS = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND target = :target
      AND visible_at <= :now AND expires_at > :now
    ORDER BY transfer""",
    hot=True,
)
BY_ID = statement(
    "SELECT * FROM portal_entry WHERE transfer = :transfer AND expires_at > :now", hot=True
)
MANY = statement(
    """
    SELECT * FROM portal_entry
    WHERE transfer IN (SELECT value FROM json_each(:transfers))
      AND visible_at <= :now AND expires_at > :now""",
    hot=True,
)
FORWARD = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND target >= :low AND target < :high
      AND visible_at <= :now AND expires_at > :now
    ORDER BY target, transfer""",
    hot=True,
)
BACKWARD = statement(
    """
    SELECT * FROM portal_entry
    WHERE destination = :destination AND target >= :low AND target < :high
      AND visible_at <= :now AND expires_at > :now
    ORDER BY target DESC, transfer DESC""",
    hot=True,
)
NEWEST = statement(
    """
    SELECT MAX(arrived_at) AS newest FROM (
        SELECT arrived_at FROM portal_entry
        WHERE destination = :destination AND target >= :low AND target < :high
          AND visible_at <= :now AND expires_at > :now
        ORDER BY target DESC LIMIT :limit)""",
)
ARRIVING = statement(
    """
    SELECT 1 FROM transfer
    WHERE destination = :destination AND target = :target AND deleted = 0
      AND MIN(queue_at, scheduled_at) <= :now AND expires_at > :now LIMIT 1""",
    hot=True,
)
DIRECTORIES = statement(
    """
    SELECT path, created_at FROM portal_directory
    WHERE destination = :destination AND path >= :low AND path < :high ORDER BY path""",
    hot=True,
)
DIRECTORIES_BACKWARD = statement(
    """
    SELECT path, created_at FROM portal_directory
    WHERE destination = :destination AND path >= :low AND path < :high ORDER BY path DESC""",
    hot=True,
)
MAKE = statement("""
    INSERT INTO portal_directory (destination, path, created_at, created_by)
    VALUES (:destination, :path, :now, :user) ON CONFLICT (destination, path) DO NOTHING""")
REMOVE = statement("""
    DELETE FROM portal_directory
    WHERE destination = :destination AND path >= :low AND path < :high""")
MOVE = statement("""
    UPDATE portal_directory SET path = :new || substr(path, :length)
    WHERE destination = :destination AND path >= :low AND path < :high""")
RENAME = statement("""
    UPDATE transfer SET
        target = :target, key_target = COALESCE(:key_target, key_target),
        temporary = :temporary, changed_at = :now
    WHERE id = :id""")
PARKED_PLACES = statement("SELECT user, destination, path FROM parked_upload")
DROP_PARKED = statement("""
    DELETE FROM parked_upload
    WHERE user = :user AND (destination, path) IN (
        SELECT destination, path FROM parked_upload WHERE user = :user
        ORDER BY parked_at DESC LIMIT -1 OFFSET :most)""")


class Entry(NamedTuple):
    """A visible file: its transfer in this destination and the facts of its content.

    One row of the view `portal_entry` as it is, times in microseconds: a directory of a hundred
    thousand entries makes as many of them.
    """

    destination: str
    target: str
    transfer: int
    status: str  # stored code
    scheduled_us: int
    visible_us: int
    expires_us: int
    base_us: int | None
    file: int
    instance: int | None
    size: int
    arrived_us: int
    source_us: int | None
    checksum: str
    volume: str
    object_key: str
    etag: str | None  # None: made of file and instance

    @property
    def scheduled_at(self) -> datetime:
        """Return the promised time."""
        return from_micros(self.scheduled_us)

    @property
    def visible_at(self) -> datetime:
        """Return the end of the embargo."""
        return from_micros(self.visible_us)

    @property
    def arrived_at(self) -> datetime:
        """Return when the content came."""
        return from_micros(self.arrived_us)

    @property
    def time_base(self) -> datetime | None:
        """Return the product date."""
        return maybe_time(self.base_us)

    @property
    def file_time(self) -> datetime | None:
        """Return the time at origin."""
        return maybe_time(self.source_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory that has a visible member or was made."""

    name: str
    newest: datetime | None


class Member(NamedTuple):
    """One name of a directory; its `position` is the target, that of a directory ends with /."""

    position: str
    name: str
    entry: Entry | None  # None: a directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of names below one directory; `prefix` ends with / or is empty."""

    destination: str
    prefix: str
    low: str
    high: str
    backward: bool = False

    @classmethod
    def below(cls, destination: str, directory: str, *, backward: bool = False) -> Span:
        """Return the span of all members of a directory (empty for the top)."""
        prefix = f"{directory}/" if directory else ""
        high = directory + BEHIND if directory else LAST
        return cls(destination=destination, prefix=prefix, low=prefix, high=high, backward=backward)

    def values(self, now: int) -> dict[str, object]:
        """Return the parameters of a statement."""
        return {"destination": self.destination, "low": self.low, "high": self.high, "now": now}


entry_of = Entry._make  # from any row of the view
_TARGET = Entry._fields.index("target")
target_of = itemgetter(_TARGET)


def newest(db: Connection, destination: str, target: str, *, now: datetime) -> Entry | None:
    """Return the visible file of that target with the highest transfer id."""
    values = {"destination": destination, "target": target, "now": to_micros(now)}
    row = db.execute(AT.sql, values).fetchone()
    return entry_of(row) if row else None


def versions(db: Connection, destination: str, target: str, *, now: datetime) -> list[Entry]:
    """Return all visible files of that target, oldest transfer first."""
    values = {"destination": destination, "target": target, "now": to_micros(now)}
    return [entry_of(row) for row in db.execute(VERSIONS.sql, values)]


def by_id(db: Connection, transfer: int, *, now: datetime, embargo: bool = True) -> Entry | None:
    """Return one visible transfer; without `embargo` also one whose time has not come."""
    values = {"transfer": transfer, "now": to_micros(now)}
    row = db.execute(BY_ID.sql, values).fetchone()
    if row is None or (embargo and row["visible_at"] > values["now"]):
        return None
    return entry_of(row)


def many(db: Connection, transfers: Sequence[int], *, now: datetime) -> dict[int, Entry]:
    """Return those of the transfers that are visible."""
    values = {"transfers": dump(list(transfers)), "now": to_micros(now)}
    return {row["transfer"]: entry_of(row) for row in db.execute(MANY.sql, values)}


def is_arriving(db: Connection, destination: str, target: str, *, now: datetime) -> bool:
    """Tell whether a transfer of that target waits for its content."""
    values = {"destination": destination, "target": target, "now": to_micros(now)}
    return db.execute(ARRIVING.sql, values).fetchone() is not None


# --- directories -----------------------------------------------------------------------------


def members(db: Connection, span: Span, *, now: datetime) -> Iterator[Member]:
    """Yield the members in the order of their positions, each name once, newest file first.

    The position of a directory is that of `name/`: names stand in the order of whole targets.
    """
    moment = to_micros(now)
    walk = _files_backward if span.backward else _files_forward
    files_here, made = walk(db, span, moment), _made(db, span)
    first = next(made, None)
    if first is None:  # nearly always
        yield from files_here
        return
    streams = (files_here, itertools.chain((first,), made))
    previous = None
    for member in heapq.merge(*streams, key=_position, reverse=span.backward):
        if member.position == previous:  # a made directory that also has files
            continue
        previous = member.position
        yield member


def _position(member: Member) -> str:
    return member.position


def _files_forward(db: Connection, span: Span, now: int) -> Iterator[Member]:
    cut, low = len(span.prefix), span.low
    while True:
        values = span.values(now) | {"low": low}
        held: Entry | None = None  # the newest version of a name comes last
        skip = ""
        for row in db.execute(FORWARD.sql, values):
            target = row[_TARGET]
            if held is not None and held.target != target:
                yield Member(held.target, held.target[cut:], held)
                held = None
            name, slash, _ = target[cut:].partition("/")
            if slash:
                skip = span.prefix + name
                yield Member(skip + "/", name, None)
                break
            held = entry_of(row)
        if held is not None:
            yield Member(held.target, held.target[cut:], held)
        if not skip:
            return
        low = skip + BEHIND


def _files_backward(db: Connection, span: Span, now: int) -> Iterator[Member]:
    cut, high = len(span.prefix), span.high
    while True:
        previous, skip = "", ""
        for row in db.execute(BACKWARD.sql, span.values(now) | {"high": high}):
            target = row[_TARGET]
            name, slash, _ = target[cut:].partition("/")
            if slash:
                skip = f"{span.prefix}{name}/"
                yield Member(skip, name, None)
                break
            if target != previous:
                previous = target
                yield Member(target, name, entry_of(row))
        if not skip:
            return
        high = skip


def _made(db: Connection, span: Span) -> Iterator[Member]:
    cut, low, high = len(span.prefix), span.low, span.high
    chosen = DIRECTORIES_BACKWARD if span.backward else DIRECTORIES
    while True:
        values = {"destination": span.destination, "low": low, "high": high}
        row = db.execute(chosen.sql, values).fetchone()
        if row is None:
            return
        name = row["path"][cut:].partition("/")[0]
        position = f"{span.prefix}{name}/"
        if name:  # else it is the directory itself
            yield Member(position, name, None)
        elif span.backward:
            return
        if span.backward:
            high = position
        else:
            low = span.prefix + name + BEHIND if name else span.prefix + "\0"


def directory(db: Connection, destination: str, path: str, *, now: datetime) -> Directory | None:
    """Return the directory at `path` (not the top), None if it neither has members nor was made."""
    span = Span.below(destination, path)
    newest_at = newest_below(db, span, now=now)
    if newest_at is None:
        values = {"destination": destination, "low": span.low, "high": span.high}
        row = db.execute(DIRECTORIES.sql, values).fetchone()
        if row is None:
            return None
        newest_at = from_micros(row["created_at"])
    return Directory(name=path.rpartition("/")[2], newest=newest_at)


def newest_below(
    db: Connection, span: Span, *, now: datetime, limit: int = NEWEST_OF
) -> datetime | None:
    """Return the latest arrival among the last `limit` names of a span, None if it is empty."""
    row = db.execute(NEWEST.sql, span.values(to_micros(now)) | {"limit": limit}).fetchone()
    return maybe_time(row["newest"])


def is_empty(db: Connection, destination: str, path: str, *, now: datetime) -> bool:
    """Tell whether a directory has no visible member."""
    return next(members(db, Span.below(destination, path), now=now), None) is None


def make_directory(
    db: Connection, destination: str, path: str, *, user: str, now: datetime
) -> None:
    """Add a directory; one that is there stays.

    Stored with a / behind it, so that the order of the rows is that of whole targets.
    """
    values = {"destination": destination, "path": f"{path}/", "user": user}
    db.execute(MAKE.sql, values | {"now": to_micros(now)})


def _tree(destination: str, path: str) -> dict[str, object]:
    return {"destination": destination, "low": f"{path}/", "high": path + BEHIND}


def remove_directories(db: Connection, destination: str, path: str) -> None:
    """Drop a made directory and those below it."""
    db.execute(REMOVE.sql, _tree(destination, path))


def move_directories(db: Connection, destination: str, path: str, new: str) -> None:
    """Rename a made directory and those below it; there are none at `new`."""
    values = {"new": new, "length": len(path) + 1}  # substr counts from 1
    db.execute(MOVE.sql, _tree(destination, path) | values)


def below(
    db: Connection, destination: str, path: str, *, now: datetime, limit: int, after: str = ""
) -> list[Entry]:
    """Return visible files at any depth in the order of their targets, all versions of each."""
    span = Span.below(destination, path)
    values = span.values(to_micros(now))
    if after:
        values["low"] = after + "\0"
    found: list[Entry] = []
    for row in db.execute(FORWARD.sql, values):
        if len(found) >= limit:
            break
        found.append(entry_of(row))
    return found


def walk(
    db: Connection,
    destination: str,
    path: str,
    *,
    prefix: str,
    after: str,
    now: datetime,
    limit: int,
) -> list[Entry]:
    """Return files at any depth, the newest version of each, in the order of their targets.

    `prefix` and `after` are what targets begin with, and behind which to go on, below `path`.
    """
    span = Span.below(destination, path)
    values = span.values(to_micros(now))
    if prefix:
        values |= {"low": span.prefix + prefix, "high": span.prefix + prefix + LAST}
    if after:
        values["low"] = max(str(values["low"]), span.prefix + after + "\0")
    found: list[Entry] = []
    held: Entry | None = None  # the newest version of a name comes last
    for row in db.execute(FORWARD.sql, values):
        if held is not None and held.target != row[_TARGET]:
            found.append(held)
            if len(found) >= limit:
                return found
        held = entry_of(row)
    return [*found, held] if held is not None and len(found) < limit else found


def park(
    db: Connection,
    user: str,
    destination: str,
    path: str,
    *,
    volume: str,
    temporary: str,
    size: int,
    most: int,
    now: datetime,
) -> None:
    """Remember an upload that broke off; of more than `most` of one user the oldest are dropped."""
    files.park(db, user, destination, path, volume=volume, temporary=temporary, size=size, now=now)
    db.execute(DROP_PARKED.sql, {"user": user, "most": most})


def parked_places(db: Connection) -> set[tuple[str, str, str]]:
    """Return user, destination and path of all parked uploads."""
    rows = db.execute(PARKED_PLACES.sql)
    return {(row["user"], row["destination"], row["path"]) for row in rows}


def rename_transfer(
    db: Connection,
    number: int,
    target: str,
    key_target: str | None,
    *,
    temporary: bool,
    now: datetime,
) -> None:
    """Give a transfer a new target; its unique key follows unless `key_target` is None."""
    values = {"id": number, "target": target, "key_target": key_target}
    db.execute(RENAME.sql, values | {"temporary": temporary, "now": to_micros(now)})
