"""One FTP client: its state, its command loop, its replies and its data connections.

Commands are obeyed one after the other; whatever the client sends meanwhile waits in the channel,
except ABOR.  The rules of the tree, rights and quotas are the session's business.

Spec: RFC 959, RFC 1123 section 4.1, RFC 4217; portal.md 3.1.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ecpds.base.logs import get_logger, log_context
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    InputError,
    InvalidName,
    Phase,
    Stopping,
    Unauthenticated,
)
from ecpds.portals.ftp import answers, facts
from ecpds.portals.ftp.channel import ControlChannel
from ecpds.portals.ftp.data import DataLink
from ecpds.portals.ftp.setups import Setup
from ecpds.portals.ftp.site import MAX_STRANGERS, Site
from ecpds.portals.listener import canonical
from ecpds.vfs.contract import Session

log = get_logger(__name__)

MAX_PATH: Final = 4096  # bytes of an absolute path, so that nested CWDs stay bounded
MAX_STRANGE_COMMANDS: Final = 50  # before login
MAX_LINGERING: Final = 8  # closed TLS data connections that wait for the client's side
LINGER: Final = 5.0  # seconds
LAST_WORDS: Final = 5.0  # seconds for logging out and for the last reply


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the command table."""

    run: Callable[[Connection, str], Awaitable[None]]
    needs_login: bool = True
    needs_argument: bool = False
    syntax: str = ""


