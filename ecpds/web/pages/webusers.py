"""Web users: who may use the dashboard, in which role, with which second factor; their sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from ecpds.base import totp
from ecpds.base.passwords import random_password
from ecpds.engine.operations.accountrows import Credentials
from ecpds.model.account import Grant, Role, WebUser
from ecpds.model.errors import (
    Denied,
    EcpdsError,
    InputError,
    NotFound,
    PreconditionFailed,
    Unauthenticated,
)
from ecpds.model.secret import Secret
from ecpds.store.accounts import StoredWebUser
from ecpds.web.api.web_users import is_administrator, keep_an_administrator
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, refused, segment, show

RIGHT: Final = "system:admin"
ALL: Final = "/system/web-users"
SPARE: Final = 2  # empty lines for more roles
MOST_GRANTS: Final = 50


@dataclass(slots=True, kw_only=True)
class Sheet:
    """What was typed into the form."""

    name: str = ""
    comment: str = ""
    active: bool = True
    grants: list[tuple[str, str, bool]] = field(default_factory=list)  # role, scope, restricted
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[tuple[str, str, bool]]:
        """Return the roles as they are drawn, with empty lines for more."""
        return [*self.grants, *[("", "", False)] * SPARE]


def _sheet(user: WebUser) -> Sheet:
    grants = [(one.role, one.scope, one.restricted) for one in user.grants]
    return Sheet(name=user.name, comment=user.comment, active=user.active, grants=grants)


async def index(call: Call) -> web.Response:
    """All web users and their open sessions."""
    call.caller.check_everywhere(RIGHT)
    sessions = await call.services.accounts.web_sessions()
    return show(
        call,
        "pages/webusers.html",
        rows=await call.services.accounts.web_users(),
        sessions=sessions,
        counts={name: sum(one.name == name for one in sessions)
                for name in {one.name for one in sessions}},
        least=call.services.core.settings.security.password_length,
    )  # fmt: skip


async def _page(
    call: Call, sheet: Sheet, stored: StoredWebUser | None, *, version: str = "",
    stale: bool = False, fresh: Mapping[str, str] | None = None,
) -> web.Response:  # fmt: skip
    return show(
        call,
        "pages/webuser.html",
        status=412 if stale else 422 if sheet.errors else 200,
        sheet=sheet,
        stored=stored,
        version=version,
        stale=stale,
        fresh=fresh,
        roles=await role_names(call),
        least=call.services.core.settings.security.password_length,
    )


async def new(call: Call) -> web.Response:
    """An empty form."""
    call.caller.check_everywhere(RIGHT)
    return await _page(call, Sheet(grants=[(Role.VIEWER.value, "*", False)]), None)


async def edit(call: Call) -> web.Response:
    """One web user."""
    call.caller.check_everywhere(RIGHT)
    stored = await call.services.accounts.web_user(call.name("name"))
    return await _page(call, _sheet(stored.user), stored, version=str(stored.version))


async def role_names(call: Call) -> list[str]:
    """Return the names of all roles, those that are built in first."""
    made = await call.services.roles.everything()
    return [*(role.value for role in Role), *(one.name for one in made)]


async def _typed(call: Call, name: str = "") -> tuple[Sheet, Secret | None, str]:
    """Return what was typed, the new password and the version that was seen."""
    pairs = await call.form_pairs()
    form = dict(pairs)
    restricted = {text for key, text in pairs if key == "restricted"}
    chosen = [text for key, text in pairs if key == "role"]
    scopes = [text.strip() for key, text in pairs if key == "scope"]
    found = [
        (role, scope or "*", str(place) in restricted)
        for place, (role, scope) in enumerate(zip(chosen, scopes, strict=False))
        if role
    ]
    sheet = Sheet(
        name=name or form.get("name", "").strip(),
        comment=form.get("comment", ""),
        active=form.get("active") == "yes",
        grants=found,
    )
    known = await role_names(call)
    if any(role not in known for role, _, _ in found) or len(found) > MOST_GRANTS:
        sheet.errors["roles"] = f"Each role is one of {', '.join(known)}."
        sheet.grants = [one for one in found if one[0] in known][:MOST_GRANTS]
    password = form.get("password", "")
    return sheet, Secret(password) if password else None, form.get("version", "")


def _user(sheet: Sheet) -> WebUser:
    if not sheet.name:
        raise InputError("a name is needed", pointer="name")
    grants = tuple(
        Grant(role=role, scope=scope, restricted=restricted)
        for role, scope, restricted in sheet.grants
    )
    return WebUser(name=sheet.name, active=sheet.active, comment=sheet.comment, grants=grants)


def _refuse(sheet: Sheet, error: EcpdsError) -> None:
    if isinstance(error, (Denied, Unauthenticated)):
        raise error
    key = error.pointer.strip("/") if isinstance(error, InputError) else ""
    sheet.errors[key] = error.message.removeprefix(f"{key}: ")


async def create(call: Call) -> web.Response:
    """Store a new web user; without a password one is made and shown once."""
    call.caller.check_everywhere(RIGHT)
    sheet, password, _ = await _typed(call)
    made = "" if password is not None else random_password()
    if not sheet.errors:
        try:
            user = _user(sheet)
            credentials = Credentials(password=password or Secret(made))
            accounts = call.services.accounts
            await accounts.put_web_user(user, credentials, call.caller.actor, must_be_new=True)
        except EcpdsError as error:
            _refuse(sheet, error)
        else:
            if not made:
                return back(call, ALL, f"{user.name} was created.")
            stored = await accounts.web_user(user.name)
            fresh = {"Password": made}
            return await _page(call, _sheet(user), stored, version=str(stored.version), fresh=fresh)
    return await _page(call, sheet, None)


async def save(call: Call) -> web.Response:
    """Store a changed web user."""
    call.caller.check_everywhere(RIGHT)
    stored = await call.services.accounts.web_user(call.name("name"))
    sheet, password, version = await _typed(call, stored.user.name)
    is_stale = False
    if not sheet.errors:
        try:
            user = _user(sheet)
            if not is_administrator(user):
                await keep_an_administrator(call, user.name)
            number = int(version) if version.isascii() and version[:18].isdigit() else -1
            await call.services.accounts.put_web_user(
                user, Credentials(password=password), call.caller.actor, if_version=number
            )
        except PreconditionFailed:
            is_stale, version = True, str(stored.version)
        except EcpdsError as error:
            _refuse(sheet, error)
        else:
            return back(call, ALL, f"{user.name} was changed.")
    return await _page(call, sheet, stored, version=version, stale=is_stale)


# --- what is done --------------------------------------------------------------------------------

Deed = Callable[[Call, StoredWebUser, Mapping[str, str]], Awaitable[web.Response]]


async def act(call: Call) -> web.Response:
    """Do what a button of the page says."""
    call.caller.check_everywhere(RIGHT)
    deed = VERBS.get(call.name("verb"))
    if deed is None:
        raise NotFound(f"there is no action {call.name('verb')!r}")
    stored = await call.services.accounts.web_user(call.name("name"))
    form = await call.form()
    try:
        return await deed(call, stored, form)
    except EcpdsError as error:
        return refused(call, f"{ALL}/{segment(stored.user.name)}/edit", error)


async def _put(call: Call, stored: StoredWebUser, credentials: Credentials) -> None:
    await call.services.accounts.put_web_user(
        stored.user, credentials, call.caller.actor, if_version=stored.version
    )


async def _again(
    call: Call, name: str, fresh: Mapping[str, str], problem: str = ""
) -> web.Response:
    stored = await call.services.accounts.web_user(name)
    sheet = _sheet(stored.user)
    if problem:
        sheet.errors["code"] = problem
    return await _page(call, sheet, stored, version=str(stored.version), fresh=fresh)


async def _reset(call: Call, stored: StoredWebUser, form: Mapping[str, str]) -> web.Response:
    password = random_password()
    await _put(call, stored, Credentials(password=Secret(password)))
    return await _again(call, stored.user.name, {"New password": password})


async def _enrol(call: Call, stored: StoredWebUser, form: Mapping[str, str]) -> web.Response:
    return await _again(call, stored.user.name, _secret(call, stored, totp.new_secret()))


def _secret(call: Call, stored: StoredWebUser, secret: str) -> dict[str, str]:
    address = totp.address_of(secret, stored.user.name, call.services.core.node)
    return {"TOTP secret": secret, "For an authenticator": address}


async def _confirm(call: Call, stored: StoredWebUser, form: Mapping[str, str]) -> web.Response:
    secret, now = form.get("secret", ""), call.services.core.clock.now()
    if totp.step_of(Secret(secret), form.get("code", ""), now) is None:
        problem = "That code is not the present one; nothing was changed."
        return await _again(call, stored.user.name, _secret(call, stored, secret), problem)
    await _put(call, stored, Credentials(totp=Secret(secret)))
    return back(call, ALL, f"{stored.user.name} needs a one-time code at each login from now on.")


async def _drop(call: Call, stored: StoredWebUser, form: Mapping[str, str]) -> web.Response:
    await _put(call, stored, Credentials(totp=Secret("")))
    return back(call, ALL, f"{stored.user.name} needs no one-time code any more.")


async def _end(call: Call, stored: StoredWebUser, form: Mapping[str, str]) -> web.Response:
    await call.services.accounts.end_web_sessions(stored.user.name, call.caller.actor)
    return back(call, ALL, f"{stored.user.name} is logged out everywhere.")


VERBS: Final[Mapping[str, Deed]] = {
    "reset_password": _reset,
    "totp": _enrol,
    "totp_confirm": _confirm,
    "totp_remove": _drop,
    "end_sessions": _end,
}


async def end_session(call: Call) -> web.Response:
    """Log one browser out."""
    call.caller.check_everywhere(RIGHT)
    try:
        await call.services.accounts.end_web_session(call.name("session"), call.caller.actor)
    except NotFound as error:
        return back(call, ALL, error.message, tone="info")
    return back(call, ALL, "The session was ended.")


async def confirm(call: Call, problem: str = "") -> web.Response:
    """Ask for the name before a web user is deleted."""
    call.caller.check_everywhere(RIGHT)
    name = (await call.services.accounts.web_user(call.name("name"))).user.name
    return show(
        call, "pages/delete.html", status=422 if problem else 200, what="web user", name=name,
        place="Web users", here=f"{ALL}/{segment(name)}", list=ALL,
        losses=["its sessions and tokens"], problem=problem,
    )  # fmt: skip


async def delete(call: Call) -> web.Response:
    """Delete a web user when its name was typed; the last administrator stays."""
    call.caller.check_everywhere(RIGHT)
    name = (await call.services.accounts.web_user(call.name("name"))).user.name
    form = await call.form()
    if form.get("typed", "").strip() != name:
        return await confirm(call, "Type the name exactly as it is written; nothing was deleted.")
    try:
        await keep_an_administrator(call, name)
        await call.services.accounts.delete_web_user(name, call.caller.actor)
    except EcpdsError as error:
        return refused(call, ALL, error)
    return back(call, ALL, f"{name} was deleted.")


ROUTES: Final = (
    get(ALL, RIGHT, index, "Web users and their sessions."),
    get(ALL + "/new", RIGHT, new, "A form for a new web user."),
    post(ALL + "/new", RIGHT, create, "Create a web user."),
    post(ALL + "/sessions/{session}/actions/end", RIGHT, end_session, "Log one browser out."),
    get(ALL + "/{name}/edit", RIGHT, edit, "The form of a web user."),
    post(ALL + "/{name}/edit", RIGHT, save, "Change a web user."),
    post(ALL + "/{name}/actions/{verb}", RIGHT, act, "Password, one-time code, sessions."),
    get(ALL + "/{name}/delete", RIGHT, confirm, "Ask for its name."),
    post(ALL + "/{name}/delete", RIGHT, delete, "Delete a web user."),
)  # fmt: skip
