"""Hosts: the list, one with its options masked, test and discovery on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from ecpds.engine.operations.hosts import HostView
from ecpds.engine.supervisor import Engine
from ecpds.model import query
from ecpds.model.directory import parse_directory
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.host import HostRole
from ecpds.store import history, stats
from ecpds.store.db import Connection
from ecpds.web import plots, shown
from ecpds.web.call import Call
from ecpds.web.display import Look, size
from ecpds.web.pages import host_map, lists
from ecpds.web.pages.frame import back, own_address, refused, segment, show

READ: Final = "hosts:read"
ACT: Final = "hosts:operate"
HOURS: Final = 48  # of the plot
PREVIEW: Final = 50  # lines of a directory whose paths are shown
KEYS: Final[Mapping[str, query.Kind]] = {
    "name": "text", "nickname": "text", "id": "number", "hostname": "text", "login": "text",
    "comment": "text", "dir": "text", "method": "text", "role": "text", "network": "text",
    "email": "text", "destination": "text", "enabled": "flag",
}  # fmt: skip
VALUES: Final[Mapping[str, Callable[[HostView], query.Value]]] = {
    "name": lambda view: view.host.name,
    "nickname": lambda view: view.host.name,
    "id": lambda view: view.host.id,
    "hostname": lambda view: view.host.host,
    "login": lambda view: view.host.login,
    "comment": lambda view: view.host.comment,
    "dir": lambda view: view.host.directory,
    "method": lambda view: view.host.method,
    "role": lambda view: view.host.role.value,
    "network": lambda view: view.host.network_name,
    "email": lambda view: view.host.user_mail,
    "destination": lambda view: " ".join(view.destinations),
    "enabled": lambda view: view.host.active,
}
WORKS: Final = Look("Works", "check", "good")
UNTRIED: Final = Look("Not tried", "idle", "off")
DISABLED: Final = Look("Disabled", "off", "off")
PAUSED: Final = Look("Paused", "pause", "bad")
UNUSABLE: Final = Look("Unusable", "cross", "bad")
FAILED: Final = Look("Failed last", "cross", "warn")
STEPS: Final[Mapping[str, str]] = {
    "resolve": "Look the name up", "connect": "Connect", "identity": "Certificate or host key",
    "login": "Log in", "list": "List the directory", "get": "Read a file",
    "put": "Write a tiny file", "rename": "Rename it", "delete": "Delete it",
}  # fmt: skip
_RANK: Final = ("bad", "warn", "good", "off")
ORDERS: Final[Mapping[str, Callable[[HostView], Any]]] = {
    "name": lambda view: view.host.name,
    "role": lambda view: view.host.role.value,
    "method": lambda view: view.host.method,
    "connections": lambda view: view.connections,
    "bytes": lambda view: view.bytes,
}


def look_of(view: HostView, engine: Engine) -> Look:
    """Return the state of a host as icon, word and tone."""
    if not view.host.active:
        return DISABLED
    if view.problem:
        return UNUSABLE
    if view.breaker is not None:
        return PAUSED
    listed = [s.last for pair, s in engine.acquisitions.items() if pair[1] == view.host.name]
    runs = [run for run in listed if run is not None]
    if view.error or view.valid is False or any(run.errors for run in runs):
        return FAILED
    return WORKS if view.connections or view.valid or runs else UNTRIED


def _may(call: Call, right: str, view: HostView) -> bool:
    caller = call.caller
    return caller.may_everywhere(right) or any(
        caller.may_on(right, name) for name in view.destinations
    )


def may_read(call: Call, view: HostView) -> bool:
    """Tell whether the caller may know of that host."""
    return _may(call, READ, view)


async def index(call: Call) -> web.Response:
    """All hosts that fit the filter."""
    views = [view for view in await call.services.hosts.views() if may_read(call, view)]
    problem, chosen = "", views
    try:
        chosen = _filtered(call, views)
    except InputError as error:
        problem, chosen = error.message, []
    engine = call.services.engine
    orders = {"state": lambda view: _RANK.index(look_of(view, engine).tone), **ORDERS}
    order = lists.sort_of(call, orders, "name")
    chosen = lists.ordered(chosen, order, orders)
    form = lists.wanted(call)
    if form != "html":
        if problem:
            raise InputError(problem, pointer="q")
        return _table(form, chosen, engine)
    if call.text("view") == "map":
        marks = host_map.marks([(view, look_of(view, engine)) for view in chosen])
        return show(
            call, "pages/hosts_map.html", topics=("host:*",), marks=marks, found=len(chosen),
            placed=sum(len(mark.hosts) for mark in marks),
            address=lambda **changes: lists.address(call, **changes),
        )  # fmt: skip
    after, most = lists.offset(call), lists.limit_of(call)
    return show(
        call,
        "pages/hosts.html",
        topics=("host:*",),
        views=[(view, look_of(view, engine)) for view in chosen[after : after + most]],
        part=lists.Window(after=after, most=most, found=len(chosen)),
        found=len(chosen),
        total=len(views),
        roles=list(HostRole),
        methods=sorted({view.host.method for view in views}),
        order=order,
        problem=problem,
        may_write=call.caller.may_everywhere("hosts:write"),
        slots=engine.slots.hosts,
        address=lambda **changes: lists.address(call, **changes),
    )


def _filtered(call: Call, views: list[HostView]) -> list[HostView]:
    search = query.parse(call.text("q"), KEYS, "name")
    role, method = call.text("role"), call.text("method")
    return [
        view
        for view in views
        if role in ("", view.host.role.value)
        and method in ("", view.host.method)
        and search.matches(lambda key, view=view: VALUES[key](view))  # type: ignore[misc] # bound
    ]


def _table(form: str, views: list[HostView], engine: Engine) -> web.Response:
    if form == "json":
        return lists.as_json([shown.host(view) for view in views], None)
    heads = (
        "name", "role", "method", "host", "login", "active", "state", "connections", "bytes",
        "error", "destinations", "comment",
    )  # fmt: skip
    return lists.as_csv(
        "hosts",
        heads,
        (
            (
                view.host.name,
                view.host.role.value,
                view.host.method,
                view.host.host,
                view.host.login,
                view.host.active,
                look_of(view, engine).word,
                view.connections,
                view.bytes,
                view.error,
                " ".join(view.destinations),
                view.host.comment,
            )
            for view in views
        ),
    )


# --- one host -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What an acquisition host gave a destination last."""

    destination: str
    clock: history.AcquisitionClock
    is_running: bool
    outcomes: tuple[tuple[str, int], ...] = ()  # why entries were taken or not, since the start


