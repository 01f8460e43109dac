"""One client connection: HTTP/1.1 between the transport and the handlers.

The parser is llhttp (httptools), which refuses what could be read in two ways: both lengths, folded
lines, bare line feeds, blanks before colons.  Bodies of known length do not pass through it.
Received bytes land in a buffer of ours: an upload is written to its file from where TLS put it.
Spec: RFC 9112; docs/decisions (own HTTP server for the portal).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

import httptools

from ecpds.portals.https.body import WireBody
from ecpds.portals.https.exchange import Ask, Body, NoBody
from ecpds.portals.https.head import HEAD, RequestHead

NO_BODY = NoBody()
PIPELINED = 32  # requests of one connection that may wait
WRITE_BUFFER = 512 * 1024  # bytes that may wait for the client
_SMALL = 16 * 1024  # receive buffer between bodies
_LARGE = 256 * 1024  # receive buffer of an upload


class Wire(asyncio.BufferedProtocol):
    """The protocol of one connection; `next` gives its requests in turn."""

    def __init__(self, peer: str, *, secure: bool, body_timeout: float) -> None:
        """`secure`: inside TLS.  `body_timeout`: seconds in which more of a body has to come."""
        self.peer = peer
        self.closed = asyncio.Event()
        self.leaving = False  # the present request is the last
        self._secure = secure
        self._body_timeout = body_timeout
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(_SMALL))
        self._parser = httptools.HttpRequestParser(self)
        self._head: RequestHead | None = None  # None between head and next message
        self._head_bytes = 0
        self._body: WireBody | None = None  # that is being received
        self._left = 0  # bytes of it that pass by the parser
        self._queue: deque[Ask] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._held = False
        self._deaf = False  # nothing more is read: the client broke the grammar
        self._ended = False  # the client sends no more

    # --- for the server ------------------------------------------------------------------

    async def next(self, timeout: float) -> Ask | None:
        """Return the next request; None when there is none in `timeout` seconds, or never."""
        until = self._loop.time() + timeout
        while not self._queue:
            if self.leaving or self._ended or self._deaf or self.closed.is_set():
                return None
            if self._loop.time() >= until:
                return None
            await self._wait(until)
        if len(self._queue) <= PIPELINED // 2:
            self._hold(False)
        return self._queue.popleft()

    async def _wait(self, until: float) -> None:
        """Return when something has happened, or at `until`."""
        self._wanted = self._loop.create_future()
        self._until = until
        if self._alarm is not None and self._alarm.when() > until:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:  # one timer serves many waits: most are short
            self._alarm = self._loop.call_at(until, self._ring)
        try:
            await self._wanted
        finally:
            self._wanted = None

    def _ring(self) -> None:
        self._alarm = None
        if self._wanted is None:
            return
        if self._loop.time() >= self._until:
            self._wake()
        else:
            self._alarm = self._loop.call_at(self._until, self._ring)

    def leave(self) -> None:
        """Take no further request; one that runs is finished."""
        self.leaving = True
        self._wake()

    @property
    def is_gone(self) -> bool:
        """Tell whether nothing can be written any more."""
        return self.closed.is_set() or self._transport is None or self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client."""
        if self._transport is None or self.closed.is_set():
            return 0  # asyncio's TLS transport has lost its protocol by then
        return self._transport.get_write_buffer_size()

    def write(self, *blocks: bytes | bytearray) -> None:
        """Send blocks; raise ConnectionResetError when the client has gone."""
        if self.is_gone or self._transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport.writelines(blocks)

    async def drain(self, timeout: float) -> None:
        """Return when the client has taken enough; raise TimeoutError when it does not."""
        if self._paused and not self.closed.is_set():
            self._drained = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._drained
            finally:
                self._drained = None
        if self.closed.is_set():
            raise ConnectionResetError("the client has gone")

    async def linger(self, timeout: float) -> None:
        """Drop what else the client sends, for so many seconds, if it is likely to send more.

        To close at once would reset the connection, and with it the answer that is under way.
        """
        if self.is_gone or not self._unread:
            return
        if self._body is not None:
            self._body.cut()
        self._hold(False)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()  # inside TLS the client has to look at the length
        until = self._loop.time() + timeout
        while self._unread and not self._ended and not self.closed.is_set():
            if self._loop.time() >= until:
                return
            await self._wait(until)

    @property
    def _unread(self) -> bool:
        return self._deaf or self._body is not None

    def hand_over(self, head: bytes) -> asyncio.Transport | None:
        """Write the head of an answer and give the transport away; None when the client has gone.

        For another protocol on this connection: the taker calls `set_protocol` at once, and this
        wire counts as closed.
        """
        transport = self._transport
        if self.is_gone or transport is None:
            return None
        transport.write(head)
        self.connection_lost(None)
        self._transport = None
        return transport

    def close(self) -> None:
        """Close after what is still to be sent."""
        # a second close makes asyncio's TLS transport forget what it has still to send
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # --- for the transport ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits."""
        self.closed.set()
        self._wake()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._body is not None:
            self._body.cut()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def eof_received(self) -> bool:
        """Answer what has come when the client sends no more but may still listen.

        With TLS the end of one direction is the end of both.
        """
        self._ended = True
        if self._body is not None:
            self._body.cut()
        self._wake()
        return self._transport is not None and (
            self._transport.get_extra_info("sslcontext") is None
        )

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where received bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take received bytes."""
        if not self._deaf:
            self._receive(self._buffer[:nbytes])

    # --- parsing -------------------------------------------------------------------------

    def _receive(self, data: memoryview) -> None:
        if self._left and self._body is not None:
            mine, data = data[: self._left], data[self._left :]
            self._left -= len(mine)
            self._body.feed(mine)
            if self._left:
                return
            self._finish_body()
        if not data:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_upgrade(data, upgrade)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501)
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            self._after(len(data))

    def _after(self, count: int) -> None:
        """Look at where the parser stands after `count` bytes."""
        body = self._body
        if body is not None and body.length is not None and not body.complete:
            self._left = body.length - body.received
            self._parser = httptools.HttpRequestParser(self)  # the old one waits for the body
            self._buffer = memoryview(bytearray(min(max(self._left, _SMALL), _LARGE)))
        if self._head is not None:
            self._head_bytes += count
            if self._head_bytes > HEAD:
                self._refuse(431)

    def _pass_upgrade(self, data: memoryview, upgrade: httptools.HttpParserUpgrade) -> None:
        """Answer as if no other protocol had been offered; the parser stopped behind the head."""
        self._parser = httptools.HttpRequestParser(self)
        if self._body is None:
            self._deaf = True
        elif self._body.length is None:
            self._refuse(400)  # a chunked body: its framing would have to be found again
        else:
            self._left = self._body.length
            self._receive(data[upgrade.args[0] :])

    def _finish_body(self) -> None:
        if self._body is not None:
            self._body.finish()
            self._body = None
            self._wake()
        self._buffer = memoryview(bytearray(_SMALL)) if len(self._buffer) > _SMALL else self._buffer

    def _refuse(self, status: int) -> None:
        """Answer no more of what comes; the last answer tells why."""
        self._deaf = True
        if self._body is not None:
            self._body.cut()
            self._body = None
            return
        head = RequestHead()
        self._enqueue(head, "GET", "1.1", fault=status)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._head, self._head_bytes = RequestHead(), 0

    def on_url(self, url: bytes) -> None:
        """Take (a part of) the target."""
        if self._head is not None:
            self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; trailers are dropped."""
        if self._head is not None:
            self._head.add(name, value)

    def on_headers_complete(self) -> None:
        """Hand out the request; its body may still be under way."""
        head, self._head = self._head, None
        if head is None:
            return
        version = self._parser.get_http_version()
        method = self._parser.get_method().decode("ascii")
        fault = 431 if head.is_too_large else 0 if version in ("1.1", "1.0") else 505
        self._enqueue(head, method, version, fault=fault)

    def on_body(self, block: bytes) -> None:
        """Take bytes of a chunked body, or those that came with the head."""
        if self._body is not None:
            self._body.feed(block)

    def on_message_complete(self) -> None:
        """End the body; one behind an offered upgrade has not begun yet."""
        if not self._parser.should_upgrade():
            self._finish_body()

    def _enqueue(self, head: RequestHead, method: str, version: str, *, fault: int) -> None:
        fields = head.fields
        body = self._body_of(fields, version)
        self._body = body if isinstance(body, WireBody) and body.present else None
        self._queue.append(
            Ask(
                method=method,
                target=head.target.decode("latin-1"),
                headers=fields,
                peer=self.peer,
                secure=self._secure,
                host=fields.get("host", "" if version == "1.1" else "localhost"),
                body=body,
                version=version,
                keep=not fault and _keeps(version, method, head.tokens("connection")),
                fault=fault,
            )
        )
        if len(self._queue) >= PIPELINED:
            self._crowd()
        self._wake()

    def _body_of(self, fields: Mapping[str, str], version: str) -> Body:
        is_chunked = "transfer-encoding" in fields
        if not is_chunked and "content-length" not in fields:
            return NO_BODY
        return WireBody(
            None if is_chunked else int(fields["content-length"]),
            waits=version == "1.1" and fields.get("expect", "").lower() == "100-continue",
            timeout=self._body_timeout,
            hold=self._hold,
            send=self.write,
        )

    def _crowd(self) -> None:
        """Stop reading; close a connection that has sent far more than a pipeline in one go."""
        self._hold(True)
        if len(self._queue) >= 2 * PIPELINED:
            self._deaf = True

    def _hold(self, held: bool) -> None:
        """Stop or resume reading from the socket."""
        if held == self._held or self._transport is None or self._transport.is_closing():
            return
        self._held = held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)


def _keeps(version: str, method: str, tokens: Sequence[str]) -> bool:
    """Tell whether the connection can be used again, and the client wants to."""
    if "close" in tokens or "upgrade" in tokens or method == "CONNECT":
        return False
    return version == "1.1" or "keep-alive" in tokens
