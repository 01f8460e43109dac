"""`/events/stream`: events as they happen; see `web.eventstream`."""

from __future__ import annotations

from typing import Final

from ecpds.web import eventstream
from ecpds.web.routes import Query, Route

PATH: Final = "/api/v2/events/stream"

ROUTES: Final = (
    Route(method="GET", path=PATH, right="transfers:read", handle=eventstream.stream,
          answer="events",
          query=(Query(name="type", help="Only events of these types, with commas.", type="list"),
                 Query(name="destination", help="Only events of that destination."),
                 Query(name="last", help="As Last-Event-ID: behind that event.")),
          summary="Events as they happen (server-sent events), resumable by Last-Event-ID."),
)  # fmt: skip
