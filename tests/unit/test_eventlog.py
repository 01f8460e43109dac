"""Event files: rotation by size and time, compression, retention, chosen types."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ecpds.engine.eventlog import EventFile, EventLog
from ecpds.engine.telling import Teller
from ecpds.store.db import Connection
from tests.node import small_node

NOON = datetime(2031, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_large_file_is_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = EventFile(tmp_path / "e.log", rotate_size=10, keep=2)
    for number in range(5):
        log.append([f"line {number} is long"], NOON)
    assert names(tmp_path) == ["e.log", "e.log.1", "e.log.2"]
    assert (tmp_path / "e.log").read_text() == "line 4 is long\n"
    assert (tmp_path / "e.log.2").read_text() == "line 2 is long\n"


def test_each_day_has_its_file_and_old_ones_are_compressed(tmp_path: Path) -> None:
    """Periods are those of UTC, also after a restart."""
    for day in range(3):
        log = EventFile(tmp_path / "e.log", rotate_size=10_000, keep=5, every=DAY, compress=True)
        log.append([f"day {day}"], NOON + day * DAY)
        log.append(["more"], NOON + day * DAY + timedelta(hours=11, minutes=59))
    assert names(tmp_path) == ["e.log", "e.log.1.gz", "e.log.2.gz"]
    assert (tmp_path / "e.log").read_text() == "day 2\nmore\n"
    with gzip.open(tmp_path / "e.log.2.gz", "rt") as file:
        assert file.read() == "day 0\nmore\n"


def test_a_file_that_was_moved_away_gets_no_more_lines(tmp_path: Path) -> None:
    """logrotate and the like need no signal."""
    log = EventFile(tmp_path / "e.log", rotate_size=10_000, keep=2)
    log.append(["one"], NOON)
    (tmp_path / "e.log").rename(tmp_path / "kept")
    log.append(["two"], NOON)
    assert (tmp_path / "kept").read_text() == "one\n"
    assert (tmp_path / "e.log").read_text() == "two\n"


async def test_only_chosen_types_are_written(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        core = node.core
        events = replace(core.settings.events, types=("ADM",))
        core.settings = replace(core.settings, events=events)
        log, teller, now = EventLog(core), Teller(node="m1"), core.clock.now()

        def tell(db: Connection) -> None:
            user, net = {"id": "ann", "kind": "web"}, {"client": None}
            one = {"kind": "host", "name": "h"}
            for kind in ("ADM", "SYS"):
                given = {"user": user, "net": net} if kind == "ADM" else {}
                teller.plain(db, kind, now=now, action="x", object=one, outcome="ok", **given)

        await node.store.write(tell)
        await log.drain()
        lines = (core.settings.data_dir / "log" / "events.jsonl").read_text().splitlines()
        assert len(lines) == 1
        assert '"ADM"' in lines[0]
