"""Portal users: the list; one with keys, people, sessions, traffic; and what is done to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from ecpds.base import totp
from ecpds.base.passwords import random_password
from ecpds.engine.operations.accesskeys import KeyWish
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.subscribers import Person
from ecpds.model.account import Service
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.options import format_properties
from ecpds.model.secret import Secret
from ecpds.store import history
from ecpds.store.accounts import StoredUser
from ecpds.store.history import Incoming
from ecpds.vfs.gate import SessionInfo
from ecpds.web import shown
from ecpds.web.api.users import READ, WRITE, opened_user, reached_names, reached_user, read_users
from ecpds.web.call import Call
from ecpds.web.display import Look
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, refused, segment, show
from ecpds.web.pages.trafficplot import traffic

OPERATE: Final = "portal:operate"
ALL: Final = "/portal/users"
ENABLED: Final = Look("May log in", "check", "good")
DISABLED: Final = Look("Disabled", "off", "off")
NO_WAY: Final = Look("No credential", "break", "warn")
TRAFFIC_DAYS: Final = 30
MOST_TRAFFIC: Final = 5000  # uploads and downloads that a plot is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """One user of the list."""

    stored: StoredUser
    look: Look
    destinations: tuple[str, ...]  # by policies too
    sessions: int
    keys: int


ORDERS: Final[Mapping[str, Callable[[UserRow], Any]]] = {
    "login": lambda row: row.stored.user.login,
    "service": lambda row: row.stored.user.service.value,
    "state": lambda row: row.look.word,
    "sessions": lambda row: row.sessions,
    "last": lambda row: row.stored.user.last_login_at or datetime.min.replace(tzinfo=UTC),
}


def look_of(stored: StoredUser, keys: int) -> Look:
    """Return the state of a user as icon, word and tone."""
    user = stored.user
    if not user.active:
        return DISABLED
    has_way = stored.password_hash or user.ssh_keys or keys or user.service is not Service.STANDARD
    return ENABLED if has_way else NO_WAY


async def rows_of(call: Call) -> list[UserRow]:
    """Return the users of the caller's scope."""
    everywhere = call.caller.may_everywhere(READ)
    opened: dict[str, int] = {}
    for one in call.services.gate.sessions():
        opened[one.user] = opened.get(one.user, 0) + 1
    return [
        UserRow(
            stored=stored,
            look=look_of(stored, len(keys)),
            destinations=tuple(sorted(names)),
            sessions=opened.get(stored.user.login, 0),
            keys=len(keys),
        )
        for stored, names, keys in await call.services.core.store.read(read_users)
        if everywhere or any(call.caller.may_on(READ, name) for name in names)
    ]


def _fits(row: UserRow, wanted: Mapping[str, str]) -> bool:
    user = row.stored.user
    text = wanted["q"].lower()
    return (
        (not text or any(text in part.lower() for part in (user.login, user.comment, user.country)))
        and wanted["destination"] in ("", *row.destinations)
        and wanted["policy"] in ("", *user.policies)
        and wanted["service"] in ("", user.service.value)
        and wanted["state"] in ("", row.look.word)
    )


async def index(call: Call) -> web.Response:
    """All portal users."""
    form = lists.wanted(call)
    rows = await rows_of(call)
    wanted = {key: call.text(key).strip() for key in
              ("q", "destination", "policy", "service", "state")}  # fmt: skip
    order = lists.sort_of(call, ORDERS, "login")
    found = lists.ordered([row for row in rows if _fits(row, wanted)], order, ORDERS)
    if form == "json":
        core = call.services.core
        items = [shown.data_user(row.stored, masked(core, row.stored.user.options), [])
                 for row in found]  # fmt: skip
        return lists.as_json(items, None)
    if form == "csv":
        heads = ("login", "service", "state", "comment", "country", "destinations", "policies",
                 "totp", "last_login", "from")  # fmt: skip
        return lists.as_csv("users", heads, (_cells(row) for row in found))
    return show(
        call,
        "pages/users.html",
        topics=("account:*",),
        rows=found[: lists.MOST],
        total=len(rows),
        found=len(found),
        order=order,
        services=list(Service),
        states=[one.word for one in (ENABLED, DISABLED, NO_WAY)],
        names=sorted({name for row in rows for name in row.destinations}),
        may_write=call.caller.may(WRITE),
        address=lambda **changes: lists.address(call, **changes),
    )


def _cells(row: UserRow) -> tuple[object, ...]:
    user = row.stored.user
    return (
        user.login, user.service.value, row.look.word, user.comment, user.country,
        " ".join(row.destinations), " ".join(user.policies), bool(row.stored.totp_secret),
        user.last_login_at, user.last_login_from,
    )  # fmt: skip


