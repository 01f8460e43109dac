"""Publications through another broker that is ended again and again: none lost, order kept.

Each destination tells of its files in turn, over and over; a durable subscriber compares.  The
broker is ended by SIGTERM in the middle of its work and started again at once.  Mosquitto
acknowledges before it writes, so that what a SIGKILL takes from it is lost there, whoever
published.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender
from benchmarks.mqtt_client import packet, text
from benchmarks.scene import Scene, fresh
from ecpds.base.settings import load
from ecpds.engine.notices import EXTERNAL
from ecpds.node import open_node
from ecpds.store import outbox, transfers
from ecpds.store.db import Connection
from tests.daemon import DaemonProcess
from tests.peers.mosquitto import Mosquitto, mosquitto
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing

PUBLICATIONS = 20_000
ALL_PUBLICATIONS = 100_000  # with --full
DESTINATIONS = 5
FILES = 600  # of each: more than two batches of the outbox
KILL_EVERY = 10.0  # seconds
LIMIT = 600.0
LIVES = timedelta(days=1)
CONNECT = b"\x00\x04MQTT\x04\x00\x00\x00\x00\x05bench"  # 3.1.1, durable


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Publications a second, pauses of the broker included."""
    folder = scene.work / "mqtt_delivery"
    fresh(folder)
    if not scene.ours:
        yield []
        return
    count = scene.count(ALL_PUBLICATIONS if scene.full else PUBLICATIONS, least=2_000)
    every = KILL_EVERY if scene.full else max(1.0, KILL_EVERY * scene.size / 2)
    async with AsyncExitStack() as running:
        try:
            broker = await running.enter_async_context(mosquitto(folder / "broker"))
        except (ProgramMissing, PeerFailed, OSError) as error:
            raise MeasurementFailed(str(error)) from error

        async def run(number: int) -> Mapping[str, float]:
            daemon = await _prepared(folder / f"node{number}", broker.port, count)
            return {US: await _delivered(daemon, broker, count, every)}

        yield [
            Comparison(
                case="mqtt_delivery",
                work=f"{count:,} publications, broker ended every {every:g} s",
                unit="publications/s",
                contenders=[Contender(name=US, run=run)],
                rounds=1,
                seconds=scene.seconds(60),
            )
        ]


async def _prepared(folder: Path, port: int, count: int) -> DaemonProcess:
    """Return a node that has everything to publish and does not run yet."""
    folder.mkdir()
    daemon = DaemonProcess(
        folder,
        environment={
            "ECPDS_MQTT__DRIVER": "external", "ECPDS_MQTT__URL": f"mqtt://127.0.0.1:{port}",
            "ECPDS_LOG__LEVEL": "error", "PYTHONDONTWRITEBYTECODE": "",
            "ECPDS_API__REQUESTS_PER_MINUTE": "600000",  # thousands of files to begin with
        },
    )  # fmt: skip
    await daemon.command("init")
    options = {"mqtt.publish": "yes", "mqtt.topic": "ops/{destination}/", "mqtt.events": "updated"}
    names = [f"D{number}" for number in range(DESTINATIONS)]
    site = {"destinations": [{"name": name, "options": options} for name in names]}
    await daemon.apply(site)
    await daemon.start()
    for name in names:
        await daemon.command("push", name, *_files(folder), "--quiet")
    await daemon.stop()
    settings = load(daemon.config, daemon.environment)
    node = await open_node(settings)
    try:
        await node.core.store.write(_note, names, count, node.core.clock.now())
    finally:
        await node.close()
    return daemon


def _files(folder: Path) -> list[Path]:
    place = folder / "files"
    if not place.exists():
        place.mkdir()
        for number in range(FILES):
            (place / f"f{number:04}").write_bytes(b"%d" % number)
    return sorted(place.iterdir())


def _note(db: Connection, names: list[str], count: int, now: Any) -> None:
    """Put the publications into the outbox, as the events of so many changes."""
    for name in names:
        found = transfers.page(db, destination=name, limit=FILES)
        ids = [one.id for one in sorted(found, key=lambda one: one.target)]
        for number in range(count // DESTINATIONS):
            outbox.add(
                db, [EXTERNAL], name, ids[number % FILES], "updated", expires_at=now + LIVES,
                now=now,
            )  # fmt: skip


class Observer:
    """A durable subscriber that knows what has to come next."""

    def __init__(self, each: int) -> None:
        self._each = each  # publications of a destination
        self.seen: Counter[str] = Counter()  # first ones, by destination
        self.repeated = 0
        self.is_in = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether everything has come."""
        return len(self.seen) == DESTINATIONS and min(self.seen.values()) >= self._each

    def take(self, topic: str) -> None:
        """Compare one message; raises MeasurementFailed for a gap."""
        _, name, target = topic.split("/")
        ahead = (int(target[1:]) - self.seen[name]) % FILES
        if not ahead:
            self.seen[name] += 1
        elif ahead < FILES // 2:
            raise MeasurementFailed(f"{name}: {ahead} are missing after {self.seen[name]}")
        else:
            self.repeated += 1

    async def watch(self, broker: Mosquitto) -> None:
        """Take messages, again after each end of the broker, until everything has come."""
        while not self.is_complete:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._listen(broker.port)
            await asyncio.sleep(0.02)

    async def _listen(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(packet(0x10, CONNECT))
            writer.write(packet(0x82, b"\x00\x01" + text(b"ops/#") + b"\x01"))
            while not self.is_complete:
                first, body = await _packet(reader)
                if first == 0x90:
                    self.is_in.set()
                if first & 0xF0 != 0x30:
                    continue
                size = int.from_bytes(body[:2], "big") + 2
                writer.write(b"\x40\x02" + body[size : size + 2])
                self.take(body[2:size].decode())
        finally:
            writer.transport.abort()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, await reader.readexactly(size)


async def _delivered(daemon: DaemonProcess, broker: Mosquitto, count: int, every: float) -> float:
    """Return the publications a second until the last one has come."""
    observer = Observer(count // DESTINATIONS)
    ends = 0
    try:
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            watching = group.create_task(observer.watch(broker))
            await observer.is_in.wait()
            begun = time.perf_counter()
            await daemon.start()
            while not watching.done():
                await asyncio.wait([watching], timeout=every)
                if not watching.done():
                    ends += 1
                    await broker.stop()
                    await broker.start()
            took = time.perf_counter() - begun
    except TimeoutError:
        raise MeasurementFailed(f"after {LIMIT:.0f} s: {dict(observer.seen)}") from None
    except BaseExceptionGroup as group_error:
        raise MeasurementFailed(str(group_error.exceptions[0])) from None
    finally:
        await daemon.stop()
    print(f"    broker ended {ends} times, {observer.repeated} came again", flush=True)
    return count / took
