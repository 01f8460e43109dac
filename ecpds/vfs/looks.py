"""Files that were looked at a moment ago, so that a file fetched again and again costs no look-up.

A name is looked up in the loop itself, which takes less than the hand-over to a reader; whatever
that does not find (directories, dates, numbers) takes the longer way.  What is kept is valid as
long as nothing was committed that could change it: the store counts those commits, and a hit
compares the count (read-your-writes over all protocols rests on that).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from ecpds.engine.core import DestinationEntry
from ecpds.store import multipart
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, Store
from ecpds.store.portal import Entry
from ecpds.vfs.s3contract import Attributes
from ecpds.vfs.tree import Place

if TYPE_CHECKING:
    from ecpds.vfs.looking import Looked

MOST: Final = 4_096  # files that are kept


@dataclass(slots=True)
class _Kept:
    """One file as it was found."""

    changes: int  # of the store, before the look
    entry: DestinationEntry
    looked: Looked[Entry]
    attributes: Attributes | None = None  # None: nobody has asked for them


class LookNamed(Protocol):
    """A function that finds a file by its name with a seek or two: `looking.look_named`."""

    def __call__(
        self, db: Connection, entry: DestinationEntry, place: Place, *, now: datetime
    ) -> Looked[Entry] | None:
        """Return the file with just that name, if it can be told so easily."""


class Look(Protocol):
    """A reader's function that finds a file: `looking.look_file`."""

    def __call__(
        self, db: Connection, entry: DestinationEntry, place: Place, *, now: datetime
    ) -> Looked[Entry]:
        """Return the file at a place."""


class Looks:
    """The files found last."""

    def __init__(self, store: Store, look_named: LookNamed, look: Look) -> None:
        self._store = store
        self._look_named = look_named
        self._look = look
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def file(self, entry: DestinationEntry, place: Place, *, now: datetime) -> Looked[Entry]:
        """Return the file at a place; raises as the longer look does."""
        found = self.named(entry, place, now=now)
        if found is not None:
            return found
        looked: Looked[Entry] = await self._store.read(self._look, entry, place, now=now)
        return looked

    def named(
        self, entry: DestinationEntry, place: Place, *, now: datetime
    ) -> Looked[Entry] | None:
        """Return the file with just that name; None when a longer look is needed to tell."""
        key = (entry.name, place.inner)
        kept = self._kept.get(key)
        if kept is not None and self._holds(kept, entry, now):
            return kept.looked
        changes = self._store.changes
        looked = self._store.glance(self._look_named, entry, place, now=now)
        if looked is not None:
            self._kept[key] = _Kept(changes, entry, looked)
            self._kept.move_to_end(key)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return looked

    def described(
        self, entry: DestinationEntry, place: Place, *, now: datetime
    ) -> tuple[Looked[Entry], Attributes] | None:
        """Return as `named`, with what S3 clients keep beside the content."""
        looked = self.named(entry, place, now=now)
        if looked is None:
            return None
        kept = self._kept[entry.name, place.inner]
        if kept.attributes is None:
            found = looked.found
            text = self._store.glance(multipart.attributes, found.file, found.instance)
            kept.attributes = Attributes.load(text)
        return looked, kept.attributes

    def _holds(self, kept: _Kept, entry: DestinationEntry, now: datetime) -> bool:
        found = kept.looked.found
        return (
            kept.changes == self._store.changes
            and kept.entry is entry
            and found.visible_us <= to_micros(now) < found.expires_us
        )
