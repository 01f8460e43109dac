"""Sums over days: what was delivered, what arrived and what will go by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ecpds.store.codec import dump, from_micros, to_micros
from ecpds.store.db import Connection, Row, statement

HOUR = 3_600_000_000  # microseconds
EPOCH = date(1970, 1, 1)
RATES = statement("""
    SELECT destination, day, bytes, duration, files FROM daily_rate
    WHERE day >= :since AND day <= :until AND (:destination IS NULL OR destination = :destination)
    ORDER BY day, destination""")
RATES_BY_DAY = statement("""
    SELECT '' AS destination, day, SUM(bytes) AS bytes, SUM(duration) AS duration,
        SUM(files) AS files
    FROM daily_rate WHERE day >= :since AND day <= :until
      AND (:names IS NULL OR destination IN (SELECT value FROM json_each(:names)))
    GROUP BY day ORDER BY day""")
RATES_BY_DESTINATION = statement("""
    SELECT destination, 0 AS day, SUM(bytes) AS bytes, SUM(duration) AS duration,
        SUM(files) AS files
    FROM daily_rate WHERE day >= :since AND day <= :until
      AND (:names IS NULL OR destination IN (SELECT value FROM json_each(:names)))
    GROUP BY destination ORDER BY destination""")
DESTINATIONS = statement("""
    SELECT DISTINCT destination FROM daily_rate WHERE day >= :since AND day <= :until""")
STORED = statement("""
    SELECT COALESCE(SUM(bytes), 0) AS bytes,
        COALESCE(SUM(CASE WHEN hour >= :since THEN bytes ELSE 0 END), 0) AS came
    FROM stored_hour""")
SPAN = statement(
    """
    SELECT COALESCE((SELECT MIN(id) FROM data_file), 0) AS first,
        COALESCE((SELECT MAX(id) FROM data_file), 0) AS last"""
)
SAMPLE = statement(
    """
    WITH RECURSIVE step (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM step WHERE n < :most - 1),
    picked (id) AS (
        SELECT (SELECT id FROM data_file WHERE id >= :first + n * :span / :most
            AND id < :first + (n + 1) * :span / :most ORDER BY id LIMIT 1)
        FROM step)
    SELECT COALESCE(SUM(MAX(size, 0)), 0) AS bytes, COALESCE(SUM(CASE WHEN NOT EXISTS (
            SELECT 1 FROM transfer WHERE transfer.data_file = data_file.id
              AND transfer.deleted = 0 AND transfer.expires_at >= :until)
        THEN MAX(size, 0) ELSE 0 END), 0) AS leaving
    FROM data_file WHERE id IN (SELECT id FROM picked) AND stored = 1 AND removed = 0""",
)
BY_HOUR = statement(
    """
    SELECT hour, files, bytes, failed, duration FROM host_hour
    WHERE host = :host AND hour >= :since""",
    hot=True,
)
TRAFFIC = statement(
    """
    SELECT user, protocol, action, time / :step AS slot, COUNT(*) AS number, SUM(bytes) AS bytes,
        SUM(outcome != 'ok') AS failed, SUM(duration) AS duration
    FROM incoming_history INDEXED BY incoming_history_time
    WHERE time >= :since AND time < :until AND action IN ('upload', 'download')
    GROUP BY user, protocol, action, slot ORDER BY slot, user, protocol, action LIMIT :most""",
    hot=True,
)
TRAFFIC_OF = statement(
    """
    SELECT user, protocol, action, time / :step AS slot, COUNT(*) AS number, SUM(bytes) AS bytes,
        SUM(outcome != 'ok') AS failed, SUM(duration) AS duration
    FROM incoming_history INDEXED BY incoming_history_user
    WHERE user = :user AND time >= :since AND time < :until AND action IN ('upload', 'download')
    GROUP BY user, protocol, action, slot ORDER BY slot, user, protocol, action LIMIT :most""",
    hot=True,
)
MOVED = statement(
    """
    SELECT user, destination, protocol, action, time / 86400000000 AS day, COUNT(*) AS files,
        SUM(bytes) AS bytes, SUM(duration) AS duration
    FROM incoming_history INDEXED BY incoming_history_time
    WHERE time >= :since AND time < :until
    GROUP BY user, destination, protocol, action, day""",
    hot=True,
)
SAMPLED = 2_000
"""Files looked at for what will leave; evenly spread over all, so that age weighs as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one destination got on one day (UTC)."""

    destination: str
    day: date
    bytes: int
    duration: timedelta  # of all deliveries together
    files: int


def rates(
    db: Connection, *, since: date, until: date, destination: str | None = None
) -> list[Rate]:
    """Return the sums of each day and destination, both ends included."""
    values = {
        "since": (since - EPOCH).days, "until": (until - EPOCH).days, "destination": destination,
    }  # fmt: skip
    return [_rate(row) for row in db.execute(RATES.sql, values)]


def _rate(row: Row) -> Rate:
    return Rate(
        destination=row["destination"],
        day=EPOCH + timedelta(days=row["day"]),
        bytes=row["bytes"],
        duration=timedelta(microseconds=row["duration"]),
        files=row["files"],
    )


def sums(
    db: Connection, *, since: date, until: date, may: Callable[[str], bool] | None = None
) -> tuple[list[Rate], list[Rate]]:
    """Return the sums of each day, and of each destination over all days, both ends included.

    `may` leaves out destinations, those that were deleted meanwhile too; None: there are all.
    """
    values: dict[str, object] = {"since": (since - EPOCH).days, "until": (until - EPOCH).days}
    names = None
    if may is not None:
        found = db.execute(DESTINATIONS.sql, values)
        names = dump([row["destination"] for row in found if may(row["destination"])])
    values["names"] = names
    return (
        [_rate(row) for row in db.execute(RATES_BY_DAY.sql, values)],
        [_rate(row) for row in db.execute(RATES_BY_DESTINATION.sql, values)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What one data user moved on one day (UTC) at one destination."""

    user: str
    destination: str
    protocol: str
    action: str
    day: date
    files: int
    bytes: int
    duration: timedelta


