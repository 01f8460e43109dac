"""Transfers: the queue, its claims, and every change of status.

All functions run inside the caller's transaction.  A change of status is always made from the row
as it is now (`get`, decide, `save`), never from a copy that the caller kept: there is one writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store.codec import (
    by_name,
    dump,
    dump_reason,
    from_micros,
    length,
    load_reason,
    maybe_length,
    maybe_micros,
    maybe_time,
    to_micros,
)
from ecpds.store.db import Connection, Row, statement

INSERT = statement(
    """
    INSERT INTO transfer
        (destination, data_file, target, key_destination, key_target, unique_name, identity,
         priority, status, status_by, comment, scheduled_at, queue_at, due_at, expires_at,
         created_at, changed_at, asap, event, temporary, is_alias, time_base)
    VALUES (:destination, :data_file, :target, :key_destination, :key_target, :unique_name,
        :identity, :priority, :status, :status_by, :comment, :scheduled_at, :queue_at, :due_at,
        :expires_at, :created_at, :changed_at, :asap, :event, :temporary, :is_alias,
        (SELECT time_base FROM data_file WHERE id = :data_file))""",
    hot=True,
)
ONE = statement(
    """
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file WHERE transfer.id = :id""",
    hot=True,
)
BY_FILE = statement(
    """
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.data_file = :file ORDER BY transfer.id""",
    hot=True,
)
BY_KEY = statement(
    """
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE key_destination = :destination AND key_target = :target AND unique_name = :unique
      AND transfer.deleted = 0 ORDER BY transfer.id""",
    hot=True,
)
MANY = statement(
    """
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.id IN (SELECT value FROM json_each(:ids))""",
    hot=True,
)
NEXT_DUE = statement(
    """
    SELECT MIN(due_at) AS due FROM transfer INDEXED BY transfer_due
    WHERE destination = :destination AND status IN ('WAIT', 'RETR') AND deleted = 0""",
    hot=True,
)
SAVE = statement(
    """
    UPDATE transfer SET
        target = :target, identity = :identity, priority = :priority, status = :status,
        status_by = :status_by, comment = :comment, reason = :reason,
        scheduled_at = :scheduled_at, queue_at = :queue_at, due_at = :due_at,
        expires_at = :expires_at, changed_at = :changed_at, start_count = :start_count,
        requeue_count = :requeue_count, requeue_history = :requeue_history,
        attempts = :attempts, started_at = :started_at, first_finish_at = :first_finish_at,
        finished_at = :finished_at, failed_at = :failed_at, put_at = :put_at,
        duration = :duration, sent = :sent, host = :host, asap = :asap, event = :event,
        deleted = :deleted
    WHERE id = :id""",
    hot=True,
)
DONE = statement(
    """
    UPDATE transfer SET
        status = 'DONE', status_by = '', reason = NULL, comment = :comment,
        first_finish_at = COALESCE(first_finish_at, :now), finished_at = :now, put_at = :put_at,
        duration = :duration, sent = :sent, host = :host, changed_at = :now,
        deleted = :deleted
    WHERE id = :id AND status = 'EXEC'""",
    hot=True,
)
SET_KEY = statement("""
    UPDATE transfer SET target = :target, key_target = :key_target, temporary = :temporary,
        changed_at = :now WHERE id = :id""")
WITH_STATUS = statement(
    """
    SELECT transfer.*, data_file.size AS size FROM transfer INDEXED BY transfer_running
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE status IN ('INIT', 'SCHE', 'FETC', 'EXEC', 'INTR') AND status = :status
      AND transfer.deleted = 0 AND transfer.id > :after
    ORDER BY transfer.id LIMIT :limit""",
)
RELEASE_BACKLOG = statement("""
    UPDATE transfer SET queue_at = scheduled_at, due_at = scheduled_at
    WHERE destination = :destination AND status IN ('WAIT', 'RETR') AND deleted = 0
      AND (start_count > 0 OR requeue_history > 0)""")
EXPIRED = statement(
    """
    SELECT id, status FROM transfer INDEXED BY transfer_expiry
    WHERE expires_at <= :now AND deleted = 0 AND status NOT IN ('EXEC', 'FETC', 'INIT')
    ORDER BY expires_at LIMIT :limit""",
    hot=True,
)
NEXT_EXPIRY = statement(
    "SELECT MIN(expires_at) AS due FROM transfer INDEXED BY transfer_expiry WHERE deleted = 0",
    hot=True,
)
COUNTS = statement(
    """
    SELECT status, files, outstanding FROM transfer_count
    WHERE destination = :destination AND files > 0""",
    hot=True,
)
ALL_COUNTS = statement("""
    SELECT destination, status, files, outstanding FROM transfer_count WHERE files > 0""")
LIST = statement("""
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.id < :before
      AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
      AND (:target IS NULL OR target GLOB :target) AND (:host IS NULL OR transfer.host = :host)
      AND (:deleted IS NULL OR transfer.deleted = :deleted)
      AND (:since IS NULL OR scheduled_at >= :since)
      AND (:until IS NULL OR scheduled_at < :until)
    ORDER BY transfer.id DESC LIMIT :limit""")
LIST_DESTINATION = statement("""
    SELECT transfer.*, data_file.size AS size FROM transfer
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND transfer.id < :before
      AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
      AND (:target IS NULL OR target GLOB :target) AND (:host IS NULL OR transfer.host = :host)
      AND (:deleted IS NULL OR transfer.deleted = :deleted)
      AND (:since IS NULL OR scheduled_at >= :since)
      AND (:until IS NULL OR scheduled_at < :until)
    ORDER BY transfer.id DESC LIMIT :limit""")
PRESET = statement(
    """
    SELECT transfer.id, transfer.data_file FROM transfer INDEXED BY transfer_preset
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND status = 'SCHE' AND transfer.deleted = 0
      AND expires_at > :now AND is_alias = 0 AND priority <= :most
      AND (retrieval_at IS NULL OR retrieval_at <= :now)
    ORDER BY priority, queue_at, transfer.id LIMIT :limit""",
    hot=True,
)
NEXT_PRESET = statement("""
    SELECT MIN(COALESCE(retrieval_at, 0)) AS due
    FROM transfer INDEXED BY transfer_preset
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.destination = :destination AND status = 'SCHE' AND transfer.deleted = 0
      AND is_alias = 0""")
SET_STATUS = statement(
    """
    UPDATE transfer SET status = :status, changed_at = :now, comment = :comment,
        reason = :reason
    WHERE id = :id""",
    hot=True,
)
OLD = statement(
    """
    SELECT id, data_file FROM transfer
    WHERE deleted = 1 AND changed_at < :before ORDER BY changed_at LIMIT :limit""",
)
REMOVE = statement("DELETE FROM transfer WHERE id = :id")
REMOVE_HISTORY = statement("DELETE FROM transfer_history WHERE transfer = :id")
REMOVE_ATTEMPTS = statement("DELETE FROM attempt WHERE transfer = :id")
REMOVE_FILE = statement("""
    DELETE FROM data_file WHERE id = :file AND removed = 1
      AND NOT EXISTS (SELECT 1 FROM transfer WHERE data_file = :file)""")
OF_DESTINATION = statement("""
    SELECT id FROM transfer WHERE destination = :destination AND id > :after
    ORDER BY id LIMIT :limit""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTransfer:
    """What is known of a transfer when it is made."""

    destination: str
    data_file: int
    target: str
    key: tuple[str, str, str]  # destination, target, version of the original submission
    identity: str
    priority: int
    status: TransferStatus
    scheduled_at: datetime
    queue_at: datetime
    expires_at: datetime
    comment: str = ""
    status_by: str = ""
    asap: bool = False
    event: bool = False
    temporary: bool = False
    is_alias: bool = False


