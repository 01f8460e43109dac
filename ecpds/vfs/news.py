"""What is new below a path, for feeds: files in the order in which they became visible."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from ecpds.base.bus import Bus
from ecpds.engine.core import Core, DestinationEntry
from ecpds.model.account import Permission
from ecpds.model.errors import InputError
from ecpds.store import news
from ecpds.store.codec import from_micros, to_micros
from ecpds.store.news import moment_of
from ecpds.store.portal import Entry
from ecpds.vfs import layouts, paths
from ecpds.vfs.contract import Item, NewsPage
from ecpds.vfs.rights import Rights
from ecpds.vfs.tree import Place, View, node_of

NEWEST: Final = 1_000
"""Newest entries that are looked at for a feed without a beginning."""

LONGEST_DELAY: Final = 7 * 24 * 3600 * 1_000_000  # microseconds
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,17})")


def cursor_of(entry: Entry) -> str:
    """Return the place of an entry in the order of news."""
    return f"{moment_of(entry)}-{entry.transfer}"


def read_since(text: str) -> tuple[int, int]:
    """Return the place that a cursor or a time (RFC 3339) names; raise InputError."""
    found = _CURSOR.fullmatch(text)
    if found is not None:
        return int(found[1]), int(found[2])
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise InputError("since is a cursor or a time such as 2031-05-04T10:00:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(to_micros(aware), 0), 0


def longest_delay(entries: list[DestinationEntry]) -> int:
    """Return the longest embargo of these destinations in microseconds."""
    delays = [entry.incoming.delay for entry in entries if entry.incoming.delay]
    longest = max((delay.total_seconds() for delay in delays), default=0.0)
    return min(int(longest * 1_000_000), LONGEST_DELAY)


@contextmanager
def watching(bus: Bus) -> Iterator[Callable[[float], Awaitable[None]]]:
    """Give a function that returns when there may be something new, at most after some seconds."""
    with bus.listener() as listener:

        async def wait(seconds: float) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not any(h.kind == "transfer" for h in await listener.wait_some()):
                        pass

        yield wait


class Newsroom:
    """Finds the news that one session may see."""

    def __init__(self, core: Core, rights: Rights, view: View, shown: str) -> None:
        """`shown`: which time of a file its node tells."""
        self._core = core
        self._rights = rights
        self._view = view
        self._shown = shown

    async def page(self, place: Place, since: str, limit: int) -> NewsPage:
        """Return what is new below a place: oldest first after `since`, newest first without."""
        entries = self._entries(place)
        found, start = await self._found(entries, since)
        items = [
            item
            for one in found.entries
            if (item := self._item(one, entries[one.destination], place)) is not None
        ]
        is_cut = len(items) > limit
        if since and is_cut:
            cursor = items[limit - 1].cursor
        elif found.reached is not None:
            # at least a step, so that a crowd under embargo cannot hold a reader for ever
            cursor = f"{max(found.reached, start[0] + 1)}-0"
        else:
            known = [start, *map(_place_of, found.entries)]
            cursor = "{}-{}".format(*max(known))
        more = bool(since) and (is_cut or found.reached is not None)
        return NewsPage(items=items[:limit], cursor=cursor, more=more)

    def _entries(self, place: Place) -> dict[str, DestinationEntry]:
        found = [place.entry] if place.entry else list(self._view.roots.values())
        return {entry.name: entry for entry in found}

    async def _found(
        self, entries: dict[str, DestinationEntry], since: str
    ) -> tuple[news.News, tuple[int, int]]:
        now = self._core.clock.now()
        read, names = self._core.store.read, list(entries)
        if not since:
            start = (to_micros(now), 0)
            found = await read(news.latest, names, limit=NEWEST, now=now)
            return found, min([start, *map(_place_of, found.entries)])
        start = read_since(since)
        delay = longest_delay(list(entries.values()))
        return await read(news.later, names, start, delay=delay, now=now), start

    def _item(self, one: Entry, entry: DestinationEntry, place: Place) -> Item | None:
        """Return the item of an entry, None when the user may not see it there."""
        inner = layouts.shown_path(entry, one)
        below = f"{place.inner}/" if place.inner else ""
        if not inner.startswith(below):
            return None
        if not self._rights.allows(Permission.DIR, entry.name, inner.rpartition("/")[0]):
            return None
        if place.entry is not None:
            path = paths.joined(place.path, inner[len(below) :])
        else:
            root = next(name for name, at in self._view.roots.items() if at is entry)
            path = paths.joined(paths.joined(place.path, root), inner)
        node = node_of(one, path, entry, shown=self._shown)
        return Item(cursor=cursor_of(one), at=from_micros(moment_of(one)), node=node)


def _place_of(entry: Entry) -> tuple[int, int]:
    return moment_of(entry), entry.transfer
