"""Our SSH portal over a disk gate, and an SFTP client that speaks the protocol packet by packet."""

from __future__ import annotations

import asyncio
import functools
import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ecpds.base.clock import SystemClock
from ecpds.base.settings import SftpSettings
from ecpds.base.threads import Threads
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.server import SshPortal
from tests.peers.openssh import make_key
from tests.peers.peer import Account as SystemAccount
from tests.peers.peer import Peer
from tests.protocol.diskgate import Account, DiskGate

PATIENCE = 10.0  # seconds; nothing here takes one


@functools.cache
def _rsa_host_key() -> bytes:
    """Return a short RSA key: 4096 bits take seconds of both cores."""
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


@dataclass
class Rig:
    """A running portal, and a key by which alice logs in."""

    gate: DiskGate
    portal: SshPortal
    port: int
    key: Path
    known_hosts: Path

    @property
    def north(self) -> Path:
        """Where the files of destination NORTH are."""
        return self.gate.tree / "NORTH"

    @property
    def peer(self) -> Peer:
        """The portal, for the client programs of `tests.peers.clients`."""
        return Peer(
            name="ecpds",
            scheme="sftp",
            port=self.port,
            root=self.north,
            account=SystemAccount(name="", uid=os.geteuid(), gid=os.getegid(), password=""),
            login="alice",
            password="secret",
            directory="/NORTH",
            key=self.key,
            known_hosts=self.known_hosts,
        )

    def connect(self, **options: Any) -> Any:
        """Return a context manager: an asyncssh connection, logged in by password."""
        chosen: dict[str, Any] = {
            "username": "alice",
            "password": "secret",
            "client_keys": None,
            "known_hosts": str(self.known_hosts),
            "config": None,
            "agent_path": None,
        }
        return asyncssh.connect("127.0.0.1", self.port, **chosen | options)

    @asynccontextmanager
    async def wire(self, **options: Any) -> AsyncIterator[Wire]:
        """Open an SFTP channel on a connection of its own, greeted."""
        async with self.connect(**options) as connection:
            client = await Wire.open(connection)
            await client.greet()
            yield client


