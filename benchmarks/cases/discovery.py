"""Discovery of long listings: known files compared with the store, and memory of a million entries.

The node runs in this process without listeners; the listing is made, not fetched, so that only the
node's own work is measured.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.scene import Scene, fresh
from ecpds.base.settings import load
from ecpds.engine.acquisition_run import Discovery, Run
from ecpds.engine.acquisition_take import Registering
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.node import Node, open_node

KNOWN = 100_000
LONG = 1_000_000
MEGABYTE = 1_000_000
MODIFIED = datetime(2030, 1, 1, tzinfo=UTC)
SITE = {
    "hosts": [
        {"name": "feed", "role": "acquisition", "method": "genericFile", "directory": "/in/"}
    ],
    "destinations": [{"name": "D", "active": False, "max_pending": 0, "hosts": ["feed"]}],
}


async def listing(count: int) -> AsyncIterator[Entry]:
    """Yield so many entries."""
    for number in range(count):
        yield Entry(kind=Kind.FILE, name=f"f{number:08d}.grib", size=1000, mtime=MODIFIED)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@dataclass(slots=True, kw_only=True)
class Listings:
    """A node that knows 100,000 files."""

    node: Node
    registered: float = field(default=0.0)

    async def discover(self, count: int, text: str = "/in/") -> tuple[float, Run, int]:
        """Return the time, the counts and by how much memory grew at most."""
        core = self.node.core
        entry, host = core.snapshot.destination("D"), core.snapshot.host("feed")
        taker = Registering(core, entry, host, lambda _: None)
        run, begun = Run(core.clock.now()), resident()
        search = parse_directory(text).lines[0].at(core.clock.now())
        grown = [0]

        async def watched() -> AsyncIterator[Entry]:
            number = 0
            async for one in listing(count):
                number += 1
                if not number % 50_000:
                    grown[0] = max(grown[0], resident() - begun)
                yield one

        start = time.monotonic()
        await Discovery(core, entry, host, taker).run_entries(search, watched(), run)
        return time.monotonic() - start, run, grown[0]


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Without the daemon there is nothing to compare."""
    if not scene.ours:
        yield []
        return
    folder = fresh(scene.work / "discovery")
    given = {"ECPDS_NODE__DATA_DIR": str(folder), "ECPDS_STORE__DURABILITY": "normal"}
    node = await open_node(load(None, given))
    try:
        site = read_site(SITE, Where())
        await SiteOperations(node.engine).apply(site, SYSTEM, dry_run=False)
        yield _all(scene, Listings(node=node))
    finally:
        await node.close()


def _all(scene: Scene, listings: Listings) -> list[Comparison]:
    async def known(number: int) -> Mapping[str, float]:
        del number
        if not listings.registered:
            listings.registered, _, _ = await listings.discover(KNOWN)
        took, run, _ = await listings.discover(KNOWN)
        if run.outcomes != {"exists": KNOWN}:
            raise AssertionError(run.outcomes)
        return {US: took}

    async def long(number: int) -> Mapping[str, float]:
        del number
        _, run, grown = await listings.discover(LONG, "/in/{.*\\.nc}")
        if run.outcomes != {"wrong pattern": LONG}:
            raise AssertionError(run.outcomes)
        return {US: grown / MEGABYTE}

    return [
        Comparison(
            case="discovery",
            work=f"listing of {KNOWN:,} known files compared with the store",
            unit="s",
            contenders=[Contender(name=US, run=known)],
            better="lower",
            reach=Reach(limit=2.0),
            rounds=scene.rounds,
            seconds=scene.seconds(30),
        ),
        Comparison(
            case="discovery",
            work=f"memory that a listing of {LONG:,} entries adds",
            unit="MB",
            contenders=[Contender(name=US, run=long)],
            better="lower",
            reach=Reach(limit=20),
            rounds=1,
            seconds=scene.seconds(15),
        ),
    ]
