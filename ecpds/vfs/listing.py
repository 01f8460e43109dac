"""The members of a directory in the order that is wanted, page by page in bounded memory.

By name, a directory of any size streams out of the index.  Any other order needs every member's
key first: that is done for up to 100,000 members; beyond, the listing is by name.  A directory by
date is read as a whole, its newest 50,000 files.

Spec: portal.md 2.4 (the newest version of a name is chosen before anything is sorted).
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from ecpds.base.clock import Clock
from ecpds.engine.core import DestinationEntry
from ecpds.model.account import Protocol
from ecpds.model.errors import InputError, NotDirectory
from ecpds.model.families import PortalOptions
from ecpds.store import portal
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, Store
from ecpds.store.portal import Directory, Entry, Member, Span
from ecpds.vfs import layouts
from ecpds.vfs.contract import Listing
from ecpds.vfs.layouts import Found
from ecpds.vfs.tree import Place, micros_of, missing

PAGE: Final = 500
"""Members read in one hop to a reader."""

SCAN: Final = 5_000
"""Members looked at in one hop when a pattern passes over most of them."""

HELD: Final = 1_000
"""Members of a sorted listing that are kept whole instead of being read twice."""

MOST_SORTED: Final = 100_000
"""Members that a directory may have to be listed in another order than by name."""

_PLAIN: Final = re.compile(r"[^*?\[]*")

Sort = Literal["size", "target", "time"]
Key = tuple[bool, int, str, int]  # is last, value, name, transfer id (0: directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How one listing is to be made."""

    sort: Sort | None  # None: newest transfer first
    descending: bool
    match: re.Pattern[str] | None = None
    literal: str = ""  # what the pattern begins with
    limit: int | None = None
    cursor: str | None = None
    shown: str = "arrival"
    both: bool = False  # a file and a directory of one name may stand side by side (S3)

    @classmethod
    def of(
        cls,
        listing: Listing,
        entry: DestinationEntry | None,
        options: PortalOptions,
        protocol: Protocol,
    ) -> Wanted:
        """Combine what the client asks for with the destination's and the user's options."""
        given = entry.incoming if entry else None
        sort = listing.sort or (given.sort if given else "") or options.sort
        order = listing.order or (given.order if given else "") or options.order
        if listing.sort and not listing.order:
            order = "asc"
        chosen: Sort | None = "target" if sort == "name" else (sort or None)
        pattern = listing.pattern
        return cls(
            sort=chosen,
            descending=order == "desc" if order else chosen is None,
            match=re.compile(fnmatch.translate(pattern)) if pattern is not None else None,
            literal=_PLAIN.match(pattern)[0] if pattern else "",  # type: ignore[index] # matches
            limit=listing.limit,
            cursor=listing.cursor,
            shown=options.list_time,
            both=protocol is Protocol.S3,
        )

    def fits(self, name: str) -> bool:
        """Tell whether the pattern lets a name through."""
        return self.match is None or self.match.match(name) is not None

    def key(self, found: Found, name: str) -> Key:
        """Return the sort key; members without a value come last in either direction."""
        value = self._value(found)
        number = 0 if isinstance(found, Directory) else found.transfer
        if value is None:
            return (True, 0, name, number)
        return (False, -value if self.descending else value, name, number)

    def _value(self, found: Found) -> int | None:
        if isinstance(found, Directory):
            moment = found.newest if self.sort == "time" else None
            return None if moment is None else to_micros(moment)
        if self.sort == "time":
            return micros_of(found, self.shown)
        return found.size if self.sort == "size" else found.transfer


def name_of(found: Found) -> str:
    """Return the last segment of a member."""
    return found.name if isinstance(found, Directory) else found.target.rpartition("/")[2]


