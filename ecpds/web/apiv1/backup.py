"""`destination/backup` and `host/option`: configuration out and in, and one option of a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.exporting import backup_document
from ecpds.engine.importing import translate
from ecpds.engine.operations.destinations import KEEP, masked
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.destination import Destination
from ecpds.model.errors import InputError, NotFound
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.web.apiv1.destinations import FILTERS, chosen
from ecpds.web.apiv1.envelope import BASE, missing, required, success
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import Query, Route

READ: Final = "destinations:read"
PATH: Final = BASE + "/destination/backup"
LARGEST: Final = 32 * 1024 * 1024  # bytes of a backup


def _backup(call: Call, names: list[str]) -> web.Response:
    core = call.services.core
    clear = call.caller.may_everywhere("secrets:read")

    def opened(options: Mapping[str, Any]) -> Mapping[str, str]:
        return core.configuration.opened(options) if clear else masked(core, options)

    def password_of(host: Host) -> str:
        return host.password.reveal() if clear or not host.password else KEEP

    hosts = {name: entry.host for name, entry in core.snapshot.hosts.items()}
    destinations: list[Destination] = [
        core.snapshot.destination(name).destination for name in names
    ]
    return success(backup=backup_document(destinations, hosts, password_of, opened))


async def get_all(call: Call) -> web.StreamResponse:
    """Return the backup of several destinations."""
    return _backup(call, [view.destination.name for view in await chosen(call)])


async def get(call: Call) -> web.StreamResponse:
    """Return the backup of one destination."""
    name = call.name("name")
    call.caller.check(READ, name)
    return _backup(call, [name])


async def put(call: Call) -> web.StreamResponse:
    """Create what a backup has and we have not; what is here stays as it is."""
    call.caller.check_everywhere("destinations:write")
    call.caller.check_everywhere("hosts:write")
    backup = (await call.document()).get("backup")
    if not isinstance(backup, dict) or not isinstance(backup.get("destinations"), list):
        raise Refused(412, "parameter", "backup: an object with a list of destinations is wanted")
    core = call.services.core
    found = translate(backup, core.catalogue, core.registry.methods())
    refused = [one for one in found.lines if one.outcome == "refused"]
    site = _missing(call, found.site)
    changes = await call.services.site.apply(
        read_site(site, Where()), call.caller.actor, dry_run=False
    )
    count = sum(one.kind == "destination" and one.action == "create" for one in changes)
    told = [f"{one.kind} {one.name} {one.field}: {one.text}" for one in refused]
    return success(
        message=f"Number of Destination(s) created: {count}",
        **({"warnings": told} if told else {}),
    )


def _missing(call: Call, site: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a site document that is not here; existing objects are not touched.

    Hosts that are here under the same name are shared; `copySharedHost` gives copies of their own
    to the new destinations.
    """
    snapshot = call.services.core.snapshot
    new = [one for one in site.get("destinations", []) if one["name"] not in snapshot.destinations]
    wanted = {name for one in new for name in (*one.get("hosts", ()), one.get("source_host", ""))}
    names = {}
    if call.text("copySharedHost").lower() in {"yes", "true", "1"}:
        taken = {*snapshot.hosts, *(one["name"] for one in site.get("hosts", []))}
        for name in sorted(wanted & set(snapshot.hosts)):
            names[name] = _free(name, taken)
            taken.add(names[name])
    hosts = [
        _without_stars(one) | {"name": names.get(one["name"], one["name"])}
        for one in site.get("hosts", [])
        if one["name"] in wanted and (one["name"] not in snapshot.hosts or one["name"] in names)
    ]
    known = {*snapshot.destinations, *(one["name"] for one in new)}
    for one in new:
        one["hosts"] = [names.get(name, name) for name in one.get("hosts", [])]
        if one.get("source_host"):
            one["source_host"] = names.get(one["source_host"], one["source_host"])
        one["aliases"] = [alias for alias in one.get("aliases", []) if alias["to"] in known]
    return {"hosts": hosts, "destinations": new}


def _without_stars(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host without masked secrets, which nobody could log in with."""
    found = {key: value for key, value in host.items() if value != KEEP}
    options = {key: value for key, value in host.get("options", {}).items() if value != KEEP}
    return found | {"options": options}


def _free(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


# --- one option ----------------------------------------------------------------------------------


async def option(call: Call) -> web.StreamResponse:
    """Set one option of a host, for instance a new token."""
    given, key = required(call, "hostid"), required(call, "name")
    form = await call.form()
    if "value" not in form:
        raise missing("value")
    if "." not in key:
        raise InputError(f"{key[:80]!r} is not module.key", pointer="name")
    name = _host_name(call, given)
    users = call.services.core.snapshot.users.get(name, ())
    call.caller.check_all("hosts:write", users, f"Host {given} not found")
    view = await call.services.hosts.view(name)
    kept = Secret(KEEP) if view.host.password else Secret("")
    await call.services.hosts.put(
        replace(view.host, options=view.host.options | {key: form["value"]}, password=kept),
        call.caller.actor,
        if_version=view.version,
    )
    return success()


def _host_name(call: Call, given: str) -> str:
    hosts = call.services.core.snapshot.hosts
    if given in hosts:
        return given
    for name, entry in hosts.items():
        if str(entry.host.id) == given:
            return name
    raise NotFound(f"Host {given[:80]} not found")


_COPY: Final = Query(name="copySharedHost", help="yes: hosts that are here get copies.")

ROUTES: Final = (
    Route(method="GET", path=PATH, right=READ, services=("destinationBackupList",), kind="v1",
          handle=get_all, query=FILTERS, summary="Backup of destinations."),
    Route(method="GET", path=PATH + "/{name}", right=READ, services=("destinationBackupList",),
          kind="v1", handle=get, summary="Backup of one destination."),
    Route(method="PUT", path=PATH, right="destinations:write", services=("putDestinationBackup",),
          kind="v1", handle=put, query=(_COPY,), body_limit=LARGEST,
          summary="Create the destinations of a backup that are not here."),
    Route(method="POST", path=BASE + "/host/option", right="hosts:write",
          services=("updateHostOption",), kind="v1", handle=option,
          query=(Query(name="hostid", help="Number or name of the host."),
                 Query(name="name", help="Key of the option, module.key.")),
          summary="Set one option of a host; form field value."),
)  # fmt: skip
