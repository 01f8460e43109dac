"""Changes of the tree: make, remove and rename, each in one transaction.

A delete takes every visible version of a name away from this destination and leaves the copies of
other destinations alone (`incoming.deleteCascade` takes them too).  A rename carries the unique key
along, so that a later upload of the old name is a new file.  Spec: portal.md 2.6 and 2.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ecpds.engine.core import DestinationEntry, Snapshot
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.transfers import delete_transfer
from ecpds.engine.telling import Teller
from ecpds.model.errors import (
    Busy,
    Denied,
    EcpdsError,
    Exists,
    IsDirectory,
    LimitError,
    NotDirectory,
    NotEmpty,
    Unsupported,
)
from ecpds.model.rulesettings import alias_copies
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import history, portal, transfers
from ecpds.store.db import Connection
from ecpds.store.portal import Directory, Entry
from ecpds.vfs import layouts, paths
from ecpds.vfs.services import Visitor
from ecpds.vfs.tree import Place, missing
from ecpds.vfs.uploads import is_temporary

MOST_RENAMED: Final = 5_000
"""Files that a renamed directory may hold: it is renamed as a whole or not at all."""

MOST_REMOVED: Final = 10_000
"""Files that a directory removed with its members may hold."""

BATCH: Final = 200
"""Files deleted in one transaction, so that others are not held up."""

S = TransferStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who changes what."""

    visitor: Visitor
    entry: DestinationEntry
    teller: Teller

    @property
    def actor(self) -> Actor:
        """Return who is named in audit rows."""
        return Actor(name=self.visitor.login, kind="user", peer=self.visitor.peer)

    @property
    def is_dated(self) -> bool:
        """Tell whether the destination is shown by date."""
        return self.entry.destination.group_by_date


# --- directories -----------------------------------------------------------------------------


def make_directory(db: Connection, change: Change, place: Place, *, now: datetime) -> None:
    """Add a directory; Exists, NotDirectory (a parent is a file) or Denied (by date)."""
    if change.is_dated:
        raise Denied("directories of a destination by date are its product dates")
    name = change.entry.name
    if layouts.find(db, change.entry, place.inner, now=now) is not None:
        raise Exists(f"{place.path} exists")
    for parent in paths.parents(place.inner):
        if portal.newest(db, name, parent, now=now) is not None:
            raise NotDirectory(f"a part of {place.path} is a file")
    portal.make_directory(db, name, place.inner, user=change.visitor.login, now=now)


def check_directory(
    db: Connection, change: Change, place: Place, *, now: datetime, recursive: bool
) -> list[Entry]:
    """Return the files of a directory that is to be removed.

    Raises NotFound, NotDirectory, NotEmpty, Denied (by date), LimitError.
    """
    if change.is_dated:
        raise Denied("directories of a destination by date are its product dates")
    name, inner = change.entry.name, place.inner
    if portal.directory(db, name, inner, now=now) is None:
        if portal.newest(db, name, inner, now=now) is not None:
            raise NotDirectory(f"{place.path} is a file")
        raise missing(place.path)
    if not recursive:
        if not portal.is_empty(db, name, inner, now=now):
            raise NotEmpty(f"{place.path} has members")
        return []
    found = portal.below(db, name, inner, now=now, limit=MOST_REMOVED + 1)
    if len(found) > MOST_REMOVED:
        raise LimitError(f"{place.path} has more than {MOST_REMOVED} files")
    return found


def remove_directory(
    db: Connection, change: Change, place: Place, *, now: datetime, recursive: bool
) -> None:
    """Remove a directory; after its members were removed only made ones below it are left.

    Raises as `check_directory`, NotEmpty also when somebody added a file meanwhile.
    """
    name, inner = change.entry.name, place.inner
    if not recursive:
        check_directory(db, change, place, now=now, recursive=False)
    elif portal.below(db, name, inner, now=now, limit=1):
        raise NotEmpty(f"{place.path} has new members")
    portal.remove_directories(db, name, inner)


# --- delete ----------------------------------------------------------------------------------


def delete_file(db: Connection, change: Change, place: Place, *, now: datetime) -> list[int]:
    """Delete what a path names; return the transfers.  Raises NotFound or IsDirectory."""
    found = layouts.versions(db, change.entry, place.inner, now=now)
    if not found:
        if layouts.find(db, change.entry, place.inner, now=now) is None:
            raise missing(place.path)
        raise IsDirectory(f"{place.path} is a directory")
    return delete_entries(db, change, found, now=now)


