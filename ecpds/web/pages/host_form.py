"""Hosts: made, cloned, changed, deleted by typing the name; their change log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.hosts import HostView
from ecpds.model.decode import Where, decode
from ecpds.model.errors import Denied, EcpdsError, InputError, PreconditionFailed, Unauthenticated
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.store import history
from ecpds.web import shown
from ecpds.web.api.hosts import check
from ecpds.web.call import Call, cursor_of
from ecpds.web.pages import forms, lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.destination_form import FILTERS
from ecpds.web.pages.destination_tabs import CHANGES, flat
from ecpds.web.pages.forms import Layout, Look, Typed
from ecpds.web.pages.frame import back, segment, show
from ecpds.web.pages.hosts import look_of

READ: Final = "hosts:read"
WRITE: Final = "hosts:write"
LAYOUT: Final = (
    Layout(title="Identity", keys=("name", "role", "method", "active", "comment", "network_name",
           "network_code")),
    Layout(title="Remote system", keys=("host", "login", "password", "directory"),
           note="Where it is, and the target template or the lines to be listed there."),
    Layout(title="Use", keys=("max_connections", "retry_count", "retry_frequency",
           "acquisition_frequency", "filter_name", "transfer_group"),
           note="Lengths of time as 30s, 10m, 2h."),
    Layout(title="Regular test", keys=("check", "check_frequency", "check_filename", "user_mail",
           "mail_on_success", "mail_on_error", "notify_once")),
    Layout(title="Place", keys=("latitude", "longitude")),
    Layout(title="Options", keys=("options",)),
)  # fmt: skip
LABELS: Final[Mapping[str, str]] = {
    "name": "Nickname", "active": "Enabled", "host": "Address", "network_name": "Network",
    "network_code": "Letter of the network", "max_connections": "Parallel transfers",
    "retry_count": "Failures before the next host", "retry_frequency": "Pause between those",
    "acquisition_frequency": "Listed every", "filter_name": "Compression",
    "check": "Test regularly", "check_frequency": "Tested every", "check_filename": "Test file",
    "user_mail": "Mail addresses",
}  # fmt: skip


def _looks(call: Call, *, is_new: bool) -> dict[str, Look]:
    found = {key: Look(label=word) for key, word in LABELS.items()}
    found["name"] = Look(label=LABELS["name"], fixed=not is_new)
    methods = tuple(call.services.core.registry.methods())
    found["method"] = Look(kind="choice", known=methods)
    found["filter_name"] = Look(label=LABELS["filter_name"], known=FILTERS)
    found["directory"] = Look(label="Directory", kind="lines")
    return found


def _page(
    call: Call, texts: Mapping[str, Any], errors: Mapping[str, str], *, name: str = "",
    version: int = 0, source: str = "", stale: str = "", destination: str = "",
) -> web.Response:  # fmt: skip
    looks = _looks(call, is_new=not name)
    return show(
        call,
        "pages/host_form.html",
        status=412 if stale else 422 if errors else 200,
        parts=forms.drawn(Host, LAYOUT, texts, errors, looks, "host"),
        errors=errors,
        name=name,
        version=version,
        source=source,
        stale=stale,
        destination=destination,
        has_password=bool(texts.get("password")),
    )


async def seen(call: Call, right: str = READ) -> HostView:
    """Return the host of the address; NotFound or Denied."""
    name = call.name("name")
    check(call, right, name)
    return await call.services.hosts.view(name)


def may(call: Call, right: str, view: HostView) -> bool:
    """Tell whether the caller has the right on that host."""
    try:
        check(call, right, view.host.name)
    except EcpdsError:
        return False
    return True


async def new(call: Call) -> web.Response:
    """An empty form, or one with everything of another host but its password."""
    call.caller.check_everywhere(WRITE)
    source, destination = call.text("from"), call.text("for")
    one = Host()
    if source:
        check(call, WRITE, source)
        view = await call.services.hosts.view(source)
        one = replace(view.host, name="", password=Secret(""))
    return _page(
        call, forms.texts_of(one, LAYOUT), {}, source=source, destination=destination
    )  # fmt: skip


async def create(call: Call) -> web.Response:
    """Store a new host."""
    call.caller.check_everywhere(WRITE)
    pairs = await call.form_pairs()
    fields = dict(pairs)
    typed, source = forms.read(Host, LAYOUT, pairs), fields.get("from", "")
    destination = fields.get("for", "")
    if not fields.get("password"):
        typed.document["password"] = ""
    if not typed.errors:
        try:
            text = await _create(call, typed, source, destination)
            name = str(typed.document["name"])
            return back(call, f"/hosts/{segment(name)}", text)
        except EcpdsError as error:
            _refuse(typed, error)
    return _page(call, typed.texts, typed.errors, source=source, destination=destination)


async def _create(call: Call, typed: Typed, source: str, destination: str) -> str:
    if source:  # its secret options are taken along, which stars alone would not do
        check(call, WRITE, source)
        kept = call.services.core.snapshot.host(source).host.options
        given = typed.document["options"]
        typed.document["options"] = {
            key: kept.get(key, text) if text == forms.KEEP else text for key, text in given.items()
        }
    one = decode(Host, typed.document, Where())
    await call.services.hosts.put(one, call.caller.actor, must_be_new=True)
    if not destination:
        return f"{one.name} was created."
    call.caller.check("destinations:write", destination)
    view = await call.services.destinations.view(destination)
    joined = replace(view.destination, hosts=(*view.destination.hosts, one.name))
    await call.services.destinations.put(joined, call.caller.actor, if_version=view.version)
    return f"{one.name} was created and added to {destination}."


def _refuse(typed: Typed, error: EcpdsError) -> None:
    if isinstance(error, (Denied, Unauthenticated)):
        raise error
    if isinstance(error, InputError) and error.pointer.startswith("script"):
        typed.errors["options"] = error.message
    else:
        typed.refuse(error)


async def edit(call: Call) -> web.Response:
    """The form of a host as it is now."""
    view = await seen(call, WRITE)
    texts = forms.texts_of(view.host, LAYOUT)
    return _page(call, texts, {}, name=view.host.name, version=view.version)


async def save(call: Call) -> web.Response:
    """Store a changed host; what somebody else changed meanwhile is not lost."""
    view = await seen(call, WRITE)
    name = view.host.name
    pairs = [*await call.form_pairs(), ("name", name)]
    typed, fields = forms.read(Host, LAYOUT, pairs), dict(pairs)
    version, stale = fields.get("version", ""), ""
    if fields.get("no_password"):
        typed.document["password"] = ""
    if not typed.errors:
        try:
            kept = {"legacy": shown.plain(view.host.legacy)}
            one = decode(Host, kept | typed.document, Where())
            number = int(version) if version.isascii() and version[:18].isdigit() else -1
            await call.services.hosts.put(one, call.caller.actor, if_version=number)
            return back(call, f"/hosts/{segment(name)}", f"{name} was changed.")
        except PreconditionFailed:
            now = forms.texts_of(view.host, LAYOUT)
            changed = [LABELS.get(key, key).lower() for key in now
                       if key != "password" and now[key] != typed.texts[key]]  # fmt: skip
            stale = ", ".join(changed) or "nothing"
        except EcpdsError as error:
            _refuse(typed, error)
    typed.texts["password"] = forms.KEEP if view.host.password else ""
    number = view.version if stale else int(version) if version.isdigit() else 0
    return _page(call, typed.texts, typed.errors, name=name, version=number, stale=stale)


async def confirm(call: Call, problem: str = "") -> web.Response:
    """Ask for the name before a host is deleted."""
    view = await seen(call, WRITE)
    name = view.host.name
    used = [f"its place in {one}; take it out there first" for one in view.destinations]
    return show(
        call,
        "pages/delete.html",
        status=422 if problem else 200,
        what="host",
        name=name,
        place="Hosts",
        here=f"/hosts/{segment(name)}",
        list="/hosts",
        losses=used or ["its settings, and its password"],
        problem=problem,
    )


async def delete(call: Call) -> web.Response:
    """Delete a host that no destination uses, when its name was typed."""
    view = await seen(call, WRITE)
    name, form = view.host.name, await call.form()
    if form.get("typed", "").strip() != name:
        return await confirm(call, f"Type {name} exactly as it is written; nothing was deleted.")
    try:
        await call.services.hosts.delete(name, call.caller.actor)
    except EcpdsError as error:
        return await confirm(call, error.message)
    return back(call, "/hosts", f"{name} was deleted.")


async def changes(call: Call) -> web.Response:
    """Who changed what, newest first; secrets are masked."""
    view = await seen(call)
    rows = await call.services.core.store.read(
        history.audit, limit=CHANGES + 1, before=call.before, object_type="host",
        object_name=view.host.name,
    )  # fmt: skip
    return show(
        call,
        "pages/host_changes.html",
        view=view,
        tab="changes",
        look=look_of(view, call.services.engine),
        rows=[(row, flat(row.difference)) for row in rows[:CHANGES]],
        cursor=cursor_of(rows[CHANGES - 1].id) if len(rows) > CHANGES else None,
        may_write=may(call, WRITE, view),
        address=lambda **changed: lists.address(call, **changed),
    )


ROUTES: Final = (
    get("/hosts/new", WRITE, new, "A form for a new host, or a clone."),
    post("/hosts/new", WRITE, create, "Create a host."),
    get("/hosts/{name}/edit", WRITE, edit, "The form of a host."),
    post("/hosts/{name}/edit", WRITE, save, "Change a host."),
    get("/hosts/{name}/delete", WRITE, confirm, "Ask for its name."),
    post("/hosts/{name}/delete", WRITE, delete, "Delete a host."),
    get("/hosts/{name}/changes", READ, changes, "Who changed what."),
)
