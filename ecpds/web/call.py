"""One request as handlers see it: who asks, path, query, body and conditions, all checked."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from aiohttp import StreamReader, web

from ecpds.model import units
from ecpds.model.decode import Where, decode
from ecpds.model.errors import InputError, NotFound, Unauthenticated
from ecpds.model.names import nearest
from ecpds.web.errors import Refused
from ecpds.web.rights import Caller
from ecpds.web.routes import BODY_LIMIT, FORM_LIMIT, UNLIMITED, Query, Route
from ecpds.web.services import Services

T = TypeVar("T")

BODY_TIME: Final = 60.0  # seconds for a whole body that is read at once
MOST_FIELDS: Final = 1000  # of a form
PAGE: Final = 50  # items of a list unless `limit` says otherwise
_JSON: Final = ("application/json", "application/merge-patch+json", "application/octet-stream")
_TRUE, _FALSE = {"true", "yes", "1", "on", ""}, {"false", "no", "0", "off"}


class Call:
    """A request whose route, caller and query are known and allowed."""

    def __init__(
        self,
        request: web.Request,
        services: Services,
        route: Route,
        *,
        who: Caller | None,
        peer: str,
        secure: bool,
        request_id: str,
    ) -> None:
        """Check the query; raises Refused (400) for unknown parameters of an API route."""
        self.request, self.services, self.route = request, services, route
        self.who, self.peer = who, peer
        self.secure, self.request_id = secure, request_id
        self._declared = {query.name: query for query in route.query}
        if route.kind == "api":
            self._check_query()
        self._pairs: list[tuple[str, str]] | None = None
        self.seen = services.live.number  # the page knows all events up to that one
        self.was_asked = False  # for the body, by 100 Continue

    def _check_query(self) -> None:
        for name in self.request.query:
            if name not in self._declared:
                near = nearest(name, self._declared)
                hint = f" (did you mean {near!r}?)" if near else ""
                raise Refused(400, "unknown-parameter", f"unknown query parameter {name!r}{hint}")

    @property
    def caller(self) -> Caller:
        """Return who asks; Unauthenticated when nobody known does."""
        if self.who is None:
            raise Unauthenticated("a token or a login is needed")
        return self.who

    # --- path and query ---------------------------------------------------------------------

    def name(self, key: str) -> str:
        """Return a segment of the path, decoded."""
        return self.request.match_info[key]

    def number(self, key: str, what: str) -> int:
        """Return a segment of the path as an id; NotFound when it is none."""
        text = self.request.match_info[key]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise NotFound(f"{what} {text} not found")
        return int(text)

    def text(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.request.query.get(name, default)

    def texts(self, name: str) -> list[str]:
        """Return a query parameter that is a list with commas, or given several times."""
        return [
            part.strip()
            for text in self.request.query.getall(name, [])
            for part in text.split(",")
            if part.strip()
        ]

    def flag(self, name: str) -> bool:
        """Return a yes/no query parameter, no when it is missing."""
        text = self.request.query.get(name)
        if text is None or text.lower() in _FALSE:
            return False
        if text.lower() in _TRUE:
            return True
        raise self._bad(name, f"{text!r} is neither true nor false")

    def count(self, name: str, default: int) -> int:
        """Return a query parameter that is a number within its limits."""
        text = self.request.query.get(name)
        if text is None:
            return default
        how = self._declared.get(name) or Query(name=name, help="")
        if not (text.isascii() and text.isdigit() and how.low <= int(text[:19]) <= how.high):
            raise self._bad(name, f"{text!r} is no number from {how.low} to {how.high}")
        return int(text)

    def time(self, name: str) -> datetime | None:
        """Return a query parameter that is an RFC 3339 time, or a length of time before now."""
        text = self.request.query.get(name)
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text.replace(" ", "+"))
        except ValueError:
            try:
                return self.services.core.clock.now() - units.parse_duration(text)
            except (InputError, OverflowError):
                raise self._bad(name, f"{text!r} is neither a time nor a duration") from None
        if found.tzinfo is None:
            raise self._bad(name, "the time needs a zone, for instance 2031-05-04T10:00:00Z")
        return found

    @property
    def limit(self) -> int:
        """Return how many items a page has."""
        return self.count("limit", PAGE)

    @property
    def cursor(self) -> str:
        """Return what stands behind the cursor, "" for the first page."""
        text = self.request.query.get("cursor", "")
        try:
            padded = text + "=" * (-len(text) % 4)
            return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise self._bad("cursor", "that is no cursor of ours") from None

    @property
    def before(self) -> int | None:
        """Return the id below which a list by falling id goes on."""
        text = self.cursor
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise self._bad("cursor", "that is no cursor of ours")
        return int(text)

    def _bad(self, name: str, message: str) -> Refused:
        return Refused(400, "bad-parameter", f"{name}: {message}")

    # --- body -------------------------------------------------------------------------------

    async def receive(self) -> StreamReader:
        """Return the body to be read; a client that waits to be asked for it is asked now."""
        if self.request.headers.get("Expect", "").lower() == "100-continue" and not self.was_asked:
            self.was_asked = True
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0  # the head of the answer is yet to come
        return self.request.content

    async def body(self, limit: int | None = None) -> bytes:
        """Return the whole body; Refused (413) when it is larger than the route allows."""
        most = self.route.body_limit if limit is None else limit
        if most == UNLIMITED:  # files are; JSON on the same address is not
            most = BODY_LIMIT
        if (self.request.content_length or 0) > most:
            raise Refused(413, "too-large", f"the body is larger than {most} bytes")
        found = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME):
                content = await self.receive()
                while block := await content.readany():
                    found += block
                    if len(found) > most:
                        raise Refused(413, "too-large", f"the body is larger than {most} bytes")
        except TimeoutError:
            raise Refused(408, "timeout", "the body did not come in time") from None
        return bytes(found)

    async def document(self) -> dict[str, Any]:
        """Return the JSON object of the body, empty when there is no body."""
        found = await self._json()
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise Refused(400, "malformed", "the body is no JSON object")
        return found

    async def items(self) -> list[Any]:
        """Return the JSON list of the body."""
        found = await self._json()
        if not isinstance(found, list):
            raise Refused(400, "malformed", "the body is no JSON list")
        return found

    async def _json(self) -> Any:
        if self.request.content_type not in _JSON:
            raise Refused(415, "media-type", "send application/json")
        data = await self.body()
        if not data.strip():
            return None
        try:
            return json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            text = str(error) if isinstance(error, ValueError) else "too deeply nested"
            raise Refused(400, "malformed", f"the body is no JSON: {text}") from None

    async def decoded(self, cls: type[T]) -> T:
        """Return the body as a `cls`; errors name the place."""
        return decode(cls, await self.document(), Where())

    async def form(self) -> dict[str, str]:
        """Return the fields of a page's form, the last of each name."""
        return dict(await self.form_pairs())

    async def form_pairs(self) -> list[tuple[str, str]]:
        """Return the fields of a page's form with repetitions, empty ones too; read once."""
        if self.request.content_type != "application/x-www-form-urlencoded":
            raise Refused(415, "media-type", "send a form")
        if self._pairs is None:
            data = await self.body(min(self.route.body_limit, FORM_LIMIT))
            try:
                self._pairs = parse_qsl(
                    data.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS
                )
            except (ValueError, UnicodeDecodeError):
                raise Refused(400, "malformed", "the form cannot be read") from None
        return self._pairs

    # --- conditions -------------------------------------------------------------------------

    def check_match(self, etag: str, *, optional: bool = False) -> None:
        """Raise Refused 428 without If-Match, 412 when the object has another version."""
        wanted = self.request.headers.get("If-Match")
        if wanted is None:
            if optional:
                return
            raise Refused(428, "if-match-needed", "send If-Match with the ETag that you have seen")
        if wanted.strip() != "*" and etag not in _tags(wanted):
            raise Refused(412, "precondition-failed", "the object was changed meanwhile")

    @property
    def must_be_new(self) -> bool:
        """Whether the caller accepts only that the object is created."""
        return self.request.headers.get("If-None-Match", "").strip() == "*"

    def unchanged(self, etag: str) -> bool:
        """Tell whether the caller has that version already."""
        wanted = self.request.headers.get("If-None-Match", "")
        return bool(wanted) and (wanted.strip() == "*" or etag in _tags(wanted, weak=True))


def _tags(text: str, *, weak: bool = False) -> list[str]:
    tags = [part.strip() for part in text.split(",")]
    return [tag.removeprefix("W/") for tag in tags] if weak else tags


def _no_constant(text: str) -> Mapping[str, Any]:
    raise ValueError(f"{text} is no JSON number")


def cursor_of(key: str | int) -> str:
    """Return the cursor behind which the next page begins."""
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")
