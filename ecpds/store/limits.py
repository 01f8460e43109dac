"""Bans of addresses, and the minute buckets of byte quotas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecpds.store.codec import from_micros, to_micros
from ecpds.store.db import Connection, statement

PUT_BAN = statement("""
    INSERT INTO ban (address, score, reason, banned_at, until_at)
    VALUES (:address, :score, :reason, :banned_at, :until_at)
    ON CONFLICT (address) DO UPDATE SET
        score = excluded.score, reason = excluded.reason, banned_at = excluded.banned_at,
        until_at = excluded.until_at""")
BANS = statement("SELECT * FROM ban WHERE until_at > :now ORDER BY until_at DESC LIMIT :limit")
DROP_BAN = statement("DELETE FROM ban WHERE address = :address")
DROP_OVER = statement("DELETE FROM ban WHERE until_at <= :now")
BUCKETS = statement(
    """
    SELECT minute, bytes FROM quota_bucket
    WHERE holder = :holder AND direction = :direction AND minute >= :since ORDER BY minute""",
    hot=True,
)
KEPT = statement("""
    SELECT COUNT(*) AS files, COALESCE(SUM(MAX(size, 0)), 0) AS bytes FROM data_file
    WHERE submitter = :login AND deleted = 0 AND removed = 0""")
"""Looks at every file, but only for users with such a limit and once a minute: an index would
cost each upload of everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """An address (IPv6: its /64 network) that may not log in for some time."""

    address: str
    score: int
    reason: str
    banned_at: datetime
    until_at: datetime


def kept(db: Connection, login: str) -> tuple[int, int]:
    """Return number and bytes of the live files that a user has uploaded."""
    row = db.execute(KEPT.sql, {"login": login}).fetchone()
    return row["files"], row["bytes"]


def put_ban(db: Connection, ban: Ban) -> None:
    """Add or prolong a ban; bans that are over go."""
    db.execute(DROP_OVER.sql, {"now": to_micros(ban.banned_at)})
    db.execute(
        PUT_BAN.sql,
        {
            "address": ban.address,
            "score": ban.score,
            "reason": ban.reason,
            "banned_at": to_micros(ban.banned_at),
            "until_at": to_micros(ban.until_at),
        },
    )


def bans(db: Connection, *, now: datetime, limit: int) -> list[Ban]:
    """Return the bans that hold, the longest first."""
    return [
        Ban(
            address=row["address"],
            score=row["score"],
            reason=row["reason"],
            banned_at=from_micros(row["banned_at"]),
            until_at=from_micros(row["until_at"]),
        )
        for row in db.execute(BANS.sql, {"now": to_micros(now), "limit": limit})
    ]


def drop_ban(db: Connection, address: str) -> bool:
    """Lift a ban; tell whether there was one."""
    return db.execute(DROP_BAN.sql, {"address": address}).rowcount > 0


def buckets(db: Connection, holder: str, direction: str, *, since: int) -> list[tuple[int, int]]:
    """Return minute (since 1970) and bytes of a holder, from the minute `since` on."""
    values = {"holder": holder, "direction": direction, "since": since}
    return [(row["minute"], row["bytes"]) for row in db.execute(BUCKETS.sql, values)]
