"""Steps of all transfers: what happened, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from aiohttp import web

from ecpds.model.errors import InputError
from ecpds.model.transfer import HistoryRow
from ecpds.store import history, transfers
from ecpds.store.db import Connection
from ecpds.web import shown
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import back, show
from ecpds.web.pages.rows import READ

BATCH: Final = 500
MOST_READ: Final = 10_000


def read_targets(db: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Return the targets of transfers that are still there."""
    found = ((number, transfers.get(db, number)) for number in dict.fromkeys(numbers))
    return {number: one.target for number, one in found if one is not None}


async def find(
    call: Call, limit: int, since: datetime | None, until: datetime | None
) -> tuple[list[HistoryRow], str | None, bool]:
    """Return the next steps, the cursor behind them, and whether the search was cut short."""
    destination, errors = call.text("dest") or None, call.flag("errors") or None
    items: list[HistoryRow] = []
    before, read = call.before, 0
    while read < MOST_READ:
        asked = max(BATCH if read else 0, limit + 1)
        rows = await call.services.core.store.read(
            history.recent_steps, limit=asked, before=before, destination=destination,
            errors=errors,
        )  # fmt: skip
        items += [
            row for row in rows
            if call.caller.may_on(READ, row.destination)
            and (since is None or row.time >= since) and (until is None or row.time < until)
        ]  # fmt: skip
        if len(items) > limit:
            return items[:limit], cursor_of(items[limit - 1].id), False
        if len(rows) < asked or (since is not None and rows[-1].time < since):
            return items, None, False
        read, before = read + len(rows), rows[-1].id
    return items, cursor_of(before or 0), True


async def index(call: Call) -> web.Response:
    """The steps that fit."""
    problem, form = "", lists.wanted(call)
    rows: list[HistoryRow] = []
    cursor, is_partial = None, False
    try:
        since, until = lists.time_of(call, "from"), lists.time_of(call, "to")
        rows, cursor, is_partial = await find(call, lists.limit_of(call), since, until)
    except InputError as error:
        if form != "html":
            raise
        problem = error.message
    if form != "html":
        return _table(form, rows, cursor)
    core = call.services.core
    return show(
        call,
        "pages/history.html",
        topics=() if call.text("cursor") else (f"transfers:{call.text('dest') or '*'}",),
        rows=rows,
        targets=await core.store.read(read_targets, [row.transfer for row in rows]),
        cursor=cursor,
        is_partial=is_partial,
        problem=problem,
        names=[name for name in sorted(core.snapshot.destinations)
               if call.caller.may_on(READ, name)],
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


def _table(form: str, rows: Sequence[HistoryRow], cursor: str | None) -> web.Response:
    if form == "json":
        items = [shown.step(row) | {"transfer": row.transfer, "destination": row.destination}
                 for row in rows]  # fmt: skip
        return lists.as_json(items, cursor)
    heads = ("time", "destination", "transfer", "status", "host", "sent", "user", "error", "text")
    return lists.as_csv(
        "history",
        heads,
        (
            (row.time, row.destination, row.transfer, row.status.word, row.host, row.sent,
             row.user, row.error, row.reason.text if row.reason else row.comment)
            for row in rows
        ),
    )  # fmt: skip


async def moved(call: Call) -> web.Response:
    """Go to the list from its short address."""
    return back(call, "/transfers/history")


ROUTES: Final = (
    get("/transfers/history", READ, index, "What happened, newest first."),
    get("/history", READ, moved, "The same, by its short address."),
)
