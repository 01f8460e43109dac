"""Subscribers of self-service users: registration, approval, reset, and what is mailed of it.

The generated password is never stored in clear, so an activation makes a new one.
Spec: portal.md 1.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlencode

from ecpds.base.mail import addresses_in, checked_address
from ecpds.base.passwords import random_password, random_token, token_hash
from ecpds.base.resources import shared
from ecpds.engine.core import Core
from ecpds.engine.letters import Letters, portal_address
from ecpds.engine.operations.actor import Actor, record
from ecpds.engine.telling import Teller
from ecpds.model.account import Service
from ecpds.model.errors import Conflict, Exists, InputError, NotFound
from ecpds.model.families import PortalOptions
from ecpds.store import accounts, subscribers
from ecpds.store.db import Connection
from ecpds.store.subscribers import Subscriber

VERIFY_FOR: Final = timedelta(hours=24)
RESET_FOR: Final = timedelta(hours=1)
MOST: Final = 10_000
"""Subscribers of one data user."""

Outcome = Literal["activated", "verified", "invalid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who registers."""

    name: str
    email: str
    country: str = ""

    @classmethod
    def checked(cls, name: str, email: str, country: str) -> Person:
        """Return a person fit for the store; raise InputError."""
        shown = " ".join(name.split())
        if not shown or len(shown) > 100 or not shown.isprintable():
            raise InputError("the name is missing or cannot be read", pointer="name")
        if country and re.fullmatch(r"[A-Za-z]{2}", country) is None:
            raise InputError("the country is a code of two letters", pointer="iso")
        return cls(name=shown, email=checked_address(email).lower(), country=country.upper())


class SubscriberOperations:
    """Verbs on subscribers."""

    def __init__(self, core: Core, *, letters: Letters | None = None) -> None:
        self._core = core
        self._letters = letters or Letters(shared("templates"))
        self._teller = Teller(node=core.node)

    # --- for administrators -------------------------------------------------------------------

    async def of(self, login: str) -> list[Subscriber]:
        """Return the subscribers of a data user; NotFound."""
        await self._self_service(login)
        return await self._core.store.read(subscribers.of, login)

    async def get(self, login: str, number: int) -> Subscriber:
        """Return one subscriber of a data user; NotFound."""
        found = await self._core.store.read(subscribers.get, number)
        if found is None or found.login != login:
            raise NotFound(f"Subscriber {number} of {login} not found")
        return found

    async def create(self, login: str, person: Person, actor: Actor) -> tuple[Subscriber, str]:
        """Add an active subscriber; return it and its password, which is mailed too."""
        await self._self_service(login)
        password, now = random_password(), self._core.clock.now()
        made = await self._core.store.write(
            _create, login, person, token_hash(password), actor, self._teller, now=now
        )
        await self._mail_access(made, password)
        return made, password

    async def activate(self, login: str, number: int, actor: Actor) -> Subscriber:
        """Let a subscriber in: a new password is mailed, an older one is void."""
        found = await self.get(login, number)
        await self._give_password(found, actor, "activate")
        return await self.get(login, number)

    async def deactivate(self, login: str, number: int, actor: Actor) -> Subscriber:
        """Keep a subscriber out; its sessions end at their next request."""
        await self.get(login, number)
        now = self._core.clock.now()
        await self._core.store.write(
            _set, number, False, "", actor, "deactivate", self._teller, now=now
        )
        self._core.bus.tell("account", login)
        return await self.get(login, number)

    async def delete(self, login: str, number: int, actor: Actor) -> None:
        """Remove a subscriber; its sessions end."""
        await self.get(login, number)
        now = self._core.clock.now()
        await self._core.store.write(_delete, number, actor, self._teller, now=now)
        self._core.bus.tell("account", login)

    # --- for themselves -----------------------------------------------------------------------

    async def options(self, login: str) -> PortalOptions:
        """Return the options of an active self-service user; InputError for any other."""
        try:
            stored = await self._self_service(login)
        except (NotFound, Conflict):
            raise InputError("there is no such user to register for", pointer="user") from None
        if not stored.user.active:
            raise InputError("there is no such user to register for", pointer="user")
        return await self._options(login)

    async def _options(self, login: str) -> PortalOptions:
        texts = await self._core.store.read(_effective, login)
        return PortalOptions.read(self._core.configuration.opened(texts))

    async def register(self, login: str, person: Person) -> None:
        """Take a registration; the same silence whether the address is known or not."""
        options = await self.options(login)
        token, now = random_token(""), self._core.clock.now()
        found, is_new = await self._core.store.write(
            _register, login, person, token_hash(token), now=now
        )
        if found is None:
            return  # the list is full: an operator sees it in the log of the store
        if not is_new:
            await self._post("known", found, active=found.active)
            return
        link = f"{portal_address(self._core)}/ecpds/verify?{urlencode({'token': token})}"
        extra = options.registration_extra_verify
        await self._post("verify", found, link=link, extra=extra)
        await self._notice(found, "has registered", options, needs_approval=False)

    async def verify(self, token: str) -> Outcome:
        """Follow the link of a verification mail; it works once."""
        now = self._core.clock.now()
        found = await self._core.store.write(_verify, token_hash(token), now=now)
        if found is None:
            return "invalid"
        options = await self._options(found.login)
        if not options.registration_auto_approve:
            await self._notice(found, "has confirmed the address", options, needs_approval=True)
            return "verified"
        actor = Actor(name=found.email, kind="user")
        await self._give_password(found, actor, "verify")
        return "activated"

    async def ask_reset(self, login: str, email: str) -> None:
        """Mail a link for a new password, if such a subscriber is active."""
        await self.options(login)
        token, now = random_token(""), self._core.clock.now()
        found = await self._core.store.write(
            _ask_reset, login, checked_address(email).lower(), token_hash(token), now=now
        )
        if found is not None:
            link = f"{portal_address(self._core)}/ecpds/reset?{urlencode({'token': token})}"
            await self._post("reset", found, link=link)

    async def reset(self, token: str) -> bool:
        """Mail a new password to whom a link belongs; tell whether the link was good."""
        now = self._core.clock.now()
        found = await self._core.store.read(subscribers.by_reset, token_hash(token), now=now)
        if found is None or not found.active:
            return False
        await self._give_password(found, Actor(name=found.email, kind="user"), "reset")
        return True

    # --- within -------------------------------------------------------------------------------

    async def _self_service(self, login: str) -> accounts.StoredUser:
        stored = await self._core.store.read(accounts.user, login)
        if stored is None:
            raise NotFound(f"Data user {login} not found")
        if stored.user.service is not Service.SELF:
            raise Conflict(f"Data user {login} is no self-service user")
        return stored

    async def _give_password(self, found: Subscriber, actor: Actor, action: str) -> None:
        password, now = random_password(), self._core.clock.now()
        await self._core.store.write(
            _set, found.id, True, token_hash(password), actor, action, self._teller, now=now
        )
        self._core.bus.tell("account", found.login)
        await self._mail_access(found, password)

    async def _mail_access(self, found: Subscriber, password: str) -> None:
        options = await self._options(found.login)
        extra = options.registration_extra_access
        await self._post("access", found, password=password, extra=extra)

    async def _notice(
        self, found: Subscriber, what: str, options: PortalOptions, *, needs_approval: bool
    ) -> None:
        given = options.registration_admin_email or self._core.settings.mail.admin
        to = addresses_in(given)
        if to:
            mail = self._letters.mail(
                "notice", to, user=found.login, name=found.name, email=found.email,
                country=found.country, number=found.id, what=what, needs_approval=needs_approval,
            )  # fmt: skip
            await self._core.mailer.post(mail)

    async def _post(self, kind: str, found: Subscriber, **values: object) -> None:
        address = portal_address(self._core)
        mail = self._letters.mail(
            kind, (found.email,), user=found.login, name=found.name, address=address, **values
        )
        await self._core.mailer.post(mail)


