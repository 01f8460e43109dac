"""From a path to a place: which destination of the user, and where in it.

`/DATA/x` is `/x`.  FTP, SFTP and SCP show `DATA` at the top, the others the destinations at once;
`portal.domain` and `portal.destination` move the top down.  Whatever is unknown, inactive or not
linked to the user is missing in the same words.  Spec: portal.md 2.1, 2.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ecpds.engine.core import DestinationEntry, Snapshot
from ecpds.model.account import Protocol
from ecpds.model.errors import NotFound
from ecpds.model.families import PortalOptions
from ecpds.model.transfer import entity_tag
from ecpds.store.codec import from_micros
from ecpds.store.portal import Directory, Entry
from ecpds.vfs import paths
from ecpds.vfs.contract import Node

DOMAIN: Final = "DATA"
SHOWS_DOMAIN: Final = frozenset({Protocol.FTP, Protocol.SFTP, Protocol.SCP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a path leads; `entry` None is above the destinations."""

    path: str  # normal, as asked
    entry: DestinationEntry | None = None
    inner: str = ""  # path inside the destination
    is_above_domain: bool = False  # the top that shows only DATA

    @property
    def destination(self) -> str:
        """Return the name of the destination, empty above them."""
        return self.entry.name if self.entry else ""

    @property
    def is_top(self) -> bool:
        """Tell whether this is a destination itself or above."""
        return not self.inner

    def inside(self) -> DestinationEntry:
        """Return the destination; NotFound above them."""
        if self.entry is None:
            raise missing(self.path)
        return self.entry


def missing(path: str) -> NotFound:
    """Return the one error for everything that is not there for this user."""
    return NotFound(f"{path} is not there")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The upper levels of one user's tree."""

    roots: Mapping[str, DestinationEntry]  # by the name shown, in ascending order
    moved: DestinationEntry | None = None  # the destination that is the top itself
    shows_domain: bool = False

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        options: PortalOptions,
        snapshot: Snapshot,
        protocol: Protocol,
    ) -> View:
        """Return what a user with these destinations sees."""
        entries = [
            entry
            for name in names
            if (entry := snapshot.destinations.get(name)) is not None and entry.destination.active
        ]
        roots: dict[str, DestinationEntry] = {}
        for entry in entries:  # of two with the same top name the later one keeps its own
            wanted = entry.incoming.rootdir.strip("/")
            if protocol is Protocol.S3 and entry.incoming.s3_bucket:
                wanted = entry.incoming.s3_bucket
            is_usable = wanted not in {"", ".", ".."} and "/" not in wanted and wanted not in roots
            shown = wanted if is_usable else entry.name
            roots[shown] = entry
        moved = next((entry for entry in entries if entry.name == options.destination), None)
        return cls(
            roots=dict(sorted(roots.items())),
            moved=moved,
            shows_domain=protocol in SHOWS_DOMAIN and not moved and options.domain != DOMAIN,
        )

    def place(self, path: str) -> Place:
        """Return where a normal path leads; NotFound below an unknown top."""
        below = path
        if path == f"/{DOMAIN}" or path.startswith(f"/{DOMAIN}/"):
            below = path[len(DOMAIN) + 1 :] or "/"
        if self.moved is not None:
            return Place(path=path, entry=self.moved, inner=below[1:])
        if below == "/":
            return Place(path=path, is_above_domain=self.shows_domain and path == "/")
        root, _, inner = below[1:].partition("/")
        entry = self.roots.get(root)
        if entry is None:
            raise missing(path)
        return Place(path=path, entry=entry, inner=inner)


# --- nodes -----------------------------------------------------------------------------------


def etag_of(entry: Entry) -> str:
    """Return the quoted entity tag of the content (portal.md Ex 16)."""
    return f'"{entry.etag or entity_tag(entry.file, entry.instance)}"'


_TIMES: Final = {"scheduled": "scheduled_us", "product": "base_us", "source": "source_us"}


def micros_of(entry: Entry, shown: str) -> int:
    """Return the time that `portal.listTime` asks for; arrival when there is none."""
    found: int | None = getattr(entry, _TIMES[shown]) if shown in _TIMES else None
    return entry.arrived_us if found is None else found


def file_node(
    entry: Entry,
    path: str,
    where: DestinationEntry,
    *,
    shown: str,
    metadata: Mapping[str, str] | None = None,
) -> Node:
    """Return the node of a file."""
    return Node(
        name=paths.last(path),
        path=path,
        kind="file",
        size=entry.size,
        mtime=from_micros(micros_of(entry, shown)),
        scheduled=entry.scheduled_at,
        transfer_id=entry.transfer,
        file_id=entry.file,
        etag=etag_of(entry),
        checksum=entry.checksum,
        destination=where.name,
        group=where.destination.country.lower() or "ecpds",
        comment=str(entry.transfer),
        metadata=metadata or {},
    )


def directory_node(
    found: Directory, path: str, where: DestinationEntry, *, comment: str = ""
) -> Node:
    """Return the node of a directory."""
    return Node(
        name=paths.last(path),
        path=path,
        kind="directory",
        mtime=found.newest,
        destination=where.name,
        group=where.destination.country.lower() or "ecpds",
        comment=comment,
    )


def upper_node(path: str) -> Node:
    """Return the node of a directory above the destinations."""
    return Node(name=paths.last(path), path=path, kind="directory")


def node_of(
    found: Entry | Directory,
    path: str,
    where: DestinationEntry,
    *,
    shown: str,
    metadata: Mapping[str, str] | None = None,
) -> Node:
    """Return the node of whatever was found at `path`."""
    if isinstance(found, Directory):
        return directory_node(found, path, where)
    return file_node(found, path, where, shown=shown, metadata=metadata)
