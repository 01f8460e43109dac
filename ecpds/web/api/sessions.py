"""`/portal/sessions` and `/portal/bans`: who is logged in, and who is kept out."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.actor import record
from ecpds.engine.telling import Teller
from ecpds.model.errors import NotFound
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.users import USER, reached_user
from ecpds.web.call import Call
from ecpds.web.routes import FIELDS, Query, Route

READ: Final = "portal:read"
OPERATE: Final = "portal:operate"
SESSIONS: Final = "/api/v2/portal/sessions"
BANS: Final = "/api/v2/portal/bans"


async def sessions(call: Call) -> web.StreamResponse:
    """List open portal sessions."""
    call.caller.check_everywhere(READ)
    return _page(call, call.text("user"))


def _page(call: Call, wanted: str) -> web.StreamResponse:
    items = [
        {"id": one.number, "user": one.user, "protocol": one.protocol.value, "peer": one.peer,
         "since": shown.moment(one.since), "used": shown.moment(one.used_at),
         "uploads": one.uploads, "downloads": one.downloads}
        for one in call.services.gate.sessions()
        if wanted in ("", one.user)
    ]  # fmt: skip
    return answers.page(call, items, None)


async def of_user(call: Call) -> web.StreamResponse:
    """List the open sessions of one data user."""
    stored = await reached_user(call, READ)
    return _page(call, stored.user.login)


async def end_of_user(call: Call) -> web.StreamResponse:
    """End all sessions of one data user; tell how many."""
    stored = await reached_user(call, OPERATE)
    core, login = call.services.core, stored.user.login
    ended = [
        one.number
        for one in call.services.gate.sessions()
        if one.user == login and call.services.gate.end_session(one.number)
    ]
    await core.store.write(
        record, call.caller.actor, "end-sessions", "user", login, {}, Teller(node=core.node),
        now=core.clock.now(),
    )  # fmt: skip
    return answers.as_json({"ended": len(ended)})


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
    Route(method="GET", path=USER + "/sessions", right=READ, handle=of_user, query=(FIELDS,),
          summary="Open portal sessions of a data user.", answer="[Session]"),
    Route(method="DELETE", path=USER + "/sessions", right=OPERATE, handle=end_of_user,
          summary="End all portal sessions of a data user.", answer="SessionsEnded"),
    Route(method="GET", path=BANS, right=READ, handle=bans, summary="Banned addresses.",
          query=(FIELDS,), answer="[Ban]"),
    Route(method="DELETE", path=BANS + "/{address}", right=OPERATE, handle=unban,
          summary="Let an address in again.", status=204),
)  # fmt: skip
