"""All options of one kind of object, to be searched while a form is filled in."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.web.api.catalogue import SCOPES
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import show
from ecpds.web.rights import SIGNED_IN


async def index(call: Call) -> web.Response:
    """The options with type, default and help."""
    scope, text = call.text("scope", "destination"), call.text("q").strip().lower()
    if scope not in SCOPES:
        scope = "destination"
    every = call.services.core.catalogue.entries(scope)
    found = [one for one in every if text in one.key.lower() or text in one.help.lower()]
    return show(call, "pages/options.html", scope=scope, scopes=SCOPES, rows=found,
                total=len(every))  # fmt: skip


ROUTES: Final = (get("/options", SIGNED_IN, index, "All options with their help."),)
