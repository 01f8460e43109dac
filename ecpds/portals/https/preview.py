"""What the page of one file shows of its content: a text's beginning, an image, a header table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError
from ecpds.model.headers import MOST_BYTES, Table, table_of
from ecpds.portals.https.fields import Types
from ecpds.vfs.contract import Node, Session

TEXT: Final = 8 * 1024  # bytes of a text
LARGEST_IMAGE: Final = 10 * 1024 * 1024  # bytes; a larger one is not put on the page
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One of three; all empty when there is nothing to show."""

    text: str = ""
    is_cut: bool = False
    is_image: bool = False
    table: Table | None = None


class Previews:
    """Looks into files; reading happens in a thread."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._types = Types()

    async def of(self, session: Session, node: Node) -> Preview:
        """Return what can be shown of a file that the session may read."""
        if self._types.of(node.name) in _IMAGES:
            return Preview(is_image=0 < node.size <= LARGEST_IMAGE)
        try:
            async with await session.open_read(node.path) as reader:
                return await self._threads.run("disk", look, reader.descriptor, reader.size)
        except EcpdsError:
            return Preview()


def look(descriptor: int, size: int) -> Preview:
    """Return what an open file shows; for a thread."""

    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, min(length, MOST_BYTES), offset)

    table = table_of(read, size)
    if table is not None:
        return Preview(table=table)
    start = read(0, TEXT)
    text = _text(start, is_whole=size <= TEXT)
    return Preview(text=text, is_cut=bool(text) and size > TEXT)


def _text(start: bytes, *, is_whole: bool) -> str:
    """Return the bytes as text, empty if they are none."""
    for cut in range(1 if is_whole else 4):  # the end may lie within a character
        try:
            text = start[: len(start) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        odd = sum(not (c.isprintable() or c in "\t\r\n\f") for c in text)
        return text if odd <= len(text) // 100 else ""
    return ""
