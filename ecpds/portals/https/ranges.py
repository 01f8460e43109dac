"""The Range field of a request, and the multipart form of an answer with several ranges.

Spec: RFC 9110 section 14; portal.md 3.4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ecpds.model.errors import LimitError
from ecpds.portals.https.exchange import Slice

_ONE = re.compile(r"(?:(?P<first>\d+)-(?P<last>\d*)|-(?P<suffix>\d+))", re.ASCII)
_HUGE = 1 << 62  # an offset beyond every file


def parse(field: str, size: int, *, most: int) -> list[Slice] | None:
    """Return the wanted parts of a content of `size` bytes; empty: none of them exists (416).

    None means that the field is to be ignored, as RFC 9110 14.2 wants for other units than bytes
    and for what breaks the grammar.  Ranges that overlap or touch become one; otherwise the
    client's order stays.  Raises LimitError for more than `most` ranges (0: no limit).
    """
    unit, mark, text = field.partition("=")
    if not mark or unit.strip().lower() != "bytes":
        return None
    texts = [part.strip() for part in text.split(",")]
    texts = [part for part in texts if part]  # empty list members are legal
    if most and len(texts) > most:
        raise LimitError(f"a request may have at most {most} ranges")
    found: list[Slice] = []
    for part in texts:
        one = _ONE.fullmatch(part)
        if one is None or _backwards(one):
            return None
        wanted = _slice(one, size)
        if wanted.length > 0:
            found.append(wanted)
    return _joined(found) if texts else None


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 19 else _HUGE


def _backwards(one: re.Match[str]) -> bool:
    return bool(one["last"]) and _number(one["last"]) < _number(one["first"])


def _slice(one: re.Match[str], size: int) -> Slice:
    if one["suffix"] is not None:
        length = min(_number(one["suffix"]), size)
        return Slice(size - length, length)
    first = _number(one["first"])
    last = min(_number(one["last"]) if one["last"] else size - 1, size - 1)
    return Slice(first, last - first + 1)


def _joined(wanted: Sequence[Slice]) -> list[Slice]:
    joined: list[Slice] = []
    for one in sorted(wanted, key=lambda s: s.offset):
        before = joined[-1] if joined else None
        if before is not None and one.offset <= before.offset + before.length:
            end = max(before.offset + before.length, one.offset + one.length)
            joined[-1] = Slice(before.offset, end - before.offset)
        else:
            joined.append(one)
    return list(wanted) if len(joined) == len(wanted) else joined


def content_range(part: Slice, size: int) -> str:
    """Return the value of Content-Range."""
    return f"bytes {part.offset}-{part.offset + part.length - 1}/{size}"


def multipart(
    parts: Sequence[Slice], size: int, *, content_type: str, boundary: str
) -> list[bytes | Slice]:
    """Return the content of a multipart/byteranges answer, literal texts and file parts in turn."""
    pieces: list[bytes | Slice] = []
    lead = ""
    for part in parts:
        head = (
            f"{lead}--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {content_range(part, size)}\r\n\r\n"
        )
        pieces += [head.encode("latin-1"), part]
        lead = "\r\n"
    pieces.append(f"\r\n--{boundary}--\r\n".encode("latin-1"))
    return pieces
