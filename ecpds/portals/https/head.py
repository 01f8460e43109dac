"""Heads of requests and answers as bytes.  Spec: RFC 9112."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from ecpds.portals.https.exchange import Answer

FIELDS = 100  # of one request
HEAD = 32 * 1024  # bytes of the head of one request
TARGET = 8 * 1024  # bytes of its target
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_STATUS[460] = "HTTP/1.1 460 Checksum Mismatch\r\n"  # of the tus protocol
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BODILESS = (204, 304)


@dataclass(slots=True)
class RequestHead:
    """The head of a request, filled by the parser's calls."""

    target: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Take one field; repeated ones are joined (RFC 9110 5.3), cookies by semicolon."""
        self.count += 1
        self.size += len(name) + len(value)
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        known = self.fields.get(key)
        if known is None:
            self.fields[key] = text
        else:
            self.fields[key] = f"{known}{'; ' if key == 'cookie' else ', '}{text}"

    @property
    def is_too_large(self) -> bool:
        """Tell whether a limit is passed."""
        return self.count > FIELDS or self.size > HEAD or len(self.target) > TARGET

    def tokens(self, name: str) -> list[str]:
        """Return the members of a list field in lower case."""
        text = self.fields.get(name, "")
        return [token.strip().lower() for token in text.split(",")] if text else []


def http_date(moment: datetime) -> str:
    """Return the moment in the form of HTTP fields, whole seconds cut off."""
    t = moment.astimezone(UTC)
    return (
        f"{_DAYS[t.weekday()]}, {t.day:02} {_MONTHS[t.month - 1]} {t.year} "
        f"{t.hour:02}:{t.minute:02}:{t.second:02} GMT"
    )


def has_content(answer: Answer, method: str) -> bool:
    """Tell whether bytes follow the head of the answer."""
    return method != "HEAD" and answer.status not in _BODILESS


def lines(fields: Mapping[str, str]) -> str:
    """Return fields as they are sent; raise ValueError for one that would break out of its line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    if not text.count("\n") == text.count("\r") == len(fields):
        raise ValueError("a field of the answer has a line end in it")
    return text


def render(answer: Answer, *, date: str, chunked: bool, connection: str) -> bytes:
    """Return the head of an answer; `connection` is the value of Connection, empty for none.

    Raises ValueError for a field that would break out of its line.
    """
    own = {"Date": date, "Server": "ecpds"}
    if chunked:
        own["Transfer-Encoding"] = "chunked"
    elif answer.status not in _BODILESS and (size := answer.size) is not None:
        own["Content-Length"] = str(size)
    if connection:
        own["Connection"] = connection
    parts = [_STATUS[answer.status], lines(own), answer.lines, lines(answer.headers)]
    parts += [lines({"Set-Cookie": value}) for value in answer.cookies]
    return ("".join(parts) + "\r\n").encode("latin-1", "replace")
