"""Writing an answer to a connection: head, file parts, streams of unknown length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from types import AsyncGeneratorType

from ecpds.base.clock import Clock
from ecpds.portals.https.blocks import BLOCK, FileBlocks
from ecpds.portals.https.exchange import Answer, Ask, FileBody, Reply, Slice
from ecpds.portals.https.head import has_content, http_date, render
from ecpds.portals.https.wire import Wire


class WireReply(Reply):
    """Where the answer to one request goes."""

    def __init__(
        self, wire: Wire, ask: Ask, *, blocks: FileBlocks, clock: Clock, timeout: float
    ) -> None:
        """`timeout`: seconds in which the client has to take a block."""
        self.keeps = ask.keep  # whether another request may follow
        self._wire = wire
        self._ask = ask
        self._blocks = blocks
        self._clock = clock
        self._timeout = timeout
        self._started = False
        self.status = 0  # 0: nothing was sent
        self._sent = 0  # bytes of the file, over all parts

    @property
    def started(self) -> bool:
        """Return whether a status line is out."""
        return self._started

    @property
    def draining(self) -> bool:
        """Return whether the node stops."""
        return self._wire.leaving

    def hand_over(self, head: bytes) -> asyncio.Transport:
        """Send a head and give the connection away."""
        self.keeps, self._started, self.status = False, True, 101
        transport = self._wire.hand_over(head)
        if transport is None:
            raise ConnectionResetError("the client has gone")
        return transport

    async def send(self, answer: Answer) -> None:
        """Send the whole answer."""
        body = answer.body
        is_stream = not isinstance(body, (bytes, FileBody))
        chunked = is_stream and self._ask.version == "1.1"
        if answer.close or self._wire.leaving or not self._ask.body.complete:
            self.keeps = False
        if is_stream and not chunked:
            self.keeps = False  # the end of the connection is the end of the content
        head = self._head(answer, chunked=chunked)
        self._started = True
        self.status = answer.status
        if not has_content(answer, self._ask.method):
            self._wire.write(head)
        elif isinstance(body, bytes):
            self._wire.write(head, body)
        elif isinstance(body, FileBody):
            await self._file(head, body)
        else:
            await self._stream(head, body, chunked=chunked)
        await self._wire.drain(self._timeout)

    def _head(self, answer: Answer, *, chunked: bool) -> bytes:
        connection = "close"
        if self.keeps:
            connection = "" if self._ask.version == "1.1" else "keep-alive"
        date = http_date(self._clock.now())
        return render(answer, date=date, chunked=chunked, connection=connection)

    async def _file(self, head: bytes, body: FileBody) -> None:
        """Send the parts; a small first one goes out together with the head."""
        last = [piece for piece in body.pieces if isinstance(piece, Slice)][-1]
        waiting = head
        for piece in body.pieces:
            if isinstance(piece, bytes):
                waiting += piece
            else:
                await self._slice(waiting, body, piece, last=piece is last)
                waiting = b""
        if waiting:
            self._wire.write(waiting)

    async def _slice(self, lead: bytes, body: FileBody, piece: Slice, *, last: bool) -> None:
        reader, wire = body.reader, self._wire
        most = BLOCK if reader.rate is None else min(max(reader.rate // 8, 1024), BLOCK)
        sent = 0
        try:
            while sent < piece.length or lead:
                body.look()
                length = min(most, piece.length - sent)
                block = await self._blocks.read(reader.descriptor, piece.offset + sent, length)
                if lead:
                    wire.write(lead, block)
                    lead = b""
                else:
                    wire.write(block)
                sent += length
                await wire.drain(self._timeout)
                if reader.rate is not None:
                    await self._pause(reader.pause(self._sent + sent))
        finally:
            self._sent += sent
            reader.count(sent, offset=piece.offset, last=last)

    async def _pause(self, seconds: float) -> None:
        """Keep to the rate of a download."""
        if seconds > 0:
            await self._clock.sleep(timedelta(seconds=seconds))

    async def _stream(self, head: bytes, blocks: AsyncIterator[bytes], *, chunked: bool) -> None:
        self._wire.write(head)
        if isinstance(blocks, AsyncGeneratorType):
            async with aclosing(blocks):
                await self._copy(blocks, chunked=chunked)
        else:
            await self._copy(blocks, chunked=chunked)
        if chunked:
            self._wire.write(b"0\r\n\r\n")

    async def _copy(self, blocks: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for block in blocks:
            if not block:
                continue  # in chunks that would be the end
            if chunked:
                self._wire.write(f"{len(block):x}\r\n".encode(), block, b"\r\n")
            else:
                self._wire.write(block)
            await self._wire.drain(self._timeout)
