"""`python -m benchmarks.idle_client PROTOCOL PORT COUNT`: log in so often, say who stays.

Prints `in` when all have logged in and waits for the end of its input; then each session has to
answer once more, and the number of those that did is printed.
"""

from __future__ import annotations

import asyncio
import base64
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncssh

from benchmarks.errors import MeasurementFailed
from benchmarks.node import DESTINATION, LOGIN, PASSWORD

WAIT = 60.0
"""Longest silence of the server, in seconds."""
SIDE_BY_SIDE = 8
"""SSH logins at a time."""
MOST_FILES = 8192


def main() -> None:
    """Run one crowd."""
    protocol, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MOST_FILES, hard), hard))
    if protocol == "sftp":
        asyncio.run(_ssh(port, count))
        return
    begin, alive = SESSIONS[protocol]
    sessions = [begin(port) for _ in range(count)]
    print("in", flush=True)
    sys.stdin.read()
    print(sum(alive(one) for one in sessions))


async def _ssh(port: int, count: int) -> None:
    async with AsyncExitStack() as stack:
        places = asyncio.Semaphore(SIDE_BY_SIDE)

        async def begin() -> asyncssh.SFTPClient:
            async with places:
                connection = await asyncssh.connect(
                    "127.0.0.1", port, username=LOGIN, password=PASSWORD, known_hosts=None,
                    client_keys=None, config=None, agent_path=None, keepalive_interval=0,
                )  # fmt: skip
                stack.push_async_callback(_close, connection)
                return await connection.start_sftp_client()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(begin()) for _ in range(count)]
        print("in", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        alive = 0
        for task in tasks:
            await task.result().stat("/")
            alive += 1
        print(alive, flush=True)


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.abort()
    await connection.wait_closed()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def _told(sock: socket.socket, line: str, code: bytes) -> None:
    if line:
        sock.sendall(f"{line}\r\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        block = sock.recv(4096)
        if not block:
            raise MeasurementFailed("the server hung up")
        answer += block
    if not answer.startswith(code):
        raise MeasurementFailed(answer.decode("utf-8", "replace"))


def _ftp(port: int) -> socket.socket:
    sock = _connect(port)
    _told(sock, "", b"220")
    return _logged_in(sock)


def _ftps(port: int) -> socket.socket:
    sock = _connect(port)
    _told(sock, "", b"220")
    _told(sock, "AUTH TLS", b"234")
    return _logged_in(CONTEXT.wrap_socket(sock))


def _logged_in(sock: socket.socket) -> socket.socket:
    _told(sock, f"USER {LOGIN}", b"331")
    _told(sock, f"PASS {PASSWORD}", b"230")
    return sock


def _noop(sock: socket.socket) -> bool:
    _told(sock, "NOOP", b"200")
    return True


def _https(port: int) -> socket.socket:
    sock = CONTEXT.wrap_socket(_connect(port))
    _get(sock)
    return sock


def _get(sock: socket.socket) -> bool:
    """List the destination, which is empty; the answer is one small block."""
    login = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    sock.sendall(
        f"GET /ecpds/data/list/{DESTINATION} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Basic {login}\r\nAccept: application/json\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith((b"[]", b"[]\n", b"0\r\n\r\n")):
        block = sock.recv(65536)
        if not block:
            raise MeasurementFailed("the server hung up")
        answer += block
    if not answer.startswith(b"HTTP/1.1 200"):
        raise MeasurementFailed(answer[:200].decode("utf-8", "replace"))
    return True


CONTEXT = _tls()
SESSIONS: dict[str, tuple[Callable[[int], Any], Callable[[Any], bool]]] = {
    "ftp": (_ftp, _noop),
    "ftps": (_ftps, _noop),
    "https": (_https, _get),
}

if __name__ == "__main__":
    main()