# --- one user ------------------------------------------------------------------------------------


def may_all(call: Call, right: str, names: Sequence[str]) -> bool:
    """Tell whether the caller has the right on all these destinations; none: everywhere."""
    if call.caller.may_everywhere(right):
        return True
    return bool(names) and all(call.caller.may_on(right, name) for name in names)


async def detail(call: Call) -> web.Response:
    """One portal user."""
    return await page_of(call, await reached_user(call))


async def page_of(
    call: Call, stored: StoredUser, *, fresh: Mapping[str, str] | None = None, problem: str = ""
) -> web.Response:
    """Answer with the page of a user; `fresh` is what is shown this once."""
    services, user = call.services, stored.user
    names = sorted(await reached_names(call, user))
    keys = await services.access_keys.of(user.login)
    people = await services.subscribers.of(user.login) if user.service is Service.SELF else []
    moved = await services.core.store.read(history.incoming, limit=MOST_TRAFFIC, user=user.login)
    sessions = [one for one in services.gate.sessions() if one.user == user.login]
    options = format_properties(masked(services.core, user.options), "")
    return show(
        call,
        "pages/user.html",
        topics=("account:*",),
        status=422 if problem else 200,
        stored=stored,
        user=user,
        look=look_of(stored, len(keys)),
        names=names,
        keys=keys,
        people=people,
        sessions=sessions if call.caller.may_everywhere(READ) else _own(call, sessions, names),
        history=[one for _, one in moved[:10]],
        plot=plot_of([one for _, one in moved], call.services.core.clock.now()),
        options=options,
        may_write=may_all(call, WRITE, names),
        may_end=call.caller.may_everywhere(OPERATE),
        fresh=fresh,
        problem=problem,
    )


def _own(call: Call, sessions: list[SessionInfo], names: Sequence[str]) -> list[SessionInfo]:
    return sessions if any(call.caller.may_on(READ, name) for name in names) else []


def plot_of(rows: Sequence[Incoming], now: datetime) -> tuple[Markup, str]:
    """Return the bytes of each day as a plot, and the same as a sentence."""
    days: dict[date, list[int]] = {}
    nothing = [0, 0]
    for one in rows:
        place = days.setdefault(one.time.date(), [0, 0])
        place[0 if one.action == "upload" else 1] += one.bytes
    wanted = [now.date() - timedelta(days=back) for back in range(TRAFFIC_DAYS - 1, -1, -1)]
    found = [(day, days.get(day, nothing)) for day in wanted]
    return traffic([(day, moved[0], moved[1]) for day, moved in found])


# --- what is done --------------------------------------------------------------------------------

Deed = Callable[[Call, StoredUser, Mapping[str, str]], Awaitable[web.Response]]


async def act(call: Call) -> web.Response:
    """Do what a button of the page says."""
    verb = call.name("verb")
    deed = VERBS.get(verb)
    if deed is None:
        raise NotFound(f"there is no action {verb!r}")
    stored = await reached_user(call, WRITE)
    form = await call.form()
    try:
        return await deed(call, stored, form)
    except InputError as error:
        return await page_of(call, stored, problem=error.message)
    except EcpdsError as error:
        return refused(call, _address(stored), error)


def _address(stored: StoredUser) -> str:
    return f"{ALL}/{segment(stored.user.login)}"


def _done(call: Call, stored: StoredUser, text: str) -> web.Response:
    return back(call, _address(stored), text)


async def _put(call: Call, stored: StoredUser, credentials: Credentials, **changes: Any) -> None:
    user = replace(opened_user(call, stored), **changes)
    await call.services.accounts.put_user(
        user, credentials, call.caller.actor, if_version=stored.version
    )


