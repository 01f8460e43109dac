"""XML of S3: answers as text, requests read with every entity and size refused that is not needed.

Spec: Amazon S3 API Reference; XML 1.0.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ecpds.portals.https.exchange import Body
from ecpds.portals.s3.codes import S3Error

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
TYPE = "application/xml"
LARGEST = 2 * 1024 * 1024  # bytes of a document that a client sends
DEEPEST = 8  # elements inside of each other

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tag(name: str, text: object) -> str:
    """Return an element with a text; what XML cannot hold becomes U+FFFD."""
    shown = str(text)
    if _NO_XML.search(shown):
        shown = _NO_XML.sub("\ufffd", shown)
    return f"<{name}>{escape(shown)}</{name}>"


def maybe(name: str, text: object) -> str:
    """Return an element with a text, nothing for an empty one."""
    return tag(name, text) if text not in ("", None) else ""


def group(name: str, *parts: str) -> str:
    """Return an element with elements, ready as texts."""
    return f"<{name}>{''.join(parts)}</{name}>"


def document(name: str, *parts: str) -> bytes:
    """Return a whole answer."""
    return f'{HEAD}<{name} xmlns="{SPACE}">{"".join(parts)}</{name}>'.encode()


def moment(at: datetime | None) -> str:
    """Return a time as S3 writes it."""
    if at is None:
        return "1970-01-01T00:00:00.000Z"
    t = at if at.tzinfo is UTC else at.astimezone(UTC)
    return t.isoformat(timespec="milliseconds")[:-6] + "Z"


def stamp(micros: int) -> str:
    """Return a time in microseconds since 1970 as S3 writes it."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_seconds(seconds)}.{rest // 1000:03}Z"


@lru_cache(maxsize=4096)
def _seconds(seconds: int) -> str:
    """Return a whole second; files come many in one."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


async def read_all(body: Body, most: int = LARGEST) -> bytes:
    """Return a small content; S3Error when it is larger than `most` bytes."""
    blocks: list[bytes] = []
    size = 0
    while block := await body.read():
        size += len(block)
        if size > most:
            raise malformed()
        blocks.append(block)
    return b"".join(blocks)


def malformed() -> S3Error:
    """Return the error of a document that cannot be read."""
    return S3Error(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


def parse(raw: bytes, name: str) -> Element:
    """Return the root, namespaces taken away; S3Error for anything but a plain document.

    Document types, entities and references to outside are refused: none of them has a use here.
    """
    if len(raw) > LARGEST:
        raise malformed()
    try:
        root: Element = fromstring(raw, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise malformed() from None
    _plain(root, 0)
    if root.tag != name:
        raise malformed()
    return root


def _plain(element: Element, depth: int) -> None:
    if depth > DEEPEST:
        raise malformed()
    element.tag = element.tag.rpartition("}")[2]
    for child in element:
        _plain(child, depth + 1)


def text_of(element: Element, name: str) -> str:
    """Return the text of a child, empty if there is none."""
    return element.findtext(name) or ""
