"""The system: roles, tokens, certificate, mail, tasks, configuration."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.base.settings import Settings, effective
from ecpds.engine.incidents import certificate_problem
from ecpds.model.errors import Denied, EcpdsError, InputError, NotFound, Unauthenticated
from ecpds.store.accounts import Token
from ecpds.web.api.tokens import READ as READ_TOKENS
from ecpds.web.api.tokens import WRITE as WRITE_TOKENS
from ecpds.web.api.tokens import check_token, may_see
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, refused, show
from ecpds.web.rights import AREAS, ROLES, SIGNED_IN, VERBS, includes

ADMIN: Final = "system:admin"
READ: Final = "system:read"
TOKENS: Final = "/system/tokens"
CERTIFICATES: Final = "/system/certificates"
LONGEST_DAYS: Final = 36_500
ALIKE: Final = 20  # names that begin alike, above which they are one row of the tasks


async def index(call: Call) -> web.Response:
    """Lead to the first page of the system that the caller may open."""
    is_admin = call.caller.may_everywhere(ADMIN)
    return back(call, "/system/web-users" if is_admin else TOKENS)


async def roles(call: Call) -> web.Response:
    """What each role gives, and who has it."""
    users = await call.services.accounts.web_users() if call.caller.may_everywhere(ADMIN) else []
    made = await call.services.roles.everything()
    known = dict(ROLES) | {one.name: frozenset(one.scopes) for one in made}
    table = {
        role: [(area, [verb for verb in VERBS if includes(scopes, f"{area}:{verb}")])
               for area in AREAS]
        for role, scopes in known.items()
    }  # fmt: skip
    holders = {
        role: [(one.user.name, grant.scope) for one in users for grant in one.user.grants
               if grant.role == role]
        for role in known
    }  # fmt: skip
    return show(call, "pages/roles.html", table=table, areas=AREAS, holders=holders)


# --- tokens --------------------------------------------------------------------------------------


async def tokens(
    call: Call, *, fresh: Mapping[str, str] | None = None, problem: str = "",
    typed: Mapping[str, str] | None = None,
) -> web.Response:  # fmt: skip
    """Tokens that the caller may know of, and a form for one more."""
    rows = [one for one in reversed(await call.services.accounts.tokens()) if may_see(call, one)]
    return show(
        call, "pages/tokens.html", status=422 if problem else 200, rows=rows, fresh=fresh,
        problem=problem, typed=typed or {}, areas=AREAS, verbs=VERBS,
        may_all=call.caller.may_everywhere("tokens:admin"),
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


async def new_token(call: Call) -> web.Response:
    """Make a token; its secret is shown once."""
    form = await call.form()
    try:
        token = Token(
            id=0,
            name=form.get("name", "").strip(),
            owner=form.get("owner", "").strip() or call.caller.name,
            scopes=_words(form.get("scopes", "")) or ("*:read",),
            objects=_words(form.get("objects", "")) or ("*",),
            networks=_words(form.get("networks", "")),
            expires_at=call.services.core.clock.now() + _days(form.get("days", "")),
        )
        check_token(call, token)
        await call.services.accounts.web_user(token.owner)
        secret = await call.services.accounts.new_token(token, call.caller.actor)
    except (Denied, Unauthenticated):
        raise
    except EcpdsError as error:
        return await tokens(call, problem=error.message, typed=form)
    return await tokens(call, fresh={"Token": secret})


def _days(text: str) -> timedelta:
    days = text.strip() or "365"
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:6]) <= LONGEST_DAYS):
        raise InputError(f"days: a number from 1 to {LONGEST_DAYS}", pointer="days")
    return timedelta(days=int(days))


async def drop_token(call: Call) -> web.Response:
    """Delete a token; it is refused from now on."""
    number = call.number("token", "Token")
    found = [one for one in await call.services.accounts.tokens()
             if one.id == number and may_see(call, one)]  # fmt: skip
    if not found:
        raise NotFound(f"Token {number} not found")
    await call.services.accounts.delete_token(number, call.caller.actor)
    return back(call, TOKENS, f"The token {found[0].name} is refused from now on.")


# --- certificate ---------------------------------------------------------------------------------


async def certificates(
    call: Call, *, request: str = "", problem: str = "", typed: Mapping[str, str] | None = None
) -> web.Response:
    """The certificate of the listeners, a request for another, and where one is put in."""
    call.caller.check_everywhere(ADMIN)
    core, facts, broken = call.services.core, None, ""
    try:
        facts = await call.services.node.certificate()
    except EcpdsError as error:
        broken = error.message
    ending = certificate_problem(facts.ends_at, core.clock.now()) if facts else []
    return show(
        call, "pages/certificates.html", status=422 if problem else 200, facts=facts,
        broken=broken, ending=ending, request=request, problem=problem, typed=typed or {},
        is_ours=not core.settings.tls.certificate, host=core.settings.node.public_host,
    )  # fmt: skip


async def act_certificate(call: Call) -> web.Response:
    """csr, import, self_signed, reload."""
    call.caller.check_everywhere(ADMIN)
    verb, form, node = call.name("verb"), await call.form(), call.services.node
    actor = call.caller.actor
    try:
        if verb == "csr":
            text = await node.request(list(_words(form.get("names", ""))), actor)
            return await certificates(call, request=text)
        if verb == "import":
            await node.install(form.get("certificate", ""), form.get("key", ""), actor)
            return back(call, CERTIFICATES, "New connections get the new certificate.")
        if verb == "self_signed":
            await node.self_sign(actor)
            return back(call, CERTIFICATES, "New connections get a new self-signed certificate.")
        if verb == "reload":
            await node.reload_certificate(actor)
            return back(call, CERTIFICATES, "The files were read anew.")
    except EcpdsError as error:
        kept = {key: text for key, text in form.items() if key in {"names", "certificate"}}
        return await certificates(call, problem=error.message, typed=kept)
    raise NotFound(f"there is no action {verb!r}")


# --- mail, tasks, configuration ------------------------------------------------------------------


async def mail(call: Call) -> web.Response:
    """How mails are sent, and one to try."""
    call.caller.check_everywhere(ADMIN)
    core = call.services.core
    return show(
        call, "pages/mail.html", mail=effective(core.settings.mail), waiting=core.mailer.waiting,
        folder=core.settings.data_dir / "mail",
    )  # fmt: skip


async def try_mail(call: Call) -> web.Response:
    """Send a mail to try."""
    call.caller.check_everywhere(ADMIN)
    form = await call.form()
    try:
        text = await call.services.node.try_mail(form.get("to", ""), call.caller.actor)
    except EcpdsError as error:
        return refused(call, "/system/mail", error)
    return back(call, "/system/mail", text)


async def tasks(call: Call) -> web.Response:
    """What runs inside the node."""
    call.caller.check_everywhere(ADMIN)
    core, engine = call.services.core, call.services.engine
    names = kinds_of(task.get_name() for task in asyncio.all_tasks())
    figures = {
        "Transfers running": len(engine.attempts.running),
        "Retrievals running": sum(len(one.meters) for one in engine.retrievals.values()),
        "Acquisition hosts": len(engine.acquisitions),
        "Portal sessions": len(call.services.gate.sessions()),
        "Mails waiting": core.mailer.waiting,
        "Store writes waiting": core.store.waiting,
    }
    return show(
        call, "pages/tasks.html", topics=("counter:*",), names=sorted(names.items()),
        figures=figures, checks=call.services.ready(), endpoints=call.services.endpoints(),
    )  # fmt: skip


def kinds_of(names: Iterable[str]) -> dict[str, int]:
    """Return how many tasks there are of each name; those of many objects are taken together."""
    found: dict[str, list[str]] = {}
    for name in names:
        word = "connections and others" if name.startswith("Task-") else name
        found.setdefault(re.split(r"[ -]", word)[0], []).append(word)
    counted: dict[str, int] = {}
    for kind, words in found.items():
        for word in words:
            shown = f"{kind} (all)" if len(set(words)) > ALIKE else word
            counted[shown] = counted.get(shown, 0) + 1
    return counted


async def config(call: Call) -> web.Response:
    """The effective settings, secrets masked, and where each comes from."""
    call.caller.check_everywhere(ADMIN)
    return show(call, "pages/config.html", tables=origins(call.services.core.settings))


def origins(settings: Settings) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return each table with key, value and origin: default, file or environment."""
    present, defaults = effective(settings), effective(Settings())
    set_by = {name.lower() for name in os.environ if name.startswith("ECPDS_")}
    found: dict[str, list[tuple[str, str, str]]] = {}
    for path, value in _flat(present):
        origin = "file"
        if "ecpds_" + "__".join(path) in set_by:
            origin = "environment"
        elif _at(defaults, path) == value:
            origin = "default"
        found.setdefault(".".join(path[:-1]), []).append((path[-1], _shown(value), origin))
    return sorted(found.items())


