"""Further work for MQTT brokers, in one process of its own.

python -m benchmarks.mqtt_load half PORT MESSAGES SIZE RATE     p50 and p99 of the latency in ms
python -m benchmarks.mqtt_load retain PORT TOPICS SIZE          publishes retained messages
python -m benchmarks.mqtt_load replay PORT CLIENTS TOPICS SIZE  retained messages a second
python -m benchmarks.mqtt_load idle PORT CLIENTS PREFIX         TLS; prints a line when all are
                                                                in, and waits for the end of
                                                                its standard input
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import sys
import time

from benchmarks.harness import percentile
from benchmarks.mqtt_client import AHEAD, Client, Publisher, Subscriber, packet, text

LIMIT = 60.0  # seconds for a broker to do it
TICK = 0.001
TOPICS = b"bench/%06d"
AT_ONCE = 40  # handshakes
FLYING = 50


class Timed(Subscriber):
    """Reads from each message when it was due."""

    latencies: list[float]

    def seen(self, taken: bytes, count: int) -> None:
        """Note how late each one is."""
        now, length, at = time.perf_counter(), self._length, self._id_at + 2
        for start in range(0, count * length, length):
            (due,) = struct.unpack_from("d", taken, start + at)
            self.latencies.append(now - due)


async def half(port: int, messages: int, size: int, rate: float) -> list[float]:
    """Publish `rate` messages a second, whatever comes back; return p50 and p99 in ms."""
    loop = asyncio.get_running_loop()
    topic = b"bench/half"
    length = len(packet(0x32, text(topic) + b"\x00\x01" + bytes(size)))
    subscriber = Timed("half-s", messages, length, topic)
    subscriber.latencies = []
    publisher = Publisher("half-p", 0, size)
    for one in (subscriber, publisher):
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]  # bound now
    async with asyncio.timeout(LIMIT):
        for one in (subscriber, publisher):
            await one.ready.wait()
        begun, number = time.perf_counter(), 0
        while number < messages:
            due = min(int((time.perf_counter() - begun) * rate) + 1, messages)
            due = min(due, subscriber.taken + AHEAD)
            out = []
            while number < due:
                stamp = struct.pack("d", begun + number / rate) + bytes(size - 8)
                identifier = (number % 65535 + 1).to_bytes(2, "big")
                out.append(packet(0x32, text(topic) + identifier + stamp))
                number += 1
            if out:
                publisher.transport.write(b"".join(out))
            await asyncio.sleep(TICK)
        await subscriber.done.wait()
    found = subscriber.latencies[messages // 10 :]
    return [percentile(found, share) * 1000 for share in (0.5, 0.99)]


class Pinging(Client):
    """Waits for one answer."""

    answered = False

    def entered(self) -> None:
        """Be ready."""
        self.ready.set()

    def take(self) -> None:
        """Note the answer."""
        self.answered = b"\xd0\x00" in self._buffer


async def retain(port: int, topics: int, size: int) -> list[float]:
    """Publish a retained message on each topic."""
    loop = asyncio.get_running_loop()
    publisher = Pinging("retain")
    await loop.create_connection(lambda: publisher, "127.0.0.1", port)
    async with asyncio.timeout(LIMIT):
        await publisher.ready.wait()
        for number in range(topics):
            publisher.transport.write(packet(0x31, text(TOPICS % number) + bytes(size)))
            if number % FLYING == FLYING - 1:
                await asyncio.sleep(5 * TICK)
        publisher.transport.write(b"\xc0\x00")
        while not publisher.answered:
            await asyncio.sleep(TICK)
    publisher.transport.abort()
    return [float(topics)]


async def replay(port: int, clients: int, topics: int, size: int) -> list[float]:
    """Subscribe to all retained topics with many clients; return messages a second."""
    loop = asyncio.get_running_loop()
    length = len(packet(0x31, text(TOPICS % 0) + bytes(size)))
    made = [Many(f"r{number}", topics * length) for number in range(clients)]
    async with asyncio.timeout(LIMIT):
        for one in made:
            await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]  # bound now
        for one in made:
            await one.ready.wait()
        begun = time.perf_counter()
        for one in made:
            one.begin()
        for one in made:
            await one.done.wait()
        took = time.perf_counter() - begun
    for one in made:
        one.transport.abort()
    return [clients * topics / took]


class Many(Client):
    """Subscribes to everything when it is told to, QoS 0, and counts bytes."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self._left = size + 5  # with the SUBACK

    def entered(self) -> None:
        """Wait for the others."""
        self.ready.set()

    def begin(self) -> None:
        """Subscribe."""
        self.transport.write(packet(0x82, b"\x00\x01" + text(b"bench/#") + b"\x00"))

    def take(self) -> None:
        """Count."""
        self._left -= len(self._buffer)
        self._buffer = b""
        if self._left <= 0:
            self.done.set()


class Idle(Client):
    """Logs in, subscribes to one topic and is silent."""

    def entered(self) -> None:
        """Subscribe."""
        self.transport.write(
            packet(0x82, b"\x00\x01" + text(b"idle/" + self.name.encode()) + b"\x01")
        )

    def take(self) -> None:
        """Be ready."""
        if len(self._buffer) >= 5:
            self.ready.set()


async def idle(port: int, clients: int, prefix: str) -> list[float]:
    """Hold TLS connections until the standard input ends."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    made = [Idle(f"{prefix}{number}") for number in range(clients)]
    room = asyncio.Semaphore(AT_ONCE)

    async def enter(one: Idle) -> None:
        async with room:
            await loop.create_connection(lambda: one, "127.0.0.1", port, ssl=context)
            await one.ready.wait()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for one in made:
            group.create_task(enter(one))
    print("in", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return [float(sum(not one.transport.is_closing() for one in made))]


def _number(word: str) -> int | float | str:
    if word.isdecimal():
        return int(word)
    return float(word) if word[0].isdecimal() else word


WORK = {"half": half, "retain": retain, "replay": replay, "idle": idle}


def main() -> None:
    """Do one piece of work and print its figures."""
    import uvloop

    work, *numbers = sys.argv[1:]
    found = [_number(one) for one in numbers]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(*runner.run(WORK[work](*found)))  # type: ignore[operator]  # as the user wrote them


if __name__ == "__main__":
    main()
