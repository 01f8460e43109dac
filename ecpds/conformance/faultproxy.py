"""A TCP proxy that breaks connections at a chosen byte.

    async with vsftpd(tmp_path) as peer, FaultProxy(peer) as proxy:
        proxy.fault = drop(after=share(50, size), way=Way.UP)
        ... put `size` bytes to proxy.peer: the data connection is reset half-way ...
        assert proxy.struck == 1

Bytes are counted as they are on the wire (with TLS and SSH that is more than the content), per
connection and way. A fault strikes the first `times` connections that get so far; later ones pass,
so that a retry can succeed.

FTP: passive replies (227, 229) are rewritten so that data connections pass here too, and faults
strike only data connections unless they say otherwise. Under TLS the replies cannot be seen; then
the proxy has the address 127.0.0.2 with the ports of the server, which is where clients go that
use EPSV or ignore the address in 227 (for the others: start vsftpd with `pasv_address=127.0.0.2`,
proftpd with `MasqueradeAddress 127.0.0.2`). Active mode is not proxied.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from ecpds.conformance import ports
from ecpds.conformance.peer import Peer
from ecpds.conformance.waiting import until

MIRROR = "127.0.0.2"
_BLOCK = 64 * 1024
_LINE_LIMIT = 64 * 1024
_PASV = re.compile(rb"^(227 .*?)(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)(.*)$", re.DOTALL)
_EPSV = re.compile(rb"^(229 .*?\(\|\|\|)(\d+)(\|\).*)$", re.DOTALL)


class Way(StrEnum):
    """The direction of bytes, as seen from the client."""

    UP = "up"
    DOWN = "down"


class Channel(StrEnum):
    """Which connections of the session; a protocol with only one has only DATA."""

    CONTROL = "control"
    DATA = "data"


class Kind(StrEnum):
    """What a fault does."""

    DROP = "drop"
    TRUNCATE = "truncate"
    STALL = "stall"
    DELAY = "delay"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; made by the functions below.

    It strikes when `after` bytes have passed in `way`; these bytes are still forwarded.
    `times`: how many connections it strikes, None: all.
    """

    kind: Kind
    after: int = 0
    way: Way = Way.UP
    times: int | None = 1
    channel: Channel = Channel.DATA
    seconds: float = 0.0


def share(percent: float, size: int) -> int:
    """Return that part of `size` bytes, at least one byte less than all unless it is 100 %."""
    return size if percent >= 100 else min(int(size * percent / 100), size - 1)


def drop(
    after: int = 0,
    *,
    way: Way = Way.UP,
    times: int | None = 1,
    channel: Channel = Channel.DATA,
) -> Fault:
    """Reset both sides (RST)."""
    return Fault(kind=Kind.DROP, after=after, way=way, times=times, channel=channel)


def truncate(
    after: int = 0,
    *,
    way: Way = Way.DOWN,
    times: int | None = 1,
    channel: Channel = Channel.DATA,
) -> Fault:
    """End both sides as if that had been all (FIN)."""
    return Fault(kind=Kind.TRUNCATE, after=after, way=way, times=times, channel=channel)


def stall(
    after: int = 0,
    *,
    way: Way = Way.UP,
    times: int | None = 1,
    channel: Channel = Channel.DATA,
) -> Fault:
    """Forward nothing more in either way, keep both sides open; `FaultProxy.release` goes on."""
    return Fault(kind=Kind.STALL, after=after, way=way, times=times, channel=channel)


def delay(
    seconds: float,
    *,
    after: int = 0,
    way: Way = Way.DOWN,
    channel: Channel = Channel.DATA,
) -> Fault:
    """Hold every block (up to 64 KiB) of every connection for so long."""
    return Fault(
        kind=Kind.DELAY, after=after, way=way, times=None, channel=channel, seconds=seconds
    )


def corrupt(
    after: int,
    *,
    way: Way = Way.UP,
    times: int | None = 1,
    channel: Channel = Channel.DATA,
) -> Fault:
    """Turn the bits of one byte, the one at offset `after`, and forward everything else."""
    return Fault(kind=Kind.CORRUPT, after=after, way=way, times=times, channel=channel)


class _Broken(Exception):
    """The connection is over for both sides."""


