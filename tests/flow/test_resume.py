"""Transfers that are cut, and what of them is sent again: with real servers, over restarts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.settings import load
from ecpds.conformance.case import Case
from ecpds.conformance.peer import Peer
from ecpds.engine import recovery
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.engine.submit import Submission
from ecpds.model.decode import Where
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.node import Node, open_node
from ecpds.store import files, history, outgoing, transfers
from tests.conformance.cases import CASES
from tests.peers.faultproxy import FaultProxy, Way, drop, share, stall
from tests.waiting import until

SIZE = 48 * 1024 * 1024
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)
CONTENT = CONTENT[:SIZE]
NAMES = ("sftp-openssh", "ftp-vsftpd", "ftp-proftpd-tls", "http-nginx-dav")
PUTS = [case for case in CASES if case.name in (*NAMES[:3], "s3-rclone-tls")]
GETS = [case for case in CASES if case.name in NAMES]
ANN = Actor(name="ann")
S = TransferStatus

pytestmark = pytest.mark.peer


@dataclass(slots=True)
class Work:
    """A running engine."""

    node: Node

    async def only(self) -> Transfer:
        """Return the one transfer there is."""
        found = await self.node.core.store.read(transfers.page, destination="D", limit=10)
        (one,) = found
        return one

    async def wait(self, *wanted: TransferStatus) -> Transfer:
        """Return the transfer once it has one of these states."""
        async with asyncio.timeout(20):
            while True:
                found = await self.node.core.store.read(transfers.page, destination="D", limit=10)
                if len(found) == 1 and found[0].status in wanted:
                    return found[0]
                await asyncio.sleep(0.02)

    async def push(self) -> int:
        """Store the content for D."""
        objects = self.node.core.objects
        upload = objects.create(SIZE)
        upload.write(CONTENT)
        stored = await objects.seal(upload)
        upload.close()
        submission = Submission(destination="D", target="big.grib", content=stored)
        return (await self.node.engine.submit(submission)).transfers[0]


@asynccontextmanager
async def working(folder: Path, document: Mapping[str, Any] | None = None) -> AsyncIterator[Work]:
    """Run an engine on `folder`; leaving the block is a stop, entering it again a restart."""
    environment = {"ECPDS_NODE__DATA_DIR": str(folder), "ECPDS_STORE__DURABILITY": "normal"}
    node = await open_node(load(None, environment))
    try:
        if document is not None:
            site = read_site(document, Where())
            await SiteOperations(node.engine).apply(site, ANN, dry_run=False)
        await node.core.store.write(recovery.settle, now=node.core.clock.now())
        async with asyncio.TaskGroup() as group:
            running = group.create_task(node.engine.run())
            try:
                yield Work(node)
            finally:
                running.cancel()
    finally:
        await node.close()


def site(case: Case, peer: Peer, *, role: str, **options: Any) -> dict[str, Any]:
    """Return a site with one host behind the proxy."""
    directory = peer.directory.rstrip("/") + "/"
    if role == "acquisition":
        directory += "{big.grib}"
    host = {
        "name": "remote",
        "role": role,
        "method": f"generic{case.module.name.capitalize()}",
        "host": peer.host,
        "login": peer.login,
        "password": peer.password,
        "directory": directory,
        "retry_frequency": "20ms",
        "acquisition_frequency": "1h",
        "options": {**case.options(peer), **options},
    }
    destination = {"name": "D", "hosts": ["remote"], "acquisition": role == "acquisition"}
    return {"hosts": [host], "destinations": [destination]}


@pytest.mark.parametrize("case", PUTS, ids=str)
async def test_an_upload_that_was_cut_goes_on(case: Case, tmp_path: Path) -> None:
    async with (
        case.server(tmp_path) as peer,
        FaultProxy(peer, drop(share(50, SIZE))) as proxy,
        working(tmp_path / "data", site(case, proxy.peer, role="dissemination")) as work,
    ):
        await work.push()
        await work.wait(S.DONE)
        assert proxy.struck == 1
        assert (peer.root / "big.grib").read_bytes() == CONTENT
        assert proxy.passed[Way.UP] <= 1.1 * SIZE
        assert [path.name for path in peer.root.iterdir()] == ["big.grib"]


@pytest.mark.parametrize("case", PUTS, ids=str)
async def test_an_upload_goes_on_after_a_restart(case: Case, tmp_path: Path) -> None:
    async with case.server(tmp_path) as peer, FaultProxy(peer, stall(share(50, SIZE))) as proxy:
        async with working(tmp_path / "data", site(case, proxy.peer, role="dissemination")) as work:
            await work.push()
            await proxy.wait_struck()
        proxy.fault = None
        proxy.cut()  # the server sees that we went away
        async with working(tmp_path / "data") as work:
            await work.wait(S.DONE)
        assert (peer.root / "big.grib").read_bytes() == CONTENT
        assert proxy.passed[Way.UP] <= 1.1 * SIZE


@pytest.mark.parametrize("case", PUTS[:1], ids=str)
async def test_a_long_upload_is_recorded_while_it_runs(case: Case, tmp_path: Path) -> None:
    """So that a kill costs two seconds of it: here the store is read as a crash would find it."""
    async with (
        case.server(tmp_path) as peer,
        FaultProxy(peer, stall(share(50, SIZE))) as proxy,
        working(tmp_path / "data", site(case, proxy.peer, role="dissemination")) as work,
    ):
        number = await work.push()
        await proxy.wait_struck()
        await work.node.engine.attempts.record()
        found = await work.node.core.store.read(resume_of, number)
        assert found["name"].startswith("/") or found["name"]
        assert SIZE * 0.3 < found["offset"] <= SIZE * 0.5
        proxy.fault = None
        proxy.cut()
        await work.wait(S.DONE)
        assert await work.node.core.store.read(resume_of, number) == {}
        assert (peer.root / "big.grib").read_bytes() == CONTENT


def resume_of(db: Any, number: int) -> dict[str, Any]:
    """Return the resume record of a transfer."""
    return history.resume(db, number, "remote") or {}


@pytest.mark.parametrize("case", GETS, ids=str)
async def test_a_download_that_was_cut_goes_on(case: Case, tmp_path: Path) -> None:
    async with case.server(tmp_path) as peer:
        (peer.root / "big.grib").write_bytes(CONTENT)
        peer.account.own(peer.root / "big.grib")
        fault = drop(share(50, SIZE), way=Way.DOWN)
        document = {"acquisition.requeueOnFailure": "yes"}
        async with (
            FaultProxy(peer, fault) as proxy,
            working(
                tmp_path / "data", site(case, proxy.peer, role="acquisition", **document)
            ) as work,
        ):
            one = await work.wait(S.WAIT)
            assert proxy.struck == 1
            assert proxy.passed[Way.DOWN] <= 1.1 * SIZE
            assert await stored(work.node, one) == CONTENT
            assert await work.node.core.store.read(outgoing.half_names) == []


@pytest.mark.parametrize("case", GETS, ids=str)
async def test_a_download_goes_on_after_a_restart(case: Case, tmp_path: Path) -> None:
    async with case.server(tmp_path) as peer:
        (peer.root / "big.grib").write_bytes(CONTENT)
        peer.account.own(peer.root / "big.grib")
        fault = stall(share(50, SIZE), way=Way.DOWN)
        async with FaultProxy(peer, fault) as proxy:
            document = site(case, proxy.peer, role="acquisition")
            async with working(tmp_path / "data", document) as work:
                await proxy.wait_struck()
                assert (await work.only()).status is S.FETC
            proxy.fault = None
            async with working(tmp_path / "data") as work:
                one = await work.wait(S.WAIT)
                assert await stored(work.node, one) == CONTENT
                assert proxy.passed[Way.DOWN] <= 1.1 * SIZE


@pytest.mark.parametrize("case", GETS[:1], ids=str)
async def test_another_content_at_the_source_begins_anew(case: Case, tmp_path: Path) -> None:
    async with case.server(tmp_path) as peer:
        place = peer.root / "big.grib"
        place.write_bytes(CONTENT)
        peer.account.own(place)
        fault = stall(share(50, SIZE), way=Way.DOWN)
        async with FaultProxy(peer, fault) as proxy:
            document = site(case, proxy.peer, role="acquisition")
            async with working(tmp_path / "data", document):
                await proxy.wait_struck()
            proxy.fault = None
            place.write_bytes(CONTENT[::-1])
            later = place.stat().st_mtime + 2  # SFTP tells whole seconds
            os.utime(place, (later, later))
            async with working(tmp_path / "data") as work:
                one = await work.wait(S.WAIT)
                is_new = await stored(work.node, one) == CONTENT[::-1]  # pytest would tell how not
                assert is_new


@pytest.mark.parametrize("case", PUTS[:2], ids=str)
async def test_what_is_deleted_leaves_nothing_at_the_host(case: Case, tmp_path: Path) -> None:
    """A partial file goes when its transfer does."""
    async with (
        case.server(tmp_path) as peer,
        FaultProxy(peer, drop(share(50, SIZE))) as proxy,
    ):
        document = site(case, proxy.peer, role="dissemination")
        document["hosts"][0]["retry_frequency"] = "1h"
        async with working(tmp_path / "data", document) as work:
            await work.push()
            one = await work.wait(S.RETR)
            assert len(list(peer.root.iterdir())) == 1
            engine = work.node.engine
            await work.node.core.store.write(expire_now, one.id, now=work.node.core.clock.now())
            await engine.retention.expire()
            await engine.leftovers.remove()
            await until(lambda: not list(peer.root.iterdir()))


def expire_now(db: Any, number: int, *, now: Any) -> None:
    """Let a transfer be past its lifetime."""
    one = transfers.get(db, number)
    assert one is not None
    transfers.save(db, replace(one, expires_at=now - timedelta(seconds=1)), now=now)


async def stored(node: Node, one: Transfer) -> bytes:
    """Return the content of a transfer as it is stored."""
    file = await node.core.store.read(files.get, one.data_file)
    assert file is not None
    return node.core.objects.path(file.volume, file.object_key).read_bytes()


@pytest.mark.parametrize("case", PUTS, ids=str)
async def test_an_attempt_keeps_what_the_kernel_knew(case: Case, tmp_path: Path) -> None:
    """And where it went on."""
    async with (
        case.server(tmp_path) as peer,
        FaultProxy(peer, drop(share(50, SIZE))) as proxy,
        working(tmp_path / "data", site(case, proxy.peer, role="dissemination")) as work,
    ):
        number = await work.push()
        await work.wait(S.DONE)
        failed, done = await work.node.core.store.read(history.attempts, number)
        assert failed.statistics == {}
        assert done.statistics["bytes_acked"] > 0
        assert done.resumed_at + done.sent == SIZE
        assert done.resumed_at > 0
