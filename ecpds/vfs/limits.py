"""Connections, byte quotas and rates of data users and destinations.

Quotas roll in minute buckets: memory decides, the store remembers over a restart.
Spec: portal.md 1.7, Ex 4, 5 and 27.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from ecpds.base.logs import get_logger
from ecpds.engine.core import DestinationEntry
from ecpds.model.errors import OptionError, QuotaExceeded, TooManyConnections
from ecpds.model.families import PortalOptions
from ecpds.model.units import DaySchedule, format_bytes, format_duration
from ecpds.store import limits
from ecpds.store.db import Store

log = get_logger(__name__)

Direction = Literal["upload", "download"]
KEPT: Final = timedelta(days=7)
TOLD_AT: Final = (80, 100)
"""Percents of a quota that are told as QTA events."""

_MINUTE: Final = 60
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


# --- connections -----------------------------------------------------------------------------


def read_schedule(text: str, user: str) -> DaySchedule | None:
    """Return `portal.maxConnectionsSchedule`, None when it is empty or (imported) unreadable."""
    if not text:
        return None
    try:
        return DaySchedule.parse(text)
    except OptionError as error:
        log.warning("connection schedule is not used", user=user, reason=error.message)
        return None


def most_connections(options: PortalOptions, schedule: DaySchedule | None, now: datetime) -> int:
    """Return how many connections a user may have now, 0 for any number."""
    if schedule is None:
        return options.max_connections
    return schedule.value(now.astimezone(UTC), options.max_connections)


class Connections:
    """Sessions of each data user over all protocols."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, login: str, most: int) -> None:
        """Raise TooManyConnections when there is no free slot."""
        if most and self._open[login] >= most:
            raise TooManyConnections(f"Maximum number of connections exceeded ({most})")

    def take(self, login: str) -> None:
        """Occupy a slot."""
        self._open[login] += 1

    def give_back(self, login: str) -> None:
        """Free a slot."""
        self._open[login] -= 1
        if self._open[login] <= 0:
            del self._open[login]

    def of(self, login: str) -> int:
        """Return the open sessions of a user."""
        return self._open[login]


# --- quotas ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """So many bytes in a rolling period."""

    holder: str  # user:NAME or destination:NAME, as stored
    direction: Direction
    most: int
    period: timedelta

    @classmethod
    def of_user(cls, login: str, options: PortalOptions) -> tuple[Quota, ...]:
        """Return the quotas of a user, upload first; both keys of one are needed."""
        found = (
            _quota(f"user:{login}", "upload", options.max_upload, options.upload_period),
            _quota(f"user:{login}", "download", options.max_download, options.download_period),
        )
        return tuple(quota for quota in found if quota is not None)

    @classmethod
    def of_destination(cls, entry: DestinationEntry) -> tuple[Quota, ...]:
        """Return the quotas of a destination, upload first."""
        name, given = f"destination:{entry.name}", entry.incoming
        found = (
            _quota(name, "upload", given.max_upload, given.upload_period),
            _quota(name, "download", given.max_download, given.download_period),
        )
        return tuple(quota for quota in found if quota is not None)

    def text(self, used: int) -> str:
        """Return the words of a refusal."""
        kind, _, name = self.holder.partition(":")
        whose = f" for destination {name}" if kind == "destination" else ""
        return (
            f"{self.direction.capitalize()} quota exceeded{whose} ({format_bytes(used)} of "
            f"{format_bytes(self.most)} in the last {format_duration(self.period)})"
        )


def _quota(holder: str, direction: Direction, most: int, period: timedelta | None) -> Quota | None:
    if most <= 0 or not period:
        return None
    return Quota(holder=holder, direction=direction, most=most, period=min(period, KEPT))


def _minute(moment: datetime) -> int:
    return int((moment - _START).total_seconds()) // _MINUTE


def used_since(quota: Quota, now: datetime) -> int:
    """Return the first minute whose bytes count now."""
    return _minute(now - quota.period) + 1


class Quotas:
    """What was moved lately by those who have a quota."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._windows: dict[tuple[str, str], deque[tuple[int, int]]] = {}

    async def load(self, quota: Quota, now: datetime) -> None:
        """Read what the store remembers; done once, before a quota is first asked about."""
        key = (quota.holder, quota.direction)
        if key not in self._windows:
            rows = await self._store.read(limits.buckets, *key, since=_minute(now - KEPT))
            self._windows.setdefault(key, deque(rows))

    def used(self, quota: Quota, now: datetime) -> int:
        """Return the bytes of the last period."""
        since = _minute(now - quota.period)
        window = self._windows.get((quota.holder, quota.direction), ())
        return sum(count for minute, count in window if minute > since)

    def check(self, quota: Quota, now: datetime) -> None:
        """Raise QuotaExceeded when it is used up."""
        used = self.used(quota, now)
        if used >= quota.most:
            wait = self._wait(quota, used, now)
            raise QuotaExceeded(quota.text(used), retry_after=wait)

    def _wait(self, quota: Quota, used: int, now: datetime) -> int:
        """Return the seconds until enough has left the window."""
        since = _minute(now - quota.period)
        for minute, count in self._windows.get((quota.holder, quota.direction), ()):
            if minute <= since:
                continue
            used -= count
            if used < quota.most:
                leaves = _START + timedelta(minutes=minute) + quota.period
                return max(int((leaves - now).total_seconds()) + 1, 1)
        return int(quota.period.total_seconds())

    def add(self, quota: Quota, count: int, now: datetime) -> int | None:
        """Count bytes that moved; the caller also writes them to the store.

        Return the threshold in percent (`TOLD_AT`) that was passed just now, the highest one.
        """
        before = self.used(quota, now)
        self._add(quota, count, now)
        after = before + count
        passed = [one for one in TOLD_AT if before * 100 < one * quota.most <= after * 100]
        return passed[-1] if passed else None

    def _add(self, quota: Quota, count: int, now: datetime) -> None:
        window = self._windows.setdefault((quota.holder, quota.direction), deque())
        minute = _minute(now)
        if window and window[-1][0] == minute:
            count += window.pop()[1]
        window.append((minute, count))
        oldest = _minute(now - KEPT)
        while window[0][0] < oldest:
            window.popleft()


# --- rates -----------------------------------------------------------------------------------


def slower(*rates: int | None) -> int | None:
    """Return the lower one of some rates, None when none is set."""
    return min((rate for rate in rates if rate), default=None)


class Pace:
    """Tells how long to wait so that a transfer keeps to its rate."""

    __slots__ = ("_begun", "rate")

    def __init__(self, rate: int | None) -> None:
        self.rate = rate or None  # bytes a second, None: as fast as it goes
        self._begun = time.monotonic()

    def pause(self, moved: int) -> float:
        """Return the seconds to wait before the next block, after `moved` bytes in all."""
        if self.rate is None:
            return 0.0
        return max(moved / self.rate - (time.monotonic() - self._begun), 0.0)
