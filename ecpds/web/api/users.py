"""`/portal/users`: data users of the portal.

A user belongs to the scopes of its destinations; one without, to those who may everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from ecpds.base.passwords import random_password
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.sitefile import DataUserSpec
from ecpds.model.account import DataUser
from ecpds.model.decode import Where, decode
from ecpds.model.errors import Denied
from ecpds.model.options import as_text
from ecpds.model.secret import Secret
from ecpds.store import accounts
from ecpds.store.accounts import StoredUser
from ecpds.store.db import Connection
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.bodies import has, named, without
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, LISTED, Query, Route
from ecpds.web.shown import Document

READ: Final = "portal:read"
WRITE: Final = "portal:write"
USERS: Final = "/api/v2/portal/users"
USER: Final = USERS + "/{user}"
READ_ONLY: Final = frozenset({"has_password", "has_totp", "last_login", "last_login_from"})


def user_tag(stored: StoredUser) -> str:
    """Return the entity tag of a data user."""
    return f'"{stored.version}"'


async def reached_names(call: Call, user: DataUser) -> set[str]:
    """Return the destinations that the user gets, by policies too."""
    found = set(user.destinations)
    for policy in await call.services.core.store.read(accounts.policies_of, user.policies):
        found |= set(policy.destinations)
    return found


async def reached_user(call: Call, right: str = READ) -> StoredUser:
    """Return the user in the address; NotFound or Denied outside of the caller's scope."""
    login = call.name("user")
    stored = await call.services.accounts.user(login)
    names = await reached_names(call, stored.user)
    check_scope(call, right, names, f"Data user {login} not found")
    return stored


def check_new(call: Call, names: Iterable[str]) -> None:
    """Raise Denied unless the caller may give access to all these destinations."""
    known = list(names)
    if call.caller.may_everywhere(WRITE):
        return
    if not known or not all(call.caller.may_on(WRITE, name) for name in known):
        raise Denied(f"{call.caller.name} has {WRITE} on some destinations only")


def check_scope(call: Call, right: str, names: Iterable[str], what: str) -> None:
    """Raise NotFound or Denied; reading needs one of the destinations, changing all."""
    if right == READ:
        call.caller.check_any(right, names, what)
    else:
        call.caller.check_all(right, names, what)


async def _shown(call: Call, stored: StoredUser) -> Document:
    keys = await call.services.core.store.read(accounts.s3_keys, stored.user.login)
    options = masked(call.services.core, stored.user.options)
    return shown.data_user(stored, options, [key for key, _ in keys])


def read_users(db: Connection) -> list[tuple[StoredUser, set[str], list[str]]]:
    """Return all users with the destinations that they get and their S3 keys."""
    policies = {policy.name: set(policy.destinations) for policy in accounts.policies(db)}
    found = []
    for stored in accounts.users(db):
        names = set(stored.user.destinations)
        for name in stored.user.policies:
            names |= policies.get(name, set())
        keys = [key for key, _ in accounts.s3_keys(db, stored.user.login)]
        found.append((stored, names, keys))
    return found


async def users(call: Call) -> web.StreamResponse:
    """List the data users of the caller's scope."""
    everywhere = call.caller.may_everywhere(READ)
    wanted = call.text("destination")
    rows = await call.services.core.store.read(read_users)
    return answers.named(
        call,
        {
            stored.user.login: shown.data_user(
                stored, masked(call.services.core, stored.user.options), keys
            )
            for stored, names, keys in rows
            if (everywhere or any(call.caller.may_on(READ, name) for name in names))
            and (not wanted or wanted in names)
        },
        key="login",
    )


async def get_user(call: Call) -> web.StreamResponse:
    """Return one data user."""
    stored = await reached_user(call)
    return answers.one(call, await _shown(call, stored), user_tag(stored))


async def create_user(call: Call) -> web.StreamResponse:
    """Create a data user; without a password one is generated and shown once when asked for."""
    document = without(await call.document(), READ_ONLY)
    return await _store_user(call, document, None)


async def put_user(call: Call) -> web.StreamResponse:
    """Create or replace a data user."""
    login = call.name("user")
    document = named("login", login, await call.document(), READ_ONLY)
    old = await call.services.core.store.read(accounts.user, login)
    if old is not None:
        old = await reached_user(call, WRITE)
    return await _store_user(call, document, old)


async def patch_user(call: Call) -> web.StreamResponse:
    """Change some keys of a data user."""
    old = await reached_user(call, WRITE)
    change = named("login", old.user.login, await call.document(), READ_ONLY)
    present = without(await _shown(call, old), {*READ_ONLY, "password", "totp", "s3_keys"})
    return await _store_user(call, answers.merged(present, change), old)


