"""From an upload to a submission: the destination's `incoming.*` options applied to it.

Spec: portal.md 2.2, 2.7, 2.8, Ex 8, 10 to 15.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from ecpds.base.logs import get_logger
from ecpds.engine.core import DestinationEntry
from ecpds.engine.submit import Submission
from ecpds.engine.versions import expand_version, version_pieces
from ecpds.model.dates import DatePattern, milliseconds
from ecpds.model.errors import (
    Denied,
    InputError,
    IsDirectory,
    NotDirectory,
    NotFound,
    TooLarge,
    TooManyPending,
    Unsupported,
)
from ecpds.model.metadata import parse_metadata
from ecpds.model.rules import Policy, RuleSet, compile_regex
from ecpds.model.rulesettings import VERSION_TOKENS
from ecpds.model.targets import normal_target
from ecpds.model.tokens import DateParams
from ecpds.model.tokenvalues import Dates, render_pieces
from ecpds.objects.directory import ObjectDirectory, Stored
from ecpds.objects.upload import Upload, full
from ecpds.store import destinations, files, portal
from ecpds.store.db import Connection
from ecpds.store.portal import Directory, Entry
from ecpds.vfs import layouts, paths
from ecpds.vfs.layouts import DateRange, date_pattern
from ecpds.vfs.records import check_conditions, rate_text
from ecpds.vfs.services import Visitor
from ecpds.vfs.tree import Place

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Where an upload goes and what is known of it beforehand."""

    entry: DestinationEntry
    path: str  # as it will be shown
    inner: str  # the part of it inside the destination
    target: str
    time_base: datetime | None = None  # of a date directory that the client named
    mtime: datetime | None = None
    metadata: Mapping[str, str] | None = None
    exclusive: bool = False
    if_match: Sequence[str] = ()
    is_shared: bool = False  # others may write the name meanwhile (S3)

    @property
    def version(self) -> str:
        """Return what `incoming.version` says, as text with tokens."""
        return self.entry.incoming.version

    @property
    def is_temporary(self) -> bool:
        """Tell whether the name is a temporary one."""
        return is_temporary(self.entry, self.target)

    @property
    def lock_key(self) -> str | None:
        """Return what only one upload at a time may write; None when each is a version apart."""
        return None if self.is_shared or "$timestamp" in self.version.lower() else self.inner


@lru_cache(maxsize=256)
def _regex(text: str) -> re.Pattern[str]:
    return compile_regex(text)


def is_temporary(entry: DestinationEntry, target: str) -> bool:
    """Tell whether transfers of that target are held for their name.

    Raises RuleError for an imported expression that does not compile: the upload is refused.
    """
    given = entry.incoming
    return given.tmp_detect and _regex(given.tmp_pattern).fullmatch(target) is not None


def order_for(
    entry: DestinationEntry,
    path: str,
    inner: str,
    *,
    now: datetime,
    mtime: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    exclusive: bool = False,
    if_match: Sequence[str] = (),
    is_shared: bool = False,
) -> Order:
    """Return where a file of that path inside a destination is stored.

    Raises IsDirectory (the destination itself), InvalidName (no date, too deep or too long).
    """
    if not inner:
        raise IsDirectory(f"{path} is a directory")
    target, base, shown = inner, None, inner
    if entry.destination.group_by_date:
        target, base, shown = _dated(entry, path, inner, now)
    return Order(
        entry=entry, path=path.removesuffix(inner) + shown, inner=shown,
        target=normal_target(target), time_base=base, mtime=mtime, metadata=metadata,
        exclusive=exclusive, if_match=if_match, is_shared=is_shared,
    )  # fmt: skip


def _dated(
    entry: DestinationEntry, path: str, inner: str, now: datetime
) -> tuple[str, datetime | None, str]:
    """Return target, product date and the path shown: `f` is of today, `<date>/f` of that date."""
    pattern = date_pattern(entry.destination.date_format)
    date, slash, base = inner.partition("/")
    if not slash:
        return inner, None, f"{pattern.format(now)}/{inner}"
    if "/" in base:
        raise Denied(f"{path}: a destination by date has one level of directories")
    return base, DateRange.named(date, pattern).start, inner


