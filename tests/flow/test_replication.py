"""Copies at backup hosts, and two nodes of which one sends for the other."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission
from ecpds.store import copies
from tests.daemon import DaemonProcess
from tests.flow.test_engine import ANN, Bench, bench, done, plain

LIMIT = 40.0
TOKEN = "admin.token"


async def backed_up(made: Bench, name: str = "keep") -> None:
    """Give D a backup host and no other."""
    document = plain(made, acquisition=False, backup=True)
    document["hosts"].append(
        {"name": name, "role": "backup", "method": "genericFile", "directory": f"{made.out}/b/"}
    )
    document["destinations"][0]["hosts"] = ["out", name]
    await made.apply(document)


async def eventually(condition: Any, what: str = "") -> Any:
    """Return the first true value of an async condition."""
    deadline = time.monotonic() + LIMIT
    while not (found := await condition()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
    return found


async def copies_of(made: Bench, number: int) -> list[copies.Copy]:
    one = await made.get(number)
    now = made.node.core.clock.now()
    return await made.node.core.store.read(copies.of_file, one.data_file, now=now)


async def test_a_backup_is_made_used_and_removed(tmp_path: Path) -> None:
    """The copy serves when our own content is gone, and goes with the file; CPY tells."""
    async with bench(tmp_path, {}) as made:
        await backed_up(made)
        number = await made.push("a.grib", b"content")
        (copy,) = await eventually(lambda: copies_of(made, number), "copied")
        assert copy.state == "there"
        place = Path(copy.place)
        assert place.read_bytes() == b"content"
        await made.wait(done(1))
        for path in made.node.core.objects.volumes[0].path.glob("2*/*/*"):
            path.unlink()  # our own content is lost
        (made.out / "a.grib").unlink()
        verbs = TransferOperations(made.node.engine)
        await verbs.requeue(number, ANN)
        await made.wait(done(1))
        assert (made.out / "a.grib").read_bytes() == b"content"
        await verbs.delete(number, ANN)

        async def is_gone() -> bool:
            return not place.exists()

        await eventually(is_gone, "removed")
        await made.node.engine.eventlog.drain()
        lines = (made.node.settings.data_dir / "log" / "events.log").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("CPY")]
        assert line.endswith(";Status=true;Message=-;Action=replicate")
        assert ";Target=keep;" in line


async def test_a_backup_that_fails_is_told_and_tried_again_later(tmp_path: Path) -> None:
    async with bench(tmp_path, {}) as made:
        await backed_up(made)
        (made.out).mkdir(exist_ok=True)
        (made.out / "b").write_text("no directory")
        number = await made.push("a")
        (copy,) = await eventually(lambda: copies_of(made, number))
        assert copy.state == "waiting"
        assert copy.error


async def test_the_second_backup_host_serves_while_the_first_fails(tmp_path: Path) -> None:
    """One copy is enough: what the second one has is not copied again to the first."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False, backup=True)
        for name in ("one", "two"):
            document["hosts"].append(
                {"name": name, "role": "backup", "method": "genericFile",
                 "directory": f"{made.out}/{name}/"}
            )  # fmt: skip
        document["destinations"][0]["hosts"] = ["out", "one", "two"]
        made.out.mkdir(exist_ok=True)
        (made.out / "one").write_text("no directory")
        await made.apply(document)

        async def there(number: int) -> list[str]:
            return [copy.host for copy in await copies_of(made, number) if copy.state == "there"]

        numbers = [await made.push(name) for name in "ab"]
        for number in numbers:
            assert await eventually(lambda one=number: there(one)) == ["two"]
        (made.out / "one").unlink()
        made.node.engine.replicator._out.clear()
        third = await made.push("c")
        made.node.engine.replicator.poke()
        assert await eventually(lambda: there(third)) == ["one"]
        assert [await there(number) for number in numbers] == [["two"], ["two"]]


