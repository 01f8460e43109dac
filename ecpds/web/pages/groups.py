"""Groups: batches of registered files, how far each is, and what of it failed."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.model.errors import InputError
from ecpds.web.api.groups import KINDS, check_group, group_of
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import show

READ: Final = "files:read"


async def index(call: Call) -> web.Response:
    """All batches by name."""
    limit = lists.limit_of(call)
    is_whole = call.caller.may_everywhere(READ)
    found = []
    if is_whole:
        found = await call.services.groups.page(after=call.cursor, limit=limit + 1)
    after = cursor_of(found[limit - 1].name) if len(found) > limit else None
    if lists.wanted(call) == "json":
        return lists.as_json([group_of(one) for one in found[:limit]], after)
    return show(
        call, "pages/groups.html", topics=("transfers:*",), rows=found[:limit], cursor=after,
        is_whole=is_whole, address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def detail(call: Call) -> web.Response:
    """One batch with its files."""
    name, which = call.name("group"), call.text("state", "all")
    await check_group(call, name)
    if which not in KINDS:
        raise InputError(f"state: {which!r} is none of {', '.join(KINDS)}", pointer="state")
    limit = lists.limit_of(call)
    view = await call.services.groups.view(name)
    files = await call.services.groups.members(
        name, which=which, after=call.before or 0, limit=limit + 1
    )
    return show(
        call, "pages/group.html", topics=("transfers:*",), view=view, files=files[:limit],
        which=which, kinds=KINDS,
        cursor=cursor_of(files[limit - 1].id) if len(files) > limit else None,
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


ROUTES: Final = (
    get("/groups", READ, index, "Batches of registered files."),
    get("/groups/{group}", READ, detail, "One batch."),
)