def check_size(order: Order, size: int | None) -> None:
    """Raise TooLarge when the promised size is above the limit of the destination."""
    most = order.entry.destination.max_file_size
    if size is not None and most is not None and size > most:
        raise TooLarge(
            f"File exceeds maximum allowed size of {most} bytes for Destination "
            f"{order.entry.name}",
            size=size, limit=most,
        )  # fmt: skip


def check_target(place: Place) -> None:
    """Raise InvalidName for a path that no file or directory of a destination may have."""
    normal_target(place.inner)


def parked_length(objects: ObjectDirectory, volume: str, temporary: str) -> int:
    """Return the length of the temporary file of a parked upload, 0 if it is gone."""
    try:
        return (objects.volume(volume).temporary / Path(temporary).name).stat().st_size
    except (NotFound, OSError):
        return 0


def copy_content(objects: ObjectDirectory, content: Entry, upload: Upload) -> None:
    """Copy stored content into a new upload in the kernel; for the `disk` pool."""
    descriptor = objects.open(content.volume, content.object_key)
    try:
        done = 0
        while done < content.size:
            count = os.copy_file_range(
                descriptor, upload.descriptor, content.size - done, done, done
            )
            if not count:
                raise NotFound(f"the content of {content.target} is shorter than it was")
            done += count
    except OSError as error:
        raise full(error, upload.volume) from error
    finally:
        os.close(descriptor)
    upload.advance(content.size)


# --- what must hold before bytes are taken ---------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the store knows of the name."""

    present: Entry | None
    parked: tuple[str, str, int] | None  # volume, temporary name, length


def prepare(
    db: Connection,
    order: Order,
    login: str,
    *,
    now: datetime,
    offset: int,
    both: bool,
    may_make: bool | None,
) -> Prepared:
    """Look whether the upload may begin.

    `may_make`: whether a missing directory is made; None means that it must be there.  `both`: a
    file and a directory of one name may stand side by side.  Raises Exists, PreconditionFailed,
    IsDirectory, NotDirectory, NotFound, Denied, TooManyPending, Unsupported (nothing parked).
    """
    entry = order.entry
    present = _present(db, order, now)
    check_conditions(present, order.path, exclusive=order.exclusive, if_match=order.if_match)
    if present is None:
        _check_pending(db, entry)
    if not entry.destination.group_by_date:
        _check_name(db, order, present, now=now, both=both)
        _check_parent(db, order, now=now, may_make=may_make)
    parked = files.parked(db, login, entry.name, order.inner)
    if offset and (parked is None or parked[2] < offset):
        raise Unsupported("Offset not supported: there is no parked upload of that length")
    return Prepared(present=present, parked=parked)


def _present(db: Connection, order: Order, now: datetime) -> Entry | None:
    entry = order.entry
    if not entry.destination.group_by_date:
        return portal.newest(db, entry.name, order.target, now=now)
    found = layouts.find(db, entry, order.inner, now=now)
    return None if isinstance(found, Directory) else found


def _check_pending(db: Connection, entry: DestinationEntry) -> None:
    most = entry.destination.max_pending
    if most and destinations.pending(db, entry.name) >= most:
        raise TooManyPending(
            f"Destination {entry.name} has {most} pending DataTransfer(s) (limit is {most})"
        )


def _check_name(
    db: Connection, order: Order, present: Entry | None, *, now: datetime, both: bool
) -> None:
    if both:
        return
    name = order.entry.name
    if present is None and portal.directory(db, name, order.target, now=now) is not None:
        raise IsDirectory(f"{order.path} is a directory")
    for parent in paths.parents(order.target):
        if portal.newest(db, name, parent, now=now) is not None:
            raise NotDirectory(f"a part of {order.path} is a file")


def _check_parent(db: Connection, order: Order, *, now: datetime, may_make: bool | None) -> None:
    parent = order.target.rpartition("/")[0]
    if may_make or not parent:
        return
    if portal.directory(db, order.entry.name, parent, now=now) is not None:
        return
    if may_make is None:
        raise NotFound(f"the directory of {order.path} is not there")
    raise Denied("mkdir is not permitted")