def moved(db: Connection, *, since: datetime, until: datetime) -> list[Moved]:
    """Return the sums of what data users moved from `since` on and before `until`."""
    values = {"since": to_micros(since), "until": to_micros(until)}
    return [
        Moved(
            user=row["user"],
            destination=row["destination"],
            protocol=row["protocol"],
            action=row["action"],
            day=EPOCH + timedelta(days=row["day"]),
            files=row["files"],
            bytes=row["bytes"],
            duration=timedelta(microseconds=row["duration"]),
        )
        for row in db.execute(MOVED.sql, values)
    ]


def flow(db: Connection, *, now: datetime, over: timedelta) -> tuple[int, int]:
    """Return the bytes that came in the last `over` and are here, and those that go in the next.

    What came is counted by whole hours; what goes is estimated from SAMPLED files, exact below.
    """
    stored = db.execute(STORED.sql, {"since": to_micros(now - over) // HOUR}).fetchone()
    span = db.execute(SPAN.sql).fetchone()
    values = {
        "first": span["first"], "span": span["last"] - span["first"] + 1,
        "most": max(min(SAMPLED, span["last"] - span["first"] + 1), 1),
        "until": to_micros(now + over),
    }  # fmt: skip
    sample = db.execute(SAMPLE.sql, values).fetchone()
    if not sample["bytes"]:
        return int(stored["came"]), 0
    return int(stored["came"]), stored["bytes"] * sample["leaving"] // sample["bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What was sent to one host in one hour."""

    begin: datetime
    files: int = 0
    bytes: int = 0
    failed: int = 0  # attempts
    duration: timedelta = timedelta(0)


def by_hour(db: Connection, host: str, *, since: datetime, hours: int) -> list[Hour]:
    """Return what was sent to a host in each of the hours from `since` on, empty ones too."""
    values = {"host": host, "since": to_micros(since) // HOUR}
    found = {row["hour"]: row for row in db.execute(BY_HOUR.sql, values)}
    first = to_micros(since) // HOUR
    return [_hour(since + timedelta(hours=one), found.get(first + one)) for one in range(hours)]


def _hour(begin: datetime, row: Row | None) -> Hour:
    if row is None:
        return Hour(begin=begin)
    return Hour(
        begin=begin,
        files=row["files"],
        bytes=row["bytes"],
        failed=row["failed"],
        duration=timedelta(microseconds=row["duration"] or 0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one user moved by one protocol in one direction from `start` on."""

    user: str
    protocol: str
    action: str  # upload or download
    start: datetime
    number: int  # failed ones too
    bytes: int
    failed: int
    duration: timedelta  # of all together


def traffic(
    db: Connection,
    *,
    since: datetime,
    until: datetime,
    step: timedelta | None = None,
    user: str | None = None,
    most: int,
) -> list[Traffic]:
    """Return what went through the portals, `until` not included, at most `most` sums.

    `step`: sums for each such length of time, from the epoch on; None: one over all.
    """
    width = round(step.total_seconds() * 1_000_000) if step else 2**62
    values = {
        "since": to_micros(since), "until": to_micros(until), "step": width, "most": most,
        "user": user,
    }  # fmt: skip
    chosen = TRAFFIC if user is None else TRAFFIC_OF
    return [
        Traffic(
            user=row["user"],
            protocol=row["protocol"],
            action=row["action"],
            start=max(from_micros(row["slot"] * width), since) if step else since,
            number=row["number"],
            bytes=row["bytes"],
            failed=row["failed"],
            duration=timedelta(microseconds=row["duration"]),
        )
        for row in db.execute(chosen.sql, values)
    ]
