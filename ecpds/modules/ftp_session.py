"""One login at an FTP server: greeting, TLS, identity, abilities, working directory.

The certificate is checked against the configured name even when we connect to an address.

Spec: RFC 959, RFC 2389 (FEAT), RFC 2640 (UTF8), RFC 4217 (AUTH TLS, PBSZ, PROT).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace

from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteTimeout,
    RemoteTransient,
)
from ecpds.modules.ftp_control import Control, argument, refusal
from ecpds.modules.ftp_flow import GRACE, Flows, Limits, Link
from ecpds.modules.ftp_options import FtpOptions
from ecpds.modules.trust import ClientContext, identity_of, shared_context, tls_error
from ecpds.transfer.contract import Identity, Surroundings, Target
from ecpds.transfer.sockets import open_socket


class FtpSession:
    """A control connection that is logged in."""

    def __init__(self, target: Target, options: FtpOptions, around: Surroundings) -> None:
        times = target.timeouts
        command = (options.comm_timeout or times.command).total_seconds()
        data = (options.data_timeout or times.stall).total_seconds()
        limits = Limits(
            connect=times.connect.total_seconds(),
            command=command,
            data=data,
            final=command if options.comm_timeout else max(command, data),
            opening=(options.port_timeout or times.connect).total_seconds(),
            close=times.close.total_seconds(),
        )
        tuning = replace(
            target.sockets,
            send_buffer=options.send_buffer or target.sockets.send_buffer,
            receive_buffer=options.receive_buffer or target.sockets.receive_buffer,
            local_address=options.listen_address or target.sockets.local_address,
        )
        self.target = replace(target, sockets=tuning)
        self.options = options
        self.limits = limits
        self.control = Control(target.host, timeout=limits.command, encoding=options.encoding)
        self.abilities: dict[str, str] = {}
        self.link = Link(self.target, options, around, limits, self.control)
        self.flows = Flows(self.link)
        self._around = around
        self._home: str | None = None

    # --- login ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and log in; what was opened is released on failure."""
        try:
            async with asyncio.timeout(self.limits.connect):
                await self._open()
        except TimeoutError:
            self.control.abort()
            raise RemoteTimeout(
                f"no login at {self.target.host} within {self.limits.connect:g} s",
                phase=Phase.CONNECT,
            ) from None
        except ssl.SSLError as error:
            self.control.abort()
            raise tls_error(error, self.target.host) from error
        except OSError as error:
            self.control.abort()
            raise ConnectionLost(
                f"{self.target.host}: {error.strerror or error}", phase=Phase.CONNECT
            ) from error
        except BaseException:
            self.control.abort()
            raise

    async def certificate(self) -> Identity | None:
        """Return what the server shows before any login, then hang up; None without TLS."""
        if self.options.connection_type == "FTP":
            return None
        try:
            async with asyncio.timeout(self.limits.connect):
                await self._greet()
            assert self.control.transport is not None  # noqa: S101
            return identity_of(self.control.transport)
        except TimeoutError:
            raise RemoteTimeout("no certificate in time", phase=Phase.TLS) from None
        except ssl.SSLError as error:
            raise tls_error(error, self.target.host) from error
        except OSError as error:
            raise ConnectionLost(f"{self.target.host}: {error}", phase=Phase.TLS) from error
        finally:
            self.control.abort()

    async def _open(self) -> None:
        await self._greet()
        await self._login()
        if self.options.connection_type != "FTP":
            await self._protect()
        await self._prepare()

    async def _greet(self) -> None:
        kind = self.options.connection_type
        if kind != "FTP":
            self.link.context = await shared_context(
                self._around, self.target.tls, minimum=self.options.protocol
            )
        sock = await open_socket(self.target, self.options.control_port, self._around)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.peer, self.link.local = sock.getpeername()[0], sock.getsockname()[0]
        self.link.family = sock.family
        await self._attach(sock, self.link.context if kind == "FTPS" else None)
        await self._greeting()
        if kind == "FTPES":
            await self._start_tls()

    async def _attach(self, sock: socket.socket, context: ClientContext | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: self.control,
                sock=sock,
                ssl=context,
                server_hostname=self.target.host if context else None,
                ssl_shutdown_timeout=self.limits.close if context else None,
            )
        except BaseException:
            sock.close()
            raise

    async def _greeting(self) -> None:
        reply = await self.control.reply()
        while reply.preliminary:  # 120: ready in a few minutes
            reply = await self.control.reply()
        if not reply.positive:
            raise refusal(reply, "the server greets", Phase.CONNECT)

    async def _start_tls(self) -> None:
        reply = await self.control.ask("AUTH TLS")
        if reply.code >= 500:
            raise RemoteConfig(
                f"the server offers no TLS: {reply.code} {reply.text}",
                phase=Phase.TLS,
                remote_code=str(reply.code),
                remote_text=reply.text,
            )
        if not reply.positive:
            raise refusal(reply, "AUTH TLS", Phase.TLS)
        if self.control.drop_unread():  # somebody on the way may have put replies in
            raise ConnectionLost("clear text came after AUTH TLS", phase=Phase.TLS)
        context = self.link.context
        assert context is not None and self.control.transport is not None  # noqa: S101, PT018
        self.control.transport = await asyncio.get_running_loop().start_tls(
            self.control.transport,
            self.control,
            context,
            server_hostname=self.target.host,
            ssl_shutdown_timeout=self.limits.close,
        )

    async def _login(self) -> None:
        login = argument(self.options.login or self.target.login) or "anonymous"
        password = self.options.password or self.target.password
        reply = await self.control.ask(f"USER {login}")
        if reply.code in (331, 332) and self.options.no_password:
            raise RemoteAuth(
                f"the server wants a password: {reply.code} {reply.text}", phase=Phase.AUTH
            )
        if reply.code == 331:
            reply = await self.control.ask(f"PASS {password.reveal()}", secret=True)
        if reply.code < 300:
            return
        error = refusal(reply, "login", Phase.AUTH)
        if 400 <= reply.code < 500 or (reply.code >= 500 and isinstance(error, RemoteTransient)):
            raise error
        raise RemoteAuth(
            error.message,
            phase=Phase.AUTH,
            remote_code=error.remote_code,
            remote_text=error.remote_text,
        )

    async def _protect(self) -> None:
        for command in ("PBSZ 0", "PROT P"):
            reply = await self.control.ask(command)
            if not reply.positive:
                raise RemoteConfig(
                    f"{command}: {reply.code} {reply.text}",
                    phase=Phase.TLS,
                    remote_code=str(reply.code),
                    remote_text=reply.text,
                )

    async def _prepare(self) -> None:
        reply = await self.control.ask("FEAT")
        if reply.positive:
            for line in reply.lines[1:-1]:
                name, _, rest = line.strip().partition(" ")
                self.abilities[name.upper()] = rest
        if "UTF8" in self.abilities and self.options.encoding.lower() in ("utf-8", "utf8"):
            await self.control.ask("OPTS UTF8 ON")  # some servers want it, some refuse it
        await self.control.demand("TYPE I", "TYPE I", Phase.CONNECT)
        await self._enter(self.options.cwd or self.target.directory)
        await self.hooks(self.options.post_connect, "")

    async def _enter(self, directory: str) -> None:
        """Change to the working directory; make it when it is missing and may be made."""
        if not directory:
            return
        reply = await self.control.ask(f"CWD {argument(directory)}")
        if reply.code in (550, 501, 553, 431) and self.options.mkdirs:
            parts = directory.strip("/").split("/")
            root = "/" if directory.startswith("/") else ""
            for count in range(1, len(parts) + 1):
                await self.control.ask(f"MKD {root}{'/'.join(parts[:count])}")
            reply = await self.control.ask(f"CWD {directory}")
        if not reply.positive:
            raise refusal(reply, f"CWD {directory}", Phase.CWD)

    async def close(self) -> None:
        """Say good-bye; never raises."""
        control = self.control
        try:
            if control.quiet and not self.link.spoilt:
                async with asyncio.timeout(min(self.limits.close, GRACE)):
                    await self.hooks(self.options.pre_close, "")
                    await control.ask("QUIT")
        except (RemoteError, TimeoutError):
            pass
        finally:
            control.abort()

    # --- small acts -------------------------------------------------------------------------

    async def hooks(self, commands: str, name: str) -> None:
        """Send the commands of an option; raises when one is refused."""
        for command in filter(None, (part.strip() for part in commands.split(";"))):
            text = command.replace("$filename", argument(name))
            await self.control.demand(text, command, Phase.HOOK)

    async def around_mkdir(self, commands: str, path: str) -> None:
        """Send the commands around the making of a directory."""
        uid = self.options.login or self.target.login
        for command in filter(None, (part.strip() for part in commands.split(";"))):
            text = command.replace("$dirname", argument(path)).replace("$uid", argument(uid))
            try:
                await self.control.demand(text, command, Phase.HOOK)
            except RemoteError:
                if self.control.broken or not self.options.ignore_mkdirs_errors:
                    raise

    async def is_directory(self, path: str) -> bool:
        """Tell whether `path` can be entered; the working directory stays the same."""
        home = await self._home_directory()
        reply = await self.control.ask(f"CWD {argument(path)}")
        if not reply.positive:
            return False
        await self.go_home(home)
        return True

    async def enter(self, path: str) -> str | None:
        """Make `path` the working directory; return the way back for `go_home`, None if refused."""
        home = await self._home_directory()
        reply = await self.control.ask(f"CWD {argument(path)}")
        return home if reply.positive else None

    async def go_home(self, home: str) -> None:
        """Return to the working directory; without it no relative name would be right."""
        reply = await self.control.ask(f"CWD {home}")
        if not reply.positive:
            self.control.abort()
            raise refusal(reply, "CWD back", Phase.CWD)

    async def _home_directory(self) -> str:
        if self._home is None:
            reply = await self.control.demand("PWD", "PWD", Phase.CWD)
            _, _, rest = reply.lines[0].partition('"')
            path, mark, _ = rest.rpartition('"')
            if not mark:
                raise RemoteTransient("no path in the answer to PWD", phase=Phase.CWD)
            self._home = path.replace('""', '"')
        return self._home