class Lister:
    """Lists directories inside destinations."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def members(self, place: Place, wanted: Wanted) -> AsyncIterator[Found]:
        """Yield the members; the first step raises NotFound or NotDirectory."""
        entry = place.inside()
        if entry.destination.group_by_date:
            walk = self._dated(place, entry, wanted)
        elif wanted.sort == "target":
            walk = self._by_name(place, entry, wanted)
        else:
            walk = self._sorted(place, entry, wanted)
        async for found in walk:
            yield found

    async def walk(
        self, place: Place, *, prefix: str, after: str, limit: int | None
    ) -> AsyncIterator[Entry]:
        """Yield the files at any depth; the first step raises NotFound or NotDirectory."""
        entry, store = place.inside(), self._store
        left = sys.maxsize if limit is None else limit
        now = self._clock.now()
        await store.read(check_directory, entry, place, now)
        if entry.destination.group_by_date:
            found = await store.read(_walk_dates, entry, place, prefix, after, now=now)
            for one in found[:left]:
                yield one
            return
        cut = len(place.inner) + 1 if place.inner else 0
        while left > 0:
            page = await store.read(
                portal.walk, entry.name, place.inner,
                prefix=prefix, after=after, now=self._clock.now(), limit=min(PAGE, left),
            )  # fmt: skip
            for one in page:
                yield one
            left -= len(page)
            if len(page) < PAGE:
                return
            after = page[-1].target[cut:]

    async def _dated(
        self, place: Place, entry: DestinationEntry, wanted: Wanted
    ) -> AsyncIterator[Found]:
        found = await self._store.read(_dated, entry, place, wanted, now=self._clock.now())
        for member in found:
            yield member

    async def _by_name(
        self, place: Place, entry: DestinationEntry, wanted: Wanted
    ) -> AsyncIterator[Found]:
        position: str | None = None
        left = wanted.limit
        is_first = True
        while is_first or position is not None:
            size = PAGE if left is None else min(PAGE, left)
            if size <= 0 and not is_first:
                return
            page = await self._store.read(
                _name_page, entry, place, wanted, position,
                now=self._clock.now(), size=size, is_first=is_first,
            )  # fmt: skip
            is_first = False
            for member in page.found:
                yield member
            left = None if left is None else left - len(page.found)
            position = page.position

    async def _sorted(
        self, place: Place, entry: DestinationEntry, wanted: Wanted
    ) -> AsyncIterator[Found]:
        gathered = await self._store.read(_gather, entry, place, wanted, now=self._clock.now())
        if gathered is None:
            by_name = replace(wanted, sort="target", descending=wanted.descending)
            async for found in self._by_name(place, entry, by_name):
                yield found
            return
        keys = _cut(gathered.keys, wanted)
        for begin in range(0, len(keys), PAGE):
            part = keys[begin : begin + PAGE]
            lost = [key for key in part if key[2:] not in gathered.held]
            fetched = (
                await self._store.read(_fetch, entry, place.inner, lost, now=self._clock.now())
                if lost
                else {}
            )
            for key in part:
                member = gathered.held.get(key[2:]) or fetched.get(key[2:])
                if member is not None:  # else it went while we were listing
                    yield member


def _cut(keys: list[Key], wanted: Wanted) -> list[Key]:
    if wanted.cursor is not None:
        name = wanted.cursor.rstrip("/")
        place = next((number for number, key in enumerate(keys) if key[2] == name), None)
        if place is None:
            raise InputError("the entry at which the last page ended is gone", pointer="cursor")
        keys = keys[place + 1 :]
    return keys if wanted.limit is None else keys[: wanted.limit]


# --- on a reader's thread --------------------------------------------------------------------


@dataclass(slots=True)
class _Page:
    found: list[Found]
    position: str | None  # None: the end


def check_directory(db: Connection, entry: DestinationEntry, place: Place, now: datetime) -> None:
    """Raise NotFound or NotDirectory unless the place is a directory."""
    if place.is_top:
        return
    found = layouts.find(db, entry, place.inner, now=now)
    if found is None:
        raise missing(place.path)
    if isinstance(found, Directory):
        return
    if portal.directory(db, entry.name, place.inner, now=now) is None:
        raise NotDirectory(f"{place.path} is a file")


def _span(entry: DestinationEntry, place: Place, wanted: Wanted) -> Span:
    span = Span.below(entry.name, place.inner, backward=wanted.descending)
    if not wanted.literal:
        return span
    low = span.prefix + wanted.literal
    return replace(span, low=low, high=low + portal.LAST)


def _chosen(
    db: Connection,
    entry: DestinationEntry,
    span: Span,
    wanted: Wanted,
    member: Member,
    now: datetime,
) -> Found | None:
    """Return what a member stands for in this listing, None when it is not shown."""
    if not wanted.fits(member.name):
        return None
    if member.entry is not None:
        return member.entry
    path = span.prefix + member.name
    if not wanted.both and portal.newest(db, entry.name, path, now=now) is not None:
        return None  # the file of that name is what others see
    return portal.directory(db, entry.name, path, now=now)


def _name_page(
    db: Connection,
    entry: DestinationEntry,
    place: Place,
    wanted: Wanted,
    position: str | None,
    *,
    now: datetime,
    size: int,
    is_first: bool,
) -> _Page:
    if is_first:
        check_directory(db, entry, place, now)
    span = _span(entry, place, wanted)
    if position is None and wanted.cursor is not None:
        position = _position(db, entry, span, wanted.cursor, now)
    if position is not None:
        span = _behind(span, position)
    page = _Page([], None)
    if size <= 0:
        return page
    for count, member in enumerate(portal.members(db, span, now=now), 1):
        found = _chosen(db, entry, span, wanted, member, now)
        if found is not None:
            page.found.append(found)
        if len(page.found) >= size or count >= SCAN:
            page.position = member.position
            break
    return page


def _position(
    db: Connection, entry: DestinationEntry, span: Span, cursor: str, now: datetime
) -> str:
    """Return where the entry of that name stands; a directory's name may come with its slash."""
    target = span.prefix + cursor
    if cursor.endswith("/") or portal.newest(db, entry.name, target, now=now) is not None:
        return target
    is_directory = portal.directory(db, entry.name, target, now=now) is not None
    return f"{target}/" if is_directory else target


