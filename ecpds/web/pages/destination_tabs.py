"""What a destination has beside its state: order of hosts, aliases, users, rates, changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.destinations import DestinationView
from ecpds.model.account import Policy
from ecpds.model.decode import Where, convert
from ecpds.model.destination import Alias, Destination
from ecpds.model.errors import Denied, EcpdsError, InputError, NotFound
from ecpds.store import accounts, history, stats
from ecpds.store.accounts import StoredUser
from ecpds.store.db import Connection
from ecpds.web import graphs
from ecpds.web.api.destinations import check_links
from ecpds.web.call import Call, cursor_of
from ecpds.web.display import DASH, LIGHTS
from ecpds.web.pages import lists, ratetable
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.destination_form import READ, WRITE
from ecpds.web.pages.frame import back, refused, segment, show

CHANGES: Final = 50  # on a page
Values = Mapping[str, Any]


async def seen(call: Call, right: str = READ) -> DestinationView:
    """Return the destination of the address; NotFound or Denied."""
    name = call.name("name")
    call.caller.check(right, name)
    return await call.services.destinations.view(name)


def show_tab(call: Call, tab: str, view: DestinationView, **values: Any) -> web.Response:
    """Answer with one tab of a destination."""
    one = view.destination
    return show(
        call,
        f"pages/destination_{tab}.html",
        view=view,
        one=one,
        tab=tab,
        may_act=call.caller.may_on("destinations:operate", one.name),
        may_write=call.caller.may_on(WRITE, one.name),
        **values,
    )


async def notify(call: Call) -> web.Response:
    """The list of publications, of this destination only."""
    await seen(call)
    return back(call, f"/notify?dest={segment(call.name('name'))}")


async def options(call: Call) -> web.Response:
    """The options stand in the form."""
    await seen(call)
    return back(call, f"/destinations/{segment(call.name('name'))}/edit")


async def transfers(call: Call) -> web.Response:
    """The list of transfers, of this destination only."""
    await seen(call)
    return back(call, f"/transfers?dest={segment(call.name('name'))}")


# --- hosts ---------------------------------------------------------------------------------------


async def hosts(call: Call) -> web.Response:
    """The hosts in their order, to be moved, taken out and added."""
    view = await seen(call)
    snapshot, caller = call.services.core.snapshot, call.caller
    free = [
        name
        for name in sorted(snapshot.hosts)
        if name not in view.destination.hosts
        and (caller.may_everywhere("hosts:read")
             or any(caller.may_on("hosts:read", u) for u in snapshot.users.get(name, ())))
    ]  # fmt: skip
    rows = [(name, snapshot.hosts[name].host) for name in view.destination.hosts
            if name in snapshot.hosts]  # fmt: skip
    return show_tab(call, "hosts", view, rows=rows, free=free)


async def change_hosts(call: Call) -> web.Response:
    """Move a host up or down, take it out, or add one."""
    view = await seen(call, WRITE)
    form = await call.form()
    address = f"/destinations/{segment(view.destination.name)}/hosts"
    try:
        names, text = _moved(list(view.destination.hosts), call.name("verb"), form)
        await _store(call, view, replace(view.destination, hosts=tuple(names)))
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, text)


def _moved(names: list[str], verb: str, form: Mapping[str, str]) -> tuple[list[str], str]:
    host = form.get("host", "").strip()
    if verb == "add":
        if not host or host in names:
            raise InputError(f"{host} is there already" if host else "Name a host")
        return [*names, host], f"{host} was added at the end."
    if host not in names:
        raise InputError(f"{host!r} is no host of it any more")
    place = names.index(host)
    names.remove(host)
    if verb == "remove":
        return names, f"{host} was taken out."
    if verb not in {"up", "down"}:
        raise NotFound(f"there is no action {verb!r}")
    names.insert(max(place - 1, 0) if verb == "up" else place + 1, host)
    return names, f"{host} was moved {verb}."


async def _store(call: Call, view: DestinationView, new: Destination) -> None:
    check_links(call, new, view.destination)
    await call.services.destinations.put(new, call.caller.actor, if_version=view.version)


# --- aliases -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coming:
    """An alias of another destination that leads here."""

    source: str
    alias: Alias


async def aliases(call: Call, typed: Values | None = None, problem: str = "") -> web.Response:
    """Copies to and from others, as tables and as a graph."""
    view = await seen(call)
    name, caller = view.destination.name, call.caller
    views = [one for one in await call.services.destinations.views()
             if caller.may_on(READ, one.destination.name)]  # fmt: skip
    known = {one.destination.name for one in views}
    edges = sorted(
        {(one.destination.name, alias.to) for one in views for alias in one.destination.aliases
         if alias.to in known}
    )  # fmt: skip
    tones = {one.destination.name: LIGHTS[one.light].tone for one in views}
    return show_tab(
        call,
        "aliases",
        view,
        coming=[Coming(one.destination.name, alias) for one in views
                for alias in one.destination.aliases if alias.to == name],
        graph=graphs.aliases(name, edges, tones) if any(name in edge for edge in edges) else "",
        drawn=len(graphs.levels(name, edges)),
        most=graphs.MOST,
        names=sorted(known - {name}),
        typed=typed or {},
        problem=problem,
        status=422 if problem else 200,
    )  # fmt: skip


async def change_aliases(call: Call) -> web.Response:
    """Store one alias, new or changed, or remove one."""
    view = await seen(call, WRITE)
    form = await call.form()
    verb, to = call.name("verb"), form.get("to", "").strip()
    address = f"/destinations/{segment(view.destination.name)}/aliases"
    others = tuple(alias for alias in view.destination.aliases if alias.to != to)
    was = next((alias for alias in view.destination.aliases if alias.to == to), None)
    if verb == "remove":
        if was is None:
            return refused(call, address, InputError(f"There is no alias to {to!r} any more"))
        new, text = others, f"Nothing is copied to {to} any more."
    elif verb == "put":
        given = {"to": to, "rule": form.get("rule", "").strip(), "comment": form.get("comment", "")}
        given_one = convert(Alias, given, Where(path=("aliases",)))
        legacy = was is not None and was.legacy and was.rule == given_one.rule
        new = (*others, replace(given_one, legacy=legacy))
        text = f"What comes is copied to {to}."
    else:
        raise NotFound(f"there is no action {verb!r}")
    try:
        if not to:
            raise InputError("Name the destination that gets the copies")
        await _store(call, view, replace(view.destination, aliases=new))
    except Denied:
        raise
    except EcpdsError as error:
        return await aliases(call, form, error.message)
    return back(call, address, text)


# --- users ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A data user who reaches the destination."""

    stored: StoredUser
    origins: Sequence[str]  # "itself", or names of policies


