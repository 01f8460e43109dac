"""`kill -9` at every failpoint and at random moments while files come and go by every door.

After each death the daemon starts again by itself.  In the end: every acknowledged file is stored
and delivered whole, every file of the feed too, no partial file is visible anywhere, nothing waits.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ecpds.base.failpoints import POINTS
from tests.crash.workload import LOGIN, Workload, content_of, site
from tests.daemon import DaemonProcess

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

SETTLE = 60.0  # seconds until everything is delivered after the last restart
RANDOM_KILLS = int(os.environ.get("ECPDS_RANDOM_KILLS", "100"))
# Points that only an expiry reaches; they have a test of their own.
QUIET = {"retention.marked", "retention.removed"}
ELSEWHERE = {"outbox.prepared", "outbox.published", "outbox.settled"}  # test_mqtt_kill.py
ELSEWHERE |= {"copy.made", "job.acted", "job.saved"}  # test_kill_copies.py
ELSEWHERE |= {"packing.made", "packing.stored", "leftover.removed"}  # test_kill_schedulers.py
# test_kill_watches.py
ELSEWHERE |= {"mail.posted", "check.written", "recovering.started", "sink.sent"}


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[tuple[DaemonProcess, Workload]]:
    """Give a configured daemon that does not run yet; afterwards nothing of it runs."""
    daemon = DaemonProcess(folder)
    await daemon.apply(site(folder))
    try:
        yield daemon, Workload(daemon)
    finally:
        await daemon.stop()


async def wait_dead(daemon: DaemonProcess, limit: float) -> bool:
    """Wait until the daemon has died; False when it has not after `limit` seconds."""
    deadline = time.monotonic() + limit
    while daemon.is_alive and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return not daemon.is_alive


def delivered(daemon: DaemonProcess, destination: str) -> dict[str, bytes]:
    """Return what the remote directory of a destination shows under final names."""
    folder = daemon.data / "out" / destination
    if not folder.exists():
        return {}
    names = (path for path in folder.iterdir() if not path.name.endswith(".tmp"))
    return {path.name: path.read_bytes() for path in names}


def assert_nothing_partial(daemon: DaemonProcess) -> None:
    """At any moment: what is visible under a final name is whole."""
    for destination in ("IN", "FEED"):
        for name, content in delivered(daemon, destination).items():
            assert content == content_of(name), f"{destination}/{name} is not whole"


async def settle(daemon: DaemonProcess, load: Workload) -> None:
    """Wait until all that was acknowledged or fed is delivered; say what is missing if not."""
    deadline = time.monotonic() + SETTLE
    missing: set[str] = {"everything"}
    while missing and time.monotonic() < deadline:
        there, fed = set(delivered(daemon, "IN")), set(delivered(daemon, "FEED"))
        missing = (load.acknowledged - there) | (load.fed - fed)
        await asyncio.sleep(0.1)
    assert not missing, f"{len(missing)} never arrived: {sorted(missing)[:10]}\n{daemon.log()}"


async def assert_all_well(daemon: DaemonProcess, load: Workload) -> None:
    """Everything acknowledged is delivered, fetched through the portal, and Done."""
    await settle(daemon, load)
    assert_nothing_partial(daemon)
    context = ssl.create_default_context(cafile=str(daemon.data / "tls/certificate.pem"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for name in sorted(load.acknowledged)[:: max(1, len(load.acknowledged) // 40)]:
            url = f"{daemon.endpoints['portal_https']}/ecpds/data/file/IN/{name}"
            async with session.get(url, headers=LOGIN) as answer:
                assert answer.status == 200, name
                assert await answer.read() == content_of(name), name
        await assert_all_done(daemon, session)
    await assert_no_orphans(daemon)


async def assert_all_done(daemon: DaemonProcess, session: aiohttp.ClientSession) -> None:
    """No transfer is anything but done."""
    headers = {"Authorization": f"Bearer {daemon.token}"}
    deadline = time.monotonic() + SETTLE
    while True:
        found: dict[int, str] = {}
        for name in ("IN", "FEED"):
            url = f"{daemon.endpoints['monitor']}/api/v2/transfers"
            query = {"destination": name, "limit": "1000"}
            async with session.get(url, params=query, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                items = (await answer.json())["items"]
            found |= {one["id"]: one["status"] for one in items if one["status"] != "done"}
        if not found or time.monotonic() > deadline:
            assert found == {}
            return
        await asyncio.sleep(0.1)


async def assert_no_orphans(daemon: DaemonProcess) -> None:
    """The object directory holds what the store knows, and no temporary file stays."""
    temporary = daemon.data / "objects" / "tmp"
    deadline = time.monotonic() + SETTLE
    while (left := list(temporary.iterdir())) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("point", [point for point in POINTS if point not in QUIET | ELSEWHERE])
async def test_a_kill_at_each_failpoint_loses_nothing(point: str, tmp_path: Path) -> None:
    """Killed in the middle of the work, then once more a little earlier."""
    counts = (3, 1)
    if point.startswith("store."):
        counts = (40, 25)  # a start itself commits a few times
    if point.startswith("acquisition."):
        counts = (1, 1)  # one discovery takes many files
    async with prepared(tmp_path) as (daemon, load):
        for count in counts:
            await daemon.start(may_die=True, ECPDS_FAILPOINTS=f"{point}:kill@{count}")
            if daemon.is_alive:
                await load.run(6)
            assert await wait_dead(daemon, 20), f"{point} was never passed\n{daemon.log()}"
            daemon.kill()
            assert_nothing_partial(daemon)
        await daemon.start()
        await load.run(3)
        await assert_all_well(daemon, load)


@pytest.mark.parametrize("point", sorted(QUIET))
async def test_a_kill_while_expired_bytes_go_leaves_no_bytes(point: str, tmp_path: Path) -> None:
    """What has expired is removed in the end, by whichever life of the daemon."""
    async with prepared(tmp_path) as (daemon, load):
        document = site(tmp_path)
        for destination in document["destinations"]:
            destination["hosts"] = []
            destination["options"] = {"scheduler.lifetime": "1s"}
        await daemon.apply(document)
        await daemon.start(ECPDS_FAILPOINTS=f"{point}:kill")
        await load.run(3)
        assert await wait_dead(daemon, 20), f"{point} was never passed\n{daemon.log()}"
        daemon.kill()
        await daemon.start()
        deadline = time.monotonic() + SETTLE
        while (left := objects_of(daemon)) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert left == []


def objects_of(daemon: DaemonProcess) -> list[Path]:
    """Return the stored objects."""
    return list((daemon.data / "objects").glob("2*/*/*"))


@pytest.mark.timeout(1800)
async def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """A hundred deaths at moments of nobody's choice."""
    chance = random.Random(20310504)
    async with prepared(tmp_path) as (daemon, load):
        for _ in range(RANDOM_KILLS):
            await daemon.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(20))
                group.create_task(kill_after(daemon, chance.uniform(0.0, 0.6)))
            assert_nothing_partial(daemon)
        await daemon.start()
        await assert_all_well(daemon, load)


async def kill_after(daemon: DaemonProcess, seconds: float) -> None:
    """Kill it then."""
    await asyncio.sleep(seconds)
    daemon.kill()
