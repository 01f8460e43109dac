"""`/webhooks`: addresses that are told of events.  For administrators."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.model.decode import Where, decode
from ecpds.store.webhooks import Webhook
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import has, named, without
from ecpds.web.api.schemas import WebhookSpec
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Route
from ecpds.web.shown import Document

RIGHT: Final = "system:write"
ALL: Final = "/api/v2/webhooks"
ONE: Final = ALL + "/{webhook}"
READ_ONLY: Final = frozenset(
    {"has_secret", "owner", "sent", "tries", "error", "failing_since", "due", "disabled", "behind"}
)


def tag(hook: Webhook) -> str:
    """Return the entity tag of a webhook."""
    return f'"{hook.version}"'


def _shown(hook: Webhook, newest: int) -> Document:
    return {
        "name": hook.name,
        "url": hook.url,
        "secret": shown.STARS if hook.secret else "",
        "types": list(hook.types),
        "objects": list(hook.objects),
        "active": hook.active,
        "comment": hook.comment,
        "has_secret": bool(hook.secret),
        "owner": hook.owner,
        "sent": hook.sent,
        "tries": hook.tries,
        "error": hook.error or None,
        "failing_since": shown.moment(hook.failing_since),
        "due": shown.moment(hook.due_at),
        "disabled": hook.is_given_up,
        "behind": max(newest - hook.sent_up_to, 0),
    }


async def _one(call: Call) -> Webhook:
    call.caller.check_everywhere(RIGHT)
    return await call.services.webhooks.get(call.name("webhook"))


async def index(call: Call) -> web.StreamResponse:
    """List all webhooks."""
    call.caller.check_everywhere(RIGHT)
    newest = await call.services.webhooks.newest()
    found = await call.services.webhooks.everything()
    return answers.named(call, {hook.name: _shown(hook, newest) for hook in found})


async def get(call: Call) -> web.StreamResponse:
    """Return one webhook."""
    hook = await _one(call)
    return answers.one(call, _shown(hook, await call.services.webhooks.newest()), tag(hook))


async def create(call: Call) -> web.StreamResponse:
    """Register an address; without a secret one is made and shown once."""
    call.caller.check_everywhere(RIGHT)
    return await _store(call, without(await call.document(), READ_ONLY), None)


async def put(call: Call) -> web.StreamResponse:
    """Register an address, or register it anew."""
    call.caller.check_everywhere(RIGHT)
    name = call.name("webhook")
    document = named("name", name, await call.document(), READ_ONLY)
    return await _store(call, document, await call.services.webhooks.find(name))


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a webhook; `active` true lets a disabled one go on."""
    old = await _one(call)
    change = named("name", old.name, await call.document(), READ_ONLY)
    present = without(_shown(old, 0), {*READ_ONLY, "secret"})
    return await _store(call, answers.merged(present, change), old)


async def _store(call: Call, document: Document, old: Webhook | None) -> web.StreamResponse:
    if not has(document, "secret") or document["secret"] == "":
        document = without(document, {"secret"})
    spec = decode(WebhookSpec, document, Where())
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    hook = Webhook(
        name=spec.name, url=spec.url, secret="", types=spec.types, owner=call.caller.name,
        objects=spec.objects, active=spec.active, comment=spec.comment,
    )  # fmt: skip
    dry_run = call.flag("dry_run")
    instead_of = None if call.must_be_new else old
    made = await call.services.webhooks.put(
        hook, spec.secret, call.caller.actor, instead_of=instead_of, dry_run=dry_run
    )
    if dry_run:
        return answers.tried(call, _shown(hook, 0))
    stored = await call.services.webhooks.get(hook.name)
    told = _shown(stored, await call.services.webhooks.newest())
    return answers.one(
        call,
        told | ({"secret": made} if made else {}),
        tag(stored),
        status=200 if old is not None else 201,
        location=f"{ALL}/{hook.name}" if old is None else "",
    )


async def delete(call: Call) -> web.StreamResponse:
    """Remove a webhook."""
    hook = await _one(call)
    call.check_match(tag(hook))
    if not call.flag("dry_run"):
        await call.services.webhooks.delete(hook.name, call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=RIGHT, handle=index, query=LISTED, answer="[Webhook]",
          summary="Addresses that are told of events, by name."),
    Route(method="POST", path=ALL, right=RIGHT, handle=create, query=(DRY_RUN, FIELDS),
          body="Webhook", answer="NewWebhook", status=201,
          summary="Register an address; a secret that is made for it is shown once."),
    Route(method="GET", path=ONE, right=RIGHT, handle=get, query=(FIELDS,), answer="Webhook",
          summary="One webhook."),
    Route(method="PUT", path=ONE, right=RIGHT, handle=put, needs_match=True,
          query=(DRY_RUN, FIELDS), body="Webhook", answer="Webhook",
          summary="Register an address, or register it anew."),
    Route(method="PATCH", path=ONE, right=RIGHT, handle=patch, needs_match=True,
          query=(DRY_RUN, FIELDS), body="Webhook", answer="Webhook",
          summary="Change a webhook; active true lets a disabled one go on."),
    Route(method="DELETE", path=ONE, right=RIGHT, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Remove a webhook.", status=204),
)  # fmt: skip
