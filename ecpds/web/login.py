"""Who asks: a token, a browser session, or nobody known; and the login form.

Every failed credential counts towards a ban of its address.  Spec: rest-api.md B.4.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import quote

from aiohttp import web

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.engine.operations.accounts import AccountOperations
from ecpds.engine.operations.apiusers import ApiUserOperations
from ecpds.model.account import WebUser
from ecpds.model.errors import Unauthenticated
from ecpds.model.secret import Secret
from ecpds.store import accounts
from ecpds.store.db import Connection
from ecpds.vfs.credentials import Recognised
from ecpds.web import rights
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.rates import Rates
from ecpds.web.rights import Caller

log = get_logger(__name__)

COOKIE: Final = "ecpds_session"
PREFIX: Final = "ddt_"  # of every token
LONGEST: Final = 1024  # characters of a credential
USED_EVERY: Final = 60.0  # seconds between two notes that a token is in use
LOGINS_A_MINUTE: Final = 20  # for each address: a check takes 30 ms of a processor
KNOWN: Final = "api user"  # why a login failed: wrong password of a user that is there
NEUTRAL: Final = "name or password is wrong"

Failed = Callable[[str, str, str], Awaitable[None]]  # address, name, why


@dataclass(frozen=True, slots=True)
class Basic:
    """Name and password of an Authorization header."""

    name: str
    password: str


class Logins:
    """Turns credentials into callers."""

    def __init__(
        self,
        core: Core,
        operations: AccountOperations,
        failed: Failed,
        monotonic: Callable[[], float],
    ) -> None:
        self._core = core
        self._accounts = operations
        self._failed = failed
        self._monotonic = monotonic
        self._used: dict[int, float] = {}
        self._attempts = Rates(LOGINS_A_MINUTE, monotonic)
        self._api_users = ApiUserOperations(core)
        self._recognised = Recognised(core.clock)

    async def who(self, request: web.Request, peer: str, *, api: bool) -> Caller | None:
        """Return who asks; None when no credential came or the session is over.

        Raises Unauthenticated for a wrong token or password.  Pages know sessions only.
        """
        header = request.headers.get("Authorization", "")
        if api and header:
            return await self._by_header(header, peer)
        cookie = request.cookies.get(COOKIE, "")
        if not cookie or len(cookie) > LONGEST:
            return None
        user = await self._accounts.by_session(cookie)
        return None if user is None else rights.by_session(user, cookie, peer)

    async def again(self, caller: Caller) -> Caller | None:
        """Return the caller as it is now, None when token or session are over; nothing slides."""
        if caller.token is not None:
            found = await self._core.store.read(read_owner, caller.token.id)
            return None if found is None else rights.by_token(*found, caller.peer)
        user = await self._accounts.peek_session(caller.session)
        return None if user is None else rights.by_session(user, caller.session, caller.peer)

    async def _by_header(self, header: str, peer: str) -> Caller:
        scheme, _, text = header.strip().partition(" ")
        if len(header) > LONGEST:
            raise Unauthenticated("the credential is too long")
        if scheme.lower() == "bearer":
            return await self._by_token(text.strip(), peer)
        if scheme.lower() != "basic":
            raise Unauthenticated("send a bearer token")
        basic = _basic(text.strip())
        if basic.password.startswith(PREFIX):
            return await self._by_token(basic.password, peer)
        if not self._core.settings.api.password_login:
            await self._failed(peer, basic.name, "password on the API")
            raise Unauthenticated("passwords are not accepted here, use a token")
        return await self._by_password(basic, peer)

    async def _by_token(self, secret: str, peer: str) -> Caller:
        try:
            token, owner = await self._accounts.token_holder(secret)
            _check_network(token, peer)
        except Unauthenticated as error:
            await self._failed(peer, "", "token")
            raise Unauthenticated("the token is not valid") from error
        await self._note_use(token, peer)
        return rights.by_token(token, owner, peer)

    async def of_v1(self, request: web.Request, peer: str) -> Caller:
        """Return who asks v1: one of its users, or a token as Basic password or bearer.

        Raises Unauthenticated also when no credential came, Refused (429).
        """
        header = request.headers.get("Authorization", "")
        scheme, _, text = header.strip().partition(" ")
        if len(header) > LONGEST or not header:
            raise Unauthenticated("user and password are needed")
        if scheme.lower() == "bearer":
            return await self._by_token(text.strip(), peer)
        if scheme.lower() != "basic":
            raise Unauthenticated("send a Basic credential")
        basic = _basic(text.strip())
        if basic.password.startswith(PREFIX):
            return await self._by_token(basic.password, peer)
        return await self._by_api_user(basic, peer)

    async def _by_api_user(self, basic: Basic, peer: str) -> Caller:
        password = Secret(basic.password)
        stored = await self._api_users.find(basic.name)
        known = stored.password_hash if stored is not None else ""
        is_live = stored is not None and stored.user.active and bool(known)
        if stored and is_live and self._recognised.knows(basic.name, known, password):
            return rights.by_api_user(stored.user, peer)
        self._slow_down(peer)
        try:
            user = await self._api_users.verify(stored, password)
        except Unauthenticated:
            await self._failed(peer, basic.name, "password" if stored is None else KNOWN)
            raise
        self._recognised.remember(basic.name, known, password)
        return rights.by_api_user(user, peer)

    async def _note_use(self, token: accounts.Token, peer: str) -> None:
        now = self._monotonic()
        if now - self._used.get(token.id, -USED_EVERY) < USED_EVERY:
            return
        self._used[token.id] = now
        await self._core.store.write(
            accounts.token_used, token.id, peer, now=self._core.clock.now()
        )

    async def _by_password(self, basic: Basic, peer: str) -> Caller:
        self._slow_down(peer)
        try:
            user = await self._accounts.check_password(basic.name, Secret(basic.password))
        except Unauthenticated:
            await self._failed(peer, basic.name, "password")
            raise
        return rights.by_session(user, "", peer)

    def _slow_down(self, peer: str) -> None:
        wait = self._attempts.take(peer)
        if wait:
            raise Refused(429, "rate", "too many logins from your address", retry_after=wait)

    async def log_in(self, name: str, password: str, peer: str, code: str = "") -> str:
        """Check the login form; return the secret of a new session.

        `code` is the one-time code of whoever has an authenticator.
        Raises Unauthenticated with one text for every cause, Refused (429).
        """
        self._slow_down(peer)
        if not name or len(name) > LONGEST or len(password) > LONGEST or len(code) > LONGEST:
            raise Unauthenticated(NEUTRAL)
        try:
            session, user = await self._accounts.log_in(name, Secret(password), peer, code)
        except Unauthenticated:
            log.warning("login failed", user=name[:64], peer=peer)
            await self._failed(peer, name, "password")
            raise
        log.info("logged in", user=user.name, peer=peer)
        return session

    async def log_out(self, caller: Caller) -> None:
        """End a session."""
        await self._accounts.log_out(caller.session)


def _basic(text: str) -> Basic:
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Unauthenticated("the Basic credential cannot be read") from None
    name, _, password = decoded.partition(":")
    return Basic(name, password)


def _check_network(token: accounts.Token, peer: str) -> None:
    if token.networks and not any(
        ip_address(peer) in ip_network(network, strict=False) for network in token.networks
    ):
        raise Unauthenticated("the token is not for that address")


def read_owner(db: Connection, number: int) -> tuple[accounts.Token, WebUser] | None:
    """Return a live token and its owner, None when one of them is gone."""
    token = accounts.token_by_id(db, number)
    owner = accounts.web_user(db, token.owner) if token is not None else None
    if token is None or owner is None or not owner.user.active:
        return None
    return token, owner.user


# --- the form -----------------------------------------------------------------------------------


def safe_next(text: str) -> str:
    """Return where a login leads: a path of ours, "/" for anything else."""
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\", "/login", "/logout"))
    return text if is_ours and text.isprintable() and len(text) < 2000 else "/"


def to_login(call_path: str) -> web.Response:
    """Send a browser to the login form, which leads back."""
    target = safe_next(call_path)
    tail = "" if target == "/" else f"?next={quote(target, safe='/')}"
    return web.Response(status=303, headers={"Location": f"/login{tail}"})


def with_session(answer: web.Response, session: str, *, secure: bool) -> web.Response:
    """Give the browser its session, "" takes it away."""
    answer.set_cookie(
        COOKIE,
        session,
        httponly=True,
        secure=secure,
        samesite="Lax",
        path="/",
        max_age=None if session else 0,
    )
    return answer


async def get_login(call: Call) -> web.StreamResponse:
    """Show the login form; somebody who is logged in goes on."""
    target = safe_next(call.text("next", "/"))
    if call.who is not None:
        return web.Response(status=303, headers={"Location": target})
    return call.services.renderer.page(call, "login.html", error="", next=target, name="")


async def post_login(call: Call, logins: Logins) -> web.StreamResponse:
    """Answer the login form: to the page asked for, or the form again with one neutral text."""
    form = await call.form()
    target = safe_next(form.get("next", "/"))
    try:
        session = await logins.log_in(
            form.get("name", ""), form.get("password", ""), call.peer, form.get("otp", "")
        )
    except Unauthenticated:
        return call.services.renderer.page(
            call, "login.html", status=401, error=NEUTRAL, next=target, name=form.get("name", "")
        )
    answer = web.Response(status=303, headers={"Location": target, "Cache-Control": "no-store"})
    return with_session(answer, session, secure=call.secure)


async def post_logout(call: Call, logins: Logins) -> web.StreamResponse:
    """End the session and show the login form."""
    if call.who is not None and call.who.session:
        await logins.log_out(call.who)
    answer = web.Response(status=303, headers={"Location": "/login", "Cache-Control": "no-store"})
    return with_session(answer, "", secure=call.secure)
