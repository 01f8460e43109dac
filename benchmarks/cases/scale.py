"""What grows: destinations with queues, hosts with long listings, batches that are fetched.

The sizes of `--full` are those of a large site; without it each row shows the same work at a tenth
or less, so that it fits into the ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.cases.backlog import Backlog
from benchmarks.cases.discovery import MEGABYTE, listing, resident
from benchmarks.cases.flow import LIMIT
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import Node
from benchmarks.scene import SMALL, Material, Scene, fresh
from ecpds.base.settings import load
from ecpds.engine.acquisition_run import Discovery, Run
from ecpds.engine.acquisition_take import Registering
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.directory import parse_directory
from ecpds.node import Node as Resting
from ecpds.node import open_node
from tests.peers.peer import Peer

FETCH = """\
[[hosts]]
name = "source"
role = "source"
method = "genericSftp"
host = "127.0.0.1"
login = "{login}"
password = "{password}"
max_connections = 16
[hosts.options]
"sftp.port" = {port}
"sftp.fingerPrint" = "{key}"

[[hosts]]
name = "to-a"
method = "genericFile"
directory = "{out}/a/"
max_connections = 16

[[hosts]]
name = "to-b"
method = "genericFile"
directory = "{out}/b/"
max_connections = 16

[[destinations]]
name = "A"
max_connections = 16
max_pending = 0
source_host = "source"
hosts = ["to-a"]
[[destinations.aliases]]
to = "B"

