"""Bodies of uploads: content that comes in blocks, as it is or inside a form.

aiohttp tries a request again when a connection breaks that was used before; an upload that has
begun is not sent twice behind the back of whoever counts and limits it, so that it fails then.  An
error of the content is kept, because aiohttp would tell it as one of the connection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from ecpds.model.errors import ConnectionLost, SourceBroke
from ecpds.transfer.contract import ByteSource


class SourceBody(Payload):
    """The content of a ByteSource as a request body, with its length if that is known."""

    def __init__(self, source: ByteSource, *, stall: float) -> None:
        super().__init__(source, content_type="application/octet-stream")
        self._source = source
        self._offset = source.offset
        self._stall = stall
        self._begun = False
        self.sent = 0
        self.is_complete = False
        self.error: Exception | None = None
        self._size = source.size if source.size >= 0 else None

    @property
    def content_size(self) -> int:
        """Bytes of the content, -1 unknown."""
        return self._source.size

    def restart(self) -> None:
        """Begin again; raises Unsupported for content that can be read once only."""
        if self._begun:
            self._source.start_at(self._offset)
        self._begun = self.is_complete = False
        self.sent = 0

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it all."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Send it all; less than promised is an error, never a short body."""
        try:
            if self._begun:
                raise ConnectionLost("the connection broke", sent=self.sent)
            self._begun = True
            await self._before(writer)
            await self._blocks(writer)
            await self._behind(writer)
            self.is_complete = True
        except Exception as error:
            self.error = error
            raise

    async def _before(self, writer: AbstractStreamWriter) -> None:
        return

    async def _behind(self, writer: AbstractStreamWriter) -> None:
        return

    async def _blocks(self, writer: AbstractStreamWriter) -> None:
        blocks = aiter(self._source)
        try:
            async for block in blocks:
                async with asyncio.timeout(self._stall):
                    await writer.write(block)
                self.sent += len(block)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()
        if 0 <= self.content_size != self.sent:
            raise SourceBroke(f"the content has {self.sent} instead of {self.content_size} bytes")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: the content is not in memory."""
        raise TypeError("a stream has no text")

    async def as_bytes(self, *args: Any, **kwargs: Any) -> bytes:
        """Refuse: the content is not in memory."""
        raise TypeError("a stream has no bytes")


class FormBody(SourceBody):
    """The same as the only file of a multipart/form-data body (RFC 7578), streamed."""

    def __init__(self, source: ByteSource, *, stall: float, field: str, file_name: str) -> None:
        super().__init__(source, stall=stall)
        boundary = f"ecpds-{secrets.token_hex(16)}"
        self._headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        self._start = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="{_quoted(field)}"; '
            f'filename="{_quoted(file_name)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._end = f"\r\n--{boundary}--\r\n".encode()
        if self._size is not None:
            self._size += len(self._start) + len(self._end)

    async def _before(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._start)

    async def _behind(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._end)


def _quoted(text: str) -> str:
    """Return a name as browsers write it: UTF-8, with quotes and line ends percent-encoded."""
    return "".join(quote(c, safe="") if c in '"\r\n' else c for c in text)