# --- the submission --------------------------------------------------------------------------


def submission_of(
    order: Order,
    visitor: Visitor,
    content: Stored,
    *,
    node: str,
    took: timedelta,
    now: datetime,
    rules: str | InputError | None = None,
) -> Submission:
    """Return what is to be registered; raises InputError for metadata that fail.

    `rules` is what the script of `incoming.metadata` gave, or how it failed.
    """
    entry = order.entry
    given = entry.incoming
    unique = _version(order, now)
    return Submission(
        destination=entry.name,
        target=order.target,
        original=order.target,
        content=content,
        file_time=order.mtime,
        time_base=order.time_base or now,
        metadata=_metadata(order, now, rules),
        priority=given.priority,
        lifetime=given.lifetime,
        delay=given.delay,
        standby=given.standby,
        temporary=order.is_temporary,
        event=given.event,
        version=None if unique is None else "",
        unique_name=unique,
        on_duplicate="overwrite",
        submitter=visitor.login,
        submitted_from=visitor.peer,
        comment=(
            f"{content.size} byte(s) uploaded by DataUser={visitor.login} from {visitor.peer} "
            f"using {visitor.protocol.value} on DataMover={node} ({rate_text(content.size, took)})"
        ),
    )


def _version(order: Order, now: datetime) -> str | None:
    """Return the version part of the unique key, None to leave it to `scheduler.version`."""
    entry = order.entry
    if order.version:
        return expand_version(
            version_pieces(order.version, legacy="incoming.version" in entry.destination.legacy),
            destination=entry.name,
            target=order.target,
            original=order.target,
            file_time=order.mtime,
            date_format=entry.incoming.date_format,
            now=now,
        )
    if entry.destination.group_by_date and not entry.scheduler.version:
        return order.inner.partition("/")[0]  # else today's file would replace yesterday's
    return None


def _metadata(order: Order, now: datetime, rules: str | InputError | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if order.time_base is not None:
        found["date"] = f"{order.time_base:%Y%m%d%H}"
    if order.entry.incoming.metadata:
        try:
            if isinstance(rules, InputError):
                raise rules
            found |= _rendered(order, now, rules)
        except InputError as error:
            if order.entry.incoming.fail_on_metadata:
                raise
            log.warning(
                "metadata of an upload fail", destination=order.entry.name, target=order.target,
                reason=error.message,
            )  # fmt: skip
    return found | dict(order.metadata or {})


@lru_cache(maxsize=256)
def _rules(text: str, *, legacy: bool) -> RuleSet:
    """Compile rules of metadata; imported ones score as selectors of old did."""
    policy = Policy.MOST if legacy else Policy.FIRST
    return RuleSet.parse(text, policy=policy, vocabulary=VERSION_TOKENS, legacy=legacy)


def _rendered(order: Order, now: datetime, rules: str | None) -> dict[str, str]:
    values = metadata_values(order, now)
    text = order.entry.incoming.metadata if rules is None else rules
    legacy = "incoming.metadata" in order.entry.destination.legacy
    chosen = _rules(text, legacy=legacy).choose(order.target, values)
    if chosen is None:
        return {}
    dates = metadata_dates(order, now)
    pieces = version_pieces(chosen.rule.result, legacy=legacy)
    return parse_metadata(render_pieces(pieces, values, dates))


def metadata_values(order: Order, now: datetime) -> dict[str, str]:
    """Return the values of `incoming.metadata`, by token."""
    return {
        "timestamp": str(milliseconds(now)),
        "destination": order.entry.name,
        "target": order.target,
        "original": order.target,
        "timefile": str(milliseconds(order.mtime)) if order.mtime else "0",
    }


def metadata_dates(order: Order, now: datetime) -> Dates:
    """Return what date tokens of `incoming.metadata` need."""
    pattern = DatePattern.parse(order.entry.incoming.date_format)
    return Dates(now=now, defaults={"date": DateParams(dateformat=pattern)})
