"""The monitor's door: accepts by hand, so that a new certificate needs no restart.

The TLS context is asked for with each connection, banned or supernumerary clients are turned away
before a byte is read, and a connection on which no request is under way is closed after a while
(aiohttp has no limit for the time that the head of a first request may take).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aiohttp import web

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.model.errors import ConfigError, EcpdsError

log = get_logger(__name__)

BACKLOG: Final = 512
MOST: Final = 1000  # connections at a time
HANDSHAKE: Final = 20.0  # seconds
IDLE: Final = 75.0  # seconds without a request, the head of the next one included
SWEEP: Final = timedelta(seconds=5)
PAUSE: Final = timedelta(milliseconds=500)  # after an accept that failed for want of resources
CLOSE_PATIENCE: Final = 1.0  # seconds for requests to end at a close

Context = Callable[[], ssl.SSLContext]


async def bind(spec: str) -> list[socket.socket]:
    """Return listening sockets for `host:port`, one for each address of the host.

    Raises:
        ConfigError: the host is unknown or the address not ours to bind.
    """
    host, _, port = spec.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    loop = asyncio.get_running_loop()
    bound: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = int(port) or (bound[0].getsockname()[1] if bound else 0)
            bound.append(_listening(family, (address[0], chosen)))
    except (OSError, ValueError) as error:
        for sock in bound:
            sock.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {spec}: {reason}") from error
    return bound


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    # protocol 0 would keep asyncio from setting TCP_NODELAY on what is accepted
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
    return str(getattr(address, "ipv4_mapped", None) or address)


class WebListener:
    """Gives accepted connections to an aiohttp server."""

    def __init__(
        self,
        spec: str,
        make: Callable[[], web.RequestHandler],
        check: Callable[[str], Awaitable[None]],
        *,
        tls: Context | None,
        clock: Clock,
    ) -> None:
        self._spec, self._make, self._check = spec, make, check
        self._tls, self._clock = tls, clock
        self._sockets: list[socket.socket] = []
        self._own: list[asyncio.Task[None]] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._since: dict[asyncio.BaseProtocol, float] = {}  # idle ones, since when
        self._busy: set[asyncio.BaseProtocol] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False
        self._group: asyncio.TaskGroup | None = None

    async def start(self) -> list[tuple[str, int]]:
        """Bind and accept; return address and port of each socket, none when switched off."""
        if not self._spec:
            return []
        self._sockets = await bind(self._spec)
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        for sock in self._sockets:
            self._own.append(self._group.create_task(self._accept(sock), name="monitor accept"))
        self._own.append(self._group.create_task(self._sweep(), name="monitor sweep"))
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def drain(self) -> None:
        """Accept nobody any more, close idle connections, and wait for the requests that run.

        aiohttp's own shutdown would drop what still comes of an upload.
        """
        self.stop()
        self.is_draining = True
        for protocol in self._since:
            protocol.close()  # type: ignore[attr-defined]  # aiohttp's own
        await self._idle.wait()

    def stop(self) -> None:
        """Accept nobody any more; connections go on."""
        loop = asyncio.get_running_loop()
        for task in self._own:
            task.cancel()
        self._own.clear()
        for sock in self._sockets:
            loop.remove_reader(sock)  # before the number is somebody else's
            sock.close()
        self._sockets.clear()

    async def close(self) -> None:
        """Stop accepting and end what is still arriving; may be called twice."""
        self.stop()
        for task in self._arriving:
            task.cancel()
        group, self._group = self._group, None
        if group is not None:
            await group.__aexit__(None, None, None)

    def begins(self, request: web.BaseRequest) -> None:
        """Tell that a request is under way on its connection."""
        self._since.pop(request.protocol, None)
        self._busy.add(request.protocol)
        self._idle.clear()

    def ends(self, request: web.BaseRequest) -> None:
        """Tell that it is answered."""
        self._busy.discard(request.protocol)
        if self.is_draining:
            request.protocol.close()  # after this answer
        elif request.transport is not None:
            self._since[request.protocol] = asyncio.get_running_loop().time()
        if not self._busy:
            self._idle.set()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._arriving) + len(self._since) + len(self._busy)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue  # the client went away between its SYN and our accept
                log.warning("cannot accept", reason=str(error))
                await self._clock.sleep(PAUSE)
                continue
            if self._group is None or self.connections >= MOST:
                sock.close()
                continue
            task = self._group.create_task(self._arrive(sock, address[0]), name="monitor arrival")
            self._arriving.add(task)
            task.add_done_callback(partial(self._arrived, sock))

    def _arrived(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        if task.cancelled():
            sock.close()

    async def _arrive(self, sock: socket.socket, host: str) -> None:
        """Check the client and give its connection to the server, after a TLS handshake."""
        peer = canonical(host)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._check(peer)
            await self._connect(sock)
        except EcpdsError:
            sock.close()  # banned: not a word
        except OSError as error:
            sock.close()
            log.debug("connection lost", peer=peer, reason=str(error))

    async def _connect(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        made: list[asyncio.BaseProtocol] = []  # uvloop returns its own TLS protocol, not ours

        def make() -> asyncio.BaseProtocol:
            made.append(self._make())
            return made[-1]

        if self._tls is None:
            await loop.connect_accepted_socket(make, sock)
        else:
            await loop.connect_accepted_socket(
                make, sock, ssl=self._tls(), ssl_handshake_timeout=HANDSHAKE
            )
        if made[0] not in self._busy:
            self._since.setdefault(made[0], loop.time())

    async def _sweep(self) -> None:
        """Close connections on which nothing was asked for too long; forget those that ended."""
        loop = asyncio.get_running_loop()
        while True:
            await self._clock.sleep(SWEEP)
            limit = loop.time() - IDLE
            for protocol, since in list(self._since.items()):
                if protocol.transport is None:  # type: ignore[attr-defined]  # aiohttp's own
                    del self._since[protocol]
                elif since < limit:
                    del self._since[protocol]
                    protocol.force_close()  # type: ignore[attr-defined]  # aiohttp's own