class _Connection:
    """One client connection and its counterpart to the server."""

    def __init__(
        self, proxy: FaultProxy, client: socket.socket, server: socket.socket, channel: Channel
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._channel = channel
        self._passed = dict.fromkeys(Way, 0)
        self._hit = False  # a fault has struck this connection
        self._moving = asyncio.Event()
        self._moving.set()
        self._line = b""

    async def run(self) -> None:
        """Forward until both sides have ended or a fault strikes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self._client, self._server, Way.UP))
                group.create_task(self._pump(self._server, self._client, Way.DOWN))
        except* (_Broken, OSError):
            pass
        finally:
            self._client.close()
            self._server.close()

    def reset(self) -> None:
        """Make the next close a reset."""
        for side in (self._client, self._server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def release(self) -> None:
        """Go on after a stall."""
        self._moving.set()

    async def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        loop = asyncio.get_running_loop()
        rewriting = self._proxy.rewrites and self._channel is Channel.CONTROL and way is Way.DOWN
        if self._due(way, 0):
            await self._strike(sink, b"", way)
        while block := await loop.sock_recv(source, _BLOCK):
            if rewriting:
                block = await self._rewritten(block)
            await self._moving.wait()
            if self._due(way, len(block)):
                await self._strike(sink, block, way)
            else:
                await self._forward(sink, block, way)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _due(self, way: Way, size: int) -> bool:
        """Tell whether the fault strikes within the next `size` bytes."""
        fault = self._proxy.fault
        return (
            fault is not None
            and not (self._hit and fault.kind is not Kind.DELAY)
            and fault.channel is self._channel
            and fault.way is way
            and self._passed[way] + size >= fault.after + (fault.kind is Kind.CORRUPT)
            and self._proxy.budget > 0
        )

    async def _forward(self, sink: socket.socket, block: bytes, way: Way) -> None:
        if not block:
            return
        await asyncio.get_running_loop().sock_sendall(sink, block)
        self._passed[way] += len(block)
        self._proxy.passed[way] += len(block)

    async def _strike(self, sink: socket.socket, block: bytes, way: Way) -> None:
        """Do what the fault says at its byte within `block`, and forward what it lets pass."""
        fault = self._proxy.fault
        assert fault is not None
        cut = max(0, fault.after - self._passed[way])
        if not self._hit:
            self._hit = True
            self._proxy.spend()
        if fault.kind is Kind.DELAY:
            await asyncio.sleep(fault.seconds if block else 0)
        elif fault.kind is Kind.CORRUPT:
            block = block[:cut] + bytes([block[cut] ^ 0xFF]) + block[cut + 1 :]
        else:
            await self._forward(sink, block[:cut], way)
            block = block[cut:]
        self._proxy.struck += fault.kind is not Kind.DELAY
        if fault.kind is Kind.DROP:
            self.reset()
            raise _Broken
        if fault.kind is Kind.TRUNCATE:
            sink.shutdown(socket.SHUT_WR)
            raise _Broken
        if fault.kind is Kind.STALL:
            self._moving.clear()
            await self._moving.wait()
        await self._forward(sink, block, way)

    async def _rewritten(self, block: bytes) -> bytes:
        """Return the whole lines seen so far with passive addresses replaced by ours."""
        *lines, self._line = (self._line + block).split(b"\n")
        if len(self._line) > _LINE_LIMIT:
            raise _Broken
        return b"".join([self._proxy.translate(line) + b"\n" for line in lines])


class FaultProxy:
    """Stands before a peer; connect to `peer` of this object.

    `fault` may be set at any time and counts for running connections too; None forwards all.
    `struck` counts the strikes, `accepted` the connections, `passed` the bytes of each way.
    """

    def __init__(self, peer: Peer, fault: Fault | None = None) -> None:
        self._target = peer
        self._is_ftp = peer.scheme in ("ftp", "ftps")
        self.rewrites = self._is_ftp and not peer.tls
        self.peer = peer
        self.struck = self.accepted = 0
        self.passed = dict.fromkeys(Way, 0)
        self.fault = fault
        self._held = ExitStack()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: list[tuple[socket.socket, asyncio.Task[None]]] = []
        self._connections: set[_Connection] = set()

    @property
    def fault(self) -> Fault | None:
        """The fault that new bytes meet."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._fault = fault
        times = None if fault is None else fault.times
        self.budget = float("inf") if times is None else times

    def spend(self) -> None:
        """Count one connection against the fault's `times`."""
        self.budget -= 1

    async def __aenter__(self) -> Self:
        """Start to accept connections."""
        if self._is_ftp and not self.rewrites:
            host, port = MIRROR, self._target.port
        else:
            host, port = "127.0.0.1", self._held.enter_context(ports.reserved())[0]
        self.peer = self._target.at(host, port)
        await self._group.__aenter__()
        self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every connection and stop to accept."""
        self._close_doors()
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self._held.close()

    def accept(self) -> None:
        """Accept connections (again)."""
        if self._doors:
            return
        host, channel = self.peer.host, Channel.CONTROL if self._is_ftp else Channel.DATA
        self._open_door(host, self.peer.port, self._target.port, channel)
        if self._is_ftp and not self.rewrites:
            for port in self._target.passive_ports or ():
                self._open_door(host, port, port, Channel.DATA)

    def refuse(self) -> None:
        """Refuse new connections, as if no server was there; open ones go on."""
        self._close_doors()

    def cut(self) -> None:
        """Reset every open connection now."""
        for connection in list(self._connections):
            connection.reset()
        for task in self._tasks:
            if task.get_name() == "connection":
                task.cancel()

    def release(self) -> None:
        """Let stalled connections go on."""
        for connection in self._connections:
            connection.release()

    async def wait_struck(self, count: int = 1, *, limit: float = 20.0) -> None:
        """Return once the fault has struck `count` times; fail after `limit` seconds."""
        await until(lambda: self.struck >= count, limit=limit, what=f"struck {count} times")

    async def wait_passed(self, way: Way, size: int, *, limit: float = 20.0) -> None:
        """Return once `size` bytes of all connections have passed; fail after `limit` seconds."""
        await until(lambda: self.passed[way] >= size, limit=limit, what=f"{size} bytes {way}")

    def translate(self, line: bytes) -> bytes:
        """Return a reply of an FTP server with its data address replaced by one of ours."""
        if found := _PASV.match(line):
            numbers = [int(text) for text in found.groups()[1:7]]
            port = self._data_door(numbers[4] * 256 + numbers[5])
            address = [*map(int, self.peer.host.split(".")), port >> 8, port & 255]
            return found[1] + ",".join(map(str, address)).encode() + found[8]
        if found := _EPSV.match(line):
            return found[1] + str(self._data_door(int(found[2]))).encode() + found[3]
        return line

    def _data_door(self, target: int) -> int:
        return self._open_door(self.peer.host, 0, target, Channel.DATA, once=True)

    def _open_door(
        self, host: str, port: int, target: int, channel: Channel, *, once: bool = False
    ) -> int:
        door = socket.socket()
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((host, port))
            door.listen(128)
        except OSError:
            door.close()
            raise
        door.setblocking(False)
        bound = int(door.getsockname()[1])
        task = self._start(self._welcome(door, target, channel, once=once), "door", door)
        if not once:
            self._doors.append((door, task))
        return bound

    def _close_doors(self) -> None:
        for door, task in self._doors:
            task.cancel()
            # refuses from now on, while the task that waits on it ends in the loop's next turn
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
        self._doors = []

    def _start(
        self, work: Coroutine[object, object, None], name: str, owned: socket.socket
    ) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # here and not in the task, which may be cancelled before its first step
        task.add_done_callback(lambda _: owned.close())
        return task

    async def _welcome(
        self, door: socket.socket, target: int, channel: Channel, *, once: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(door)
            except OSError:
                return
            self.accepted += 1
            self._start(self._serve(client, target, channel), "connection", client)
            if once:
                return

    async def _serve(self, client: socket.socket, target: int, channel: Channel) -> None:
        server = socket.socket()
        for side in (client, server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, client, server, channel)
        self._connections.add(connection)
        try:
            await asyncio.get_running_loop().sock_connect(server, (self._target.host, target))
            await connection.run()
        except OSError:
            connection.reset()
        finally:
            server.close()
            self._connections.discard(connection)
