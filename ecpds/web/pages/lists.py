"""What all lists share: their state in the query string, pages, and CSV or JSON when asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from ecpds.model import units
from ecpds.model.errors import InputError, OptionError
from ecpds.web.call import Call

T = TypeVar("T")

PAGE: Final = 50
MOST: Final = 1000  # rows of one page, CSV and JSON too
FORMATS: Final = {"text/csv": "csv", "application/json": "json", "text/html": "html"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # how a cell of a spreadsheet turns into code


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be sorted by."""

    key: str
    word: str
    kind: str = ""  # class of its cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which rows of a list that is known as a whole are on the page."""

    after: int
    most: int
    found: int


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of a list: `name`, or `-name` for falling."""

    key: str
    falling: bool

    def aria(self, column: str) -> str:
        """Return the value of aria-sort for a column, empty for the others."""
        if column != self.key:
            return ""
        return "descending" if self.falling else "ascending"

    def next(self, column: str) -> str:
        """Return the order that a click on the column's head gives."""
        return f"-{column}" if column == self.key and not self.falling else column


def wanted(call: Call) -> str:
    """Return html, csv or json: `format=` decides, else what Accept likes best."""
    asked = call.text("format")
    if asked in FORMATS.values():
        return asked
    best, weight = "html", 0.0
    for part in call.request.headers.get("Accept", "").split(","):
        kind, _, rest = part.strip().partition(";")
        quality = _quality(rest)
        if kind.strip() in FORMATS and quality > weight:
            best, weight = FORMATS[kind.strip()], quality
    return best


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def limit_of(call: Call) -> int:
    """Return how many rows a page has."""
    text = call.text("limit")
    if not text:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= MOST):
        raise InputError(f"limit: {text!r} is no number from 1 to {MOST}", pointer="limit")
    return int(text)


def time_of(call: Call, name: str) -> datetime | None:
    """Return a time of the query: `2h` before now, or a date or time, UTC unless it says else."""
    return moment_of(call, name, call.text(name))


def moment_of(call: Call, name: str, given: str) -> datetime | None:
    """Return a time that a field of that name holds, None for an empty one."""
    text = given.strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z ", "Z").strip())
    except ValueError:
        try:
            return call.services.core.clock.now() - units.parse_duration(text)
        except (OptionError, OverflowError):
            raise InputError(
                f"{name}: {text!r} is neither a time as 2031-05-04 10:00 nor a length as 2h",
                pointer=name,
            ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def ahead(call: Call, name: str, text: str) -> datetime:
    """Return a time ahead: `2h` from now, or a date or time, UTC unless it says else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return call.services.core.clock.now() + units.parse_duration(text)
        except (OptionError, OverflowError):
            raise InputError(
                f"{name}: {text!r} is neither a time as 2031-05-04 10:00 nor a length as 2h",
                pointer=name,
            ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def sort_of(call: Call, columns: Iterable[str], default: str) -> Sort:
    """Return the order asked for, the default one for an unknown column."""
    text = call.text("sort") or default
    key = text.removeprefix("-")
    if key not in set(columns):
        text, key = default, default.removeprefix("-")
    return Sort(key, text.startswith("-"))


def offset(call: Call) -> int:
    """Return how many rows of a sorted list come before the page."""
    text = call.text("after")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def ordered(rows: Iterable[T], order: Sort, keys: Mapping[str, Callable[[T], Any]]) -> list[T]:
    """Return rows in that order; equal ones stay as they were."""
    return sorted(rows, key=keys[order.key], reverse=order.falling)


def address(call: Call, **changes: str | int | None) -> str:
    """Return the address of this list with other parameters; None takes one away."""
    kept = {name: value for name, value in call.request.query.items() if value}
    for name, value in changes.items():
        if value is None or value == "":
            kept.pop(name, None)
        else:
            kept[name] = str(value)
    path = call.request.rel_url.raw_path
    return f"{path}?{urlencode(kept)}" if kept else path


def as_csv(name: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> web.Response:
    """Answer with a table for spreadsheets; a cell that one would run as a formula is a text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return web.Response(
        body=out.getvalue().encode("utf-8", "backslashreplace"),
        headers={
            "Content-Type": "text/csv; charset=utf-8; header=present",
            "Content-Disposition": f'inline; filename="{name}.csv"',
            "Cache-Control": "no-store",
        },
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if isinstance(value, str) and text.startswith(_FORMULA):
        return "'" + text
    return text


def as_json(items: Sequence[Mapping[str, Any]], next_cursor: str | None) -> web.Response:
    """Answer with the items as the JSON API gives them."""
    document = {"items": list(items), "next_cursor": next_cursor}
    return web.Response(
        body=json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )
