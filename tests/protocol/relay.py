"""A proxy of the two usual kinds, SOCKS 5 and CONNECT, that remembers where it was sent.

async with Relay(login="a", password="b") as relay:
    ... connect through f"socks5://a:b@127.0.0.1:{relay.port}" ...
    assert relay.asked == [("127.0.0.1", 21)]
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self


class Relay:
    """Speaks both, told apart by the first byte; names are looked up by the system."""

    def __init__(self, *, login: str = "", password: str = "", refuse: bool = False) -> None:
        self.asked: list[tuple[str, int]] = []
        self.port = 0
        self._login = login
        self._password = password
        self._refuse = refuse
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                first = await reader.readexactly(1)
                talk = self._socks if first == b"\x05" else self._connect
                where = await talk(reader, writer)
                if where is not None:
                    await self._relay(reader, writer, *where)
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    async def _socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if self._login and 2 not in methods:
            writer.write(b"\x05\xff")
            return None
        writer.write(b"\x05\x02" if self._login else b"\x05\x00")
        if self._login:
            await reader.readexactly(1)
            login = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = (login.decode(), password.decode()) == (self._login, self._password)
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return None
        _, command, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        self.asked.append((host, port))
        reply = 2 if self._refuse or command != 1 else 0
        writer.write(bytes([5, reply, 0, 1, 127, 0, 0, 1, 0, 0]))
        return None if reply else (host, port)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        host, _, port = head.split(" ", 2)[1].rpartition(":")
        pair = base64.b64encode(f"{self._login}:{self._password}".encode()).decode()
        if self._login and f"Proxy-Authorization: Basic {pair}" not in head:
            writer.write(b"HTTP/1.1 407 Login\r\n\r\n")
            return None
        self.asked.append((host.strip("[]"), int(port)))
        if self._refuse:
            writer.write(b"HTTP/1.1 403 No\r\n\r\n")
            return None
        writer.write(b"HTTP/1.1 200 Well\r\nX: y\r\n\r\n")
        return host.strip("[]"), int(port)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, there_writer))
                group.create_task(_pump(there_reader, writer))
        finally:
            there_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