def insert(db: Connection, new: NewTransfer, *, now: datetime) -> int:
    """Add a transfer; return its id."""
    values = {
        "destination": new.destination,
        "data_file": new.data_file,
        "target": new.target,
        "key_destination": new.key[0],
        "key_target": new.key[1],
        "unique_name": new.key[2],
        "identity": new.identity,
        "priority": new.priority,
        "status": new.status.code,
        "status_by": new.status_by,
        "comment": new.comment,
        "scheduled_at": to_micros(new.scheduled_at),
        "queue_at": to_micros(new.queue_at),
        "due_at": to_micros(new.queue_at),
        "expires_at": to_micros(new.expires_at),
        "created_at": to_micros(now),
        "changed_at": to_micros(now),
        "asap": new.asap,
        "event": new.event,
        "temporary": new.temporary,
        "is_alias": new.is_alias,
    }
    number = db.execute(INSERT.sql, values).lastrowid
    assert number is not None  # noqa: S101 - an INSERT that worked has one
    return number


def transfer_of(found: Row) -> Transfer:
    """Return the transfer of a row of `transfer` with the size of its file."""
    row = by_name(found)
    return Transfer(
        id=row["id"],
        destination=row["destination"],
        data_file=row["data_file"],
        target=row["target"],
        unique_name=row["unique_name"],
        identity=row["identity"],
        priority=row["priority"],
        status=TransferStatus[row["status"]],
        status_by=row["status_by"],
        comment=row["comment"],
        reason=load_reason(row["reason"]),
        scheduled_at=from_micros(row["scheduled_at"]),
        queue_at=from_micros(row["queue_at"]),
        due_at=from_micros(row["due_at"]),
        expires_at=from_micros(row["expires_at"]),
        created_at=from_micros(row["created_at"]),
        start_count=row["start_count"],
        requeue_count=row["requeue_count"],
        requeue_history=row["requeue_history"],
        attempts=row["attempts"],
        started_at=maybe_time(row["started_at"]),
        first_finish_at=maybe_time(row["first_finish_at"]),
        finished_at=maybe_time(row["finished_at"]),
        failed_at=maybe_time(row["failed_at"]),
        put_at=maybe_time(row["put_at"]),
        duration=maybe_length(row["duration"]),
        sent=row["sent"],
        host=row["host"],
        asap=bool(row["asap"]),
        event=bool(row["event"]),
        temporary=bool(row["temporary"]),
        is_alias=bool(row["is_alias"]),
        deleted=bool(row["deleted"]),
        size=row["size"],
    )


