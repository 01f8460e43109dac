"""Catalogues: options with types, defaults and help; statuses; versions; the API itself."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds import __version__
from ecpds.model.status import TransferStatus
from ecpds.web.api import answers
from ecpds.web.api.openapi import describe
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.rights import OPEN, SIGNED_IN
from ecpds.web.routes import FIELDS, Query, Route

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


async def versions(call: Call) -> web.StreamResponse:
    """List the versions of the API."""
    del call
    found = {"version": "v2", "path": "/api/v2", "openapi": "/api/v2/openapi.json"}
    return answers.as_json({"versions": [found], "release": __version__})


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
    Route(method="GET", path="/api/v2/statuses", right=SIGNED_IN, handle=statuses,
          query=(FIELDS,), answer="[Status]", summary="Statuses of transfers."),
    Route(method="GET", path="/api/v2/methods", right=SIGNED_IN, handle=methods,
          query=(FIELDS,), answer="[Method]", summary="Methods that hosts may name."),
)  # fmt: skip