def delete_entries(
    db: Connection, change: Change, found: Sequence[Entry], *, now: datetime
) -> list[int]:
    """Delete these transfers, and all of their files where the destination says so."""
    visitor = change.visitor
    numbers = [entry.transfer for entry in found]
    if change.entry.incoming.delete_cascade:
        numbers = [one.id for entry in found for one in transfers.of_file(db, entry.file)]
    comment = f"Deleted by DataUser={visitor.login} via {visitor.protocol.value}"
    for number in dict.fromkeys(numbers):
        delete_transfer(db, number, change.actor, change.teller, now=now, comment=comment)
    return list(dict.fromkeys(numbers))


# --- rename ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """One name that becomes another inside a destination."""

    change: Change
    old: Place
    new: Place
    replace: bool
    may: Callable[[str], bool]  # whether rename is granted on a path inside the destination
    snapshot: Snapshot


def rename(db: Connection, wanted: Rename, *, now: datetime) -> tuple[list[int], list[str]]:
    """Rename a file or directory; return the transfers and the destinations concerned.

    Raises NotFound, Exists, Unsupported (another date), NotDirectory, Denied, LimitError.
    """
    change, old, new = wanted.change, wanted.old, wanted.new
    found = layouts.versions(db, change.entry, old.inner, now=now)
    if found:
        return _rename_file(db, wanted, found, now=now)
    if layouts.find(db, change.entry, old.inner, now=now) is None:
        raise missing(old.path)
    if change.is_dated:
        raise Denied("directories of a destination by date are its product dates")
    if new.inner.startswith(f"{old.inner}/"):
        raise Unsupported(f"{new.path} lies inside {old.path}")
    return _rename_directory(db, wanted, now=now)


def _rename_file(
    db: Connection, wanted: Rename, found: Sequence[Entry], *, now: datetime
) -> tuple[list[int], list[str]]:
    change, old, new = wanted.change, wanted.old, wanted.new
    target = _new_target(change, old, new, found[-1])
    if new.inner == old.inner:
        return [], []
    _make_room(db, wanted, target, [entry.transfer for entry in found], now=now)
    touched: dict[int, str] = {}
    for entry in found:
        here = target if not change.is_dated else _beside(entry.target, target)
        touched |= _rename_one(db, wanted, entry, here, now=now)
    return list(touched), list(dict.fromkeys(touched.values()))


def _new_target(change: Change, old: Place, new: Place, entry: Entry) -> str:
    if not change.is_dated:
        return new.inner
    old_date, _, _ = old.inner.partition("/")
    new_date, slash, base = new.inner.partition("/")
    if not slash or "/" in base or new_date != old_date:
        raise Unsupported("a file of a destination by date stays in its date")
    return _beside(entry.target, base)


def _beside(target: str, base: str) -> str:
    parent = target.rpartition("/")[0]
    name = base.rpartition("/")[2]
    return f"{parent}/{name}" if parent else name


def _make_room(
    db: Connection, wanted: Rename, target: str, own: Sequence[int], *, now: datetime
) -> None:
    """Check that the new name is free, or free it when the client wants that."""
    change, new = wanted.change, wanted.new
    present = layouts.find(db, change.entry, new.inner, now=now)
    if isinstance(present, Directory):
        raise Exists(f"{new.path} is a directory")
    if present is not None and not wanted.replace:
        raise Exists(f"{new.path} exists")
    for parent in () if change.is_dated else paths.parents(new.inner):
        if portal.newest(db, change.entry.name, parent, now=now) is not None:
            raise NotDirectory(f"a part of {new.path} is a file")
    if present is not None:
        versions = layouts.versions(db, change.entry, new.inner, now=now)
        gone = [entry for entry in versions if entry.transfer not in own]
        delete_entries(db, change, gone, now=now)


