"""What an upload, a download or a refusal leaves behind, each in one transaction.

Spec: portal.md 2.8 and 2.9; events.md (INH, DEA, LOG).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from ecpds.engine.core import DestinationEntry
from ecpds.engine.submit import Plan, PlannedTransfer, Registered, register
from ecpds.engine.telling import Teller
from ecpds.model.account import Protocol
from ecpds.model.destination import KeepInSpool
from ecpds.model.errors import Exists, PreconditionFailed
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import accounts, files, history, portal, transfers
from ecpds.store.codec import maybe_micros, to_micros
from ecpds.store.db import Connection
from ecpds.store.portal import Entry
from ecpds.vfs import layouts
from ecpds.vfs.limits import Quota
from ecpds.vfs.recorder import Memory
from ecpds.vfs.services import Visitor
from ecpds.vfs.tree import etag_of

T = TypeVar("T")

STAYING = frozenset({Protocol.FTP, Protocol.SFTP, Protocol.SCP, Protocol.MQTTS})
"""Protocols whose sessions last; of the others each request is one, and no LOG event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A finished upload, as far as it is not in its plan."""

    visitor: Visitor
    entry: DestinationEntry
    inner: str  # path as shown
    started_at: datetime
    exclusive: bool = False
    if_match: Sequence[str] = ()
    digests: Mapping[str, str] = field(default_factory=dict)  # verified ones, and `etag`
    quotas: tuple[Quota, ...] = ()
    was_parked: bool = False
    after: Callable[[Connection, int, int | None], None] | None = None  # file, instance


def register_upload(
    db: Connection, plan: Plan, upload: Upload, teller: Teller, *, now: datetime
) -> tuple[Registered, Entry]:
    """Make the content a file of its destinations, with history, event and quota.

    Raises as `submit.register`, and Exists or PreconditionFailed when the name is not as the client
    wants it to be.
    """
    visitor, entry = upload.visitor, upload.entry
    if upload.exclusive or upload.if_match:
        _check_present(db, upload, now)
    registered = register(db, plan, now=now)
    shown = _entry(db, plan, registered, now)
    if upload.digests:
        files.set_digests(db, registered.file, shown.instance, upload.digests)
        shown = shown._replace(etag=upload.digests.get("etag"))
    if upload.was_parked:
        files.unpark(db, visitor.login, entry.name, upload.inner)
    if upload.after is not None:
        upload.after(db, registered.file, shown.instance)
    size = plan.file.size
    for quota in upload.quotas:
        history.add_quota(db, (quota.holder,), quota.direction, size, now=now)
    if visitor.records_history:
        history.add_incoming(
            db, _incoming(visitor, shown, "upload", size, started_at=upload.started_at, now=now)
        )
    if visitor.records_events:
        first, file = plan.transfers[0], replace(plan.file, id=registered.file)
        _tell(
            db, teller, visitor, entry, _transfer(plan, first, shown), file, action="upload",
            sent=size, offset=0, error=None, started_at=upload.started_at, now=now,
        )  # fmt: skip
    return registered, shown


def _check_present(db: Connection, upload: Upload, now: datetime) -> None:
    found = layouts.find(db, upload.entry, upload.inner, now=now)
    present = found if isinstance(found, Entry) else None
    check_conditions(present, upload.inner, exclusive=upload.exclusive, if_match=upload.if_match)


def check_conditions(
    present: Entry | None, path: str, *, exclusive: bool, if_match: Sequence[str]
) -> None:
    """Raise Exists or PreconditionFailed unless the present file is what the client wants."""
    if exclusive and present is not None:
        raise Exists(f"{path} exists")
    if if_match and (present is None or not {"*", etag_of(present)} & set(if_match)):
        raise PreconditionFailed(f"{path} is another version")


def _entry(db: Connection, plan: Plan, registered: Registered, now: datetime) -> Entry:
    """Return the new entry; only a replaced one has to be read."""
    number = registered.transfers[0]
    if registered.updated:
        found = portal.by_id(db, number, now=now, embargo=False)
        if found is not None:
            return found
    first, file = plan.transfers[0], plan.file
    status = TransferStatus.HOLD if first.standby or plan.temporary else TransferStatus.WAIT
    visible = now if first.asap else first.scheduled_at
    return Entry(
        destination=first.destination,
        target=first.target,
        transfer=number,
        status=status.code,
        scheduled_us=to_micros(first.scheduled_at),
        visible_us=to_micros(visible),
        expires_us=to_micros(first.expires_at),
        base_us=maybe_micros(file.time_base),
        file=registered.file,
        instance=None,
        size=file.size,
        arrived_us=to_micros(file.arrived_at),
        source_us=maybe_micros(file.file_time),
        checksum=file.checksum,
        volume=file.volume,
        object_key=file.object_key,
        etag=None,
    )


def _transfer(plan: Plan, first: PlannedTransfer, shown: Entry) -> Transfer:
    return Transfer(
        id=shown.transfer,
        destination=first.destination,
        data_file=shown.file,
        target=first.target,
        identity=plan.identity,
        priority=first.priority,
        status=TransferStatus[shown.status],
        scheduled_at=first.scheduled_at,
        queue_at=shown.visible_at,
        due_at=shown.visible_at,
        expires_at=first.expires_at,
        created_at=shown.arrived_at,
        asap=first.asap,
        event=first.event,
    )


def _tell(
    db: Connection,
    teller: Teller,
    visitor: Visitor,
    entry: DestinationEntry,
    transfer: Transfer,
    file: DataFile,
    *,
    action: str,
    sent: int,
    offset: int,
    error: Reason | None,
    started_at: datetime,
    now: datetime,
) -> None:
    teller.incoming(
        db,
        transfer,
        file,
        entry,
        action=action,
        user=visitor.login,
        description=visitor.comment,
        country=visitor.country,
        kind="data",
        protocol=visitor.protocol.value,
        client=visitor.peer,
        sent=sent,
        offset=offset,
        error=error,
        started_at=started_at,
        now=now,
        trace=visitor.trace,
    )


def _incoming(
    visitor: Visitor,
    shown: Entry,
    action: str,
    count: int,
    *,
    started_at: datetime,
    now: datetime,
    error: Reason | None = None,
) -> history.Incoming:
    return history.Incoming(
        time=now,
        user=visitor.login,
        destination=shown.destination,
        transfer=shown.transfer,
        data_file=shown.file,
        file_name=shown.target,
        action=action,
        protocol=visitor.protocol.value,
        peer=visitor.peer,
        bytes=count,
        started_at=started_at,
        duration=max(now - started_at, timedelta(0)),
        outcome="failed" if error else "ok",
        comment=error.text if error else "",
    )


# --- downloads -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of one file that went out in one piece."""

    sent: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A download that ended, well or not."""

    visitor: Visitor
    entry: DestinationEntry
    shown: Entry
    parts: tuple[Part, ...]
    is_complete: bool  # every byte of the file went out
    error: Reason | None
    started_at: datetime
    ended_at: datetime
    quotas: tuple[Quota, ...] = ()

    @property
    def sent(self) -> int:
        """Return the bytes of all parts."""
        return sum(part.sent for part in self.parts)

    @property
    def took(self) -> timedelta:
        """Return how long it took."""
        return max(self.ended_at - self.started_at, timedelta(0))


def finish_download(db: Connection, download: Download, teller: Teller) -> None:
    """Do as `record_download`; a held transfer that was fetched as a whole is DONE."""
    transfer = transfers.get(db, download.shown.transfer)
    if transfer is not None:
        is_held = transfer.status is TransferStatus.HOLD and not transfer.deleted
        if is_held and download.is_complete and not download.error:
            took = download.took
            _finish(db, transfer, download, _download_comment(download, teller.node, took), took)
    record_download(db, {}, download, teller)


def record_download(db: Connection, memory: Memory, download: Download, teller: Teller) -> None:
    """Write history, event and quota; nothing that a client could see in its tree."""
    visitor, now = download.visitor, download.ended_at
    for quota in () if download.error else download.quotas:
        history.add_quota(db, (quota.holder,), quota.direction, download.sent, now=now)
    transfer = _remembered(memory, transfers.get, db, download.shown.transfer)
    if transfer is None:
        return
    took = download.took
    comment = _download_comment(download, teller.node, took)
    if visitor.records_history:
        _add_history(db, download, transfer, comment, took)
    if visitor.records_events:
        _tell_download(db, memory, download, transfer, teller)


def _remembered(
    memory: Memory, get: Callable[[Connection, int], T], db: Connection, number: int
) -> T:
    """Return a row that `get` reads, once for all downloads of one write."""
    key = (get.__module__, number)
    if key not in memory:
        memory[key] = get(db, number)
    found: T = memory[key]
    return found


def _download_comment(download: Download, node: str, took: timedelta) -> str:
    visitor = download.visitor
    done = (
        f"{download.sent} byte(s) downloaded by DataUser={visitor.login} from {visitor.peer} "
        f"using {visitor.protocol.value} on DataMover={node} ({rate_text(download.sent, took)})"
    )
    return f"{download.error.text} <- {done}" if download.error else done


def rate_text(count: int, took: timedelta) -> str:
    """Return megabits a second for people."""
    seconds = max(took.total_seconds(), 1e-6)
    return f"{count * 8 / seconds / 1e6:.2f} Mbits/s"


def _finish(
    db: Connection, transfer: Transfer, download: Download, comment: str, took: timedelta
) -> None:
    now = download.ended_at
    is_last = download.entry.destination.keep_in_spool is KeepInSpool.SUCCESS
    done = replace(
        transfer,
        status=TransferStatus.DONE,
        status_by="",
        reason=None,
        comment=comment,
        started_at=transfer.started_at or download.started_at,
        first_finish_at=transfer.first_finish_at or now,
        finished_at=now,
        put_at=download.started_at,
        duration=took,
        sent=download.sent,
        deleted=is_last,
    )
    transfers.save(db, done, now=now)
    if is_last:
        files.mark_unused(db, transfer.data_file)


def _add_history(
    db: Connection, download: Download, transfer: Transfer, comment: str, took: timedelta
) -> None:
    error, now = download.error, download.ended_at
    history.step(
        db,
        transfer.id,
        transfer.destination,
        TransferStatus.STOP if error else TransferStatus.DONE,
        time=now,
        sent=download.sent,
        duration=took,
        comment=comment,
        user=download.visitor.login,
        error=error is not None,
        reason=error,
    )
    row = _incoming(
        download.visitor, download.shown, "download", download.sent,
        started_at=download.started_at, now=now, error=error,
    )  # fmt: skip
    history.add_incoming(db, row)


def _tell_download(
    db: Connection, memory: Memory, download: Download, transfer: Transfer, teller: Teller
) -> None:
    file = _remembered(memory, files.get, db, transfer.data_file)
    if file is None:
        return
    parts = download.parts
    if download.visitor.last_range_only or not parts:
        first = parts[0].offset if parts else 0
        parts = (Part(sent=download.sent, offset=first),)
    for part in parts:
        _tell(
            db, teller, download.visitor, download.entry, transfer, file, action="download",
            sent=part.sent, offset=part.offset, error=download.error,
            started_at=download.started_at, now=download.ended_at,
        )  # fmt: skip


# --- logins ----------------------------------------------------------------------------------


def record_failed_upload(
    db: Connection,
    visitor: Visitor,
    destination: str,
    name: str,
    received: int,
    text: str,
    *,
    started_at: datetime,
    now: datetime,
) -> None:
    """Tell of an upload that came to nothing, or was parked."""
    history.add_incoming(
        db,
        history.Incoming(
            time=now,
            user=visitor.login,
            destination=destination,
            transfer=None,
            data_file=None,
            file_name=name,
            action="upload",
            protocol=visitor.protocol.value,
            peer=visitor.peer,
            bytes=received,
            started_at=started_at,
            duration=max(now - started_at, timedelta(0)),
            outcome="failed",
            comment=text,
        ),
    )


def record_denied(
    db: Connection, teller: Teller, visitor: Visitor, message: str, *, now: datetime
) -> None:
    """DEA: a login or an operation was refused."""
    teller.denied(
        db, user=visitor.login, message=message, protocol=visitor.protocol.value,
        peer=visitor.peer, now=now,
    )  # fmt: skip


def record_login(
    db: Connection, teller: Teller, visitor: Visitor, *, now: datetime, update: bool
) -> None:
    """LOG: somebody came; the last login of the user is remembered if it wants that."""
    if update:
        accounts.user_logged_in(db, visitor.login, visitor.peer, now=now)
    record_log(db, teller, visitor, "login", now=now)


def record_log(
    db: Connection, teller: Teller, visitor: Visitor, action: str, *, now: datetime
) -> None:
    """LOG: somebody came or went."""
    teller.plain(
        db,
        "LOG",
        now=now,
        user={"id": visitor.login, "kind": "data"},
        net={
            "protocol": visitor.protocol.value,
            "client": visitor.peer,
            "server": teller.node,
            "tls": None,
        },
        action=action,
        outcome="ok",
        trace=visitor.trace,
    )
