"""The embedded broker beside Mosquitto and amqtt: QoS 1, 1 KiB, one publisher.

Fan-out and rate as fast as it goes; the latency at half of the rate that a first run has shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks import brokers
from benchmarks.brokers import Place, Places
from benchmarks.harness import Comparison, Reach
from benchmarks.scene import Scene

SIZE = 1024
MESSAGES = {1: 10_000, 20: 1_500}
PEERS = ("amqtt", "mosquitto")
PACED_FOR = 3.0  # seconds at half load
MOST_RATE = 40_000.0  # messages/s: what the client can pace


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """1 to 1, 1 to 20, and how late messages are at half load."""
    async with AsyncExitStack() as running:
        places = await brokers.opened(running, scene, scene.work / "mqtt", PEERS)
        yield [
            _fan(scene, places, 20, Reach(limit=4.0, against="amqtt", others={"mosquitto": 0.3})),
            _fan(scene, places, 1, Reach(limit=3.0, against="amqtt")),
            _late(scene, places),
        ]


def _fan(scene: Scene, places: Places, subscribers: int, reach: Reach) -> Comparison:
    messages = scene.count(MESSAGES[subscribers], least=100)

    async def measured(_: str, place: Place) -> float:
        return (await brokers.client("mqtt_client", place.port, subscribers, messages, SIZE))[0]

    return Comparison(
        case="mqtt",
        work=f"1 -> {subscribers}, 1 KiB, QoS 1",
        unit="deliveries/s",
        contenders=brokers.contenders(places, measured),
        reach=reach,
        rounds=scene.rounds,
        seconds=scene.seconds(15),
    )


def _late(scene: Scene, places: Places) -> Comparison:
    rates: dict[str, float] = {}
    trial = scene.count(MESSAGES[1], least=500)

    async def measured(name: str, place: Place) -> float:
        if name not in rates:
            found = await brokers.client("mqtt_client", place.port, 1, trial, SIZE)
            rates[name] = min(found[0] / 2, MOST_RATE)
        messages = scene.count(round(rates[name] * PACED_FOR), least=200)
        load = ("half", place.port, messages, SIZE, f"{rates[name]:.1f}")
        return (await brokers.client("mqtt_load", *load))[1]

    return Comparison(
        case="mqtt",
        work="1 -> 1 at half of that rate: p99 latency",
        unit="ms",
        contenders=brokers.contenders(places, measured, rounds=1),
        better="lower",
        reach=Reach(limit=20),
        rounds=scene.rounds,
        seconds=scene.seconds(25),
    )
