"""Discovery beyond the original: dry run, recursion, stability, watch, interrupt, batches."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.acquisition_dry import Request, dry_run
from ecpds.engine.acquisition_run import Discovery, Run
from ecpds.engine.acquisition_take import Registering, Telling
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import BadState, NotFound
from ecpds.model.status import TransferStatus
from ecpds.store import history
from tests.flow.test_engine import ANN, Bench, bench, done, plain

S = TransferStatus
PAST = datetime(2030, 1, 1, tzinfo=UTC)


def quiet(made: Bench, directory: str = "", **options: str) -> dict[str, Any]:
    """Return a site whose acquisition host looks only once an hour."""
    site = plain(made, options)
    site["hosts"][0]["acquisition_frequency"] = "1h"
    if directory:
        site["hosts"][0]["directory"] = directory
    return site


def idle(made: Bench) -> dict[str, Any]:
    """Return a site that acquires nothing by itself, for dry runs."""
    destination = {"name": "D", "acquisition": False, "hosts": ["feed", "out"]}
    return quiet(made) | {"destinations": [destination]}


def rows(report: Any) -> list[tuple[str, str]]:
    return sorted((row.choice.entry.name, row.outcome) for row in report.rows)


async def test_a_dry_run_tells_each_entry_and_stores_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.apply(idle(made))
        made.lay("a.grib", b"x" * 2000)
        made.lay("b.grib", b"x")
        made.lay("c.txt")
        core, feed = made.node.core, made.feed
        text = f"[filesize>1KB;target=$date/$name]{feed}/{{.*\\.grib}}\n[filesize>>1]{feed}/"
        report = await dry_run(core, Request(host="feed", directory=text))
        assert rows(report) == [
            ("a.grib", "selected"), ("b.grib", "wrong size"), ("c.txt", "wrong pattern"),
        ]  # fmt: skip
        taken = next(row for row in report.rows if row.outcome == "selected")
        assert taken.key is not None
        assert taken.key[:2] == ("D", f"{core.clock.now():%Y%m%d}/a.grib")
        assert taken.key[2] == f"{feed}/a.grib"
        assert [(line.line, bool(line.error)) for line in report.lines] == [(1, False), (2, True)]
        assert (report.run.listed, report.run.selected) == (3, 1)
        assert await made.all() == []
        with pytest.raises(BadState):
            await dry_run(core, Request(host="out"))
        with pytest.raises(NotFound):
            await dry_run(core, Request(host="feed", destination="Z"))


async def test_a_dry_run_knows_what_is_known(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.lay("a")
        await made.wait(done(1))
        report = await dry_run(made.node.core, Request(host="feed"))
        (row,) = report.rows
        assert (row.outcome, row.known is not None) == ("exists", True)
        tried = Request(host="feed", directory=f"[requeueon=$size2>=$size1]{made.feed}/")
        report = await dry_run(made.node.core, tried)
        assert rows(report) == [("a", "selected again")]


LISTING = """total 12
-rw-r--r--  1 ftp ftp  2048 Mar 01 2030 a.nc
-rw-r--r--  1 ftp ftp    10 Mar 01 2030 b.nc
drwxr-xr-x  2 ftp ftp  4096 Mar 01 2030 sub
garbage
"""


async def test_a_pasted_listing(tmp_path: Path) -> None:
    """Lines as the server sends them, or bare names with size and time."""
    async with bench(tmp_path) as made:
        text = "[filesize>1KB]/in/{.*\\.nc}"
        core = made.node.core
        report = await dry_run(core, Request(host="feed", directory=text, listing=LISTING))
        assert rows(report) == [
            ("a.nc", "selected"), ("b.nc", "wrong size"), ("garbage", "error"),
            ("sub", "not a file"),
        ]  # fmt: skip
        names = "s/a.nc\t2000\t2030-03-01T10:00:00Z\nb.nc\t1\nc.nc\tx\n"
        tried = Request(host="feed", directory=text, listing=names, names_only=True)
        report = await dry_run(core, tried)
        assert rows(report) == [
            ("b.nc", "wrong size"), ("c.nc", "error"), ("s/a.nc", "selected"),
        ]  # fmt: skip
        taken = next(row for row in report.rows if row.outcome == "selected")
        assert (taken.choice.original, taken.choice.target) == ("/in/s/a.nc", "s/a.nc")


async def test_recursion_with_depth_exclude_and_groups(tmp_path: Path) -> None:
    """Excluded directories are not entered; what the regex names can be used in the target."""
    async with bench(tmp_path) as made:
        await made.apply(idle(made))
        for name in ("a.x", "one/b.x", "one/two/c.x", "one/two/three/d.x", "old/e.x"):
            made.lay(name)
        text = (
            f"[recursive=2;exclude={{old(/.*)?}};target=$group[kind]/$name]"
            f"{made.feed}/{{(?:.*/)?[a-z]\\.(?P<kind>[a-z])}}"
        )
        report = await dry_run(made.node.core, Request(host="feed", directory=text))
        targets = sorted(row.choice.target for row in report.rows if row.outcome == "selected")
        assert targets == ["x/a.x", "x/b.x", "x/c.x"]
        assert not any(row.choice.entry.name.startswith("old") for row in report.rows)


async def test_a_directory_that_cannot_be_listed_stops_only_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.apply(idle(made))
        made.lay("a")
        made.lay("sub/b")
        (made.feed / "lost").symlink_to(made.feed / "nowhere")
        text = f"[recursive=1]{made.feed}/\n{made.feed}/missing/\n"
        report = await dry_run(made.node.core, Request(host="feed", directory=text))
        names = {row.choice.entry.name: row.outcome for row in report.rows}
        assert names["a"] == names["sub/b"] == "selected"
        assert report.run.errors[0].startswith("line 2:")


async def test_a_file_is_taken_when_it_no_longer_grows(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        site = plain(made, {"acquisition.stable": "200ms"})
        await made.apply(site)
        place = made.feed / "a"
        place.write_bytes(b"1")
        ahead = time.time() + 3600  # noqa: TID251 - a file time, ahead so that only looks decide
        os.utime(place, (ahead, ahead))
        began = asyncio.get_running_loop().time()
        await made.wait(done(1))
        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_watched_directory_is_acquired_at_once(tmp_path: Path) -> None:
    """Files, files renamed into place, new directories; the clock would look in an hour."""
    async with bench(tmp_path) as made:
        text = f"[recursive=2]{made.feed}/{{(?!.*\\.part$).*}}"
        await made.apply(quiet(made, text, **{"acquisition.watch": "yes"}))
        scheduler = made.node.engine.acquisitions["D", "feed"]
        async with asyncio.timeout(10):
            while not (scheduler.watch and scheduler.watch._places):
                await asyncio.sleep(0.01)
        (made.feed / "a").write_bytes(b"content")
        await made.wait(done(1))
        made.lay("b")  # renamed into place
        await made.wait(done(2))
        made.lay("new/folder/c")
        await made.wait(done(3))
        made.lay("new/folder/d")
        found = await made.wait(done(4))
        assert {one.target for one in found} == {"a", "b", "new/folder/c", "new/folder/d"}
        assert scheduler.watch is not None
        assert scheduler.watch.told >= 3
        await made.apply(quiet(made, text))
        async with asyncio.timeout(10):
            while scheduler.watch is not None:
                await asyncio.sleep(0.01)


async def test_a_full_queue_of_the_watch_asks_for_a_sweep(tmp_path: Path) -> None:
    from ecpds.engine import watch as watching

    async with bench(tmp_path) as made:
        await made.apply(quiet(made, **{"acquisition.watch": "yes"}))
        scheduler = made.node.engine.acquisitions["D", "feed"]
        async with asyncio.timeout(10):
            while not (scheduler.watch and scheduler.watch._places):
                await asyncio.sleep(0.01)
        os.link(made.lay(".hidden"), made.feed / "linked")  # inotify tells only its creation
        assert scheduler.watch is not None
        scheduler.watch._event(-1, watching.Q_OVERFLOW, "")
        scheduler.poke()
        found = await made.wait(done(1))
        assert found[0].target == "linked"


async def test_run_now_interrupts_what_runs(tmp_path: Path) -> None:
    """Ten seconds of listing end at once, by a person, an edited host or a stop."""
    async with bench(tmp_path) as made:
        made.lay("a")
        await made.wait(done(1))
        scheduler = made.node.engine.acquisitions["D", "feed"]
        await made.apply(quiet(made))
        async with asyncio.timeout(10):  # the edited host is looked at once more
            while scheduler._now or scheduler._task is not None or scheduler.due_at is None:
                await asyncio.sleep(0.005)
        hosts = HostOperations(made.node.engine)

        async def running() -> asyncio.Task[None]:
            async with asyncio.timeout(10):
                while scheduler._task is None or not scheduler.is_running:
                    await asyncio.sleep(0.005)
            return scheduler._task

        with held(made):
            await hosts.acquire("feed", ANN)
            task = await running()
            assert await hosts.interrupt("feed", ANN) == ["D"]
            async with asyncio.timeout(5):
                while not task.done():
                    await asyncio.sleep(0.005)
            assert scheduler.last is not None
            assert scheduler.last.errors == ["interrupted"]
            await hosts.acquire("feed", ANN)
            first = await running()
            await hosts.acquire("feed", ANN)
            async with asyncio.timeout(5):
                while not first.done():
                    await asyncio.sleep(0.005)
            assert await running() is not first
            await DestinationOperations(made.node.engine).stop("D", ANN, immediate=True)
            async with asyncio.timeout(5):
                while scheduler._task is not None:
                    await asyncio.sleep(0.005)
            assert scheduler.last.errors == ["interrupted"]
            ran = scheduler.last
        assert await hosts.interrupt("feed", ANN) == []
        await DestinationOperations(made.node.engine).start("D", ANN)  # its clock was cleared
        async with asyncio.timeout(5):
            while scheduler.last is ran or scheduler._task is not None:
                await asyncio.sleep(0.005)
        assert scheduler.last.errors == []


class held:  # noqa: N801 - a context manager
    """Listings of local directories do not end inside of the block."""

    def __init__(self, made: Bench) -> None:
        self._module = made.node.core.snapshot.host("feed").access.module  # type: ignore[union-attr]

    def __enter__(self) -> None:
        self._list = self._module.list

        async def endless(*_: Any, **__: Any) -> AsyncIterator[Entry]:
            await asyncio.sleep(60)
            yield Entry(kind=Kind.FILE, name="never")

        setattr(self._module, "list", endless)  # noqa: B010 - mypy takes it for a method

    def __exit__(self, *_: object) -> None:
        setattr(self._module, "list", self._list)  # noqa: B010


@pytest.mark.parametrize("by", ["host", "node"])
async def test_a_run_ends_when_its_time_is_over(tmp_path: Path, by: str) -> None:
    async with bench(tmp_path) as made:
        made.lay("a")
        await made.wait(done(1))
        with held(made):
            if by == "host":
                await made.apply(quiet(made, **{"acquisition.maximumDuration": "100ms"}))
            else:
                settings = made.node.core.settings
                short = replace(settings.scheduler, acquisition_maximum=timedelta(seconds=0.1))
                made.node.core.settings = replace(settings, scheduler=short)
                await HostOperations(made.node.engine).acquire("feed", ANN)
            scheduler = made.node.engine.acquisitions["D", "feed"]
            async with asyncio.timeout(10):
                while not (scheduler.last and scheduler.last.errors == ["time is over"]):
                    await asyncio.sleep(0.01)


async def listing(count: int, *, prefix: str = "f") -> AsyncIterator[Entry]:
    for number in range(count):
        name = f"{prefix}{number:07d}.grib"
        yield Entry(kind=Kind.FILE, name=name, size=1000, mtime=PAST)


async def discovered(made: Bench, count: int, *, known: bool) -> float:
    """Return how long a listing of so many files takes."""
    core = made.node.core
    entry, host = core.snapshot.destination("D"), core.snapshot.host("feed")
    taker = Registering(core, entry, host, lambda _: None)
    search = parse_directory("/in/").lines[0].at(core.clock.now())
    run = Run(core.clock.now())
    began = time.monotonic()
    await Discovery(core, entry, host, taker).run_entries(search, listing(count), run)
    assert run.outcomes == {"exists" if known else "selected": count}
    return time.monotonic() - began


async def test_known_files_are_looked_up_in_batches(tmp_path: Path) -> None:
    """10,000 known files are passed over; how fast is a benchmark's question."""
    async with bench(tmp_path) as made:
        await made.apply(
            quiet(made)
            | {
                "destinations": [
                    {"name": "D", "active": False, "max_pending": 0, "hosts": ["feed", "out"]}
                ]
            }
        )
        await discovered(made, 10_000, known=False)
        await discovered(made, 10_000, known=True)