async def test_no_store_reads_from_the_source_at_each_delivery(tmp_path: Path) -> None:
    """`noRetrieval`: nothing of it is kept here."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False)
        document["hosts"].append({"name": "src", "role": "source", "method": "genericFile"})
        await made.apply(document)
        place = made.lay("far", b"far away")
        given = Submission(
            destination="D", target="t", source=str(place), host="src", no_retrieval=True
        )
        await made.node.engine.submit(given)
        await made.wait(done(1))
        assert (made.out / "t").read_bytes() == b"far away"
        assert not list(made.node.core.objects.volumes[0].path.glob("2*/*/*"))


# --- two nodes -----------------------------------------------------------------------------------


class Api:
    """A daemon's API."""

    def __init__(self, session: aiohttp.ClientSession, daemon: DaemonProcess) -> None:
        self.session, self.daemon = session, daemon

    async def call(self, method: str, path: str, **more: Any) -> Any:
        token = (self.daemon.data / TOKEN).read_text().strip()
        async with self.session.request(
            method, f"{self.daemon.endpoints['monitor']}/api/v2{path}",
            headers={"Authorization": f"Bearer {token}"}, **more,
        ) as answer:  # fmt: skip
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def push(self, target: str, content: bytes) -> int:
        form = aiohttp.FormData()
        form.add_field("destination", "D")
        form.add_field("target", target)
        form.add_field("file", content, filename=target)
        return int((await self.call("POST", "/files", data=form))["transfers"][0]["id"])

    async def status(self, number: int, *wanted: str) -> Any:
        async def look() -> Any:
            one = await self.call("GET", f"/transfers/{number}")
            return one if one["status"] in wanted else None

        return await eventually(look, f"transfer {number} {wanted}")

    async def events(self) -> list[Any]:
        path = self.daemon.data / "log" / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@asynccontextmanager
async def two(
    folder: Path,
    *,
    near: dict[str, Any] | None = None,
    far: dict[str, Any] | None = None,
    first: dict[str, Any] | None = None,
    failpoints: str = "",
) -> AsyncIterator[tuple[Api, Api, Path, Path]]:
    """Run a central node and one near the users; D sends into a directory of each of them.

    `first`: a proxy that comes before that node; `failpoints`: of the central one.
    """
    for name in ("far", "near"):
        (folder / name).mkdir()
    there = DaemonProcess(folder / "far", environment={"ECPDS_MONITOR__TLS": "false"})
    here = DaemonProcess(folder / "near", environment={"ECPDS_MONITOR__TLS": "false"})
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(there.start())
            group.create_task(here.start(ECPDS_FAILPOINTS=failpoints))
        await there.apply(
            {
                "hosts": [{"name": "out", "method": "genericFile",
                           "directory": f"{there.data}/out/", **(far or {})}],
                "destinations": [{"name": "D", "hosts": ["out"]}],
            }
        )  # fmt: skip
        token = (there.data / TOKEN).read_text().strip()
        await here.apply(
            {
                "hosts": [
                    {"name": "out", "method": "genericFile", "directory": f"{here.data}/out/",
                     "retry_frequency": "20ms"},
                    {"name": "far", "role": "proxy", "method": "genericHttp",
                     "host": there.endpoints["monitor"], "password": token,
                     "options": {"proxy.timeout": "3s"}},
                    *([first] if first else []),
                ],
                "destinations": [
                    {"name": "D", "hosts": ["out", *([first["name"]] if first else []), "far"],
                     "force_proxy": True, **(near or {})}
                ],
            }
        )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            yield (
                Api(session, here), Api(session, there), here.data / "out", there.data / "out",
            )  # fmt: skip
    finally:
        await here.stop()
        await there.stop()


