"""What the end of an attempt changes in the store; each function runs in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.retry import after_failure, after_success
from ecpds.engine.telling import Teller
from ecpds.model.destination import KeepInSpool
from ecpds.model.host import HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import destinations, files, history, hosts, outgoing, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import Delivered, Partial

FINAL: Final = frozenset({"template", "missing-content"})  # reasons that no retry can help


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A transfer in EXEC with everything its attempt needs."""

    transfer: Transfer
    file: DataFile
    metadata: Mapping[str, str]
    entry: DestinationEntry
    host: HostEntry
    started_at: datetime
    resume: dict[str, Any] | None = None
    proxy: tuple[HostEntry, int] | None = None  # who sends it, and its number there


def protocol_of(claimed: Claimed) -> str:
    """Return the name of the module that a transfer goes with."""
    access = claimed.host.access
    return access.module.name if access else ""


def store_success(
    db: Connection,
    claimed: Claimed,
    delivered: Delivered,
    core: Core,
    teller: Teller,
    protocol: str,
    now: datetime,
) -> bool:
    """Store DONE and what follows from it; False when somebody changed the status meanwhile."""
    if not store_delivered(db, claimed, delivered, teller, protocol, now):
        return False
    settle_state(db, claimed.transfer, claimed.entry, core, now=now)
    return True


