"""Destinations: the list, one with all that concerns it, and start, stop, restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.destinations import DestinationView
from ecpds.engine.operations.hosts import HostView
from ecpds.model import query
from ecpds.model.destination import DestinationState
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.host import HostRole
from ecpds.model.status import DestinationStatus, TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.store import history, transfers
from ecpds.store.db import Connection
from ecpds.web import plots, shown
from ecpds.web.call import Call
from ecpds.web.display import TRANSFERS, URGENCY, Look
from ecpds.web.pages import lists
from ecpds.web.pages.frame import back, own_address, refused, segment, show
from ecpds.web.pages.hosts import look_of
from ecpds.web.pages.rows import row_of, running_rows
from ecpds.web.pulse import Minute
from ecpds.web.rights import Caller

READ: Final = "destinations:read"
ACT: Final = "destinations:operate"
LATEST: Final = 25  # transfers on the page of a destination
SHOWN_FOR: Final = timedelta(days=1)  # the last failure

KEYS: Final[Mapping[str, query.Kind]] = {
    "name": "text", "comment": "text", "country": "text", "email": "text", "type": "text",
    "status": "text", "light": "text", "host": "text", "queued": "number",
    "outstanding": "number", "enabled": "flag", "monitor": "flag", "backup": "flag",
    "forceproxy": "flag", "acquisition": "flag",
}  # fmt: skip
VALUES: Final[Mapping[str, Callable[[DestinationView], query.Value]]] = {
    "name": lambda view: view.destination.name,
    "comment": lambda view: view.destination.comment,
    "country": lambda view: view.destination.country,
    "email": lambda view: view.destination.user_mail,
    "type": lambda view: view.destination.type,
    "status": lambda view: view.status.value,
    "light": lambda view: view.light.value,
    "host": lambda view: " ".join(view.destination.hosts),
    "queued": lambda view: view.queued,
    "outstanding": lambda view: view.outstanding,
    "enabled": lambda view: view.destination.active,
    "monitor": lambda view: view.destination.monitor,
    "backup": lambda view: view.destination.backup,
    "forceproxy": lambda view: view.destination.force_proxy,
    "acquisition": lambda view: view.destination.acquisition,
}
ORDERS: Final[Mapping[str, Callable[[DestinationView], Any]]] = {
    "name": lambda view: view.destination.name,
    "light": lambda view: (URGENCY.index(view.light), -view.outstanding),
    "status": lambda view: view.status.value,
    "queued": lambda view: view.queued,
    "outstanding": lambda view: view.outstanding,
    "done": lambda view: _micros(view),
}


def _micros(view: DestinationView) -> float:
    return view.state.last_ok_at.timestamp() if view.state.last_ok_at else 0.0


async def visible(call: Call) -> list[DestinationView]:
    """Return the destinations that the caller may see, by name."""
    views = await call.services.destinations.views()
    return [view for view in views if call.caller.may_on(READ, view.destination.name)]


async def index(call: Call) -> web.Response:
    """All destinations that fit the filter."""
    views = await visible(call)
    problem, chosen = "", views
    try:
        chosen = _filtered(call, views)
    except InputError as error:
        problem, chosen = error.message, []
    order = lists.sort_of(call, ORDERS, "light")
    chosen = lists.ordered(chosen, order, ORDERS)
    form = lists.wanted(call)
    if form != "html":
        if problem:
            raise InputError(problem, pointer="q")
        return _table(form, chosen)
    most = lists.limit_of(call)
    after = lists.offset(call)
    return show(
        call,
        "pages/destinations.html",
        topics=("dest:*",),
        views=chosen[after : after + most],
        found=len(chosen),
        total=len(views),
        after=after,
        most=most,
        types=sorted({view.destination.type for view in views if view.destination.type}),
        statuses=list(DestinationStatus),
        order=order,
        problem=problem,
        may_write=call.caller.may("destinations:write"),
        address=lambda **changes: lists.address(call, **changes),
    )


def _filtered(call: Call, views: list[DestinationView]) -> list[DestinationView]:
    search = query.parse(call.text("q"), KEYS, "name")
    status, kind = call.text("status"), call.text("type")
    only = call.text("attention")
    return [
        view
        for view in views
        if status in ("", view.status.value)
        and kind in ("", view.destination.type)
        and (not only or needs_attention(view))
        and search.matches(lambda key, view=view: VALUES[key](view))  # type: ignore[misc] # bound
    ]


def needs_attention(view: DestinationView) -> bool:
    """Tell whether somebody should look at it."""
    return view.light in URGENCY[:2]


def _table(form: str, views: list[DestinationView]) -> web.Response:
    if form == "json":
        return lists.as_json([shown.destination(view) for view in views], None)
    heads = (
        "name", "type", "status", "light", "queued", "outstanding", "last_done", "last_failed",
        "current_host", "comment",
    )  # fmt: skip
    return lists.as_csv(
        "destinations",
        heads,
        (
            (
                view.destination.name,
                view.destination.type,
                view.status.value,
                view.light.value,
                view.queued,
                view.outstanding,
                view.state.last_ok_at,
                view.state.last_failed_at,
                view.state.current_host,
                view.destination.comment,
            )
            for view in views
        ),
    )


# --- one destination ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedHost:
    """A host of a destination."""

    view: HostView
    look: Look
    order: int  # within its role, from 1
    is_current: bool
    running: int  # transfers at it just now, of all destinations
    discovery: history.AcquisitionClock | None = None  # of an acquisition host
    is_listing: bool = False


async def detail(call: Call) -> web.Response:
    """One destination: state, counts, hosts, what runs and what came last."""
    name = call.name("name")
    call.caller.check(READ, name)
    services, caller = call.services, call.caller
    view = await services.destinations.view(name)
    now = services.core.clock.now()
    running = running_rows(services.engine, caller, now, destination=name)
    latest, last_failed, clocks = await services.core.store.read(read_detail, view, now)
    hour = services.pulse.hour(name)
    shares = [(one, view.counts[one]) for one in TransferStatus if view.counts.get(one)]
    return show(
        call,
        "pages/destination.html",
        topics=(f"dest:{name}", f"transfers:{name}", "host:*"),
        view=view,
        running=running,
        latest=[row_of(one, services.engine, caller, now) for one in latest],
        last_failed=last_failed,
        hosts=await _hosts(call, view, clocks),
        hour=hour,
        plot=plots.bars(hour, told(hour)),
        shares=shares,
        parts=plots.parts([(TRANSFERS[one].tone, one.label, number) for one, number in shares]),
        counts_in=[one for one in (await visible(call)) if _copies(one, name)],
        may_act=caller.may_on(ACT, name),
        may_write=caller.may_on("destinations:write", name),
        may_see_transfers=caller.may_on("transfers:read", name),
    )


def _copies(view: DestinationView, name: str) -> bool:
    return any(alias.to == name for alias in view.destination.aliases)


def told(hour: Sequence[Minute]) -> str:
    """Return what the plot of an hour shows, for those who do not see it."""
    files, failed = sum(m.files for m in hour), sum(m.failed for m in hour)
    return f"Last 60 minutes: {files} files delivered, {failed} attempts failed"


async def _hosts(
    call: Call, view: DestinationView, clocks: Mapping[str, history.AcquisitionClock]
) -> list[LinkedHost]:
    services = call.services
    places: dict[HostRole, int] = {}
    found = []
    for name in view.destination.hosts:
        try:
            host = await services.hosts.view(name)
        except NotFound:
            continue  # removed a moment ago
        role = host.host.role
        places[role] = places.get(role, 0) + 1
        acquisition = services.engine.acquisitions.get((view.destination.name, name))
        found.append(
            LinkedHost(
                view=host,
                look=look_of(host, services.engine),
                order=places[role],
                is_current=view.state.current_host == name,
                running=services.engine.slots.hosts.get(name, 0),
                discovery=clocks.get(name) if role is HostRole.ACQUISITION else None,
                is_listing=acquisition is not None and acquisition.is_running,
            )
        )
    return found


def read_detail(
    db: Connection, view: DestinationView, now: datetime
) -> tuple[list[Transfer], Transfer | None, dict[str, history.AcquisitionClock]]:
    """Return the latest transfers, the one that failed last, and the last discoveries."""
    name = view.destination.name
    latest = transfers.page(db, limit=LATEST, destination=name)
    failed = failed_lately(view.state, now)
    last_failed = transfers.get(db, failed) if failed is not None else None
    clocks = {host: history.clock(db, name, host) for host in view.destination.hosts}
    return latest, last_failed, clocks


def failed_lately(state: DestinationState, now: datetime) -> int | None:
    """Return the transfer that failed last, if that was less than a day ago."""
    at = state.last_failed_at
    return state.last_failed_id if at is not None and now - at < SHOWN_FOR else None


# --- actions ------------------------------------------------------------------------------------


async def act(call: Call) -> web.Response:
    """Start, stop or restart."""
    name, verb = call.name("name"), call.name("verb")
    call.caller.check(ACT, name)
    deed = VERBS.get(verb)
    if deed is None:
        raise NotFound(f"there is no action {verb!r}")
    form = await call.form()
    address = own_address(form.get("back", ""), f"/destinations/{segment(name)}")
    try:
        if verb == "hold":
            text = await _hold(call, name, form)
        else:
            text = await deed(call, name, call.caller, form.get("mode") == "immediate")
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, text)


async def _start(call: Call, name: str, who: Caller, immediate: bool) -> str:
    del immediate
    await call.services.destinations.start(name, who.actor)
    return f"{name} was started."


async def _stop(call: Call, name: str, who: Caller, immediate: bool) -> str:
    await call.services.destinations.stop(name, who.actor, immediate=immediate)
    return f"{name} was stopped" + (
        ", what ran was interrupted." if immediate else "; what runs goes on to its end."
    )


async def _restart(call: Call, name: str, who: Caller, immediate: bool) -> str:
    await call.services.destinations.restart(name, who.actor, immediate=immediate)
    return f"{name} was restarted."


async def _hold(call: Call, name: str, form: Mapping[str, str]) -> str:
    text = form.get("until", "").strip()
    until = lists.ahead(call, "until", text) if text else None
    await call.services.destinations.hold(
        name, call.caller.actor, reason=form.get("reason", "").strip()[:400],
        immediate=form.get("mode") == "immediate", until=until,
    )  # fmt: skip
    return f"{name} is held" + (f" until {until:%Y-%m-%d %H:%M} UTC." if until else ".")


Deed = Callable[[Call, str, Caller, bool], Awaitable[str]]
VERBS: Final[Mapping[str, Deed]] = {
    "start": _start, "stop": _stop, "restart": _restart, "hold": _stop,
}  # fmt: skip
