"""One publisher and some subscribers at an MQTT broker, QoS 1, in one process of its own.

    python -m benchmarks.mqtt_client PORT SUBSCRIBERS MESSAGES SIZE

Prints the deliveries a second.  The client does no more than it has to, so that the broker is what
is measured: it knows how long a message is and acknowledges all that came in one write.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

TOPIC = b"bench/t"
WINDOW = 50  # publications without an acknowledgement
AHEAD = 1_000  # publications that the slowest subscriber has not got: ours drops above 2,000
LIMIT = 120.0


def text(value: bytes) -> bytes:
    """Return bytes with their length."""
    return len(value).to_bytes(2, "big") + value


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its remaining length."""
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (128 if size else 0))
        if not size:
            return bytes((first,)) + bytes(length) + body


def connect(name: str) -> bytes:
    """Return a CONNECT of 3.1.1."""
    body = text(b"MQTT") + b"\x04\xc2\x00\x00" + text(name.encode())
    return packet(0x10, body + text(b"bench") + text(b"bench-password"))


class Client(asyncio.Protocol):
    """Common to both."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self._buffer = b""
        self._is_in = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.transport.write(connect(self.name))

    def data_received(self, data: bytes) -> None:
        """Take bytes; CONNACK first."""
        self._buffer += data
        if not self._is_in and len(self._buffer) >= 4:
            assert self._buffer[:4] == b"\x20\x02\x00\x00", self._buffer[:4]
            self._is_in, self._buffer = True, self._buffer[4:]
            self.entered()
        if self._is_in:
            self.take()

    def entered(self) -> None:
        """Go on after the login."""

    def take(self) -> None:
        """Look at what has come."""


class Subscriber(Client):
    """Counts messages of one length and acknowledges them."""

    def __init__(self, name: str, count: int, length: int, topic: bytes = TOPIC) -> None:
        """`length` of a whole packet; `topic` is the filter, as long as the topics themselves."""
        super().__init__(name)
        self._left = count
        self.taken = 0
        self.publisher: Publisher | None = None  # waits for those that are slow
        self._length = length
        self._topic = topic
        self._id_at = 1 + varint_size(length) + 2 + len(topic)

    def entered(self) -> None:
        """Subscribe."""
        self.transport.write(packet(0x82, b"\x00\x01" + text(self._topic) + b"\x01"))

    def take(self) -> None:
        """Acknowledge whole messages."""
        if not self.ready.is_set():
            if len(self._buffer) < 5:
                return
            assert self._buffer[:5] == b"\x90\x03\x00\x01\x01", self._buffer[:5]
            self._buffer = self._buffer[5:]
            self.ready.set()
        count = len(self._buffer) // self._length
        if not count:
            return
        at = self._id_at
        acks = b"".join(
            b"\x40\x02" + self._buffer[start + at : start + at + 2]
            for start in range(0, count * self._length, self._length)
        )
        taken, self._buffer = self._buffer, self._buffer[count * self._length :]
        self.transport.write(acks)
        self.seen(taken, count)
        self._left -= count
        self.taken += count
        self.progress()
        if self._left <= 0:
            self.done.set()

    def progress(self) -> None:
        """Let the publisher know."""
        if self.publisher is not None:
            self.publisher.go_on()

    def seen(self, taken: bytes, count: int) -> None:
        """Look at `count` messages at the start of `taken`."""


def varint_size(length: int) -> int:
    """Return the bytes of the remaining length in a packet of that length."""
    return 1 if length < 130 else 2


class Publisher(Client):
    """Publishes with a window."""

    def __init__(self, name: str, count: int, size: int) -> None:
        super().__init__(name)
        self._left = count
        self._flying = 0
        self._number = 0
        self._sent = 0
        self._payload = bytes(size)
        self.readers: list[Subscriber] = []
        self.acknowledged = 0

    def entered(self) -> None:
        """Be ready."""
        self.ready.set()

    def take(self) -> None:
        """Count acknowledgements and go on."""
        count = len(self._buffer) // 4
        self._buffer = self._buffer[count * 4 :]
        self._flying -= count
        self.acknowledged += count
        if count:
            self.go_on()

    def go_on(self) -> None:
        """Publish as far as the window allows."""
        if not self._left:
            return
        out: list[bytes] = []
        slowest = min((one.taken for one in self.readers), default=self._sent)
        room = slowest + AHEAD - self._sent
        while self._left and self._flying < WINDOW and len(out) < room:
            self._number = self._number % 65535 + 1
            number = self._number.to_bytes(2, "big")
            out.append(packet(0x32, text(TOPIC) + number + self._payload))
            self._left -= 1
            self._flying += 1
            self._sent += 1
        if out:
            self.transport.writelines(out)


async def measure(port: int, subscribers: int, messages: int, size: int) -> float:
    """Return the deliveries a second."""
    loop = asyncio.get_running_loop()
    length = len(packet(0x32, text(TOPIC) + b"\x00\x01" + bytes(size)))
    made = [Subscriber(f"s{n}", messages, length) for n in range(subscribers)]
    publisher = Publisher("p", messages, size)
    publisher.readers = made
    for each in made:
        each.publisher = publisher
    for one in (*made, publisher):
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]  # bound now
    async with asyncio.timeout(LIMIT):
        for one in (*made, publisher):
            await one.ready.wait()
        begun = time.perf_counter()
        publisher.go_on()
        for one in made:
            await one.done.wait()
        took = time.perf_counter() - begun
    for one in (*made, publisher):
        one.transport.abort()
    return subscribers * messages / took


def main() -> None:
    """Measure once."""
    import uvloop

    port, subscribers, messages, size = map(int, sys.argv[1:5])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(measure(port, subscribers, messages, size)))


if __name__ == "__main__":
    main()
