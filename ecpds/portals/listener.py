"""Listening sockets of the portals: bind, accept, count, refuse above a cap, drain.

We accept by hand, for four reasons: the TLS context is asked for with each connection, so that a
new certificate needs no restart; TCP_NODELAY is set (asyncio forgets it for some sockets, 40 ms for
each small TLS answer); a banned or supernumerary client is turned away before a byte is read; and
a node out of descriptors pauses instead of spinning.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger, log_context
from ecpds.model.errors import ConfigError

log = get_logger(__name__)

Serve = Callable[[socket.socket, str], Coroutine[Any, Any, None]]
Context = Callable[[], ssl.SSLContext]
ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

BACKLOG: Final = 1024
ACCEPT_BURST: Final = 64  # connections taken before others get their turn
PAUSE: Final = timedelta(milliseconds=500)  # after an accept that failed for want of resources
CLOSE_PATIENCE: Final = 5.0  # seconds for cancelled connections to end


def split(spec: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[::1]:port` or `:port` (all addresses).

    Raises:
        ConfigError: there is no port, or it is none of 0 to 65535.
    """
    host, colon, port = spec.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{spec!r} is no address to listen on; write host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{spec!r}: write an IPv6 address in brackets, [::1]:port")
    return ("" if host == "*" else host), int(port)


async def bind(spec: str) -> list[socket.socket]:
    """Return listening, non-blocking sockets for `spec`, one for each address of the host.

    With port 0 all of them get the port that the first one got.

    Raises:
        ConfigError: the spec is malformed, the host unknown or an address not ours to bind.
    """
    host, port = split(spec)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {spec}: {error.strerror or error}") from error
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            wanted = (address[0], port or (bound[0].getsockname()[1] if bound else 0))
            bound.append(_listening(family, wanted))
    except OSError as error:
        for sock in bound:
            sock.close()
        raise ConfigError(f"cannot listen on {spec}: {error.strerror or error}") from error
    return bound


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    # Protocol 0 would keep asyncio from setting TCP_NODELAY on what is accepted.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def canonical(host: str) -> str:
    """Return an address without zone, IPv4 for an IPv4-mapped one: what bans and logs use."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


async def connected(
    factory: Callable[[], ProtocolT], sock: socket.socket, tls: Context | None, patience: timedelta
) -> ProtocolT:
    """Give an accepted socket to the loop, after a TLS handshake of at most `patience`.

    Returns the protocol that `factory` made, which with TLS and uvloop is not the one that the
    loop itself returns.

    Raises:
        OSError: the handshake failed or the client has gone.
    """
    made: list[ProtocolT] = []

    def make() -> ProtocolT:
        made.append(factory())
        return made[0]

    loop = asyncio.get_running_loop()
    if tls is None:
        await loop.connect_accepted_socket(make, sock)
    else:
        seconds = patience.total_seconds()
        await loop.connect_accepted_socket(make, sock, ssl=tls(), ssl_handshake_timeout=seconds)
    return made[0]


class Listener:
    """Accepts for one portal; `serve(sock, peer)` runs as a task for each connection.

    The socket is non-blocking and closed when `serve` ends, so a `serve` that gives it to a
    transport waits for the end of that, and aborts it when cancelled.  `cap` bounds the tasks;
    a client above it gets `refusal` and is hung up on.
    """

    def __init__(
        self, spec: str, serve: Serve, *, clock: Clock, cap: int, refusal: bytes = b""
    ) -> None:
        self._spec = spec
        self._serve = serve
        self._clock = clock
        self._cap = cap
        self._refusal = refusal
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.accepted = 0  # since the start
        self.refused = 0  # because of the cap

    @property
    def connections(self) -> int:
        """How many connections are being served now."""
        return len(self._running)

    @property
    def listening(self) -> bool:
        """Whether new connections are accepted."""
        return bool(self._sockets)

    async def start(self) -> list[tuple[str, int]]:
        """Bind and accept; return the address and port of each socket, none for an empty spec.

        Raises:
            ConfigError: the spec cannot be bound.
        """
        if not self._spec:
            return []  # switched off
        self._sockets = await self._bind(self._spec)
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        for sock in self._sockets:
            self._accepting.append(self._group.create_task(self._accept(sock), name="accept"))
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def _bind(self, spec: str) -> list[socket.socket]:
        return await bind(spec)

    async def drain(self) -> None:
        """Stop accepting and return when the last connection has ended; give it a timeout."""
        self.stop()
        await self._idle.wait()

    def stop(self) -> None:
        """Stop accepting; connections go on."""
        for task in self._accepting:
            task.cancel()
        self._accepting.clear()
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)  # before the number is somebody else's
            sock.close()
        self._sockets.clear()

    async def close(self) -> None:
        """Stop accepting and end every connection now; may be called twice."""
        self.stop()
        for task in self._running:
            task.cancel()
        group, self._group = self._group, None
        if group is None:
            return
        if self._running:
            _, left = await asyncio.wait(self._running, timeout=CLOSE_PATIENCE)
            if left:
                log.error("connections did not end", left=len(left))
                return  # to leave the group would be to wait for them
        await group.__aexit__(None, None, None)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
                self._take(sock, address)
                for _ in range(ACCEPT_BURST):
                    self._take(*listening.accept())
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue  # the client went away between its SYN and our accept
                log.warning("cannot accept", reason=str(error))
                await self._clock.sleep(PAUSE)

    def _take(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        self.accepted += 1
        sock.setblocking(False)
        if self._group is None or len(self._running) >= self._cap:
            self.refused += 1
            self._turn_away(sock)
            return
        self._idle.clear()
        peer = "" if sock.family == socket.AF_UNIX else canonical(address[0])
        task = self._group.create_task(self._one(sock, peer), name="connection")
        self._running.add(task)
        task.add_done_callback(partial(self._ended, sock))

    def _turn_away(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.send(self._refusal)
            except OSError:
                return  # gone, which was our wish

    async def _one(self, sock: socket.socket, peer: str) -> None:
        with sock, log_context(peer=peer):
            try:
                if peer:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._serve(sock, peer)
            except OSError as error:
                log.debug("connection lost", reason=str(error))
            except Exception as error:  # noqa: BLE001 - one client may not end the others
                log.error("connection failed", exc=error)  # noqa: TRY400 - the trace is in `exc`

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()  # still open when the task was cancelled before its first step
        self._running.discard(task)
        if not self._running:
            self._idle.set()
