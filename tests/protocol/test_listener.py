"""The listener that all portals share."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.clock import Clock, SystemClock
from ecpds.model.errors import ConfigError
from ecpds.portals.listener import PAUSE, Listener, bind, canonical, connected, split
from tests.clock import FakeClock
from tests.protocol.ftprig import Tls, milliseconds, until


class _Echo(asyncio.Protocol):
    """Sends back what comes; `ended` is set at the end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


@asynccontextmanager
async def _listening(
    serve: Any, *, clock: Clock | None = None, cap: int = 10, spec: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[Listener, int]]:
    listener = Listener(spec, serve, clock=clock or SystemClock(), cap=cap, refusal=b"full\r\n")
    places = await listener.start()
    try:
        yield listener, places[0][1]
    finally:
        await listener.close()


def test_addresses() -> None:
    assert split("127.0.0.1:21") == ("127.0.0.1", 21)
    assert split("[::1]:0") == ("::1", 0)
    assert split(":21") == split("*:21") == ("", 21)
    for wrong in ("", "21", "host", "::1:21", "host:", "host:x", "host:65536", "host:٣"):
        with pytest.raises(ConfigError):
            split(wrong)
    assert canonical("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical("fe80::1%eth0") == "fe80::1"
    assert canonical("2001:DB8::1") == "2001:db8::1"


async def test_all_addresses_of_a_host_get_one_port() -> None:
    for spec in ("localhost:0", ":0"):
        found = await bind(spec)
        ports = {sock.getsockname()[1] for sock in found}
        assert len(ports) == 1
        for sock in found:
            assert not sock.getblocking()
            sock.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_served_connection(tmp_path: Path, secure: bool) -> None:
    tls = Tls(tmp_path)
    peers: list[str] = []

    async def serve(sock: socket.socket, peer: str) -> None:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        peers.append(peer)
        context = (lambda: tls.context) if secure else None
        echo = await connected(_Echo, sock, context, milliseconds(5000))
        await echo.ended.wait()

    async with _listening(serve) as (listener, port):
        context = tls.client() if secure else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert listener.connections == 1
        writer.close()
        await until(lambda: listener.connections == 0)
        await listener.drain()
        assert not listener.listening
    assert peers == ["127.0.0.1"]


async def test_a_handshake_that_does_not_come(tmp_path: Path) -> None:
    tls = Tls(tmp_path)

    async def serve(sock: socket.socket, peer: str) -> None:
        await connected(_Echo, sock, lambda: tls.context, milliseconds(200))

    async with _listening(serve) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: listener.connections == 0)
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


async def test_the_cap_and_a_server_that_fails() -> None:
    async def serve(sock: socket.socket, peer: str) -> None:
        if await asyncio.get_running_loop().sock_recv(sock, 10) == b"fail":
            raise RuntimeError("a mistake")

    async with _listening(serve, cap=1) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: listener.connections == 1)
        other, other_writer = await asyncio.open_connection("127.0.0.1", port)
        assert await other.read() == b"full\r\n"
        other_writer.close()
        writer.write(b"fail")
        assert await reader.read() == b""
        writer.close()
        await until(lambda: listener.connections == 0)
        assert (listener.accepted, listener.refused) == (2, 1)


async def test_an_empty_spec_is_off() -> None:
    async def serve(sock: socket.socket, peer: str) -> None:
        raise AssertionError

    listener = Listener("", serve, clock=SystemClock(), cap=1)
    assert await listener.start() == []
    assert not listener.listening
    await listener.drain()
    await listener.close()


async def test_close_ends_everything_and_can_be_called_twice() -> None:
    async def serve(sock: socket.socket, peer: str) -> None:
        await asyncio.Event().wait()

    async with _listening(serve) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: listener.connections == 1)
        await listener.close()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_without_descriptors_it_pauses() -> None:
    clock = FakeClock()
    served = asyncio.Event()

    async def serve(sock: socket.socket, peer: str) -> None:
        served.set()

    async with _listening(serve, clock=clock) as (_, port):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket()
        client.setblocking(False)
        with client:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            kept = []
            try:
                while True:
                    kept.append(os.dup(0))
            except OSError:
                pass
            try:
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
                await until(lambda: clock.waiting)
                assert not served.is_set()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for number in kept:
                    os.close(number)
            await clock.advance(PAUSE)
            async with asyncio.timeout(5):
                await served.wait()
