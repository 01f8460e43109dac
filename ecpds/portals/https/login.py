"""Who sends a request: Basic credentials, the session cookie, or the open address of a data user.

The cookie is a random 256-bit text; the server keeps its SHA-256 with the user's name and the
moment of the login, never a password.  Each request logs in at the gate again, so that every check
but the credential is repeated.  Spec: RFC 7617; portal.md 1.4, 1.5; interface.md 8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ecpds.base.clock import Clock
from ecpds.model.account import Protocol, Service
from ecpds.model.errors import Unauthenticated
from ecpds.model.secret import Secret
from ecpds.portals.https.exchange import Ask
from ecpds.vfs.contract import Anonymous, Credential, Gate, Password, Resumed, Session

COOKIE = "portal_session"
CLIENT_COOKIE = "portal_client"
TICKETS = 20_000  # sessions remembered; the one unused longest goes first
LONGEST = 1024  # characters of a user name or a password
_CODE = re.compile(r"\d{6}|\d{8}", re.ASCII)  # a one-time code, of no use a second time


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A remembered login."""

    user: str
    since: datetime
    used_at: datetime
    subscriber: int | None = None  # the person behind a self-service user


class Tickets:
    """The logins behind the cookies; each ends when it was not used for `lifetime`."""

    def __init__(self, clock: Clock, lifetime: timedelta, most: int = TICKETS) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._most = most
        self._known: OrderedDict[bytes, Ticket] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._known)

    def issue(self, user: str, subscriber: int | None = None) -> str:
        """Remember a login of `user` that has just succeeded; return the text of the cookie."""
        now = self._clock.now()
        while self._known:
            oldest = next(iter(self._known.values()))
            if len(self._known) < self._most and now - oldest.used_at < self._lifetime:
                break
            self._known.popitem(last=False)
        text = secrets.token_urlsafe(32)
        self._known[_key(text)] = Ticket(user=user, since=now, used_at=now, subscriber=subscriber)
        return text

    def use(self, text: str) -> Ticket | None:
        """Return the login behind the cookie and prolong it; None if it is unknown or over."""
        key, now = _key(text), self._clock.now()
        found = self._known.get(key)
        if found is None:
            return None
        if now - found.used_at >= self._lifetime:
            del self._known[key]
            return None
        self._known[key] = replace(found, used_at=now)
        self._known.move_to_end(key)
        return found

    def forget(self, text: str) -> None:
        """End the login behind the cookie, if there is one."""
        self._known.pop(_key(text), None)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Claim:
    """Who the client says it is, and how it shows that."""

    user: str
    credential: Credential
    ticket: str = ""  # text of the session cookie, when the claim rests on it


class Logins:
    """Turns a request into a session."""

    def __init__(self, gate: Gate, tickets: Tickets, protocol: Protocol = Protocol.HTTPS) -> None:
        self._gate = gate
        self._tickets = tickets
        self._protocol = protocol

    async def session(self, ask: Ask, home: str | None) -> tuple[Session, str]:
        """Log the client in; return the session and the text of a new cookie, or "".

        `home` is the user in whose open address the request is made.  Raises as `Gate.login`.
        """
        claim = self._claim(ask, home)
        try:
            session = await self._login(claim, ask)
        except Unauthenticated:
            if claim.ticket:
                self._tickets.forget(claim.ticket)
            raise
        return session, self._issue(session) if _wants_cookie(ask, claim) else ""

    async def check_form(self, ask: Ask, user: str, password: str) -> str:
        """Log in with the texts of the login form, log out, and return the text of the cookie.

        Open-access users get none ("" is returned): their address needs no login.
        """
        if not user or max(len(user), len(password)) > LONGEST:
            raise Unauthenticated("Login failed")
        async with await self._login(Claim(user, Password(Secret(password))), ask) as session:
            return self._issue(session)

    def leave(self, ask: Ask) -> None:
        """End the login behind the client's cookie."""
        self._tickets.forget(ask.cookies.get(COOKIE, ""))

    def is_known(self, ask: Ask) -> bool:
        """Tell whether the request brings credentials, right or wrong."""
        return "authorization" in ask.headers or (
            self._tickets.use(ask.cookies.get(COOKIE, "")) is not None
        )

    async def _login(self, claim: Claim, ask: Ask) -> Session:
        return await self._gate.login(
            claim.user, claim.credential, protocol=self._protocol, peer=ask.peer
        )

    def _claim(self, ask: Ask, home: str | None) -> Claim:
        claim = self._given(ask)
        if home is None:
            if claim is None:
                raise Unauthenticated("Login required")
            return claim
        # somebody else's credentials are of no use at an open address, and do no harm there
        return claim if claim is not None and claim.user == home else Claim(home, Anonymous())

    def _given(self, ask: Ask) -> Claim | None:
        field = ask.headers.get("authorization")
        if field is not None:
            user, password = read_basic(field)
            return Claim(user, Password(Secret(password)))
        text = ask.cookies.get(COOKIE, "") if "cookie" in ask.headers else ""
        ticket = self._tickets.use(text) if text else None
        if ticket is None:
            return None
        return Claim(ticket.user, Resumed(ticket.since, ticket.subscriber), text)

    def _issue(self, session: Session) -> str:
        user = session.profile.user
        if user.service is Service.OPEN:
            return ""
        return self._tickets.issue(user.login, session.subscriber)


def _wants_cookie(ask: Ask, claim: Claim) -> bool:
    """Tell whether the next request should come with a cookie.

    It is for browsers, and for one-time codes, which no second request could use.
    """
    if not isinstance(claim.credential, Password):
        return False
    return ask.knows_login_form or _CODE.fullmatch(claim.credential.text.reveal()) is not None


def read_basic(field: str, *, needs_user: bool = True) -> tuple[str, str]:
    """Return user and password of an Authorization field; raise Unauthenticated for any other."""
    scheme, _, token = field.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated("Login required")
    try:
        raw = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated("Login required") from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # what older clients send
    user, mark, password = text.partition(":")
    if not mark or (needs_user and not user) or max(len(user), len(password)) > LONGEST:
        raise Unauthenticated("Login required")
    return user, password


def session_cookie(text: str, *, secure: bool) -> str:
    """Return the Set-Cookie value that gives a browser its session; "" takes it away."""
    ends = "" if text else "; Max-Age=0"
    return f"{COOKIE}={text}; Path=/; HttpOnly; SameSite=Lax{_secure(secure)}{ends}"


def client_cookie(*, secure: bool) -> str:
    """Return the Set-Cookie value by which we know a browser again for one year."""
    year = 365 * 24 * 3600
    return f"{CLIENT_COOKIE}=browser; Path=/; Max-Age={year}; SameSite=Lax{_secure(secure)}"


def _secure(secure: bool) -> str:
    return "; Secure" if secure else ""
