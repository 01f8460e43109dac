"""Our FTP portal over a disk gate, and a client that speaks the protocol byte by byte."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecpds.base.clock import Clock, SystemClock
from ecpds.base.settings import FtpSettings
from ecpds.base.threads import Threads
from ecpds.portals.ftp import FtpPortal
from tests.peers.certificates import Authority
from tests.protocol.diskgate import Account, DiskGate

PATIENCE = 10.0  # seconds; nothing here takes one


@dataclass
class Tls:
    """A certificate authority and the server context made from it; `renew` makes another one."""

    folder: Path
    issued: int = 0
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder)
        self.renew()

    def renew(self) -> None:
        """Change the certificate, as a reload of the daemon would."""
        self.issued += 1
        files = self.authority.issue(f"server{self.issued}")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(files.certificate, files.key)

    def client(self) -> ssl.SSLContext:
        """Return a context that trusts it."""
        return ssl.create_default_context(cafile=self.authority.ca)


@dataclass
class Rig:
    """A running portal."""

    gate: DiskGate
    portal: FtpPortal
    port: int
    tls: Tls

    @property
    def north(self) -> Path:
        """Where the files of destination NORTH are."""
        return self.gate.tree / "NORTH"

    @asynccontextmanager
    async def client(self, *, login: bool = True, implicit: bool = False) -> AsyncIterator[Client]:
        """Connect; log in as alice."""
        client = Client(self.tls.client())
        await client.connect(self.port, implicit=implicit)
        try:
            if login:
                await client.login()
            yield client
        finally:
            client.hang_up()


@asynccontextmanager
async def running(
    folder: Path,
    *,
    accounts: Mapping[str, Account] | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Run a portal with free ports; `settings` are those of [portal.ftp]."""
    gate = DiskGate(folder, accounts)
    tls = Tls(folder / "tls")
    threads = Threads()
    chosen = {"listen": "127.0.0.1:0", "passive_ports": "0"} | settings
    portal = FtpPortal(
        gate, FtpSettings(**chosen), lambda: tls.context, threads, clock or SystemClock(), "node"
    )
    try:
        [(_, port), *_] = await portal.start()
        yield Rig(gate, portal, port, tls)
    finally:
        await portal.close()
        await asyncio.to_thread(threads.close)


class Data:
    """One data connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def all(self) -> bytes:
        """Return everything that comes until the end, and close."""
        async with asyncio.timeout(PATIENCE):
            data = await self.reader.read()
        await self.close()
        return data

    async def send(self, data: bytes, *, end: bool = True) -> None:
        """Send, and close unless `end` is false."""
        self.writer.write(data)
        await self.writer.drain()
        if end:
            await self.close()

    async def close(self) -> None:
        """End in order."""
        self.writer.close()
        async with asyncio.timeout(PATIENCE):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """End by a reset."""
        if not self.writer.transport.is_closing():
            with raw(self.writer) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        _abort(self.writer)


class Client:
    """A control connection, line by line."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.port = 0
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.protects = False
        self._opened: list[asyncio.StreamWriter] = []

    async def connect(self, port: int, *, implicit: bool = False) -> None:
        """Connect, without waiting for the greeting."""
        self.port = port
        context = self.context if implicit else None
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        self.protects = implicit

    async def login(self, user: str = "alice", password: str = "secret") -> str:
        """Read the greeting, log in; return the text of the reply."""
        await self.expect(220)
        assert (await self(f"USER {user}"))[0] == 331
        self.write(f"PASS {password}")
        return await self.expect(230)

    async def secure(self) -> None:
        """AUTH TLS on a fresh connection, after the greeting."""
        assert (await self("AUTH TLS"))[0] == 234
        await self.writer.start_tls(self.context, server_hostname="127.0.0.1")

    async def protect(self) -> None:
        """PBSZ 0 and PROT P."""
        assert (await self("PBSZ 0"))[0] == 200
        assert (await self("PROT P"))[0] == 200
        self.protects = True

    def write(self, line: str) -> None:
        """Send one command."""
        self.writer.write(line.encode() + b"\r\n")

    async def reply(self) -> tuple[int, str]:
        """Return code and text of the next reply, lines joined by newlines."""
        async with asyncio.timeout(PATIENCE):
            line = (await self.reader.readuntil(b"\r\n")).decode()[:-2]
            code, lines = line[:3], [line[4:]]
            if line[3] == "-":
                while not (line := (await self.reader.readline()).decode()).startswith(f"{code} "):
                    assert line, "the reply ends in the middle"
                    lines.append(line[4:-2] if line.startswith(f"{code}-") else line[:-2])
                lines.append(line[4:-2])
        return int(code), "\n".join(lines)

    async def expect(self, code: int) -> str:
        """Return the text of the next reply, which must have this code."""
        found, text = await self.reply()
        assert found == code, f"{found} {text}"
        return text

    async def __call__(self, line: str) -> tuple[int, str]:
        """Send a command, return its reply."""
        self.write(line)
        return await self.reply()

    async def passive(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """EPSV and connect, in clear until the transfer has begun."""
        self.write("EPSV")
        match = re.search(r"\|\|\|(\d+)\|", await self.expect(229))
        assert match
        reader, writer = await asyncio.open_connection("127.0.0.1", int(match[1]))
        self._opened.append(writer)
        return reader, writer

    async def begin(self, command: str) -> Data:
        """Begin a transfer; the reply 150 has come when this returns."""
        reader, writer = await self.passive()
        self.write(command)
        await self.expect(150)
        if self.protects:
            session = self.context  # a session is offered again by OpenSSL only on request
            await writer.start_tls(session, server_hostname="127.0.0.1")
        return Data(reader, writer)

    async def get(self, command: str) -> bytes:
        """Do a RETR or a listing to its 226 and return the bytes."""
        data = await (await self.begin(command)).all()
        await self.expect(226)
        return data

    async def put(self, command: str, data: bytes) -> tuple[int, str]:
        """Do a STOR and return its last reply."""
        await (await self.begin(command)).send(data)
        return await self.reply()

    def hang_up(self) -> None:
        """Close all connections without a word."""
        for writer in (*self._opened, self.writer):
            _abort(writer)


async def until(condition: Any) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def urgent(client: Client, data: bytes) -> None:
    """Send `data` as TCP urgent data over the control connection."""
    with raw(client.writer) as sock:
        sock.send(data, socket.MSG_OOB)


def raw(writer: asyncio.StreamWriter) -> socket.socket:
    """Return another handle of the connection's socket; close it."""
    number = writer.get_extra_info("socket").fileno()
    return socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM)


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(AttributeError):  # of asyncio 3.11, when it is closed already
        writer.transport.abort()


def milliseconds(count: float) -> timedelta:
    """Return a short length of time."""
    return timedelta(milliseconds=count)