async def detail(call: Call) -> web.Response:
    """One host: how it is used, how it does, its options and directory."""
    view = await _viewed(call, READ)
    services, host = call.services, view.host
    now = services.core.clock.now()
    clocks = await services.core.store.read(read_clocks, host.name, view.destinations)
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hour = await services.core.store.read(stats.by_hour, host.name, since=since, hours=HOURS)
    is_acquisition = host.role is HostRole.ACQUISITION
    return show(
        call,
        "pages/host.html",
        topics=(f"host:{host.name}",),
        view=view,
        look=look_of(view, services.engine),
        running=services.engine.slots.hosts.get(host.name, 0),
        options="\n".join(f'{key} = "{value}"' for key, value in sorted(host.options.items())),
        destinations=[
            name for name in view.destinations if call.caller.may_on("destinations:read", name)
        ],
        discoveries=discoveries(call, view, clocks) if is_acquisition else [],
        preview=_preview(call, view) if is_acquisition else [],
        next_probe=services.engine.breakers.next_probe() if view.breaker else None,
        now=now,
        may_act=_may(call, ACT, view),
        may_write=all(call.caller.may_on("hosts:write", name) for name in view.destinations)
        if view.destinations
        else call.caller.may_everywhere("hosts:write"),
        hour=hour,
        plot=hour_plot(hour),
        is_acquisition=is_acquisition,
    )


async def _viewed(call: Call, right: str) -> HostView:
    name = call.name("name")
    view = await call.services.hosts.view(name)
    call.caller.check_any(right, view.destinations, f"Host {name} not found")
    return view


def read_clocks(
    db: Connection, name: str, destinations: tuple[str, ...]
) -> dict[str, history.AcquisitionClock]:
    """Return the last discovery for each destination."""
    return {one: history.clock(db, one, name) for one in destinations}


def discoveries(
    call: Call, view: HostView, clocks: Mapping[str, history.AcquisitionClock]
) -> list[Discovery]:
    """Return what each destination got last, those the caller may see."""
    found = []
    for name, clock in clocks.items():
        if not call.caller.may_on("destinations:read", name):
            continue
        scheduler = call.services.engine.acquisitions.get((name, view.host.name))
        last = scheduler.last if scheduler is not None else None
        found.append(
            Discovery(
                destination=name,
                clock=clock,
                is_running=scheduler is not None and scheduler.is_running,
                outcomes=tuple(sorted(last.outcomes.items())) if last else (),
            )
        )
    return found


def hour_plot(hours: Sequence[stats.Hour]) -> Markup:
    """Return what was sent to a host, hour by hour, with the attempts that failed on top."""
    points = [
        plots.Point(
            float(one.files),
            f"{one.begin:%d %H:00}: {one.files} files, {size(one.bytes)}, {one.failed} failed",
            bad=float(one.failed),
        )
        for one in hours
    ]
    files, failed = sum(one.files for one in hours), sum(one.failed for one in hours)
    return plots.columns(points, f"Last {len(hours)} hours: {files} files sent, {failed} failed")


def _preview(call: Call, view: HostView) -> list[tuple[int, str]]:
    """Return the paths that the directory lines mean now."""
    try:
        directory = parse_directory(view.host.directory, view.host.options)
    except EcpdsError as error:
        return [(0, f"error: {error.message}")]
    if directory.script is not None:
        return []
    return directory.preview(call.services.core.clock.now())[:PREVIEW]


# --- actions ------------------------------------------------------------------------------------


async def act(call: Call) -> web.Response:
    """List a host now, end what lists, enable or disable it."""
    view = await _viewed(call, ACT)
    name, verb = view.host.name, call.name("verb")
    deed = VERBS.get(verb)
    if deed is None:
        raise NotFound(f"there is no action {verb!r}")
    form = await call.form()
    address = own_address(form.get("back", ""), f"/hosts/{segment(name)}")
    try:
        tone, text = await deed(call, name)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, text, tone=tone)


async def _acquire(call: Call, name: str) -> tuple[str, str]:
    found = await call.services.hosts.acquire(name, call.caller.actor)
    return "good", f"Discovery begins for {', '.join(found)}."


async def _interrupt(call: Call, name: str) -> tuple[str, str]:
    found = await call.services.hosts.interrupt(name, call.caller.actor)
    if not found:
        return "info", "Nothing was running."
    return "good", f"The discovery for {', '.join(found)} was interrupted."


Deed = Callable[[Call, str], Awaitable[tuple[str, str]]]
VERBS: Final[Mapping[str, Deed]] = {"acquire": _acquire, "interrupt": _interrupt}
