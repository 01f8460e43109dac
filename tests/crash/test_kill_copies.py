"""`kill -9` while copies are made and while a job works: both go on where they stopped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.daemon import DaemonProcess

pytestmark = [pytest.mark.crash, pytest.mark.timeout(200)]

LIMIT = 40.0
COUNT = 250  # transfers: more than one batch of a job


async def dead(daemon: DaemonProcess) -> None:
    deadline = time.monotonic() + LIMIT
    while daemon.is_alive:
        assert time.monotonic() < deadline, "it did not die"
        await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + LIMIT
    while not (found := await condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def node(folder: Path, site: dict[str, Any]) -> AsyncIterator[DaemonProcess]:
    daemon = DaemonProcess(folder, environment={"ECPDS_MONITOR__TLS": "false"})
    await daemon.apply(site)
    try:
        yield daemon
    finally:
        await daemon.stop()


class Api:
    """Calls of the daemon that runs now."""

    def __init__(self, daemon: DaemonProcess, session: aiohttp.ClientSession) -> None:
        self.daemon, self.session = daemon, session

    async def call(self, method: str, path: str, body: Any = None, *, form: Any = None) -> Any:
        token = (self.daemon.data / "admin.token").read_text().strip()
        async with self.session.request(
            method, f"{self.daemon.endpoints['monitor']}/api/v2{path}", json=body, data=form,
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:  # fmt: skip
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def push(self, target: str) -> int:
        form = aiohttp.FormData({"destination": "D", "target": target})
        form.add_field("file", target.encode(), filename=target)
        return int((await self.call("POST", "/files", form=form))["transfers"][0]["id"])


async def test_a_copy_that_nobody_had_noted_is_made_again(tmp_path: Path) -> None:
    """Made at the host, then death: one whole copy in the end, under the same name."""
    data = tmp_path / "data"
    site = {
        "hosts": [{"name": "keep", "role": "backup", "method": "genericFile",
                   "directory": f"{data}/out/b/"}],
        "destinations": [{"name": "D", "backup": True, "hosts": ["keep"]}],
    }  # fmt: skip
    async with node(tmp_path, site) as daemon, aiohttp.ClientSession() as session:
        await daemon.start(ECPDS_FAILPOINTS="copy.made:kill")
        api = Api(daemon, session)
        await api.push("a.grib")
        await dead(daemon)
        await daemon.start()

        async def told() -> Any:
            path = daemon.data / "log" / "events.jsonl"
            records = map(json.loads, path.read_text().splitlines())
            return [one for one in records if one["type"] == "CPY"]

        (event,) = await eventually(told)
        assert event["outcome"] == "ok"
        found = [path for path in (data / "out" / "b").rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in found] == [b"a.grib"]


@pytest.mark.parametrize("point", ["job.acted", "job.saved"])
async def test_a_job_goes_on_after_death(tmp_path: Path, point: str) -> None:
    """Every transfer is done, at most one batch was tried twice."""
    async with (
        node(tmp_path, {"destinations": [{"name": "D"}]}) as daemon,
        aiohttp.ClientSession() as session,
    ):
        await daemon.start(ECPDS_FAILPOINTS=f"{point}:kill")
        api = Api(daemon, session)
        for start in range(0, COUNT, 50):
            async with asyncio.TaskGroup() as group:
                for number in range(start, start + 50):
                    group.create_task(api.push(f"f{number}"))
        job = await api.call("POST", "/transfers/actions/hold", {"destination": "D"})
        await dead(daemon)
        await daemon.start()

        async def ended() -> Any:
            found = await api.call("GET", f"/jobs/{job['id']}")
            return found if found["state"] == "done" else None

        found = await eventually(ended)
        again = 200 if point == "job.acted" else 0
        assert (found["done"], found["skipped"]) == (COUNT - again, again)
        left = await api.call("GET", "/transfers?status=queued")
        assert left["items"] == []
