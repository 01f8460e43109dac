"""How long the daemon takes to be ready, and what it needs when it has nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import Node
from benchmarks.scene import Scene, fresh

IDLE_FOR = 30.0
MEGABYTE = 1_000_000


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Without the daemon there is nothing to compare."""
    yield _all(scene, fresh(scene.work / "startup")) if scene.ours else []


def _all(scene: Scene, folder: Path) -> list[Comparison]:
    async def first(number: int) -> Mapping[str, float]:
        node = Node.create(folder / f"first-{number}")
        try:
            return {US: await node.start()}
        finally:
            await node.stop()

    async def again(number: int) -> Mapping[str, float]:
        return await first(0)

    async def idle(number: int) -> Mapping[str, float]:
        node = Node.create(folder / "first-0")
        try:
            await node.start()
            await asyncio.sleep(IDLE_FOR)
            found = node.memory()
        finally:
            await node.stop()
        return {US: found.rss / MEGABYTE, "proportional (PSS)": found.pss / MEGABYTE}

    def row(work: str, unit: str, contender: Contender, **more: object) -> Comparison:
        return Comparison(
            case="startup",
            work=work,
            unit=unit,
            contenders=[contender],
            better="lower",
            **more,  # type: ignore[arg-type] # reach, rounds and seconds
        )

    return [
        row(
            "first start to ready (keys, certificate, store made)",
            "s",
            Contender(name=US, run=first),
            rounds=2,
            seconds=scene.seconds(6),
        ),
        row(
            "start to ready, empty store",
            "s",
            Contender(name=US, run=again),
            rounds=scene.rounds,
            reach=Reach(limit=1.5),
            seconds=scene.seconds(10),
        ),
        row(
            f"resident memory after {IDLE_FOR:.0f} s idle",
            "MB",
            Contender(name=US, run=idle),
            rounds=2 if scene.full else 1,
            reach=Reach(limit=150),
            seconds=scene.seconds(40),
        ),
    ]
