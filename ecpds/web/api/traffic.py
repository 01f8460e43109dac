"""`/portal/traffic`: what data users moved, by protocol and direction, in sums for a panel."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from aiohttp import web

from ecpds.model.errors import InputError
from ecpds.model.units import parse_duration
from ecpds.store import stats
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, Query, Route

READ: Final = "portal:read"
PATH: Final = "/api/v2/portal/traffic"
USUAL: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=366)
SHORTEST_STEP: Final = timedelta(minutes=1)
MOST_SUMS: Final = 10_000


async def traffic(call: Call) -> web.StreamResponse:
    """Return sums over a period: one for each user, protocol and direction, and each step."""
    call.caller.check_everywhere(READ)
    until = call.time("until") or call.services.core.clock.now()
    since = call.time("since") or until - USUAL
    if not timedelta(0) < until - since <= LONGEST:
        raise Refused(400, "bad-parameter", f"since and until: up to {LONGEST.days} days")
    found = await call.services.core.store.read(
        stats.traffic, since=since, until=until, step=_step(call), user=call.text("user") or None,
        most=MOST_SUMS + 1,
    )  # fmt: skip
    if len(found) > MOST_SUMS:
        raise Refused(400, "bad-parameter", f"more than {MOST_SUMS} sums; take longer steps")
    items = [
        {
            "user": one.user, "protocol": one.protocol, "direction": one.action,
            "start": shown.moment(one.start), "files": one.number, "bytes": one.bytes,
            "failed": one.failed, "seconds": round(one.duration.total_seconds(), 3),
        }
        for one in found
    ]  # fmt: skip
    return answers.page(call, items, None)


def _step(call: Call) -> timedelta | None:
    text = call.text("step")
    if not text:
        return None
    try:
        step = parse_duration(text)
    except InputError as error:
        raise Refused(400, "bad-parameter", f"step: {error.message}") from None
    if not SHORTEST_STEP <= step <= LONGEST:
        raise Refused(400, "bad-parameter", "step: 1m to 366d")
    return step


ROUTES: Final = (
    Route(method="GET", path=PATH, right=READ, handle=traffic, answer="[TrafficSum]",
          query=(FIELDS,
                 Query(name="since", help="From; P7D: 7 days ago. Default: a day.", type="time"),
                 Query(name="until", help="Up to, not included; default: now.", type="time"),
                 Query(name="step", help="Sums for each such length of time, as 1h or 1d."),
                 Query(name="user", help="Only of that data user.")),
          summary="What data users moved, by protocol and direction."),
)  # fmt: skip
