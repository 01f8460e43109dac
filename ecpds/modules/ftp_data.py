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
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, cast

from ecpds.model.errors import ConnectionLost, Phase, RemoteError, RemoteTransient
from ecpds.modules.trust import ClientContext, tls_error
from ecpds.transfer.sockets import SocketTuning, statistics

READ: Final = 256 * 1024
"""Bytes that one read of a plain socket may give."""

TURN: Final = 16
"""Reads or writes after which others get their turn."""

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
    async def finish(self, limit: float) -> None:
        """End in order, so that the server sees the end of the file."""

    @abstractmethod
    def abort(self) -> None:
        """Reset the connection, so that the server sees no end of the file; may be called twice."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make the read or write under way fail."""

    @abstractmethod
    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the connection, while it is open."""


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

    async def finish(self, limit: float) -> None:
        """Close; the kernel sends what it still has."""
        self._sock.close()

    def abort(self) -> None:
        """Reset, unless it was closed in order."""
        if self._sock.fileno() < 0:
            return
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def interrupt(self) -> None:
        """Make the read or write under way fail."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the connection."""
        return statistics(self._sock)


class TlsChannel(DataChannel):
    """A connected, non-blocking socket under TLS, with what one read gives as its only buffer.

    Not a transport of the event loop: uvloop 0.23 drops what is undelivered when the peer closes
    while reading is paused.
    """

    def __init__(self, sock: socket.socket, context: ClientContext, name: str) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._is_orderly = self._ended = False
        self._buffer = memoryview(b"")

    async def start(self) -> None:
        """Shake hands; raises OSError or ssl.SSLError."""
        while not self._shaken():
            await self._flush()
            await self._receive()
            if self._ended:
                raise ConnectionResetError(errno.ECONNRESET, "the server left the TLS handshake")
        await self._flush()

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            with suppress(OSError):
                self._sock.send(self._outgoing.read())  # the alert that tells why
            raise
        return True

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())

    async def _receive(self) -> None:
        block = await self._loop.sock_recv(self._sock, READ)
        if block:
            self._incoming.write(block)
        else:
            self._ended = True
            self._incoming.write_eof()

    async def read(self, limit: float) -> bytes:
        """Return the next bytes, empty at the end."""
        while not (count := self._decrypted()):
            if self._ended:
                return b""
            async with asyncio.timeout(limit):
                await self._flush()
                await self._receive()
        return bytes(self._buffer[:count])

    def _decrypted(self) -> int:
        """Decrypt what is there; return how many bytes."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(READ))
        count = 0
        while count < READ:
            try:
                more = self._read_into(self._buffer[count:])
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                more = 0  # many servers end without the TLS mark: the final reply decides
            if not more:
                self._ended = True
                break
            count += more
        return count

    def _read_into(self, room: memoryview) -> int:
        # with a buffer it returns a count, which the stubs do not know
        return cast(int, self._tls.read(len(room), room))

    async def write(self, block: bytes, limit: float) -> None:
        """Send a block."""
        self._tls.write(block)
        async with asyncio.timeout(limit):
            await self._flush()

    async def finish(self, limit: float) -> None:
        """Send the TLS end mark and the end of the stream.

        The socket stays: closed with something unread in it (session tickets), it would be reset,
        and the server might lose what it has not read yet.
        """
        self._is_orderly = True
        with suppress(ssl.SSLError):  # the server's own end mark is not waited for
            self._tls.unwrap()
        async with asyncio.timeout(limit):
            await self._flush()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Reset, or just close after an orderly end."""
        if not self._is_orderly:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def interrupt(self) -> None:
        """Make the read or write under way fail."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the connection."""
        return statistics(self._sock)


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
    """A data connection in the making: begun before the command, completed after its reply.

    `is_asked`: the command was sent already.
    """

    is_asked = False

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


class Tunnelled(Opening):
    """A connection through the proxy of the host, made before the command: some servers wait."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock

    def ready(self) -> socket.socket | None:
        """Give the connection away."""
        sock, self._sock = self._sock, None
        return sock

    async def complete(self) -> socket.socket:
        """Give the connection away."""
        sock = self.ready()
        if sock is None:
            raise ConnectionLost("the data connection was used", phase=Phase.DATA)
        return sock

    def close(self) -> None:
        """Close it if nobody took it."""
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
