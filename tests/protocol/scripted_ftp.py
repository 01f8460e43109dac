"""An FTP server that says what a test wants: right answers by default, any other by script.

    async with ScriptedFtp() as server:
        server.answers["STOR"] = [b"552 no space\\r\\n"]
        async with server.session() as module: ...
        assert server.commands[-1] == "QUIT"

It has one directory in memory. A script for a verb is a list of answers, one for each time the verb
comes (the last one stays); an answer is bytes, `None` for silence, or a coroutine function that
gets the session and the argument.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.secret import Secret
from ecpds.modules.ftp import FtpModule
from ecpds.modules.ftp_options import FtpOptions
from ecpds.transfer.contract import Surroundings, Target, Timeouts

Answer = bytes | None | Callable[["Session", str], Awaitable[None]]

FEATURES = "211-Features:\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n EPSV\r\n211 End\r\n"


class Session:
    """One control connection as the server sees it."""

    def __init__(
        self, server: ScriptedFtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.offset = 0
        self.data: socket.socket | None = None
        self._listener: socket.socket | None = None

    def say(self, text: str) -> None:
        """Send one reply."""
        self.writer.write(text.encode() + b"\r\n")

    async def listen(self) -> int:
        """Open the door for the data connection; return its port."""
        self.close_data()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        return int(self._listener.getsockname()[1])

    async def accept(self) -> socket.socket:
        """Return the data connection."""
        assert self._listener is not None
        self.data, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        return self.data

    async def receive(self, limit: int | None = None) -> bytes:
        """Read the data connection to its end, or until `limit` bytes have come."""
        assert self.data is not None
        got = b""
        while limit is None or len(got) < limit:
            with suppress(ConnectionResetError):
                if block := await asyncio.get_running_loop().sock_recv(self.data, 65536):
                    got += block
                    continue
            break
        return got

    async def send(self, content: bytes) -> None:
        """Write into the data connection and close it."""
        assert self.data is not None
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self.data, content)
        self.close_data()

    def close_data(self) -> None:
        """Close the data connection and its door."""
        for sock in (self.data, self._listener):
            if sock is not None:
                sock.close()
        self.data = self._listener = None

    async def serve(self) -> None:
        """Answer commands until the client leaves."""
        try:
            await self._answer("GREETING", "")
            while line := await self.reader.readline():
                verb, _, rest = line.decode(errors="surrogateescape").rstrip("\r\n").partition(" ")
                self.server.commands.append(f"{verb} {rest}".rstrip())
                await self._answer(verb.upper(), rest)
                if verb.upper() == "QUIT":
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.close_data()
            self.writer.close()

    async def _answer(self, verb: str, rest: str) -> None:
        script = self.server.answers.get(verb)
        if script:
            answer = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(answer, bytes):
                self.writer.write(answer)
            elif answer is not None:
                await answer(self, rest)
        else:
            await getattr(self, f"do_{verb.lower()}", self.do_unknown)(rest)
        await self.writer.drain()

    # default answers

    async def do_unknown(self, rest: str) -> None:
        self.say("502 not known here")

    async def do_greeting(self, rest: str) -> None:
        self.say("220 scripted")

    async def do_user(self, rest: str) -> None:
        self.say("331 password please")

    async def do_pass(self, rest: str) -> None:
        self.say("230 welcome")

    async def do_feat(self, rest: str) -> None:
        self.writer.write(FEATURES.encode())

    async def do_type(self, rest: str) -> None:
        self.say("200 fine")

    async def do_noop(self, rest: str) -> None:
        self.say("200 noop")

    async def do_pwd(self, rest: str) -> None:
        self.say('257 "/" is here')

    async def do_cwd(self, rest: str) -> None:
        self.say("250 there")

    async def do_epsv(self, rest: str) -> None:
        self.say(f"229 Extended (|||{await self.listen()}|)")

    async def do_pasv(self, rest: str) -> None:
        port = await self.listen()
        self.say(f"227 Passive (127,0,0,1,{port // 256},{port % 256})")

    async def do_rest(self, rest: str) -> None:
        self.offset = int(rest)
        self.say("350 noted")

    async def do_stor(self, rest: str) -> None:
        self.say("150 go on")
        await self.accept()
        content = await self.receive()
        kept = self.server.files.get(rest, b"")[: self.offset]
        self.server.files[rest] = kept + content
        self.offset = 0
        self.close_data()
        self.say("226 stored")

    async def do_appe(self, rest: str) -> None:
        self.offset = len(self.server.files.get(rest, b""))
        await self.do_stor(rest)

    async def do_retr(self, rest: str) -> None:
        if rest not in self.server.files:
            self.say("550 no such file")
            return
        content = self.server.files[rest]
        self.say(f"150 coming ({len(content)} bytes)")
        await self.accept()
        await self.send(content[self.offset :])
        self.offset = 0
        self.say("226 sent")

    async def do_list(self, rest: str) -> None:
        self.say("150 listing")
        await self.accept()
        line = "-rw-r--r-- 1 o g {} Mar 04  2025 {}\r\n"
        lines = (line.format(len(content), name) for name, content in self.server.files.items())
        await self.send("".join(lines).encode(errors="surrogateescape"))
        self.say("226 listed")

    async def do_nlst(self, rest: str) -> None:
        self.say("150 names")
        await self.accept()
        names = (f"{rest}/{name}" if rest else name for name in self.server.files)
        await self.send("".join(f"{name}\r\n" for name in names).encode())
        self.say("226 named")

    async def do_size(self, rest: str) -> None:
        found = self.server.files.get(rest.removeprefix("d/"))
        self.say("550 none" if found is None else f"213 {len(found)}")

    async def do_mdtm(self, rest: str) -> None:
        self.say("213 20250304050607")

    async def do_dele(self, rest: str) -> None:
        found = self.server.files.pop(rest, None)
        self.say("550 none" if found is None else "250 gone")

    async def do_rnfr(self, rest: str) -> None:
        self.renamed = rest
        self.say("350 and to?" if rest in self.server.files else "550 none")

    async def do_rnto(self, rest: str) -> None:
        self.server.files[rest] = self.server.files.pop(self.renamed)
        self.say("250 renamed")

    async def do_quit(self, rest: str) -> None:
        self.say("221 bye")


class ScriptedFtp:
    """The server; `port` is free, `files` is its directory, `commands` what it was told."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.commands: list[str] = []
        self.files: dict[str, bytes] = {}
        self.sessions: list[Session] = []
        self.port = 0
        self.around: Surroundings
        self._server: asyncio.Server
        self._threads: Threads
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    def verbs(self) -> list[str]:
        """Return the verbs that came, without those of the login."""
        login = {"USER", "PASS", "FEAT", "TYPE", "QUIT"}
        verbs = [command.partition(" ")[0] for command in self.commands]
        return [verb for verb in verbs if verb not in login]

    @asynccontextmanager
    async def session(
        self, *, timeouts: Timeouts | None = None, directory: str = "", **options: Any
    ) -> AsyncIterator[FtpModule]:
        """Give a session of the module with this server."""
        async with FtpModule.connect(
            self.target(timeouts or Timeouts(), directory),
            FtpOptions(port=self.port, **options),
            self.around,
        ) as module:
            yield module

    def target(self, timeouts: Timeouts, directory: str = "") -> Target:
        """Return where and as whom to connect."""
        return Target(
            host_name="scripted",
            host="127.0.0.1",
            login="me",
            password=Secret("geheim"),
            timeouts=timeouts,
            directory=directory,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        self.sessions.append(session)
        self._tasks.append(self._group.create_task(session.serve()))

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._threads = Threads()
        self.around = Surroundings(threads=self._threads, clock=SystemClock())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
        await self._server.wait_closed()
        await asyncio.to_thread(self._threads.close)
