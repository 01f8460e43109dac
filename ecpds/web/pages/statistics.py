"""Statistics: what was delivered, by day and by destination, and what hosts moved."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from aiohttp import web

from ecpds.store import stats
from ecpds.web.call import Call
from ecpds.web.pages import lists, ratetable
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import back, show
from ecpds.web.pages.hosts import may_read

READ: Final = "stats:read"
ORDERS: Final = ("name", "files", "bytes", "rate")


async def rates(call: Call) -> web.Response:
    """What all destinations got, day by day and one by one."""
    days, caller = ratetable.days_of(call), call.caller
    today = call.services.core.clock.now().date()
    daily, each = await call.services.core.store.read(
        stats.sums, since=today - timedelta(days=days - 1), until=today,
        may=None if caller.may_everywhere(READ) else lambda name: caller.may_on(READ, name),
    )  # fmt: skip
    by_day = ratetable.by_day(daily, today, days)
    by_name = ratetable.by_destination(each)
    order = lists.sort_of(call, ORDERS, "-bytes")
    by_name = lists.ordered(
        by_name, order,
        {"name": lambda one: one.name, "files": lambda one: one.files,
         "bytes": lambda one: one.bytes, "rate": lambda one: one.rate or 0.0},
    )  # fmt: skip
    if lists.wanted(call) != "html":
        is_daily = call.text("by") == "day"
        return ratetable.answer(call, "rates", by_day if is_daily else by_name)
    known = call.services.core.snapshot.destinations
    after, most = lists.offset(call), lists.limit_of(call)
    return show(
        call, "pages/statistics.html", days=days, choices=ratetable.DAYS, table=by_day,
        lines=by_name[after : after + most], order=order, **ratetable.plots_of(by_day),
        part=lists.Window(after=after, most=most, found=len(by_name)),
        gone={line.name for line in by_name if line.name not in known},
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def hosts(call: Call) -> web.Response:
    """What was moved over each host since it exists."""
    views = [view for view in await call.services.hosts.views() if may_read(call, view)]
    order = lists.sort_of(call, ("name", "role", "connections", "bytes"), "-bytes")
    views = lists.ordered(
        views, order,
        {"name": lambda one: one.host.name, "role": lambda one: one.host.role.value,
         "connections": lambda one: one.connections, "bytes": lambda one: one.bytes},
    )  # fmt: skip
    if lists.wanted(call) == "json":
        return lists.as_json([{"name": one.host.name, "role": one.host.role.value,
                               "sessions": one.connections, "bytes": one.bytes}
                              for one in views], None)  # fmt: skip
    if lists.wanted(call) == "csv":
        heads = ("name", "role", "sessions", "bytes")
        return lists.as_csv("hosts", heads, ((one.host.name, one.host.role.value,
                            one.connections, one.bytes) for one in views))  # fmt: skip
    after, most = lists.offset(call), lists.limit_of(call)
    return show(
        call, "pages/statistics_hosts.html", views=views[after : after + most], order=order,
        part=lists.Window(after=after, most=most, found=len(views)),
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def moved(call: Call) -> web.Response:
    """Go to the rates from the short address."""
    return back(call, "/stats/rates")


ROUTES: Final = (
    get("/statistics", READ, moved, "Statistics, by the short address."),
    get("/stats", READ, moved, "Statistics, by the short address."),
    get("/stats/rates", READ, rates, "What destinations got, day by day."),
    get("/stats/hosts", READ, hosts, "What was moved over hosts."),
)
