"""Forms of portal users and policies; what somebody else changed meanwhile is not lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.destinations import masked
from ecpds.engine.operations.sitefile import DataUserSpec, PolicySpec
from ecpds.model.account import DataUser, Permission, Policy
from ecpds.model.decode import Where
from ecpds.model.errors import Denied, EcpdsError, InputError, PreconditionFailed, Unauthenticated
from ecpds.web.api.policies import policy_tag, reached_policy, read_policy
from ecpds.web.api.users import READ, WRITE, check_new, reached_names, reached_user, read_user
from ecpds.web.call import Call
from ecpds.web.pages import forms
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.forms import Layout, Look, Pairs, Typed
from ecpds.web.pages.frame import back, segment, show

USERS: Final = "/portal/users"
POLICIES: Final = "/portal/policies"
MOST_KEYS: Final = 100
LONGEST_KEY: Final = 16_384  # characters of one SSH key line
OF_USER: Final = (
    Layout(title="Account", keys=("login", "service", "active", "password", "comment", "country")),
    Layout(title="Destinations", keys=("destinations", "policies"),
           note="A policy gives its destinations and operations to all users linked to it."),
    Layout(title="Options", keys=("options",)),
)  # fmt: skip
OF_POLICY: Final = (
    Layout(title="Policy", keys=("name", "active", "comment")),
    Layout(title="Destinations", keys=("destinations",)),
    Layout(title="Options", keys=("options",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a form is about, and how it is shown."""

    noun: str
    place: str
    all: str
    cls: type
    layout: tuple[Layout, ...]
    scope: str
    has_keys: bool = False


USER: Final = Sheet(
    noun="portal user", place="Portal users", all=USERS, cls=DataUserSpec, layout=OF_USER,
    scope="user", has_keys=True,
)  # fmt: skip
POLICY: Final = Sheet(
    noun="policy", place="Policies", all=POLICIES, cls=PolicySpec, layout=OF_POLICY, scope="policy"
)


async def _looks(call: Call, *, is_new: bool) -> dict[str, Look]:
    names = tuple(
        name for name in sorted(call.services.core.snapshot.destinations)
        if call.caller.may_on(READ, name)
    )  # fmt: skip
    policies = tuple(one.name for one in await call.services.accounts.policies())
    return {
        "login": Look(fixed=not is_new),
        "name": Look(fixed=not is_new),
        "active": Look(label="May log in"),
        "password": Look(kind="secret"),
        "country": Look(unit="ISO code"),
        "destinations": Look(known=names),
        "policies": Look(known=policies),
    }


async def _page(
    call: Call,
    sheet: Sheet,
    typed: Typed,
    *,
    name: str = "",
    version: str = "",
    stale: bool = False,
) -> web.Response:
    looks = await _looks(call, is_new=not name)
    texts = typed.texts
    parts = forms.drawn(sheet.cls, sheet.layout, texts, typed.errors, looks, sheet.scope)
    return show(
        call,
        "pages/account_form.html",
        status=412 if stale else 422 if typed.errors else 200,
        sheet=sheet,
        parts=parts,
        errors=typed.errors,
        name=name,
        version=version,
        stale=stale,
        permissions=list(Permission),
        operations=texts.get("operations", ()),
        ssh_keys=texts.get("ssh_keys", ""),
        here=f"{sheet.all}/{segment(name)}" if name else sheet.all,
    )


def _read(sheet: Sheet, pairs: Pairs) -> Typed:
    """Return what was typed: the declared fields, the ticked operations and the key lines."""
    typed = forms.read(sheet.cls, sheet.layout, pairs)
    if typed.document.pop("script", "").strip():
        typed.errors["options"] = "A script has no place here."
    ticked = [text for key, text in pairs if key == "operations"]
    typed.texts["operations"] = tuple(ticked)
    typed.document["operations"] = ticked
    if not sheet.has_keys:
        return typed
    if not typed.document.get("password"):
        typed.document.pop("password", None)
    text = "\n".join(text for key, text in pairs if key == "ssh_keys")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    typed.texts["ssh_keys"] = text
    typed.document["ssh_keys"] = lines
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_KEY or len(line.split()) < 2 or number > MOST_KEYS:
            typed.errors["ssh_keys"] = f"Line {number} is no OpenSSH key line: type, key, comment."
    return typed


