"""Data connections of FTP: opened by us or by the server, plain or TLS.

A plain connection is a bare socket: no transport, no reader task, because with small files the
set-up is the work.  Blocks are read and written; sendfile(2) in a thread took 1.4 times as long on
loopback, because every full socket buffer cost a hand-over.  An upload that ends early is reset,
never closed: to the server a close is the end of the file.

Spec: RFC 959 section 3.2 (PORT, PASV), RFC 2428 (EPRT, EPSV), RFC 4217 section 12 (TLS).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Final, cast

from ecpds.model.errors import ConnectionLost, Phase, RemoteError, RemoteTransient
from ecpds.modules.trust import ClientContext, tls_error
from ecpds.transfer.sockets import SocketTuning

READ: Final = 256 * 1024
"""Bytes that one read of a plain socket may give."""

TURN: Final = 16
"""Reads or writes after which others get their turn."""

HIGH: Final = 1024 * 1024
"""Decrypted bytes that may wait before we stop reading the TLS socket."""

LOW: Final = 256 * 1024
"""Decrypted bytes below which we read again."""

_RESET: Final = struct.pack("ii", 1, 0)


class DataChannel(ABC):
    """One data connection; a broken one raises OSError, a silent one TimeoutError."""

    @abstractmethod
    async def read(self, limit: float) -> bytes:
        """Return the next bytes, which must come within `limit` seconds; empty at the end."""

    @abstractmethod
    async def write(self, block: bytes, limit: float) -> None:
        """Send a block; returns when the next one may come, after `limit` seconds at most."""

    @abstractmethod
    async def finish(self) -> None:
        """Close in order, so that the server sees the end of the file."""

    @abstractmethod
    def abort(self) -> None:
        """Reset the connection, so that the server sees no end of the file; may be called twice."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make the read or write under way fail."""


class PlainChannel(DataChannel):
    """A connected, non-blocking socket.

    What can be done at once is done without a timer; now and then others get their turn.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._turns = 0

    async def read(self, limit: float) -> bytes:
        """Return the next bytes, empty at the end."""
        await self._take_turns()
        try:
            return self._sock.recv(READ)
        except BlockingIOError:
            pass
        async with asyncio.timeout(limit):
            return await self._loop.sock_recv(self._sock, READ)

    async def write(self, block: bytes, limit: float) -> None:
        """Send a block."""
        await self._take_turns()
        try:
            sent = self._sock.send(block)
        except BlockingIOError:
            sent = 0
        if sent < len(block):
            async with asyncio.timeout(limit):
                await self._loop.sock_sendall(self._sock, memoryview(block)[sent:])

    async def _take_turns(self) -> None:
        self._turns += 1
        if self._turns % TURN == 0:
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Close; the kernel sends what it still has."""
        self._sock.close()

    def abort(self) -> None:
        """Reset."""
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def interrupt(self) -> None:
        """Make the read or write under way fail."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


class TlsChannel(DataChannel, asyncio.Protocol):
    """A data connection under TLS, with bounded buffers on both sides."""

    def __init__(self, close_timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = self._full = self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._close_timeout = close_timeout

    async def start(self, sock: socket.socket, context: ClientContext, name: str) -> None:
        """Shake hands on a connected socket, which belongs to this channel from now on."""
        try:
            await self._loop.create_connection(
                lambda: self,
                sock=sock,
                ssl=context,
                server_hostname=name,
                ssl_shutdown_timeout=self._close_timeout,
            )
        except BaseException:
            sock.close()
            raise

    # called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and bound what it buffers."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high=HIGH)

    def data_received(self, data: bytes) -> None:
        """Keep bytes; stop reading when too many wait."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held > HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Remember the end."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember the end and why."""
        self._ended = True
        self._error = self._error or exc
        if not self._closed.done():
            self._closed.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """The buffer is full."""
        self._full = True

    def resume_writing(self) -> None:
        """The buffer has room."""
        self._full = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    # called by the session

    async def read(self, limit: float) -> bytes:
        """Return the next bytes, empty at the end."""
        if not self._chunks:
            async with asyncio.timeout(limit):
                await self._arrival()
        if not self._chunks:
            return b""
        block = self._chunks.popleft()
        self._held -= len(block)
        if self._paused and self._held < LOW and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return block

    async def _arrival(self) -> None:
        while not self._chunks and not self._ended:
            await self._wait()
        if not self._chunks and self._error is not None:
            raise self._error

    async def write(self, block: bytes, limit: float) -> None:
        """Send a block; returns when the buffer has room."""
        if self._ended or self._transport is None:
            raise self._error or BrokenPipeError(errno.EPIPE, "the server closed the connection")
        self._transport.write(block)
        if self._full:
            async with asyncio.timeout(limit):
                await self._room()

    async def _room(self) -> None:
        while self._full:
            if self._ended:
                raise self._error or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            await self._wait()

    async def finish(self) -> None:
        """Flush, send the TLS end mark and close."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._closed
        except TimeoutError:
            self.abort()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Reset."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def interrupt(self) -> None:
        """Make the read or write under way fail."""
        self._error = self._error or ConnectionResetError(errno.ECONNRESET, "interrupted")
        self.abort()


