"""`/api_users`: who may use the v1 API, and which of its services.  For administrators."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.sitefile import ApiUserSpec
from ecpds.model.apiuser import ApiUser
from ecpds.model.decode import Where, decode
from ecpds.store.apiusers import StoredApiUser
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import has, named, without
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Route
from ecpds.web.shown import Document

RIGHT: Final = "system:admin"
ALL: Final = "/api/v2/api_users"
ONE: Final = ALL + "/{name}"
READ_ONLY: Final = frozenset({"has_password"})


def tag(stored: StoredApiUser) -> str:
    """Return the entity tag of a user."""
    return f'"{stored.version}"'


def _shown(user: ApiUser) -> Document:
    document: Document = shown.plain(user)
    return document | {"password": shown.STARS if user.has_password else None}


async def _one(call: Call) -> StoredApiUser:
    call.caller.check_everywhere(RIGHT)
    return await call.services.api_users.user(call.name("name"))


async def index(call: Call) -> web.StreamResponse:
    """List all users."""
    call.caller.check_everywhere(RIGHT)
    found = await call.services.api_users.users()
    return answers.named(call, {one.user.name: _shown(one.user) for one in found})


async def get(call: Call) -> web.StreamResponse:
    """Return one user."""
    stored = await _one(call)
    return answers.one(call, _shown(stored.user), tag(stored))


async def create(call: Call) -> web.StreamResponse:
    """Create a user."""
    call.caller.check_everywhere(RIGHT)
    return await _store(call, without(await call.document(), READ_ONLY), None)


async def put(call: Call) -> web.StreamResponse:
    """Create or replace a user."""
    call.caller.check_everywhere(RIGHT)
    name = call.name("name")
    document = named("name", name, await call.document(), READ_ONLY)
    return await _store(call, document, await call.services.api_users.find(name))


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a user."""
    old = await _one(call)
    change = named("name", old.user.name, await call.document(), READ_ONLY)
    present = without(_shown(old.user), {*READ_ONLY, "password"})
    return await _store(call, answers.merged(present, change), old)


async def _store(call: Call, document: Document, old: StoredApiUser | None) -> web.StreamResponse:
    if not has(document, "password"):
        document = without(document, {"password"})
    spec = decode(ApiUserSpec, document, Where())
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    user = ApiUser(
        name=spec.name, active=spec.active, comment=spec.comment, services=spec.services,
        has_password=bool(spec.password) or (old is not None and old.user.has_password),
    )  # fmt: skip
    dry_run = call.flag("dry_run")
    await call.services.api_users.put(
        user,
        spec.password,
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=dry_run,
    )
    if dry_run:
        return answers.tried(call, _shown(user))
    stored = await call.services.api_users.user(user.name)
    return answers.one(
        call,
        _shown(stored.user),
        tag(stored),
        status=200 if old is not None else 201,
        location=f"{ALL}/{user.name}" if old is None else "",
    )


async def delete(call: Call) -> web.StreamResponse:
    """Delete a user; it is refused from now on."""
    stored = await _one(call)
    call.check_match(tag(stored))
    if not call.flag("dry_run"):
        await call.services.api_users.delete(stored.user.name, call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=RIGHT, handle=index, query=LISTED,
          summary="Users of the v1 API by name.", answer="[ApiUser]"),
    Route(method="POST", path=ALL, right=RIGHT, handle=create, query=(DRY_RUN, FIELDS),
          summary="Create a user of the v1 API.", body="ApiUser", answer="ApiUser", status=201),
    Route(method="GET", path=ONE, right=RIGHT, handle=get, query=(FIELDS,),
          summary="One user of the v1 API.", answer="ApiUser"),
    Route(method="PUT", path=ONE, right=RIGHT, handle=put, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Create or replace a user of the v1 API.",
          body="ApiUser", answer="ApiUser"),
    Route(method="PATCH", path=ONE, right=RIGHT, handle=patch, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Change some keys of a user of the v1 API.",
          body="ApiUser", answer="ApiUser"),
    Route(method="DELETE", path=ONE, right=RIGHT, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Delete a user of the v1 API.", status=204),
)  # fmt: skip
