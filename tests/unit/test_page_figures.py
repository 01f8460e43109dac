"""What pages compute before they draw: marks of the map, sums of the portal, kinds of tasks."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from ecpds.engine.hostreport import AddressReport
from ecpds.engine.operations.hosts import HostView
from ecpds.model.host import Host
from ecpds.store.stats import Moved
from ecpds.web.display import Look
from ecpds.web.pages import host_map, host_network, portal_stats, system

GOOD, BAD = Look("Works", "check", "good"), Look("Paused", "pause", "bad")
DAY = date(2031, 5, 4)


def view(name: str, latitude: float | None, longitude: float | None) -> HostView:
    """A host at a place."""
    host = replace(Host(), name=name, latitude=latitude, longitude=longitude)
    return HostView(
        host=host, version=1, destinations=(), connections=0, bytes=0, error="", checked_at=None,
        valid=None, breaker=None,
    )  # fmt: skip


def test_close_hosts_share_a_mark_that_shows_the_worst() -> None:
    """Hosts without a place have none; the picture begins at 90 N, 180 W."""
    found = host_map.marks(
        [(view("a", 51.4, -0.9), GOOD), (view("b", 51.5, -0.8), BAD),
         (view("c", -33.9, 151.2), GOOD), (view("d", None, 3.0), BAD)]
    )  # fmt: skip
    assert [(one.x, one.y, one.look.tone) for one in found] == [
        (358.2, 77.2, "bad"), (662.4, 247.8, "good"),
    ]  # fmt: skip
    assert found[0].title == "a: Works, b: Paused"
    assert host_map.place(90, -180) == (0, 0)


def test_traffic_is_summed_by_what_is_asked_for() -> None:
    """Up and down apart; days without any are there too."""
    rows = [
        Moved(user="u", destination=name, protocol="ftp", action=action, day=DAY, files=1,
              bytes=size, duration=timedelta(seconds=2))
        for name, action, size in (("A", "upload", 10), ("A", "download", 20), ("B", "download", 5))
    ]  # fmt: skip
    lines = portal_stats.lines_of(rows, "destination")
    assert [(one.name, one.files, one.up, one.down, one.rate) for one in lines] == [
        ("A", 2, 10, 20, 7.5), ("B", 1, 0, 5, 2.5),
    ]  # fmt: skip
    assert portal_stats.by_day(rows, DAY, 2) == [(DAY - timedelta(days=1), 0, 0), (DAY, 10, 25)]


def test_an_address_that_answers_sometimes_is_no_good_one() -> None:
    """All, some or none of the connections."""
    tones = [
        host_network.reached(
            AddressReport(address="::1", family="IPv6", took=took, failed=failed, error="")
        ).look.tone
        for took, failed in (((1.0, 3.0), 0), ((1.0,), 2), ((), 3))
    ]
    assert tones == ["good", "warn", "bad"]


def test_tasks_of_many_objects_are_one_row() -> None:
    """Up to twenty of a kind are named."""
    many = [f"dissemination D{number}" for number in range(30)]
    found = system.kinds_of(["Task-1", "live", "watch a", *many])
    assert found == {
        "connections and others": 1, "live": 1, "watch a": 1, "dissemination (all)": 30,
    }  # fmt: skip
