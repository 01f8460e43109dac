"""Midnight, summer time and time zones: no date twice, none left out, no queue that stays shut."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ecpds.engine.acquisition_run import lines_of
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.dates import DatePattern, expand_date
from ecpds.model.directory import parse_directory
from ecpds.model.host import Host, HostRole
from ecpds.model.units import TimeRanges
from tests.clock import FakeClock
from tests.node import small_node

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PARIS = ZoneInfo("Europe/Paris")
# UTC: clocks go from 2 to 3 at 01:00 of 2026-03-29, from 3 to 2 at 01:00 of 2026-10-25
SPRING, AUTUMN = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)


def path_at(now: datetime, text: str, zone: ZoneInfo = PARIS) -> str:
    """Return the path of a directory line at a time."""
    return parse_directory(text, zone=zone).lines[0].at(now).path


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("UTC", datetime(2026, 3, 1, tzinfo=UTC)),
        ("Europe/Paris", datetime(2026, 3, 28, 23, tzinfo=UTC)),  # the night of summer time
        ("Asia/Kolkata", datetime(2026, 2, 28, 18, 30, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(2026, 2, 28, 10, tzinfo=UTC)),
    ],
)
def test_a_path_changes_at_midnight_of_its_zone(zone: str, midnight: datetime) -> None:
    """The last moment is of the old day, the next one of the new."""
    here, text = ZoneInfo(zone), "/in/$date/"
    for moment in (midnight - timedelta(microseconds=1), midnight):
        assert path_at(moment, text, here) == f"/in/{moment.astimezone(here):%Y%m%d}/"
    assert path_at(midnight, text, here) != path_at(
        midnight - timedelta(microseconds=1), text, here
    )


@pytest.mark.parametrize("night", [SPRING, AUTUMN])
def test_yesterday_is_the_day_before_in_every_hour_of_a_clock_change(night: datetime) -> None:
    """A day of 23 or 25 hours is listed as long as any other."""
    for number in range(-30, 60):
        now = night + number * HOUR
        wanted = now.astimezone(PARIS).date() - timedelta(days=1)
        assert path_at(now, "[datedelta=-1d]/in/$date/") == f"/in/{wanted:%Y%m%d}/"


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (SPRING.replace(hour=1, minute=30), "2026032901"),  # 03:30, there is no 02 that day
        (AUTUMN.replace(hour=1, minute=30), "2026102502"),  # the second 02:30
        (AUTUMN.replace(hour=2, minute=30), "2026102502"),
    ],
)
def test_an_hour_before_is_an_hour_that_was(now: datetime, before: str) -> None:
    pattern = DatePattern.parse("yyyyMMddHH")
    assert expand_date(now, dateformat=pattern, delta=-HOUR, zone=PARIS) == before


@pytest.mark.parametrize("night", [SPRING, AUTUMN])
def test_a_window_opens_and_closes_in_the_nights_of_a_clock_change(night: datetime) -> None:
    """Each change that is waited for comes, in at most a day; the wait never stands still."""
    ranges = TimeRanges.parse("02:30-03:30,23:30-00:30")
    for number in range(-120, 200, 7):
        now = night + timedelta(minutes=number)
        here = ranges.contains(now.astimezone(PARIS))
        then = ranges.next_change(now.astimezone(PARIS))
        assert then is not None
        moment = now
        while moment + MINUTE < then:
            moment += MINUTE
            if ranges.contains(moment.astimezone(PARIS)) is not here:
                break
        assert now < then.astimezone(UTC) == moment + MINUTE, (now, then)
        assert ranges.contains(then.astimezone(UTC).astimezone(PARIS)) is not here


async def test_another_time_zone_at_midnight_counts_from_the_next_run_on(tmp_path: Path) -> None:
    """The zone is read at each run: a reload takes effect without a restart, no day is lost."""
    clock = FakeClock(datetime(2026, 3, 28, 23, 30, tzinfo=UTC))
    async with small_node(tmp_path, clock=clock) as node:
        host = Host(
            name="h", method="genericFile", role=HostRole.ACQUISITION, directory="/in/$date/"
        )
        await HostOperations(node.engine).put(host, SYSTEM)
        entry, found = node.core.snapshot.host("h"), []
        for zone in ("UTC", "Europe/Paris", "America/New_York"):
            settings = node.core.settings
            node.core.settings = replace(settings, node=replace(settings.node, timezone=zone))
            directory = await lines_of(node.core, entry)
            found.append(directory.lines[0].at(clock.now()).path)
        assert found == ["/in/20260328/", "/in/20260329/", "/in/20260328/"]
