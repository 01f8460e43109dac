"""Catalogues: options with types, defaults and help; statuses; versions; the API itself."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds import __version__
from ecpds.model.countries import COUNTRIES
from ecpds.model.status import TransferStatus
from ecpds.transfer.contract import Feature
from ecpds.web.api import answers
from ecpds.web.api.openapi import describe
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.rights import OPEN, SIGNED_IN
from ecpds.web.routes import FIELDS, LISTED, Query, Route

SCOPES: Final = ("host", "destination", "user", "policy")
_SCOPE: Final = Query(name="scope", help="Only options for host, destination, user or policy.")


async def options(call: Call) -> web.StreamResponse:
    """List the option keys."""
    scope = call.text("scope") or None
    if scope is not None and scope not in SCOPES:
        raise Refused(400, "bad-parameter", f"scope: {scope!r} is none of {', '.join(SCOPES)}")
    items = [
        {"key": one.key, "type": one.type, "default": one.default, "help": one.help,
         "secret": one.secret, "scopes": sorted(one.scopes)}
        for one in call.services.core.catalogue.entries(scope)
    ]  # fmt: skip
    return answers.page(call, items, None)


async def statuses(call: Call) -> web.StreamResponse:
    """List the statuses of transfers."""
    items = [{"name": s.word, "code": s.code, "label": s.label} for s in TransferStatus]
    return answers.page(call, items, None)


async def methods(call: Call) -> web.StreamResponse:
    """List the methods that hosts may name."""
    names = call.services.core.registry.methods()
    return answers.page(call, [{"name": name} for name in names], None)


async def modules(call: Call) -> web.StreamResponse:
    """List the transfer modules with what each can do."""
    registry = call.services.core.registry
    items = []
    for method in registry.methods():
        module = registry.module(method)
        able = [str(one.name).lower() for one in Feature if one in module.features]
        items.append(
            {"name": module.name, "method": method, "options": module.options.prefix,
             "features": able}
        )  # fmt: skip
    return answers.page(call, items, None)


async def countries(call: Call) -> web.StreamResponse:
    """List the countries by their code."""
    return answers.named(call, {iso: {"iso": iso, "name": name} for iso, name in COUNTRIES.items()})


async def types(call: Call) -> web.StreamResponse:
    """List the types of destinations that are in use."""
    counted: dict[str, int] = {}
    for entry in call.services.core.snapshot.destinations.values():
        if call.caller.may_on("destinations:read", entry.name):
            kind = entry.destination.type
            counted[kind] = counted.get(kind, 0) + 1
    return answers.named(
        call,
        {kind: {"name": kind, "destinations": count} for kind, count in counted.items()},
    )


async def versions(call: Call) -> web.StreamResponse:
    """List the versions of the API."""
    del call
    found = [
        {"version": "v2", "path": "/api/v2", "openapi": "/api/v2/openapi.json"},
        {"version": "v1", "path": "/ecpds/v1"},
    ]
    return answers.as_json({"versions": found, "release": __version__})


async def whoami(call: Call) -> web.StreamResponse:
    """Return who asks and what that may."""
    who = call.caller
    return answers.as_json(
        {
            "name": who.name,
            "kind": who.kind,
            "grants": [
                {"scopes": sorted(grant.scopes), "objects": list(grant.objects)}
                for grant in who.grants
            ],
            "limits": {
                "scopes": sorted(who.limits.scopes), "objects": list(who.limits.objects),
            },
        }
    )  # fmt: skip


async def openapi(call: Call) -> web.StreamResponse:
    """Return the OpenAPI document, made from the route table."""
    return answers.as_json(describe(call.services.routes))


ROUTES: Final = (
    Route(method="GET", path="/api", right=OPEN, handle=versions, answer="Versions",
          summary="Versions of the API."),
    Route(method="GET", path="/api/v2/openapi.json", right=SIGNED_IN, handle=openapi,
          answer="OpenApi", summary="This description."),
    Route(method="GET", path="/api/v2/whoami", right=SIGNED_IN, handle=whoami, answer="Whoami",
          summary="Who asks, and what that may."),
    Route(method="GET", path="/api/v2/options", right=SIGNED_IN, handle=options,
          query=(_SCOPE, FIELDS), answer="[Option]", summary="All option keys."),
    Route(method="GET", path="/api/v2/countries", right=SIGNED_IN, handle=countries,
          query=LISTED, answer="[Country]", summary="Countries by their ISO 3166 code."),
    Route(method="GET", path="/api/v2/types", right="destinations:read", handle=types,
          query=LISTED, answer="[DestinationType]", summary="Types of destinations in use."),
    Route(method="GET", path="/api/v2/statuses", right=SIGNED_IN, handle=statuses,
          query=(FIELDS,), answer="[Status]", summary="Statuses of transfers."),
    Route(method="GET", path="/api/v2/methods", right=SIGNED_IN, handle=methods,
          query=(FIELDS,), answer="[Method]", summary="Methods that hosts may name."),
    Route(method="GET", path="/api/v2/modules", right=SIGNED_IN, handle=modules,
          query=(FIELDS,), answer="[Module]",
          summary="Transfer modules, and what each can do."),
)  # fmt: skip
