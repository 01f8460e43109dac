"""Many clients at the embedded broker: what a silent one costs, what a crowd of new ones gets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks import brokers
from benchmarks.brokers import Place, Places
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.machine import memory
from benchmarks.scene import Scene, fresh

IDLE = 1_000
WARM = 50  # clients before the first look at the memory
TOPICS = 10_000
SIZE = 256
SUBSCRIBERS = {US: 50, "amqtt": 5, "mosquitto": 50}
ALL_SUBSCRIBERS = 500  # with --full
KIB = 1024


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Memory of idle TLS clients, replay of retained messages."""
    folder = scene.work / "mqtt_clients"
    fresh(folder)
    async with AsyncExitStack() as running:
        places = await brokers.opened(running, scene, folder / "replay", ("amqtt", "mosquitto"))
        topics = scene.count(TOPICS, least=100)
        for place in places.values():
            if isinstance(place, Place):
                await brokers.client("mqtt_load", "retain", place.port, topics, SIZE)
        rows = [_replay(scene, places, topics)]
        yield [_idle(scene, folder / "idle"), *rows] if scene.ours else rows


def _replay(scene: Scene, places: Places, topics: int) -> Comparison:
    ours = scene.count(ALL_SUBSCRIBERS if scene.full else SUBSCRIBERS[US], least=2)

    async def measured(name: str, place: Place) -> float:
        clients = ours if name == US else scene.count(SUBSCRIBERS[name], least=2)
        return (await brokers.client("mqtt_load", "replay", place.port, clients, topics, SIZE))[0]

    return Comparison(
        case="mqtt_clients",
        work=f"{ours} new subscribers, {topics:,} retained topics, QoS 0",
        unit="messages/s",
        contenders=brokers.contenders(places, measured, rounds=1),
        reach=Reach(limit=3.0, against="amqtt"),
        rounds=3,
        seconds=scene.seconds(40),
    )


def _idle(scene: Scene, folder: Path) -> Comparison:
    count = scene.count(IDLE, least=20)

    async def run(number: int) -> Mapping[str, float]:
        async with brokers.ours(folder / str(number), tls=True) as place:
            async with _held(place, WARM, "w"):
                pass
            async with _held(place, WARM, "w"):
                before = memory(place.pid).rss
                async with _held(place, count, "i"):
                    grown = memory(place.pid).rss - before
            return {US: grown / count / KIB}

    return Comparison(
        case="mqtt_clients",
        work=f"{count:,} idle TLS clients: memory of each",
        unit="KiB",
        contenders=[Contender(name=US, run=run)],
        better="lower",
        reach=Reach(limit=80),
        rounds=3 if scene.full else 1,
        seconds=scene.seconds(30),
    )


@asynccontextmanager
async def _held(place: Place, clients: int, prefix: str) -> AsyncIterator[None]:
    """Hold that many idle clients."""
    command = ["-m", "benchmarks.mqtt_load", "idle", str(place.tls_port), str(clients), prefix]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise MeasurementFailed("no pipes")
    try:
        line = await process.stdout.readline()
        if line != b"in\n":
            raise MeasurementFailed("the idle clients did not come in")
        yield
    finally:
        process.stdin.close()
        out = await process.stdout.read()
        await process.wait()
    if out.split() != [f"{clients}.0".encode()]:
        raise MeasurementFailed(f"of {clients} idle clients stayed {out.decode().strip()}")
