"""Our MQTT portal over a disk gate, and a client that speaks the protocol byte by byte."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ecpds.base.clock import Clock, SystemClock
from ecpds.base.settings import MqttSettings
from ecpds.model.account import Protocol
from ecpds.portals.mqtt.codec import P, properties, text
from ecpds.portals.mqtt.server import MqttPortal
from ecpds.vfs.brokermemory import BrokerMemory
from ecpds.vfs.contract import Credential, Session
from tests.protocol.diskgate import Account, DiskGate

PATIENCE = 10.0  # seconds; nothing here takes one
_IDS = itertools.count(1)


def account(permission: str = "#", **more: object) -> Account:
    """Return an account that may subscribe to these filters."""
    return Account(options={"portal.mqttPermission": permission}, **more)  # type: ignore[arg-type]  # passed on


class TestGate(DiskGate):
    """Lets anybody in who gives no name, for sequences that know no login."""

    __test__ = False

    async def login(
        self, user: str, credential: Credential, *, protocol: Protocol, peer: str
    ) -> Session:
        if not user or user not in self.accounts:
            self.accounts.setdefault("anybody", account("#,$SYS/#", open_access=True))
            user = "anybody"
        return await super().login(user, credential, protocol=protocol, peer=peer)


def connect(
    client: str = "",
    user: str | None = "alice",
    password: str | None = "secret",
    *,
    version: int = 4,
    clean: bool = True,
    keep_alive: int = 60,
    found: Mapping[int, int | str | bytes] | None = None,
) -> bytes:
    """Return a CONNECT."""
    flags = clean << 1 | (user is not None) << 7 | (password is not None) << 6
    body = text("MQTT") + bytes((version, flags)) + keep_alive.to_bytes(2, "big")
    if version == 5:
        body += properties(found or {})
    body += text(client)
    body += b"".join(text(one) for one in (user, password) if one is not None)
    return packet(0x10, body)


def packet(first: int, body: bytes) -> bytes:
    """Return a packet."""
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (128 if size else 0))
        if not size:
            return bytes((first,)) + bytes(length) + body


def subscribe(*filters: tuple[str, int] | str, version: int = 4, identifier: int = 1) -> bytes:
    """Return a SUBSCRIBE; a bare filter has QoS 1."""
    body = identifier.to_bytes(2, "big") + (b"\x00" if version == 5 else b"")
    for one in filters:
        name, options = (one, 1) if isinstance(one, str) else one
        body += text(name) + bytes((options,))
    return packet(0x82, body)


@dataclass
class Raw:
    """A client that sends and takes bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    version: int = 4

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def take(self) -> tuple[int, bytes]:
        """Return the next packet: first byte and body."""
        async with asyncio.timeout(PATIENCE):
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return first, await self.reader.readexactly(length)

    async def message(self) -> tuple[str, bytes]:
        """Return topic and payload of the next message, which is acknowledged."""
        first, body = await self.take()
        assert first >> 4 == 3, f"{first:02x} {body!r}"
        size = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if first & 6:
            self.send(packet(0x40, rest[:2]))
            rest = rest[2:]
        if self.version == 5:
            rest = rest[1 + rest[0] :]
        return topic, rest

    async def ended(self) -> bytes:
        """Wait for the end; return what came before it."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                return await self.reader.read(-1)
        return b""

    async def enter(self, *arguments: str | None, **options: object) -> tuple[bool, int]:
        """CONNECT; return session present and reason."""
        version = options.get("version", 4)
        assert isinstance(version, int)
        self.version = version
        self.send(connect(*arguments, **options))  # type: ignore[arg-type]  # passed on
        first, body = await self.take()
        assert first == 0x20
        return bool(body[0]), body[1]

    async def subscribe(self, *filters: tuple[str, int] | str) -> list[int]:
        """SUBSCRIBE; return the codes."""
        self.send(subscribe(*filters, version=self.version))
        first, body = await self.take()
        assert first == 0x90
        return list(body[3 if self.version == 5 else 2 :])

    def close(self) -> None:
        """Hang up without a word."""
        self.writer.close()


@dataclass
class Rig:
    """A running portal."""

    gate: DiskGate
    portal: MqttPortal
    port: int
    tls_port: int = 0
    clients: list[Raw] = field(default_factory=list)

    async def raw(self, tls: ssl.SSLContext | None = None) -> Raw:
        """Return a connected client that has said nothing yet."""
        port = self.tls_port if tls else self.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        made = Raw(reader, writer)
        self.clients.append(made)
        return made

    async def client(self, *filters: str, user: str = "alice", **options: object) -> Raw:
        """Return a logged-in client that has subscribed."""
        made = await self.raw()
        name = str(options.pop("client", f"c{next(_IDS)}"))
        assert (await made.enter(name, user, **options))[1] == 0
        if filters:
            codes = await made.subscribe(*filters)
            assert max(codes) < 128, codes
        return made


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("there is no TLS here")


@asynccontextmanager
async def mqtt_rig(
    folder: Path,
    accounts: Mapping[str, Account] | None = None,
    *,
    test_publish: bool = False,
    memory: BrokerMemory | None = None,
    clock: Clock | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[Rig]:
    """Run a portal on free ports of loopback."""
    kind = TestGate if test_publish else DiskGate
    gate = kind(folder, dict(accounts or {"alice": account()}))
    settings = MqttSettings(
        listen="127.0.0.1:0", tls_listen="127.0.0.1:0" if tls else "", test_publish=test_publish
    )
    portal = MqttPortal(gate, settings, tls or _no_tls, clock or SystemClock(), memory)
    await portal.start()
    rig = Rig(gate, portal, portal.places["mqtt"][1], portal.places.get("mqtts", ("", 0))[1])
    try:
        yield rig
    finally:
        for client in rig.clients:
            client.writer.transport.abort()
        await portal.close()


__all__ = ["P", "Raw", "Rig", "account", "connect", "mqtt_rig", "packet", "subscribe"]
