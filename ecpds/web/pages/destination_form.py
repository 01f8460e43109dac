"""Destinations: made, cloned, changed, deleted, and one carried to another node as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.destinations import DestinationView
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where, decode
from ecpds.model.destination import Destination
from ecpds.model.errors import (
    Denied,
    EcpdsError,
    InputError,
    NotFound,
    PreconditionFailed,
    Unauthenticated,
)
from ecpds.store import destinations as stored
from ecpds.web import shown
from ecpds.web.api.destinations import check_links
from ecpds.web.call import Call
from ecpds.web.pages import forms
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.forms import Layout, Look, Typed
from ecpds.web.pages.frame import back, segment, show

READ: Final = "destinations:read"
WRITE: Final = "destinations:write"
LAYOUT: Final = (
    Layout(title="Identity", keys=("name", "type", "comment", "country", "user_mail", "active",
           "acquisition", "monitor")),
    Layout(title="Hosts", keys=("hosts", "on_host_failure", "retry_count", "retry_frequency",
           "reset_frequency", "source_host"),
           note="The first host that works is used; the others wait in this order."),
    Layout(title="Transfers", keys=("max_connections", "max_start", "start_frequency",
           "max_requeue", "max_pending", "max_file_size", "max_inactivity", "if_target_exist",
           "keep_in_spool", "filter_name", "transfer_group", "force_proxy", "backup",
           "stop_if_dirty"),
           note="Lengths of time as 30s, 10m, 2h; sizes as 700kB, 10MiB."),
    Layout(title="Portal", keys=("date_format", "group_by_date")),
    Layout(title="Mail", keys=("mail_on_update", "mail_on_start", "mail_on_end",
           "mail_on_error")),
    Layout(title="Options", keys=("options",)),
)  # fmt: skip
LABELS: Final[Mapping[str, str]] = {
    "user_mail": "Mail addresses", "active": "Enabled", "acquisition": "Runs acquisition hosts",
    "monitor": "Watched", "hosts": "Hosts", "on_host_failure": "After a failover",
    "retry_count": "Rounds over the hosts", "retry_frequency": "Pause between rounds",
    "reset_frequency": "Back to the first host after", "source_host": "Source host",
    "max_connections": "Parallel transfers", "max_start": "Attempts before a delay",
    "start_frequency": "That delay", "max_requeue": "Delays before it fails",
    "max_pending": "Most queued transfers", "max_file_size": "Largest file",
    "max_inactivity": "Longest silence", "if_target_exist": "If the target exists",
    "keep_in_spool": "Kept until", "filter_name": "Pre-compression",
    "stop_if_dirty": "Restart after a change", "force_proxy": "Wait for the copy at a proxy",
    "backup": "Copy to the backup host", "group_by_date": "One directory per product date",
}  # fmt: skip
FILTERS: Final = (
    "none", "lzma", "zip", "gzip", "bzip2", "lbzip2", "lz4", "snappy", "zstd",
)  # fmt: skip
ALONE: Final = ("aliases", "legacy")  # not in this form; kept as they are
IMPORT_LIMIT: Final = 256 * 1024


def _looks(call: Call, *, is_new: bool) -> dict[str, Look]:
    snapshot = call.services.core.snapshot
    found = {key: Look(label=word) for key, word in LABELS.items()}
    hosts = tuple(name for name in sorted(snapshot.hosts) if _may_use(call, name))
    types = {entry.destination.type for entry in snapshot.destinations.values()}
    found["hosts"] = replace(found["hosts"], known=hosts)
    found["source_host"] = replace(found["source_host"], known=hosts)
    found["name"] = Look(fixed=not is_new)
    found["type"] = Look(known=tuple(sorted(one for one in types if one)))
    found["filter_name"] = Look(label=LABELS["filter_name"], known=FILTERS)
    return found


def _may_use(call: Call, host: str) -> bool:
    users = call.services.core.snapshot.users.get(host, ())
    caller = call.caller
    return caller.may_everywhere("hosts:read") or any(
        caller.may_on("hosts:read", name) for name in users
    )


def _page(
    call: Call, texts: Mapping[str, Any], errors: Mapping[str, str], *, name: str = "",
    version: int = 0, source: str = "", stale: str = "",
) -> web.Response:  # fmt: skip
    looks = _looks(call, is_new=not name)
    return show(
        call,
        "pages/destination_form.html",
        status=412 if stale else 422 if errors else 200,
        parts=forms.drawn(Destination, LAYOUT, texts, errors, looks, "destination"),
        errors=errors,
        name=name,
        version=version,
        source=source,
        stale=stale,
    )


async def new(call: Call) -> web.Response:
    """An empty form, or one with everything of another destination."""
    source = call.text("from")
    one = Destination()
    if source:
        call.caller.check(READ, source)
        one = replace((await call.services.destinations.view(source)).destination, name="")
    return _page(call, forms.texts_of(one, LAYOUT), {}, source=source)


async def edit(call: Call) -> web.Response:
    """The form of a destination as it is now."""
    name = call.name("name")
    call.caller.check(WRITE, name)
    view = await call.services.destinations.view(name)
    return _page(
        call, forms.texts_of(view.destination, LAYOUT), {}, name=name, version=view.version
    )


async def create(call: Call) -> web.Response:
    """Store a new destination."""
    pairs = await call.form_pairs()
    typed, source = forms.read(Destination, LAYOUT, pairs), dict(pairs).get("from", "")
    if source:
        call.caller.check(READ, source)
    name = str(typed.document.get("name", ""))
    if name and not call.caller.may_on(WRITE, name):
        typed.errors["name"] = "The name lies outside of what you may write."
    if not typed.errors:
        try:
            await _create(call, typed, source)
            return back(call, f"/destinations/{segment(name)}", f"{name} was created.")
        except EcpdsError as error:
            _refuse(typed, error)
    return _page(call, typed.texts, typed.errors, source=source)


async def _create(call: Call, typed: Typed, source: str) -> None:
    base = {}
    if source:  # secrets of the source are taken along, which stars alone would not do
        entry = call.services.core.snapshot.destination(source)
        given = typed.document["options"]
        kept = entry.destination.options
        if not call.caller.may_on(WRITE, source):  # may read it, but not its secrets
            kept = {}
        opened = {key: kept.get(key, text) if text == forms.KEEP else text
                  for key, text in given.items()}  # fmt: skip
        typed.document["options"] = opened
        base = {key: shown.plain(getattr(entry.destination, key)) for key in ALONE}
    one = decode(Destination, base | typed.document, Where())
    check_links(call, one, None)
    await call.services.destinations.put(one, call.caller.actor, must_be_new=True)


def _refuse(typed: Typed, error: EcpdsError) -> None:
    if isinstance(error, (Denied, Unauthenticated)):
        raise error
    typed.refuse(error)


async def save(call: Call) -> web.Response:
    """Store a changed destination; what somebody else changed meanwhile is not lost."""
    name = call.name("name")
    call.caller.check(WRITE, name)
    pairs = [*await call.form_pairs(), ("name", name)]
    typed, fields = forms.read(Destination, LAYOUT, pairs), dict(pairs)
    version, stale = fields.get("version", ""), ""
    view = await call.services.destinations.view(name)
    if not typed.errors:
        try:
            kept = {key: shown.plain(getattr(view.destination, key)) for key in ALONE}
            one = decode(Destination, kept | typed.document, Where())
            check_links(call, one, view.destination)
            number = int(version) if version.isascii() and version[:18].isdigit() else -1
            await call.services.destinations.put(one, call.caller.actor, if_version=number)
            return back(call, f"/destinations/{segment(name)}", f"{name} was changed.")
        except PreconditionFailed:
            stale = _difference(view, typed)
        except EcpdsError as error:
            _refuse(typed, error)
    shown_version = view.version if stale else int(version) if version.isdigit() else 0
    return _page(
        call, typed.texts, typed.errors, name=name, version=shown_version, stale=stale
    )  # fmt: skip


def _difference(view: DestinationView, typed: Typed) -> str:
    """Return the fields in which the form differs from what is stored now."""
    stored_texts = forms.texts_of(view.destination, LAYOUT)
    changed = [
        LABELS.get(key, key).lower()
        for key, text in stored_texts.items()
        if _same(text) != _same(typed.texts[key])
    ]
    return ", ".join(changed) or "nothing"


def _same(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


# --- delete --------------------------------------------------------------------------------------


async def confirm(call: Call, problem: str = "") -> web.Response:
    """Ask for the name before a destination is deleted."""
    name = call.name("name")
    call.caller.check(WRITE, name)
    view = await call.services.destinations.view(name)
    sources = await call.services.core.store.read(stored.aliased_from, name)
    return show(
        call,
        "pages/delete.html",
        status=422 if problem else 200,
        what="destination",
        name=name,
        place="Destinations",
        here=f"/destinations/{segment(name)}",
        list="/destinations",
        losses=[
            f"{sum(view.counts.values())} transfers and what is stored for them alone",
            *(f"the alias from {source}" for source in sources if call.caller.covers(source)),
        ],
        problem=problem,
    )


async def delete(call: Call) -> web.Response:
    """Delete a destination with its transfers, when its name was typed."""
    name = call.name("name")
    call.caller.check(WRITE, name)
    form = await call.form()
    if form.get("typed", "").strip() != name:
        return await confirm(call, f"Type {name} exactly as it is written; nothing was deleted.")
    await call.services.destinations.delete(name, call.caller.actor)
    return back(call, "/destinations", f"{name} was deleted.")


# --- one destination as a file -------------------------------------------------------------------


async def export(call: Call) -> web.Response:
    """One destination with its hosts as a site file; secrets are stars."""
    name = call.name("name")
    call.caller.check(READ, name)
    view = await call.services.destinations.view(name)
    whole = await call.services.site.export()
    hosts = [
        table
        for table in whole.get("hosts", [])
        if table["name"] in view.destination.hosts and _may_use(call, table["name"])
    ]
    own = [table for table in whole.get("destinations", []) if table["name"] == name]
    document = {"hosts": hosts, "destinations": own}
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return web.Response(
        text=json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        content_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="{safe}.json"',
            "Cache-Control": "no-store",
        },
    )


async def import_form(call: Call) -> web.Response:
    """Where the file of a destination is pasted."""
    call.caller.check_everywhere(WRITE)
    return show(call, "pages/destination_import.html", text="", changes=None, problem="")


async def bring_in(call: Call) -> web.Response:
    """Tell what a pasted file would change, or do it."""
    for right in (WRITE, "hosts:write"):
        call.caller.check_everywhere(right)
    form = await call.form()
    text, changes, problem = form.get("document", ""), None, ""
    try:
        site = read_site(_document(text), Where(file="pasted"))
        is_trial = form.get("step") != "apply"
        changes = await call.services.site.apply(site, call.caller.actor, dry_run=is_trial)
        if not is_trial:
            number = sum(one.action != "unchanged" for one in changes)
            return back(call, "/destinations", f"{number} objects were created or changed.")
    except (Denied, NotFound):
        raise
    except EcpdsError as error:
        problem = error.message
    return show(
        call, "pages/destination_import.html", status=422 if problem else 200, text=text,
        changes=changes, problem=problem,
    )  # fmt: skip


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"that is no JSON: {error}") from None
    if not isinstance(found, dict) or not set(found) <= {"hosts", "destinations"}:
        raise InputError("an object with hosts and destinations is expected, nothing else")
    return found


ROUTES: Final = (
    get("/destinations/new", WRITE, new, "A form for a new destination, or a clone."),
    post("/destinations/new", WRITE, create, "Create a destination."),
    get("/destinations/import", WRITE, import_form, "Where a file is pasted."),
    post("/destinations/import", WRITE, bring_in, "Try or apply a pasted file."),
    get("/destinations/{name}/edit", WRITE, edit, "The form of a destination."),
    post("/destinations/{name}/edit", WRITE, save, "Change a destination."),
    get("/destinations/{name}/export", READ, export, "One destination as a site file."),
    get("/destinations/{name}/delete", WRITE, confirm, "Ask for its name."),
    post("/destinations/{name}/delete", WRITE, delete, "Delete a destination."),
)  # fmt: skip
