"""What a cut costs at object stores, and the memory of ten very large files at once.

The cut resets every connection to the store when half of the file has passed; counted is all that
passes until the engine has the file there.  For the memory a process of its own runs ten uploads of
a sparse file by our transfer layer; the far end throws the bytes away.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.clients import timed
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import Node
from benchmarks.remote import LIMIT, Route, Sender
from benchmarks.scene import Scene, fresh
from ecpds.conformance.faultproxy import FaultProxy, Way
from tests.peers import azurite, gcs
from tests.peers.buckets import BucketPeer, peer_of
from tests.peers.peer import Peer
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing
from tests.peers.seaweedfs import serving_seaweed

MIB: Final = 1 << 20
SIZE: Final = 256 * MIB
AT_ONCE: Final = 10
LARGE: Final = 5 << 30
SHORT: Final = 512 * MIB
"""Bytes of each of the ten files without `--full`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One object store behind a proxy."""

    name: str
    route: Route
    proxy: FaultProxy


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Bytes on the wire for S3, Azure and GCS; memory."""
    if not scene.ours:
        yield []
        return
    folder = fresh(scene.work / "clouds")
    source = folder / "source"
    with source.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(secrets.token_bytes(MIB))
    async with AsyncExitStack() as running:
        try:
            found = await _stores(running, folder)
        except (ProgramMissing, PeerFailed) as error:
            raise MeasurementFailed(str(error)) from error
        sender = Sender(node=Node.create(folder / US))
        running.push_async_callback(sender.node.stop)
        await sender.begin([store.route for store in found])
        sshd = (await running.enter_async_context(peers.available("openssh", folder=folder)))[
            "openssh"
        ]
        yield [*(_cut(scene, sender, store, source) for store in found), _memory(scene, sshd)]


# --- a cut ---------------------------------------------------------------------------------------


async def _stores(running: AsyncExitStack, folder: Path) -> list[Store]:
    service = await running.enter_async_context(serving_seaweed(folder / "weed"))
    bucket = await asyncio.to_thread(peer_of, service, "bench", folder)
    running.enter_context(await asyncio.to_thread(lambda: azurite.service(folder / "azurite")))
    running.enter_context(await asyncio.to_thread(lambda: gcs.service(folder / "gcs")))
    container = await running.enter_async_context(azurite.azurite(folder))
    other = await running.enter_async_context(gcs.gcs(folder))
    given: list[tuple[str, str, Peer, Callable[[Peer], dict[str, object]]]] = [
        ("s3", "genericS3", bucket, _s3),
        ("azure", "genericAzure", container, _azure),
        ("gcs", "genericGcs", other, _gcs),
    ]
    found = []
    for name, method, peer, options in given:
        proxy = await running.enter_async_context(FaultProxy(peer))
        at = replace(proxy.peer, directory="/")
        route = Route(name=f"cut-{name}", method=method, peer=at, options=options(at))
        found.append(Store(name=name, route=route, proxy=proxy))
    return found


def _s3(peer: Peer) -> dict[str, object]:
    assert isinstance(peer, BucketPeer)
    return {"s3.scheme": "http", "s3.port": peer.port, "s3.bucketName": peer.bucket}


def _azure(peer: Peer) -> dict[str, object]:
    assert isinstance(peer, azurite.AzuritePeer)
    return {
        "azure.url": azurite.account_url(peer),
        "azure.containerName": peer.container,
        "azure.multipartSize": "32MB",
    }


def _gcs(peer: Peer) -> dict[str, object]:
    assert isinstance(peer, gcs.GcsPeer)
    return {
        "gcs.scheme": "http", "gcs.port": peer.port, "gcs.bucketName": peer.bucket,
        "gcs.anonymous": "yes",
    }  # fmt: skip


def _cut(scene: Scene, sender: Sender, store: Store, source: Path) -> Comparison:
    async def run(number: int) -> Mapping[str, float]:
        await sender.store(store.route, {f"c{number}": source})
        before = store.proxy.passed[Way.UP]

        async def cut() -> None:
            await store.proxy.wait_passed(Way.UP, before + SIZE // 2, limit=LIMIT)
            store.proxy.cut()

        async with asyncio.TaskGroup() as group:
            group.create_task(cut())
            group.create_task(_delivered(sender, store.route))
        return {US: (store.proxy.passed[Way.UP] - before) / SIZE}

    return Comparison(
        case="clouds",
        work=f"bytes on the wire, cut at 50 %, {store.name} put of {SIZE // MIB} MiB",
        unit="x size",
        better="lower",
        contenders=[Contender(name=US, run=run)],
        reach=Reach(limit=1.1),
        rounds=1,
        seconds=scene.seconds(15),
    )


async def _delivered(sender: Sender, route: Route) -> None:
    """Start the destination and wait until its transfers are DONE."""
    await sender.act(f"/destinations/{route.name}/actions/start")
    began = time.monotonic()
    while time.monotonic() - began < LIMIT:
        found = (await sender.get(f"/transfers?destination={route.name}&limit=100"))["items"]
        if all(one["status"] == "done" for one in found):
            return
        if wrong := [one for one in found if one["status"] in ("failed", "stopped")]:
            raise MeasurementFailed(f"{route.name}: {wrong[0]['comment']}")
        await asyncio.sleep(0.05)
    raise MeasurementFailed(f"{route.name}: not delivered in {LIMIT:.0f} s")


# --- memory --------------------------------------------------------------------------------------


def _memory(scene: Scene, sshd: Peer) -> Comparison:
    size = LARGE if scene.full else SHORT
    for number in range(AT_ONCE):
        (sshd.root / f"t{number}").symlink_to("/dev/null")
    place = sshd.root.parent / "large.json"
    options = {
        "sftp.port": str(sshd.port), "sftp.fingerPrint": sshd.host_key,
        "sftp.privateKey": sshd.key.read_text() if sshd.key else "",
    }  # fmt: skip
    given = {"login": sshd.login, "directory": sshd.directory, "size": size, "options": options}
    place.write_text(json.dumps(given))
    place.chmod(0o600)

    def run(name: str, number: int) -> Mapping[str, float]:
        command = [sys.executable, "-m", "benchmarks.large_client", str(place), str(AT_ONCE)]
        return {name: float(timed(command)[1])}

    amount = f"{size >> 30} GiB" if size >= 1 << 30 else f"{size // MIB} MiB"
    return Comparison(
        case="clouds",
        work=f"memory above idle, {AT_ONCE} x {amount} over sftp at once, sparse",
        unit="MiB",
        better="lower",
        contenders=[Contender(name=US, run=partial(run, US))],
        reach=Reach(limit=250),
        rounds=1,
        seconds=scene.seconds(30),
    )
