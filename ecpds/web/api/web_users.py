"""`/web_users`: accounts of the dashboard, with their roles.  For administrators."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.sitefile import WebUserSpec
from ecpds.model.account import Role, WebUser
from ecpds.model.decode import Where, decode
from ecpds.model.errors import Conflict
from ecpds.store import accounts
from ecpds.store.accounts import StoredWebUser
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import has, named, without
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Route
from ecpds.web.shown import Document

RIGHT: Final = "system:admin"
ALL: Final = "/api/v2/web_users"
ONE: Final = ALL + "/{name}"
READ_ONLY: Final = frozenset({"has_password", "has_totp", "last_login", "last_login_from"})


def tag(stored: StoredWebUser) -> str:
    """Return the entity tag of a web user."""
    return f'"{stored.version}"'


async def _one(call: Call) -> StoredWebUser:
    call.caller.check_everywhere(RIGHT)
    return await call.services.accounts.web_user(call.name("name"))


async def index(call: Call) -> web.StreamResponse:
    """List all web users."""
    call.caller.check_everywhere(RIGHT)
    found = await call.services.accounts.web_users()
    return answers.named(call, {one.user.name: shown.web_user(one) for one in found})


async def get(call: Call) -> web.StreamResponse:
    """Return one web user."""
    stored = await _one(call)
    return answers.one(call, shown.web_user(stored), tag(stored))


async def create(call: Call) -> web.StreamResponse:
    """Create a web user."""
    call.caller.check_everywhere(RIGHT)
    return await _store(call, without(await call.document(), READ_ONLY), None)


async def put(call: Call) -> web.StreamResponse:
    """Create or replace a web user."""
    call.caller.check_everywhere(RIGHT)
    name = call.name("name")
    document = named("name", name, await call.document(), READ_ONLY)
    old = await call.services.core.store.read(accounts.web_user, name)
    return await _store(call, document, old)


async def patch(call: Call) -> web.StreamResponse:
    """Change some keys of a web user."""
    old = await _one(call)
    change = named("name", old.user.name, await call.document(), READ_ONLY)
    present = without(shown.web_user(old), {*READ_ONLY, "password", "totp"})
    return await _store(call, answers.merged(present, change), old)


async def _store(call: Call, document: Document, old: StoredWebUser | None) -> web.StreamResponse:
    for secret in ("password", "totp"):
        if not has(document, secret):
            document = without(document, {secret})
    spec = decode(WebUserSpec, document, Where())
    if old is not None and not call.must_be_new:
        call.check_match(tag(old))
    user = WebUser(name=spec.name, active=spec.active, comment=spec.comment, grants=spec.roles)
    if old is not None and not is_administrator(user):
        await keep_an_administrator(call, user.name)
    dry_run = call.flag("dry_run")
    await call.services.accounts.put_web_user(
        user,
        Credentials(password=spec.password, totp=spec.totp),
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=dry_run,
    )
    if dry_run:
        return answers.tried(call, {"name": user.name, "roles": shown.plain(user.grants)})
    stored = await call.services.accounts.web_user(user.name)
    return answers.one(
        call,
        shown.web_user(stored),
        tag(stored),
        status=200 if old is not None else 201,
        location=f"{ALL}/{user.name}" if old is None else "",
    )


def is_administrator(user: WebUser) -> bool:
    """Tell whether a web user may everything everywhere."""
    return user.active and any(
        grant.role == Role.ADMIN and grant.scope == "*" for grant in user.grants
    )


async def keep_an_administrator(call: Call, name: str) -> None:
    """Raise Conflict when nobody else could administer the node."""
    others = await call.services.accounts.web_users()
    if not any(is_administrator(one.user) for one in others if one.user.name != name):
        raise Conflict(f"{name} is the last administrator")


async def delete(call: Call) -> web.StreamResponse:
    """Delete a web user with its sessions; its tokens are refused from now on."""
    stored = await _one(call)
    call.check_match(tag(stored))
    await keep_an_administrator(call, stored.user.name)
    if not call.flag("dry_run"):
        await call.services.accounts.delete_web_user(stored.user.name, call.caller.actor)
    return answers.nothing()


ROUTES: Final = (
    Route(method="GET", path=ALL, right=RIGHT, handle=index, query=LISTED,
          summary="Web users by name.", answer="[WebUser]"),
    Route(method="POST", path=ALL, right=RIGHT, handle=create, query=(DRY_RUN, FIELDS),
          summary="Create a web user.", body="WebUser", answer="WebUser", status=201),
    Route(method="GET", path=ONE, right=RIGHT, handle=get, query=(FIELDS,),
          summary="One web user.", answer="WebUser"),
    Route(method="PUT", path=ONE, right=RIGHT, handle=put, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Create or replace a web user.", body="WebUser",
          answer="WebUser"),
    Route(method="PATCH", path=ONE, right=RIGHT, handle=patch, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Change some keys of a web user.", body="WebUser",
          answer="WebUser"),
    Route(method="DELETE", path=ONE, right=RIGHT, handle=delete, needs_match=True,
          query=(DRY_RUN,), summary="Delete a web user.", status=204),
)  # fmt: skip