def _behind(span: Span, position: str) -> Span:
    if span.backward:
        return replace(span, high=min(span.high, position))
    is_directory = position.endswith("/")
    low = position[:-1] + portal.BEHIND if is_directory else position + "\0"
    return replace(span, low=max(span.low, low))


@dataclass(slots=True)
class _Gathered:
    keys: list[Key]
    held: dict[tuple[str, int], Found]


def _gather(
    db: Connection, entry: DestinationEntry, place: Place, wanted: Wanted, *, now: datetime
) -> _Gathered | None:
    """Return the keys of all members in their order, None when there are too many."""
    check_directory(db, entry, place, now)
    span = replace(_span(entry, place, wanted), backward=False)
    keys: list[Key] = []
    held: dict[tuple[str, int], Found] = {}
    for count, member in enumerate(portal.members(db, span, now=now)):
        if count >= MOST_SORTED:
            return None
        found = _chosen(db, entry, span, wanted, member, now)
        if found is None:
            continue
        key = wanted.key(found, member.name)
        keys.append(key)
        if len(held) < HELD:
            held[key[2:]] = found
    keys.sort()
    return _Gathered(keys, held)


def _fetch(
    db: Connection, entry: DestinationEntry, inner: str, keys: Sequence[Key], *, now: datetime
) -> dict[tuple[str, int], Found]:
    files = portal.many(db, [number for _, _, _, number in keys if number], now=now)
    found: dict[tuple[str, int], Found] = {}
    for _, _, name, number in keys:
        if number:
            one: Found | None = files.get(number)
        else:
            path = f"{inner}/{name}" if inner else name
            one = portal.directory(db, entry.name, path, now=now)
        if one is not None:
            found[name, number] = one
    return found


def _dated(
    db: Connection, entry: DestinationEntry, place: Place, wanted: Wanted, *, now: datetime
) -> list[Found]:
    """Return the members of the top or of one date, sorted and cut."""
    members: Sequence[Found] | None
    if place.is_top:
        members = list(layouts.dates(db, entry, now=now))
    else:
        members = layouts.files_of_date(db, entry, place.inner, now=now)
    if members is None:
        check_directory(db, entry, place, now)  # tells a file from nothing at all
        raise missing(place.path)
    found = {wanted.key(one, name_of(one)): one for one in members}
    keys = [key for key in found if wanted.fits(key[2])]
    if wanted.sort == "target":
        keys.sort(key=_key_name, reverse=wanted.descending)
    else:
        keys.sort()
    return [found[key] for key in _cut(keys, wanted)]


def _walk_dates(
    db: Connection, entry: DestinationEntry, place: Place, prefix: str, after: str, *, now: datetime
) -> list[Entry]:
    """Return the files of one or all dates, by their shown paths."""
    days = [place.inner] if place.inner else [day.name for day in layouts.dates(db, entry, now=now)]
    found: dict[str, Entry] = {}
    for day in days:
        for one in layouts.files_of_date(db, entry, day, now=now) or ():
            below = name_of(one) if place.inner else f"{day}/{name_of(one)}"
            if below.startswith(prefix) and below > after:
                found[below] = one
    return [found[below] for below in sorted(found)]


def _key_name(key: Key) -> str:
    return key[2]
