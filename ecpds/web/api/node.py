"""The node itself: events, changes, volumes, effective settings."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.base.settings import effective
from ecpds.store import files, history
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.routes import FIELDS, PAGED, Query, Route
from ecpds.web.shown import Document

EVENTS: Final = "/api/v2/events"
CHANGES: Final = "/api/v2/changes"
_TYPE: Final = Query(name="type", help="Only events of that type: UPH, RET, INH, ERR, ADM, …")
_KIND: Final = Query(name="kind", help="Only changes of that kind of object: destination, host, …")
_NAME: Final = Query(name="name", help="Only changes of the object of that name.")


async def events(call: Call) -> web.StreamResponse:
    """List events, newest first."""
    call.caller.check_everywhere("system:read")
    limit = call.limit
    rows = await call.services.core.store.read(
        history.events, limit=limit + 1, before=call.before, kind=call.text("type").upper() or None
    )
    items = [{"number": number} | record for number, record in rows[:limit]]
    return answers.page(call, items, rows[limit - 1][0] if len(rows) > limit else None)


def _change(row: history.AuditRow) -> Document:
    return {
        "id": row.id,
        "time": shown.moment(row.time),
        "actor": row.actor,
        "peer": row.peer or None,
        "action": row.action,
        "kind": row.object_type,
        "name": row.object_name,
        "difference": row.difference,
        "outcome": row.outcome,
        "comment": row.comment,
    }


async def _changes(call: Call, kind: str | None, name: str | None) -> web.StreamResponse:
    limit = call.limit
    rows = await call.services.core.store.read(
        history.audit, limit=limit + 1, before=call.before, object_type=kind, object_name=name
    )
    after = rows[limit - 1].id if len(rows) > limit else None
    return answers.page(call, [_change(row) for row in rows[:limit]], after)


async def changes(call: Call) -> web.StreamResponse:
    """List what people and programs have changed, newest first."""
    call.caller.check_everywhere("system:read")
    return await _changes(call, call.text("kind") or None, call.text("name") or None)


async def of_destination(call: Call) -> web.StreamResponse:
    """List the changes of one destination."""
    name = call.name("destination")
    call.caller.check("destinations:read", name)
    call.services.core.snapshot.destination(name)
    return await _changes(call, "destination", name)


async def volumes(call: Call) -> web.StreamResponse:
    """List the volumes with what they hold."""
    core = call.services.core
    totals = await core.store.read(files.totals)
    items = [
        {"name": one.name, "files": totals.get(one.name, (0, 0))[0],
         "bytes": totals.get(one.name, (0, 0))[1], "room": one.room, "reserve": one.reserve,
         "weight": one.weight}
        for one in core.objects.volumes
    ]  # fmt: skip
    return answers.page(call, items, None)


async def config(call: Call) -> web.StreamResponse:
    """Return the effective settings, secrets masked."""
    call.caller.check_everywhere("system:admin")
    return answers.as_json(effective(call.services.core.settings))


ROUTES: Final = (
    Route(method="GET", path=EVENTS, right="system:read", handle=events, query=(*PAGED, _TYPE),
          summary="Events, newest first.", answer="[Event]"),
    Route(method="GET", path=CHANGES, right="system:read", handle=changes,
          query=(*PAGED, _KIND, _NAME), summary="Who has changed what, newest first.",
          answer="[Change]"),
    Route(method="GET", path="/api/v2/destinations/{destination}/changes",
          right="destinations:read", handle=of_destination, query=PAGED, answer="[Change]",
          summary="Who has changed a destination, newest first."),
    Route(method="GET", path="/api/v2/volumes", right="stats:read", handle=volumes,
          query=(FIELDS,), summary="Volumes with what they hold.", answer="[Volume]"),
    Route(method="GET", path="/api/v2/config", right="system:admin", handle=config,
          summary="Effective settings, secrets masked.", answer="Config"),
)  # fmt: skip
