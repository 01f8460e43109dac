"""What was tried or failed and is not done, over all destinations."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.store import outstanding
from ecpds.web import shown
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import bulk, lists
from ecpds.web.pages.addresses import get
from ecpds.web.pages.destinations import visible
from ecpds.web.pages.frame import back, show
from ecpds.web.pages.rows import READ, row_of

BATCH: Final = 500
MOST_READ: Final = 10_000


async def index(call: Call) -> web.Response:
    """Outstanding transfers, newest first, with how many each destination has."""
    services, caller = call.services, call.caller
    now, limit = services.core.clock.now(), lists.limit_of(call)
    destination = call.text("dest") or None
    items, before, read, cursor = [], call.before, 0, None
    while read < MOST_READ:
        rows = await services.core.store.read(
            outstanding.page, limit=max(BATCH if read else 0, limit + 1), before=before,
            destination=destination,
        )  # fmt: skip
        items += [one for one in rows if caller.may_on(READ, one.destination)]
        if len(items) > limit or len(rows) <= limit:
            break
        read, before = read + len(rows), rows[-1].id
    if len(items) > limit:
        cursor = cursor_of(items[limit - 1].id)
    items = items[:limit]
    if lists.wanted(call) != "html":
        documents = [shown.transfer(one, now, restricted=caller.is_restricted) for one in items]
        if lists.wanted(call) == "json":
            return lists.as_json(documents, cursor)
        heads = ("id", "destination", "target", "status", "attempts", "host", "failed", "reason")
        return lists.as_csv(
            "outstanding", heads,
            ([(one[key] or {}).get("text") if key == "reason" else one[key] for key in heads]
             for one in documents),
        )  # fmt: skip
    loud = [view for view in await visible(call) if view.outstanding]
    return show(
        call,
        "pages/outstanding.html",
        topics=("dest:*",) if destination is None else (f"dest:{destination}",),
        rows=[row_of(one, services.engine, caller, now) for one in items],
        loud=sorted(loud, key=lambda view: (-view.outstanding, view.destination.name)),
        total=sum(view.outstanding for view in loud
                  if destination in (None, view.destination.name)),
        cursor=cursor,
        destination=destination or "",
        bulk=bulk.verbs_of(call),
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def moved(call: Call) -> web.Response:
    """Go to the list from its short address."""
    return back(call, "/transfers/outstanding")


ROUTES: Final = (
    get("/transfers/outstanding", READ, index, "What was tried and is not done."),
    get("/outstanding", READ, moved, "The same, by its short address."),
)
