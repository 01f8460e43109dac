"""From a feed directory through the store to a host: acquired, stored durably, delivered.

The clock starts with the order to acquire and stops when the last file is under its final name on
the other side. Discovery, retrieval, fsync, commit and delivery are all inside.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import Node
from benchmarks.scene import SMALL, Material, Scene, fresh
from tests.peers.peer import Peer

LIMIT = 600.0
"""Seconds after which a run that has not delivered everything counts as failed."""

SITE = """\
[[hosts]]
name = "feed-{name}"
role = "acquisition"
method = "genericFile"
host = "localhost"
directory = "{feed}/{{.*\\\\.bin}}"
acquisition_frequency = "1h"
max_connections = 16

[[hosts]]
name = "to-{name}"
role = "dissemination"
method = "{method}"
host = "{host}"
login = "{login}"
password = "{password}"
directory = "{out}/"
max_connections = 16
[hosts.options]
{options}

[[destinations]]
name = "FLOW-{name}"
acquisition = true
max_connections = 16
max_pending = 0
hosts = ["feed-{name}", "to-{name}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A destination with its feed and the folder where its files arrive on this disk."""

    name: str
    method: str
    feed: Path
    arrival: Path
    remote: str
    peer: Peer | None = None

    def site(self) -> str:
        """The part of the site file that makes this route."""
        peer, options = self.peer, ""
        if peer is not None:
            options = f'"sftp.port" = {peer.port}\n"sftp.fingerPrint" = "{peer.host_key}"'
        return SITE.format(
            name=self.name,
            method=self.method,
            feed=self.feed,
            out=self.remote.rstrip("/"),
            host="127.0.0.1" if peer else "localhost",
            login=peer.login if peer else "",
            password=peer.password if peer else "",
            options=options,
        )


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Without the daemon there is nothing to compare."""
    if not scene.ours:
        yield []
        return
    folder = fresh(scene.work / "flow")
    material = await asyncio.to_thread(Material(folder=scene.work / "material").create)
    node = Node.create(folder / US)
    async with AsyncExitStack() as running:
        running.push_async_callback(node.stop)
        found = await running.enter_async_context(peers.available("openssh", folder=folder))
        await node.start()
        routes = [_local(node), _sftp(node, found["openssh"])]
        await node.apply("\n".join(route.site() for route in routes))
        yield _rows(scene, node, material, routes)


def _local(node: Node) -> Route:
    out = node.data / "out" / "flow"
    out.mkdir(parents=True)
    feed = node.data / "feeds" / "file"
    feed.mkdir(parents=True)
    return Route(name="FILE", method="genericFile", feed=feed, arrival=out, remote=str(out))


def _sftp(node: Node, peer: Peer) -> Route:
    feed = node.data / "feeds" / "sftp"
    feed.mkdir(parents=True)
    return Route(
        name="SFTP",
        method="genericSftp",
        feed=feed,
        arrival=peer.root,
        remote=peer.directory,
        peer=peer,
    )


def _rows(scene: Scene, node: Node, material: Material, routes: list[Route]) -> list[Comparison]:
    counts = [1000, 5000, 50_000] if scene.full else [1000, 5000]
    rows = []
    for route in routes:
        reach = Reach(limit=800) if route.peer is None else None
        rows += [_row(scene, node, material, route, count, reach) for count in counts]
    return rows


def _row(
    scene: Scene, node: Node, material: Material, route: Route, count: int, reach: Reach | None
) -> Comparison:
    async def run(number: int) -> Mapping[str, float]:
        prefix = f"{count}-{number}-"
        await asyncio.to_thread(_fill, route.feed, material, count, prefix)
        began = time.monotonic()
        await asyncio.to_thread(node.api, "POST", f"/hosts/feed-{route.name}/actions/acquire")
        await _arrived(route.arrival, prefix, count, began)
        seconds = time.monotonic() - began
        await asyncio.to_thread(_check, route.arrival, prefix)
        await _settled(node, f"FLOW-{route.name}")
        await asyncio.to_thread(fresh, route.feed)
        return {US: count / seconds}

    return Comparison(
        case="flow",
        work=f"feed to {route.method}, {count:,} x 16 KiB",
        unit="files/s",
        contenders=[Contender(name=US, run=run)],
        reach=reach,
        rounds=3,
        seconds=scene.seconds(15 if count > 1000 else 8),
    )


def _fill(feed: Path, material: Material, count: int, prefix: str) -> None:
    """Put `count` new files into the feed at once: a folder is filled beside it and renamed."""
    beside = fresh(feed.with_name(feed.name + ".new"))
    sources = material.small()
    for number in range(count):
        os.link(sources[number % len(sources)], beside / f"{prefix}{number:06}.bin")
    shutil.rmtree(feed)
    beside.rename(feed)


async def _arrived(folder: Path, prefix: str, count: int, began: float) -> None:
    """Wait until `count` files stand under their final names."""
    pause = max(0.02, count / 200_000)  # a look at 50,000 names costs 20 ms
    while (found := await asyncio.to_thread(_count, folder, prefix)) < count:
        if time.monotonic() - began > LIMIT:
            raise MeasurementFailed(f"{found} of {count} files delivered in {LIMIT:.0f} s")
        await asyncio.sleep(pause)


def _count(folder: Path, prefix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(".bin") for name in os.listdir(folder))


def _check(folder: Path, prefix: str) -> None:
    """Every file is whole; then they are put aside, so that the next round looks at fewer names.

    They stay until the end: file systems without a journal avoid the inodes of what was just
    deleted, and look for others for minutes.
    """
    aside = folder.with_name(f"{folder.name}.done")
    aside.mkdir(exist_ok=True)
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(prefix):
            if entry.stat().st_size != SMALL:
                raise MeasurementFailed(f"{entry.name}: {entry.stat().st_size} bytes")
            os.rename(entry.path, aside / entry.name)


async def _settled(node: Node, destination: str) -> None:
    """Wait until nothing of the last round is queued; not measured."""
    for _ in range(600):
        state = await asyncio.to_thread(node.api, "GET", f"/destinations/{destination}")
        if not state["queued"]:
            return
        await asyncio.sleep(0.1)
    raise MeasurementFailed(f"{destination} does not come to rest")
