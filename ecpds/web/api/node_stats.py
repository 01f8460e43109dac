"""`/storage`, `/rates`, `/statistics`: what is stored, what moved, how many there are of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Final

from aiohttp import web

from ecpds.store import files, history, stats, transfers
from ecpds.store.stats import Rate
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, PAGED, Query, Route
from ecpds.web.shown import Document

READ: Final = "stats:read"
DAYS: Final = 30  # of rates, when nothing else is asked for
MOST_DAYS: Final = 3660
FORECAST: Final = timedelta(days=1)

Grouping = Callable[[Rate], str]
GROUPS: Final[dict[str, Grouping]] = {
    "destination": lambda rate: rate.destination,
    "day": lambda rate: rate.day.isoformat(),
    "month": lambda rate: rate.day.isoformat()[:7],
    "destination,day": lambda rate: f"{rate.destination} {rate.day.isoformat()}",
}


async def storage(call: Call) -> web.StreamResponse:
    """Return the volumes, what came in the last day, and what will go in the next."""
    call.caller.check_everywhere(READ)
    core = call.services.core
    totals = await core.store.read(files.totals)
    came, leaving = await core.store.read(stats.flow, now=core.clock.now(), over=FORECAST)
    volumes = []
    for one in core.objects.volumes:
        size, room = await core.threads.run("disk", lambda one=one: (one.total, one.room))  # type: ignore[misc]
        number, own = totals.get(one.name, (0, 0))
        volumes.append(
            {"name": one.name, "total": size, "room": room, "reserve": one.reserve,
             "weight": one.weight, "files": number, "bytes": own}
        )  # fmt: skip
    room = sum(max(one["room"], 0) for one in volumes)
    net = came - leaving
    return answers.one(
        call,
        {
            "volumes": volumes,
            "files": sum(one["files"] for one in volumes),
            "bytes": sum(one["bytes"] for one in volumes),
            "room": room,
            "arrived_last_day": came,
            "leaving_next_day": leaving,
            "full_in_days": round(room / net, 1) if net > 0 else None,
        },
    )


def _day(call: Call, name: str, default: date) -> date:
    found = call.time(name)
    return default if found is None else found.date()


async def rates(call: Call) -> web.StreamResponse:
    """Return what was delivered, summed by destination, day or month; JSON or CSV."""
    today = call.services.core.clock.now().date()
    until = _day(call, "until", today)
    since = _day(call, "since", until - timedelta(days=DAYS - 1))
    if not timedelta(0) <= until - since < timedelta(days=MOST_DAYS):
        raise Refused(400, "bad-parameter", f"since and until: 0 to {MOST_DAYS} days")
    grouping = call.text("group_by") or "destination"
    if grouping not in GROUPS:
        known = ", ".join(f"{name!r}" for name in GROUPS)
        raise Refused(400, "bad-parameter", f"group_by: {grouping!r} is none of {known}")
    name = call.text("destination") or None
    if name is not None:
        call.caller.check(READ, name)
    found = await call.services.core.store.read(
        stats.rates, since=since, until=until, destination=name
    )
    mine = [rate for rate in found if call.caller.may_on(READ, rate.destination)]
    items = _summed(mine, GROUPS[grouping], grouping)
    form = call.text("format") or "json"
    if form == "csv":
        return _csv(items)
    if form != "json":
        raise Refused(400, "bad-parameter", f"format: {form!r} is neither json nor csv")
    return answers.page(call, items, None)


def _summed(found: Iterable[Rate], group: Grouping, grouping: str) -> list[Document]:
    sums: dict[str, list[Rate]] = {}
    for rate in found:
        sums.setdefault(group(rate), []).append(rate)
    items = []
    for key, several in sorted(sums.items()):
        size = sum(one.bytes for one in several)
        seconds = sum(one.duration.total_seconds() for one in several)
        items.append(
            {
                "key": key,
                "destination": several[0].destination if "destination" in grouping else None,
                "day": several[0].day.isoformat() if "day" in grouping else None,
                "files": sum(one.files for one in several),
                "bytes": size,
                "seconds": round(seconds, 3),
                "rate": round(size / seconds) if seconds else None,
            }
        )
    return items


def _csv(items: list[Document]) -> web.Response:
    text = io.StringIO()
    names = ("key", "destination", "day", "files", "bytes", "seconds", "rate")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for item in items:
        writer.writerow({key: _cell(value) for key, value in item.items()})
    return web.Response(
        text=text.getvalue(), content_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="rates.csv"'},
    )  # fmt: skip


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    is_formula = isinstance(value, str) and value[:1] in {"=", "+", "-", "@"}
    return f"'{value}" if is_formula else value


async def statistics(call: Call) -> web.StreamResponse:
    """Return counts: transfers by status, destinations by status, sessions, files."""
    core, caller = call.services.core, call.caller
    counted: dict[str, int] = {}
    for (destination, status), count in (await core.store.read(transfers.status_counts)).items():
        if caller.may_on(READ, destination):
            counted[status.word] = counted.get(status.word, 0) + count
    states: dict[str, int] = {}
    for view in await call.services.destinations.views():
        if caller.may_on(READ, view.destination.name):
            states[view.status.value] = states.get(view.status.value, 0) + 1
    totals = await core.store.read(files.totals)
    return answers.one(
        call,
        {
            "transfers": counted,
            "destinations": states,
            "hosts": sum(
                any(caller.may_on(READ, name) for name in core.snapshot.users.get(host, ()))
                or caller.may_everywhere(READ)
                for host in core.snapshot.hosts
            ),
            "running": len(call.services.engine.attempts.running),
            "files": sum(one for one, _ in totals.values()),
            "bytes": sum(size for _, size in totals.values()),
            "sessions": len(call.services.gate.sessions()),
        },
    )


async def incoming(call: Call) -> web.StreamResponse:
    """List uploads and downloads of data users, newest first."""
    call.caller.check_everywhere("portal:read")
    limit = call.limit
    rows = await call.services.core.store.read(
        history.incoming, limit=limit + 1, before=call.before, user=call.text("user") or None
    )
    items = [
        {
            "id": number, "time": shown.moment(row.time), "user": row.user,
            "destination": row.destination, "transfer": row.transfer,
            "data_file": row.data_file, "name": row.file_name, "action": row.action,
            "protocol": row.protocol, "peer": row.peer, "bytes": row.bytes,
            "duration": shown.plain(row.duration), "outcome": row.outcome,
            "comment": row.comment,
        }
        for number, row in rows[:limit]
    ]  # fmt: skip
    return answers.page(call, items, rows[limit - 1][0] if len(rows) > limit else None)


_RATES: Final = (
    Query(name="since", help="First day, as a time; P7D: 7 days ago. Default: 30 days.",
          type="time"),
    Query(name="until", help="Last day, as a time.", type="time"),
    Query(name="destination", help="Only of that destination."),
    Query(name="group_by", help="destination (default), day, month or destination,day."),
    Query(name="format", help="json (default) or csv."),
)  # fmt: skip

ROUTES: Final = (
    Route(method="GET", path="/api/v2/storage", right=READ, handle=storage, query=(FIELDS,),
          answer="Storage", summary="Volumes with what they hold, and how long there is room."),
    *(
        Route(method="GET", path=path, right=READ, handle=rates, query=(FIELDS, *_RATES),
              answer="[Rate]", summary="What was delivered, summed; JSON or CSV.")
        for path in ("/api/v2/rates", "/api/v2/stats/rates")
    ),
    Route(method="GET", path="/api/v2/statistics", right=READ, handle=statistics,
          query=(FIELDS,), answer="Statistics", summary="How many there are of each."),
    Route(method="GET", path="/api/v2/portal/history", right="portal:read", handle=incoming,
          query=(*PAGED, Query(name="user", help="Only of that data user.")),
          answer="[IncomingRow]", summary="Uploads and downloads of data users, newest first."),
)  # fmt: skip