async def test_a_proxy_sends_for_us(tmp_path: Path) -> None:
    """Copied, released, sent there; both event kinds; the copy goes with the file."""
    async with two(tmp_path) as (here, there, out, far):
        number = await here.push("a.grib", b"x" * 100_000)
        one = await here.status(number, "done")
        assert (far / "a.grib").read_bytes() == b"x" * 100_000
        assert not (out / "a.grib").exists()
        assert one["sent"] == 100_000
        copy = (await there.call("GET", "/transfers"))["items"][0]
        assert copy["status"] == "done"

        async def told() -> Any:
            found = {event["type"]: event for event in await here.events()}
            return found if {"CPY", "UPH"} <= set(found) else None

        events = await eventually(told)
        assert (events["CPY"]["action"], events["CPY"]["target"]) == ("proxy", "far")
        assert events["UPH"]["proxy"] == {"host": "far", "used": True}
        await here.call("POST", f"/transfers/{number}/actions/delete", json={})

        async def is_gone() -> bool:
            found = (await there.call("GET", f"/transfers/{copy['id']}"))["deleted"]
            return bool(found)

        await eventually(is_gone, "the copy there is deleted")


async def test_the_second_proxy_serves_while_the_first_is_down(tmp_path: Path) -> None:
    """And killed between the copy there and its note here: one copy, sent once, from there."""
    with socket.socket() as closed:  # nobody listens there
        closed.bind(("127.0.0.1", 0))
        first = {
            "name": "down", "role": "proxy", "method": "genericHttp", "password": "x",
            "host": f"http://127.0.0.1:{closed.getsockname()[1]}",
        }  # fmt: skip
        failpoints = "copy.made:kill@2"  # the first one is the failure
        async with two(tmp_path, first=first, failpoints=failpoints) as (here, there, out, far):
            number = await here.push("a.grib", b"x" * 1000)

            async def died() -> bool:
                return not here.daemon.is_alive

            await eventually(died, "the second copy was made")
            here.daemon.kill()
            await here.daemon.start()
            await here.status(number, "done")
            assert (far / "a.grib").read_bytes() == b"x" * 1000
            assert not (out / "a.grib").exists()
            (copy,) = (await there.call("GET", "/transfers"))["items"]
            assert (copy["status"], copy["attempts"]) == ("done", 1)

            async def told() -> Any:
                copies = {one["target"]: one for one in await here.events() if one["type"] == "CPY"}
                return copies if "far" in copies else None

            copies = await eventually(told)
            assert copies["down"]["outcome"] == "failed"
            assert copies["far"]["outcome"] == "ok"


async def test_a_proxy_that_is_gone_is_passed_by(tmp_path: Path) -> None:
    """Copied, then unreachable: the attempt goes directly."""
    async with two(tmp_path, near={"max_connections": 0}) as (here, there, out, far):
        number = await here.push("b", b"direct")

        async def copied() -> Any:
            found = (await there.call("GET", "/transfers"))["items"]
            return found and found[0]["status"] == "standby"

        await eventually(copied, "copied")
        there.daemon.kill()
        site = json.loads((here.daemon.folder / "site.json").read_text())
        site["destinations"][0]["max_connections"] = 1
        await here.daemon.apply(site)
        await here.status(number, "done")
        assert (out / "b").read_bytes() == b"direct"
        assert not (far / "b").exists()


async def test_every_third_attempt_goes_directly(tmp_path: Path) -> None:
    """modulo 3: the proxy fails twice, the third attempt is ours."""
    far: dict[str, Any] = {"directory": "/proc/nowhere/"}
    near = {"max_start": 0}
    async with two(tmp_path, far=far, near=near) as (here, there, out, _):
        number = await here.push("c", b"third")
        await here.status(number, "done")
        rows = (await here.call("GET", f"/transfers/{number}/history"))["items"]
        failed = [row["comment"] for row in rows if row["error"]]
        assert len(failed) == 2
        assert all(text.startswith("through the proxy: ") for text in failed)
        assert (out / "c").read_bytes() == b"third"
        (copy,) = (await there.call("GET", "/transfers"))["items"]
        assert copy["status"] == "standby"  # it may not be sent again without us


def test_attempts_one_and_two_through_the_proxy_three_directly() -> None:
    """schedulers.md 5: attempts 1, 2 proxy, 3 direct, 4, 5 proxy."""
    assert [count % 3 > 0 for count in range(1, 6)] == [True, True, False, True, True]
