"""The SSH portal: who may come in, and what runs on their channels.

One connection is one session of one data user.  It begins at `login`, after the address was looked
at before a word was said, and ends when the connection ends, by whatever cause.  Only the subsystem
`sftp` and the command `scp` exist; there is no shell, no forwarding and no agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from socket import socket

import asyncssh

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger, log_context
from ecpds.base.settings import SftpSettings
from ecpds.base.ssh import CIPHERS
from ecpds.base.threads import Threads
from ecpds.model.account import Protocol
from ecpds.model.errors import Banned, EcpdsError, Unauthenticated
from ecpds.model.secret import Secret
from ecpds.portals.listener import Listener, connected
from ecpds.portals.ssh import keys
from ecpds.portals.ssh.handles import Places
from ecpds.portals.ssh.link import LEAVE_SECONDS, STOP_SECONDS, Service
from ecpds.portals.ssh.local import LocalDoor
from ecpds.portals.ssh.scp import ScpService
from ecpds.portals.ssh.scp import parse as parse_scp
from ecpds.portals.ssh.sftp import SftpService
from ecpds.portals.ssh.transport import (
    EXCHANGES,
    MACS,
    SIGNATURES,
    PortalChannel,
    PortalConnection,
)
from ecpds.vfs.contract import (
    Credential,
    Gate,
    KeyAndPassword,
    Password,
    ProvenKey,
    Session,
    client_text,
)

log = get_logger(__name__)

MAX_CHANNELS = 10  # on one connection, as OpenSSH
_WINDOW = 2 << 20
_PACKET = 32 * 1024
_LOOK = timedelta(seconds=1)  # between looks at idle, closing and unwanted connections
_REKEY_BYTES = 4 << 30
_WRITE_BUFFER = 512 * 1024  # bytes of one channel before its service waits
_COMMANDS_ONLY = "This service allows sftp and scp only.\n"


class SshPortal:
    """Listens for SSH clients and serves SFTP and SCP to them."""

    def __init__(
        self,
        gate: Gate,
        settings: SftpSettings,
        host_keys: Path,
        threads: Threads,
        clock: Clock,
        node_name: str,
    ) -> None:
        self.gate = gate
        self.settings = settings
        self.threads = threads
        self.clock = clock
        self.draining = False
        self.closing = False
        self._host_keys = host_keys
        self._node_name = node_name
        self._keys: dict[str, asyncssh.SSHKey] = {}
        self._options = asyncssh.SSHServerConnectionOptions()
        self._chores: asyncio.TaskGroup | None = None
        self._chore: asyncio.Task[None] | None = None
        self._listener = Listener(
            settings.listen, self._serve, clock=clock, cap=settings.max_connections
        )
        self._local = LocalDoor(gate, settings, threads, clock)

    def take(self, settings: SftpSettings) -> None:
        """Use other limits of time for connections that come from now on."""
        self.settings = self._local.settings = settings

    async def start(self) -> list[tuple[str, int]]:
        """Make missing host keys, listen; return address and port of each socket, none if off.

        The RSA key of a first start follows in the background.  Raises ConfigError.
        """
        await self._local.start()
        if not self.settings.listen:
            return []
        self._keys = await self.threads.run("disk", keys.load, self._host_keys)
        self._options = self._make_options()
        places = await self._listener.start()
        if keys.SLOW not in self._keys:
            self._chores = asyncio.TaskGroup()
            await self._chores.__aenter__()
            self._chore = self._chores.create_task(self._add_slow_key(), name="ssh-rsa-key")
        return places

    async def _add_slow_key(self) -> None:
        try:
            made = await self.threads.run("digest", keys.make, self._host_keys, keys.SLOW)
        except OSError as error:
            log.warning("no RSA host key could be kept", reason=str(error))
            return
        self._keys[keys.SLOW] = made
        self._options = self._make_options()

    async def drain(self) -> None:
        """Stop listening, send idle clients away, return when the last one has left."""
        self.draining = True
        self._local.stop()
        await self._listener.drain()
        await self._local.drain()

    async def close(self) -> None:
        """Stop listening and end all connections; open uploads are parked, not registered."""
        self.draining = self.closing = True
        await self._local.close()
        await self._listener.close()
        chores, self._chores = self._chores, None
        if chores is not None and self._chore is not None:
            self._chore.cancel()
            await chores.__aexit__(None, None, None)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._listener.connections

    def _make_options(self) -> asyncssh.SSHServerConnectionOptions:
        options = asyncssh.SSHServerConnectionOptions(
            server_factory=asyncssh.SSHServer,
            server_version="ecpds",
            server_host_keys=[
                self._keys[name]
                for name in keys.KINDS
                if name in self._keys and (self.settings.nist_curves or name != keys.NIST)
            ],
            encryption_algs=CIPHERS,
            mac_algs=MACS,
            kex_algs=[
                name for name in EXCHANGES if self.settings.nist_curves or "nistp" not in name
            ],
            signature_algs=SIGNATURES,
            compression_algs=None,  # a small packet may not become a big one
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            allow_pty=False,
            line_editor=False,
            x11_forwarding=False,
            agent_forwarding=False,
            encoding=None,
            window=_WINDOW,
            max_pktsize=_PACKET,
            login_timeout=0,  # ours looks at it
            rekey_bytes=_REKEY_BYTES,
        )
        for name in list(options.server_host_keys):  # an RSA key would offer SHA-1 too
            if name.decode() not in SIGNATURES:
                del options.server_host_keys[name]
        return options

    async def _serve(self, sock: socket, peer: str) -> None:
        """Serve one connection until it ends."""
        try:
            await self.gate.check(peer)
        except Banned:
            return
        with log_context(peer=peer):
            await self._entertain(sock, peer)

    async def _entertain(self, sock: socket, peer: str) -> None:
        async with asyncio.TaskGroup() as group:
            visitor = Visitor(self, peer, group)
            try:
                loop = asyncio.get_running_loop()
                make = partial(PortalConnection, loop, self._options, visitor, visitor)
                connection = await connected(make, sock, None, self.settings.auth_timeout)
                await visitor.watch(connection)
            finally:
                await visitor.leave()


class Visitor(asyncssh.SSHServer):
    """One connection: its login, its session, its channels."""

    def __init__(self, portal: SshPortal, peer: str, group: asyncio.TaskGroup) -> None:
        self.portal = portal
        self.peer = peer
        self._connection: asyncssh.SSHServerConnection | None = None
        self.session: Session | None = None
        self.places = Places()
        self.channels: set[Channel] = set()  # those that run something
        self.opened = 0  # channels, also those that do not run anything yet
        self._group = group
        self._gone = asyncio.Event()
        self._greeted = False
        self._leaving = False
        self._congested = False
        self._half = ("", "")  # user and key that were accepted, before the password
        self._is_news = False  # the client has not heard of it

    # --- login -------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Keep the connection."""
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._gone.set()

    def begin_auth(self, username: str) -> bool:
        """Show the banner, ask for a credential."""
        banner = self.portal.gate.banner()
        if banner and not self._greeted and self._connection is not None:
            self._connection.send_auth_banner(_lines(banner))
        self._greeted = True
        return True

    def password_auth_supported(self) -> bool:
        """Take passwords."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Take keys, until one was accepted: OpenSSH offers it again and again while it may."""
        return not self._half[0]

    async def validate_password(self, username: str, password: str) -> bool:
        """Log in with a password."""
        user, line = self._half
        given = Secret(password)
        has_key = bool(line) and user == username
        return await self._login(
            username, KeyAndPassword(given, line) if has_key else Password(given)
        )

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Tell whether the user has that key; nothing is logged in before it has signed."""
        for line in await self.portal.gate.authorised_keys(username):
            try:
                known = asyncssh.import_authorized_keys(line)
            except (ValueError, asyncssh.KeyImportError):
                log.warning("a key of a data user cannot be read", user=username)
                continue
            if known.validate(key, self.peer, self.peer) is not None:
                return True
        return False

    async def key_proven(self, user: str, key: asyncssh.SSHKey) -> bool:
        """Log in with a key that signed, or go on to the password."""
        line = key.export_public_key().decode().strip()
        if await self.portal.gate.wants_both(user):
            self._half, self._is_news = (user, line), True
            return False
        return await self._login(user, ProvenKey(line))

    def halfway(self) -> bool:
        """Tell, once, that a key was accepted and a password is to follow."""
        is_news, self._is_news = self._is_news, False
        return is_news

    async def _login(self, user: str, credential: Credential) -> bool:
        if self.session is not None or self._leaving:
            return False
        gate = self.portal.gate
        try:
            session = await gate.login(user, credential, protocol=Protocol.SFTP, peer=self.peer)
        except Banned:
            raise asyncssh.DisconnectError(asyncssh.DISC_BY_APPLICATION, "Address banned") from None
        except Unauthenticated:
            return False
        except EcpdsError as error:  # limits and the like: the credential was good
            raise asyncssh.DisconnectError(
                asyncssh.DISC_BY_APPLICATION, client_text(error)
            ) from None
        if self._leaving or self.session is not None:
            await session.close()
            return False
        self.session = session
        log.info("ssh login", user=user)
        welcome = gate.banner(user)
        if welcome and self._connection is not None:  # the last place where SSH shows a text
            self._connection.send_auth_banner(_lines(welcome))
        return True

    # --- channels ----------------------------------------------------------------------------

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        """Open a channel."""
        if self.session is None or self.opened >= MAX_CHANNELS:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, f"more than {MAX_CHANNELS} channels"
            )
        self.opened += 1
        return Channel(self, self.session)

    def congested(self, congested: bool) -> None:
        """Note whether the client fails to read."""
        self._congested = congested
        for channel in list(self.channels):
            channel.congested(congested)

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside, at most until the connection ends."""
        return self._group.create_task(work, name=name)

    # --- watching and leaving ----------------------------------------------------------------

    async def watch(self, connection: PortalConnection) -> None:
        """Return when the connection has ended, by the client or by one of our limits."""
        loop, clock, settings = asyncio.get_running_loop(), self.portal.clock, self.portal.settings
        began = seen = loop.time()
        while not self._gone.is_set():
            await clock.wait(self._gone, clock.now() + _LOOK)
            now, active = loop.time(), connection.active_at
            if self.session is None:
                if now - began > settings.auth_timeout.total_seconds():
                    self._hang_up("Login timeout")
                continue
            if active != seen:
                seen = active
                self.session.touch()
            running = any(channel.running for channel in self.channels)
            if self.session.closing:
                self._hang_up("The session was ended")
            elif not running and now - active > settings.idle_timeout.total_seconds():
                self._hang_up("Idle timeout")
            elif self.portal.draining and not any(c.busy for c in self.channels):
                self._hang_up("The server is shutting down")

    def _hang_up(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    async def leave(self) -> None:
        """Hang up, let the channels settle their files, log out."""
        self._leaving = True
        patience = STOP_SECONDS if self.portal.closing else LEAVE_SECONDS
        for channel in list(self.channels):
            channel.lost(patience)
        if not self._gone.is_set():
            self._hang_up("The server is shutting down")
        try:
            async with asyncio.timeout(2 * patience):
                for channel in list(self.channels):
                    await channel.ended.wait()
                if self._connection is not None:
                    await self._gone.wait()
        finally:
            if self.session is not None:
                await self.session.close()


class Channel(asyncssh.SSHServerSession[bytes]):
    """One channel and the service that runs on it."""

    def __init__(self, visitor: Visitor, session: Session) -> None:
        self.ended = asyncio.Event()
        self._visitor = visitor
        self._session = session
        self._chan: PortalChannel | None = None
        self._service: Service | None = None
        self._refused = False
        self._full = False  # the client's window, or our buffer for it
        self._congested = False

    # --- seen from asyncssh ------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Begin."""
        if not isinstance(chan, PortalChannel):  # ours makes no other
            raise TypeError(chan)
        self._chan = chan
        chan.set_write_buffer_limits(high=_WRITE_BUFFER)

    def subsystem_requested(self, subsystem: str) -> bool:
        """Take `sftp`."""
        if subsystem != "sftp":
            return False
        self._service = SftpService(
            self._session,
            self,
            places=self._visitor.places,
            clock=self._visitor.portal.clock,
            threads=self._visitor.portal.threads,
        )
        return True

    def exec_requested(self, command: str) -> bool:
        """Take `scp`; anything else ends with status 1."""
        parsed = parse_scp(command)
        if parsed is None:
            self._refused = True
            return True
        if not self._session.admits(Protocol.SCP):
            self._refused = True
            return True
        if not self._visitor.channels:
            self._session.using(Protocol.SCP)
        self._service = ScpService(self._session, self, parsed)
        return True

    def session_started(self) -> None:
        """Run the service."""
        if self._refused or self._service is None:
            self.write_error(_COMMANDS_ONLY)
            self._exit(1)
            return
        self._visitor.channels.add(self)
        self.spawn(self._serve(self._service), "ssh-channel")

    async def _serve(self, service: Service) -> None:
        status = 1
        try:
            status = await service.serve()
        finally:
            self._visitor.channels.discard(self)
            self._exit(status)
            self.ended.set()

    def _exit(self, status: int) -> None:
        if self._chan is not None:
            self._chan.exit(status)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Pass on what came."""
        if self._service is not None:
            self._service.received(data)

    def eof_received(self) -> bool:
        """Pass on that no more will come; answers may still go out."""
        if self._service is not None:
            self._service.finished()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the channel is gone."""
        self._visitor.opened -= 1
        self.lost()

    def pause_writing(self) -> None:
        """Let the service wait."""
        self._full = True
        self._tell()

    def resume_writing(self) -> None:
        """Let the service go on."""
        self._full = False
        self._tell()

    # --- seen from the connection ------------------------------------------------------------

    def congested(self, congested: bool) -> None:
        """Note whether the client fails to read the connection."""
        self._congested = congested
        self._tell()

    def _tell(self) -> None:
        if self._service is not None:
            self._service.blocked(self._full or self._congested)

    def lost(self, patience: float = LEAVE_SECONDS) -> None:
        """Tell the service that its channel is gone."""
        self._chan = None
        if self._service is not None:
            self._service.lost(patience)

    @property
    def running(self) -> bool:
        """Whether the client waits for an answer."""
        return self._service is not None and self._service.running

    @property
    def busy(self) -> bool:
        """Whether something would be cut off by ending now."""
        return self._service is not None and self._service.busy

    # --- seen from the service ---------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send data; dropped when the channel is gone."""
        if self._chan is not None and not self._chan.is_closing():
            self._chan.send(data)

    def write_error(self, text: str) -> None:
        """Send a line to the client's standard error."""
        if self._chan is not None and not self._chan.is_closing():
            self._chan.write_stderr(text.encode())

    def pause(self) -> None:
        """Take no more from the client."""
        if self._chan is not None:
            self._chan.pause_reading()

    def resume(self) -> None:
        """Take from the client again."""
        if self._chan is not None:
            self._chan.resume_reading()

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside, at most until the connection ends."""
        return self._visitor.spawn(work, name)


def _lines(text: str) -> str:
    """Return a text as SSH wants it, ending like a line."""
    return "\r\n".join(text.splitlines()) + "\r\n"