def get(db: Connection, number: int) -> Transfer | None:
    """Return one transfer, None if there is none."""
    row = db.execute(ONE.sql, {"id": number}).fetchone()
    return transfer_of(row) if row else None


def many(db: Connection, numbers: Sequence[int]) -> list[Transfer]:
    """Return the transfers of these ids, in their order; those that are gone are left out."""
    found = {
        row["id"]: transfer_of(row) for row in db.execute(MANY.sql, {"ids": dump(list(numbers))})
    }
    return [found[number] for number in numbers if number in found]


def of_file(db: Connection, file: int, *, live: bool = True) -> list[Transfer]:
    """Return the transfers of a data file, by id."""
    rows = db.execute(BY_FILE.sql, {"file": file})
    return [transfer_of(row) for row in rows if not (live and row["deleted"])]


def with_key(db: Connection, key: tuple[str, str, str]) -> list[Transfer]:
    """Return the live transfers of that unique key: destination, target, version."""
    values = {"destination": key[0], "target": key[1], "unique": key[2]}
    return [transfer_of(row) for row in db.execute(BY_KEY.sql, values)]


def next_due(db: Connection, destination: str) -> datetime | None:
    """Return when the first pending transfer is due, None if there is none."""
    return maybe_time(db.execute(NEXT_DUE.sql, {"destination": destination}).fetchone()["due"])


def save(db: Connection, transfer: Transfer, *, now: datetime) -> None:
    """Store everything of a transfer that can change."""
    db.execute(
        SAVE.sql,
        {
            "id": transfer.id,
            "target": transfer.target,
            "identity": transfer.identity,
            "priority": transfer.priority,
            "status": transfer.status.code,
            "status_by": transfer.status_by,
            "comment": transfer.comment,
            "reason": dump_reason(transfer.reason),
            "scheduled_at": to_micros(transfer.scheduled_at),
            "queue_at": to_micros(transfer.queue_at),
            "due_at": to_micros(transfer.due_at),
            "expires_at": to_micros(transfer.expires_at),
            "changed_at": to_micros(now),
            "start_count": transfer.start_count,
            "requeue_count": transfer.requeue_count,
            "requeue_history": transfer.requeue_history,
            "attempts": transfer.attempts,
            "started_at": maybe_micros(transfer.started_at),
            "first_finish_at": maybe_micros(transfer.first_finish_at),
            "finished_at": maybe_micros(transfer.finished_at),
            "failed_at": maybe_micros(transfer.failed_at),
            "put_at": maybe_micros(transfer.put_at),
            "duration": length(transfer.duration),
            "sent": transfer.sent,
            "host": transfer.host,
            "asap": transfer.asap,
            "event": transfer.event,
            "deleted": transfer.deleted,
        },
    )


def set_status(
    db: Connection, number: int, status: TransferStatus, *, now: datetime, comment: str = ""
) -> None:
    """Change only the status (and comment); the reason is cleared."""
    values = {"id": number, "status": status.code, "now": to_micros(now)}
    db.execute(SET_STATUS.sql, values | {"comment": comment, "reason": None})


def finish(db: Connection, transfer: Transfer, *, now: datetime, deleted: bool) -> bool:
    """Store a success of an EXEC transfer; False when it is EXEC no longer."""
    values = {
        "id": transfer.id,
        "now": to_micros(now),
        "put_at": maybe_micros(transfer.put_at),
        "duration": length(transfer.duration),
        "sent": transfer.sent,
        "host": transfer.host,
        "comment": transfer.comment,
        "deleted": deleted,
    }
    return db.execute(DONE.sql, values).rowcount > 0


def rename(
    db: Connection, number: int, target: str, key_target: str, *, temporary: bool, now: datetime
) -> None:
    """Give a transfer a new target; its unique key follows."""
    values = {"id": number, "target": target, "key_target": key_target}
    db.execute(SET_KEY.sql, values | {"temporary": temporary, "now": to_micros(now)})