def _typed_of(sheet: Sheet, one: Any) -> Typed:
    texts = forms.texts_of(one, sheet.layout)
    texts["operations"] = tuple(sorted(item.value for item in one.operations))
    if sheet.has_keys:
        texts["ssh_keys"] = "\n".join(one.ssh_keys)
    return Typed(texts=texts)


def _refuse(typed: Typed, error: EcpdsError) -> None:
    if isinstance(error, (Denied, Unauthenticated)):
        raise error
    typed.refuse(error)


# --- users ---------------------------------------------------------------------------------------


def _user_spec(call: Call, user: DataUser) -> DataUserSpec:
    return DataUserSpec(
        login=user.login,
        service=user.service,
        active=user.active,
        comment=user.comment,
        country=user.country,
        operations=tuple(user.operations),
        destinations=user.destinations,
        policies=user.policies,
        ssh_keys=user.ssh_keys,
        options=masked(call.services.core, user.options),
    )


async def new_user(call: Call) -> web.Response:
    """An empty form of a portal user."""
    ready = DataUserSpec(operations=(Permission.DIR, Permission.GET, Permission.MTIME,
                                     Permission.SIZE))  # fmt: skip
    return await _page(call, USER, _typed_of(USER, ready))


async def create_user(call: Call) -> web.Response:
    """Store a new portal user."""
    typed = _read(USER, await call.form_pairs())
    if not typed.errors:
        try:
            user, credentials = read_user(typed.document)
            await _put_user(call, user, credentials, None)
        except EcpdsError as error:
            _refuse(typed, error)
        else:
            return back(call, f"{USERS}/{segment(user.login)}", f"{user.login} was created.")
    return await _page(call, USER, typed)


async def _put_user(
    call: Call, user: DataUser, credentials: Credentials, version: int | None
) -> None:
    if not user.login:
        raise InputError("a login is needed", pointer="login")
    check_new(call, await reached_names(call, user))
    call.services.accounts.check_length(credentials.password, Where())
    await call.services.accounts.put_user(
        user, credentials, call.caller.actor, must_be_new=version is None, if_version=version
    )


async def edit_user(call: Call) -> web.Response:
    """The form of a portal user as it is now."""
    stored = await reached_user(call, WRITE)
    typed = _typed_of(USER, _user_spec(call, stored.user))
    typed.texts["password"] = forms.KEEP if stored.password_hash else ""
    return await _page(call, USER, typed, name=stored.user.login, version=str(stored.version))


async def save_user(call: Call) -> web.Response:
    """Store a changed portal user."""
    stored = await reached_user(call, WRITE)
    login = stored.user.login
    pairs = [*await call.form_pairs(), ("login", login)]
    typed, version, is_stale = _read(USER, pairs), dict(pairs).get("version", ""), False
    if not typed.errors:
        try:
            user, credentials = read_user(typed.document)
            number = int(version) if version.isascii() and version[:18].isdigit() else -1
            await _put_user(call, user, credentials, number)
        except PreconditionFailed:
            is_stale, version = True, str(stored.version)
        except EcpdsError as error:
            _refuse(typed, error)
        else:
            return back(call, f"{USERS}/{segment(login)}", f"{login} was changed.")
    return await _page(call, USER, typed, name=login, version=version, stale=is_stale)


# --- policies ------------------------------------------------------------------------------------


def _policy_spec(call: Call, one: Policy) -> PolicySpec:
    return PolicySpec(
        name=one.name,
        active=one.active,
        comment=one.comment,
        destinations=one.destinations,
        operations=tuple(one.operations),
        options=masked(call.services.core, one.options),
    )


async def new_policy(call: Call) -> web.Response:
    """An empty form of a policy."""
    return await _page(call, POLICY, _typed_of(POLICY, PolicySpec()))


async def create_policy(call: Call) -> web.Response:
    """Store a new policy."""
    typed = _read(POLICY, await call.form_pairs())
    if not typed.errors:
        try:
            policy = read_policy(typed.document)
            await _put_policy(call, policy, None)
        except EcpdsError as error:
            _refuse(typed, error)
        else:
            return back(call, POLICIES, f"{policy.name} was created.")
    return await _page(call, POLICY, typed)


async def _put_policy(call: Call, policy: Policy, old: Policy | None) -> None:
    if not policy.name:
        raise InputError("a name is needed", pointer="name")
    check_new(call, policy.destinations)
    await call.services.accounts.put_policy(
        policy, call.caller.actor, must_be_new=old is None, instead_of=old
    )


