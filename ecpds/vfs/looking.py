"""What a client sees of one path: the functions of a reader behind stat, open and times.

Spec: portal.md 2.3 to 2.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, TypeVar

from ecpds.engine.core import DestinationEntry
from ecpds.model.errors import IsDirectory, LimitError, NotStored, Unsupported
from ecpds.objects.volume import Volume
from ecpds.store import files, portal, properties
from ecpds.store.db import Connection
from ecpds.store.portal import Directory, Entry, Span
from ecpds.vfs import layouts
from ecpds.vfs.contract import Node, Space
from ecpds.vfs.layouts import Found
from ecpds.vfs.limits import Quota
from ecpds.vfs.listing import Wanted
from ecpds.vfs.services import Services
from ecpds.vfs.tree import Place, directory_node, missing, node_of

F = TypeVar("F", bound=Found, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Generic[F]):
    """A file or directory with its metadata."""

    found: F
    metadata: Mapping[str, str] = field(default_factory=dict)
    inner: str | None = None  # where it really is, when it was asked for by its number

    def node(self, place: Place, entry: DestinationEntry, shown: str) -> Node:
        """Return the node at the place that was asked for."""
        found = self.found
        if place.is_top and isinstance(found, Directory):
            return directory_node(found, place.path, entry, comment=entry.destination.comment)
        return node_of(found, place.path, entry, shown=shown, metadata=self.metadata)


def look(
    db: Connection, entry: DestinationEntry, place: Place, own: int | None, *, now: datetime
) -> Looked[Found]:
    """Return what is at a place; `own` is an upload that its uploader sees under embargo."""
    if place.is_top:
        newest = portal.newest_below(db, Span.below(entry.name, ""), now=now)
        return Looked(found=Directory(name=entry.name, newest=newest))
    found = layouts.find(db, entry, place.inner, now=now)
    if found is None and own is not None:
        found = portal.by_id(db, own, now=now, embargo=False)
    if found is None:
        raise missing(place.path)
    if isinstance(found, Directory):
        return Looked(found=found)
    return Looked(
        found=found,
        metadata=files.metadata(db, found.file),
        inner=_elsewhere(entry, place, found, own),
    )


def _elsewhere(entry: DestinationEntry, place: Place, found: Entry, own: int | None) -> str | None:
    if found.transfer == own or found.target == place.inner:
        return None
    inner = layouts.shown_path(entry, found)
    return None if inner == place.inner else inner


def look_named(
    db: Connection, entry: DestinationEntry, place: Place, *, now: datetime
) -> Looked[Entry] | None:
    """Return the file with just that name; None when a longer look is needed to tell."""
    if place.is_top or entry.destination.group_by_date:
        return None
    found = portal.newest(db, entry.name, place.inner, now=now)
    if found is None:
        return None
    return Looked(found=found, metadata=files.metadata(db, found.file))


def look_file(
    db: Connection, entry: DestinationEntry, place: Place, *, now: datetime
) -> Looked[Entry]:
    """Return the file at a place; IsDirectory, NotStored (content on its way) or NotFound."""
    found = layouts.find(db, entry, place.inner, now=now)
    if isinstance(found, Directory):
        raise IsDirectory(f"{place.path} is a directory")
    if found is None:
        if portal.is_arriving(db, entry.name, place.inner, now=now):
            raise NotStored(f"the content of {place.path} is not stored yet")
        raise missing(place.path)
    return Looked(
        found=found,
        metadata=files.metadata(db, found.file),
        inner=_elsewhere(entry, place, found, None),
    )


def set_time(
    db: Connection,
    entry: DestinationEntry,
    place: Place,
    own: int | None,
    mtime: datetime,
    *,
    now: datetime,
) -> None:
    """Keep the source time of the file at a place; a directory has none and that is fine."""
    looked = look(db, entry, place, own, now=now)
    if isinstance(looked.found, Entry):
        files.set_file_time(db, looked.found.file, mtime)


MOST_PROPERTIES: Final = 64
"""Properties of one file, and in each of them `LONGEST_PROPERTY` characters."""

LONGEST_PROPERTY: Final = 4096


def set_properties(
    db: Connection,
    entry: DestinationEntry,
    place: Place,
    changes: Mapping[str, str | None],
    *,
    now: datetime,
    replace: bool,
) -> None:
    """Keep texts with the file at a place; Unsupported for a directory, LimitError."""
    found = layouts.find(db, entry, place.inner, now=now)
    if found is None:
        raise missing(place.path)
    if isinstance(found, Directory):
        raise Unsupported("only files have properties of their own")
    if any(len(name) + len(value or "") > LONGEST_PROPERTY for name, value in changes.items()):
        raise LimitError(f"a property has at most {LONGEST_PROPERTY} characters")
    given = {} if replace else properties.of(db, [found.transfer]).get(found.transfer, {})
    kept = {name: value for name, value in ({**given, **changes}).items() if value is not None}
    if len(kept) > MOST_PROPERTIES:
        raise LimitError(f"a file has at most {MOST_PROPERTIES} properties")
    properties.replace(db, found.transfer, kept)


def newest_of(db: Connection, names: Iterable[str], *, now: datetime) -> dict[str, datetime | None]:
    """Return the latest arrival of each destination, as far as its last names tell."""
    return {name: portal.newest_below(db, Span.below(name, ""), now=now) for name in names}


def root_node(entry: DestinationEntry, path: str, newest: datetime | None) -> Node:
    """Return the node of a destination."""
    comment = entry.destination.comment
    return directory_node(Directory(name="", newest=newest), path, entry, comment=comment)


def arranged(nodes: Sequence[Node], wanted: Wanted) -> list[Node]:
    """Return the nodes above the destinations: by name unless times are asked for."""
    found = [node for node in nodes if wanted.fits(node.name)]
    is_down = wanted.descending and wanted.sort is not None
    found.sort(key=lambda node: node.name, reverse=is_down)
    if wanted.sort == "time":  # those without a time stay behind
        known = [(node.mtime, node) for node in found if node.mtime is not None]
        known.sort(key=lambda pair: pair[0], reverse=is_down)
        found = [node for _, node in known] + [node for node in found if node.mtime is None]
    names = [node.name for node in found]
    if wanted.cursor is not None and wanted.cursor in names:
        found = found[names.index(wanted.cursor) + 1 :]
    return found if wanted.limit is None else found[: wanted.limit]


def _rooms(volumes: Sequence[Volume]) -> list[tuple[int, int]]:
    return [(volume.total, volume.room) for volume in volumes]


async def space(
    services: Services,
    quotas: Iterable[Quota],
    entry: DestinationEntry | None,
    room: int | None = None,
) -> Space:
    """Return the room for uploads: of the volumes together, or what a quota leaves of it.

    `room`: bytes that the user may still keep, None for any number.
    """
    core, now = services.core, services.core.clock.now()
    rooms = await core.threads.run("disk", _rooms, core.objects.volumes)
    total = sum(size for size, _ in rooms)
    free = sum(max(room, 0) for _, room in rooms)
    wanted = [*quotas, *(Quota.of_destination(entry) if entry else ())]
    for quota in wanted:
        if quota.direction == "upload":
            await services.quotas.load(quota, now)
            left = max(quota.most - services.quotas.used(quota, now), 0)
            total, free = min(total, quota.most), min(free, left)
    return Space(total=total, free=free if room is None else min(free, room))
