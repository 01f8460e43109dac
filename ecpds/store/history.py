"""What happened: steps of transfers, attempts, portal uploads and downloads, events, audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ecpds.model.status import TransferStatus
from ecpds.model.transfer import HistoryRow, Reason
from ecpds.store.codec import (
    dump,
    dump_reason,
    from_micros,
    length,
    load,
    load_reason,
    maybe_length,
    maybe_micros,
    maybe_time,
    to_micros,
)
from ecpds.store.db import Connection, Row, statement
from ecpds.store.gather import Sums, add_row, add_sum, rows

HOUR = 3_600_000_000  # microseconds
STEP = rows(
    "transfer_history", "transfer", "destination", "time", "status", "host", "sent", "duration",
    "comment", "user", "error", "reason",
)  # fmt: skip
STEPS = statement(
    "SELECT * FROM transfer_history WHERE transfer = :transfer ORDER BY id LIMIT :limit", hot=True
)
RECENT_STEPS = statement("""
    SELECT * FROM transfer_history WHERE id < :before
      AND (:destination IS NULL OR destination = :destination)
      AND (:errors IS NULL OR error = :errors)
    ORDER BY id DESC LIMIT :limit""")
RECENT_ERRORS = statement(
    """
    SELECT * FROM transfer_history INDEXED BY transfer_history_error
    WHERE error = 1 AND id < :before AND (:destination IS NULL OR destination = :destination)
    ORDER BY id DESC LIMIT :limit""",
    hot=True,
)
ATTEMPT = rows(
    "attempt", "transfer", "host", "protocol", "started_at", "finished_at", "status", "size",
    "sent", "requeue_history", "peer", "path", "statistics", "filters", "resumed_at",
)  # fmt: skip
ADD_HOUR = statement(
    """
    INSERT INTO host_hour (host, hour, files, bytes, failed, duration)
    VALUES (:host, :hour, :files, :bytes, :failed, :duration)
    ON CONFLICT (host, hour) DO UPDATE SET
        files = files + excluded.files, bytes = bytes + excluded.bytes,
        failed = failed + excluded.failed, duration = duration + excluded.duration""",
    hot=True,
)
HOST_HOUR = Sums(ADD_HOUR, ("host", "hour"), ("files", "bytes", "failed", "duration"))
ATTEMPTS = statement("SELECT * FROM attempt WHERE transfer = :transfer ORDER BY id", hot=True)
CONNECTIONS = statement(
    """
    SELECT * FROM attempt INDEXED BY attempt_time
    WHERE started_at >= :since AND host = :host AND statistics != ''
    ORDER BY started_at DESC LIMIT :limit""",
    hot=True,
)
PUT_RESUME = statement("""
    INSERT INTO resume_record (transfer, host, record, updated_at)
    VALUES (:transfer, :host, :record, :now)
    ON CONFLICT (transfer, host) DO UPDATE SET
        record = excluded.record, updated_at = excluded.updated_at""")
RESUME = statement(
    "SELECT record FROM resume_record WHERE transfer = :transfer AND host = :host", hot=True
)
DROP_RESUME = statement("DELETE FROM resume_record WHERE transfer = :transfer", hot=True)
INCOMING_ROW = rows(
    "incoming_history", "time", "user", "destination", "transfer", "data_file", "file_name",
    "action", "protocol", "peer", "bytes", "started_at", "duration", "outcome", "comment",
)  # fmt: skip
INCOMING = statement("""
    SELECT * FROM incoming_history WHERE id < :before AND (:user IS NULL OR user = :user)
    ORDER BY id DESC LIMIT :limit""")
EVENT = rows("event", "uid", "time", "type", "record")
UNWRITTEN = statement(
    "SELECT id, record FROM event WHERE written = 0 ORDER BY id LIMIT :limit", hot=True
)
WRITTEN = statement("UPDATE event SET written = 1 WHERE id <= :id AND written = 0", hot=True)
EVENTS = statement("""
    SELECT id, record FROM event WHERE id < :before AND (:type IS NULL OR type = :type)
    ORDER BY id DESC LIMIT :limit""")
ADD_AUDIT = statement("""
    INSERT INTO audit (time, actor, peer, action, object_type, object_name, difference, outcome,
        comment)
    VALUES (:time, :actor, :peer, :action, :object_type, :object_name, :difference, :outcome,
        :comment)""")
AUDIT = statement("""
    SELECT * FROM audit WHERE id < :before
      AND (:object_type IS NULL OR object_type = :object_type)
      AND (:object_name IS NULL OR object_name = :object_name)
    ORDER BY id DESC LIMIT :limit""")
PURGE_STEPS = statement("DELETE FROM transfer_history WHERE time < :before")
PURGE_ATTEMPTS = statement("DELETE FROM attempt WHERE started_at < :before")
PURGE_HOURS = statement("DELETE FROM host_hour WHERE hour < :before")
PURGE_EMPTY = statement("DELETE FROM stored_hour WHERE files = 0 AND hour < :before")
PURGE_INCOMING = statement("DELETE FROM incoming_history WHERE time < :before")
PURGE_EVENTS = statement("DELETE FROM event WHERE time < :before AND written = 1")
ADD_QUOTA = statement(
    """
    INSERT INTO quota_bucket (holder, direction, minute, bytes)
    VALUES (:holder, :direction, :minute, :bytes)
    ON CONFLICT (holder, direction, minute) DO UPDATE SET bytes = bytes + excluded.bytes""",
    hot=True,
)
QUOTA_USE = Sums(ADD_QUOTA, ("holder", "direction", "minute"), ("bytes",))
QUOTA = statement(
    """
    SELECT COALESCE(SUM(bytes), 0) AS used FROM quota_bucket
    WHERE holder = :holder AND direction = :direction AND minute > :since""",
    hot=True,
)
PURGE_QUOTA = statement("DELETE FROM quota_bucket WHERE minute < :before")
ADD_RATE = statement(
    """
    INSERT INTO daily_rate (destination, day, bytes, duration, files)
    VALUES (:destination, :day, :bytes, :duration, :files)
    ON CONFLICT (destination, day) DO UPDATE SET
        bytes = bytes + excluded.bytes, duration = duration + excluded.duration,
        files = files + excluded.files""",
    hot=True,
)
RATE = Sums(ADD_RATE, ("destination", "day"), ("bytes", "duration", "files"))
SET_CLOCK = statement("""
    INSERT INTO acquisition_clock
        (destination, host, started_at, finished_at, listed, selected, outcome, message)
    VALUES (:destination, :host, :started_at, :finished_at, :listed, :selected, :outcome, :message)
    ON CONFLICT (destination, host) DO UPDATE SET
        started_at = excluded.started_at, finished_at = excluded.finished_at,
        listed = excluded.listed, selected = excluded.selected, outcome = excluded.outcome,
        message = excluded.message""")
CLOCK = statement(
    "SELECT * FROM acquisition_clock WHERE destination = :destination AND host = :host", hot=True
)


def step(
    db: Connection,
    transfer: int,
    destination: str,
    status: TransferStatus,
    *,
    time: datetime,
    host: str = "",
    sent: int = 0,
    duration: timedelta | None = None,
    comment: str = "",
    user: str = "",
    error: bool = False,
    reason: Reason | None = None,
) -> None:
    """Add one visible step of a transfer."""
    values = (
        transfer,
        destination,
        to_micros(time),
        status.code,
        host,
        sent,
        length(duration),
        comment,
        user,
        error,
        dump_reason(reason),
    )
    add_row(db, STEP, values)


def _step(row: Row) -> HistoryRow:
    return HistoryRow(
        id=row["id"],
        transfer=row["transfer"],
        destination=row["destination"],
        time=from_micros(row["time"]),
        status=TransferStatus[row["status"]],
        host=row["host"],
        sent=row["sent"],
        duration=maybe_length(row["duration"]),
        comment=row["comment"],
        user=row["user"],
        error=bool(row["error"]),
        reason=load_reason(row["reason"]),
    )


def steps(db: Connection, transfer: int, *, limit: int = 1000) -> list[HistoryRow]:
    """Return the steps of a transfer, oldest first."""
    values = {"transfer": transfer, "limit": limit}
    return [_step(row) for row in db.execute(STEPS.sql, values)]


def recent_steps(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    destination: str | None = None,
    errors: bool | None = None,
) -> list[HistoryRow]:
    """Return steps of all transfers, newest first."""
    values: dict[str, object] = {"limit": limit, "destination": destination, "errors": errors}
    values["before"] = before if before is not None else 2**62
    chosen = RECENT_ERRORS if errors else RECENT_STEPS
    return [_step(row) for row in db.execute(chosen.sql, values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a transfer with one host."""

    transfer: int
    host: str
    protocol: str
    started_at: datetime
    finished_at: datetime
    status: TransferStatus
    size: int = -1
    sent: int = 0
    requeue_history: int = 0
    peer: str = ""
    path: str = ""
    statistics: Mapping[str, int] = field(default_factory=dict)  # of the connection at its end
    filters: str = ""  # how the content was compressed
    resumed_at: int = 0  # first byte that this attempt sent


