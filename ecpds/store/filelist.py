"""Lists of data files for people: a window of ids at a time, as `transferlist` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ecpds.model.transfer import DataFile
from ecpds.store import files
from ecpds.store.codec import maybe_micros
from ecpds.store.db import Connection, statement

WINDOW: Final = 20_000  # ids read at a time
IDS = statement("""
    SELECT id FROM data_file
    WHERE id < :before AND id >= :least AND (:deleted IS NULL OR deleted = :deleted)
      AND (:name IS NULL OR original GLOB :name OR source GLOB :name)
      AND (:since IS NULL OR arrived_at >= :since) AND (:until IS NULL OR arrived_at < :until)
    ORDER BY id DESC LIMIT :limit""")
NEWEST = statement("SELECT MAX(id) AS id FROM data_file WHERE id < :before", hot=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What was found, newest first, and below which id one has still to look; None at the end."""

    items: Sequence[DataFile]
    below: int | None


def part(
    db: Connection,
    *,
    limit: int,
    before: int | None,
    name: str | None,
    deleted: bool | None,
    since: datetime | None,
    until: datetime | None,
) -> Part:
    """Return at most `limit` data files of one window with id below `before`; `name` is a glob."""
    top = 2**62 if before is None else before
    newest = db.execute(NEWEST.sql, {"before": top}).fetchone()["id"]
    if newest is None:
        return Part(items=(), below=None)
    least = max(newest - WINDOW, 0)
    values = {
        "limit": limit, "before": newest + 1, "least": least, "name": name, "deleted": deleted,
        "since": maybe_micros(since), "until": maybe_micros(until),
    }  # fmt: skip
    numbers = [row["id"] for row in db.execute(IDS.sql, values)]
    found = files.many(db, numbers)
    items = [found[number] for number in numbers if number in found]
    return Part(items=items, below=numbers[-1] if len(numbers) == limit else least or None)
