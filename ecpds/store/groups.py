"""Batches of registered files: how far their retrieval is, and which are to be sent together.

A batch is nothing but the label that its data files share; it ends when none of them waits for its
content any more.  Files whose transfers were deleted or expired still count: they failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.model.transfer import Reason
from ecpds.store.codec import from_micros, load_reason, to_micros
from ecpds.store.db import Connection, Row, statement

WAITS = """EXISTS (SELECT 1 FROM transfer WHERE transfer.data_file = data_file.id
    AND transfer.deleted = 0 AND transfer.status IN ('SCHE', 'FETC'))"""
COUNTS = statement(
    f"""
    SELECT COUNT(*) AS files, COALESCE(SUM(done), 0) AS done, COALESCE(SUM(waits), 0) AS waits,
        COALESCE(SUM(bytes), 0) AS bytes, COALESCE(SUM(trouble), 0) AS trouble,
        MIN(arrived) AS first_at
    FROM (
        SELECT stored OR removed AND size >= 0 AS done, stored = 0 AND {WAITS} AS waits,
            CASE WHEN stored = 1 THEN size ELSE 0 END AS bytes,
            stored = 0 AND retrieval_count > 0 AS trouble, arrived_at AS arrived
        FROM data_file WHERE group_by = :name)"""  # noqa: S608 - constants of this file
)
NAMES = statement("""
    SELECT DISTINCT group_by AS name FROM data_file
    WHERE group_by != '' AND group_by > :after ORDER BY group_by LIMIT :limit""")
FILES = statement(
    f"""
    SELECT data_file.id AS id, source, original, size, stored, host, submitter, submitted_from,
        retrieval_count, NOT stored AND {WAITS} AS waits,
        (SELECT MIN(status) FROM transfer WHERE transfer.data_file = data_file.id) AS status,
        (SELECT reason FROM transfer WHERE transfer.data_file = data_file.id
            AND reason IS NOT NULL ORDER BY transfer.id LIMIT 1) AS reason
    FROM data_file
    WHERE group_by = :name AND id > :after
      AND (:which = 'all' OR :which = 'waiting' AND stored = 0 AND {WAITS}
           OR :which = 'failed' AND stored = 0 AND NOT {WAITS}
           OR :which = 'trouble' AND stored = 0 AND retrieval_count > 0)
    ORDER BY id LIMIT :limit"""  # noqa: S608 - constants of this file
)
DESTINATIONS = statement("""
    SELECT DISTINCT destination FROM transfer
    WHERE data_file IN (SELECT id FROM data_file WHERE group_by = :name)""")
ANY_WAITS = statement(
    f"""
    SELECT 1 FROM data_file WHERE group_by = :name AND stored = 0 AND {WAITS} LIMIT 1"""  # noqa: S608
)
SEND_NOW = statement("""
    UPDATE transfer SET queue_at = :now, due_at = :now, changed_at = :now
    WHERE asap = 1 AND status IN ('WAIT', 'RETR') AND deleted = 0 AND queue_at > :now
      AND data_file IN (SELECT id FROM data_file WHERE group_by = :name)
    RETURNING destination""")
HELD_BACK = statement(
    """
    SELECT DISTINCT data_file.group_by AS name FROM transfer INDEXED BY transfer_asap
    JOIN data_file ON data_file.id = transfer.data_file
    WHERE transfer.asap = 1 AND transfer.status IN ('WAIT', 'RETR') AND transfer.deleted = 0
      AND transfer.queue_at > :now AND data_file.group_by != '' LIMIT :limit""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How far a batch is."""

    name: str
    files: int
    done: int  # content is here, or was
    waiting: int  # content is still to come
    trouble: int  # failed at least once and not yet here
    bytes: int
    first_at: datetime

    @property
    def failed(self) -> int:
        """Return how many will not come without a person."""
        return self.files - self.done - self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFile:
    """One file of a batch."""

    id: int
    source: str
    size: int
    stored: bool
    waits: bool
    host: str
    submitter: str
    submitted_from: str
    tries: int  # failed ones
    status: str
    reason: Reason | None


def get(db: Connection, name: str) -> Group | None:
    """Return one batch, None when no file has that label."""
    row = db.execute(COUNTS.sql, {"name": name}).fetchone()
    if not row["files"]:
        return None
    return Group(
        name=name,
        files=row["files"],
        done=row["done"],
        waiting=row["waits"],
        trouble=row["trouble"],
        bytes=row["bytes"],
        first_at=from_micros(row["first_at"]),
    )


def page(db: Connection, *, after: str, limit: int) -> list[Group]:
    """Return batches by name, those behind `after`."""
    names = [row["name"] for row in db.execute(NAMES.sql, {"after": after, "limit": limit})]
    return [group for name in names if (group := get(db, name)) is not None]


def _file(row: Row) -> GroupFile:
    return GroupFile(
        id=row["id"],
        source=row["source"] or row["original"],
        size=row["size"],
        stored=bool(row["stored"]),
        waits=bool(row["waits"]),
        host=row["host"],
        submitter=row["submitter"],
        submitted_from=row["submitted_from"],
        tries=row["retrieval_count"],
        status=row["status"] or "",
        reason=load_reason(row["reason"]),
    )


def members(
    db: Connection, name: str, *, which: str = "all", after: int = 0, limit: int
) -> list[GroupFile]:
    """Return files of a batch by id: `all`, `waiting`, `failed` or in `trouble`."""
    values = {"name": name, "which": which, "after": after, "limit": limit}
    return [_file(row) for row in db.execute(FILES.sql, values)]


def send_if_complete(db: Connection, name: str, *, now: datetime) -> list[str]:
    """When no file of the batch waits for content, make its `asap` transfers due now.

    Returns the destinations that have something to send now.
    """
    if db.execute(ANY_WAITS.sql, {"name": name}).fetchone() is not None:
        return []
    rows = db.execute(SEND_NOW.sql, {"name": name, "now": to_micros(now)}).fetchall()
    return list(dict.fromkeys(row["destination"] for row in rows))


def held_back(db: Connection, *, now: datetime, limit: int = 100) -> list[str]:
    """Return batches that have `asap` transfers not yet due."""
    rows = db.execute(HELD_BACK.sql, {"now": to_micros(now), "limit": limit})
    return [row["name"] for row in rows]


def destinations_of(db: Connection, name: str) -> list[str]:
    """Return the destinations that files of a batch go or went to."""
    return [row["destination"] for row in db.execute(DESTINATIONS.sql, {"name": name})]
