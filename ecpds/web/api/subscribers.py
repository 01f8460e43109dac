"""`/portal/users/{user}/subscribers`: the people behind a self-service user."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.subscribers import Person
from ecpds.model.errors import NotFound
from ecpds.store.subscribers import Subscriber
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import NewSubscriber
from ecpds.web.api.users import READ, USER, WRITE, reached_user
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, LISTED, Route
from ecpds.web.shown import Document

SUBSCRIBERS: Final = USER + "/subscribers"
SUBSCRIBER: Final = SUBSCRIBERS + "/{subscriber}"


def _shown(one: Subscriber) -> Document:
    return {
        "id": one.id,
        "user": one.login,
        "email": one.email,
        "name": one.name,
        "country": one.country,
        "active": one.active,
        "verified": not one.is_waiting,
        "created": shown.moment(one.created_at),
        "changed": shown.moment(one.changed_at),
    }


async def subscribers(call: Call) -> web.StreamResponse:
    """List the subscribers of a user, oldest first."""
    stored = await reached_user(call, READ)
    found = await call.services.subscribers.of(stored.user.login)
    return answers.named(
        call,
        {f"{one.id:012}": _shown(one) for one in found},
        key="email",
    )


async def create(call: Call) -> web.StreamResponse:
    """Add an active subscriber; its password is mailed, and shown only in this answer."""
    stored = await reached_user(call, WRITE)
    spec = await call.decoded(NewSubscriber)
    person = Person.checked(spec.name, spec.email, spec.country)
    made, password = await call.services.subscribers.create(
        stored.user.login, person, call.caller.actor
    )
    return answers.as_json({**_shown(made), "password": password}, status=201)


async def _acted(call: Call, verb: str) -> web.StreamResponse:
    stored = await reached_user(call, WRITE)
    number = call.number("subscriber", "Subscriber")
    people = call.services.subscribers
    act = people.activate if verb == "activate" else people.deactivate
    found = await act(stored.user.login, number, call.caller.actor)
    return answers.as_json(_shown(found))


async def activate(call: Call) -> web.StreamResponse:
    """Let a subscriber in; a new password is mailed."""
    return await _acted(call, "activate")


async def deactivate(call: Call) -> web.StreamResponse:
    """Keep a subscriber out; its sessions end."""
    return await _acted(call, "deactivate")


async def delete(call: Call) -> web.StreamResponse:
    """Remove a subscriber; its sessions end."""
    stored = await reached_user(call, WRITE)
    number = call.number("subscriber", "Subscriber")
    login, people = stored.user.login, call.services.subscribers
    if not call.flag("dry_run"):
        await people.delete(login, number, call.caller.actor)
    elif all(one.id != number for one in await people.of(login)):
        raise NotFound(f"Subscriber {number} not found")
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=SUBSCRIBERS, right=READ, handle=subscribers, query=LISTED,
          summary="People behind a self-service user.", answer="[Subscriber]"),
    Route(method="POST", path=SUBSCRIBERS, right=WRITE, handle=create, body="NewSubscriber",
          answer="Subscriber", status=201,
          summary="Add an active subscriber; its password is mailed and shown once."),
    Route(method="POST", path=SUBSCRIBER + "/actions/activate", right=WRITE, handle=activate,
          body="Nothing", answer="Subscriber", summary="Let a subscriber in, by a new password."),
    Route(method="POST", path=SUBSCRIBER + "/actions/deactivate", right=WRITE, handle=deactivate,
          body="Nothing", answer="Subscriber", summary="Keep a subscriber out."),
    Route(method="DELETE", path=SUBSCRIBER, right=WRITE, handle=delete, query=(DRY_RUN,),
          summary="Remove a subscriber.", status=204),
)  # fmt: skip
