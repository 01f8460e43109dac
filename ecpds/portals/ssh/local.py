"""SFTP for programs of this machine: a Unix socket behind which `ecpds sftp-stdio` stands.

The system's own sshd can so carry SFTP into the portal, which is then what sftp-server is to it:
sshd has found out who comes, the portal makes all other checks of a login.  Only root and the user
that the node runs as are listened to; they could read everything anyway.

A client sends one line of JSON (`Hello`), gets one line back - empty, or why not - and speaks SFTP
from there.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger, log_context
from ecpds.base.settings import SftpSettings
from ecpds.base.threads import Threads
from ecpds.model.account import Protocol
from ecpds.model.decode import decode, opt
from ecpds.model.errors import ConfigError, EcpdsError, InputError, Unauthenticated
from ecpds.portals.listener import Listener, canonical, connected
from ecpds.portals.ssh.handles import Places
from ecpds.portals.ssh.link import LEAVE_SECONDS, STOP_SECONDS
from ecpds.portals.ssh.narrow import Narrowing, NarrowSftp, narrowing
from ecpds.portals.ssh.sftp import SftpService
from ecpds.vfs.contract import Gate, Session, Vouched, client_text

log = get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"
LONGEST_HELLO: Final = 4096  # bytes
_LOOK: Final = timedelta(seconds=1)  # between looks at idle and closing sessions
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_WRITE_BUFFER: Final = 512 * 1024  # bytes before the service waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client says first."""

    user: str = opt("", "Data user.")
    peer: str = opt("", "Address that sshd saw; empty: this machine.")
    read_only: bool = opt(False, "Change nothing.")
    allow: tuple[str, ...] = opt((), "The only requests to take; empty: all.")
    deny: tuple[str, ...] = opt((), "Requests not to take.")


class LocalDoor:
    """Listens on the socket, if there is to be one."""

    def __init__(self, gate: Gate, settings: SftpSettings, threads: Threads, clock: Clock) -> None:
        self.settings = settings
        self._gate = gate
        self._threads = threads
        self._clock = clock
        self._path = settings.local_socket
        self._listener = _UnixListener(
            self._path, self._serve, clock=clock, cap=settings.max_connections
        )
        self._draining = False
        self._patience = LEAVE_SECONDS

    async def start(self) -> None:
        """Listen; raise ConfigError when that cannot be."""
        await self._listener.start()

    def stop(self) -> None:
        """Stop listening."""
        if self._path and self._listener.listening:
            with suppress(OSError):
                Path(self._path).unlink()
        self._listener.stop()

    async def drain(self) -> None:
        """Return when the last client has left; idle ones are sent away."""
        self._draining = True
        self.stop()
        await self._listener.drain()

    async def close(self) -> None:
        """End all connections; open uploads are parked, not registered."""
        self._patience = STOP_SECONDS
        self.stop()
        await self._listener.close()

    async def _serve(self, sock: socket.socket, _: str) -> None:
        asked = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(asked)[1]
        if uid not in {0, os.geteuid()}:
            log.warning("a stranger at the local socket was sent away", uid=uid)
            return
        async with asyncio.TaskGroup() as group:
            guest = Guest(group)
            wait = self.settings.auth_timeout
            await connected(lambda: guest, sock, None, wait)
            try:
                await self._entertain(guest, wait)
            finally:
                await guest.leave()

    async def _entertain(self, guest: Guest, wait: timedelta) -> None:
        try:
            async with asyncio.timeout(wait.total_seconds()):
                hello, narrow = _read(await guest.line())
            peer = _address(hello.peer)
            with log_context(peer=peer):
                session = await self._gate.login(
                    hello.user, Vouched(), protocol=Protocol.SFTP, peer=peer
                )
        except Unauthenticated as error:
            guest.say(client_text(error))
            return
        except EcpdsError as error:
            guest.say(error.message)
            return
        except TimeoutError:
            return
        async with session:
            guest.say("")
            await self._serve_sftp(guest, session, narrow)

    async def _serve_sftp(self, guest: Guest, session: Session, narrow: Narrowing) -> None:
        kind = NarrowSftp if narrow else SftpService
        service = kind(session, guest, places=Places(), clock=self._clock, threads=self._threads)
        if isinstance(service, NarrowSftp):
            service.narrowing = narrow
        guest.begin(service)
        watch = guest.spawn(self._watch(guest, session, service), "sftp-stdio-watch")
        try:
            await service.serve()
        finally:
            watch.cancel()
            service.lost(self._patience)

    async def _watch(self, guest: Guest, session: Session, service: SftpService) -> None:
        """Hang up when one of our limits says so."""
        idle, seen, since = self.settings.idle_timeout, guest.received, self._clock.now()
        while not guest.gone.is_set():
            now = self._clock.now()
            await self._clock.wait(guest.gone, now + _LOOK)
            if guest.received != seen or service.running:
                seen, since = guest.received, now
                session.touch()
            is_idle = now - since > idle
            if session.closing or is_idle or (self._draining and not service.busy):
                guest.hang_up()
                return


