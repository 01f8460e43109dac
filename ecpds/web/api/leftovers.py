"""`/hosts/{host}/leftovers`: partial files at a host, and their removal now."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.leftovers import MOST_SHOWN
from ecpds.store.outgoing import Left
from ecpds.web.api import answers
from ecpds.web.api.hosts import ONE, OPERATE, READ, check
from ecpds.web.call import Call
from ecpds.web.routes import Route
from ecpds.web.shown import Document, moment


async def index(call: Call) -> web.StreamResponse:
    """List what is known to lie at a host."""
    name = call.name("host")
    check(call, READ, name)
    call.services.core.snapshot.host(name)
    found = await call.services.engine.leftovers.at(name)
    return answers.as_json(
        {"host": name, "truncated": len(found) > MOST_SHOWN,
         "items": [_shown(one) for one in found[:MOST_SHOWN]]}
    )  # fmt: skip


def _shown(one: Left) -> Document:
    return {
        "path": one.path,
        "size": one.reached,
        "transfer": one.transfer,
        "tries": one.tries,
        "time": moment(one.time),
    }


async def clean(call: Call) -> web.StreamResponse:
    """Remove what no transfer will go on with."""
    name = call.name("host")
    check(call, OPERATE, name)
    call.services.core.snapshot.host(name)
    removed, reasons = await call.services.engine.leftovers.clean(name)
    return answers.as_json(
        {"host": name, "removed": removed, "left": len(reasons),
         "error": reasons[0] if reasons else None}
    )  # fmt: skip


ROUTES: Final = (
    Route(method="GET", path=ONE + "/leftovers", right=READ, handle=index,
          summary="Partial files at a host: those to go on with, and those to be removed.",
          answer="HostLeftovers"),
    Route(method="POST", path=ONE + "/actions/clean", right=OPERATE, handle=clean, body="Nothing",
          summary="Remove now the partial files that no transfer will go on with.",
          answer="HostClean"),
)  # fmt: skip
