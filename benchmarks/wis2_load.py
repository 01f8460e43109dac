"""Both ends of a WIS2 Global Cache, in one process: who announces data, who hears of the copies.

    python -m benchmarks.wis2_load ORIGIN_PORT CACHE_PORT FILES_URL FOLDER MESSAGES FIRST

Prints the messages a minute, from the first announcement to the last copy that was told.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
import uuid
from pathlib import Path

from benchmarks.mqtt_client import Client, Publisher, packet, text

LIMIT = 300.0
FLYING = 200
TOPIC = "origin/a/wis2/xx-bench-test/data/core/weather/surface-based-observations/synop"
COPIES = b"cache/a/wis2/#"


class Listener(Client):
    """Counts messages of any length, each once."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(name)
        self._left = count
        self._seen: set[str] = set()

    def entered(self) -> None:
        """Subscribe."""
        self.transport.write(packet(0x82, b"\x00\x01" + text(COPIES) + b"\x01"))

    def take(self) -> None:
        """Acknowledge whole packets."""
        while (found := _first(self._buffer)) is not None:
            head, size = found
            body, first = self._buffer[head : head + size], self._buffer[0]
            self._buffer = self._buffer[head + size :]
            if first & 0xF0 == 0x30:
                self._message(body)
            else:
                self.ready.set()

    def _message(self, body: bytes) -> None:
        size = int.from_bytes(body[:2], "big") + 2
        self.transport.write(b"\x40\x02" + body[size : size + 2])
        told = json.loads(body[size + 2 :])
        assert told["properties"]["global-cache"] == "xx-bench-cache", told
        self._seen.add(told["properties"]["data_id"])
        if len(self._seen) >= self._left:
            self.done.set()

    @property
    def count(self) -> int:
        """How many data were told."""
        return len(self._seen)


def _first(data: bytes) -> tuple[int, int] | None:
    """Return where the body of the first packet begins and how long it is."""
    size = shift = 0
    for at in range(1, min(5, len(data))):
        size |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            return (at + 1, size) if len(data) > at + size else None
    return None


def message(number: int, href: str, size: int, digest: str) -> bytes:
    """Return the announcement of one datum."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    document = {
        "id": str(uuid.uuid4()),
        "type": "Feature",
        "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
        "geometry": {"type": "Point", "coordinates": [6.15, 46.22]},
        "properties": {
            "pubtime": now,
            "datetime": now,
            "data_id": f"wis2/xx-bench-test/data/core/weather/synop/s{number:07}.bufr",
            "metadata_id": "urn:wmo:md:xx-bench-test:synop",
            "integrity": {"method": "sha512", "value": digest},
        },
        "links": [
            {"rel": "canonical", "type": "application/bufr", "length": size, "href": href}
        ],
    }  # fmt: skip
    return json.dumps(document).encode()


async def measure(origin: int, cache: int, url: str, folder: Path, count: int, first: int) -> float:
    """Announce `count` data from number `first` on; return the messages a minute."""
    loop = asyncio.get_running_loop()
    files = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        files.append((f"{url}/{path.name}", len(content), digest))
    listener, publisher = Listener(f"bench-l{first}", count), Publisher(f"bench-p{first}", 0, 0)
    await loop.create_connection(lambda: listener, "127.0.0.1", cache)
    await loop.create_connection(lambda: publisher, "127.0.0.1", origin)
    topic = text(TOPIC.encode())
    try:
        async with asyncio.timeout(LIMIT):
            await listener.ready.wait()
            await publisher.ready.wait()
            begun = time.perf_counter()
            for number in range(count):
                payload = message(first + number, *files[number % len(files)])
                identifier = (number % 65535 + 1).to_bytes(2, "big")
                publisher.transport.write(packet(0x32, topic + identifier + payload))
                while number - publisher.acknowledged > FLYING:
                    await asyncio.sleep(0.001)
            await listener.done.wait()
            return count / (time.perf_counter() - begun) * 60
    except TimeoutError:
        raise SystemExit(f"{listener.count} of {count} were told") from None


def main() -> None:
    """Measure once."""
    import uvloop

    origin, cache, url, folder, count, first = sys.argv[1:7]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = measure(int(origin), int(cache), url, Path(folder), int(count), int(first))
        print(runner.run(work))


if __name__ == "__main__":
    main()
