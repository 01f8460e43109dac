"""The FTP and FTPS portal as the daemon sees it: start, drain, close, numbers for the metrics."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.settings import FtpSettings
from ecpds.base.tasks import every
from ecpds.base.threads import Threads
from ecpds.model.errors import ConfigError
from ecpds.portals.ftp.commands import COMMANDS
from ecpds.portals.ftp.control import Connection
from ecpds.portals.ftp.setups import PassivePorts
from ecpds.portals.ftp.site import Counts, Site
from ecpds.portals.listener import Listener
from ecpds.vfs.contract import Gate

log = get_logger(__name__)

ROUND: Final = timedelta(seconds=2)  # how often sessions are looked at that somebody ended
REFUSAL: Final = b"421 Too many connections\r\n"
PARTING: Final = 2.0  # seconds for connections to take their last reply at `close`


class FtpPortal:
    """Our FTP server over one gate."""

    def __init__(
        self,
        gate: Gate,
        settings: FtpSettings,
        tls: Callable[[], ssl.SSLContext] | None,
        threads: Threads,
        clock: Clock,
        node_name: str,
    ) -> None:
        """Prepare; `tls` gives the present context for each connection.

        Raises:
            ConfigError: the port range is malformed, or TLS is demanded without a certificate.
        """
        if tls is None and settings.tls in ("required", "implicit"):
            raise ConfigError(f"portal.ftp.tls = {settings.tls!r} needs a certificate")
        self._site = Site(
            gate=gate,
            settings=settings,
            tls=tls,
            threads=threads,
            clock=clock,
            node_name=node_name,
            ports=PassivePorts(settings.passive_ports),
        )
        self._connections: set[Connection] = set()
        self._rounds: asyncio.TaskGroup | None = None
        self._round: asyncio.Task[None] | None = None
        self._listener = Listener(
            settings.listen,
            self._serve,
            clock=clock,
            cap=settings.max_connections,
            refusal=b"" if settings.tls == "implicit" else REFUSAL,
        )

    @property
    def connections(self) -> int:
        """How many control connections are open."""
        return self._listener.connections

    @property
    def accepted(self) -> int:
        """How many control connections came since the start."""
        return self._listener.accepted

    @property
    def counts(self) -> Counts:
        """Sessions, transfers, logins, commands and bytes."""
        return self._site.counts

    @property
    def ready(self) -> bool:
        """Whether new clients are accepted."""
        return self._listener.listening

    def take(self, settings: FtpSettings) -> None:
        """Use other limits of time and modes from the next command on; nobody is dropped."""
        self._site.settings = settings

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return address and port of each socket, none when the portal is off.

        Raises:
            ConfigError: the address cannot be bound, or the public address has no IPv4 address.
        """
        if not self._site.settings.listen:
            return []
        self._site.public_address = await _resolved(self._site.settings.public_address)
        bound = await self._listener.start()
        self._rounds = asyncio.TaskGroup()
        await self._rounds.__aenter__()
        look = every("ftp-rounds", ROUND, self._look_around, self._site.clock)
        self._round = self._rounds.create_task(look, name="ftp-rounds")
        return bound

    async def drain(self) -> None:
        """Accept nobody, say good-bye to idle clients, return when transfers have ended."""
        self._listener.stop()
        for connection in tuple(self._connections):
            connection.stop("The service is going down", at_once=False)
        await self._listener.drain()

    async def close(self) -> None:
        """End everything now; uploads under way are parked.  May be called twice."""
        self._listener.stop()
        for connection in tuple(self._connections):
            connection.stop("The service is going down", at_once=True)
        try:
            async with asyncio.timeout(PARTING):
                await self._listener.drain()
        except TimeoutError:
            log.warning("cutting connections", left=self.connections)
        await self._listener.close()
        rounds, self._rounds = self._rounds, None
        if rounds is not None and self._round is not None:
            self._round.cancel()
            await rounds.__aexit__(None, None, None)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        connection = Connection(self._site, sock, peer, COMMANDS)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _look_around(self) -> None:
        """Hang up on sessions that ended elsewhere, and take unused passive ports back."""
        for connection in tuple(self._connections):
            connection.drop_old_setup()
            if connection.is_closing:
                connection.stop("Your session was ended", at_once=True)


async def _resolved(host: str) -> str:
    """Return the IPv4 address of the public host; PASV has room for nothing else."""
    if not host:
        return ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, None, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise ConfigError(f"portal.ftp.public_address {host!r}: {error}") from error
    return str(found[0][4][0])
