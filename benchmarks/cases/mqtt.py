"""The embedded broker beside Mosquitto and amqtt: QoS 1, 1 KiB, one publisher.

Clients may publish to ours by `mqtt.test_publish`; amqtt and Mosquitto run with their defaults and
a login for everybody.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.scene import Scene, fresh
from tests.peers import ports
from tests.peers.mosquitto import mosquitto
from tests.peers.process import Child, PeerFailed, wait_ready
from tests.peers.programs import ProgramMissing

SIZE = 1024
MESSAGES = {1: 10_000, 20: 1_500}
PEERS = ("amqtt", "mosquitto")

SITE = """\
{"destinations": [{"name": "BENCH"}], "data_users": [{"login": "bench", "password":
"bench-password", "operations": ["dir"], "destinations": ["BENCH"],
"options": {"portal.mqttPermission": "#", "portal.maxConnections": 1000}}]}
"""


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """1 to 1, and 1 to 20."""
    folder = scene.work / "mqtt"
    fresh(folder)
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as running:
        places: dict[str, int | MeasurementFailed] = {}
        for name in (*((US,) if scene.ours else ()), *PEERS):
            places[name] = await _opened(running, name, folder / name)
        yield [_fan(scene, places, 20, 4.0), _fan(scene, places, 1, 3.0)]


async def _opened(running: AsyncExitStack, name: str, folder: Path) -> int | MeasurementFailed:
    folder.mkdir(parents=True)
    try:
        if name == "mosquitto":
            return (await running.enter_async_context(mosquitto(folder))).port
        opener = _ours if name == US else _amqtt
        return await running.enter_async_context(opener(folder))
    except (ProgramMissing, PeerFailed, OSError) as error:
        return MeasurementFailed(f"{name}: {error}")


@asynccontextmanager
async def _amqtt(folder: Path) -> AsyncIterator[int]:
    with ports.reserved() as free:
        command = [sys.executable, "-m", "benchmarks.amqtt_broker", str(free[0])]
        child = Child("amqtt", command, folder / "log")
        try:
            await wait_ready(child, "127.0.0.1", free[0])
            yield free[0]
        finally:
            await child.stop()


@asynccontextmanager
async def _ours(folder: Path) -> AsyncIterator[int]:
    from tests.daemon import DaemonProcess  # its settings are those of the tests

    settings = {
        "ECPDS_MQTT__LISTEN": "127.0.0.1:0", "ECPDS_MQTT__TEST_PUBLISH": "true",
        "ECPDS_LOG__LEVEL": "warning",
    }  # fmt: skip
    daemon = DaemonProcess(folder, environment=settings)
    await daemon.command("init")
    (folder / "site.json").write_text(SITE)
    await daemon.command("apply", folder / "site.json")
    await daemon.start()
    try:
        yield daemon.port("mqtt")
    finally:
        await daemon.stop()


def _fan(
    scene: Scene, places: Mapping[str, int | MeasurementFailed], subscribers: int, limit: float
) -> Comparison:
    def contender(name: str, place: int | MeasurementFailed) -> Contender:
        async def run(number: int) -> Mapping[str, float]:
            if isinstance(place, MeasurementFailed):
                raise place
            return {name: await _measured(place, subscribers)}

        return Contender(name=name, run=run, rounds=2 if name == "amqtt" else None)

    return Comparison(
        case="mqtt",
        work=f"1 -> {subscribers}, 1 KiB, QoS 1",
        unit="deliveries/s",
        contenders=[contender(name, place) for name, place in places.items()],
        reach=Reach(limit=limit, against="amqtt"),
        rounds=scene.rounds,
        seconds=scene.seconds(30),
    )


async def _measured(port: int, subscribers: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.mqtt_client", str(port), str(subscribers),
        str(MESSAGES[subscribers]), str(SIZE),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    if process.returncode:
        raise MeasurementFailed(error.decode(errors="replace")[-300:])
    return float(out)