def store_delivered(
    db: Connection,
    claimed: Claimed,
    delivered: Delivered,
    teller: Teller,
    protocol: str,
    now: datetime,
) -> bool:
    """Store DONE; False when somebody changed the status meanwhile."""
    host, entry = claimed.host.host, claimed.entry
    took = delivered.finished_at - delivered.started_at
    comment = f"Sent {_amount(delivered, claimed.file.size)} to {host.host or host.name}"
    comment += f" at {delivered.path}"
    done = replace(
        claimed.transfer,
        status=TransferStatus.DONE,
        host=host.name,
        sent=delivered.sent,
        put_at=delivered.started_at,
        duration=took,
        comment=comment,
        started_at=claimed.transfer.started_at or claimed.started_at,
    )
    deleted = entry.destination.keep_in_spool is KeepInSpool.SUCCESS
    if not transfers.finish(db, done, now=now, deleted=deleted):
        return False
    history.step(
        db,
        done.id,
        entry.name,
        TransferStatus.DONE,
        time=now,
        host=host.name,
        sent=delivered.sent,
        duration=took,
        comment=comment,
    )
    _add_attempt(db, claimed, TransferStatus.DONE, delivered.sent, protocol, delivered, now=now)
    if claimed.resume is not None or done.attempts > 1:
        outgoing.done_resume(db, done.id, host.name)
        history.drop_resume(db, done.id)  # what is left at other hosts is removed there
    hosts.count(db, host.name, sent=delivered.sent, micros=took // timedelta(microseconds=1))
    history.add_rate(db, entry.name, delivered.sent, took, now=now)
    teller.delivered(
        db,
        done,
        claimed.file,
        entry,
        protocol=protocol,
        address=host.host,
        network=host.network_name,
        close=timedelta(0),
        now=now,
        delivered=delivered,
    )
    if entry.notices is not None:
        entry.notices.delivered(db, done, now=now)
    if claimed.host.notice is not None:
        claimed.host.notice.delivered(db, done, now=now)
    if deleted:
        files.mark_unused(db, claimed.file.id)
    return True


def _amount(delivered: Delivered, size: int) -> str:
    if not delivered.filters:
        return f"{delivered.sent} bytes"
    whole = delivered.resumed_at + delivered.sent
    share = f", {100 * whole / size:.1f} % of {size}" if size > 0 else ""
    return f"{delivered.sent} bytes ({delivered.filters}{share})"


def settle_state(
    db: Connection, done: Transfer, entry: DestinationEntry, core: Core, *, now: datetime
) -> None:
    """Store what a success means for its destination."""
    state = destinations.state(db, entry.name)
    if state is None:
        return
    candidates = [one.host for one in core.snapshot.hosts_of(entry.name, HostRole.DISSEMINATION)]
    decision = after_success(done, state, entry.destination, candidates)
    if decision.release_backlog:
        transfers.release_backlog(db, entry.name)
    if decision.state == state:
        destinations.set_ok(db, entry.name, done.id, now=now)
    else:
        changed = replace(decision.state, last_ok_at=now, last_ok_id=done.id)
        destinations.set_run(db, entry.name, changed)


def _add_attempt(
    db: Connection,
    claimed: Claimed,
    status: TransferStatus,
    sent: int,
    protocol: str,
    delivered: Delivered | None,
    *,
    now: datetime,
) -> None:
    history.add_attempt(
        db,
        history.Attempt(
            transfer=claimed.transfer.id,
            host=claimed.host.name,
            protocol=protocol,
            started_at=claimed.started_at,
            finished_at=now,
            status=status,
            size=claimed.file.size,
            sent=sent,
            requeue_history=claimed.transfer.requeue_history,
            peer=delivered.peer if delivered else "",
            path=delivered.path if delivered else "",
            statistics=delivered.statistics if delivered else {},
            filters=delivered.filters if delivered else "",
            resumed_at=delivered.resumed_at if delivered else 0,
        ),
    )


@dataclass(frozen=True, slots=True)
class Failed:
    """What follows from a failed attempt."""

    pause_until: datetime | None = None  # of the whole destination, the original's way
    is_final: bool = True  # no further attempt will come
    gave_up: bool = False  # the destination stops


def store_failure(
    db: Connection,
    claimed: Claimed,
    sent: int,
    reason: Reason,
    partial: Partial | None,
    core: Core,
    teller: Teller,
    protocol: str,
    now: datetime,
) -> Failed:
    """Store a failed attempt; return what follows from it."""
    present = transfers.get(db, claimed.transfer.id)
    if present is None:
        return Failed()
    host, entry = claimed.host.host, claimed.entry
    if claimed.resume is not None:
        outgoing.done_resume(db, present.id, host.name)
    _add_attempt(db, claimed, TransferStatus.STOP, sent, protocol, None, now=now)
    if present.status is not TransferStatus.EXEC:
        return Failed()  # stopped, held or replaced meanwhile: that decision stands
    gave_up = False
    failed = replace(present, host=host.name, sent=sent)
    state = destinations.state(db, entry.name)
    candidates = [one.host for one in core.snapshot.hosts_of(entry.name, HostRole.DISSEMINATION)]
    if state is None or reason.kind in FINAL:
        failed = replace(
            failed,
            status=TransferStatus.FAIL,
            reason=reason,
            comment=reason.text,
            failed_at=now,
            finished_at=now,
        )
        pause = None
    else:
        decision = after_failure(
            failed,
            state,
            entry.destination,
            candidates,
            reason,
            started_at=claimed.started_at,
            now=now,
        )
        failed, pause = decision.transfer, decision.pause_until
        destinations.set_run(db, entry.name, decision.state)
        gave_up = decision.gave_up
        if gave_up:
            text = f"gave up after {entry.destination.retry_count} rounds: {reason.text}"
            destinations.set_state(db, entry.name, StoredState.HOLD, reason=text)
    transfers.save(db, failed, now=now)
    history.step(
        db,
        failed.id,
        entry.name,
        failed.status,
        time=now,
        host=host.name,
        sent=sent,
        duration=now - claimed.started_at,
        comment=reason.text,
        error=True,
        reason=reason,
    )
    if failed.status is not TransferStatus.RETR:
        history.drop_resume(db, failed.id)
    elif partial is not None:
        history.put_resume(db, failed.id, host.name, asdict(partial), now=now)
    hosts.failed(db, host.name, reason.text)
    teller.failed(
        db,
        failed,
        claimed.file,
        entry,
        reason,
        protocol=protocol,
        address=host.host,
        network=host.network_name,
        login=host.login,
        started_at=claimed.started_at,
        now=now,
    )
    return Failed(pause, is_final=failed.status is not TransferStatus.RETR, gave_up=gave_up)
