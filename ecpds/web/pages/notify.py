"""Notifications: what waits and what failed, who listens, what is retained, and a try."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.message import Message
from ecpds.store.outbox import Publication
from ecpds.web.call import Call, cursor_of
from ecpds.web.display import Look
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, own_address, refused, show

READ: Final = "notify:read"
OPERATE: Final = "notify:operate"
ALL: Final = "/notify"
EVENTS: Final = ("", "available", "delivered", "updated", "deleted")
STATES: Final = {
    "waiting": Look("Waiting", "clock", "warn"),
    "sent": Look("Sent", "check", "good"),
    "failed": Look("Failed", "cross", "bad"),
    "dropped": Look("Given up", "stop", "off"),
    "expired": Look("Expired", "off", "off"),
}


async def index(call: Call) -> web.Response:
    """Publications, newest first, and how the outbox stands."""
    limit, state = lists.limit_of(call), call.text("state")
    destination = call.text("dest")
    if destination:
        call.caller.check(READ, destination)
    rows = await call.services.notices.page(
        limit=limit + 1, before=call.before, state=state if state in STATES else None,
        destination=destination or None,
    )  # fmt: skip
    cursor = cursor_of(rows[limit - 1].id) if len(rows) > limit else None
    everywhere = call.caller.may_everywhere(READ)
    notices = call.services.notices
    return show(
        call,
        "pages/notify.html",
        topics=("notify:*",),
        rows=[(one, STATES.get(one.state, STATES["waiting"]), _may_act(call, one))
              for one in rows[:limit] if call.caller.may_on(READ, one.destination)],
        cursor=cursor,
        states=STATES,
        counts=await notices.counts() if everywhere else None,
        clients=len(notices.clients()) if everywhere else 0,
        retained=len(notices.retained()) if everywhere else 0,
        everywhere=everywhere,
        names=[name for name in sorted(call.services.core.snapshot.destinations)
               if call.caller.may_on(READ, name)],
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


def _may_act(call: Call, one: Publication) -> bool:
    return call.caller.may_on(OPERATE, one.destination)


async def act(call: Call) -> web.Response:
    """Send a publication again, or give it up."""
    number, verb = call.number("publication", "Publication"), call.name("verb")
    notices = call.services.notices
    found = await notices.get(number)
    call.caller.check(OPERATE, found.destination, f"Publication {number} not found")
    form = await call.form()
    address = own_address(form.get("back", ""), ALL)
    try:
        if verb == "retry":
            await notices.retry(number, call.caller.actor)
            return back(call, address, f"Publication {number} is sent (again).")
        if verb == "drop":
            await notices.drop(number, call.caller.actor)
            return back(call, address, f"Publication {number} was given up.")
    except EcpdsError as error:
        return refused(call, address, error)
    raise NotFound(f"there is no action {verb!r}")


async def clients(call: Call) -> web.Response:
    """Clients of the broker, and sessions that wait for theirs."""
    call.caller.check_everywhere(READ)
    return show(
        call, "pages/notify_clients.html", topics=("notify:*",),
        rows=call.services.notices.clients(), may_act=call.caller.may_everywhere(OPERATE),
    )  # fmt: skip


async def disconnect(call: Call) -> web.Response:
    """Hang up on a client and forget its session."""
    call.caller.check_everywhere(OPERATE)
    form = await call.form()
    user, client = form.get("user", ""), form.get("client", "")
    try:
        await call.services.notices.disconnect(user, client, call.caller.actor)
    except NotFound as error:
        return back(call, f"{ALL}/clients", error.message, tone="info")
    return back(call, f"{ALL}/clients", f"{client} of {user} was disconnected.")


async def retained(call: Call) -> web.Response:
    """Retained messages, by topic."""
    call.caller.check_everywhere(READ)
    wanted, problem, rows = call.text("filter") or "#", "", list[Message]()
    try:
        rows = call.services.notices.retained(wanted)
    except InputError as error:
        problem = error.message
    return show(
        call, "pages/notify_retained.html", topics=("notify:*",), problem=problem,
        rows=[(one, _text(one)) for one in rows[: lists.MOST]], found=len(rows),
        may_act=call.caller.may_everywhere(OPERATE),
    )  # fmt: skip


async def clear(call: Call) -> web.Response:
    """Forget the retained message of a topic."""
    call.caller.check_everywhere(OPERATE)
    topic = (await call.form()).get("topic", "")
    try:
        await call.services.notices.clear(topic, call.caller.actor)
    except NotFound as error:
        return back(call, f"{ALL}/retained", error.message, tone="info")
    return back(call, f"{ALL}/retained", f"Nothing is retained on {topic} any more.")


async def attempt(call: Call) -> web.Response:
    """The message that a transfer would give; nothing is sent."""
    text, event = call.text("transfer").strip(), call.text("event")
    message, problem = None, ""
    if text:
        try:
            message = await _preview(call, text, event)
        except EcpdsError as error:
            problem = error.message
    may = message is not None and call.caller.may_on(OPERATE, message.destination)
    return show(
        call, "pages/notify_try.html", status=422 if problem else 200, problem=problem,
        message=message, text=_text(message) if message else "", events=EVENTS, number=text,
        event=event, may_send=may,
    )  # fmt: skip


async def _preview(call: Call, text: str, event: str) -> Message:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError("the transfer is named by its number")
    if event not in EVENTS:
        raise InputError(f"event: one of {', '.join(EVENTS[1:])}")
    number = int(text)
    transfer = await call.services.transfers.get(number)
    call.caller.check(READ, transfer.destination, f"Transfer {number} not found")
    return await call.services.notices.preview(number, event)


async def announce(call: Call) -> web.Response:
    """Publish a transfer now."""
    form = await call.form()
    text, event = form.get("transfer", ""), form.get("event", "") or "available"
    address = f"{ALL}/try?transfer={text if text.isdigit() else ''}"
    try:
        found = await _preview(call, text, event)
        call.caller.check(OPERATE, found.destination, f"Transfer {text} not found")
        await call.services.notices.announce(int(text), event, call.caller.actor)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, ALL, f"Transfer {text} is published.")


def _text(message: Message) -> str:
    return message.payload.decode("utf-8", "replace")


ROUTES: Final = (
    get(ALL, READ, index, "Publications and the outbox."),
    post(ALL + "/publications/{publication}/actions/{verb}", OPERATE, act, "retry, drop."),
    get(ALL + "/clients", READ, clients, "Clients of the broker."),
    post(ALL + "/clients/actions/disconnect", OPERATE, disconnect, "Hang up on a client."),
    get(ALL + "/retained", READ, retained, "Retained messages."),
    post(ALL + "/retained/actions/clear", OPERATE, clear, "Forget a retained message."),
    get(ALL + "/try", READ, attempt, "The message of a transfer."),
    post(ALL + "/try/actions/announce", OPERATE, announce, "Publish a transfer now."),
)  # fmt: skip