@asynccontextmanager
async def running(
    folder: Path,
    *,
    accounts: Mapping[str, Account] | None = None,
    slow_key: bool = True,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Run a portal on a free port; `settings` are those of [portal.sftp]."""
    key = folder / "client"
    public = make_key(key)
    gate = DiskGate(folder, accounts or {"alice": Account(ssh_keys=(public,))})
    host_keys = folder / "ssh"
    host_keys.mkdir()
    if slow_key:
        slow = host_keys / "ssh_host_rsa_key"
        slow.write_bytes(_rsa_host_key())
        public_half = asyncssh.read_private_key(str(slow)).export_public_key()
        slow.with_suffix(".pub").write_bytes(public_half)  # Go programs like RSA best
    threads = Threads()
    chosen = {"listen": "127.0.0.1:0"} | settings
    portal = SshPortal(gate, SftpSettings(**chosen), host_keys, threads, SystemClock(), "node")
    try:
        [(_, port), *_] = await portal.start()
        known = folder / "known_hosts"
        lines = [
            f"[127.0.0.1]:{port} {path.read_text()}" for path in sorted(host_keys.glob("*.pub"))
        ]
        known.write_text("".join(lines))
        yield Rig(gate, portal, port, key, known)
    finally:
        await portal.close()
        await asyncio.to_thread(threads.close)


def soon(seconds: float) -> timedelta:
    """Return a short limit for settings."""
    return timedelta(seconds=seconds)


@dataclass(frozen=True)
class Answer:
    """One packet of the server."""

    kind: int
    request: int
    body: bytes

    @property
    def code(self) -> int:
        """The code of a status."""
        assert self.kind == wire.STATUS, self
        return int.from_bytes(self.body[:4], "big")

    @property
    def message(self) -> str:
        """The text of a status."""
        assert self.kind == wire.STATUS, self
        fields = wire.Fields(self.body, 4)
        return fields.text()

    def ok(self) -> None:
        """Fail unless this is a status OK."""
        assert self.code == wire.OK, (self.code, self.message)

    @property
    def handle(self) -> bytes:
        """The handle."""
        assert self.kind == wire.HANDLE, self if self.kind != wire.STATUS else self.message
        return wire.Fields(self.body).string()

    @property
    def data(self) -> bytes:
        """The file data."""
        assert self.kind == wire.DATA, self
        return wire.Fields(self.body).string()

    @property
    def attributes(self) -> wire.Attributes:
        """The attributes."""
        assert self.kind == wire.ATTRS, self if self.kind != wire.STATUS else self.message
        return wire.read_attributes(wire.Fields(self.body))

    @property
    def names(self) -> list[tuple[str, str, wire.Attributes]]:
        """The names, long names and attributes of a listing."""
        assert self.kind == wire.NAME, self if self.kind != wire.STATUS else self.message
        fields = wire.Fields(self.body)
        return [
            (fields.text(), fields.text(), wire.read_attributes(fields))
            for _ in range(fields.u32())
        ]


class Wire:
    """An SFTP channel; requests may be sent ahead, answers are found by their number."""

    def __init__(self, connection: Any, writer: Any, reader: Any, errors: Any) -> None:
        self.connection = connection
        self.writer = writer
        self.reader = reader
        self.errors = errors
        self.extensions: dict[bytes, bytes] = {}
        self._last = 0
        self._answers: dict[int, Answer] = {}

    @classmethod
    async def open(cls, connection: Any) -> Wire:
        """Open a channel with the subsystem sftp."""
        writer, reader, errors = await connection.open_session(subsystem="sftp", encoding=None)
        return cls(connection, writer, reader, errors)

    async def greet(self, version: int = 3) -> int:
        """INIT; return the version of the server."""
        self.raw(bytes([wire.INIT]) + wire.u32(version))
        body = await self.packet()
        assert body[0] == wire.VERSION_REPLY
        fields = wire.Fields(body, 1)
        found = fields.u32()
        while fields.more():
            name = fields.string()
            self.extensions[name] = fields.string()
        return found

    def raw(self, body: bytes) -> None:
        """Send a packet as it is."""
        self.writer.write(wire.string(body))

    async def packet(self) -> bytes:
        """Return the next packet as it is."""
        async with asyncio.timeout(PATIENCE):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            return bytes(await self.reader.readexactly(length))

    def ask(self, kind: int, *fields: bytes) -> int:
        """Send a request; return its number."""
        self._last += 1
        self.raw(bytes([kind]) + wire.u32(self._last) + b"".join(fields))
        return self._last

    async def answer(self, request: int) -> Answer:
        """Return the answer to a request, keeping others for later."""
        while request not in self._answers:
            body = await self.packet()
            number = int.from_bytes(body[1:5], "big")
            self._answers[number] = Answer(body[0], number, body[5:])
        return self._answers.pop(request)

    async def __call__(self, kind: int, *fields: bytes) -> Answer:
        """Send a request, return its answer."""
        return await self.answer(self.ask(kind, *fields))

    # --- short forms -------------------------------------------------------------------------

    async def create(self, path: str, flags: int = 0, attributes: bytes = b"") -> bytes:
        """Open for writing anew; return the handle."""
        wanted = flags or wire.F_WRITE | wire.F_CREATE | wire.F_TRUNCATE
        found = await self.open_file(path, wanted, attributes)
        return found.handle

    async def open_file(self, path: str, flags: int, attributes: bytes = b"") -> Answer:
        """OPEN."""
        return await self(wire.OPEN, text(path), wire.u32(flags), attributes or wire.u32(0))

    async def write(self, handle: bytes, offset: int, data: bytes) -> Answer:
        """WRITE."""
        return await self(wire.WRITE, wire.string(handle), wire.u64(offset), wire.string(data))

    async def read(self, handle: bytes, offset: int, length: int) -> Answer:
        """READ."""
        return await self(wire.READ, wire.string(handle), wire.u64(offset), wire.u32(length))

    async def close(self, handle: bytes) -> Answer:
        """CLOSE."""
        return await self(wire.CLOSE, wire.string(handle))

    async def stat(self, path: str) -> Answer:
        """STAT."""
        return await self(wire.STAT, text(path))

    async def put(self, path: str, content: bytes) -> None:
        """Upload in one block."""
        handle = await self.create(path)
        if content:
            (await self.write(handle, 0, content)).ok()
        (await self.close(handle)).ok()

    async def extended(self, name: str, *fields: bytes) -> Answer:
        """EXTENDED."""
        return await self(wire.EXTENDED, text(name), *fields)


def text(value: str) -> bytes:
    """Encode a text field."""
    return wire.string(value.encode())


def permissions(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)