def read_users(db: Connection, name: str) -> list[UserRow]:
    """Return the data users who reach a destination, and through what."""
    through: dict[str, Policy] = {
        one.name: one for one in accounts.policies(db) if name in one.destinations
    }
    found = []
    for one in accounts.users(db):
        origins = ["itself"] if name in one.user.destinations else []
        origins += [f"policy {policy}" for policy in one.user.policies if policy in through]
        if origins:
            found.append(UserRow(stored=one, origins=origins))
    return found


async def users(call: Call) -> web.Response:
    """Who reaches the destination through the portals."""
    view = await seen(call)
    rows: list[UserRow] = []
    may_see = call.caller.may_on("portal:read", view.destination.name)
    if may_see:
        rows = await call.services.core.store.read(read_users, view.destination.name)
    return show_tab(call, "users", view, rows=rows, may_see=may_see)


# --- rates ---------------------------------------------------------------------------------------


async def rates(call: Call) -> web.Response:
    """What it got, day by day."""
    view = await seen(call)
    name = view.destination.name
    days = ratetable.days_of(call)
    today = call.services.core.clock.now().date()
    found = await call.services.core.store.read(
        stats.rates, since=today - timedelta(days=days - 1), until=today, destination=name
    )
    table = ratetable.by_day(found, today, days)
    if lists.wanted(call) != "html":
        return ratetable.answer(call, f"rates-{segment(name)}", table)
    return show_tab(
        call, "rates", view, days=days, choices=ratetable.DAYS, table=table,
        **ratetable.plots_of(table),
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


# --- changes -------------------------------------------------------------------------------------


async def changes(call: Call) -> web.Response:
    """Who changed what, newest first; secrets are masked."""
    view = await seen(call)
    rows = await call.services.core.store.read(
        history.audit, limit=CHANGES + 1, before=call.before, object_type="destination",
        object_name=view.destination.name,
    )  # fmt: skip
    after = cursor_of(rows[CHANGES - 1].id) if len(rows) > CHANGES else None
    return show_tab(
        call, "changes", view, rows=[(row, flat(row.difference)) for row in rows[:CHANGES]],
        cursor=after, address=lambda **changed: lists.address(call, **changed),
    )  # fmt: skip


def flat(difference: Values, before: str = "") -> list[tuple[str, str, str]]:
    """Return the changed fields as name, old and new text."""
    found = []
    for key, value in difference.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and len(value) == 2:
            found.append((name, _worded(value[0]), _worded(value[1])))
        else:
            found.append((name, "", _worded(value)))
    return found


def _worded(value: Any) -> str:
    if value is None or value == "" or value == []:
        return DASH
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


ROUTES: Final = (
    get("/destinations/{name}/transfers", READ, transfers, "Its transfers."),
    get("/destinations/{name}/notify", READ, notify, "Its publications."),
    get("/destinations/{name}/options", READ, options, "Leads to its options in the form."),
    get("/destinations/{name}/hosts", READ, hosts, "Its hosts in order."),
    post("/destinations/{name}/hosts/{verb}", WRITE, change_hosts, "up, down, remove, add."),
    get("/destinations/{name}/aliases", READ, aliases, "Copies to and from others."),
    post("/destinations/{name}/aliases/{verb}", WRITE, change_aliases, "put, remove."),
    get("/destinations/{name}/users", READ, users, "Who reaches it."),
    get("/destinations/{name}/rates", READ, rates, "What it got, day by day."),
    get("/destinations/{name}/changes", READ, changes, "Who changed what."),
)  # fmt: skip