def _rename_directory(
    db: Connection, wanted: Rename, *, now: datetime
) -> tuple[list[int], list[str]]:
    change, old, new = wanted.change, wanted.old, wanted.new
    name = change.entry.name
    if layouts.find(db, change.entry, new.inner, now=now) is not None:
        raise Exists(f"{new.path} exists")
    for parent in paths.parents(new.inner):
        if portal.newest(db, name, parent, now=now) is not None:
            raise NotDirectory(f"a part of {new.path} is a file")
    members = portal.below(db, name, old.inner, now=now, limit=MOST_RENAMED + 1)
    if len(members) > MOST_RENAMED:
        raise LimitError(f"{old.path} has more than {MOST_RENAMED} files")
    touched: dict[int, str] = {}
    for entry in members:
        target = new.inner + entry.target[len(old.inner) :]
        if not (wanted.may(entry.target) and wanted.may(target)):
            raise Denied(f"rename is not permitted for {entry.target}")
        touched |= _rename_one(db, wanted, entry, target, now=now)
    portal.move_directories(db, name, old.inner, new.inner)
    return list(touched), list(dict.fromkeys([name, *touched.values()]))


def _rename_one(
    db: Connection, wanted: Rename, entry: Entry, target: str, *, now: datetime
) -> dict[int, str]:
    """Rename one transfer and, of an original, its copies; return transfer to destination."""
    transfer = transfers.get(db, entry.transfer)
    if transfer is None or transfer.deleted or transfer.target != entry.target:
        raise Busy(f"{entry.target} changed meanwhile")
    if transfer.is_alias:  # the original elsewhere keeps its name and the key
        _set_target(db, wanted, transfer, target, key_target=None, now=now)
        return {transfer.id: transfer.destination}
    key = (transfer.destination, target, transfer.unique_name)
    others = [one for one in transfers.with_key(db, key) if one.data_file != transfer.data_file]
    if others:
        raise Exists(f"{target} belongs to another file")
    copies = _copies(wanted, transfer.destination, target, now)
    touched = {}
    for one in transfers.of_file(db, transfer.data_file):
        if one.id != transfer.id and not one.is_alias:
            continue
        here = target if one.id == transfer.id else copies.get(one.destination, one.target)
        _set_target(db, wanted, one, here, key_target=target, now=now)
        touched[one.id] = one.destination
    return touched


def _copies(wanted: Rename, destination: str, target: str, now: datetime) -> Mapping[str, str]:
    """Return the targets that the aliases give the new name; a rule that fails keeps the old."""
    try:
        found = alias_copies(destination, target, wanted.snapshot.alias_rules, now=now)
    except EcpdsError:
        return {}
    return {copy.destination: copy.target for copy in found}


def _set_target(
    db: Connection,
    wanted: Rename,
    transfer: Transfer,
    target: str,
    *,
    key_target: str | None,
    now: datetime,
) -> None:
    entry = wanted.snapshot.destinations.get(transfer.destination)
    temporary = entry is not None and is_temporary(entry, target)
    portal.rename_transfer(db, transfer.id, target, key_target, temporary=temporary, now=now)
    if target == transfer.target and temporary == transfer.temporary:
        return
    comment = f"Renamed from {transfer.target} to {target}"
    status = _status_after(transfer, entry, temporary=temporary)
    due = max(now, transfer.scheduled_at) if status is not transfer.status else transfer.due_at
    renamed = replace(
        transfer,
        target=target,
        identity=target if transfer.identity == transfer.target else transfer.identity,
        status=status,
        queue_at=due if status is S.WAIT and status is not transfer.status else transfer.queue_at,
        due_at=due,
        comment=comment,
    )
    transfers.save(db, renamed, now=now)
    history.drop_resume(db, transfer.id)
    history.step(
        db, transfer.id, transfer.destination, status, time=now,
        user=wanted.change.visitor.login, comment=comment,
    )  # fmt: skip
    if entry is not None and entry.notices is not None and target != transfer.target:
        entry.notices.renamed(db, transfer.target, renamed, status, now=now)


def _status_after(
    transfer: Transfer, entry: DestinationEntry | None, *, temporary: bool
) -> TransferStatus:
    """Return HOLD for a name that became temporary, WAIT for one that is final at last.

    One that is being sent is sent again under the new name; the caller ends the attempt.
    """
    status = transfer.status
    if temporary and not transfer.temporary and status in {S.WAIT, S.RETR, S.EXEC}:
        return S.HOLD
    if status is S.EXEC:
        return S.RETR
    if temporary or not transfer.temporary or status is not S.HOLD or entry is None:
        return status
    rule = entry.scheduler.standby
    is_held = rule != "never" and (rule == "yes" or entry.incoming.standby)
    return S.HOLD if is_held else S.WAIT
