"""Multi-status answers of WebDAV, read as they come: a directory of 100,000 needs no memory.

Spec: RFC 4918 sections 13 and 14; ownCloud's and Nextcloud's `oc:checksums`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape

from ecpds.model.errors import Phase, RemoteTransient

MAX_DEPTH: Final = 50
LONGEST_TEXT: Final = 64 * 1024

PROPFIND: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<propfind xmlns="DAV:" xmlns:oc="http://owncloud.org/ns"><prop><resourcetype/>'
    b"<getcontentlength/><getlastmodified/><getetag/><oc:checksums/></prop></propfind>"
)
_DAV: Final = "DAV: "
_CHECKSUM: Final = "http://owncloud.org/ns checksum"
_FIELDS: Final = {
    f"{_DAV}getcontentlength": "size",
    f"{_DAV}getlastmodified": "modified",
    f"{_DAV}getetag": "etag",
    _CHECKSUM: "checksums",
}
_STATUS: Final = re.compile(r"HTTP/\d(?:\.\d)?\s+(\d{3})")


@dataclass(slots=True)
class Resource:
    """What an answer tells of one name."""

    path: str = ""  # decoded, without a final slash
    is_collection: bool = False
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Bytes, None unknown."""
        text = self.texts.get("size", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    @property
    def mtime(self) -> datetime | None:
        """Return the time of the last change."""
        try:
            found = parsedate_to_datetime(self.texts.get("modified", ""))
        except ValueError:
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def digest(self, algorithm: str) -> str | None:
        """Return the digest in hex that the server tells, None if it tells none."""
        for word in self.texts.get("checksums", "").split():
            name, colon, value = word.partition(":")
            if colon and name.lower().replace("-", "") == algorithm:
                return value.lower()
        return None


class MultiStatus:
    """Resources out of an answer that comes in pieces; entities and document types are refused."""

    def __init__(self) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        self._parser = parser
        self._path: list[str] = []
        self._texts: list[str] = []
        self._length = 0
        self._resource = Resource()
        self._props: dict[str, str] = {}
        self._is_collection = False
        self._is_good = True
        self._found: list[Resource] = []

    def feed(self, block: bytes, *, last: bool = False) -> Iterator[Resource]:
        """Take a piece and give the resources that are complete; `last` with nothing at the end."""
        try:
            self._parser.Parse(block, last)
        except expat.ExpatError as error:
            raise RemoteTransient(f"the answer is no XML: {error}", phase=Phase.LIST) from None
        found, self._found = self._found, []
        return iter(found)

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > MAX_DEPTH:
            raise RemoteTransient("the answer has too many levels", phase=Phase.LIST)
        self._texts.clear()
        self._length = 0
        if tag == f"{_DAV}response":
            self._resource = Resource()
        elif tag == f"{_DAV}propstat":
            self._props, self._is_collection, self._is_good = {}, False, True
        elif tag == f"{_DAV}collection" and f"{_DAV}resourcetype" in self._path:
            self._is_collection = True

    def _text(self, text: str) -> None:
        self._length += len(text)
        if self._length > LONGEST_TEXT:
            raise RemoteTransient("the answer has a text without an end", phase=Phase.LIST)
        self._texts.append(text)

    def _end(self, tag: str) -> None:
        text = "".join(self._texts).strip()
        self._texts.clear()
        self._path.pop()
        if tag == f"{_DAV}href" and self._path[-1:] == [f"{_DAV}response"]:
            self._resource.path = path_of(text)
        elif tag == f"{_DAV}status":
            status = _STATUS.match(text)
            self._is_good = status is None or status[1][0] == "2"
        elif tag == f"{_DAV}propstat" and self._is_good:
            self._resource.texts |= self._props
            self._resource.is_collection |= self._is_collection
        elif tag == f"{_DAV}response" and self._resource.path:
            self._found.append(self._resource)
        elif name := _FIELDS.get(tag, ""):
            self._props[name] = f"{self._props[name]} {text}" if name in self._props else text


def path_of(href: str) -> str:
    """Return the decoded path of an address, without a final slash; `/` is the root."""
    path = unquote(urlsplit(href).path, errors="surrogateescape")
    return path.rstrip("/") or "/"


def lock_body(owner: str) -> bytes:
    """Return the question for an exclusive lock."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<lockinfo xmlns="DAV:"><lockscope><exclusive/>'
        f"</lockscope><locktype><write/></locktype><owner>{escape(owner)}</owner></lockinfo>"
    ).encode()


def _refuse(*_: object) -> None:
    raise RemoteTransient("the answer declares entities", phase=Phase.LIST)