# --- in one transaction each ------------------------------------------------------------------


def _effective(db: Connection, login: str) -> Mapping[str, str]:
    """Return the options of a user, those of its active policies below its own."""
    stored = accounts.user(db, login)
    if stored is None:
        return {}
    options: dict[str, str] = {}
    for policy in accounts.policies_of(db, stored.user.policies):
        if policy.active:
            options |= policy.options
    return options | stored.user.options


def _check_room(db: Connection, login: str) -> bool:
    return len(subscribers.of(db, login)) < MOST


def _create(
    db: Connection,
    login: str,
    person: Person,
    hashed: str,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> Subscriber:
    if subscribers.by_email(db, login, person.email) is not None:
        raise Exists(f"{person.email} is registered for {login} already")
    if not _check_room(db, login):
        raise Conflict(f"{login} has {MOST} subscribers")
    made = subscribers.add(
        db, login, email=person.email, name=person.name, country=person.country, now=now
    )
    subscribers.set_state(db, made.id, active=True, password_hash=hashed, now=now)
    record(db, actor, "create", "subscriber", f"{login}/{made.id}", {}, teller, now=now)
    found = subscribers.get(db, made.id)
    assert found is not None  # noqa: S101 - added just now
    return found


def _register(
    db: Connection, login: str, person: Person, hashed: str, *, now: datetime
) -> tuple[Subscriber | None, bool]:
    """Return the subscriber, and whether its address is to be verified."""
    found = subscribers.by_email(db, login, person.email)
    if found is not None and not found.is_waiting:
        return found, False
    if found is None:
        if not _check_room(db, login):
            return None, False
        found = subscribers.add(
            db, login, email=person.email, name=person.name, country=person.country, now=now
        )
    else:
        subscribers.describe(db, found.id, name=person.name, country=person.country)
    subscribers.set_token(db, found.id, hashed, now + VERIFY_FOR)
    return subscribers.get(db, found.id), True


def _verify(db: Connection, hashed: str, *, now: datetime) -> Subscriber | None:
    found = subscribers.by_token(db, hashed, now=now)
    if found is None:
        return None
    stored = accounts.user(db, found.login)
    if stored is None or not stored.user.active or stored.user.service is not Service.SELF:
        return None
    subscribers.set_token(db, found.id, "", None)
    return found


def _ask_reset(
    db: Connection, login: str, email: str, hashed: str, *, now: datetime
) -> Subscriber | None:
    found = subscribers.by_email(db, login, email)
    if found is None or not found.active:
        return None
    subscribers.set_reset(db, found.id, hashed, now + RESET_FOR)
    return found


def _set(
    db: Connection,
    number: int,
    active: bool,
    hashed: str,
    actor: Actor,
    action: str,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    found = subscribers.get(db, number)
    if found is None:
        raise NotFound(f"Subscriber {number} not found")
    subscribers.set_state(db, number, active=active, password_hash=hashed, now=now)
    record(db, actor, action, "subscriber", f"{found.login}/{number}", {}, teller, now=now)


def _delete(db: Connection, number: int, actor: Actor, teller: Teller, *, now: datetime) -> None:
    found = subscribers.get(db, number)
    if found is None:
        raise NotFound(f"Subscriber {number} not found")
    subscribers.delete(db, number)
    record(db, actor, "delete", "subscriber", f"{found.login}/{number}", {}, teller, now=now)
