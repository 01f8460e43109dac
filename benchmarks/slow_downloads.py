"""Many downloads of one file at once, each at a modest pace, until the standard input ends.

    python -m benchmarks.slow_downloads HOST:PORT PATH LOGIN:PASSWORD COUNT RATE

Prints `in` when the first bytes of all have come, and at the end the bytes that each has got: the
smallest and the mean.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from typing import cast

LIMIT = 120.0
TURNS = 10  # a second
BUFFER = 32 * 1024  # bytes of the socket, so that the pace is felt at the server
AT_ONCE = 100


class Download(asyncio.Protocol):
    """One download."""

    def __init__(self, request: bytes, rate: int) -> None:
        self._request = request
        self._share = rate // TURNS
        self.got = 0
        self._room = self._share
        self.first = asyncio.Event()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count; wait for the next turn when this one's share has come."""
        if not self.got:
            assert data.startswith(b"HTTP/1.1 200"), data[:200]
        self.got += len(data)
        self._room -= len(data)
        self.first.set()
        if self._room <= 0:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.is_lost = True
        self.first.set()

    def turn(self) -> None:
        """Take the next share."""
        if self._room <= 0:
            self._room += self._share
            if self._room > 0 and not self.is_lost:
                self.transport.resume_reading()


async def hold(place: str, path: str, login: str, count: int, rate: int) -> tuple[int, float]:
    """Download until the standard input ends."""
    loop = asyncio.get_running_loop()
    host, _, port = place.rpartition(":")
    secret = base64.b64encode(login.encode()).decode()
    request = f"GET {path} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Basic {secret}\r\n\r\n"
    made = [Download(request.encode(), rate) for _ in range(count)]
    room = asyncio.Semaphore(AT_ONCE)

    async def begin(one: Download) -> None:
        async with room:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.setblocking(False)
            await loop.sock_connect(sock, (host, int(port)))
            await loop.create_connection(lambda: one, sock=sock)
            await one.first.wait()

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for one in made:
            group.create_task(begin(one))
    print("in", flush=True)
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.sleep(1 / TURNS)
        for one in made:
            one.turn()
    lost = sum(one.is_lost for one in made)
    if lost:
        raise SystemExit(f"{lost} of {count} downloads were cut")
    return min(one.got for one in made), sum(one.got for one in made) / count


def main() -> None:
    """Download."""
    import uvloop

    place, path, login, count, rate = sys.argv[1:6]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(*runner.run(hold(place, path, login, int(count), int(rate))))


if __name__ == "__main__":
    main()