async def edit_policy(call: Call) -> web.Response:
    """The form of a policy as it is now."""
    one = await reached_policy(call, WRITE)
    typed = _typed_of(POLICY, _policy_spec(call, one))
    return await _page(call, POLICY, typed, name=one.name, version=policy_tag(one))


async def save_policy(call: Call) -> web.Response:
    """Store a changed policy."""
    old = await reached_policy(call, WRITE)
    pairs = [*await call.form_pairs(), ("name", old.name)]
    typed, version = _read(POLICY, pairs), dict(pairs).get("version", "")
    is_stale = not typed.errors and version != policy_tag(old)
    if not typed.errors and not is_stale:
        try:
            await _put_policy(call, read_policy(typed.document), old)
            return back(call, f"{POLICIES}/{segment(old.name)}", f"{old.name} was changed.")
        except PreconditionFailed:
            is_stale = True
        except EcpdsError as error:
            _refuse(typed, error)
    shown_version = policy_tag(old) if is_stale else version
    return await _page(call, POLICY, typed, name=old.name, version=shown_version, stale=is_stale)


async def policies(call: Call) -> web.Response:
    """All policies of the caller's scope."""
    everywhere = call.caller.may_everywhere(READ)
    users = await call.services.accounts.users()
    rows = [
        (one, [stored.user.login for stored in users if one.name in stored.user.policies])
        for one in await call.services.accounts.policies()
        if everywhere or any(call.caller.may_on(READ, name) for name in one.destinations)
    ]
    return show(
        call, "pages/policies.html", topics=("account:*",), rows=rows,
        may_write=call.caller.may(WRITE),
    )  # fmt: skip


async def policy(call: Call) -> web.Response:
    """One policy."""
    one = await reached_policy(call)
    users = await call.services.accounts.users()
    names: Mapping[str, bool] = {name: call.caller.may_on(WRITE, name) for name in one.destinations}
    may_write = call.caller.may_everywhere(WRITE) or (bool(names) and all(names.values()))
    return show(
        call, "pages/policy.html", topics=("account:*",), one=one, may_write=may_write,
        users=[stored.user.login for stored in users if one.name in stored.user.policies],
        options=forms.texts_of(_policy_spec(call, one), OF_POLICY)["options"],
    )  # fmt: skip


async def confirm_policy(call: Call, problem: str = "") -> web.Response:
    """Ask for the name before a policy is deleted."""
    one = await reached_policy(call, WRITE)
    return show(
        call, "pages/delete.html", status=422 if problem else 200, what="policy", name=one.name,
        place="Policies", here=f"{POLICIES}/{segment(one.name)}", list=POLICIES,
        losses=["what it gives to the users linked to it"], problem=problem,
    )  # fmt: skip


async def delete_policy(call: Call) -> web.Response:
    """Delete a policy when its name was typed."""
    one = await reached_policy(call, WRITE)
    form = await call.form()
    if form.get("typed", "").strip() != one.name:
        text = "Type the name exactly as it is written; nothing was deleted."
        return await confirm_policy(call, text)
    await call.services.accounts.delete_policy(one.name, call.caller.actor)
    return back(call, POLICIES, f"{one.name} was deleted.")


ROUTES: Final = (
    get(USERS + "/new", WRITE, new_user, "A form for a new portal user."),
    post(USERS + "/new", WRITE, create_user, "Create a portal user."),
    get(USERS + "/{user}/edit", WRITE, edit_user, "The form of a portal user."),
    post(USERS + "/{user}/edit", WRITE, save_user, "Change a portal user."),
    get(POLICIES, READ, policies, "All policies."),
    get(POLICIES + "/new", WRITE, new_policy, "A form for a new policy."),
    post(POLICIES + "/new", WRITE, create_policy, "Create a policy."),
    get(POLICIES + "/{policy}", READ, policy, "One policy."),
    get(POLICIES + "/{policy}/edit", WRITE, edit_policy, "The form of a policy."),
    post(POLICIES + "/{policy}/edit", WRITE, save_policy, "Change a policy."),
    get(POLICIES + "/{policy}/delete", WRITE, confirm_policy, "Ask for its name."),
    post(POLICIES + "/{policy}/delete", WRITE, delete_policy, "Delete a policy."),
)  # fmt: skip
