"""The HTTPS portal: its listener and its connections; every request goes to `Service`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.resources import shared
from ecpds.base.settings import HttpsSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError, root_message
from ecpds.portals.https.blocks import FileBlocks
from ecpds.portals.https.browse import Browse
from ecpds.portals.https.exchange import Ask
from ecpds.portals.https.login import Logins, Tickets
from ecpds.portals.https.pages import Pages
from ecpds.portals.https.plainhttp import speaks_tls
from ecpds.portals.https.proxies import Proxies
from ecpds.portals.https.reply import WireReply
from ecpds.portals.https.service import Service
from ecpds.portals.https.wire import Wire
from ecpds.portals.listener import Listener, connected
from ecpds.vfs.contract import Gate

log = get_logger(__name__)

HANDSHAKE = timedelta(seconds=20)
LINGER = 5.0  # seconds in which the rest of a refused upload is read and dropped
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


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
        templates: Path | None = None,
        endpoints: Callable[[], Mapping[str, str]] = dict,
        session_lifetime: timedelta = timedelta(hours=1),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """Read the templates (default: the installed ones); nothing listens before `start`.

        `endpoints` gives the addresses of the other portals for the access guide,
        `trusted_proxies` are networks whose X-Forwarded fields are believed.
        """
        self._gate = gate
        self._tls = tls
        self._clock = clock
        self._proxies = Proxies(trusted_proxies)
        self._blocks = FileBlocks(threads)
        pages = Pages(templates or shared("templates"), node_name)
        self._service = Service(
            Logins(gate, Tickets(clock, session_lifetime)),
            pages,
            Browse(pages, endpoints),
            clock,
        )
        self._listener = Listener(
            settings.listen,
            self._serve,
            clock=clock,
            cap=settings.max_connections,
            refusal=b"" if tls else _REFUSAL,
        )
        self._greeted: set[socket.socket] = set()  # before the end of the TLS handshake
        self._wires: set[Wire] = set()
        self.take(settings)
        self._draining = False

    def take(self, settings: HttpsSettings) -> None:
        """Use other settings from the next request on; address and cap stay as they are."""
        self._patience = settings.data_timeout.total_seconds()
        self._idle = settings.idle_timeout.total_seconds()
        self._service.take(settings.hosts, settings.cors_allow_origin)

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses and ports.  Raises ConfigError when that is impossible."""
        return await self._listener.start()

    async def drain(self) -> None:
        """Accept nothing new, close idle connections, and wait for the requests that run."""
        self._draining = True
        self._listener.stop()
        for sock in self._greeted:  # no request yet: nothing is lost
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for wire in list(self._wires):
            wire.leave()
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
        if self._draining:
            return
        self._greeted.add(sock)
        try:
            if self._tls is not None and not await speaks_tls(sock):
                return
            wire = await connected(
                lambda: Wire(peer, secure=self._tls is not None, body_timeout=self._patience),
                sock,
                self._tls,
                HANDSHAKE,
            )
        finally:
            self._greeted.discard(sock)
        self._wires.add(wire)
        try:
            await self._requests(wire)
            await self._part(wire)
        finally:
            self._wires.discard(wire)
            wire.abort()

    async def _requests(self, wire: Wire) -> None:
        """Answer the requests of a connection in turn."""
        if self._draining:
            wire.leave()
        while (ask := await wire.next(self._idle)) is not None:
            self._proxies.apply(ask)
            if not await self._answer(wire, ask):
                return

    async def _answer(self, wire: Wire, ask: Ask) -> bool:
        """Answer one request; tell whether the connection can carry another."""
        reply = WireReply(wire, ask, blocks=self._blocks, clock=self._clock, timeout=self._patience)
        try:
            await self._service.serve(ask, reply)
        except (ConnectionError, TimeoutError) as error:
            log.debug("client gone", peer=wire.peer, reason=root_message(error))
        except EcpdsError as error:
            log.warning("answer broke off", peer=wire.peer, reason=error.message)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            log.error("answer broke off", exc=error, peer=wire.peer)  # noqa: TRY400 - see `exc`
        else:
            log.debug("request", peer=wire.peer, method=ask.method, status=reply.status)
            return reply.keeps
        wire.abort()  # a status line is out: only a broken connection can tell the client
        return False

    async def _part(self, wire: Wire) -> None:
        """Close a connection after what is still on its way in either direction."""
        await wire.linger(LINGER)
        wire.close()
        try:
            async with asyncio.timeout(self._patience if wire.unsent else LINGER):
                await wire.closed.wait()
        except TimeoutError:
            return
