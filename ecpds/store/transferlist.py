"""Lists of transfers for people: of a million rows only a bounded part is read at a time.

A filter that an index answers (a whole target name, a status that few have) is answered by it.
Anything else goes through the newest first, a window of ids at a time, so that whoever asks can
stop after a while and say how far it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import transfers
from ecpds.store.codec import dump, maybe_micros
from ecpds.store.db import Connection, statement

WINDOW: Final = 40_000  # ids read at a time
RARE: Final = 20_000  # transfers of the statuses asked for, up to which an index finds them
ALL: Final = 2**62
HOW_MANY = statement("""
    SELECT COALESCE(SUM(files), 0) AS files FROM transfer_count
    WHERE status IN (SELECT value FROM json_each(:statuses))
      AND (:destination IS NULL OR destination = :destination)""")
NAMED = statement(
    """
    SELECT transfer.id AS id FROM destination
    CROSS JOIN transfer INDEXED BY transfer_target
        ON transfer.destination = destination.name AND target = :target AND deleted = 0
    WHERE (:destination IS NULL OR name = :destination) AND transfer.id < :before
      AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
      AND (:host IS NULL OR transfer.host = :host)
      AND (:since IS NULL OR scheduled_at >= :since)
      AND (:until IS NULL OR scheduled_at < :until)
    ORDER BY transfer.id DESC LIMIT :limit""",
    hot=True,
)
WITH_STATUSES = statement(
    """
    SELECT transfer.id AS id FROM transfer_count AS counted
    CROSS JOIN transfer INDEXED BY transfer_status
        ON transfer.destination = counted.destination AND transfer.status = counted.status
        AND deleted = 0 AND transfer.id < :before
    WHERE counted.status IN (SELECT value FROM json_each(:statuses)) AND counted.files > 0
      AND (:destination IS NULL OR counted.destination = :destination)
      AND (:target IS NULL OR target GLOB :target) AND (:host IS NULL OR transfer.host = :host)
      AND (:since IS NULL OR scheduled_at >= :since)
      AND (:until IS NULL OR scheduled_at < :until)
    ORDER BY transfer.id DESC LIMIT :limit""",
)
BETWEEN = statement("""
    SELECT id FROM transfer
    WHERE id < :before AND id >= :least
      AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
      AND (:target IS NULL OR target GLOB :target) AND (:host IS NULL OR host = :host)
      AND (:deleted IS NULL OR deleted = :deleted)
      AND (:since IS NULL OR scheduled_at >= :since)
      AND (:until IS NULL OR scheduled_at < :until)
    ORDER BY id DESC LIMIT :limit""")
NEWEST = statement("SELECT MAX(id) AS id FROM transfer WHERE id < :before", hot=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a list asks of the store; `target` is a glob."""

    destination: str | None = None
    statuses: tuple[TransferStatus, ...] = ()
    target: str | None = None
    host: str | None = None
    deleted: bool | None = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What was found, newest first, and below which id one has still to look; None at the end."""

    items: Sequence[Transfer]
    below: int | None


def part(db: Connection, wanted: Wanted, *, limit: int, before: int | None) -> Part:
    """Return at most `limit` transfers with id below `before`, of one window when no index helps.

    Fewer than `limit` with `below` set means that older ones were not looked at.
    """
    values = {
        "limit": limit,
        "before": ALL if before is None else before,
        "destination": wanted.destination,
        "statuses": dump([one.code for one in wanted.statuses]) if wanted.statuses else None,
        "target": wanted.target,
        "host": wanted.host,
        "deleted": wanted.deleted,
        "since": maybe_micros(wanted.since),
        "until": maybe_micros(wanted.until),
    }
    text = _indexed(db, wanted, values)
    if text is not None:
        numbers = [row["id"] for row in db.execute(text, values)]
        return _part(db, numbers, numbers[-1] if len(numbers) == limit else None)
    if wanted.destination is not None:
        rows = transfers.page(
            db, limit=limit, before=before, destination=wanted.destination,
            statuses=wanted.statuses, target=wanted.target, host=wanted.host,
            deleted=wanted.deleted, since=wanted.since, until=wanted.until,
        )  # fmt: skip
        return Part(items=rows, below=rows[-1].id if len(rows) == limit else None)
    return _window(db, values, limit)


def _indexed(db: Connection, wanted: Wanted, values: Mapping[str, object]) -> str | None:
    """Return the statement that finds them by an index."""
    if wanted.deleted is not False:
        return None
    if wanted.target and not any(sign in wanted.target for sign in "*?["):
        return NAMED.sql
    if wanted.statuses and db.execute(HOW_MANY.sql, values).fetchone()["files"] <= RARE:
        return WITH_STATUSES.sql
    return None


def _window(db: Connection, values: Mapping[str, object], limit: int) -> Part:
    newest = db.execute(NEWEST.sql, values).fetchone()["id"]
    if newest is None:
        return Part(items=(), below=None)
    least = max(newest - WINDOW, 0)
    found = db.execute(BETWEEN.sql, {**values, "before": newest + 1, "least": least})
    numbers = [row["id"] for row in found]
    if len(numbers) == limit:
        return _part(db, numbers, numbers[-1])
    return _part(db, numbers, least or None)


def _part(db: Connection, numbers: Sequence[int], below: int | None) -> Part:
    return Part(items=transfers.many(db, numbers), below=below)