def add_attempt(db: Connection, attempt: Attempt) -> None:
    """Add the record of a finished attempt, and count it in its host's hour."""
    began, ended = to_micros(attempt.started_at), to_micros(attempt.finished_at)
    is_done = attempt.status is TransferStatus.DONE
    adds = (1, attempt.sent, 0, max(ended - began, 0)) if is_done else (0, 0, 1, 0)
    add_sum(db, HOST_HOUR, (attempt.host, began // HOUR), adds)
    values = (
        attempt.transfer,
        attempt.host,
        attempt.protocol,
        began,
        ended,
        attempt.status.code,
        attempt.size,
        attempt.sent,
        attempt.requeue_history,
        attempt.peer,
        attempt.path,
        dump(dict(attempt.statistics)) if attempt.statistics else "",
        attempt.filters,
        attempt.resumed_at,
    )
    add_row(db, ATTEMPT, values)


def attempts(db: Connection, transfer: int) -> list[Attempt]:
    """Return the attempts of a transfer, oldest first."""
    return [_attempt(row) for row in db.execute(ATTEMPTS.sql, {"transfer": transfer})]


def connections(db: Connection, host: str, *, since: datetime, limit: int) -> list[Attempt]:
    """Return attempts at a host whose connection left figures, the latest first."""
    values = {"host": host, "since": to_micros(since), "limit": limit}
    return [_attempt(row) for row in db.execute(CONNECTIONS.sql, values)]


def _attempt(row: Row) -> Attempt:
    return Attempt(
        transfer=row["transfer"],
        host=row["host"],
        protocol=row["protocol"],
        started_at=from_micros(row["started_at"]),
        finished_at=from_micros(row["finished_at"] or row["started_at"]),
        status=TransferStatus[row["status"]],
        size=row["size"],
        sent=row["sent"],
        requeue_history=row["requeue_history"],
        peer=row["peer"],
        path=row["path"],
        statistics=load(row["statistics"]) if row["statistics"] else {},
        filters=row["filters"],
        resumed_at=row["resumed_at"],
    )


def put_resume(
    db: Connection, transfer: int, host: str, record: dict[str, Any], *, now: datetime
) -> None:
    """Keep what a later attempt with that host needs to go on."""
    values = {"transfer": transfer, "host": host, "record": dump(record)}
    db.execute(PUT_RESUME.sql, values | {"now": to_micros(now)})


def resume(db: Connection, transfer: int, host: str) -> dict[str, Any] | None:
    """Return what an earlier attempt left, None if nothing."""
    row = db.execute(RESUME.sql, {"transfer": transfer, "host": host}).fetchone()
    return dict(load(row["record"])) if row else None


def drop_resume(db: Connection, transfer: int) -> None:
    """Forget all partial remote files of a transfer."""
    db.execute(DROP_RESUME.sql, {"transfer": transfer})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One upload or download through the portal or the API."""

    time: datetime
    user: str
    destination: str
    transfer: int | None
    data_file: int | None
    file_name: str
    action: str  # upload or download
    protocol: str
    peer: str
    bytes: int
    started_at: datetime
    duration: timedelta
    outcome: str = "ok"
    comment: str = ""


def add_incoming(db: Connection, row: Incoming) -> None:
    """Add an upload or download."""
    values = (
        to_micros(row.time),
        row.user,
        row.destination,
        row.transfer,
        row.data_file,
        row.file_name,
        row.action,
        row.protocol,
        row.peer,
        row.bytes,
        to_micros(row.started_at),
        length(row.duration),
        row.outcome,
        row.comment,
    )
    add_row(db, INCOMING_ROW, values)


def incoming(
    db: Connection, *, limit: int, before: int | None = None, user: str | None = None
) -> list[tuple[int, Incoming]]:
    """Return uploads and downloads with their id, newest first."""
    values = {"limit": limit, "before": before if before is not None else 2**62, "user": user}
    return [
        (
            row["id"],
            Incoming(
                time=from_micros(row["time"]),
                user=row["user"],
                destination=row["destination"],
                transfer=row["transfer"],
                data_file=row["data_file"],
                file_name=row["file_name"],
                action=row["action"],
                protocol=row["protocol"],
                peer=row["peer"],
                bytes=row["bytes"],
                started_at=from_micros(row["started_at"]),
                duration=timedelta(microseconds=row["duration"]),
                outcome=row["outcome"],
                comment=row["comment"],
            ),
        )
        for row in db.execute(INCOMING.sql, values)
    ]


def add_event(
    db: Connection, uid: str, kind: str, record: dict[str, Any], *, time: datetime
) -> None:
    """Add an event in the transaction of the change it tells."""
    add_row(db, EVENT, (uid, to_micros(time), kind, dump(record)))


def unwritten(db: Connection, *, limit: int) -> list[tuple[int, str]]:
    """Return events that are not yet in the event log, oldest first, as compact JSON."""
    rows = db.execute(UNWRITTEN.sql, {"limit": limit})
    return [(row["id"], row["record"]) for row in rows]


def written(db: Connection, up_to: int) -> None:
    """Tell that all events up to that id are in the event log."""
    db.execute(WRITTEN.sql, {"id": up_to})


def events(
    db: Connection, *, limit: int, before: int | None = None, kind: str | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Return events with their id, newest first."""
    values = {"limit": limit, "before": before if before is not None else 2**62, "type": kind}
    return [(row["id"], load(row["record"])) for row in db.execute(EVENTS.sql, values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One change by a person or program."""

    time: datetime
    actor: str
    peer: str = ""
    action: str
    object_type: str
    object_name: str
    difference: dict[str, Any]
    outcome: str = "ok"
    comment: str = ""
    id: int = 0


def add_audit(db: Connection, row: AuditRow) -> None:
    """Add a change; secrets in the difference are masked by the caller."""
    db.execute(
        ADD_AUDIT.sql,
        {
            "time": to_micros(row.time),
            "actor": row.actor,
            "peer": row.peer,
            "action": row.action,
            "object_type": row.object_type,
            "object_name": row.object_name,
            "difference": dump(row.difference),
            "outcome": row.outcome,
            "comment": row.comment,
        },
    )


def audit(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    object_type: str | None = None,
    object_name: str | None = None,
) -> list[AuditRow]:
    """Return changes, newest first."""
    values = {
        "limit": limit,
        "before": before if before is not None else 2**62,
        "object_type": object_type,
        "object_name": object_name,
    }
    return [
        AuditRow(
            id=row["id"],
            time=from_micros(row["time"]),
            actor=row["actor"],
            peer=row["peer"],
            action=row["action"],
            object_type=row["object_type"],
            object_name=row["object_name"],
            difference=load(row["difference"]),
            outcome=row["outcome"],
            comment=row["comment"],
        )
        for row in db.execute(AUDIT.sql, values)
    ]


def purge(db: Connection, *, history_before: datetime, events_before: datetime) -> None:
    """Drop what is older; quota buckets are kept seven days."""
    old = {"before": to_micros(history_before)}
    for one in (PURGE_STEPS, PURGE_ATTEMPTS, PURGE_INCOMING):
        db.execute(one.sql, old)
    hour = {"before": to_micros(history_before) // HOUR}
    for one in (PURGE_HOURS, PURGE_EMPTY):
        db.execute(one.sql, hour)
    db.execute(PURGE_EVENTS.sql, {"before": to_micros(events_before)})
    db.execute(PURGE_QUOTA.sql, {"before": to_micros(history_before) // 60_000_000})


def add_quota(
    db: Connection, holders: Sequence[str], direction: str, count: int, *, now: datetime
) -> None:
    """Count bytes that moved; `direction` is upload or download."""
    minute = to_micros(now) // 60_000_000
    for holder in holders:
        add_sum(db, QUOTA_USE, (holder, direction, minute), (count,))


def quota_used(db: Connection, holder: str, direction: str, *, since: datetime) -> int:
    """Return the bytes counted after `since` (minute steps)."""
    values = {"holder": holder, "direction": direction, "since": to_micros(since) // 60_000_000}
    return int(db.execute(QUOTA.sql, values).fetchone()["used"])


def add_rate(
    db: Connection, destination: str, sent: int, took: timedelta, *, now: datetime
) -> None:
    """Add one delivered file to the day's sums."""
    day = to_micros(now) // 86_400_000_000
    add_sum(db, RATE, (destination, day), (sent, took // timedelta(microseconds=1), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionClock:
    """When a Destination's acquisition Host was listed last, and how it went."""

    started_at: datetime | None = None
    finished_at: datetime | None = None
    listed: int = 0
    selected: int = 0
    outcome: str = ""
    message: str = ""


def set_clock(db: Connection, destination: str, host: str, clock: AcquisitionClock) -> None:
    """Store the last discovery."""
    db.execute(
        SET_CLOCK.sql,
        {
            "destination": destination,
            "host": host,
            "started_at": maybe_micros(clock.started_at),
            "finished_at": maybe_micros(clock.finished_at),
            "listed": clock.listed,
            "selected": clock.selected,
            "outcome": clock.outcome,
            "message": clock.message,
        },
    )


def clock(db: Connection, destination: str, host: str) -> AcquisitionClock:
    """Return the last discovery; an empty one when there was none."""
    row = db.execute(CLOCK.sql, {"destination": destination, "host": host}).fetchone()
    if row is None:
        return AcquisitionClock()
    return AcquisitionClock(
        started_at=maybe_time(row["started_at"]),
        finished_at=maybe_time(row["finished_at"]),
        listed=row["listed"],
        selected=row["selected"],
        outcome=row["outcome"],
        message=row["message"],
    )
