"""`incoming/…`: data users, what they reach, and whether they are let in."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

from aiohttp import web

from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.destinations import masked
from ecpds.model.account import DataUser, Permission
from ecpds.model.countries import COUNTRIES
from ecpds.model.errors import BadState, Conflict, InputError, NotFound
from ecpds.model.secret import Secret
from ecpds.store import accounts
from ecpds.store.accounts import StoredUser
from ecpds.web import shown
from ecpds.web.api.users import check_new, check_scope, reached_names
from ecpds.web.apiv1.envelope import BASE, required, success
from ecpds.web.call import Call
from ecpds.web.routes import Query, Route
from ecpds.web.shown import Document

READ: Final = "portal:read"
WRITE: Final = "portal:write"
RIGHTS: Final = frozenset({Permission.DIR, Permission.GET, Permission.MTIME, Permission.SIZE})
LETTERS: Final = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
GENERATED: Final = 8  # characters, as the original


async def _known(call: Call, login: str, right: str) -> StoredUser:
    stored = await call.services.accounts.user(login)
    names = await reached_names(call, stored.user)
    check_scope(call, right, names, f"Data user {login} not found")
    return stored


def _login(call: Call) -> str:
    login = required(call, "id")
    if "-" in login:
        raise InputError(f"the id {login[:80]!r} may not contain -", pointer="id")
    return login


def _country(call: Call) -> str:
    iso = call.text("iso").lower()
    if iso and iso not in COUNTRIES:
        raise InputError(f"Country {iso[:20]} not found", pointer="iso")
    return iso


async def _put(call: Call, user: DataUser, password: str, old: StoredUser | None) -> None:
    check_new(call, await reached_names(call, user))
    credentials = Credentials(password=Secret(password) if password else None)
    await call.services.accounts.put_user(
        replace(user, options=masked(call.services.core, user.options)),
        credentials,
        call.caller.actor,
        must_be_new=old is None,
        if_version=old.version if old is not None else None,
    )


async def add(call: Call) -> web.StreamResponse:
    """Create an inactive user that may look and fetch, or change one."""
    login, iso, email, password = (
        _login(call),
        _country(call),
        call.text("email"),
        call.text("pass"),
    )
    old = await call.services.core.store.read(accounts.user, login)
    if old is None:
        new = DataUser(login=login, active=False, comment=email, country=iso, operations=RIGHTS)
    else:
        await _known(call, login, WRITE)
        new = replace(old.user, comment=email or old.user.comment, country=iso or old.user.country)
    await _put(call, new, password, old)
    return success()


async def add2(call: Call) -> web.StreamResponse:
    """Create an active user with a generated password, which is shown once."""
    login, email = _login(call), required(call, "email")
    required(call, "iso")
    iso = _country(call)
    if await call.services.core.store.read(accounts.user, login) is not None:
        raise Conflict(f"Incoming user {login} already exists")
    password = "".join(secrets.choice(LETTERS) for _ in range(GENERATED))
    new = DataUser(login=login, active=True, comment=email, country=iso, operations=RIGHTS)
    await _put(call, new, password, None)
    return success(**{"pass": password})


def _document(user: DataUser) -> Document:
    return {
        "id": user.login,
        "active": user.active,
        "comment": user.comment,
        "email": user.comment,
        "countryIso": user.country or None,
        "lastLogin": shown.moment(user.last_login_at),
        "lastLoginDate": shown.moment(user.last_login_at),
        "lastLoginInfo": user.last_login_from or None,
        "portalService": user.service.value,
        "synchronized": False,
    }


async def index(call: Call) -> web.StreamResponse:
    """List the active users, those of one destination if it is named."""
    wanted = call.text("destination")
    if wanted:
        call.caller.check(READ, wanted)
        call.services.core.snapshot.destination(wanted)
    found = []
    for stored in await call.services.accounts.users():
        names = await reached_names(call, stored.user)
        if not stored.user.active or (wanted and wanted not in names):
            continue
        if call.caller.may_everywhere(READ) or any(call.caller.may_on(READ, n) for n in names):
            found.append(_document(stored.user))
    return success(userList=found, incomingUserList=[one["id"] for one in found])


async def delete(call: Call) -> web.StreamResponse:
    """Remove a user."""
    stored = await _known(call, call.name("id"), WRITE)
    await call.services.accounts.delete_user(stored.user.login, call.caller.actor)
    return success()


async def categories(call: Call) -> web.StreamResponse:
    """Let a user in if one of the categories names ECPDS, else keep it out."""
    login = required(call, "id")
    given = await call.items()
    active = any("ecpds" in str(one).lower() for one in given)
    stored = await _known(call, login, WRITE)
    await _put(call, replace(stored.user, active=active), "", stored)
    return success()


async def _pair(call: Call) -> tuple[StoredUser, str]:
    login, destination = required(call, "id"), required(call, "destination")
    call.caller.check(WRITE, destination)
    call.services.core.snapshot.destination(destination)
    stored = await call.services.accounts.user(login)
    if not stored.user.active:
        raise BadState(f"Incoming user {login} is not active", status="inactive")
    return stored, destination


async def associate(call: Call) -> web.StreamResponse:
    """Give a destination to an active user."""
    stored, destination = await _pair(call)
    names = tuple(dict.fromkeys((*stored.user.destinations, destination)))
    await _put(call, replace(stored.user, destinations=names), "", stored)
    return success()


async def dissociate(call: Call) -> web.StreamResponse:
    """Take a destination from an active user."""
    stored, destination = await _pair(call)
    if destination not in stored.user.destinations:
        raise NotFound(f"Incoming user {stored.user.login} has no destination {destination}")
    left = tuple(name for name in stored.user.destinations if name != destination)
    check_scope(call, WRITE, stored.user.destinations, destination)
    credentials = Credentials()
    await call.services.accounts.put_user(
        replace(
            stored.user, destinations=left, options=masked(call.services.core, stored.user.options)
        ),
        credentials,
        call.caller.actor,
        if_version=stored.version,
    )
    return success()


async def associations(call: Call) -> web.StreamResponse:
    """List the destinations of a user."""
    stored = await _known(call, required(call, "id"), READ)
    return success(associationList=sorted(stored.user.destinations))


_ID: Final = Query(name="id", help="Login of the data user.")
_DESTINATION: Final = Query(name="destination", help="Name of the destination.")
_EMAIL: Final = Query(name="email", help="Mail address, kept as comment.")
_ISO: Final = Query(name="iso", help="ISO code of the country.")
_PASS: Final = Query(name="pass", help="Password.")
USER: Final = BASE + "/incoming/user"
LINK: Final = BASE + "/incoming/association"

ROUTES: Final = (
    Route(method="POST", path=USER + "/add", right=WRITE, services=("incomingUserAdd",),
          kind="v1", handle=add, query=(_ID, _PASS, _EMAIL, _ISO),
          summary="Create an inactive data user, or change one."),
    Route(method="POST", path=USER + "/add2", right=WRITE, services=("incomingUserAdd2",),
          kind="v1", handle=add2, query=(_ID, _EMAIL, _ISO),
          summary="Create an active data user with a generated password."),
    Route(method="GET", path=USER + "/list", right=READ, services=("incomingUserList",),
          kind="v1", handle=index, query=(_DESTINATION,), summary="Active data users."),
    Route(method="DELETE", path=USER + "/del/{id}", right=WRITE, services=("incomingUserDel",),
          kind="v1", handle=delete, summary="Remove a data user."),
    Route(method="POST", path=BASE + "/incoming/category/add", right=WRITE,
          services=("incomingCategoryAdd",), kind="v1", handle=categories, query=(_ID,),
          summary="Let a data user in, or keep it out, by its categories."),
    Route(method="POST", path=LINK + "/add", right=WRITE, services=("incomingAssociationAdd",),
          kind="v1", handle=associate, query=(_ID, _DESTINATION),
          summary="Give a destination to a data user."),
    Route(method="DELETE", path=LINK + "/del", right=WRITE, services=("incomingAssociationDel",),
          kind="v1", handle=dissociate, query=(_ID, _DESTINATION),
          summary="Take a destination from a data user."),
    Route(method="GET", path=LINK + "/list", right=READ, services=("incomingAssociationList",),
          kind="v1", handle=associations, query=(_ID,), summary="Destinations of a data user."),
)  # fmt: skip
