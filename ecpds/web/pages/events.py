"""What happened: events of the log, newest first and live, and who changed what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from ecpds.store import history
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get
from ecpds.web.pages.destination_tabs import flat
from ecpds.web.pages.frame import show

READ: Final = "system:read"
TYPES: Final[Mapping[str, str]] = {
    "UPH": "Upload", "RET": "Retrieval", "INH": "Portal", "ERR": "Error", "CPY": "Copy",
    "DEA": "Refused", "PRS": "Product", "ADM": "Change", "DEL": "Deletion", "EXP": "Expiry",
    "PUB": "Publication", "QTA": "Quota", "SYS": "Node", "LOG": "Log",
}  # fmt: skip
TONES: Final = {"ERR": "bad", "DEA": "warn", "QTA": "warn", "SYS": "info", "UPH": "good",
                "RET": "good"}  # fmt: skip
MOST_READ: Final = 5_000  # events looked at for one page


def words(record: Mapping[str, Any]) -> str:
    """Return the sentence of an event, from what such events have."""
    found = [_text(record, key) for key in ("action", "context", "outcome")]
    found += [_text(record.get("object"), "kind"), _text(record.get("object"), "name")]
    found += [_text(record.get("error"), "message"), _text(record.get("reason"), "text")]
    return " ".join(part for part in found if part)


def _text(value: object, key: str) -> str:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return str(inner) if inner not in (None, "") else ""


def _row(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(record.get("type", ""))
    return {
        "number": number,
        "type": kind,
        "word": TYPES.get(kind, kind),
        "tone": TONES.get(kind, "off"),
        "time": str(record.get("ts", ""))[:19].replace("T", " "),
        "destination": _text(record.get("destination"), "name"),
        "file": _text(record.get("file"), "name"),
        "user": _text(record.get("user"), "id"),
        "peer": _text(record.get("net"), "client"),
        "transfer": record.get("transfer_id"),
        "words": words(record),
        "whole": json.dumps(record, indent=1, ensure_ascii=False),
    }


async def find(
    call: Call, limit: int, kind: str | None, text: str
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the next events that fit, and the number to go on from."""
    found: list[dict[str, Any]] = []
    before, read = call.before, 0
    store = call.services.core.store
    while read < MOST_READ:
        batch = limit + 1 if not text else 1000
        rows = await store.read(history.events, limit=batch, before=before, kind=kind)
        for number, record in rows:
            if len(found) == limit:
                return found, found[-1]["number"]
            if not text or text in json.dumps(record, ensure_ascii=False).lower():
                found.append(_row(number, record))
        if len(rows) < batch:
            return found, None
        read += len(rows)
        before = rows[-1][0]
    return found, before


async def index(call: Call) -> web.Response:
    """Events, newest first."""
    call.caller.check_everywhere(READ)
    kind, text = call.text("type").upper() or None, call.text("q").strip().lower()
    form, limit = lists.wanted(call), lists.limit_of(call)
    rows, after = await find(call, limit, kind, text)
    cursor = cursor_of(after) if after is not None else None
    if form == "json":
        return lists.as_json([json.loads(row["whole"]) for row in rows], cursor)
    if form == "csv":
        heads = ("number", "time", "type", "destination", "file", "user", "peer", "words")
        return lists.as_csv("events", heads, ([row[head] for head in heads] for row in rows))
    return show(
        call, "pages/events.html", topics=("event:*",) if not call.text("cursor") else (),
        rows=rows, cursor=cursor, types=TYPES,
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def audit(call: Call) -> web.Response:
    """Who changed what, newest first; secrets are masked."""
    call.caller.check_everywhere(READ)
    limit = lists.limit_of(call)
    rows = await call.services.core.store.read(
        history.audit, limit=limit + 1, before=call.before,
        object_type=call.text("kind").strip() or None,
        object_name=call.text("name").strip() or None,
    )  # fmt: skip
    cursor = cursor_of(rows[limit - 1].id) if len(rows) > limit else None
    shown = rows[:limit]
    if lists.wanted(call) == "csv":
        heads = ("id", "time", "actor", "peer", "action", "kind", "name", "difference", "outcome")
        return lists.as_csv("audit", heads, (
            (one.id, one.time, one.actor, one.peer, one.action, one.object_type, one.object_name,
             json.dumps(one.difference, ensure_ascii=False), one.outcome) for one in shown
        ))  # fmt: skip
    return show(
        call, "pages/audit.html", topics=("event:*",) if not call.text("cursor") else (),
        rows=[(one, flat(one.difference)) for one in shown], cursor=cursor,
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


ROUTES: Final = (
    get("/events", READ, index, "Events, newest first."),
    get("/audit", READ, audit, "Who changed what."),
)
