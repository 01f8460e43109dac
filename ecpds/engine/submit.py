"""From a submission to a DataFile and its Transfers: plan in the loop, register in one transaction.

`plan` is pure: options, rules, aliases and times of the configuration as it is.  `register` looks
for duplicates and writes; all doors (portals, API, command line, acquisition) come through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from ecpds.engine.core import DestinationEntry, Snapshot
from ecpds.engine.notices import NoticeRule
from ecpds.engine.versions import key_of
from ecpds.model.errors import (
    BadState,
    Busy,
    Duplicate,
    Expired,
    InputError,
    RuleError,
    TooLarge,
    TooManyPending,
)
from ecpds.model.metadata import check_metadata, product_of
from ecpds.model.rulesettings import Copy, ForceSettings, alias_copies
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.targets import normal_target
from ecpds.model.tokens import Pieces
from ecpds.model.transfer import DataFile, Transfer
from ecpds.objects.directory import Stored
from ecpds.store import destinations, files, history, transfers
from ecpds.store.db import Connection

OnDuplicate = Literal["fail", "overwrite", "skip", "failed_only"]
DEFAULT_LIFETIME = timedelta(days=2)
DEFAULT_PRIORITY = 99
MOST_COPIES = 100  # destinations that one submission may reach by aliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody wants to be stored and sent; None means the default of the destination."""

    destination: str
    target: str
    original: str = ""
    source: str = ""
    content: Stored | None = None  # None: to be fetched later
    size: int = -1
    file_time: datetime | None = None
    time_base: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    lifetime: timedelta | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    standby: bool = False
    temporary: bool = False  # held because of its temporary name
    event: bool | None = None
    asap: bool = False
    no_retrieval: bool = False
    version: str | None = None
    unique_name: str | None = None  # the acquisition rules' own version part
    identity: str = ""
    group_by: str = ""
    transfer_group: str = ""  # storage group
    is_list: bool = False  # the source lists the files whose contents become one
    host: str = ""  # acquisition or source host
    delete_original: bool = False
    on_duplicate: OnDuplicate = "fail"
    submitter: str = ""
    submitted_from: str = ""
    caller: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTransfer:
    """One transfer to be made."""

    destination: str
    target: str
    priority: int
    scheduled_at: datetime
    expires_at: datetime
    standby: bool
    asap: bool
    event: bool
    is_alias: bool
    max_pending: int
    is_stopped: bool = False  # `scheduler.forceStop`
    notices: NoticeRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `register` writes."""

    key: tuple[str, str, str]
    file: DataFile
    metadata: Mapping[str, str]
    transfers: tuple[PlannedTransfer, ...]
    identity: str
    on_duplicate: OnDuplicate
    temporary: bool
    no_retrieval: bool
    comment: str
    fetched: bool = False  # the content was fetched by the discovery itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What `register` did."""

    file: int
    transfers: tuple[int, ...]
    updated: bool = False
    skipped: bool = False
    destinations: tuple[str, ...] = ()
    expires_at: datetime | None = None  # of the first of the transfers that does


