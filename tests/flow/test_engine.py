"""The engine whole, with directories as providers and remote sites; the clock is the machine's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecpds.base.settings import load
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission
from ecpds.model.decode import Where
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.node import Node, open_node
from ecpds.store import history, transfers

ANN = Actor(name="ann")
S = TransferStatus


@dataclass(slots=True, kw_only=True)
class Bench:
    """A running engine with its directories."""

    node: Node
    feed: Path
    out: Path

    async def apply(self, document: Mapping[str, Any]) -> None:
        """Apply a site document."""
        site = read_site(document, Where())
        await SiteOperations(self.node.engine).apply(site, ANN, dry_run=False)

    def lay(self, name: str, content: bytes = b"content") -> Path:
        """Put a complete file into the feed."""
        place = self.feed / name
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.part")
        temporary.write_bytes(content)
        temporary.rename(place)
        return place

    async def push(self, target: str, content: bytes = b"content", **given: Any) -> int:
        """Store content for D; return the id of its first transfer."""
        objects = self.node.core.objects
        upload = objects.create(len(content))
        upload.write(content)
        stored = await objects.seal(upload)
        upload.close()
        submission = Submission(destination="D", target=target, content=stored, **given)
        return (await self.node.engine.submit(submission)).transfers[0]

    async def all(self, destination: str = "D") -> list[Transfer]:
        """Return the live transfers of a destination, oldest first."""
        found = await self.node.core.store.read(transfers.page, destination=destination, limit=1000)
        return found[::-1]

    async def get(self, number: int) -> Transfer:
        """Return one transfer."""
        found = await self.node.core.store.read(transfers.get, number)
        assert found is not None
        return found

    async def wait(
        self, condition: Callable[[list[Transfer]], object], destination: str = "D"
    ) -> list[Transfer]:
        """Return the transfers of a destination once they fulfil the condition."""
        async with asyncio.timeout(20):
            while not condition(found := await self.all(destination)):
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def bench(folder: Path, document: Mapping[str, Any] | None = None) -> AsyncIterator[Bench]:
    """Run an engine on a fresh data directory."""
    data = folder / "data"
    settings = load(None, {"ECPDS_NODE__DATA_DIR": str(data), "ECPDS_STORE__DURABILITY": "normal"})
    node = await open_node(settings)
    made = Bench(node=node, feed=data / "feeds" / "in", out=data / "out")
    made.feed.mkdir(parents=True)
    try:
        await made.apply(document if document is not None else plain(made))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(node.engine.run())
            try:
                await node.engine.is_running.wait()
                yield made
            finally:
                running.cancel()
    finally:
        await node.close()


def plain(
    made: Bench, options: Mapping[str, Any] | None = None, **destination: Any
) -> dict[str, Any]:
    """Return a site: a feed that is acquired into D and delivered to a directory."""
    return {
        "hosts": [
            {
                "name": "feed",
                "role": "acquisition",
                "method": "genericFile",
                "directory": f"{made.feed}/{{[^.].*}}",
                "acquisition_frequency": "50ms",
                "options": dict(options or {}),
            },
            {
                "name": "out",
                "method": "genericFile",
                "directory": f"{made.out}/",
                "max_connections": 4,
                "retry_frequency": "20ms",
            },
        ],
        "destinations": [
            {
                "name": "D",
                "acquisition": True,
                "max_connections": 4,
                "hosts": ["feed", "out"],
                **destination,
            }
        ],
    }


def done(count: int) -> Callable[[list[Transfer]], bool]:
    """So many transfers, all Done."""
    return lambda found: len(found) == count and all(t.status is S.DONE for t in found)


async def test_a_file_of_the_feed_is_acquired_stored_and_delivered(tmp_path: Path) -> None:
    """Its history tells each step, its events are in both logs."""
    async with bench(tmp_path) as made:
        made.lay("a b'é.grib", b"x" * 1000)
        (transfer,) = await made.wait(done(1))
        assert (made.out / "a b'é.grib").read_bytes() == b"x" * 1000
        steps = await made.node.core.store.read(history.steps, transfer.id)
        words = [step.status.code for step in steps]
        assert words == ["SCHE", "FETC", "WAIT", "EXEC", "DONE"]
        await made.node.engine.eventlog.drain()
        lines = (made.node.settings.data_dir / "log" / "events.log").read_text().splitlines()
        assert [line[:3] for line in lines if line[:3] in {"RET", "UPH"}] == ["RET", "UPH"]


async def test_a_file_is_acquired_once(tmp_path: Path) -> None:
    """Further discoveries find it known."""
    async with bench(tmp_path) as made:
        made.lay("a")
        await made.wait(done(1))
        runs = made.node.core.metrics.acquisition_runs.labels("feed", "ok")
        before = runs._value.get()
        async with asyncio.timeout(10):
            while runs._value.get() < before + 3:
                await asyncio.sleep(0.01)
        assert len(await made.all()) == 1


async def test_an_updated_file_is_acquired_again_when_asked(tmp_path: Path) -> None:
    """acquisition.md 8: newer and of another size, same id, instance + 1."""
    async with bench(tmp_path, {}) as made:
        await made.apply(plain(made, {"acquisition.requeueonupdate": "yes"}))
        first = made.lay("a", b"one")
        os.utime(first, (1_000_000_000, 1_000_000_000))
        (before,) = await made.wait(done(1))
        made.lay("a", b"three")
        async with asyncio.timeout(20):
            while (made.out / "a").read_bytes() != b"three":
                await asyncio.sleep(0.01)
        (after,) = await made.wait(done(1))
        assert after.id == before.id


async def test_delete_original_waits_for_the_store(tmp_path: Path) -> None:
    """The source goes once the content is stored."""
    async with bench(tmp_path, {}) as made:
        await made.apply(plain(made, {"acquisition.deleteoriginal": "yes"}))
        place = made.lay("a")
        await made.wait(done(1))
        async with asyncio.timeout(10):
            while place.exists():
                await asyncio.sleep(0.01)
        assert (made.out / "a").exists()


async def test_directories_below_are_searched_as_far_as_asked(tmp_path: Path) -> None:
    """recursive=1 takes one level."""
    async with bench(tmp_path, {}) as made:
        made.lay("top")
        made.lay("one/a")
        made.lay("one/two/b")
        await made.apply(plain(made, {"acquisition.recursive": "1"}))
        found = await made.wait(done(2))
        assert sorted(t.target for t in found) == ["one/a", "top"]


async def test_a_host_that_fails_is_left_for_the_next(tmp_path: Path) -> None:
    """Failover: the first host cannot, the second delivers, the reason stays in the history."""
    async with bench(tmp_path, {}) as made:
        document = plain(made)
        broken = {"name": "broken", "method": "genericFile", "directory": "/proc/nowhere/"}
        document["hosts"].append(broken | {"retry_count": 1})
        document["destinations"][0]["hosts"] = ["broken", "out"]
        document["destinations"][0]["acquisition"] = False
        await made.apply(document)
        number = await made.push("a")
        await made.wait(done(1))
        steps = await made.node.core.store.read(history.steps, number)
        assert [s.host for s in steps if s.error] == ["broken"]
        assert (made.out / "a").exists()


async def test_one_bad_file_never_stops_its_neighbours(tmp_path: Path) -> None:
    """Its pause is its own."""
    async with bench(tmp_path) as made:
        (made.out / "bad").mkdir(parents=True)
        bad = await made.push("bad")
        good = [await made.push(f"good{number}") for number in range(5)]
        await made.wait(lambda found: sum(t.status is S.DONE for t in found) == len(good))
        assert (await made.get(bad)).status is not S.DONE


async def test_stop_hold_release_requeue(tmp_path: Path) -> None:
    """Verbs of an operator on one transfer."""
    async with bench(tmp_path) as made:
        verbs = TransferOperations(made.node.engine)
        number = await made.push("a", standby=True)
        assert (await made.get(number)).status is S.HOLD
        assert (await verbs.stop(number, ANN)).status is S.STOP
        await verbs.requeue(number, ANN)
        await made.wait(done(1))
        assert (await verbs.hold(number, ANN)).status is S.HOLD
        await verbs.release(number, ANN)
        await made.wait(done(1))


async def test_a_stopped_destination_sends_nothing_until_it_starts(tmp_path: Path) -> None:
    """Submissions are accepted meanwhile."""
    async with bench(tmp_path) as made:
        verbs = DestinationOperations(made.node.engine)
        await verbs.stop("D", ANN)
        number = await made.push("a")
        assert (await verbs.view("D")).status.value == "stopped"
        assert (await made.get(number)).status is S.WAIT
        await verbs.start("D", ANN)
        await made.wait(done(1))


async def test_an_expired_transfer_fails_with_its_reason_and_its_bytes_go(tmp_path: Path) -> None:
    """Expiry is an act of its own, at its moment."""
    async with bench(tmp_path) as made:
        await DestinationOperations(made.node.engine).stop("D", ANN)
        number = await made.push("a", lifetime=timedelta(milliseconds=300))
        objects = made.node.core.objects.volumes[0].path
        assert len(list(objects.glob("2*/*/*"))) == 1
        async with asyncio.timeout(20):
            while (transfer := await made.get(number)).status is not S.FAIL:
                await asyncio.sleep(0.02)
            while list(objects.glob("2*/*/*")):
                await asyncio.sleep(0.02)
        assert transfer.reason is not None
        assert (transfer.reason.kind, transfer.deleted) == ("expired", True)


async def test_deleting_the_last_transfer_removes_the_content(tmp_path: Path) -> None:
    """A copy keeps it alive."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False)
        document["destinations"][0] |= {"hosts": [], "aliases": [{"to": "E"}]}
        document["destinations"].append({"name": "E"})
        await made.apply(document)
        verbs = TransferOperations(made.node.engine)
        await made.push("a")
        objects = made.node.core.objects.volumes[0].path
        (first,), (copy,) = await made.all("D"), await made.all("E")
        await verbs.delete(first.id, ANN)
        await made.node.engine.retention.purge_bytes()
        assert len(list(objects.glob("2*/*/*"))) == 1
        await verbs.delete(copy.id, ANN)
        await made.node.engine.retention.purge_bytes()
        assert list(objects.glob("2*/*/*")) == []


async def test_scheduled_files_wait_for_their_time(tmp_path: Path) -> None:
    """delay moves start and queue time; schedule now overrules it."""
    async with bench(tmp_path) as made:
        number = await made.push("a", delay=timedelta(hours=1))
        assert (await made.get(number)).due_at - (await made.get(number)).created_at >= timedelta(
            minutes=59
        )
        await TransferOperations(made.node.engine).schedule_now(number, ANN)
        await made.wait(done(1))


async def test_applying_the_export_changes_nothing(tmp_path: Path) -> None:
    """Configuration as code goes round."""
    async with bench(tmp_path) as made:
        verbs = SiteOperations(made.node.engine)
        document = await verbs.export()
        changes = await verbs.apply(read_site(document, Where()), ANN, dry_run=True)
        assert {change.action for change in changes} == {"unchanged"}
        assert {change.kind for change in changes} == {"host", "destination", "web_user"}
