"""A small WIS2 Global Cache at work while many people download.

A message comes in, its file is fetched from nginx, verified (SHA-512), stored and told again with
our link.  The WMO asks a Global Cache for 2,000 messages a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.brokers import client
from benchmarks.clients import HttpSite, http_put_many
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.scene import Scene, fresh
from tests.daemon import DaemonProcess
from tests.peers.mosquitto import mosquitto
from tests.peers.nginx import nginx
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing

MESSAGES = 1_500
FILES = 100
FILE_SIZE = 85_000
DOWNLOADS = 1_000
RATE = 8 * 1024  # bytes/s of each download
BIG = 64 * 1024 * 1024
MARK = 2_000.0  # messages/min
PASSWORD = "bench-password"


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Messages a minute through our cache."""
    folder = scene.work / "wis2_cache"
    fresh(folder)
    if not scene.ours:
        yield []
        return
    async with AsyncExitStack() as running:
        try:
            site = await running.enter_async_context(_site(folder))
        except (ProgramMissing, PeerFailed, OSError) as error:
            raise MeasurementFailed(str(error)) from error
        downloads, messages = scene.count(DOWNLOADS, least=10), scene.count(MESSAGES, least=50)

        async def run(number: int) -> Mapping[str, float]:
            arguments = (site["origin"], site["cache"], site["files"], site["folder"])
            async with _downloading(site, downloads):
                first = number * messages
                return {US: (await client("wis2_load", *arguments, messages, first))[0]}

        yield [
            Comparison(
                case="wis2_cache",
                work=f"in, fetched, stored, out; {downloads:,} downloads beside it",
                unit="messages/min",
                contenders=[Contender(name=US, run=run)],
                reach=Reach(limit=3 * MARK),
                rounds=3,
                seconds=scene.seconds(40),
            )
        ]


@asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Run origin, broker and our node."""
    files = folder / "files"
    (folder / "nginx-home").mkdir()
    async with (
        nginx(folder / "nginx-home", root=files, auth=False, options="access_log off;") as origin,
        mosquitto(folder / "broker") as broker,
    ):
        for number in range(FILES):
            (files / f"f{number:03}.bufr").write_bytes(os.urandom(FILE_SIZE))
            (files / f"f{number:03}.bufr").chmod(0o644)
        daemon = await _node(folder / "node", broker.port)
        try:
            (folder / "big").write_bytes(os.urandom(BIG))
            place = f"{daemon.endpoints['portal_https']}/ecpds/data/file/CACHE"
            portal = HttpSite(read=place, write=place, login="bench", password=PASSWORD)
            big = {"big": folder / "big"}
            await asyncio.to_thread(
                http_put_many, portal, big, connections=1, scratch=folder / "curl"
            )
            yield {
                "origin": broker.port, "cache": daemon.port("mqtt"), "files": origin.url,
                "folder": files, "portal": daemon.endpoints["portal_https"].partition("//")[2],
            }  # fmt: skip
        finally:
            await daemon.stop()


async def _node(folder: Path, broker: int) -> DaemonProcess:
    folder.mkdir()
    settings = {
        "ECPDS_MQTT__LISTEN": "127.0.0.1:0", "ECPDS_LOG__LEVEL": "warning",
        "ECPDS_NODE__PUBLIC_HOST": "127.0.0.1", "ECPDS_PORTAL__HTTPS__TLS": "no",
        "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    daemon = DaemonProcess(folder, environment=settings)
    daemon.config.write_text('[security]\negress_allow = ["127.0.0.0/8"]\n')
    await daemon.command("init")
    await daemon.apply(json.loads(json.dumps(_document(broker))))
    await daemon.start()
    return daemon


def _document(broker: int) -> dict[str, Any]:
    return {
        "hosts": [{
            "name": "feed", "role": "acquisition", "method": "genericMqtt", "host": "127.0.0.1",
            "directory": "[lifetime=1d]origin/a/wis2/+/data/core/#", "max_connections": 16,
            "options": {
                "mqtt.scheme": "mqtt", "mqtt.port": str(broker), "mqtt.preset": "wis2",
            },
        }],
        "destinations": [{
            "name": "CACHE", "acquisition": True, "hosts": ["feed"], "max_connections": 16,
            "max_pending": 0,
            "options": {
                "wis2.publish": "yes", "wis2.channel": "cache", "wis2.centreId": "xx-bench-cache",
            },
        }],
        "data_users": [{
            "login": "bench", "password": PASSWORD, "operations": ["dir", "get", "put"],
            "destinations": ["CACHE"],
            "options": {
                "portal.mqttPermission": "cache/a/wis2/#", "portal.maxConnections": "2000",
            },
        }],
    }  # fmt: skip


@asynccontextmanager
async def _downloading(site: Mapping[str, Any], count: int) -> AsyncIterator[None]:
    """Let that many people download a large file meanwhile."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.slow_downloads", site["portal"],
        "/ecpds/data/file/CACHE/big", f"bench:{PASSWORD}", str(count), str(RATE),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise MeasurementFailed("no pipes")
    try:
        if await process.stdout.readline() != b"in\n":
            error = (await process.stderr.read()).decode(errors="replace")
            raise MeasurementFailed(f"the downloads did not begin: {error[-300:]}")
        yield
    finally:
        process.stdin.close()
        _, told = await process.communicate()
    if process.returncode:
        raise MeasurementFailed(f"downloads: {told.decode(errors='replace')[-300:]}")
