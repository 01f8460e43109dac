"""Incidents: what needs somebody now, and what did; acknowledge, note, mute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.model import units
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.store.incidents import Incident
from ecpds.web.api.incidents import ACT, READ, document, may, place_after, place_of, reached
from ecpds.web.call import Call, cursor_of
from ecpds.web.display import Look
from ecpds.web.errors import Refused
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, own_address, refused, segment, show

ALL: Final = "/incidents"
LOOKS: Final[Mapping[str, Look]] = {
    "critical": Look("Critical", "light-red", "bad"),
    "error": Look("Error", "cross", "bad"),
    "warning": Look("Warning", "light-yellow", "warn"),
}
OVER: Final = Look("Over", "check", "good")
CAUSES: Final[Mapping[str, str]] = {
    "breaker": "Host is not used", "late": "Late transfers", "gave-up": "Gave up",
    "acquisition": "Discovery fails", "storage": "Storage is short",
    "text": "A text cannot be read", "certificate": "Certificate", "publication": "Publications",
}  # fmt: skip
PLACES: Final = {"destination": "/destinations/", "host": "/hosts/"}


def place(one: Incident) -> str:
    """Return the address of what an incident is about."""
    kind = one.problem.subject_kind
    if kind in PLACES:
        return PLACES[kind] + segment(one.problem.subject)
    return "/storage" if kind == "volume" else "/system/certificates"


def _row(call: Call, one: Incident) -> dict[str, Any]:
    is_open = one.resolved_at is None
    return {
        "one": one,
        "look": LOOKS.get(one.problem.severity, LOOKS["warning"]) if is_open else OVER,
        "cause": CAUSES.get(one.problem.kind, one.problem.kind),
        "place": place(one),
        "may_act": may(call, ACT, one),
        "muted": one.is_muted(call.services.core.clock.now()),
    }


async def index(call: Call) -> web.Response:
    """Open incidents, the worst first; or those that are over."""
    if call.text("state") == "resolved":
        return await _over(call)
    found = [one for one in await call.services.incidents.opened() if may(call, READ, one)]
    now = call.services.core.clock.now()
    if lists.wanted(call) == "json":
        return lists.as_json([document(one) for one in found], None)
    quiet = [one for one in found if one.is_muted(now)]
    loud = [one for one in found if not one.is_muted(now)]
    after, most = lists.offset(call), lists.limit_of(call)
    return show(
        call,
        "pages/incidents.html",
        topics=("incident:*",),
        rows=[_row(call, one) for one in loud[after : after + most]],
        part=lists.Window(after=after, most=most, found=len(loud)),
        quiet=[_row(call, one) for one in quiet[:most]],
        over=False,
        cursor=None,
        address=lambda **changes: lists.address(call, **changes),
    )


async def _over(call: Call) -> web.Response:
    limit = lists.limit_of(call)
    try:
        before = place_of(call.cursor)
    except (ValueError, OverflowError, OSError):
        raise Refused(400, "bad-parameter", "cursor: that is no cursor of ours") from None
    rows = await call.services.incidents.resolved(limit=limit + 1, before=before)
    cursor = cursor_of(place_after(rows[limit - 1])) if len(rows) > limit else None
    seen = [one for one in rows[:limit] if may(call, READ, one)]
    return show(
        call, "pages/incidents.html", topics=("incident:*",) if before is None else (),
        rows=[_row(call, one) for one in seen], quiet=[], over=True, cursor=cursor, part=None,
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def detail(call: Call) -> web.Response:
    """One incident."""
    one = await reached(call, READ)
    return show(call, "pages/incident.html", topics=("incident:*",), **_row(call, one))


async def act(call: Call) -> web.Response:
    """Acknowledge, release, note, mute, unmute."""
    one = await reached(call, ACT)
    verb, form = call.name("verb"), await call.form()
    address = own_address(form.get("back", ""), f"{ALL}/{one.id}")
    try:
        text = await _done(call, one, verb, form)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, text)


async def _done(call: Call, one: Incident, verb: str, form: Mapping[str, str]) -> str:
    incidents, actor = call.services.incidents, call.caller.actor
    if verb == "ack":
        await incidents.acknowledge(one.id, actor)
        return "You look after it now."
    if verb == "release":
        await incidents.release(one.id, actor)
        return "Nobody looks after it now."
    if verb == "note":
        await incidents.note(one.id, form.get("note", "").replace("\r\n", "\n"), actor)
        return "The note was stored."
    if verb == "mute":
        until = call.services.core.clock.now() + _length(form.get("for", ""))
        await incidents.mute(one.id, until, actor)
        return f"Quiet until {until:%Y-%m-%d %H:%M} UTC."
    if verb == "unmute":
        await incidents.unmute(one.id, actor)
        return "It is told of again."
    raise NotFound(f"there is no action {verb!r}")


def _length(text: str) -> timedelta:
    try:
        return units.parse_duration(text.strip())
    except (InputError, OverflowError):
        message = f"for: {text[:50]!r} is no length of time such as 2h or 3d"
        raise InputError(message, pointer="for") from None


ROUTES: Final = (
    get(ALL, READ, index, "What needs somebody, the worst first."),
    get(ALL + "/{incident}", READ, detail, "One incident."),
    post(ALL + "/{incident}/actions/{verb}", ACT, act, "ack, release, note, mute, unmute."),
)
