"""Requests and answers carried by aiohttp's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import AsyncGeneratorType

from aiohttp import ClientError, web

from ecpds.model.errors import Incomplete
from ecpds.portals.https.blocks import BLOCK, FileBlocks
from ecpds.portals.https.exchange import Answer, Body, FileBody, Refused, Reply, Slice

SMALL = 256 * 1024  # bytes of a file that is sent with its head in one piece
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LARGEST = 1 << 20


class CarriedBody(Body):
    """The body of an aiohttp request."""

    def __init__(self, request: web.BaseRequest, *, timeout: float) -> None:
        """`timeout`: seconds in which the next bytes have to come."""
        self._request = request
        self._timeout = timeout
        self._rest = b""
        self._waits = request.headers.get("Expect", "").strip().lower() == "100-continue"
        field = request.headers.get("Content-Length")
        chunked = "Transfer-Encoding" in request.headers
        self.length = int(field) if field is not None and not chunked else None
        self.present = chunked or bool(self.length)
        self.announced = chunked or field is not None

    async def read(self) -> bytes:
        """Return what has arrived."""
        if self._waits:
            self._waits = False
            await self._request.writer.write(_CONTINUE)
        if self._rest:
            block, self._rest = self._rest[:_LARGEST], self._rest[_LARGEST:]
            return block
        try:
            async with asyncio.timeout(self._timeout):
                block = await self._request.content.readany()
        except TimeoutError:
            raise Refused(408, "the body did not arrive in time") from None
        except (ClientError, ConnectionError, web.RequestPayloadError) as error:
            raise Incomplete("the body ended early") from error
        if len(block) > _LARGEST:
            block, self._rest = block[:_LARGEST], block[_LARGEST:]
        return block


class CarriedReply(Reply):
    """Where the answer to an aiohttp request goes; `response` is what was sent."""

    def __init__(self, request: web.BaseRequest, blocks: FileBlocks, *, timeout: float) -> None:
        """`timeout`: seconds in which the client has to take a block."""
        self._request = request
        self._blocks = blocks
        self._timeout = timeout
        self.response: web.StreamResponse | None = None

    @property
    def started(self) -> bool:
        """Return whether a status line is out."""
        return self.response is not None

    async def send(self, answer: Answer) -> None:
        """Send the whole answer."""
        body = answer.body
        if isinstance(body, bytes):
            await self._whole(answer, body)
        elif isinstance(body, FileBody):
            await self._file(answer, body)
        else:
            await self._stream(answer, body)

    async def _whole(self, answer: Answer, content: bytes | bytearray) -> None:
        is_head = self._request.method == "HEAD"
        response = web.Response(status=answer.status, body=None if is_head else bytes(content))
        self._dress(response, answer)
        if is_head and answer.size is not None:
            response.headers["Content-Length"] = str(answer.size)
        await self._begin(response)
        async with asyncio.timeout(self._timeout):
            await response.write_eof()

    async def _file(self, answer: Answer, body: FileBody) -> None:
        response = web.StreamResponse(status=answer.status)
        self._dress(response, answer)
        response.content_length = body.length
        await self._begin(response)
        slices = [piece for piece in body.pieces if isinstance(piece, Slice)]
        for piece in body.pieces:
            if isinstance(piece, Slice):
                await self._slice(response, body, piece, last=piece is slices[-1])
            else:
                await self._write(response, piece)
        async with asyncio.timeout(self._timeout):
            await response.write_eof()

    async def _slice(
        self, response: web.StreamResponse, body: FileBody, piece: Slice, *, last: bool
    ) -> None:
        sent = 0
        try:
            while sent < piece.length:
                block = await self._blocks.read(
                    body.reader.descriptor,
                    piece.offset + sent,
                    min(BLOCK, piece.length - sent),
                )
                await self._write(response, block)
                sent += len(block)
        finally:
            body.reader.count(sent, offset=piece.offset, last=last)

    async def _stream(self, answer: Answer, blocks: AsyncIterator[bytes]) -> None:
        response = web.StreamResponse(status=answer.status)
        self._dress(response, answer)
        await self._begin(response)
        if isinstance(blocks, AsyncGeneratorType):
            async with aclosing(blocks):
                await self._copy(response, blocks)
        else:
            await self._copy(response, blocks)
        async with asyncio.timeout(self._timeout):
            await response.write_eof()

    async def _copy(self, response: web.StreamResponse, blocks: AsyncIterator[bytes]) -> None:
        if self._request.method != "HEAD":
            async for block in blocks:
                await self._write(response, block)

    def _dress(self, response: web.StreamResponse, answer: Answer) -> None:
        for name, value in answer.headers.items():
            response.headers[name] = value
        for cookie in answer.cookies:
            response.headers.add("Set-Cookie", cookie)
        response.headers["Server"] = "ecpds"
        if answer.close:
            response.force_close()

    async def _begin(self, response: web.StreamResponse) -> None:
        self.response = response
        await response.prepare(self._request)

    async def _write(self, response: web.StreamResponse, block: bytes | bytearray) -> None:
        async with asyncio.timeout(self._timeout):
            await response.write(block)
