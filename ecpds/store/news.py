"""What has arrived lately, over several destinations at once.

Each question looks at a bounded number of files of the node, so that a user with quiet destinations
costs no more than others; the answer tells how far it looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import dump, to_micros
from ecpds.store.db import Connection, statement
from ecpds.store.portal import Entry, entry_of

# The plans of LATER and LATEST scan this many rows of an inner select, and no table.
SCAN = 20_000
"""Files of the node that one question looks at."""

LATER = statement(
    """
    SELECT portal_entry.* FROM (
        SELECT id FROM data_file WHERE arrived_at > :low ORDER BY arrived_at LIMIT :scan
    ) AS recent
    CROSS JOIN transfer ON transfer.data_file = recent.id
    CROSS JOIN portal_entry ON portal_entry.transfer = transfer.id
    WHERE transfer.destination IN (SELECT value FROM json_each(:destinations))
      AND portal_entry.visible_at <= :now AND portal_entry.expires_at > :now
      AND MAX(portal_entry.arrived_at, portal_entry.visible_at) >= :since""",
)
LATEST = statement(
    """
    SELECT portal_entry.* FROM (
        SELECT id FROM data_file ORDER BY arrived_at DESC LIMIT :scan
    ) AS recent
    CROSS JOIN transfer ON transfer.data_file = recent.id
    CROSS JOIN portal_entry ON portal_entry.transfer = transfer.id
    WHERE transfer.destination IN (SELECT value FROM json_each(:destinations))
      AND portal_entry.visible_at <= :now AND portal_entry.expires_at > :now
    LIMIT :limit""",
)
REACHED = statement(
    """
    SELECT arrived_at FROM data_file WHERE arrived_at > :low ORDER BY arrived_at
    LIMIT 1 OFFSET :scan""",
    hot=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Entries in the order of their news, and how far was looked (microseconds; None: to now)."""

    entries: list[Entry]
    reached: int | None = None


def moment_of(entry: Entry) -> int:
    """Return when an entry became news: its arrival, or the end of its embargo."""
    return max(entry.arrived_us, entry.visible_us)


def later(
    db: Connection,
    destinations: Sequence[str],
    since: tuple[int, int],
    *,
    delay: int,
    now: datetime,
) -> News:
    """Return what became news after `since` (microseconds, transfer), oldest first.

    `delay`: the longest embargo of these destinations, microseconds.
    """
    low = since[0] - delay - 1
    values = {
        "destinations": dump(list(destinations)), "low": low, "since": since[0],
        "now": to_micros(now), "scan": SCAN,
    }  # fmt: skip
    found = [entry_of(row) for row in db.execute(LATER.sql, values)]
    found = [one for one in found if (moment_of(one), one.transfer) > since]
    found.sort(key=lambda one: (moment_of(one), one.transfer))
    end = db.execute(REACHED.sql, {"low": low, "scan": SCAN - 1}).fetchone()
    return News(entries=found, reached=end["arrived_at"] if end else None)


def latest(db: Connection, destinations: Sequence[str], *, limit: int, now: datetime) -> News:
    """Return the newest entries, newest first."""
    values = {
        "destinations": dump(list(destinations)), "now": to_micros(now), "scan": SCAN,
        "limit": limit,
    }  # fmt: skip
    found = [entry_of(row) for row in db.execute(LATEST.sql, values)]
    found.sort(key=lambda one: (moment_of(one), one.transfer), reverse=True)
    return News(entries=found)
