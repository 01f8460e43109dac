"""The HTTPS portal: its listener and its connections; every request goes to `Service`."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from aiohttp import HttpVersion11, web

from ecpds.base.clock import Clock
from ecpds.base.settings import HttpsSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError
from ecpds.portals.https.blocks import FileBlocks
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.carrier import CarriedBody, CarriedReply
from ecpds.portals.https.exchange import Ask
from ecpds.portals.https.login import Logins, Tickets
from ecpds.portals.https.pages import Pages
from ecpds.portals.https.plainhttp import speaks_tls
from ecpds.portals.https.proxies import Origin, Proxies
from ecpds.portals.https.service import Service
from ecpds.portals.listener import Listener, connected
from ecpds.vfs.contract import Gate

log = logging.getLogger(__name__)

HANDSHAKE = timedelta(seconds=20)
LINGER = 5.0  # seconds in which the rest of a refused upload is read and dropped
ENDING = 5.0  # seconds for a cancelled request to clean up
_READ_BUFFER = 1 << 20
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Connection(web.RequestHandler):
    """One client connection; tells when it and the request in it have ended."""

    __slots__ = ("closed", "idle", "peer")

    def __init__(self, server: web.Server, peer: str, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.peer = peer
        self.closed = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wake whoever waits for the end."""
        super().connection_lost(exc)
        self.closed.set()

    def leave(self) -> None:
        """Close now if no request runs, else after it."""
        if self.idle.is_set():
            self.force_close()
        else:
            self.close()

    async def end(self) -> None:
        """Close, cancel the request, and wait until it has cleaned up."""
        if self.transport is not None:
            self.transport.abort()
        await self.shutdown(0.01)
        async with asyncio.timeout(ENDING):
            await self.idle.wait()


class HttpsPortal:
    """Serves `/ecpds/…` over HTTPS, or plain HTTP behind a proxy that ends TLS."""

    def __init__(
        self,
        gate: Gate,
        settings: HttpsSettings,
        tls: Callable[[], ssl.SSLContext] | None,
        threads: Threads,
        clock: Clock,
        node_name: str,
        *,
        templates: Path,
        endpoints: Callable[[], Mapping[str, str]] = dict,
        session_lifetime: timedelta = timedelta(hours=1),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """Read the templates; nothing listens before `start`.

        `endpoints` gives the addresses of the other portals for the access guide,
        `trusted_proxies` are networks whose X-Forwarded fields are believed.
        """
        self._gate = gate
        self._settings = settings
        self._tls = tls
        self._proxies = Proxies(trusted_proxies)
        self._blocks = FileBlocks(threads)
        pages = Pages(templates, node_name)
        self._service = Service(
            Logins(gate, Tickets(clock, session_lifetime)),
            pages,
            Browse(pages, endpoints),
            hosts=settings.hosts,
            cors=settings.cors_allow_origin,
        )
        self._listener = Listener(
            settings.listen,
            self._serve,
            clock=clock,
            cap=settings.max_connections,
            refusal=b"" if tls else _REFUSAL,
        )
        self._connections: set[Connection] = set()
        self._draining = False

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses and ports.  Raises ConfigError when that is impossible."""
        self._server = web.Server(self._handle)  # belongs to the loop that runs
        return await self._listener.start()

    async def drain(self) -> None:
        """Accept nothing new, close idle connections, and wait for the requests that run."""
        self._draining = True
        for connection in list(self._connections):
            connection.leave()
        await self._listener.drain()

    async def close(self) -> None:
        """End everything now; may be called twice."""
        self._draining = True
        await self._listener.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._listener.connections

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        """Serve one connection to its end."""
        try:
            await self._gate.check(peer)
        except EcpdsError:
            return  # banned: not a word
        if self._tls is not None and not await speaks_tls(sock):
            return
        connection = await connected(
            lambda: Connection(
                self._server,
                peer,
                keepalive_timeout=self._settings.idle_timeout.total_seconds(),
                access_log=None,
                lingering_time=LINGER,
                read_bufsize=_READ_BUFFER,
                auto_decompress=False,
                max_line_size=16 * 1024,
                max_field_size=16 * 1024,
            ),
            sock,
            self._tls,
            HANDSHAKE,
        )
        self._connections.add(connection)
        try:
            await connection.closed.wait()
            await connection.idle.wait()
        except asyncio.CancelledError:
            await connection.end()
            raise
        finally:
            self._connections.discard(connection)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of aiohttp's server."""
        connection = cast(Connection, request.protocol)
        connection.idle.clear()
        try:
            return await self._answer(request)
        finally:
            connection.idle.set()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        seconds = self._settings.data_timeout.total_seconds()
        reply = CarriedReply(request, self._blocks, timeout=seconds)
        try:
            await self._service.serve(self._ask(request, seconds), reply)
        except ConnectionError:
            raise
        except Exception as error:
            # the status line is out, or the client is stuck: only a broken connection can tell it
            if not isinstance(error, (EcpdsError, TimeoutError)):
                log.exception("answer broke off")
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("answer broke off") from error
        if reply.response is None:
            raise ConnectionResetError("nothing was answered")
        if self._draining:
            reply.response.force_close()
        return reply.response

    def _ask(self, request: web.BaseRequest, timeout: float) -> Ask:
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        origin = Origin(
            peer=cast(Connection, request.protocol).peer,
            secure=self._tls is not None,
            host=headers.get("host", "" if request.version >= HttpVersion11 else "localhost"),
        )
        origin = self._proxies.seen(origin, headers)
        return Ask(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            peer=origin.peer,
            secure=origin.secure,
            host=origin.host,
            body=CarriedBody(request, timeout=timeout),
        )
