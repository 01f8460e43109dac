"""`/destinations`: configuration, hosts, aliases, state, and what operators do with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.destinations import DestinationView
from ecpds.engine.operations.destinations import masked as mask
from ecpds.model.decode import Where, convert, decode
from ecpds.model.destination import Alias, Destination
from ecpds.model.errors import Conflict, Denied, NotFound
from ecpds.store import destinations
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import named, without
from ecpds.web.api.schemas import HoldRequest, HostLink, StopRequest
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route
from ecpds.web.shown import Document

READ: Final = "destinations:read"
WRITE: Final = "destinations:write"
OPERATE: Final = "destinations:operate"
ALL: Final = "/api/v2/destinations"
ONE: Final = ALL + "/{destination}"
READ_ONLY: Final = frozenset(
    {"status", "light", "queued", "outstanding", "counts", "waits_for", "current_host", "state_by",
     "state_reason", "last_done", "last_done_id", "last_failed", "last_failed_id"}
)  # fmt: skip
CASCADE: Final = Query(name="cascade", help="Delete its transfers too.", type="flag")
DIRECTION: Final = Query(name="direction", help="from (default): its own; to: those to it.")


def tag(view: DestinationView) -> str:
    """Return the entity tag of the configuration."""
    return f'"{view.version}"'


async def _view(call: Call, right: str = READ) -> DestinationView:
    name = call.name("destination")
    call.caller.check(right, name)
    return await call.services.destinations.view(name)


async def index(call: Call) -> web.StreamResponse:
    """List the destinations of the caller's scope."""
    views = await call.services.destinations.views()
    status, kind = call.text("status"), call.text("type")
    return answers.named(
        call,
        {
            view.destination.name: shown.destination(view)
            for view in views
            if call.caller.may_on(READ, view.destination.name)
            and status in ("", view.status.value)
            and kind in ("", view.destination.type)
        },
    )


async def get(call: Call) -> web.StreamResponse:
    """Return one destination with its state."""
    view = await _view(call)
    return answers.one(call, shown.destination(view), tag(view))


async def create(call: Call) -> web.StreamResponse:
    """Create a destination."""
    found = decode(Destination, without(await call.document(), READ_ONLY), Where())
    if not call.caller.may_on(WRITE, found.name):
        raise Denied(f"{call.caller.name} has no {WRITE} on destination {found.name}")
    return await _store(call, found, None)


