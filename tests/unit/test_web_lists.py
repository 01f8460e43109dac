"""What the dashboard's lists and redirects share, and its hour of figures."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from ecpds.base.metrics import Metrics
from ecpds.web.pages import lists
from ecpds.web.pages.frame import own_address
from ecpds.web.pulse import MINUTES, Minute, Pulse
from tests.clock import FakeClock


def test_a_cell_that_a_spreadsheet_would_run_is_a_text() -> None:
    answer = lists.as_csv(
        "x", ("a", "b"), [("=cmd|calc", -5), ("+1", None), ('a,"b"\n', True), ("\udcff", 1)]
    )
    assert isinstance(answer.body, bytes)
    rows = list(csv.reader(io.StringIO(answer.body.decode())))
    assert rows[1] == ["'=cmd|calc", "-5"]
    assert rows[2] == ["'+1", ""]
    assert rows[3] == ['a,"b"\n', "yes"]
    assert rows[4] == ["\\udcff", "1"]


def test_a_second_click_on_a_head_turns_the_order() -> None:
    rising = lists.Sort("name", falling=False)
    assert rising.next("name") == "-name"
    assert rising.aria("name") == "ascending"
    assert rising.aria("queued") == ""
    assert lists.Sort("name", falling=True).next("name") == "name"


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "/\\evil.example", "https://evil.example/", "", "/a\r\nX: y", "/" * 2001],
)
def test_a_way_back_leads_to_our_own_pages_only(address: str) -> None:
    assert own_address(address, "/safe") == "/safe"


def test_a_way_back_keeps_its_query() -> None:
    assert own_address("/transfers?dest=A&status=done", "/") == "/transfers?dest=A&status=done"


async def test_the_hour_counts_what_ended_in_each_minute() -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, 0, 30, tzinfo=UTC))
    metrics = Metrics()
    metrics.finished.labels("A", "ftp", "done").inc(5)  # before anybody looked
    pulse = Pulse(metrics, clock)
    pulse.look()
    metrics.finished.labels("A", "ftp", "done").inc(2)
    metrics.sent_bytes.labels("A", "ftp", "done").inc(300)
    metrics.finished.labels("B", "sftp", "failed").inc()
    assert pulse.hour()[-1] == Minute(files=2, bytes=300, failed=1)
    await clock.advance(timedelta(minutes=3))
    pulse.look()
    metrics.finished.labels("A", "ftp", "done").inc()
    hour = pulse.hour("A")
    assert len(hour) == MINUTES
    assert hour[-1].files == 1
    assert sum(one.files for one in hour) == 3
    assert sum(one.failed for one in hour) == 0
    assert pulse.hour("C") == [Minute()] * MINUTES


async def test_an_hour_later_nothing_is_left() -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, 0, 30, tzinfo=UTC))
    metrics = Metrics()
    pulse = Pulse(metrics, clock)
    pulse.look()
    metrics.finished.labels("A", "ftp", "done").inc(2)
    for _ in range(MINUTES + 1):
        await clock.advance(timedelta(minutes=1))
        pulse.look()
    assert pulse.hour() == [Minute()] * MINUTES
