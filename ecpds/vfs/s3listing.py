"""Keys of one or all destinations of a user, page by page.

Spec: portal.md 3.6 (ListObjects in UTF-8 order, any prefix and delimiter).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Final

from ecpds.base.clock import Clock
from ecpds.engine.core import DestinationEntry
from ecpds.model.account import Permission
from ecpds.store import objectkeys
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, Store
from ecpds.store.objectkeys import Key, Page, Shows, Wanted
from ecpds.vfs import layouts
from ecpds.vfs.rights import Rights
from ecpds.vfs.s3contract import KeyLine, KeyPage, KeyQuery
from ecpds.vfs.tree import etag_of, micros_of

MOST_HOPS: Final = 20
"""Calls to the store for one page, when nearly all keys are hidden from the user."""

EMPTY_TAG: Final = '"d41d8cd98f00b204e9800998ecf8427e"'  # MD5 of nothing: made directories


class KeyLister:
    """Lists keys with the rights of one user."""

    def __init__(self, store: Store, clock: Clock, rights: Rights, shown: str) -> None:
        """`shown` is `portal.listTime`."""
        self._store = store
        self._clock = clock
        self._rights = rights
        self._shown = shown

    async def page(self, roots: Mapping[str, DestinationEntry | None], query: KeyQuery) -> KeyPage:
        """Return the next keys; `roots` is one destination without a name, or all by theirs.

        A page of a user with narrow rights may be short, or empty, and still have a next one.
        """
        wanted = Wanted(prefix=query.prefix, delimiter=query.delimiter, limit=query.limit)
        low = query.position or objectkeys.start_after(query.after, wanted)
        found: list[Key] = []
        hops = 0
        for base, entry in _bases(roots):
            if entry is None or not _reaches(base, query.prefix, low):
                continue
            walk = _Root(self, base, entry, query)
            while True:
                if len(found) >= query.limit or hops >= MOST_HOPS:
                    return self._page(found, max(low, base))
                hops += 1
                part = await walk.next(low, query.limit - len(found))
                found += part.keys
                if part.position is None:
                    break
                low = part.position
        return self._page(found, "")

    def _page(self, found: list[Key], position: str) -> KeyPage:
        shown = self._shown
        lines = [
            KeyLine(name, entry.size, micros_of(entry, shown), etag_of(entry))
            if entry is not None
            else _line(name, made_at)
            for name, entry, made_at in found
        ]
        return KeyPage(lines, position)

    def shows(self, destination: str) -> Shows | None:
        """Return what tells whether a key may be known; None when every one may."""
        rights = self._rights
        if not rights.is_narrow(Permission.DIR):
            return None
        known: dict[str, bool] = {}

        def shows(name: str) -> bool:
            parent = name.rstrip("/").rpartition("/")[0]
            if parent not in known:
                known[parent] = rights.allows(Permission.DIR, destination, parent)
            leads = name.endswith("/") and rights.allows(Permission.DIR, destination, name)
            return known[parent] and (leads or rights.reaches(destination, name))

        return shows

    async def read(self, entry: DestinationEntry, wanted: Wanted) -> Page:
        """Return one page of a destination."""
        now = self._clock.now()
        if entry.destination.group_by_date:
            return await self._store.read(dated_page, entry, wanted, now=now)
        return await self._store.read(objectkeys.page, entry.name, wanted, now=now)


def _line(name: str, made_at: datetime | None) -> KeyLine:
    """Return the line of a made directory or a common prefix."""
    if made_at is None:
        return KeyLine(name)
    return KeyLine(name, 0, to_micros(made_at), EMPTY_TAG)


class _Root:
    """A destination in a listing whose keys begin with `base`."""

    def __init__(
        self, lister: KeyLister, base: str, entry: DestinationEntry, query: KeyQuery
    ) -> None:
        self._lister = lister
        self._base = base
        self._entry = entry
        self._query = query
        self._shows = lister.shows(entry.name)

    async def next(self, low: str, limit: int) -> Page:
        base, prefix, delimiter = self._base, self._query.prefix, self._query.delimiter
        group = objectkeys.group_of(base, prefix, delimiter) if base else None
        if group is not None:  # the destination itself is what is rolled up
            allowed = self._lister.shows(self._entry.name)
            is_shown = group >= low and (allowed is None or allowed(""))
            return Page([Key(group)] if is_shown else [])
        wanted = Wanted(
            prefix=prefix[len(base) :],
            delimiter=delimiter,
            low=low[len(base) :] if low.startswith(base) else "",
            limit=limit,
            shows=self._shows,
        )
        page = await self._lister.read(self._entry, wanted)
        if base:
            page.keys = [key._replace(name=base + key.name) for key in page.keys]
            page.position = None if page.position is None else base + page.position
        return page


def _bases(
    roots: Mapping[str, DestinationEntry | None],
) -> list[tuple[str, DestinationEntry | None]]:
    """Return the destinations by what their keys begin with, in the order of keys."""
    return sorted(
        ((f"{name}/" if name else "", entry) for name, entry in roots.items()),
        key=lambda pair: pair[0],
    )


def _reaches(base: str, prefix: str, low: str) -> bool:
    """Tell whether keys of a destination can be in the listing."""
    if not (base.startswith(prefix) or prefix.startswith(base)):
        return False
    return not base or low < objectkeys.successor(base)


def dated_page(db: Connection, entry: DestinationEntry, wanted: Wanted, *, now: datetime) -> Page:
    """Return keys of a destination by date: `<date>/<name>`."""
    days = sorted(day.name for day in layouts.dates(db, entry, now=now))
    return objectkeys.roll(partial(_dated, db, entry, days, now), wanted)


def _dated(
    db: Connection, entry: DestinationEntry, days: list[str], now: datetime, low: str
) -> Iterator[Key]:
    start = bisect.bisect_right(days, low.partition("/")[0])
    for day in days[max(start - 1, 0) :]:
        held: dict[str, Key] = {}
        for one in layouts.files_of_date(db, entry, day, now=now) or ():
            name = layouts.shown_path(entry, one)
            held[name] = Key(name, one)
        for name in sorted(held):
            if name >= low:
                yield held[name]