async def _reset(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    password = random_password()
    await _put(call, stored, Credentials(password=Secret(password)))
    again = await call.services.accounts.user(stored.user.login)
    return await page_of(call, again, fresh={"New password": password})


async def _enable(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _put(call, stored, Credentials(), active=True)
    return _done(call, stored, f"{stored.user.login} may log in.")


async def _disable(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _put(call, stored, Credentials(), active=False)
    return _done(call, stored, f"{stored.user.login} may not log in any more; sessions end.")


async def _end_sessions(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    found = [one for one in call.services.gate.sessions() if one.user == stored.user.login]
    ended = sum(call.services.gate.end_session(one.number) for one in found)
    return _done(call, stored, f"{ended} sessions were ended.")


async def _enrol(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    secret = totp.new_secret()
    address = totp.address_of(secret, stored.user.login, call.services.core.node)
    fresh = {"TOTP secret": secret, "For an authenticator": address}
    return await page_of(call, stored, fresh=fresh)


async def _confirm_totp(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    secret, now = form.get("secret", ""), call.services.core.clock.now()
    if totp.step_of(Secret(secret), form.get("code", ""), now) is None:
        address = totp.address_of(secret, stored.user.login, call.services.core.node)
        fresh = {"TOTP secret": secret, "For an authenticator": address}
        problem = "That code is not the present one; nothing was changed."
        return await page_of(call, stored, fresh=fresh, problem=problem)
    await _put(call, stored, Credentials(totp=Secret(secret)))
    return _done(call, stored, "A one-time code is needed at each login from now on.")


async def _drop_totp(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _put(call, stored, Credentials(totp=Secret("")))
    return _done(call, stored, "No one-time code is needed any more.")


async def _new_key(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    wish = KeyWish(
        prefix=form.get("prefix", "").strip(),
        read_only=form.get("read_only") == "yes",
        expires_at=_end_of(form.get("days", "").strip(), call.services.core.clock.now()),
        comment=form.get("comment", "").strip()[:200],
    )
    login, actor = stored.user.login, call.caller.actor
    key, secret = await call.services.access_keys.create(login, wish, actor)
    fresh = {"Access key": key.access_key, "Secret key": secret}
    return await page_of(call, stored, fresh=fresh)


def _end_of(days: str, now: datetime) -> datetime | None:
    if not days:
        return None
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:6]) <= 36500):
        raise InputError("days: a number from 1 to 36500", pointer="days")
    return now + timedelta(days=int(days))


async def _drop_key(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    key = form.get("key", "")
    await call.services.access_keys.delete(stored.user.login, key, call.caller.actor)
    return _done(call, stored, f"{key} is refused from now on.")


async def _new_person(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    person = Person.checked(form.get("name", ""), form.get("email", ""), form.get("country", ""))
    login, actor = stored.user.login, call.caller.actor
    made, password = await call.services.subscribers.create(login, person, actor)
    fresh = {"Subscriber": made.email, "Password": password}
    return await page_of(call, stored, fresh=fresh)


async def _person(call: Call, stored: StoredUser, form: Mapping[str, str], verb: str) -> None:
    text = form.get("subscriber", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
    people = call.services.subscribers
    deed = {"activate": people.activate, "deactivate": people.deactivate, "delete": people.delete}
    await deed[verb](stored.user.login, number, call.caller.actor)


async def _activate(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _person(call, stored, form, "activate")
    return _done(call, stored, "Active; a new password was mailed.")


async def _deactivate(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _person(call, stored, form, "deactivate")
    return _done(call, stored, "Kept out from now on; its sessions end.")


async def _drop_person(call: Call, stored: StoredUser, form: Mapping[str, str]) -> web.Response:
    await _person(call, stored, form, "delete")
    return _done(call, stored, "The subscriber was deleted.")


VERBS: Final[Mapping[str, Deed]] = {
    "reset_password": _reset,
    "enable": _enable,
    "disable": _disable,
    "end_sessions": _end_sessions,
    "totp": _enrol,
    "totp_confirm": _confirm_totp,
    "totp_remove": _drop_totp,
    "s3_key": _new_key,
    "s3_key_delete": _drop_key,
    "subscriber": _new_person,
    "subscriber_activate": _activate,
    "subscriber_deactivate": _deactivate,
    "subscriber_delete": _drop_person,
}


async def confirm(call: Call, problem: str = "") -> web.Response:
    """Ask for the login before a user is deleted."""
    stored = await reached_user(call, WRITE)
    login = stored.user.login
    return show(
        call, "pages/delete.html", status=422 if problem else 200, what="portal user", name=login,
        place="Portal users", here=_address(stored), list=ALL,
        losses=["its keys, links and subscribers", "its open sessions"], problem=problem,
    )  # fmt: skip


async def delete(call: Call) -> web.Response:
    """Delete a user when its login was typed."""
    stored = await reached_user(call, WRITE)
    form = await call.form()
    if form.get("typed", "").strip() != stored.user.login:
        return await confirm(call, "Type the login exactly as it is written; nothing was deleted.")
    await call.services.accounts.delete_user(stored.user.login, call.caller.actor)
    return back(call, ALL, f"{stored.user.login} was deleted.")


ROUTES: Final = (
    get(ALL, READ, index, "All portal users."),
    get(ALL + "/{user}", READ, detail, "One portal user."),
    post(ALL + "/{user}/actions/{verb}", WRITE, act, "Passwords, keys, codes, people, sessions."),
    get(ALL + "/{user}/delete", WRITE, confirm, "Ask for its login."),
    post(ALL + "/{user}/delete", WRITE, delete, "Delete a portal user."),
)  # fmt: skip
