"""Directory listings for programs: JSON, CSV and plain names, written while they are read.

Spec: portal.md 3.4; RFC 4180 for CSV, RFC 8288 for Link.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast
from urllib.parse import urlencode

from ecpds.model.errors import InputError
from ecpds.vfs.contract import Listing, Node, Session

FORMATS = {
    "html": "text/html",
    "json": "application/json",
    "csv": "text/csv",
    "text": "text/plain",
}
LONGEST_PAGE = 10_000  # entries when a client pages
_BLOCK = 64 * 1024  # bytes gathered before they are sent


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `cursor` leads to the next, None: this was the last."""

    nodes: list[Node]
    cursor: str | None


def read_query(query: Mapping[str, str]) -> Listing:
    """Return what the query fields `sort order limit cursor search` say; raise InputError."""
    sort = _one_of(query, "sort", ("size", "target", "time", "name"))
    order = _one_of(query, "order", ("asc", "desc"))
    return Listing(
        sort=cast('Literal["size", "target", "time"]', "target" if sort == "name" else sort),
        order=cast('Literal["asc", "desc"]', order),
        pattern=glob_of(query.get("search", "")),
        limit=_limit(query.get("limit")),
        cursor=query.get("cursor") or None,
    )


def _one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = query.get(name) or None
    if value is not None and value not in allowed:
        raise InputError(f"{name} is one of {', '.join(allowed)}", pointer=name)
    return value


def _limit(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise InputError("limit is a count of 1 or more", pointer="limit")
    return min(int(text), LONGEST_PAGE)


def glob_of(search: str) -> str | None:
    """Return the glob of a search text: itself if it has * or ?, else the text within a name."""
    text = search.strip()[:255]
    if not text:
        return None
    if "*" in text or "?" in text:
        return text
    return f"*{text.replace('[', '[[]')}*"


async def read_page(session: Session, path: str, listing: Listing) -> Page:
    """Return the page that `listing` names; its limit must be set."""
    limit = listing.limit or LONGEST_PAGE
    nodes = [node async for node in session.list(path, replace(listing, limit=limit + 1))]
    more = len(nodes) > limit
    return Page(nodes[:limit], nodes[limit - 1].name if more else None)


def next_link(address: str, query: Mapping[str, str], cursor: str) -> str:
    """Return the value of Link that leads to the next page."""
    return f'<{address}?{urlencode({**query, "cursor": cursor})}>; rel="next"'


def stamp(moment: datetime | None) -> str | None:
    """Return a time as RFC 3339 text in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


async def each(nodes: Iterable[Node]) -> AsyncIterator[Node]:
    """Yield what is in memory already."""
    for node in nodes:
        yield node


async def begun(blocks: AsyncIterator[bytes]) -> bytes | AsyncIterator[bytes]:
    """Return the blocks after the first has come, so that errors come before the status line.

    A listing of one block comes as that block.
    """
    first = await anext(blocks, b"")
    second = await anext(blocks, None)
    if second is None:
        return first

    async def rest() -> AsyncIterator[bytes]:
        yield first
        yield second
        async for block in blocks:
            yield block

    return rest()


async def written(kind: str, nodes: AsyncIterator[Node]) -> AsyncIterator[bytes]:
    """Yield the listing as `json`, `csv` or `text` in blocks of about 64 KiB."""
    form = _FORMS[kind]()
    gathered = io.StringIO()
    gathered.write(form.head)
    async for node in nodes:
        gathered.write(form.entry(node))
        if gathered.tell() >= _BLOCK:
            yield gathered.getvalue().encode("utf-8", "replace")
            gathered = io.StringIO()
    gathered.write(form.tail)
    yield gathered.getvalue().encode("utf-8", "replace")


class _Text:
    head = tail = ""

    def entry(self, node: Node) -> str:
        return f"{node.name}{'/' if node.is_directory else ''}\n"


class _Csv:
    head, tail = "name,size,time,directory\r\n", ""

    def entry(self, node: Node) -> str:
        line = io.StringIO()
        size = "" if node.is_directory else node.size
        flag = "true" if node.is_directory else "false"
        csv.writer(line).writerow([node.name, size, stamp(node.mtime) or "", flag])
        return line.getvalue()


class _Json:
    head, tail = "[", "]\n"

    def __init__(self) -> None:
        self._lead = "\n"

    def entry(self, node: Node) -> str:
        lead, self._lead = self._lead, ",\n"
        return lead + json.dumps(as_object(node), ensure_ascii=False)


_FORMS: Mapping[str, type[_Text | _Csv | _Json]] = {"text": _Text, "csv": _Csv, "json": _Json}


def as_object(node: Node) -> dict[str, object]:
    """Return the JSON form of one entry."""
    return {
        "name": node.name,
        "size": None if node.is_directory else node.size,
        "time": stamp(node.mtime),
        "directory": node.is_directory,
        "id": node.transfer_id,
        "etag": node.etag or None,
    }
