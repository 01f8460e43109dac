"""`kill -9` of what only some sites have: fetch mode, compression ahead, removal of partial files.

One daemon dies at one point after the other; each life goes on with what the last one left.
"""

from __future__ import annotations

import gzip
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ecpds.base.clock import SystemClock
from ecpds.store import outgoing
from ecpds.store.db import Store
from ecpds.transfer.contract import Partial
from tests.crash.test_kill_copies import Api, dead, eventually, node
from tests.daemon import DaemonProcess

pytestmark = [pytest.mark.crash, pytest.mark.timeout(100)]

POINTS = ("retrieval.stored", "retrieval.committed", "packing.made", "packing.stored")


def site(data: Path) -> dict[str, Any]:
    """Return a destination that fetches from a directory, compresses, and sends to another."""
    file = {"method": "genericFile"}
    return {
        "hosts": [
            {"name": "source", "role": "source", **file},
            {"name": "out", "directory": f"{data}/out/D/", **file},
        ],
        "destinations": [
            {
                "name": "D",
                "hosts": ["out"],
                "source_host": "source",
                "filter_name": "gzip",
                "max_start": 0,
            }
        ],
    }


def content_of(name: str) -> bytes:
    """Return what is worth compressing."""
    return name.encode() * 5000


async def test_fetch_mode_and_compression_ahead(tmp_path: Path) -> None:
    """Every file arrives whole under its name, once, and nothing else is stored."""
    async with node(tmp_path, site(tmp_path / "data")) as daemon, aiohttp.ClientSession() as http:
        feed = daemon.data / "feeds"
        feed.mkdir(parents=True, exist_ok=True)
        for point in POINTS:
            await daemon.start(may_die=True, ECPDS_FAILPOINTS=f"{point}:kill")
            if daemon.is_alive:  # else it died of what the last life had left
                await registered(Api(daemon, http), feed / f"{point}.grib")
            await dead(daemon)
            assert_whole(daemon)
        partial = await left_behind(daemon)
        await daemon.start(may_die=True, ECPDS_FAILPOINTS="leftover.removed:kill")
        await dead(daemon)
        assert not partial.exists()
        await daemon.start()
        wanted = {f"{path.name}.gz" for path in feed.iterdir()}
        assert wanted

        async def arrived() -> bool:
            return {path.name for path in delivered(daemon)} == wanted

        await eventually(arrived)
        assert_whole(daemon)
        await nothing_else_is_stored(daemon, Api(daemon, http), 2 * len(wanted))
        assert not partial.exists()


async def left_behind(daemon: DaemonProcess) -> Path:
    """Put a partial file at the host that no attempt will go on with; return it."""
    partial = daemon.data / "out" / "D" / ".old.tmp"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(b"half")
    record = asdict(Partial(name=str(partial), offset=4, version="1"))
    store = Store(daemon.data / "ecpds.db")
    try:
        await store.write(outgoing.add_stale, "out", record, now=SystemClock().now())
    finally:
        await store.aclose()
    return partial


async def registered(api: Api, path: Path) -> None:
    """Register a file to be fetched."""
    path.write_bytes(content_of(path.name))
    one = {"destination": "D", "target": path.name, "source": str(path), "group": "G"}
    try:
        await api.call("POST", "/files/batch", {"files": [one]})
    except (aiohttp.ClientError, OSError):  # it died while it answered: the row is committed
        return


def delivered(daemon: DaemonProcess) -> list[Path]:
    """Return what stands under final names."""
    return [one for one in (daemon.data / "out" / "D").glob("*") if one.suffix != ".tmp"]


def assert_whole(daemon: DaemonProcess) -> None:
    """At any moment what is visible is whole."""
    for path in delivered(daemon):
        assert gzip.decompress(path.read_bytes()) == content_of(path.stem), path


async def nothing_else_is_stored(daemon: DaemonProcess, api: Api, most: int) -> None:
    """An object for each file and for each copy, at most; none that nobody knows."""

    async def all_done() -> bool:
        found = (await api.call("GET", "/transfers?limit=100"))["items"]
        return all(one["status"] == "done" for one in found)

    await eventually(all_done)
    await daemon.stop()
    await daemon.command("fsck")
    assert len(list((daemon.data / "objects").glob("2*/*/*"))) <= most
