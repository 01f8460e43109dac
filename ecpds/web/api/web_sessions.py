"""`/web_sessions`: browsers that are logged in to the dashboard."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.base import passwords
from ecpds.store.accounts import OpenSession
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.routes import LISTED, Query, Route
from ecpds.web.shown import Document

RIGHT: Final = "system:admin"
ALL: Final = "/api/v2/web_sessions"
OF_USER: Final = "/api/v2/web_users/{name}/sessions"


def _shown(one: OpenSession, present: str) -> Document:
    return {
        "id": one.id,
        "user": one.name,
        "peer": one.peer,
        "since": shown.moment(one.created_at),
        "used": shown.moment(one.used_at),
        "expires": shown.moment(one.expires_at),
        "present": one.id == present,
    }


async def _listed(call: Call, user: str) -> web.StreamResponse:
    call.caller.check_everywhere(RIGHT)
    secret = call.caller.session
    present = passwords.token_hash(secret)[:16] if secret else ""
    found = await call.services.accounts.web_sessions()
    return answers.named(
        call,
        {one.id: _shown(one, present) for one in found if user in ("", one.name)},
        key="user",
    )


async def index(call: Call) -> web.StreamResponse:
    """List the live browser sessions."""
    return await _listed(call, call.text("user"))


async def of_user(call: Call) -> web.StreamResponse:
    """List those of one web user."""
    call.caller.check_everywhere(RIGHT)
    found = await call.services.accounts.web_user(call.name("name"))
    return await _listed(call, found.user.name)


async def end(call: Call) -> web.StreamResponse:
    """Log one browser out."""
    call.caller.check_everywhere(RIGHT)
    await call.services.accounts.end_web_session(call.name("web_session"), call.caller.actor)
    return answers.nothing()


async def end_all(call: Call) -> web.StreamResponse:
    """Log all browsers of a web user out."""
    call.caller.check_everywhere(RIGHT)
    await call.services.accounts.end_web_sessions(call.name("name"), call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=RIGHT, handle=index,
          query=(*LISTED, Query(name="user", help="Only sessions of that web user.")),
          summary="Browsers that are logged in.", answer="[WebSession]"),
    Route(method="DELETE", path=ALL + "/{web_session}", right=RIGHT, handle=end, status=204,
          summary="Log one browser out."),
    Route(method="GET", path=OF_USER, right=RIGHT, handle=of_user, query=LISTED,
          summary="Browsers of a web user.", answer="[WebSession]"),
    Route(method="DELETE", path=OF_USER, right=RIGHT, handle=end_all, status=204,
          summary="Log all browsers of a web user out."),
)  # fmt: skip