def _flat(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value


def _at(table: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = table
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return str(value)


async def reload(call: Call) -> web.Response:
    """Read the settings anew."""
    call.caller.check_everywhere(ADMIN)
    await call.form()
    try:
        await call.services.node.reload(call.caller.actor)
    except EcpdsError as error:
        return refused(call, "/system/config", error)
    return back(call, "/system/config", "Settings and certificate were read anew.")


ROUTES: Final = (
    get("/system", SIGNED_IN, index, "Leads to a page of the system."),
    get("/system/roles", READ, roles, "What roles give."),
    get(TOKENS, READ_TOKENS, tokens, "Tokens."),
    post(TOKENS, WRITE_TOKENS, new_token, "Make a token."),
    post(TOKENS + "/{token}/actions/delete", WRITE_TOKENS, drop_token, "Delete a token."),
    get(CERTIFICATES, ADMIN, certificates, "The certificate of the listeners."),
    post(CERTIFICATES + "/actions/{verb}", ADMIN, act_certificate,
         "csr, import, self_signed, reload."),
    get("/system/mail", ADMIN, mail, "How mails are sent."),
    post("/system/mail/actions/test", ADMIN, try_mail, "Send a mail to try."),
    get("/system/tasks", ADMIN, tasks, "What runs inside the node."),
    get("/system/config", ADMIN, config, "The effective settings."),
    post("/system/config/actions/reload", ADMIN, reload, "Read the settings anew."),
)  # fmt: skip