async def wait_writable(sock: socket.socket) -> None:
    """Return when the socket takes bytes, or is broken."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sock.fileno()
    loop.add_writer(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# --- opening -------------------------------------------------------------------------------------


class Opening(ABC):
    """A data connection in the making: begun before the command, completed after its reply."""

    def ready(self) -> socket.socket | None:
        """Return the socket if it is known to be connected."""
        return None

    @abstractmethod
    async def complete(self) -> socket.socket:
        """Return the connected socket."""

    @abstractmethod
    def close(self) -> None:
        """Release what is not handed over; may be called twice."""


_UNTUNED: Final = SocketTuning(no_delay=True)  # which says nothing to a stream of data


class Dialled(Opening):
    """We connect to the server.  The command is sent meanwhile: one round trip less."""

    def __init__(self, family: int, where: tuple[object, ...], tuning: SocketTuning) -> None:
        self._sock: socket.socket | None = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setblocking(False)
            if tuning != _UNTUNED:
                tuning.apply(self._sock)
            if tuning.local_address:
                self._sock.bind((tuning.local_address, 0))
            code = self._sock.connect_ex(where)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except BaseException:
            self.close()
            raise
        self._waits = code != 0

    def ready(self) -> socket.socket | None:
        """Return the socket if it is known to be connected."""
        sock = self._sock
        if sock is None:
            return None
        if self._waits:
            try:
                sock.getpeername()
            except OSError:
                return None
        self._sock = None
        return sock

    async def complete(self) -> socket.socket:
        """Return the connected socket; raises OSError when nobody accepted."""
        sock = self._sock
        if sock is None:
            raise OSError(errno.EBADF, "closed")
        await wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._sock = None
        return sock

    def close(self) -> None:
        """Close the socket unless it was handed over."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Awaited(Opening):
    """The server connects to us."""

    def __init__(self, family: int, local: str, peer: str, tuning: SocketTuning) -> None:
        self._peer = peer
        self._tuning = tuning
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind((local, 0))
            self._listener.listen(1)
        except BaseException:
            self._listener.close()
            raise
        self.port: int = self._listener.getsockname()[1]

    async def complete(self) -> socket.socket:
        """Return the connection that came from the server's own address; others are closed."""
        loop = asyncio.get_running_loop()
        while True:
            sock, where = await loop.sock_accept(self._listener)
            if where[0] == self._peer:
                sock.setblocking(False)
                self._tuning.apply(sock)
                return sock
            sock.close()

    def close(self) -> None:
        """Close the listening socket."""
        self._listener.close()


_EPSV: Final = re.compile(r"\((?P<mark>[!-~])(?P=mark)(?P=mark)(\d{1,5})(?P=mark)\)")
_PASV: Final = re.compile(r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})")


def epsv_port(text: str) -> int:
    """Return the port of an answer to EPSV; raises RemoteTransient when there is none."""
    found = _EPSV.search(text)
    port = int(found[2]) if found else 0
    if not 0 < port < 65536:
        raise RemoteTransient(f"no port in the answer to EPSV: {text[:100]!r}")
    return port


def pasv_address(text: str) -> tuple[str, int]:
    """Return address and port of an answer to PASV; raises RemoteTransient when there are none."""
    found = _PASV.search(text)
    numbers = [int(part) for part in found.groups()] if found else []
    if not numbers or max(numbers) > 255 or not any(numbers[4:]):
        raise RemoteTransient(f"no address in the answer to PASV: {text[:100]!r}")
    return ".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]


def port_command(family: int, address: str, port: int, *, extended: bool) -> str:
    """Return the command that tells the server where we listen."""
    if extended:
        return f"EPRT |{2 if family == socket.AF_INET6 else 1}|{address}|{port}|"
    return f"PORT {address.replace('.', ',')},{port // 256},{port % 256}"


def data_error(error: BaseException, host: str) -> RemoteError:
    """Return our error for a data connection that could not be made or broke."""
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, ssl.SSLError):
        return tls_error(error, host)
    if isinstance(error, OSError):
        code = errno.errorcode.get(error.errno or 0, "")
        text = error.strerror or str(error)
        return ConnectionLost(
            f"the data connection with {host} broke: {text}", phase=Phase.DATA, remote_code=code
        )
    raise error
