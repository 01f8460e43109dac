"""The control connection: command lines in, replies out, in bounded memory.

It reads while a transfer runs, so that ABOR and a client that went away are noticed at once;
other lines wait.  When a client sends more lines than fit, we stop reading until some are done.

Spec: RFC 959 section 4.1.3 (Telnet signals before ABOR), RFC 4217 section 4 (AUTH).
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
from collections.abc import Callable
from typing import Final

from ecpds.model.errors import ConnectionLost, EcpdsError, InputError, Phase
from ecpds.portals.ftp.tls import MORE, TlsLayer

MAX_LINE: Final = 4096  # bytes with the line end
READ_SIZE: Final = 4096
MAX_WAITING: Final = 16_384  # bytes of lines not yet obeyed
MAX_UNSENT: Final = 262_144  # bytes of replies; above this the next command waits

_TELNET: Final = re.compile(rb"\xff(?:[\xfb-\xfe].|[\xf0-\xfa]|\xff)?", re.DOTALL)
_ABORT: Final = re.compile(rb"(?:^|\n)(?:\xff[\xf0-\xff])*[\xf2\xff]*ABOR\r?\n", re.IGNORECASE)
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class ControlChannel:
    """Lines and replies of one client."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # ABOR comes with urgent data
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._lines = bytearray()
        self._skipping = False  # inside a line that is too long
        self._unsent = bytearray()
        self._replies = bytearray()  # clear text, not yet encrypted or sent
        self._tls: TlsLayer | None = None
        self._scratch = memoryview(bytearray(READ_SIZE))
        self._waiter: asyncio.Future[None] | None = None
        self._reading = self._writing = False
        self.ended = False
        self._on_abort: Callable[[], None] | None = None
        self._on_end: Callable[[], None] | None = None
        self._interruption: EcpdsError | None = None
        self._read(on=True)

    @property
    def secure(self) -> bool:
        """Whether TLS protects this connection."""
        return self._tls is not None

    # ---- in

    def line_now(self) -> str | None:
        """Return the next command line without its end, None when there is none yet.

        Raises:
            ConnectionLost: the client went away and no complete line is left.
            InputError: the line is too long, not UTF-8 or has control characters.
            EcpdsError: what `interrupt` said.
        """
        if self._interruption is not None:
            raise self._interruption
        raw = self._next_line()
        if raw is not None:
            return _checked(raw)
        if self.ended:
            raise ConnectionLost("the client closed the control connection")
        return None

    async def line(self) -> str:
        """Return the next command line as `line_now`, wait for it; give it a timeout."""
        while (found := self.line_now()) is None:
            self.flush()
            await self._news()
        return found

    def interrupt(self, error: EcpdsError) -> None:
        """Make whoever waits for a line get `error`, instead of the lines that wait."""
        self._interruption = error
        self._wake()

    def watch(
        self,
        on_abort: Callable[[], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Call these when ABOR comes or the client goes, or at once if that has happened."""
        self._on_abort, self._on_end = on_abort, on_end
        if self.ended and on_end is not None:
            on_end()
        self._look_for_abort()

    def _look_for_abort(self) -> None:
        if self._on_abort is not None and self._lines and _ABORT.search(self._lines):
            self._on_abort()

    def _next_line(self) -> bytes | None:
        end = self._lines.find(b"\n")
        if end < 0:
            if len(self._lines) > MAX_LINE:
                self._lines.clear()
                self._skipping = True
            self._resume()
            return None
        raw = bytes(self._lines[:end])
        del self._lines[: end + 1]
        self._resume()
        if self._skipping or end >= MAX_LINE:
            self._skipping = False
            raise InputError(f"a command line has at most {MAX_LINE} bytes")
        return raw

    def _resume(self) -> None:
        if not self._reading and not self.ended and len(self._lines) < MAX_WAITING:
            self._read(on=True)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end()
        elif self._tls is None:
            self._lines += data
        else:
            self._decrypt(self._tls, data)
        if len(self._lines) >= MAX_WAITING:
            self._read(on=False)
        self._look_for_abort()
        self._wake()

    def _decrypt(self, tls: TlsLayer, data: bytes) -> None:
        tls.feed(data)
        if not tls.established:
            return  # start_tls goes on
        try:
            while (count := tls.read_into(self._scratch)) > 0:
                self._lines += self._scratch[:count]
        except ConnectionLost:
            count = 0
        self._unsent += tls.take()  # a key update asks for an answer
        if count != MORE:
            self._end()

    async def settle(self, seconds: float) -> None:
        """Wait for the client to go away, or to prove by its next command that it lives."""
        try:
            async with asyncio.timeout(seconds):
                while not self.ended and b"\n" not in self._lines:
                    await self._news()
        except TimeoutError:
            return

    def is_alive(self) -> bool:
        """Tell whether the client still holds this connection, as the kernel knows it now."""
        if self.ended:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        if any(events & _HUNG_UP for _, events in poll.poll(0)):
            return False
        if self._tls is not None:
            self._readable()  # close_notify may have come without FIN
        return not self.ended

    # ---- out

    def put(self, reply: str) -> None:
        """Queue one reply, complete with line ends; it leaves with the next `flush`."""
        self._replies += reply.encode()

    def flush(self) -> None:
        """Send what is queued as far as the client takes it; the rest follows by itself."""
        if self.ended:
            self._replies.clear()
            self._unsent.clear()
            return
        if self._replies:
            if self._tls is None:
                self._unsent += self._replies
            else:
                self._tls.write(bytes(self._replies))
                self._unsent += self._tls.take()
            self._replies.clear()
        if self._unsent and not self._writing:
            self._send()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end()
            return
        del self._unsent[:sent]
        if bool(self._unsent) != self._writing:
            self._write(on=bool(self._unsent))
        self._wake()

    @property
    def has_room(self) -> bool:
        """Whether the client took so many of the replies that the next command may run."""
        return len(self._unsent) + len(self._replies) <= MAX_UNSENT

    async def room(self, limit: int = MAX_UNSENT) -> None:
        """Return when at most `limit` bytes of replies wait; give it a timeout.

        Raises:
            ConnectionLost: the client went away.
        """
        self.flush()
        while len(self._unsent) > limit:
            if self.ended:
                raise ConnectionLost("the client closed the control connection")
            await self._news()

    # ---- TLS and the end

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Become secure; whatever the client sent in clear text before is thrown away.

        Give it a timeout.

        Raises:
            ConnectionLost: the client went away, or there is no agreement.
        """
        self.flush()
        self._lines.clear()
        self._tls = TlsLayer(context)
        try:
            await self._handshake(self._tls)
        except BaseException:
            self._end()  # neither clear text nor TLS can be spoken now
            raise
        self._decrypt(self._tls, b"")  # what came together with the last handshake message

    async def _handshake(self, tls: TlsLayer) -> None:
        done = False
        while not done:
            try:
                done = tls.handshake()
            finally:
                self._unsent += tls.take()
                self.flush()
            if self.ended:
                raise ConnectionLost("the client went away in the handshake", phase=Phase.TLS)
            if not done:
                await self._news()

    def close(self) -> None:
        """Say good-bye and let go of the socket, which the owner closes."""
        if self._tls is not None and self._tls.established and not self.ended:
            self.flush()
            self._tls.end()
            self._unsent += self._tls.take()
        self.flush()
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._read(on=False)
        self._write(on=False)
        if self._on_end is not None:
            self._on_end()
        self._wake()

    # ---- readiness

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read(self, *, on: bool) -> None:
        if on and not self._reading:
            self._loop.add_reader(self._sock, self._readable)
        elif not on and self._reading:
            self._loop.remove_reader(self._sock)
        self._reading = on

    def _write(self, *, on: bool) -> None:
        if on and not self._writing:
            self._loop.add_writer(self._sock, self._send)
        elif not on and self._writing:
            self._loop.remove_writer(self._sock)
        self._writing = on


def _checked(raw: bytes) -> str:
    raw = raw.removesuffix(b"\r")
    if b"\xff" in raw or raw.startswith(b"\xf2"):
        raw = _TELNET.sub(b"", raw).removeprefix(b"\xf2")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InputError("commands and names are UTF-8") from None
    if not text.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" for c in text):
        raise InputError("control characters are refused")
    return text