[[destinations]]
name = "B"
max_connections = 16
max_pending = 0
hosts = ["to-b"]
"""


# --- destinations ------------------------------------------------------------------------------


@asynccontextmanager
async def queues(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """One destination with a long queue, and many with one each; a tenth of it for comparison."""
    folder, long = fresh(scene.work / "queues"), 1_000_000 if scene.full else 20_000
    running_for = 10.0 if scene.full else 3.0

    def backlog(count: int, destinations: int) -> Backlog:
        return Backlog(
            folder=folder, count=count, destinations=destinations, running_for=running_for
        )

    yield (
        [
            *_queues(f"1 destination with {long:,}", backlog(long, 1), backlog(long // 10, 1)),
            *_queues(
                f"1,000 destinations with {long // 1000:,} each",
                backlog(long, 1000),
                backlog(long // 10, 100),
            ),
        ]
        if scene.ours
        else []
    )


def _queues(what: str, queue: Backlog, tenth: Backlog) -> list[Comparison]:
    rows = []
    for figure, text, unit, limit, most in (
        ("ready", "start to ready", "s", 5.0, None),
        ("p50", "claim, median", "ms", None, None),
        ("p99", "claim, 99 %", "ms", 10.0, None),
        ("rss", "resident memory", "MB", 500.0, 2.0),
    ):

        async def run(number: int, name: str = figure) -> Mapping[str, float]:
            del number
            return {US: await queue.figure(name)}

        async def growth(number: int, name: str = figure) -> Mapping[str, float]:
            del number
            return {US: await queue.figure(name) / await tenth.figure(name)}

        reach = None if limit is None else Reach(limit=limit)
        rows.append(_row(f"{what}: {text}", unit, run, reach, case="queues"))
        reach = Reach(limit=10.0 if most is None else most)  # ten times the work
        rows.append(_row(f"{what}: {text}, beside a tenth", "x", growth, reach, case="queues"))
    return rows


def _row(
    work: str, unit: str, run: object, reach: Reach | None, better: str = "lower", *, case: str
) -> Comparison:
    return Comparison(
        case=case,
        work=work,
        unit=unit,
        contenders=[Contender(name=US, run=run)],  # type: ignore[arg-type] # a coroutine function
        better=better,  # type: ignore[arg-type] # one of its words
        reach=reach,
        rounds=1,
    )


# --- acquisition hosts -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """A node that knows the listings of all its hosts."""

    node: Resting
    hosts: int
    entries: int

    async def discover(self, hosts: int) -> float:
        """Go through the listings of so many hosts at once; return the seconds."""
        core = self.node.core
        slots = asyncio.Semaphore(core.settings.scheduler.acquisition_hosts)
        search = parse_directory("/in/").lines[0].at(core.clock.now())

        async def one(number: int) -> None:
            entry = core.snapshot.destination(f"D{number:03}")
            host = core.snapshot.host(f"feed-{number:03}")
            taker = Registering(core, entry, host, lambda _: None)
            run = Run(core.clock.now())
            async with slots:
                await Discovery(core, entry, host, taker).run_entries(
                    search, listing(self.entries), run
                )
            if run.errors or run.listed != self.entries:
                raise MeasurementFailed(f"{host.name}: {run.outcomes} {run.errors[:1]}")

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(hosts):
                group.create_task(one(number))
        return time.monotonic() - began


@asynccontextmanager
async def listings(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Many hosts that list what is known: each discovery of a minute."""
    if not scene.ours:
        yield []
        return
    count, entries = (200, 10_000) if scene.full else (20, 1_000)
    folder = fresh(scene.work / "listings")
    given = {"ECPDS_NODE__DATA_DIR": str(folder), "ECPDS_STORE__DURABILITY": "normal"}
    node = await open_node(load(None, given))
    try:
        names = range(count)
        document = {
            "hosts": [
                {"name": f"feed-{one:03}", "role": "acquisition", "method": "genericFile",
                 "directory": "/in/"}
                for one in names
            ],
            "destinations": [
                {"name": f"D{one:03}", "active": False, "max_pending": 0,
                 "hosts": [f"feed-{one:03}"]}
                for one in names
            ],
        }  # fmt: skip
        site = read_site(document, Where())
        await SiteOperations(node.engine).apply(site, SYSTEM, dry_run=False)
        made = Site(node, count, entries)
        taken: dict[str, float] = {}

        async def measured() -> dict[str, float]:
            if not taken:
                await made.discover(count)  # now all of it is known
                taken["tenth"] = await made.discover(count // 10)
                before = resident()
                taken["all"] = await made.discover(count)
                taken["memory"] = (resident() - before) / MEGABYTE
            return taken

        async def seconds(number: int) -> Mapping[str, float]:
            del number
            return {US: (await measured())["all"]}

        async def rate(number: int) -> Mapping[str, float]:
            del number
            return {US: count * entries / (await measured())["all"]}

        async def growth(number: int) -> Mapping[str, float]:
            del number
            found = await measured()
            return {US: found["all"] / found["tenth"]}

        async def memory(number: int) -> Mapping[str, float]:
            del number
            return {US: max((await measured())["memory"], 0.0)}

        what = f"{count} hosts that list {entries:,} known files each"
        # every minute: a round has to end within one, with room for other work
        reach = Reach(limit=40 if scene.full else 1)
        yield [
            _row(what, "s", seconds, reach, case="listings"),
            _row(f"{what}: entries", "entries/s", rate, None, better="higher", case="listings"),
            _row(f"{what}, beside a tenth", "x", growth, Reach(limit=15), case="listings"),
            _row(f"{what}: memory added", "MB", memory, Reach(limit=100), case="listings"),
        ]
    finally:
        await node.close()


# --- fetch mode --------------------------------------------------------------------------------


@asynccontextmanager
async def fetching(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """A batch that is registered, fetched and sent to two destinations."""
    if not scene.ours:
        yield []
        return
    folder = fresh(scene.work / "fetching")
    count = 5000 if scene.full else 500
    material = await asyncio.to_thread(Material(folder=scene.work / "material").create)
    async with AsyncExitStack() as running:
        node = Node.create(folder / US)
        running.push_async_callback(node.stop)
        found = await running.enter_async_context(peers.available("openssh", folder=folder))
        peer = found["openssh"]
        await node.start()
        out = node.data / "out"
        await node.apply(
            FETCH.format(
                login=peer.login, password=peer.password, port=peer.port, key=peer.host_key, out=out
            )
        )

        async def run(number: int) -> Mapping[str, float]:
            prefix = f"{number}-"
            manifest = await asyncio.to_thread(_laid, peer, material, count, prefix, folder)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                register = ("register", "A", "--manifest", str(manifest), "--group", f"G{number}")
                group.create_task(asyncio.to_thread(node.command, *register))
                for name in "ab":
                    group.create_task(_complete(out / name, prefix, count, began))
            return {US: count / (time.monotonic() - began)}

        work = f"{count:,} x 16 KiB registered, fetched by SFTP, sent to two destinations"
        reach = Reach(limit=300)
        yield [_row(work, "files/s", run, reach, better="higher", case="fetching")]


def _laid(peer: Peer, material: Material, count: int, prefix: str, folder: Path) -> Path:
    """Put files into the source; return the manifest that names them."""
    sources, lines = material.small(), []
    base = peer.directory.rstrip("/")
    for number in range(count):
        name = f"{prefix}{number:06}.bin"
        os.link(sources[number % len(sources)], peer.root / name)
        one = {"source": f"{base}/{name}", "target": name, "size": SMALL}
        lines.append(json.dumps(one))
    manifest = folder / f"{prefix}manifest"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


async def _complete(folder: Path, prefix: str, count: int, began: float) -> None:
    """Wait until all files stand whole under their final names."""
    while True:
        names = await asyncio.to_thread(_names, folder, prefix)
        if len(names) == count:
            break
        if time.monotonic() - began > LIMIT:
            raise MeasurementFailed(f"{len(names)} of {count} files in {folder.name}")
        await asyncio.sleep(max(0.02, count / 100_000))
    for name in names:
        if (folder / name).stat().st_size != SMALL:
            raise MeasurementFailed(f"{name} is not whole")


def _names(folder: Path, prefix: str) -> list[str]:
    if not folder.exists():
        return []
    return [one for one in os.listdir(folder) if one.startswith(prefix) and one.endswith(".bin")]
