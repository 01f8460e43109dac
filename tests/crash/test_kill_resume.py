"""`kill -9` in the middle of long transfers: the next daemon goes on where they were."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import CASES, Case
from tests.daemon import DaemonProcess
from tests.peers.faultproxy import FaultProxy, Way, share, stall
from tests.peers.peer import Peer

pytestmark = [pytest.mark.crash, pytest.mark.peer]

SIZE = 48 * 1024 * 1024
CONTENT = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
PUT = next(case for case in CASES if case.name == "ftp-vsftpd-tls")
GET = next(case for case in CASES if case.name == "http-nginx-dav")
LIMIT = 30.0


def site(case: Case, peer: Peer, role: str) -> dict[str, Any]:
    """Return a site with one host behind the proxy."""
    base = peer.directory.rstrip("/")
    options = {key: str(value) for key, value in case.options(peer).items()}
    host = {
        "name": "remote",
        "role": role,
        "method": f"generic{case.module.name.capitalize()}",
        "host": peer.host,
        "login": peer.login,
        "password": peer.password,
        "directory": f"{base}/" if role == "dissemination" else f"{base}/{{big.grib}}",
        "acquisition_frequency": "1h",
        "options": options,
    }
    return {
        "hosts": [host],
        "destinations": [{"name": "D", "hosts": ["remote"], "acquisition": role == "acquisition"}],
    }


def made(folder: Path) -> DaemonProcess:
    """Return a daemon that does not run yet."""
    (folder / "node").mkdir()
    return DaemonProcess(folder / "node")


def count(daemon: DaemonProcess, table: str) -> int:
    """Return how many rows a table has, as another process sees it."""
    place = f"file:{daemon.data / 'ecpds.db'}?mode=ro"
    with sqlite3.connect(place, uri=True) as db:
        found = db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
    db.close()
    return int(found)


async def wait(condition: Callable[[], object]) -> None:
    """Return once it is true."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.05)


async def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    async with PUT.server(tmp_path) as peer, FaultProxy(peer, stall(share(50, SIZE))) as proxy:
        daemon = made(tmp_path)
        try:
            await daemon.start()
            await daemon.apply(site(PUT, proxy.peer, "dissemination"))
            big = tmp_path / "big.grib"
            big.write_bytes(CONTENT)
            await daemon.command("push", "D", big)
            await proxy.wait_struck()
            await wait(lambda: count(daemon, "resume_record"))
            daemon.kill()
            proxy.fault = None
            proxy.cut()
            await daemon.start()
            place = peer.root / "big.grib"
            await wait(lambda: place.exists() and place.stat().st_size == SIZE)
            assert place.read_bytes() == CONTENT
            assert proxy.passed[Way.UP] <= 1.1 * SIZE
            await wait(lambda: not count(daemon, "resume_record"))
            assert [path.name for path in peer.root.iterdir()] == ["big.grib"]
        finally:
            await daemon.stop()


async def test_a_download_goes_on_after_a_kill(tmp_path: Path) -> None:
    async with GET.server(tmp_path) as peer:
        (peer.root / "big.grib").write_bytes(CONTENT)
        peer.account.own(peer.root / "big.grib")
        async with FaultProxy(peer, stall(share(50, SIZE), way=Way.DOWN)) as proxy:
            daemon = made(tmp_path)
            try:
                await daemon.start()
                await daemon.apply(site(GET, proxy.peer, "acquisition"))
                await proxy.wait_struck()
                await wait(lambda: count(daemon, "half_received"))
                daemon.kill()
                proxy.fault = None
                proxy.cut()
                await daemon.start()

                await wait(lambda: count(daemon, "data_file WHERE stored = 1"))
                assert proxy.passed[Way.DOWN] <= 1.1 * SIZE
                assert count(daemon, "half_received") == 0
            finally:
                await daemon.stop()