def with_status(
    db: Connection, status: TransferStatus, *, after: int = 0, limit: int = 1000
) -> list[Transfer]:
    """Return live transfers of one of the statuses INIT SCHE FETC EXEC INTR, by id."""
    values = {"status": status.code, "after": after, "limit": limit}
    return [transfer_of(row) for row in db.execute(WITH_STATUS.sql, values)]


def release_backlog(db: Connection, destination: str) -> int:
    """Make all delayed transfers due at their scheduled time again; return how many."""
    return db.execute(RELEASE_BACKLOG.sql, {"destination": destination}).rowcount


def expired(db: Connection, *, now: datetime, limit: int) -> list[tuple[int, TransferStatus]]:
    """Return id and status of live transfers past their expiry, the longest expired first."""
    rows = db.execute(EXPIRED.sql, {"now": to_micros(now), "limit": limit})
    return [(row["id"], TransferStatus[row["status"]]) for row in rows]


def next_expiry(db: Connection) -> datetime | None:
    """Return the first expiry of all live transfers."""
    return maybe_time(db.execute(NEXT_EXPIRY.sql).fetchone()["due"])


def counts(db: Connection, destination: str) -> tuple[dict[TransferStatus, int], int]:
    """Return live transfers by status, and how many are outstanding."""
    found, outstanding = {}, 0
    for status, number, troubled in db.execute(COUNTS.sql, {"destination": destination}):
        found[TransferStatus[status]] = number
        outstanding += troubled
    return found, outstanding


def all_counts(db: Connection) -> dict[str, tuple[dict[TransferStatus, int], int]]:
    """Return what `counts` does for every destination that has live transfers."""
    found: dict[str, tuple[dict[TransferStatus, int], int]] = {}
    for name, status, number, troubled in db.execute(ALL_COUNTS.sql):
        numbers, outstanding = found.get(name, ({}, 0))
        numbers[TransferStatus[status]] = number
        found[name] = (numbers, outstanding + troubled)
    return found


def status_counts(db: Connection) -> dict[tuple[str, TransferStatus], int]:
    """Return live transfers by destination and status."""
    rows = db.execute(ALL_COUNTS.sql)
    return {(row["destination"], TransferStatus[row["status"]]): row["files"] for row in rows}


def page(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    destination: str | None = None,
    statuses: Sequence[TransferStatus] | None = None,
    target: str | None = None,
    host: str | None = None,
    deleted: bool | None = False,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Transfer]:
    """Return transfers, newest id first, with id below `before`; `target` is a glob."""
    values = {
        "limit": limit,
        "before": before if before is not None else 2**62,
        "destination": destination,
        "statuses": dump([s.code for s in statuses]) if statuses else None,
        "target": target,
        "host": host,
        "deleted": deleted,
        "since": maybe_micros(since),
        "until": maybe_micros(until),
    }
    chosen = LIST if destination is None else LIST_DESTINATION
    return [transfer_of(row) for row in db.execute(chosen.sql, values)]


def preset(
    db: Connection, destination: str, *, now: datetime, limit: int, most: int = 99
) -> list[tuple[int, int]]:
    """Return transfer and file ids whose content is to be retrieved, in order.

    Priorities above `most` are left out.
    """
    values = {"destination": destination, "now": to_micros(now), "limit": limit, "most": most}
    return [(row["id"], row["data_file"]) for row in db.execute(PRESET.sql, values)]


def next_preset(db: Connection, destination: str) -> datetime | None:
    """Return when the first retrieval of a destination is due."""
    return maybe_time(db.execute(NEXT_PRESET.sql, {"destination": destination}).fetchone()["due"])


def remove_old(db: Connection, *, before: datetime, limit: int) -> int:
    """Drop deleted transfers not changed since `before`, with history; return how many."""
    values = {"before": to_micros(before), "limit": limit}
    rows = db.execute(OLD.sql, values).fetchall()
    for row in rows:
        db.execute(REMOVE_HISTORY.sql, {"id": row["id"]})
        db.execute(REMOVE_ATTEMPTS.sql, {"id": row["id"]})
        db.execute(REMOVE.sql, {"id": row["id"]})
        db.execute(REMOVE_FILE.sql, {"file": row["data_file"]})
    return len(rows)


def of_destination(
    db: Connection, destination: str, *, after: int = 0, limit: int = 1000
) -> list[int]:
    """Return ids of all transfers of a destination, deleted ones too, by id."""
    values = {"destination": destination, "after": after, "limit": limit}
    return [row["id"] for row in db.execute(OF_DESTINATION.sql, values)]
