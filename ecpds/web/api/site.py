"""`/site`: the whole configuration as one document, applied all or nothing, exported the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.errors import Denied, InputError
from ecpds.web.api import answers
from ecpds.web.api.schemas import SiteRequest
from ecpds.web.call import Call
from ecpds.web.routes import Query, Route

PATH: Final = "/api/v2/site"
BODY_LIMIT: Final = 32 * 1024 * 1024  # bytes: ten thousands of objects
_SECRETS: Final = Query(
    name="secrets", type="flag", help="Secrets in clear text; needs secrets:read."
)


async def apply(call: Call) -> web.StreamResponse:
    """Bring the configuration to what the document says; answer with the changes."""
    call.caller.check_everywhere("system:admin")
    asked = await call.decoded(SiteRequest)
    where = Where(file=asked.file, lines=_lines(asked.lines))
    changes = await call.services.site.apply(
        read_site(asked.data, where),
        call.caller.actor,
        file=asked.file,
        dry_run=asked.dry_run,
        prune=asked.prune,
    )
    return answers.as_json(
        {
            "changes": [
                {"action": one.action, "kind": one.kind, "name": one.name, "line": one.line()}
                for one in changes
            ]
        }
    )


def _lines(given: tuple[Any, ...]) -> Mapping[tuple[str | int, ...], int]:
    found: dict[tuple[str | int, ...], int] = {}
    for pair in given:
        try:
            path, line = pair
            found[tuple(path)] = int(line)
        except (TypeError, ValueError):
            raise InputError("lines holds pairs of path and line", pointer="lines") from None
    return found


async def export(call: Call) -> web.StreamResponse:
    """Return the configuration as a document."""
    call.caller.check_everywhere("system:admin")
    secrets = call.flag("secrets")
    if secrets and not call.caller.may_everywhere("secrets:read"):
        raise Denied(f"{call.caller.name} has no secrets:read")
    return answers.as_json(await call.services.site.export(secrets=secrets))


ROUTES: Final = (
    Route(method="POST", path=PATH, right="system:admin", handle=apply, body="SiteRequest",
          body_limit=BODY_LIMIT, answer="SiteChanges",
          summary="Apply a site file, all or nothing."),
    Route(method="GET", path=PATH, right="system:admin", handle=export, query=(_SECRETS,),
          answer="Site", summary="The configuration as a site file."),
)  # fmt: skip