async def put(call: Call) -> web.StreamResponse:
    """Create or replace a destination."""
    name = call.name("destination")
    call.caller.check(WRITE, name)
    document = named("name", name, await call.document(), READ_ONLY)
    old = await _present(call, name)
    return await _store(call, decode(Destination, document, Where()), old)


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a destination."""
    old = await _view(call, WRITE)
    change = named("name", old.destination.name, await call.document(), READ_ONLY)
    document = answers.merged(shown.plain(old.destination), change)
    return await _store(call, decode(Destination, document, Where()), old)


async def _present(call: Call, name: str) -> DestinationView | None:
    if name not in call.services.core.snapshot.destinations:
        return None
    return await call.services.destinations.view(name)


async def _store(
    call: Call, new: Destination, old: DestinationView | None, *, is_part: bool = False
) -> web.StreamResponse:
    """Write; for a list that is part of the destination If-Match is welcome, not required."""
    is_new = old is None
    if old is not None and not call.must_be_new:
        call.check_match(tag(old), optional=is_part)
    check_links(call, new, old.destination if old else None)
    dry_run = call.flag("dry_run")
    await call.services.destinations.put(
        new,
        call.caller.actor,
        must_be_new=is_new or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=dry_run,
    )
    if dry_run:
        return answers.tried(call, shown.plain(masked(call, new)))
    view = await call.services.destinations.view(new.name)
    return answers.one(
        call,
        shown.destination(view),
        tag(view),
        status=201 if is_new else 200,
        location=f"{ALL}/{new.name}" if is_new else "",
    )


def masked(call: Call, new: Destination) -> Destination:
    """Return a destination without its secrets."""
    return replace(new, options=mask(call.services.core, new.options))


def check_links(call: Call, new: Destination, old: Destination | None) -> None:
    """Raise Denied or NotFound for new links to what lies outside of the caller's scope."""
    caller, users = call.caller, call.services.core.snapshot.users
    for host in set(new.hosts) - set(old.hosts if old else ()):
        if host in call.services.core.snapshot.hosts:
            caller.check_any("hosts:read", users.get(host, ()), f"Host {host} not found")
    known = {alias.to for alias in old.aliases} if old else set()
    for to in {alias.to for alias in new.aliases} - known - {new.name}:
        caller.check(WRITE, to)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a destination; with live transfers or aliases to it only when asked to cascade."""
    view = await _view(call, WRITE)
    call.check_match(tag(view))
    name = view.destination.name
    sources = await call.services.core.store.read(destinations.aliased_from, name)
    files = sum(view.counts.values())
    if (files or sources) and not call.flag("cascade"):
        dependents = [f"{files} transfers"] if files else []
        dependents += [f"alias from {source}" for source in sources]
        raise Conflict(
            f"Destination {name} has {', '.join(dependents)}; use cascade=true",
            dependents=dependents,
        )
    if not call.flag("dry_run"):
        await call.services.destinations.delete(name, call.caller.actor)
    return answers.nothing()


# --- parts ---------------------------------------------------------------------------------------


async def status(call: Call) -> web.StreamResponse:
    """Return only the state."""
    view = await _view(call)
    return answers.one(call, {"name": view.destination.name} | shown.status_of(view))


async def get_hosts(call: Call) -> web.StreamResponse:
    """Return the hosts in their order."""
    view = await _view(call)
    return answers.as_json(_links(call, view.destination), headers={"ETag": tag(view)})


def _links(call: Call, destination: Destination) -> list[Document]:
    known = call.services.core.snapshot.hosts
    places: dict[str, int] = {}
    links = []
    for name in destination.hosts:
        role = known[name].host.role.value if name in known else ""
        places[role] = places.get(role, -1) + 1
        links.append({"host": name, "role": role, "priority": places[role]})
    return links


async def put_hosts(call: Call) -> web.StreamResponse:
    """Replace the hosts and their order: names, or objects with `host`."""
    view = await _view(call, WRITE)
    names = []
    for number, item in enumerate(await call.items()):
        if isinstance(item, str):
            names.append(item)
        else:
            names.append(decode(HostLink, item, Where(path=("hosts", number))).host)
    return await _store(call, replace(view.destination, hosts=tuple(names)), view, is_part=True)


async def get_aliases(call: Call) -> web.StreamResponse:
    """Return the aliases of a destination, or with `direction=to` those that lead to it."""
    view = await _view(call)
    name = view.destination.name
    if call.text("direction", "from") == "from":
        found = [shown.plain(alias) for alias in view.destination.aliases]
        return answers.as_json(found, headers={"ETag": tag(view)})
    entries = call.services.core.snapshot.destinations
    return answers.as_json(
        [
            {"from": source} | shown.plain(alias)
            for source, entry in entries.items()
            if call.caller.may_on(READ, source)
            for alias in entry.destination.aliases
            if alias.to == name
        ]
    )


async def put_aliases(call: Call) -> web.StreamResponse:
    """Replace the aliases of a destination."""
    view = await _view(call, WRITE)
    given = await call.items()
    aliases = convert(tuple[Alias, ...], given, Where(path=("aliases",)))
    return await _store(call, replace(view.destination, aliases=aliases), view, is_part=True)


async def delete_alias(call: Call) -> web.StreamResponse:
    """Remove the alias to one destination."""
    view, to = await _view(call, WRITE), call.name("target")
    left = tuple(alias for alias in view.destination.aliases if alias.to != to)
    if len(left) == len(view.destination.aliases):
        raise NotFound(f"Destination {view.destination.name} has no alias to {to}")
    await _store(call, replace(view.destination, aliases=left), view, is_part=True)
    return answers.nothing()


# --- actions -------------------------------------------------------------------------------------


async def _done(call: Call) -> web.StreamResponse:
    view = await call.services.destinations.view(call.name("destination"))
    return answers.one(call, shown.destination(view), tag(view))


async def start(call: Call) -> web.StreamResponse:
    """Let it work again, from its first host."""
    name = call.name("destination")
    call.caller.check(OPERATE, name)
    await call.services.destinations.start(name, call.caller.actor)
    return await _done(call)


async def stop(call: Call) -> web.StreamResponse:
    """Start nothing any more."""
    name = call.name("destination")
    call.caller.check(OPERATE, name)
    how = await call.decoded(StopRequest)
    await call.services.destinations.stop(
        name, call.caller.actor, immediate=how.mode == "immediate"
    )
    return await _done(call)


async def restart(call: Call) -> web.StreamResponse:
    """Stop and start again."""
    name = call.name("destination")
    call.caller.check(OPERATE, name)
    how = await call.decoded(StopRequest)
    await call.services.destinations.restart(
        name, call.caller.actor, immediate=how.mode == "immediate"
    )
    return await _done(call)


async def hold(call: Call) -> web.StreamResponse:
    """Stop with a reason, until it is released."""
    name = call.name("destination")
    call.caller.check(OPERATE, name)
    how = await call.decoded(HoldRequest)
    await call.services.destinations.hold(
        name,
        call.caller.actor,
        reason=how.reason,
        immediate=how.mode == "immediate",
        until=how.until,
    )
    return await _done(call)


async def release(call: Call) -> web.StreamResponse:
    """Start a held or stopped destination."""
    name = call.name("destination")
    call.caller.check(OPERATE, name)
    await call.services.destinations.release(name, call.caller.actor)
    return await _done(call)


_ACTIONS: Final[Mapping[str, Any]] = {
    "start": (start, "Nothing"),
    "stop": (stop, "StopRequest"),
    "restart": (restart, "StopRequest"),
    "hold": (hold, "HoldRequest"),
    "release": (release, "Nothing"),
}
_FILTERS: Final = (
    Query(name="status", help="Only those with that status."),
    Query(name="type", help="Only those of that type."),
)

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, summary="Destinations by name.",
          query=(*LISTED, *_FILTERS), answer="[Destination]"),
    Route(method="POST", path=ALL, right=WRITE, handle=create, summary="Create a destination.",
          query=(DRY_RUN, FIELDS), body="Destination", answer="Destination", status=201),
    Route(method="GET", path=ONE, right=READ, handle=get, summary="One destination.",
          query=(FIELDS,), answer="Destination"),
    Route(method="PUT", path=ONE, right=WRITE, handle=put, needs_match=True,
          summary="Create or replace a destination.", query=(DRY_RUN, FIELDS), body="Destination",
          answer="Destination"),
    Route(method="PATCH", path=ONE, right=WRITE, handle=patch, needs_match=True,
          summary="Change some keys of a destination.", query=(DRY_RUN, FIELDS),
          body="Destination", answer="Destination"),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, needs_match=True,
          summary="Delete a destination.", query=(CASCADE, DRY_RUN), status=204),
    Route(method="GET", path=ONE + "/status", right=READ, handle=status, query=(FIELDS,),
          summary="Only the state of a destination.", answer="DestinationStatus"),
    Route(method="GET", path=ONE + "/hosts", right=READ, handle=get_hosts,
          summary="Its hosts in order.", answer="HostLink[]"),
    Route(method="PUT", path=ONE + "/hosts", right=WRITE, handle=put_hosts,
          summary="Replace its hosts and their order.", query=(DRY_RUN,), body="HostLink[]",
          answer="Destination"),
    Route(method="GET", path=ONE + "/aliases", right=READ, handle=get_aliases,
          summary="Its aliases.", query=(DIRECTION,), answer="Alias[]"),
    Route(method="PUT", path=ONE + "/aliases", right=WRITE, handle=put_aliases,
          summary="Replace its aliases.", query=(DRY_RUN,), body="Alias[]", answer="Destination"),
    Route(method="DELETE", path=ONE + "/aliases/{target}", right=WRITE, handle=delete_alias,
          summary="Remove one alias.", query=(DRY_RUN,), status=204),
    *(
        Route(method="POST", path=f"{ONE}/actions/{verb}", right=OPERATE, handle=handle, body=body,
              summary=f"{verb.capitalize()} a destination.", answer="Destination")
        for verb, (handle, body) in _ACTIONS.items()
    ),
)  # fmt: skip
