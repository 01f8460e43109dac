"""`/hosts`: configuration, single options, and the two things that can be tried at once.

A host belongs to the scopes of the destinations that use it; one that nobody uses, to those who may
everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aiohttp import web

from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.hosts import HostView
from ecpds.model.decode import Where, decode
from ecpds.model.errors import NotFound
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import named, without
from ecpds.web.api.schemas import OptionValue
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route

READ: Final = "hosts:read"
WRITE: Final = "hosts:write"
OPERATE: Final = "hosts:operate"
ALL: Final = "/api/v2/hosts"
ONE: Final = ALL + "/{host}"
READ_ONLY: Final = frozenset(
    {"id", "has_password", "destinations", "connections", "bytes", "error", "problem", "checked",
     "valid", "breaker"}
)  # fmt: skip


def tag(view: HostView) -> str:
    """Return the entity tag of the configuration."""
    return f'"{view.version}"'


def check(call: Call, right: str, name: str) -> None:
    """Raise NotFound or Denied unless the caller has the right on that host."""
    users = call.services.core.snapshot.users.get(name, ())
    what = f"Host {name} not found"
    if right == WRITE:  # what it changes concerns all that use it
        call.caller.check_all(right, users, what)
    else:
        call.caller.check_any(right, users, what)


async def _view(call: Call, right: str = READ) -> HostView:
    name = call.name("host")
    check(call, right, name)
    return await call.services.hosts.view(name)


def may_see(call: Call, name: str) -> bool:
    """Tell whether the caller may read that host."""
    users = call.services.core.snapshot.users.get(name, ())
    return call.caller.may_everywhere(READ) or any(call.caller.may_on(READ, u) for u in users)


async def index(call: Call) -> web.StreamResponse:
    """List the hosts of the caller's scope."""
    role, method = call.text("role"), call.text("method")
    return answers.named(
        call,
        {
            view.host.name: shown.host(view)
            for view in await call.services.hosts.views()
            if may_see(call, view.host.name)
            and role in ("", view.host.role.value)
            and method in ("", view.host.method)
        },
    )


async def get(call: Call) -> web.StreamResponse:
    """Return one host with its state."""
    view = await _view(call)
    return answers.one(call, shown.host(view), tag(view))


async def create(call: Call) -> web.StreamResponse:
    """Create a host."""
    call.caller.check_everywhere(WRITE)
    found = decode(Host, without(await call.document(), READ_ONLY), Where())
    return await _store(call, found, None)


async def put(call: Call) -> web.StreamResponse:
    """Create or replace a host."""
    name = call.name("host")
    check(call, WRITE, name)
    document = named("name", name, await call.document(), READ_ONLY)
    old = None
    if name in call.services.core.snapshot.hosts:
        old = await call.services.hosts.view(name)
    return await _store(call, decode(Host, document, Where()), old)


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a host."""
    old = await _view(call, WRITE)
    change = named("name", old.host.name, await call.document(), READ_ONLY)
    document = answers.merged(without(shown.plain(old.host), READ_ONLY), change)
    return await _store(call, decode(Host, document, Where()), old)


async def _store(call: Call, new: Host, old: HostView | None) -> web.StreamResponse:
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    dry_run = call.flag("dry_run")
    await call.services.hosts.put(
        new,
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=dry_run,
    )
    if dry_run:
        hidden = replace(new, options=masked(call.services.core, new.options))
        return answers.tried(call, without(shown.plain(hidden), {"id"}))
    view = await call.services.hosts.view(new.name)
    location = f"{ALL}/{new.name}" if old is None else ""
    status = 200 if old is not None else 201
    return answers.one(call, shown.host(view), tag(view), status=status, location=location)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a host that no destination uses."""
    view = await _view(call, WRITE)
    call.check_match(tag(view))
    if not call.flag("dry_run"):
        await call.services.hosts.delete(view.host.name, call.caller.actor)
    return answers.nothing()


async def put_option(call: Call) -> web.StreamResponse:
    """Set one option, for instance a new access token."""
    view, given = await _view(call, WRITE), await call.decoded(OptionValue)
    options = dict(view.host.options) | {call.name("key"): given.value}
    return await _with_options(call, view, options)


async def delete_option(call: Call) -> web.StreamResponse:
    """Remove one option."""
    view, key = await _view(call, WRITE), call.name("key")
    if key not in view.host.options:
        raise NotFound(f"Host {view.host.name} has no option {key}")
    options = {name: text for name, text in view.host.options.items() if name != key}
    await _with_options(call, view, options)
    return answers.nothing()


async def _with_options(call: Call, view: HostView, options: dict[str, str]) -> web.StreamResponse:
    call.check_match(tag(view), optional=True)
    kept = Secret(shown.STARS) if view.host.password else Secret("")
    dry_run = call.flag("dry_run")
    changed = replace(view.host, options=options, password=kept)
    await call.services.hosts.put(
        changed, call.caller.actor, if_version=view.version, dry_run=dry_run
    )
    if dry_run:
        hidden = replace(view, host=replace(changed, options=masked(call.services.core, options)))
        return answers.tried(call, shown.host(hidden))
    stored = await call.services.hosts.view(view.host.name)
    return answers.one(call, shown.host(stored), tag(stored))


async def test(call: Call) -> web.StreamResponse:
    """Try the host out now, step by step; tell what happened."""
    view = await _view(call, OPERATE)
    found = await call.services.hosts.test(view.host.name, call.caller.actor)
    return answers.as_json(found)


_FILTERS: Final = (
    Query(name="role", help="Only hosts of that role."),
    Query(name="method", help="Only hosts of that method."),
)

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, summary="Hosts by name.",
          query=(*LISTED, *_FILTERS), answer="[Host]"),
    Route(method="POST", path=ALL, right=WRITE, handle=create, summary="Create a host.",
          query=(DRY_RUN, FIELDS), body="Host", answer="Host", status=201),
    Route(method="GET", path=ONE, right=READ, handle=get, summary="One host.", query=(FIELDS,),
          answer="Host"),
    Route(method="PUT", path=ONE, right=WRITE, handle=put, needs_match=True, body="Host",
          summary="Create or replace a host.", query=(DRY_RUN, FIELDS), answer="Host"),
    Route(method="PATCH", path=ONE, right=WRITE, handle=patch, needs_match=True, body="Host",
          summary="Change some keys of a host.", query=(DRY_RUN, FIELDS), answer="Host"),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, needs_match=True,
          summary="Delete a host that no destination uses.", query=(DRY_RUN,), status=204),
    Route(method="PUT", path=ONE + "/options/{key}", right=WRITE, handle=put_option,
          query=(DRY_RUN,), summary="Set one option.", body="OptionValue", answer="Host"),
    Route(method="DELETE", path=ONE + "/options/{key}", right=WRITE, handle=delete_option,
          query=(DRY_RUN,), summary="Remove one option.", status=204),
    Route(method="POST", path=ONE + "/actions/test", right=OPERATE, handle=test, body="Nothing",
          summary="Try it out now: resolve, connect, identity, login, list, put or get, delete.",
          answer="HostTest"),
)  # fmt: skip
