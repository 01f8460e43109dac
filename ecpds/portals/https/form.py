"""Forms: multipart/form-data read as a stream, and the short urlencoded ones.

Spec: RFC 7578; the WHATWG escapes of file names (%22, %0D, %0A).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from ecpds.model.errors import Incomplete, InputError, TooLarge
from ecpds.portals.https.exchange import Body

PARTS = 1000  # of one form
HEAD = 8 * 1024  # bytes of the fields of one part
TEXT = 64 * 1024  # bytes of a field that is no file, and of an urlencoded form
_PARAMETER = re.compile(r';\s*([^=;\s]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@dataclass(frozen=True, slots=True)
class Part:
    """One field: its name, and the file name if it is a file (may be empty: none was chosen)."""

    name: str
    filename: str | None


class Multipart:
    """Reads the parts in turn: `async for part in form.parts()`, and inside `form.content()`."""

    def __init__(self, content_type: str, body: Body) -> None:
        """Raise InputError when the type names no usable boundary."""
        boundary = parameters(content_type).get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise InputError("the form has no boundary")
        self._end = b"\r\n--" + boundary.encode("ascii")
        self._body = body
        # the first delimiter may stand at the very start, all others follow a line end
        self._buffer = bytearray(b"\r\n")
        self._open = True  # whether there is more of the present content

    async def parts(self) -> AsyncGenerator[Part, None]:
        """Yield each part; what the caller leaves of its content is passed over.

        Ends only when the closing delimiter and the end of the body have come; raises Incomplete or
        InputError before.
        """
        async for _ in self.content():
            pass  # what stands before the first delimiter
        for _ in range(PARTS):
            if await self._is_last():
                await self._drain()
                return
            yield _read_head(await self._head())
            async for _ in self.content():
                pass
        raise InputError(f"a form may have at most {PARTS} fields")

    async def content(self) -> AsyncGenerator[bytes, None]:
        """Yield the content of the part that `parts` has just given."""
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
        """Return the content of a part that is no file; raise TooLarge above 64 KiB."""
        found = bytearray()
        async for block in self.content():
            found += block
            if len(found) > TEXT:
                raise TooLarge(f"a form field may have {TEXT} bytes")
        return found.decode("utf-8", "replace")

    async def _more(self) -> None:
        block = await self._body.read()
        if not block:
            raise Incomplete("the form ends before its closing line")
        self._buffer += block

    async def _is_last(self) -> bool:
        while len(self._buffer) < 2:
            await self._more()
        return self._buffer.startswith(b"--")

    async def _head(self) -> bytes:
        while (place := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD:
                raise InputError("the fields of a form part are too long")
            await self._more()
        head = bytes(self._buffer[:place]).lstrip(b" \t")
        if not head.startswith(b"\r\n"):
            raise InputError("a delimiter of the form does not end its line")
        del self._buffer[: place + 4]
        self._open = True
        return head

    async def _drain(self) -> None:
        passed = len(self._buffer)
        while passed <= TEXT:
            block = await self._body.read()
            if not block:
                return
            passed += len(block)
        raise InputError("too much follows the form")


def parameters(field: str) -> Mapping[str, str]:
    """Return the parameters of a field value, names in lower case, quotes taken off."""
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(field):
        text = value.strip()
        if text.startswith('"'):
            text = re.sub(r'\\(["\\])', r"\1", text[1:-1])
        found.setdefault(name.lower(), text)
    return found


def _read_head(head: bytes) -> Part:
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            known = parameters(value)
            return Part(known.get("name", ""), _filename(known))
    raise InputError("a form part has no Content-Disposition")


def _filename(known: Mapping[str, str]) -> str | None:
    """Return the last segment of the file name; browsers of old sent whole paths."""
    name = known.get("filename")
    if "filename*" in known:
        charset, _, rest = known["filename*"].partition("'")
        if charset.lower() == "utf-8":
            name = unquote(rest.partition("'")[2])
    if name is None:
        return None
    name = re.sub("%(22|0D|0A)", lambda m: chr(int(m[1], 16)), name, flags=re.IGNORECASE)
    return re.split(r"[/\\]", name)[-1]


async def read_urlencoded(body: Body) -> dict[str, str]:
    """Return the fields of a short form, first value of each; raise TooLarge or InputError."""
    if body.length is not None and body.length > TEXT:
        raise TooLarge(f"this form may have {TEXT} bytes")
    raw = bytearray()
    while block := await body.read():
        raw += block
        if len(raw) > TEXT:
            raise TooLarge(f"this form may have {TEXT} bytes")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict"
        )
    except ValueError:
        raise InputError("the form cannot be read") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found
