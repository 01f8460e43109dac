"""`/notify`: publications, the clients of the broker, its retained messages, previews."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ecpds.model.errors import Denied
from ecpds.model.message import ClientInfo, Message
from ecpds.store.outbox import Publication
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import Announcement, Preview
from ecpds.web.call import Call
from ecpds.web.routes import CURSOR, FIELDS, LIMIT, Query, Route

READ: Final = "notify:read"
OPERATE: Final = "notify:operate"
NOTIFY: Final = "/api/v2/notify"


def _publication(one: Publication) -> dict[str, Any]:
    return {
        "id": one.id, "driver": one.kind, "destination": one.destination,
        "transfer": one.transfer, "event": one.event, "state": one.state, "tries": one.tries,
        "error": one.error or None, "due": shown.moment(one.due_at),
        "expires": shown.moment(one.expires_at), "created": shown.moment(one.created_at),
        "sent": shown.moment(one.sent_at), "topic": one.topic or None,
        "payload": one.content.get("payload"),
    }  # fmt: skip


async def publications(call: Call) -> web.StreamResponse:
    """List publications, newest first."""
    limit = call.limit
    destination = call.text("destination")
    if destination:
        call.caller.check(READ, destination)
    transfer = call.text("transfer")
    rows = await call.services.notices.page(
        limit=limit + 1,
        before=call.before,
        state=call.text("state") or None,
        destination=destination or None,
        transfer=int(transfer) if transfer.isdecimal() and len(transfer) < 19 else None,
    )
    last = rows[limit - 1].id if len(rows) > limit else None
    seen = [one for one in rows[:limit] if call.caller.may_on(READ, one.destination)]
    return answers.page(call, [_publication(one) for one in seen], last)


async def publication(call: Call) -> web.StreamResponse:
    """Show one publication."""
    found = await _found(call, READ)
    return answers.one(call, _publication(found))


async def _found(call: Call, right: str) -> Publication:
    number = call.number("publication", "Publication")
    found = await call.services.notices.get(number)
    call.caller.check(right, found.destination, f"Publication {number} not found")
    return found


async def retry(call: Call) -> web.StreamResponse:
    """Send a publication again."""
    found = await _found(call, OPERATE)
    again = await call.services.notices.retry(found.id, call.caller.actor)
    return answers.one(call, _publication(again))


async def drop(call: Call) -> web.StreamResponse:
    """Give up a publication."""
    found = await _found(call, OPERATE)
    await call.services.notices.drop(found.id, call.caller.actor)
    return answers.nothing()


async def preview(call: Call) -> web.StreamResponse:
    """Show the message of a transfer."""
    asked = await call.decoded(Preview)
    transfer = await call.services.transfers.get(asked.transfer)
    call.caller.check(READ, transfer.destination, f"Transfer {asked.transfer} not found")
    found = await call.services.notices.preview(asked.transfer, asked.event)
    return answers.one(call, _message(found))


async def announce(call: Call) -> web.StreamResponse:
    """Publish a transfer now."""
    asked = await call.decoded(Announcement)
    transfer = await call.services.transfers.get(asked.transfer)
    call.caller.check(OPERATE, transfer.destination, f"Transfer {asked.transfer} not found")
    await call.services.notices.announce(asked.transfer, asked.event, call.caller.actor)
    return answers.nothing()


def _message(found: Message) -> dict[str, Any]:
    return {
        "topic": found.topic, "payload": found.payload.decode("utf-8", "replace"),
        "qos": found.qos, "retain": found.retain, "expires": shown.moment(found.expires_at),
        "content_type": found.content_type or None,
    }  # fmt: skip


async def clients(call: Call) -> web.StreamResponse:
    """List the clients of the broker."""
    call.caller.check_everywhere(READ)
    return answers.page(call, [_client(one) for one in call.services.notices.clients()], None)


def _client(one: ClientInfo) -> dict[str, Any]:
    return {
        "user": one.user, "client": one.client, "connected": one.since is not None,
        "peer": one.peer or None, "version": one.version or None,
        "since": shown.moment(one.since), "subscriptions": list(one.subscriptions),
        "queued": one.queued, "in_flight": one.in_flight, "sent": one.sent,
        "dropped": one.dropped, "ends": shown.moment(one.ends),
    }  # fmt: skip


async def disconnect(call: Call) -> web.StreamResponse:
    """Hang up on a client and forget its session."""
    call.caller.check_everywhere(OPERATE)
    user, client = call.name("user"), call.name("client")
    await call.services.notices.disconnect(user, client, call.caller.actor)
    return answers.nothing()


async def retained(call: Call) -> web.StreamResponse:
    """List retained messages."""
    call.caller.check_everywhere(READ)
    start, limit = str(call.cursor or ""), call.limit
    found = call.services.notices.retained(call.text("filter") or "#")
    chosen = [one for one in found if not start or one.topic > start]
    last = chosen[limit - 1].topic if len(chosen) > limit else None
    items = [
        _message(one) | {"destination": one.destination or None, "transfer": one.transfer}
        for one in chosen[:limit]
    ]
    return answers.page(call, items, last)


async def clear(call: Call) -> web.StreamResponse:
    """Forget a retained message."""
    call.caller.check_everywhere(OPERATE)
    await call.services.notices.clear(call.name("topic"), call.caller.actor)
    return answers.nothing()


async def mosquitto(call: Call) -> web.StreamResponse:
    """Show the password and the ACL file of a Mosquitto beside this node."""
    call.caller.check_everywhere("system:admin")
    if not call.caller.may_everywhere("secrets:read"):
        raise Denied(f"{call.caller.name} has no secrets:read")
    found = await call.services.broker_files.texts()
    return answers.one(call, {
        "passwords": found.passwords, "acl": found.access, "users": list(found.users),
        "left_out": [{"login": one.login, "reason": one.reason} for one in found.left_out],
    })  # fmt: skip


_STATE: Final = Query(name="state", help="waiting, sent, failed, dropped or expired.")
_WHERE: Final = Query(name="destination", help="Only those of that destination.")
_WHAT: Final = Query(name="transfer", help="Only those of that transfer.", type="number")
_FILTER: Final = Query(name="filter", help="Topics that match this MQTT filter.")
ONE: Final = NOTIFY + "/publications/{publication}"

ROUTES: Final = (
    Route(method="GET", path=NOTIFY + "/publications", right=READ, handle=publications,
          query=(_STATE, _WHERE, _WHAT, LIMIT, CURSOR, FIELDS), answer="[Publication]",
          summary="Publications, newest first."),
    Route(method="GET", path=ONE, right=READ, handle=publication, query=(FIELDS,),
          summary="One publication.", answer="Publication"),
    Route(method="POST", path=ONE + "/actions/retry", right=OPERATE, handle=retry,
          query=(FIELDS,), summary="Send a publication (again).", answer="Publication"),
    Route(method="DELETE", path=ONE, right=OPERATE, handle=drop, status=204,
          summary="Give up a publication that was not sent."),
    Route(method="POST", path=NOTIFY + "/preview", right=READ, handle=preview, body="Preview",
          query=(FIELDS,), summary="The message of a transfer; nothing is sent.",
          answer="PublishedMessage"),
    Route(method="POST", path=NOTIFY + "/announce", right=OPERATE, handle=announce,
          body="Announcement", summary="Publish a transfer now.", status=204),
    Route(method="GET", path=NOTIFY + "/clients", right=READ, handle=clients, query=(FIELDS,),
          summary="Clients of the broker and sessions that wait for theirs.",
          answer="[MqttClient]"),
    Route(method="DELETE", path=NOTIFY + "/clients/{user}/{client}", right=OPERATE,
          handle=disconnect, summary="Hang up on a client and forget its session.", status=204),
    Route(method="GET", path=NOTIFY + "/retained", right=READ, handle=retained,
          query=(_FILTER, LIMIT, CURSOR, FIELDS), summary="Retained messages, by topic.",
          answer="[RetainedMessage]"),
    Route(method="DELETE", path=NOTIFY + "/retained/{topic}", right=OPERATE, handle=clear,
          summary="Forget the retained message of a topic.", status=204),
    Route(method="GET", path=NOTIFY + "/mosquitto", right="system:admin", handle=mosquitto,
          query=(FIELDS,), answer="MosquittoFiles",
          summary="Password and ACL file for a Mosquitto that carries our publications."),
)  # fmt: skip