class Connection:
    """The control connection of one client."""

    def __init__(
        self, site: Site, sock: socket.socket, peer: str, commands: Mapping[str, Command]
    ) -> None:
        self.site = site
        self.peer = peer
        self.family = sock.family
        self.bound: str = sock.getsockname()[0]  # our address, as the socket has it
        self.local = canonical(self.bound)
        self.channel = ControlChannel(sock)
        self._commands = commands
        self._context = ExitStack()  # what every line of the log has
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._link: DataLink | None = None
        self._lingering: dict[socket.socket, asyncio.TimerHandle] = {}
        self._login_by = self._loop.time() + site.settings.login_timeout.total_seconds()
        self._stop: Stopping | None = None
        self._is_stranger = False
        self._seen = 0
        self.leaving = False
        # login
        self.user = ""
        self.failures = 0
        # protection of data connections
        self.has_pbsz = self.protects = site.settings.tls == "implicit"
        # what earlier commands prepared
        self.directory = "/"
        self.offset = 0
        self.promise: int | None = None
        self.rename_from = ""
        self.setup: Setup | None = None
        self.setup_at = 0.0
        self.only_epsv = False
        self.facts = tuple(facts.FACTS)
        self.hash = "SHA-256"

    # ---- life

    async def run(self) -> None:
        """Serve the client until one of the two goes away."""
        with self._context:
            try:
                if await self._admitted():
                    await self._serve()
            except ConnectionLost as error:
                log.debug("client gone", reason=error.message)
            finally:
                await self._leave()

    async def _admitted(self) -> bool:
        site = self.site
        self._is_stranger = True
        site.strangers[self.peer] += 1
        if site.settings.tls == "implicit":
            await self.secure()
        try:
            await site.gate.check(self.peer)
        except EcpdsError as error:
            self.fail(error)
            return False
        if site.strangers[self.peer] > MAX_STRANGERS:
            self.reply(421, "Too many connections from your address")
            return False
        self.reply(220, *(site.gate.banner() or "Welcome").splitlines())
        return True

    async def _serve(self) -> None:
        while not self.leaving:
            try:
                line = await self._line()
            except InputError as error:
                self.reply(500, error.message)
                continue
            except TimeoutError:
                self.reply(421, "Timeout, closing the control connection")
                return
            except Stopping as error:
                self.fail(error)
                return
            await self.obey(line)
            await self.room()

    async def _line(self) -> str:
        if (line := self.channel.line_now()) is not None:
            return line
        if self._session is None:
            async with asyncio.timeout_at(self._login_by):
                return await self.channel.line()
        async with asyncio.timeout(self.site.settings.idle_timeout.total_seconds()):
            return await self.channel.line()

    async def room(self) -> None:
        """Wait until the client took most of the replies."""
        if self.channel.has_room:
            return
        try:
            async with asyncio.timeout(self.site.settings.data_timeout.total_seconds()):
                await self.channel.room()
        except TimeoutError:
            self.channel.close()
            raise ConnectionLost("the client does not read its replies") from None

    async def _leave(self) -> None:
        self.drop_setup()
        self.close_lingering()
        self._known()
        session, self._session = self._session, None
        try:
            async with asyncio.timeout(LAST_WORDS):
                if session is not None:
                    self.site.counts.sessions -= 1
                    await session.close()
                if not self.channel.ended:
                    await self.channel.room(0)
        except (TimeoutError, EcpdsError) as error:
            log.debug("no orderly end", reason=str(error))
        finally:
            self.channel.close()

    def _known(self) -> None:
        """Be no longer counted among those who have not logged in."""
        if self._is_stranger:
            self._is_stranger = False
            self.site.strangers[self.peer] -= 1
            if not self.site.strangers[self.peer]:
                del self.site.strangers[self.peer]

    def stop(self, reason: str, *, at_once: bool) -> None:
        """Hang up: now, or when the transfer that runs has ended."""
        if self._stop is None:
            self._stop = Stopping(reason)
            self.channel.interrupt(self._stop)
        if at_once and self._link is not None:
            self._link.interrupt(Stopping(reason))

    @property
    def is_closing(self) -> bool:
        """Whether an operator or a lost right ended the session."""
        return self._session is not None and self._session.closing

    # ---- commands and replies

    async def obey(self, line: str) -> None:
        """Do one command; every failure becomes a reply."""
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        self.site.counts.commands += 1
        log.debug("command", verb=verb, argument="***" if verb == "PASS" else argument)
        if (command := self._known_command(verb, argument)) is None:
            return
        if self._session is not None:
            self._session.touch()
        if verb != "RNTO":
            self.rename_from = ""
        try:
            await command.run(self, argument)
        except EcpdsError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - the next command may work
            log.error("command failed", exc=error, verb=verb)  # noqa: TRY400 - trace is in `exc`
            self.reply(451, "Local error, tell the operators")

    def _known_command(self, verb: str, argument: str) -> Command | None:
        """Return the command if it may run now; else reply."""
        command = self._commands.get(verb)
        if self._session is None:
            self._seen += 1
            if self._seen > MAX_STRANGE_COMMANDS:
                self.reply(421, "Too many commands without a login")
                self.leaving = True
                return None
        if command is None:
            self.reply(500, "Unknown command")
        elif command.needs_login and self._session is None:
            self.reply(530, "Not logged in")
        elif command.needs_argument and not argument:
            self.reply(501, f"Syntax: {verb} {command.syntax}")
        else:
            return command
        return None

    def reply(self, code: int, *lines: str) -> None:
        """Queue a reply; it leaves when we wait for something."""
        *first, last = lines
        self.channel.put("".join(f"{code}-{line}\r\n" for line in first) + f"{code} {last}\r\n")

    def fail(self, error: EcpdsError, *, login: bool = False) -> None:
        """Queue the reply that belongs to an error; hang up after a final one."""
        row = answers.answer(error, login=login)
        if row is answers.LOCAL:
            log.error("request failed", exc=error)
        self.reply(row.code, answers.text(error, row))
        self.leaving = self.leaving or row.final

    # ---- what commands work with

    @property
    def session(self) -> Session:
        """The session of the user who logged in."""
        if self._session is None:
            raise Unauthenticated("Not logged in")
        return self._session

    def enter(self, session: Session) -> None:
        """Take the session of a user who just logged in."""
        self._session = session
        self._context.enter_context(log_context(user=session.profile.user.login))
        self.site.counts.sessions += 1
        self.site.counts.logins += 1
        self.failures = 0
        self._known()

    @property
    def is_logged_in(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    def path(self, text: str) -> str:
        """Return the absolute form of a path that the client gave.

        Raises:
            InvalidName, NotFound: it has none.
        """
        path = self.session.absolute(text, base=self.directory)
        if len(path.encode()) > MAX_PATH:
            raise InvalidName(f"a path has at most {MAX_PATH} bytes")
        return path

    async def secure(self) -> None:
        """Begin TLS on the control connection."""
        if self.site.tls is None:
            raise ConnectionLost("there is no certificate", phase=Phase.TLS)
        try:
            async with asyncio.timeout_at(self._login_by):
                await self.channel.start_tls(self.site.tls())
        except TimeoutError:
            raise ConnectionLost("no TLS handshake in time", phase=Phase.TLS) from None

    # ---- data connections

    def prepare(self, setup: Setup) -> None:
        """Keep where the next data connection comes from, instead of an earlier one."""
        self.drop_setup()
        self.setup = setup
        self.setup_at = self._loop.time()

    def drop_setup(self) -> None:
        """Give back a passive port that was not used."""
        if self.setup is not None:
            self.setup.close()
            self.setup = None

    def drop_old_setup(self) -> None:
        """Give back a passive port that has not been used for long; others need it."""
        if self._loop.time() - self.setup_at > self.site.settings.data_timeout.total_seconds():
            self.drop_setup()

    def needs_setup(self) -> bool:
        """Reply and return True when no data connection was prepared, or not as it must be."""
        if self.site.needs_tls and not self.protects:
            self.reply(522, "Data connections need TLS: send PBSZ 0 and PROT P first")
        elif self.setup is None:
            self.reply(425, "Use EPSV or PASV first")
        else:
            return False
        return True

    @asynccontextmanager
    async def data(self, announcement: str) -> AsyncIterator[DataLink]:
        """Open the data connection and announce it; end it in order, or by a reset after errors.

        Raises:
            RemoteError: the client does not come, breaks off or is too slow, or sent ABOR.
        """
        setup, self.setup = self.setup, None
        if setup is None:
            raise ConnectionLost("Use EPSV or PASV first", phase=Phase.CONNECT)
        link = self._link = DataLink(
            setup,
            threads=self.site.threads,
            patience=self.site.settings.data_timeout,
            scratch=self.site.scratch,
            before_wait=self._before_wait,
        )
        self.site.counts.transfers += 1
        self.channel.watch(
            on_abort=partial(link.interrupt, ConnectionLost("aborted as you asked")),
            on_end=partial(link.interrupt, ConnectionLost("the control connection ended")),
        )
        try:
            await link.open()
            self.reply(150, announcement)
            if self.protects and self.site.tls is not None:
                reuse = self.site.settings.session_reuse
                await link.secure(self.site.tls(), needs_reuse=reuse)
            yield link
            sock = await link.finish()
            if sock is not None:
                self._linger(sock)
        except BaseException:
            self.site.counts.failed_transfers += 1
            raise
        finally:
            link.close(reset=True)  # nothing left to reset after an orderly end
            self.channel.watch()
            self.site.counts.transfers -= 1
            self._link = None

    def _before_wait(self) -> None:
        self.channel.flush()
        if self._session is not None:
            self._session.touch()

    def _linger(self, sock: socket.socket) -> None:
        if len(self._lingering) >= MAX_LINGERING:
            self._end_lingering(next(iter(self._lingering)))
        self._loop.add_reader(sock, self._drain, sock)
        self._lingering[sock] = self._loop.call_later(LINGER, self._end_lingering, sock)

    def _drain(self, sock: socket.socket) -> None:
        try:
            if sock.recv(4096):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            log.debug("reset after the end")
        self._end_lingering(sock)

    def _end_lingering(self, sock: socket.socket) -> None:
        timer = self._lingering.pop(sock, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_reader(sock)
            sock.close()

    def close_lingering(self) -> None:
        """Close the data connections that still wait for the client's side."""
        for sock in tuple(self._lingering):
            self._end_lingering(sock)