class Guest(asyncio.Protocol):
    """One connection: the link of its SFTP service."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.gone = asyncio.Event()
        self.received = 0  # bytes
        self._group = group
        self._transport: asyncio.Transport | None = None
        self._first = bytearray()  # what came before the service began
        self._has_line = asyncio.Event()
        self._service: SftpService | None = None
        self._is_finished = False

    # --- seen from the loop ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self.received += len(data)
        if self._service is not None:
            self._service.received(data)
            return
        self._first += data
        if b"\n" in data:
            self._has_line.set()
            self.pause()
        elif len(self._first) > LONGEST_HELLO:
            self.hang_up()

    def eof_received(self) -> bool:
        """Pass on that no more will come; answers may still go out."""
        self._is_finished = True
        self._has_line.set()
        if self._service is not None:
            self._service.finished()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the client is gone."""
        self.gone.set()
        self._has_line.set()
        if self._service is not None:
            self._service.lost()

    def pause_writing(self) -> None:
        """Let the service wait."""
        if self._service is not None:
            self._service.blocked(True)

    def resume_writing(self) -> None:
        """Let the service go on."""
        if self._service is not None:
            self._service.blocked(False)

    # --- seen from the door ------------------------------------------------------------------

    async def line(self) -> bytes:
        """Return the first line; what follows waits for the service."""
        await self._has_line.wait()
        line, newline, rest = bytes(self._first).partition(b"\n")
        if not newline or len(line) > LONGEST_HELLO:
            raise InputError("that is no first line")
        self._first = bytearray(rest)
        return line

    def say(self, text: str) -> None:
        """Answer the first line."""
        self.write(" ".join(text.split()).encode() + b"\n")

    def begin(self, service: SftpService) -> None:
        """Give what comes to the service."""
        self._service = service
        self.resume()
        if self._first:
            service.received(bytes(self._first))
            self._first.clear()
        if self._is_finished:
            service.finished()
        if self.gone.is_set():
            service.lost()

    def hang_up(self) -> None:
        """End the connection; what waits to be sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    async def leave(self) -> None:
        """End the connection after what waits to be sent, but not after a long time."""
        if self._transport is not None:
            self._transport.close()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.gone.wait()
        except TimeoutError:
            self.hang_up()

    # --- seen from the service ---------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send data; dropped when the client is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_error(self, text: str) -> None:
        """SFTP says nothing beside."""

    def pause(self) -> None:
        """Take no more from the client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take from the client again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside, at most until the connection ends."""
        return self._group.create_task(work, name=name)


class _UnixListener(Listener):
    """Listens on a path; one that a dead process left is taken over."""

    async def _bind(self, spec: str) -> list[socket.socket]:
        try:
            return [_listening(spec)]
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"portal.sftp.local_socket {spec} cannot be used: {reason}"
            ) from error


def _listening(spec: str) -> socket.socket:
    path = Path(spec)
    if path.is_socket():
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(spec)
        path.chmod(0o600)
        sock.setblocking(False)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _read(line: bytes) -> tuple[Hello, Narrowing]:
    try:
        said = json.loads(line)
    except ValueError:
        raise InputError("the first line is not JSON") from None
    hello = decode(Hello, said)
    return hello, narrowing(read_only=hello.read_only, allowed=hello.allow, refused=hello.deny)


def _address(said: str) -> str:
    try:
        return canonical(said)
    except ValueError:
        return LOOPBACK
