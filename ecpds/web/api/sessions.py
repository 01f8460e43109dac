"""`/portal/sessions` and `/portal/bans`: who is logged in, and who is kept out."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.model.errors import NotFound
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.routes import FIELDS, Query, Route

READ: Final = "portal:read"
OPERATE: Final = "portal:operate"
SESSIONS: Final = "/api/v2/portal/sessions"
BANS: Final = "/api/v2/portal/bans"


async def sessions(call: Call) -> web.StreamResponse:
    """List open portal sessions."""
    call.caller.check_everywhere(READ)
    wanted = call.text("user")
    items = [
        {"id": one.number, "user": one.user, "protocol": one.protocol.value, "peer": one.peer,
         "since": shown.moment(one.since), "used": shown.moment(one.used_at),
         "uploads": one.uploads, "downloads": one.downloads}
        for one in call.services.gate.sessions()
        if wanted in ("", one.user)
    ]  # fmt: skip
    return answers.page(call, items, None)


async def end_session(call: Call) -> web.StreamResponse:
    """End one session."""
    call.caller.check_everywhere(OPERATE)
    number = call.number("session", "Session")
    if not call.services.gate.end_session(number):
        raise NotFound(f"Session {number} not found")
    return answers.nothing()


async def bans(call: Call) -> web.StreamResponse:
    """List banned addresses."""
    call.caller.check_everywhere(READ)
    items = [
        {"address": ban.address, "until": shown.moment(ban.until_at), "reason": ban.reason}
        for ban in await call.services.gate.bans()
    ]
    return answers.page(call, items, None)


async def unban(call: Call) -> web.StreamResponse:
    """Let an address in again."""
    call.caller.check_everywhere(OPERATE)
    address = call.name("address")
    if not await call.services.gate.unban(address):
        raise NotFound(f"{address} is not banned")
    return answers.nothing()


_WHOSE: Final = Query(name="user", help="Only sessions of that user.")

ROUTES: Final = (
    Route(method="GET", path=SESSIONS, right=READ, handle=sessions, query=(_WHOSE, FIELDS),
          summary="Open portal sessions.", answer="[Session]"),
    Route(method="DELETE", path=SESSIONS + "/{session}", right=OPERATE, handle=end_session,
          summary="End a portal session.", status=204),
    Route(method="GET", path=BANS, right=READ, handle=bans, summary="Banned addresses.",
          query=(FIELDS,), answer="[Ban]"),
    Route(method="DELETE", path=BANS + "/{address}", right=OPERATE, handle=unban,
          summary="Let an address in again.", status=204),
)  # fmt: skip
