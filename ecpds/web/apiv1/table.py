"""All routes of v1."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds import __version__
from ecpds.web.apiv1 import backup, destinations, files, incoming
from ecpds.web.apiv1.envelope import BASE, success
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.rights import OPEN
from ecpds.web.routes import Route


async def version(call: Call) -> web.StreamResponse:
    """Return the release, unless it is hidden."""
    if not call.services.core.settings.api.v1.version:
        raise Refused(404, "not-found", "the version is not shown here")
    return success(version=__version__)


ROUTES: Final[tuple[Route, ...]] = (
    Route(method="GET", path=BASE + "/version", right=OPEN, kind="v1", handle=version,
          summary="The release."),
    *incoming.ROUTES,
    *backup.ROUTES,
    *destinations.ROUTES,
    *files.ROUTES,
)  # fmt: skip
