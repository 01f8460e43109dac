"""JSON answers: one object with its tag, a page of a list, a change that was only tried."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from ecpds.web.api import lists
from ecpds.web.call import Call, cursor_of
from ecpds.web.errors import Refused
from ecpds.web.shown import Document

T = TypeVar("T")


def as_json(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return web.Response(
        text=text, status=status, content_type="application/json", headers=dict(headers or {})
    )


def one(
    call: Call, document: Document, etag: str = "", *, status: int = 200, location: str = ""
) -> web.Response:
    """Answer with one object; 304 when the caller has it already."""
    headers = {"ETag": etag} if etag else {}
    if location:
        headers["Location"] = location
    if etag and call.request.method in {"GET", "HEAD"} and call.unchanged(etag):
        return web.Response(status=304, headers=headers)
    return as_json(_chosen(call, document), status=status, headers=headers)


def nothing() -> web.Response:
    """Answer that it is done."""
    return web.Response(status=204)


def tried(call: Call, document: Document) -> web.Response:
    """Answer what a write would have led to."""
    return as_json(_chosen(call, document), headers={"Preference-Applied": "dry_run"})


def page(
    call: Call, items: Sequence[Document], after: str | int | None, total: Document | None = None
) -> web.Response:
    """Answer with a page of a list; `after` is the key of its last item when there is more.

    `total` is what `count=true` adds.
    """
    cursor = None if after is None else cursor_of(after)
    headers = {}
    if cursor is not None:
        query = [(key, value) for key, value in call.request.query.items() if key != "cursor"]
        address = f"{call.request.path}?{urlencode([*query, ('cursor', cursor)])}"
        headers["Link"] = f'<{address}>; rel="next"'
    document = {"items": [_chosen(call, item) for item in items], "next_cursor": cursor}
    return as_json(document | (total or {}), headers=headers)


def named(call: Call, items: Mapping[str, Document], key: str = "name") -> web.Response:
    """Answer with a page of objects by name, which are all at hand: searched, ordered, counted.

    `key` is the field that a word alone is looked for in.
    """
    orders = lists.orders_of(call, list(items.values()))
    found = lists.searched(call, items, key)
    chosen, after = lists.cut(call, found, orders)
    total = lists.total_of(call, len(found))
    return page(call, [document for _, document in chosen], after, total)


def numbered(call: Call, items: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
    """Return at most `limit` of the items, and whether there were more."""
    return items[:limit], len(items) > limit


def _chosen(call: Call, document: Document) -> Document:
    fields = call.texts("fields")
    if not fields:
        return document
    for field in fields:
        if field not in document:
            raise Refused(400, "bad-parameter", f"fields: there is no field {field!r}")
    return {field: document[field] for field in fields}


def merged(document: Document, patch: Mapping[str, Any]) -> Document:
    """Return a document with a JSON merge patch applied (RFC 7396)."""
    found = dict(document)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            inner = found.get(key)
            found[key] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            found[key] = value
    return found
