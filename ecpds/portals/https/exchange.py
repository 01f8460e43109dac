"""One HTTP request and its answer, free of the server that carries them.

Handlers see only these types, so that whatever carries them runs the same code, and so that
ownership is plain: a handler sends its answer while it still holds the session and the open file.
Spec: RFC 9110.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote_to_bytes

from ecpds.model.errors import InputError, InvalidName, Unsupported
from ecpds.vfs.contract import Reader

HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PORT = re.compile(r":\d*$")
QUERY_FIELDS = 50  # more are refused
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


class Refused(InputError):
    """A request that HTTP itself has an answer for, with its status and fields."""

    code = "http"

    def __init__(self, status: int, message: str, **fields: str) -> None:
        """Take fields by name, `_` for `-`."""
        super().__init__(message)
        self.status = status
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}


Take = Callable[[bytes | memoryview], object]


class Body(ABC):
    """The content of a request, read once."""

    length: int | None  # announced bytes; None: chunked, or no body at all
    announced: bool  # whether the client said that a body follows, be it empty
    present: bool  # whether there may be a byte in it
    complete: bool  # whether all of it has come

    @abstractmethod
    async def read(self) -> bytes:
        """Return what has arrived, at most about 1 MiB; empty: the body is complete.

        The first call lets a client go on that waits with `Expect: 100-continue`.  Raises
        Incomplete when the connection ends before the body does, Refused (408) when nothing comes.
        """

    @abstractmethod
    async def pour(self, take: Take) -> None:
        """Call `take` with each block as it arrives; return when the body is complete.

        The block may be a view that is used again after the call.  Raises as `read`, and what
        `take` raises.
        """


class NoBody(Body):
    """The body of a request that has none."""

    length = None
    announced = present = False
    complete = True

    async def read(self) -> bytes:
        """Return nothing."""
        return b""

    async def pour(self, take: Take) -> None:
        """Do nothing."""


@dataclass(slots=True, kw_only=True)
class Ask:
    """One request; handlers do not change it (frozen it would cost 2 us more)."""

    method: str
    target: str  # as on the request line
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by comma
    peer: str  # client address without port
    secure: bool
    body: Body
    host: str = "localhost"  # name and port under which the client reached us
    version: str = "1.1"
    keep: bool = True  # whether the client wants to use the connection again
    fault: int = 0  # status that the grammar of the request calls for; 0: none

    @property
    def host_name(self) -> str:
        """Return the host without its port, brackets of an IPv6 address kept."""
        return _PORT.sub("", self.host)

    @property
    def raw_path(self) -> str:
        """Return the path as sent, still percent-encoded."""
        target = self.target
        if not target.startswith("/"):  # absolute form, which a server must accept
            _, mark, rest = target.partition("://")
            target = "/" + rest.partition("/")[2] if mark else "/"
        return target.partition("?")[0].partition("#")[0]

    @property
    def path(self) -> str:
        """Return the decoded path; raise InvalidName unless it is UTF-8."""
        raw = self.raw_path
        if "%" not in raw and raw.isascii():
            return raw
        try:
            return unquote_to_bytes(raw.encode("latin-1")).decode("utf-8")
        except UnicodeError:
            raise InvalidName("the path is not UTF-8") from None

    @property
    def query(self) -> dict[str, str]:
        """Return the query fields, first value of each; raise InputError for too many."""
        text = self.target.partition("?")[2].partition("#")[0]
        if not text:
            return {}
        try:
            pairs = parse_qsl(
                text, keep_blank_values=True, max_num_fields=QUERY_FIELDS, errors="strict"
            )
        except ValueError:
            raise InputError("the query cannot be read") from None
        found: dict[str, str] = {}
        for name, value in pairs:
            found.setdefault(name, value)
        return found

    @property
    def cookies(self) -> dict[str, str]:
        """Return the cookies; none if the header makes no sense."""
        text = self.headers.get("cookie", "")
        if not text:
            return {}
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(text)
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in jar.items()}

    @property
    def from_browser(self) -> bool:
        """Tell whether a person reads the answer: it asks for HTML by name, or has our cookie."""
        accept = self.headers.get("accept", "")
        return any(kind in accept for kind in HTML_TYPES) or self.knows_login_form

    @property
    def knows_login_form(self) -> bool:
        """Tell whether the client has been at the login form, so that it can be sent back there."""
        return "portal_client=" in self.headers.get("cookie", "") and (
            self.cookies.get("portal_client") == "browser"
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """Some bytes of an open file."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileBody:
    """Parts of an open file, with literal bytes between them.

    `look` is called before each block; what it raises breaks the answer off.
    """

    reader: Reader
    pieces: Sequence[bytes | Slice]
    look: Callable[[], None]

    @property
    def length(self) -> int:
        """Return the count of all bytes."""
        return sum(len(p) if isinstance(p, bytes) else p.length for p in self.pieces)


@dataclass(slots=True, kw_only=True)
class Answer:
    """Status, fields and content of an answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    lines: str = ""  # further fields, ready to be sent
    cookies: list[str] = field(default_factory=list)  # values of Set-Cookie
    body: bytes | FileBody | AsyncIterator[bytes] = b""  # an iterator is sent chunked
    length: int | None = None  # of the content that HEAD does not send
    close: bool = False  # end the connection after it

    @property
    def size(self) -> int | None:
        """Return the value of Content-Length; None: not known before the end."""
        if self.length is not None:
            return self.length
        if isinstance(self.body, bytes):
            return len(self.body)
        return self.body.length if isinstance(self.body, FileBody) else None


class Reply(ABC):
    """Where a handler puts its answer."""

    def hand_over(self, head: bytes) -> asyncio.Transport:
        """Send the head of an answer and give the connection to another protocol (WebSocket).

        Raises ConnectionError when the client has gone.
        """
        raise Unsupported("this connection speaks HTTP only")

    @property
    @abstractmethod
    def started(self) -> bool:
        """Return whether a status line is out."""

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Return whether the node stops, and this request may still be finished."""

    @abstractmethod
    async def send(self, answer: Answer) -> None:
        """Send the whole answer; once per request.

        Raises ConnectionError when the client goes away, TimeoutError when it takes nothing.
        """