def plan(submission: Submission, snapshot: Snapshot, now: datetime) -> Plan:
    """Return what the submission leads to.

    Raises NotFound (destination), InvalidName, InputError (metadata, priority), TooLarge, Expired.
    """
    entry = snapshot.destination(submission.destination)
    target = normal_target(
        submission.target, source=submission.source or submission.original or submission.target
    )
    check_metadata(submission.metadata)
    if entry.problems:
        _check_problems(entry)
    forced = entry.forced(target)
    settings = _Settings.of(submission, entry, forced)
    size = submission.content.size if submission.content else submission.size
    product = product_of(
        submission.metadata, file_time=submission.time_base or submission.file_time, now=now
    )
    version: str | Pieces = entry.version_rule(forced)
    if submission.version is not None:
        version = submission.version
    key = key_of(
        entry.name,
        target,
        unique_name=submission.unique_name or "",
        version=version,
        original=submission.original or submission.source,
        file_time=submission.file_time,
        date_format=entry.scheduler.date_format,
        now=now,
    )
    file = DataFile(
        id=0,
        original=submission.original or submission.source or target,
        source=submission.source,
        size=size,
        arrived_at=now,
        file_time=submission.file_time,
        time_base=product.time_base,
        time_step=product.time_step,
        meta_stream=product.stream,
        meta_target=product.target,
        meta_time=product.time,
        meta_type=product.type,
        group_by=submission.group_by,
        host=submission.host,
        stored=submission.content is not None,
        standby=submission.standby,
        delete_original=submission.delete_original,
        caller=submission.caller,
        submitter=submission.submitter,
        submitted_from=submission.submitted_from,
        checksum=submission.content.checksum if submission.content else "",
        volume=submission.content.volume if submission.content else "",
        object_key=submission.content.key if submission.content else "",
        file_count=0 if submission.is_list else 1,
        transfer_group=_group(submission, entry, forced),
    )
    planned = _with_copies(submission, snapshot, entry, target, settings, size, now)
    return Plan(
        key=key,
        file=file,
        metadata=dict(submission.metadata),
        transfers=tuple(planned),
        identity=submission.identity or target,
        on_duplicate=submission.on_duplicate,
        temporary=submission.temporary,
        no_retrieval=settings.no_retrieval,
        comment=submission.comment,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """Values of one submission after the destination's rules, in the order of schedulers.md 6."""

    lifetime: timedelta
    delay: timedelta
    standby: bool
    asap: bool
    event: bool
    no_retrieval: bool
    priority: int

    @classmethod
    def of(
        cls, submission: Submission, entry: DestinationEntry, forced: ForceSettings
    ) -> _Settings:
        """Merge submission, `scheduler.*` options and `scheduler.force` rules."""
        rules = entry.scheduler
        lifetime = forced.lifetime or rules.lifetime or submission.lifetime or DEFAULT_LIFETIME
        delay = (submission.delay or timedelta(0)) + (forced.delay or rules.delay or timedelta(0))
        priority = DEFAULT_PRIORITY if submission.priority is None else submission.priority
        if not 0 <= priority <= 99:
            raise InputError(f"priority {priority} is not in 0..99", pointer="priority")
        return cls(
            lifetime=lifetime,
            delay=delay,
            standby=_standby(submission.standby, forced.standby or rules.standby),
            asap=_first(forced.asap, rules.asap, submission.asap),
            event=_first(submission.event, entry.incoming.event),
            no_retrieval=_first(forced.no_retrieval, rules.no_retrieval, submission.no_retrieval),
            priority=priority,
        )


def _check_problems(entry: DestinationEntry) -> None:
    """Refuse what an imported rule that cannot be read would have decided about."""
    for name, text in entry.problems.items():
        if name == "scheduler.force" or name.startswith("aliases."):
            raise RuleError(f"Destination {entry.name}, {name}: {text}")


def _first(*values: bool | None) -> bool:
    return next((value for value in values if value is not None), False)


def _standby(asked: bool, rule: str) -> bool:
    if rule == "never":
        return False
    return asked or rule == "yes"


def standby_after(file: DataFile, one: Transfer, entry: DestinationEntry | None) -> bool:
    """Tell whether a transfer is held once its content is there, by the rules of its destination.

    `scheduler.force` of a destination says nothing of copies that aliases made.
    """
    if entry is None:
        return file.standby
    forced = None if one.is_alias or entry.force is None else entry.forced(one.target).standby
    return _standby(file.standby, forced or entry.scheduler.standby)


def storage_group(entry: DestinationEntry, target: str) -> str:
    """Return the storage group of what is about to come to a destination under that name."""
    group = entry.scheduler.transfer_group or entry.destination.transfer_group
    return group if entry.force is None else entry.forced(target).transfer_group or group


def _group(submission: Submission, entry: DestinationEntry, forced: ForceSettings) -> str:
    """Return the storage group of a new file."""
    return (
        forced.transfer_group
        or entry.scheduler.transfer_group
        or submission.transfer_group
        or entry.destination.transfer_group
    )


def _with_copies(
    submission: Submission,
    snapshot: Snapshot,
    entry: DestinationEntry,
    target: str,
    settings: _Settings,
    size: int,
    now: datetime,
) -> list[PlannedTransfer]:
    start = (submission.at or now) + settings.delay
    expires = start + settings.lifetime
    if expires <= now:  # what rules say is ignored when it is over already
        asked = submission.lifetime or DEFAULT_LIFETIME
        start = start if submission.at is not None else max(start, now)
        expires = start + asked
    if expires <= now:
        raise Expired(f"The request has already expired at {expires:%Y-%m-%d %H:%M:%S}")
    first = PlannedTransfer(
        destination=entry.name,
        target=target,
        priority=settings.priority,
        scheduled_at=start,
        expires_at=expires,
        standby=settings.standby,
        asap=settings.asap,
        event=settings.event,
        is_alias=False,
        max_pending=entry.destination.max_pending,
        is_stopped=entry.scheduler.force_stop and entry.state is StoredState.STOP,
        notices=entry.notices,
    )
    _check_size(entry, size)
    found = [first]
    for copy in alias_copies(entry.name, target, snapshot.alias_rules, now=now):
        there = snapshot.destinations.get(copy.destination)
        if there is None:
            continue
        if len(found) > MOST_COPIES:
            raise InputError(f"more than {MOST_COPIES} copies by aliases")
        _check_size(there, size)
        found.append(_copy(copy, there, first, asked=submission.standby))
    return found


def _copy(
    copy: Copy, there: DestinationEntry, first: PlannedTransfer, *, asked: bool
) -> PlannedTransfer:
    settings = copy.settings
    start = first.scheduled_at + settings.delay
    lifetime = settings.lifetime or (first.expires_at - first.scheduled_at)
    return PlannedTransfer(
        destination=copy.destination,
        target=copy.target,
        priority=first.priority if settings.priority is None else settings.priority,
        scheduled_at=start,
        expires_at=start + lifetime,
        standby=_standby(asked, there.scheduler.standby),
        asap=_first(settings.asap, first.asap),
        event=_first(settings.event, first.event),
        is_alias=True,
        max_pending=there.destination.max_pending,
        is_stopped=there.scheduler.force_stop and there.state is StoredState.STOP,
        notices=there.notices,
    )


def _check_size(entry: DestinationEntry, size: int) -> None:
    most = entry.destination.max_file_size
    if most is not None and size > most:
        raise TooLarge(
            f"File exceeds maximum allowed size of {most} bytes for Destination {entry.name}",
            size=size,
            limit=most,
        )


def register(db: Connection, plan: Plan, *, now: datetime) -> Registered:
    """Write the plan: new file and transfers, or new content for the ones found by the key.

    Raises Duplicate, Busy, BadState (several files), TooManyPending.  Runs in one transaction.
    """
    existing = transfers.with_key(db, plan.key)
    if not existing:
        return _create(db, plan, now=now)
    numbers = {transfer.data_file for transfer in existing}
    if len(numbers) > 1:
        raise BadState(f"{len(numbers)} data files found for {plan.key[1]}, name one by its id")
    number = numbers.pop()
    if plan.on_duplicate == "skip":
        return _skipped(number, existing)
    if plan.on_duplicate == "failed_only":
        failed = [t for t in existing if t.status is TransferStatus.FAIL]
        return _replace(db, plan, number, failed, now=now) if failed else _skipped(number, existing)
    if plan.on_duplicate == "overwrite":
        return _replace(db, plan, number, existing, now=now)
    raise Duplicate(
        f"Duplicate DataFile found with {len(existing)} DataTransfer(s) (DataFileId={number})",
        data_file=number,
        transfers=[transfer.id for transfer in existing],
    )


def _skipped(number: int, existing: Sequence[Transfer]) -> Registered:
    ids = tuple(transfer.id for transfer in existing)
    return Registered(file=number, transfers=ids, skipped=True)


def _check_pending(db: Connection, plan: Plan) -> None:
    for one in plan.transfers:
        if one.max_pending and destinations.pending(db, one.destination) >= one.max_pending:
            raise TooManyPending(
                f"Destination {one.destination} has {one.max_pending} pending DataTransfer(s) "
                f"(limit is {one.max_pending})"
            )


def status_of(plan: Plan, one: PlannedTransfer, *, replaced: bool = False) -> TransferStatus:
    """Return the status in which a planned transfer begins."""
    if one.is_stopped:
        return TransferStatus.STOP
    if not plan.file.stored and not plan.no_retrieval:
        return TransferStatus.SCHE
    if one.standby or plan.temporary:
        return TransferStatus.HOLD
    return TransferStatus.RETR if replaced else TransferStatus.WAIT


def _queue_at(plan: Plan, one: PlannedTransfer, now: datetime) -> datetime:
    return now if one.asap and plan.file.stored else one.scheduled_at


def _create(db: Connection, plan: Plan, *, now: datetime) -> Registered:
    _check_pending(db, plan)
    number = files.insert(db, plan.file, plan.metadata)
    if plan.file.is_list:
        files.set_file_count(db, number, 0)
    if plan.file.transfer_group:
        files.set_group(db, number, plan.file.transfer_group)
    ids = [_add(db, plan, number, one, now=now) for one in plan.transfers]
    return Registered(
        file=number,
        transfers=tuple(ids),
        destinations=tuple(one.destination for one in plan.transfers),
        expires_at=min(one.expires_at for one in plan.transfers),
    )


def _add(db: Connection, plan: Plan, number: int, one: PlannedTransfer, *, now: datetime) -> int:
    status = status_of(plan, one)
    new = transfers.NewTransfer(
        destination=one.destination,
        data_file=number,
        target=one.target,
        key=plan.key,
        identity=plan.identity if not one.is_alias else one.target,
        priority=one.priority,
        status=status,
        scheduled_at=one.scheduled_at,
        queue_at=_queue_at(plan, one, now),
        expires_at=one.expires_at,
        comment=plan.comment,
        asap=one.asap,
        event=one.event,
        temporary=plan.temporary,
        is_alias=one.is_alias,
    )
    added = transfers.insert(db, new, now=now)
    shown = TransferStatus.SCHE if plan.fetched else status
    history.step(db, added, one.destination, shown, time=now, comment=plan.comment)
    if one.notices is not None:
        _notice(db, plan, one, one.notices, added, replaced=False, now=now)
    return added


def _notice(
    db: Connection,
    plan: Plan,
    one: PlannedTransfer,
    rule: NoticeRule,
    number: int,
    *,
    replaced: bool,
    now: datetime,
) -> None:
    """Note that content has arrived, unless it is still to be fetched or its name is temporary."""
    if plan.file.stored and not plan.temporary:
        status = status_of(plan, one, replaced=replaced)
        rule.arrived(
            db, number, one.target, status, replaced=replaced, flagged=one.event,
            expires_at=one.expires_at, now=now,
        )  # fmt: skip


def _replace(
    db: Connection, plan: Plan, number: int, found: Sequence[Transfer], *, now: datetime
) -> Registered:
    """Reuse file and transfers: instance + 1, the copies are planned again by today's aliases."""
    before = files.get(db, number)
    if before is None or before.deleted:
        raise Busy("the file is being removed, try again")
    files.replace_content(db, replace(plan.file, id=number), plan.metadata, now=now)
    if plan.file.is_list is not before.is_list:
        files.set_file_count(db, number, plan.file.file_count)
    by_destination = {transfer.destination: transfer for transfer in found}
    ids = []
    for one in plan.transfers:
        old = by_destination.pop(one.destination, None)
        if old is None:
            if plan.on_duplicate != "failed_only":
                ids.append(_add(db, plan, number, one, now=now))
            continue
        ids.append(_reset(db, plan, one, old, now=now))
    for stale in by_destination.values():  # an alias that applies no more keeps the new content
        transfers.save(db, _reset_values(stale, plan, None, now), now=now)
        ids.append(stale.id)
    return Registered(
        file=number,
        transfers=tuple(ids),
        updated=True,
        destinations=tuple(transfer.destination for transfer in found),
        expires_at=min(one.expires_at for one in plan.transfers),
    )


def _reset(
    db: Connection, plan: Plan, one: PlannedTransfer, old: Transfer, *, now: datetime
) -> int:
    changed = _reset_values(old, plan, one, now)
    transfers.save(db, changed, now=now)
    history.drop_resume(db, old.id)
    comment = plan.comment or "content replaced"
    history.step(db, old.id, old.destination, changed.status, time=now, comment=comment)
    if one.notices is not None:
        _notice(db, plan, one, one.notices, old.id, replaced=True, now=now)
    return old.id


def _reset_values(
    old: Transfer, plan: Plan, one: PlannedTransfer | None, now: datetime
) -> Transfer:
    fresh = replace(
        old,
        status_by="",
        reason=None,
        comment=plan.comment,
        start_count=0,
        requeue_count=0,
        requeue_history=0,
        sent=0,
        started_at=None,
        finished_at=None,
        failed_at=None,
        put_at=None,
        duration=None,
        host="",
    )
    if one is None:
        status = TransferStatus.RETR if plan.file.stored else TransferStatus.SCHE
        held = old.status is TransferStatus.HOLD and plan.file.stored
        return replace(fresh, status=TransferStatus.HOLD if held else status, due_at=now)
    queue_at = _queue_at(plan, one, now)
    return replace(
        fresh,
        status=status_of(plan, one, replaced=True),
        target=one.target,
        priority=one.priority,
        scheduled_at=one.scheduled_at,
        queue_at=queue_at,
        due_at=queue_at,
        expires_at=one.expires_at,
        asap=one.asap,
        event=one.event,
    )


def is_temporary(pattern: str, target: str) -> bool:
    """Tell whether a target has a temporary name (portal.md 2.7)."""
    return re.fullmatch(pattern, target) is not None
