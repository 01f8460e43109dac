"""The MQTT brokers that are measured: ours, amqtt and Mosquitto, everybody may publish.

Clients may publish to ours by `mqtt.test_publish`; amqtt and Mosquitto run with their defaults and
a login for everybody.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Contender
from benchmarks.scene import Scene, fresh
from tests.daemon import DaemonProcess  # its settings are those of the tests
from tests.peers import ports
from tests.peers.mosquitto import mosquitto
from tests.peers.process import Child, PeerFailed, wait_ready
from tests.peers.programs import ProgramMissing

SITE = """\
{"destinations": [{"name": "BENCH"}], "data_users": [{"login": "bench", "password":
"bench-password", "operations": ["dir"], "destinations": ["BENCH"],
"options": {"portal.mqttPermission": "#", "portal.maxConnections": 10000}}]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running broker."""

    port: int
    tls_port: int = 0
    pid: int = 0


Places = Mapping[str, "Place | MeasurementFailed"]


async def opened(
    running: AsyncExitStack, scene: Scene, folder: Path, peers: Sequence[str]
) -> dict[str, Place | MeasurementFailed]:
    """Start ours and these peers; who cannot start is there as its error."""
    fresh(folder)
    places: dict[str, Place | MeasurementFailed] = {}
    for name in (*((US,) if scene.ours else ()), *peers):
        try:
            opener = {US: ours, "amqtt": _amqtt, "mosquitto": _mosquitto}[name]
            places[name] = await running.enter_async_context(opener(folder / name))
        except (ProgramMissing, PeerFailed, OSError) as error:
            places[name] = MeasurementFailed(f"{name}: {error}")
    return places


@asynccontextmanager
async def _mosquitto(folder: Path) -> AsyncIterator[Place]:
    async with mosquitto(folder) as broker:
        yield Place(port=broker.port)


@asynccontextmanager
async def _amqtt(folder: Path) -> AsyncIterator[Place]:
    folder.mkdir()
    with ports.reserved() as free:
        command = [sys.executable, "-m", "benchmarks.amqtt_broker", str(free[0])]
        child = Child("amqtt", command, folder / "log")
        try:
            await wait_ready(child, "127.0.0.1", free[0])
            yield Place(port=free[0], pid=child.pid)
        finally:
            await child.stop()


@asynccontextmanager
async def ours(folder: Path, *, tls: bool = False) -> AsyncIterator[Place]:
    """Run our broker; `tls`: with a TLS listener too."""
    folder.mkdir(parents=True)
    settings = {
        "ECPDS_MQTT__LISTEN": "127.0.0.1:0", "ECPDS_MQTT__TEST_PUBLISH": "true",
        "ECPDS_LOG__LEVEL": "warning", "PYTHONDONTWRITEBYTECODE": "",
        **({"ECPDS_MQTT__TLS_LISTEN": "127.0.0.1:0"} if tls else {}),
    }  # fmt: skip
    daemon = DaemonProcess(folder, environment=settings)
    await daemon.command("init")
    (folder / "site.json").write_text(SITE)
    await daemon.command("apply", folder / "site.json")
    await daemon.start()
    try:
        yield Place(
            port=daemon.port("mqtt"),
            tls_port=daemon.port("mqtts") if tls else 0,
            pid=daemon.child.pid if daemon.child else 0,
        )
    finally:
        await daemon.stop()


def contenders(
    places: Places, measured: Callable[[str, Place], Awaitable[float]], *, rounds: int = 2
) -> list[Contender]:
    """Return a contender for each broker; amqtt has `rounds` rounds at most."""

    def contender(name: str, place: Place | MeasurementFailed) -> Contender:
        async def run(number: int) -> Mapping[str, float]:
            del number
            if isinstance(place, MeasurementFailed):
                raise place
            return {name: await measured(name, place)}

        return Contender(name=name, run=run, rounds=rounds if name == "amqtt" else None)

    return [contender(name, place) for name, place in places.items()]


async def client(module: str, *arguments: object) -> list[float]:
    """Run a client in a process of its own; return the figures of its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    if process.returncode:
        raise MeasurementFailed(error.decode(errors="replace")[-300:])
    return [float(word) for word in out.split(b"\n")[-2].split()]