@pytest.mark.parametrize(
    ("options", "most", "at_once"),
    [
        ({}, 500, 1),
        ({"listSynchronous": "no"}, 1, 1),
        ({"listParallel": "yes", "listMaxWaiting": "50", "listMaxThreads": "4"}, 50, 4),
        ({"listParallel": "yes", "listMaxThreads": "100"}, 100, 8),
    ],
    ids=["default", "stream", "parallel", "bounded"],
)
async def test_in_which_lots_entries_are_taken(
    tmp_path: Path, options: dict[str, str], most: int, at_once: int
) -> None:
    """acquisition.md 10: listSynchronous, listParallel, listMaxWaiting, listMaxThreads."""
    async with bench(tmp_path) as made:
        options = {f"acquisition.{name}": value for name, value in options.items()}
        paused = {"destinations": [{"name": "D", "acquisition": False, "hosts": ["feed", "out"]}]}
        await made.apply(quiet(made, **options) | paused)
        core = made.node.core
        entry, host = core.snapshot.destination("D"), core.snapshot.host("feed")
        taker = Registering(core, entry, host, lambda _: None)
        sizes: list[int] = []
        running = [0, 0]  # now, most
        reached = asyncio.Event()

        async def take(decided: Any, search: Any, run: Run, module: Any) -> None:
            sizes.append(len(decided))
            running[0] += 1
            running[1] = max(running)
            if running[0] == at_once:
                reached.set()
            async with asyncio.timeout(10):
                await reached.wait()
            for _ in range(5):  # more of them could begin now
                await asyncio.sleep(0)
            run.count("selected", len(decided))
            running[0] -= 1

        setattr(taker, "take", take)  # noqa: B010 - mypy takes it for a method
        search = parse_directory("/in/").lines[0].at(core.clock.now())
        run, count = Run(core.clock.now()), 1100 if most > 1 else 20
        await Discovery(core, entry, host, taker).run_entries(search, listing(count), run)
        assert run.outcomes == {"selected": count}
        assert (max(sizes), sum(sizes), running[1]) == (most, count, at_once)