def read_user(document: Document) -> tuple[DataUser, Credentials]:
    """Return what a document says of a user; ConfigError names the place."""
    spec = decode(DataUserSpec, _without_stars(document), Where())
    user = DataUser(
        login=spec.login,
        service=spec.service,
        active=spec.active,
        comment=spec.comment,
        country=spec.country,
        operations=frozenset(spec.operations),
        destinations=spec.destinations,
        policies=spec.policies,
        ssh_keys=spec.ssh_keys,
        options={key: as_text(value) for key, value in spec.options.items()},
    )
    keys = None
    if spec.s3_keys is not None:
        keys = [(key.access_key, Secret(key.secret)) for key in spec.s3_keys]
    return user, Credentials(password=spec.password, totp=spec.totp, s3_keys=keys)


async def _store_user(call: Call, document: Document, old: StoredUser | None) -> web.StreamResponse:
    user, credentials = read_user(document)
    call.services.accounts.check_length(credentials.password, Where())
    check_new(call, await reached_names(call, user))
    if old is not None and not call.must_be_new:
        call.check_match(user_tag(old))
    await call.services.accounts.put_user(
        user,
        credentials,
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=call.flag("dry_run"),
    )
    if call.flag("dry_run"):
        hidden = replace(user, options=masked(call.services.core, user.options))
        return answers.tried(call, without(shown.plain(hidden), {"last_login_at"}))
    stored = await call.services.accounts.user(user.login)
    return answers.one(
        call,
        await _shown(call, stored),
        user_tag(stored),
        status=200 if old is not None else 201,
        location=f"{USERS}/{user.login}" if old is None else "",
    )


def _without_stars(document: Document) -> Document:
    """Return a document whose masked credentials say nothing, so that they stay as they are."""
    found = {
        key: value
        for key, value in document.items()
        if key not in {"password", "totp"} or has(document, key)
    }
    pairs = found.get("s3_keys")
    if isinstance(pairs, list) and all(_is_masked(pair) for pair in pairs):
        del found["s3_keys"]
    return found


def _is_masked(pair: Any) -> bool:
    return isinstance(pair, Mapping) and pair.get("secret") == shown.STARS


async def delete_user(call: Call) -> web.StreamResponse:
    """Delete a data user; its sessions end."""
    stored = await reached_user(call, WRITE)
    call.check_match(user_tag(stored))
    if not call.flag("dry_run"):
        await call.services.accounts.delete_user(stored.user.login, call.caller.actor)
    return answers.nothing()


async def reset_password(call: Call) -> web.StreamResponse:
    """Give a user a new random password, shown only in this answer."""
    stored = await reached_user(call, WRITE)
    password = random_password()
    await call.services.accounts.put_user(
        opened_user(call, stored),
        Credentials(password=Secret(password)),
        call.caller.actor,
        if_version=stored.version,
    )
    return answers.as_json({"login": stored.user.login, "password": password})


def opened_user(call: Call, stored: StoredUser) -> DataUser:
    """Return a stored user as an operation takes it, secret options open."""
    options = call.services.core.configuration.opened(stored.user.options)
    return replace(stored.user, options=options)


_OF: Final = Query(name="destination", help="Only users that get that destination.")

ROUTES: Final = (
    Route(method="GET", path=USERS, right=READ, handle=users, query=(*LISTED, _OF),
          summary="Data users by login.", answer="[DataUser]"),
    Route(method="POST", path=USERS, right=WRITE, handle=create_user, query=(DRY_RUN, FIELDS),
          summary="Create a data user.", body="DataUser", answer="DataUser", status=201),
    Route(method="GET", path=USER, right=READ, handle=get_user, query=(FIELDS,),
          summary="One data user.", answer="DataUser"),
    Route(method="PUT", path=USER, right=WRITE, handle=put_user, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Create or replace a data user.", body="DataUser",
          answer="DataUser"),
    Route(method="PATCH", path=USER, right=WRITE, handle=patch_user, needs_match=True,
          query=(DRY_RUN, FIELDS), summary="Change some keys of a data user.", body="DataUser",
          answer="DataUser"),
    Route(method="DELETE", path=USER, right=WRITE, handle=delete_user, needs_match=True,
          query=(DRY_RUN,), summary="Delete a data user; its sessions end.", status=204),
    Route(method="POST", path=USER + "/actions/reset_password", right=WRITE,
          handle=reset_password, body="Nothing", answer="NewPassword",
          summary="Give it a random password, shown once."),
)  # fmt: skip
