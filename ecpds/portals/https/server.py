"""The connections of an HTTP portal: accepted, greeted, served request by request, drained.

Which code answers a request is the portal's business; here is only what all of them share.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError, root_message
from ecpds.portals.https.blocks import FileBlocks
from ecpds.portals.https.exchange import Ask, Reply
from ecpds.portals.https.plainhttp import speaks_tls
from ecpds.portals.https.proxies import Proxies
from ecpds.portals.https.reply import WireReply
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

Serve = Callable[[Ask, Reply], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long connections may do nothing."""

    idle: timedelta  # between two requests
    data: timedelta  # no byte moved


class HttpServer:
    """A listener for HTTP, or HTTPS when there is a TLS context."""

    def __init__(
        self,
        gate: Gate,
        listen: str,
        tls: Callable[[], ssl.SSLContext] | None,
        threads: Threads,
        clock: Clock,
        *,
        serves: Callable[[Ask], Serve],
        cap: int,
        timing: Timing,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """`serves` chooses who answers a request; `cap` bounds the open connections.

        `trusted_proxies` are networks whose X-Forwarded fields are believed.
        """
        self._gate = gate
        self._tls = tls
        self._clock = clock
        self._serves = serves
        self._proxies = Proxies(trusted_proxies)
        self._blocks = FileBlocks(threads)
        self._listener = Listener(
            listen, self._serve, clock=clock, cap=cap, refusal=b"" if tls else _REFUSAL
        )
        self._greeted: set[socket.socket] = set()  # before the end of the TLS handshake
        self._wires: set[Wire] = set()
        self._draining = False
        self.pace(timing)

    def pace(self, timing: Timing) -> None:
        """Use other limits from the next request on."""
        self._patience = timing.data.total_seconds()
        self._idle = timing.idle.total_seconds()

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
            await self._serves(ask)(ask, reply)
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