async def test_a_long_listing_needs_little_memory(tmp_path: Path) -> None:
    """Entries are told and forgotten; a dry run keeps only the first rows."""
    async with bench(tmp_path) as made:
        core = made.node.core
        entry, host = core.snapshot.destination("D"), core.snapshot.host("feed")
        line = parse_directory("/in/{.*\\.nc}").lines[0]
        telling, run = Telling(core, entry, host, limit=10), Run(core.clock.now())
        discovery = Discovery(core, entry, host, telling)
        tracemalloc.start()
        try:
            await discovery.run_entries(line.at(core.clock.now()), listing(30_000), run)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (run.listed, len(telling.rows)) == (30_000, 10)
        assert peak < 4_000_000


async def test_a_host_that_cannot_be_reached_is_asked_less_and_less(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        site = plain(made)
        site["hosts"][0] |= {
            "method": "genericFtp", "host": "127.0.0.1", "directory": "/",
            "options": {"ftp.port": 1},
        }  # fmt: skip
        await made.apply(site)
        scheduler = made.node.engine.acquisitions["D", "feed"]
        clock, wait = made.node.core.clock, timedelta(0)
        async with asyncio.timeout(20):
            while wait < timedelta(seconds=1.2):  # more than the first pause
                await asyncio.sleep(0.01)
                if scheduler.due_at is not None:
                    wait = scheduler.due_at - clock.now()
        assert scheduler._failures >= 2
        view = await HostOperations(made.node.engine).view("feed")
        assert view.error


async def test_an_inline_message_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    """`payloadExtension` names it; the content that came along is stored at once."""
    async with bench(tmp_path) as made:
        core = made.node.core
        entry, host = core.snapshot.destination("D"), core.snapshot.host("feed")
        taker = Registering(core, entry, host, made.node.engine.accepted)
        search = parse_directory("/in/").lines[0].at(core.clock.now())
        found = Entry(
            kind=Kind.FILE, name="a.bufr", size=5, inline_body=b"12345", inline_message=b"{}"
        )

        async def one() -> AsyncIterator[Entry]:
            yield found

        run = Run(core.clock.now())
        await Discovery(core, entry, host, taker).run_entries(search, one(), run)
        assert run.errors == []
        both = await made.wait(done(2))
        assert [item.target for item in both] == ["a.bufr", "a.bufr.payload"]
        assert (made.out / "a.bufr").read_bytes() == b"12345"
        assert (made.out / "a.bufr.payload").read_bytes() == b"{}"
        assert not both[1].event


async def test_a_clock_that_is_set_back_does_not_stop_discoveries(tmp_path: Path) -> None:
    """A run that ended "tomorrow" counts from now: the next one comes after the usual pause."""
    async with bench(tmp_path) as made:
        made.lay("a")
        await made.wait(done(1))
        ahead = made.node.core.clock.now() + timedelta(days=1)
        await made.apply({"destinations": [{"name": "D", "acquisition": False,
                                            "hosts": ["feed", "out"]}]})  # fmt: skip
        clock = history.AcquisitionClock(started_at=ahead, finished_at=ahead)
        await made.node.core.store.write(history.set_clock, "D", "feed", clock)
        await made.apply(plain(made))
        made.lay("b")
        await made.wait(done(2))


async def test_debug_tells_why_entries_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path) as made:
        site = plain(made, {"acquisition.debug": "yes"})
        site["hosts"][0]["directory"] = f"{made.feed}/{{.*\\.nc}}"
        await made.apply(site)
        with caplog.at_level("INFO"):
            made.lay("b.txt")
            made.lay("a.nc")
            await made.wait(done(1))
        assert "entry passed over" in caplog.text
