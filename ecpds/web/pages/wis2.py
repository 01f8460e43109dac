"""WIS2: datasets and their discovery records, the last messages, and a look from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from ecpds.engine.subscription import SubscriptionScheduler
from ecpds.model.errors import EcpdsError, InputError
from ecpds.model.secret import Secret
from ecpds.model.wis2_check import Finding
from ecpds.store.outbox import Publication
from ecpds.web.call import Call
from ecpds.web.display import Look
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, refused, show

READ: Final = "notify:read"
OPERATE: Final = "notify:operate"
WRITE: Final = "notify:write"
ALL: Final = "/wis2"
LAST: Final = 200  # publications that are looked through for the last messages
SHOWN: Final = 20
SUBSCRIPTIONS: Final = 200
SEVERITIES: Final = {
    "ok": Look("Good", "check", "good"),
    "warn": Look("Warning", "clock", "warn"),
    "error": Look("Wrong", "cross", "bad"),
}
CONNECTED: Final = Look("Connected", "check", "good")
NOT_CONNECTED: Final = Look("Not connected", "cross", "bad")
STATES: Final = {
    "waiting": Look("Waiting", "clock", "warn"),
    "sent": Look("Sent", "check", "good"),
    "failed": Look("Failed", "cross", "bad"),
    "dropped": Look("Not told", "off", "off"),
    "expired": Look("Expired", "off", "off"),
}


async def index(call: Call) -> web.Response:
    """Datasets, records, the last messages."""
    return await _page(call)


async def _page(call: Call, findings: Sequence[Finding] | None = None) -> web.Response:
    services = call.services
    records = await services.wis2.records()
    rows = await services.notices.page(limit=LAST)
    destinations = services.core.snapshot.destinations
    datasets = [
        entry
        for name, entry in sorted(destinations.items())
        if entry.wis2.publish and call.caller.may_on(READ, name)
    ]
    messages = [one for one in rows if _is_ours(call, one)][:SHOWN]
    return show(
        call,
        "pages/wis2.html",
        topics=("notify:*",),
        records=[(one, _title(one.text)) for one in records],
        datasets=datasets,
        announced={one.id for one in records if one.announced_at is not None},
        rows=[(one, STATES.get(one.state, STATES["waiting"])) for one in messages],
        subscriptions=[
            (one, CONNECTED if one.is_running else NOT_CONNECTED) for one in _subscriptions(call)
        ],
        findings=None if findings is None else [(o, SEVERITIES[o.severity]) for o in findings],
        may_act=call.caller.may_everywhere(OPERATE),
        may_write=call.caller.may_everywhere(WRITE),
    )


def _subscriptions(call: Call) -> list[SubscriptionScheduler]:
    """Return the subscriptions that the caller may see, by destination and host."""
    found = sorted(call.services.engine.acquisitions.items())
    return [
        one
        for (name, _), one in found
        if isinstance(one, SubscriptionScheduler) and call.caller.may_on(READ, name)
    ][:SUBSCRIPTIONS]


def _is_ours(call: Call, one: Publication) -> bool:
    return one.kind.startswith("wis2") and call.caller.may_on(READ, one.destination)


def _title(text: str) -> str:
    return str(json.loads(text)["properties"].get("title", ""))


async def test(call: Call) -> web.Response:
    """Look at the node as a Global Broker does."""
    call.caller.check_everywhere(OPERATE)
    form = await call.form()
    found = await call.services.wis2.selftest(
        form.get("login", "everyone"), Secret(form.get("password", "everyone"))
    )
    return await _page(call, found)


async def put(call: Call) -> web.Response:
    """Store a record that was pasted, and announce it."""
    call.caller.check_everywhere(WRITE)
    form = await call.form()
    try:
        document: Any = json.loads(form.get("record", ""))
    except (ValueError, RecursionError):
        return refused(call, ALL, InputError("the record is not JSON"))
    try:
        made = await call.services.wis2.put(document, call.caller.actor)
    except EcpdsError as error:
        return refused(call, ALL, error)
    return back(call, ALL, f"{made.id} is stored and will be announced.")


async def act(call: Call) -> web.Response:
    """Announce a record once more, or withdraw it."""
    call.caller.check_everywhere(WRITE)
    form, verb = await call.form(), call.name("verb")
    name = form.get("id", "")
    try:
        if verb == "announce":
            await call.services.wis2.announce(name, call.caller.actor)
            return back(call, ALL, f"{name} is announced again.")
        if verb == "delete":
            await call.services.wis2.delete(name, call.caller.actor)
            return back(call, ALL, f"{name} was withdrawn.")
    except EcpdsError as error:
        return refused(call, ALL, error)
    return refused(call, ALL, InputError(f"there is no action {verb!r}"))


ROUTES: Final = (
    get(ALL, READ, index, "Datasets of WIS2, their records, the last messages."),
    post(f"{ALL}/actions/test", OPERATE, test, "Look at the node as a Global Broker does."),
    post(f"{ALL}/records", WRITE, put, "Store and announce a discovery record."),
    post(f"{ALL}/records/actions/{{verb}}", WRITE, act, "announce or delete a record."),
)
