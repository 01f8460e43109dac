"""An HTTP server that says what a test wants, byte by byte.

    async with ScriptedHttp() as server:
        server.routes["GET /f"] = answer(200, b"content", ETag='"1"')
        async with server.session() as module: ...
        assert server.asked == ["OPTIONS /", "GET /f"]

A route is found by method and path, without query; `*` stands for any path. What has no route gets
404. A handler may also be a coroutine function that gets the request and the writer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.secret import Secret
from ecpds.modules.http import HttpModule
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Surroundings, Target, Timeouts


@dataclass(slots=True)
class Request:
    """A request as it came; the body is read only by `read`."""

    method: str
    target: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    peer: str
    body: bytes = b""
    has_read: bool = field(default=False)

    @property
    def path(self) -> str:
        """The path without query."""
        return self.target.partition("?")[0]

    async def read(self) -> bytes:
        """Read the body."""
        self.has_read = True
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                self.body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            left = int(self.headers.get("content-length", "0"))
            self.body += await self.reader.readexactly(left)
        return self.body


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(
    status: int, body: bytes = b"", *, keep: bool = True, read: bool = True, **headers: str
) -> Handler:
    """Return a handler that answers so; underscores in header names stand for dashes."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if read:
            await request.read()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given.setdefault("Content-Length", str(len(body)))
        if not keep:
            given["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        writer.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode())
        writer.write(body if request.method != "HEAD" else b"")
        if not keep:
            writer.close()

    return handle


class ScriptedHttp:
    """The server; `port` is free, `requests` and `asked` tell what came."""

    def __init__(self, host: str = "127.0.0.1", *, context: ssl.SSLContext | None = None) -> None:
        self.host = host
        self._context = context
        self.routes: dict[str, Handler] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._threads = Threads()
        self.around = Surroundings(threads=self._threads, clock=SystemClock())
        self._server: asyncio.Server
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """The address without path."""
        return f"http://{self.host}:{self.port}"

    @property
    def asked(self) -> list[str]:
        """Method and target of every request."""
        return [f"{request.method} {request.target}" for request in self.requests]

    @asynccontextmanager
    async def session(
        self,
        *,
        timeouts: Timeouts | None = None,
        login: str = "me",
        directory: str = "",
        target: Target | None = None,
        **options: Any,
    ) -> AsyncIterator[HttpModule]:
        """Give a session of the module with this server."""
        known = target or Target(
            host_name="scripted",
            host=self.host,
            login=login,
            password=Secret("geheim" if login else ""),
            timeouts=timeouts or Timeouts(),
            directory=directory,
        )
        given = HttpOptions(**{"scheme": "http", "port": self.port, "dav": "no", **options})
        async with HttpModule.connect(known, given, self.around) as module:
            yield module

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.append(self._group.create_task(self._answer_all(reader, writer)))

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, UnicodeDecodeError):
                while head := await self._head(reader, writer):
                    await self._answer(head, writer)
                    await writer.drain()
                    if not head.has_read and head.method in ("PUT", "POST"):
                        while await reader.read(65536):  # as servers do that linger
                            pass
        finally:
            writer.close()

    async def _head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        if not (line := await reader.readline()):
            return None
        method, target, _ = line.decode().split(" ", 2)
        headers: dict[str, str] = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        peer = str(writer.get_extra_info("peername")[0])
        return Request(method, target, headers, reader, peer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        handler = self.routes.get(f"{request.method} {request.path}")
        handler = handler or self.routes.get(f"{request.method} *") or answer(404)
        await handler(request, writer)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
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
