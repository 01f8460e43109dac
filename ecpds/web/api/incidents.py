"""`/incidents`: what is wrong, grouped by cause; acknowledge, note and mute.

An incident belongs to the scopes of its destinations; one of the node, to those who may everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from ecpds.model.errors import InputError
from ecpds.store.incidents import Incident
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import IncidentMute, IncidentNote
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, PAGED, Query, Route
from ecpds.web.shown import Document

READ: Final = "destinations:read"
ACT: Final = "destinations:operate"
ALL: Final = "/api/v2/incidents"
ONE: Final = ALL + "/{incident}"


def document(one: Incident) -> Document:
    """Return an incident as JSON."""
    return {
        "id": one.id,
        "kind": one.problem.kind,
        "subject_kind": one.problem.subject_kind,
        "subject": one.problem.subject,
        "severity": one.problem.severity,
        "text": one.problem.text,
        "open": one.resolved_at is None,
        "first_seen": shown.moment(one.first_at),
        "last_seen": shown.moment(one.last_at),
        "count": one.count,
        "acknowledged_by": one.acknowledged_by or None,
        "acknowledged": shown.moment(one.acknowledged_at),
        "note": one.note,
        "muted_until": shown.moment(one.muted_until),
        "muted_by": one.muted_by or None,
        "resolved": shown.moment(one.resolved_at),
    }


def may(call: Call, right: str, one: Incident) -> bool:
    """Tell whether the caller has the right on what the incident is about."""
    names = call.services.incidents.destinations_of(one)
    if call.caller.may_everywhere(right):
        return True
    return any(call.caller.may_on(right, name) for name in names)


async def reached(call: Call, right: str) -> Incident:
    """Return the incident in the address; NotFound or Denied outside of the caller's scope."""
    number = call.number("incident", "Incident")
    found = await call.services.incidents.get(number)
    names = call.services.incidents.destinations_of(found)
    call.caller.check_any(right, names, f"Incident {number} not found")
    return found


def place_of(cursor: str) -> tuple[datetime, int] | None:
    """Return where a list of closed incidents goes on; ValueError."""
    if not cursor:
        return None
    time, _, number = cursor.partition(" ")
    return datetime.fromtimestamp(int(time) / 1e6, UTC), int(number)


def place_after(one: Incident) -> str:
    """Return the cursor behind a closed incident."""
    time = one.resolved_at or one.last_at
    micros = int(time.timestamp()) * 1_000_000 + time.microsecond
    return f"{micros} {one.id}"


async def index(call: Call) -> web.StreamResponse:
    """List open incidents, the worst first, or closed ones, the last first."""
    state = call.text("state") or "open"
    if state not in {"open", "resolved"}:
        raise Refused(400, "bad-parameter", "state: open or resolved")
    if state == "open":
        found = [one for one in await call.services.incidents.opened() if may(call, READ, one)]
        return answers.page(call, [document(one) for one in found[: call.limit]], None)
    limit = call.limit
    try:
        before = place_of(call.cursor)
    except (ValueError, OverflowError, OSError):
        raise Refused(400, "bad-parameter", "cursor: that is no cursor of ours") from None
    rows = await call.services.incidents.resolved(limit=limit + 1, before=before)
    after = place_after(rows[limit - 1]) if len(rows) > limit else None
    items = [document(one) for one in rows[:limit] if may(call, READ, one)]
    return answers.page(call, items, after)


async def get(call: Call) -> web.StreamResponse:
    """Return one incident."""
    return answers.one(call, document(await reached(call, READ)))


async def acknowledge(call: Call) -> web.StreamResponse:
    """Look after an incident."""
    found = await reached(call, ACT)
    asked = await call.decoded(IncidentNote)
    done = await call.services.incidents.acknowledge(found.id, call.caller.actor, asked.note)
    return answers.one(call, document(done))


async def release(call: Call) -> web.StreamResponse:
    """Look after an incident no more."""
    found = await reached(call, ACT)
    done = await call.services.incidents.release(found.id, call.caller.actor)
    return answers.one(call, document(done))


async def note(call: Call) -> web.StreamResponse:
    """Write a note."""
    found = await reached(call, ACT)
    asked = await call.decoded(IncidentNote)
    done = await call.services.incidents.note(found.id, asked.note or "", call.caller.actor)
    return answers.one(call, document(done))


async def mute(call: Call) -> web.StreamResponse:
    """Keep an incident quiet for a while."""
    found = await reached(call, ACT)
    asked = await call.decoded(IncidentMute)
    if asked.until is None:
        raise InputError("say until when", pointer="until")
    done = await call.services.incidents.mute(found.id, asked.until, call.caller.actor)
    return answers.one(call, document(done))


async def unmute(call: Call) -> web.StreamResponse:
    """Tell of an incident again."""
    found = await reached(call, ACT)
    done = await call.services.incidents.unmute(found.id, call.caller.actor)
    return answers.one(call, document(done))


_STATE: Final = Query(name="state", help="open (default) or resolved.")

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=(*PAGED, _STATE),
          summary="What is wrong, worst first; or what was.", answer="[Incident]"),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,),
          summary="One incident.", answer="Incident"),
    Route(method="POST", path=ONE + "/actions/ack", right=ACT, handle=acknowledge,
          query=(FIELDS,), body="IncidentNote", answer="Incident",
          summary="Say that one looks after it."),
    Route(method="POST", path=ONE + "/actions/release", right=ACT, handle=release,
          query=(FIELDS,), body="Nothing", answer="Incident",
          summary="Say that one does not look after it any more."),
    Route(method="POST", path=ONE + "/actions/note", right=ACT, handle=note, query=(FIELDS,),
          body="IncidentNote", answer="Incident", summary="Write a note."),
    Route(method="POST", path=ONE + "/actions/mute", right=ACT, handle=mute, query=(FIELDS,),
          body="IncidentMute", answer="Incident",
          summary="Keep it out of what needs attention until a time."),
    Route(method="POST", path=ONE + "/actions/unmute", right=ACT, handle=unmute,
          query=(FIELDS,), body="Nothing", answer="Incident", summary="Tell of it again."),
)  # fmt: skip
