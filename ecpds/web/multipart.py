"""multipart/form-data as a stream: small fields as texts, files block by block.

Strict on purpose: a form that lacks its closing delimiter is incomplete, never a short file.
Spec: RFC 7578, RFC 2046 section 5.1; the WHATWG escapes of names (%22, %0D, %0A).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader

from ecpds.model.errors import Incomplete
from ecpds.web.errors import Refused

PARTS: Final = 100  # of one form
HEAD: Final = 8 * 1024  # bytes of the fields of one part
TEXT: Final = 256 * 1024  # bytes of a field that is no file
STALL: Final = 300.0  # seconds without a byte
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER: Final = re.compile(r';\s*([^=;\s]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')


@dataclass(frozen=True, slots=True)
class Part:
    """One field: its name, and the name of the file if it is one."""

    name: str
    filename: str | None


class Multipart:
    """`async for part in form.parts()`, and inside `form.text()` or `form.blocks()`."""

    def __init__(self, content_type: str, body: StreamReader) -> None:
        """Raise Refused (400) when the type names no usable boundary."""
        boundary = parameters(content_type).get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise Refused(400, "malformed", "the form has no boundary")
        self._end = b"\r\n--" + boundary.encode("ascii")
        self._body = body
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very start
        self._open = True  # whether there is more of the present part

    async def parts(self) -> AsyncIterator[Part]:
        """Yield each part; what is left unread of one is passed over.

        Ends only after the closing delimiter; Incomplete when the body ends before.
        """
        await self._skip()
        for _ in range(PARTS):
            tail = await self._line_after_delimiter()
            if tail == b"--":
                return
            yield _part(await self._head())
            await self._skip()
        raise Refused(400, "malformed", f"a form has at most {PARTS} fields")

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the content of the present part."""
        keep = len(self._end) - 1
        while self._open:
            place = self._buffer.find(self._end)
            if place >= 0:
                block = bytes(self._buffer[:place])
                del self._buffer[: place + len(self._end)]
                self._open = False
            else:
                block = bytes(self._buffer[:-keep])
                del self._buffer[: len(block)]
            if block:
                yield block
            if self._open:
                await self._more()

    async def text(self) -> str:
        """Return the content of a small field; Refused (413) above 256 KiB."""
        found = bytearray()
        async for block in self.blocks():
            found += block
            if len(found) > TEXT:
                raise Refused(413, "too-large", f"a field has at most {TEXT} bytes")
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise Refused(400, "malformed", "a field is not UTF-8") from None

    async def _skip(self) -> None:
        async for _ in self.blocks():
            pass

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(STALL):
                block = await self._body.readany()
        except TimeoutError:
            raise Refused(408, "timeout", "no byte came for too long") from None
        if not block:
            raise Incomplete("the form ends before its closing delimiter")
        self._buffer += block

    async def _line_after_delimiter(self) -> bytes:
        """Return what follows a delimiter on its line: nothing, or `--` at the end of the form."""
        while len(self._buffer) < 2:
            await self._more()
        if self._buffer[:2] == b"--":
            return b"--"
        while (place := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > HEAD:
                raise Refused(400, "malformed", "a delimiter of the form is malformed")
            await self._more()
        if self._buffer[:place].strip():
            raise Refused(400, "malformed", "a delimiter of the form is malformed")
        del self._buffer[:place]
        return b""

    async def _head(self) -> bytes:
        while (place := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD:
                raise Refused(400, "malformed", "the head of a part is too long")
            await self._more()
        head = bytes(self._buffer[:place])
        del self._buffer[: place + 2]  # the line end stays: an empty part begins with a delimiter
        self._open = True
        await self._cut_line_end()
        return head

    async def _cut_line_end(self) -> None:
        """Drop the line end before the content, unless the delimiter of an empty part uses it."""
        while len(self._buffer) < len(self._end):
            if not self._end.startswith(bytes(self._buffer)):
                break
            await self._more()
        if not self._buffer.startswith(self._end):
            del self._buffer[:2]


def parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header such as `form-data; name="a"`."""
    found = {}
    for name, text in _PARAMETER.findall(value):
        bare = text.strip()
        if bare.startswith('"'):
            bare = re.sub(r'\\(["\\])', r"\1", bare[1:-1])
        found[name.lower()] = bare
    return found


def _part(head: bytes) -> Part:
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            known = parameters(value)
            filename = known.get("filename")
            return Part(
                _unescaped(known.get("name", "")),
                None if filename is None else _unescaped(filename),
            )
    raise Refused(400, "malformed", "a part of the form has no name")


def _unescaped(text: str) -> str:
    for escape, sign in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        text = text.replace(escape, sign)
    return text
