"""Copies of objects, objects out and in one by one, switches, and new secrets for tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.jobs import Selection
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.errors import Conflict, Denied, InputError
from ecpds.model.secret import Secret
from ecpds.store import accounts
from ecpds.web import shown
from ecpds.web.api import answers, destinations, hosts, users
from ecpds.web.api.jobs import document as job_document
from ecpds.web.api.schemas import CleanRequest, CloneRequest, ImportRequest
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route

DESTINATION: Final = destinations.ONE
HOST: Final = hosts.ONE
USER: Final = users.USER
LARGEST: Final = 4 * 1024 * 1024  # bytes of a document of one object
CLEANED: Final = {"all": (), "finished": ("done", "stopped", "failed")}


async def clone_destination(call: Call) -> web.StreamResponse:
    """Create a destination like another one, without its files."""
    name, asked = call.name("destination"), await call.decoded(CloneRequest)
    call.caller.check(destinations.READ, name)
    core = call.services.core
    source = core.snapshot.destination(name).destination
    if not call.caller.may_on(destinations.WRITE, asked.name):
        raise Denied(f"{call.caller.name} has no {destinations.WRITE} on {asked.name}")
    opened = core.configuration.opened(source.options)
    made = replace(
        source, name=asked.name, options=dict(opened), comment=asked.comment or source.comment
    )
    dry_run = call.flag("dry_run")
    await call.services.destinations.put(made, call.caller.actor, must_be_new=True, dry_run=dry_run)
    if dry_run:
        return answers.tried(call, shown.plain(destinations.masked(call, made)))
    view = await call.services.destinations.view(made.name)
    return answers.one(
        call, shown.destination(view), destinations.tag(view), status=201,
        location=f"{destinations.ALL}/{made.name}",
    )  # fmt: skip


async def clone_host(call: Call) -> web.StreamResponse:
    """Create a host like another one, its credentials included."""
    name, asked = call.name("host"), await call.decoded(CloneRequest)
    hosts.check(call, hosts.WRITE, name)
    core = call.services.core
    source = core.snapshot.host(name).host
    opened = core.configuration.opened(source.options)
    made = replace(
        source, id=0, name=asked.name, options=dict(opened),
        comment=asked.comment or source.comment,
    )  # fmt: skip
    dry_run = call.flag("dry_run")
    await call.services.hosts.put(made, call.caller.actor, must_be_new=True, dry_run=dry_run)
    if dry_run:
        hidden = replace(made, options=dict.fromkeys(made.options, shown.STARS))
        return answers.tried(call, shown.plain(hidden))
    view = await call.services.hosts.view(made.name)
    return answers.one(
        call, shown.host(view), hosts.tag(view), status=201, location=f"{hosts.ALL}/{made.name}"
    )


async def clean(call: Call) -> web.StreamResponse:
    """Delete the transfers of a destination, all or those that are over, as a job."""
    name, asked = call.name("destination"), await call.decoded(CleanRequest)
    call.caller.check("transfers:write", name)
    call.services.core.snapshot.destination(name)
    selection = Selection(destination=name, status=CLEANED[asked.what])
    if call.flag("dry_run"):
        tried = await call.services.jobs.try_out(selection)
        return answers.tried(
            call, {"total": tried.total, "total_is_minimum": tried.total_is_minimum}
        )
    job = await call.services.jobs.create("delete", selection, call.caller.actor)
    location = f"/api/v2/jobs/{job.id}"
    return answers.as_json(job_document(job), status=202, headers={"Location": location})


async def reached_by(call: Call) -> web.StreamResponse:
    """List the data users that get a destination, and by what."""
    name = call.name("destination")
    call.caller.check("portal:read", name)
    call.services.core.snapshot.destination(name)
    policies = {
        one.name for one in await call.services.accounts.policies()
        if one.active and name in one.destinations
    }  # fmt: skip
    items = {}
    for stored in await call.services.accounts.users():
        user = stored.user
        origins = ["direct"] if name in user.destinations else []
        origins += [f"policy {one}" for one in user.policies if one in policies]
        if origins:
            items[user.login] = {
                "login": user.login, "active": user.active, "service": user.service.value,
                "origins": origins,
            }  # fmt: skip
    return answers.named(call, items, key="login")


# --- switches ------------------------------------------------------------------------------------


async def _switched_host(call: Call, *, active: bool) -> web.StreamResponse:
    name = call.name("host")
    hosts.check(call, hosts.WRITE, name)
    view = await call.services.hosts.view(name)
    kept = Secret(shown.STARS) if view.host.password else Secret("")
    await call.services.hosts.put(
        replace(view.host, active=active, password=kept), call.caller.actor,
        if_version=view.version,
    )  # fmt: skip
    changed = await call.services.hosts.view(name)
    return answers.one(call, shown.host(changed), hosts.tag(changed))


async def enable_host(call: Call) -> web.StreamResponse:
    """Let a host be used."""
    return await _switched_host(call, active=True)


async def disable_host(call: Call) -> web.StreamResponse:
    """Use a host no more."""
    return await _switched_host(call, active=False)


async def _switched_user(call: Call, *, active: bool) -> web.StreamResponse:
    stored = await users.reached_user(call, users.WRITE)
    options = masked(call.services.core, stored.user.options)
    await call.services.accounts.put_user(
        replace(stored.user, active=active, options=options),
        Credentials(),
        call.caller.actor,
        if_version=stored.version,
    )
    return await users.get_user(call)


async def enable_user(call: Call) -> web.StreamResponse:
    """Let a data user in."""
    return await _switched_user(call, active=True)


async def disable_user(call: Call) -> web.StreamResponse:
    """Keep a data user out; its sessions end."""
    return await _switched_user(call, active=False)


# --- one object out and in -----------------------------------------------------------------------


async def export_destination(call: Call) -> web.StreamResponse:
    """Return a destination with its hosts and data users as a site document."""
    name = call.name("destination")
    call.caller.check(destinations.READ, name)
    call.services.core.snapshot.destination(name)
    site = await _site(call)
    chosen = [one for one in site.get("destinations", []) if one["name"] == name]
    wanted = {host for one in chosen for host in (*one.get("hosts", ()), one.get("source_host"))}
    people = [
        one | {"destinations": [name], "policies": []}
        for one in site.get("data_users", [])
        if name in one.get("destinations", ()) and call.caller.may_on("portal:read", name)
    ]
    found = {
        "hosts": [
            one
            for one in site.get("hosts", [])
            if one["name"] in wanted and hosts.may_see(call, one["name"])
        ],
        "destinations": chosen,
        "data_users": people,
    }
    return answers.as_json({kind: several for kind, several in found.items() if several})


async def export_host(call: Call) -> web.StreamResponse:
    """Return a host as a site document."""
    name = call.name("host")
    hosts.check(call, hosts.READ, name)
    call.services.core.snapshot.host(name)
    site = await _site(call)
    return answers.as_json({"hosts": [one for one in site["hosts"] if one["name"] == name]})


async def _site(call: Call) -> dict[str, Any]:
    secrets = call.flag("secrets")
    if secrets and not call.caller.may_everywhere("secrets:read"):
        raise Denied(f"{call.caller.name} has no secrets:read")
    return await call.services.site.export(secrets=secrets)


_NEEDED: Final = {"hosts": "hosts:write", "destinations": "destinations:write",
                  "data_users": "portal:write"}  # fmt: skip
_KEYS: Final = {"data_users": "login"}


async def import_objects(call: Call) -> web.StreamResponse:
    """Create or update what a site document says; answer with the changes."""
    asked = await call.decoded(ImportRequest)
    for kind in asked.data:
        if kind not in _NEEDED:
            raise InputError(f"{kind!r} is none of {', '.join(_NEEDED)}", pointer=f"data.{kind}")
        call.caller.check_everywhere(_NEEDED[kind])
    document = read_site(asked.data, Where(path=("data",)))
    if asked.mode == "create":
        await _check_new(call, asked.data)
    changes = await call.services.site.apply(
        document, call.caller.actor, dry_run=call.flag("dry_run")
    )
    return answers.as_json(
        {
            "changes": [
                {"action": one.action, "kind": one.kind, "name": one.name, "line": one.line()}
                for one in changes
            ]
        }
    )


async def _check_new(call: Call, data: dict[str, Any]) -> None:
    core = call.services.core
    people = {one.user.login for one in await core.store.read(accounts.users)}
    known = {"hosts": core.snapshot.hosts, "destinations": core.snapshot.destinations,
             "data_users": people}  # fmt: skip
    for kind, several in data.items():
        there = [one[_KEYS.get(kind, "name")] for one in several
                 if one[_KEYS.get(kind, "name")] in known[kind]]  # fmt: skip
        if there:
            raise Conflict(f"{kind}: {', '.join(there)} exist", dependents=there)


_SECRETS: Final = Query(
    name="secrets", type="flag", help="Secrets in clear text; needs secrets:read."
)

ROUTES: Final = (
    Route(method="POST", path=DESTINATION + "/actions/clone", right=destinations.WRITE,
          handle=clone_destination, body="CloneRequest", answer="Destination", status=201,
          query=(DRY_RUN, FIELDS), summary="Create a destination like this one."),
    Route(method="POST", path=DESTINATION + "/actions/clean", right="transfers:write",
          handle=clean, body="CleanRequest", answer="Job", tried="JobCount", status=202,
          query=(DRY_RUN,), summary="Delete its transfers, all or those that are over."),
    Route(method="GET", path=DESTINATION + "/users", right="portal:read", handle=reached_by,
          query=LISTED, answer="[ReachedBy]", summary="Data users that get it, and by what."),
    Route(method="GET", path=DESTINATION + "/export", right=destinations.READ,
          handle=export_destination, query=(_SECRETS,), answer="Site",
          summary="It with its hosts and data users as a site document."),
    Route(method="GET", path=HOST + "/export", right=hosts.READ, handle=export_host,
          query=(_SECRETS,), answer="Site", summary="It as a site document."),
    *(
        Route(method="POST", path=f"{place}/import", right=right, handle=import_objects,
              body="ImportRequest", body_limit=LARGEST, answer="SiteChanges", query=(DRY_RUN,),
              summary="Create or update what a site document says, all or nothing.")
        for place, right in ((destinations.ALL, destinations.WRITE), (hosts.ALL, hosts.WRITE))
    ),
    Route(method="POST", path=HOST + "/actions/clone", right=hosts.WRITE, handle=clone_host,
          body="CloneRequest", answer="Host", status=201, query=(DRY_RUN, FIELDS),
          summary="Create a host like this one."),
    Route(method="POST", path=HOST + "/actions/enable", right=hosts.WRITE, handle=enable_host,
          body="Nothing", answer="Host", summary="Let a host be used."),
    Route(method="POST", path=HOST + "/actions/disable", right=hosts.WRITE, handle=disable_host,
          body="Nothing", answer="Host", summary="Use a host no more."),
    Route(method="POST", path=USER + "/actions/enable", right=users.WRITE, handle=enable_user,
          body="Nothing", answer="DataUser", summary="Let a data user in."),
    Route(method="POST", path=USER + "/actions/disable", right=users.WRITE, handle=disable_user,
          body="Nothing", answer="DataUser", summary="Keep a data user out."),
)  # fmt: skip
