"""Data users, policies, web users and tokens: create, change, delete, log in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ecpds.base import passwords
from ecpds.base.totp import step_of
from ecpds.engine.operations.accountrows import (
    Credentials,
    read_holder,
    read_session,
    remove,
    remove_session,
    remove_sessions,
    remove_token,
    rotate_token,
    seal_credentials,
    store_login,
    store_policy,
    store_token,
    store_user,
    store_web_user,
)
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.destinations import check_new_name, kept_options, sealed_options
from ecpds.engine.operations.roles import check_grants
from ecpds.engine.portaltexts import check_portal_texts
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.account import DataUser, Policy, WebUser
from ecpds.model.decode import Where
from ecpds.model.errors import (
    Conflict,
    InvalidName,
    NotFound,
    Unauthenticated,
)
from ecpds.model.names import checked, nearest
from ecpds.model.secret import Secret
from ecpds.store import accounts


class AccountOperations:
    """Verbs on accounts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    # --- data users ---------------------------------------------------------------------------

    async def user(self, login: str) -> accounts.StoredUser:
        """Return one data user; NotFound."""
        found = await self._core.store.read(accounts.user, login)
        if found is None:
            raise NotFound(f"Data user {login} not found")
        return found

    async def users(self) -> list[accounts.StoredUser]:
        """Return all data users."""
        return await self._core.store.read(accounts.users)

    async def put_user(
        self,
        user: DataUser,
        credentials: Credentials,
        actor: Actor,
        *,
        where: Where | None = None,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a data user; `dry_run` only checks.

        Secret options of three stars keep what is stored.
        """
        where = where or Where()
        present = await self._core.store.read(accounts.user, user.login)
        kept = self._kept(user.options, present.user.options if present else {})
        ready = await self.check_user(replace(user, options=kept), where)
        if present is None:
            check_new_name("data user", user.login, where.at("login"))
        if dry_run:
            if present is not None and must_be_new:
                raise Conflict(f"Data user {user.login} exists")
            return
        hashed = await self._hashed(credentials.password)
        now = self._core.clock.now()
        sealed = seal_credentials(self._core, credentials)
        await self._core.store.write(
            store_user, ready, hashed, sealed, actor, self._teller, now=now,
            must_be_new=must_be_new, if_version=if_version,
        )  # fmt: skip
        if self._core.broker_logins is not None and hashed and credentials.password:
            await self._core.broker_logins.keep(hashed, credentials.password)
        self._core.bus.tell("account", user.login)

    def _kept(self, options: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
        return kept_options(options, self._core.configuration.opened(present))

    async def check_user(self, user: DataUser, where: Where) -> DataUser:
        """Check name, destinations, policies and options; return what is to be stored."""
        try:
            checked("data user", user.login)
        except InvalidName as error:
            raise where.at("login").error(error.message) from None
        policies = [one.name for one in await self._core.store.read(accounts.policies)]
        check_names(user.destinations, self._core.snapshot.destinations, where, "destinations")
        check_names(user.policies, policies, where, "policies")
        options = self._core.catalogue.check(user.options, "user", where.at("options"))
        check_portal_texts(options, where.at("options"))
        return replace(user, options=sealed_options(self._core, options))

    async def delete_user(self, login: str, actor: Actor) -> None:
        """Delete a data user; its sessions end."""
        await self.user(login)
        now = self._core.clock.now()
        await self._core.store.write(remove, "user", login, actor, self._teller, now=now)
        self._core.bus.tell("account", login)

    def check_length(self, password: Secret | None, where: Where) -> None:
        """Raise ConfigError for a new password that is too short; an empty one takes it away."""
        least = self._core.settings.security.password_length
        if password and len(password.reveal()) < least:
            raise where.at("password").error(f"a password has at least {least} characters")

    async def _hashed(self, password: Secret | None) -> str | None:
        if password is None:
            return None
        return await self._core.passwords.hash(password) if password else ""

    # --- policies -----------------------------------------------------------------------------

    async def policies(self) -> list[Policy]:
        """Return all policies."""
        return await self._core.store.read(accounts.policies)

    async def policy(self, name: str) -> Policy:
        """Return one policy; NotFound."""
        found = await self._core.store.read(accounts.policy, name)
        if found is None:
            raise NotFound(f"Policy {name} not found")
        return found

    async def put_policy(
        self,
        policy: Policy,
        actor: Actor,
        *,
        where: Where | None = None,
        must_be_new: bool = False,
        instead_of: Policy | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a policy, only if it is still `instead_of` when that is given."""
        present = await self._core.store.read(accounts.policy, policy.name)
        kept = self._kept(policy.options, present.options if present else {})
        ready = self.check_policy(replace(policy, options=kept), where or Where())
        if present is None:
            check_new_name("policy", policy.name, (where or Where()).at("name"))
        if dry_run:
            if present is not None and must_be_new:
                raise Conflict(f"Policy {policy.name} exists")
            return
        now = self._core.clock.now()
        await self._core.store.write(
            store_policy, ready, actor, self._teller, now=now, must_be_new=must_be_new,
            instead_of=instead_of,
        )  # fmt: skip
        self._core.bus.tell("account", "")

    def check_policy(self, policy: Policy, where: Where) -> Policy:
        """Check name, destinations and options; return what is to be stored."""
        try:
            checked("policy", policy.name)
        except InvalidName as error:
            raise where.at("name").error(error.message) from None
        check_names(policy.destinations, self._core.snapshot.destinations, where, "destinations")
        options = self._core.catalogue.check(policy.options, "policy", where.at("options"))
        check_portal_texts(options, where.at("options"))
        return replace(policy, options=sealed_options(self._core, options))

    async def delete_policy(self, name: str, actor: Actor) -> None:
        """Delete a policy; its users lose what it gave."""
        if await self._core.store.read(accounts.policy, name) is None:
            raise NotFound(f"Policy {name} not found")
        now = self._core.clock.now()
        await self._core.store.write(remove, "policy", name, actor, self._teller, now=now)
        self._core.bus.tell("account", "")

    # --- web users ----------------------------------------------------------------------------

    async def web_user(self, name: str) -> accounts.StoredWebUser:
        """Return one web user; NotFound."""
        found = await self._core.store.read(accounts.web_user, name)
        if found is None:
            raise NotFound(f"Web user {name} not found")
        return found

    async def web_users(self) -> list[accounts.StoredWebUser]:
        """Return all web users."""
        return await self._core.store.read(accounts.web_users)

    async def put_web_user(
        self,
        user: WebUser,
        credentials: Credentials,
        actor: Actor,
        *,
        where: Where | None = None,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a web user; `dry_run` only checks."""
        try:
            checked("web user", user.name)
        except InvalidName as error:
            raise (where or Where()).at("name").error(error.message) from None
        self.check_length(credentials.password, where or Where())
        await self._core.store.read(check_grants, user.grants, where or Where())
        there = await self._core.store.read(accounts.web_user, user.name)
        if there is None:
            check_new_name("web user", user.name, (where or Where()).at("name"))
        if dry_run:
            if must_be_new and there is not None:
                raise Conflict(f"Web user {user.name} exists")
            return
        hashed = await self._hashed(credentials.password)
        totp = seal_credentials(self._core, credentials).totp
        now = self._core.clock.now()
        await self._core.store.write(
            store_web_user, user, hashed, totp, actor, self._teller, now=now,
            must_be_new=must_be_new, if_version=if_version,
        )  # fmt: skip

    async def delete_web_user(self, name: str, actor: Actor) -> None:
        """Delete a web user with its sessions."""
        await self.web_user(name)
        now = self._core.clock.now()
        await self._core.store.write(remove, "web_user", name, actor, self._teller, now=now)

    async def log_in(
        self, name: str, password: Secret, peer: str, code: str = ""
    ) -> tuple[str, WebUser]:
        """Check password and one-time code; return a new session token and the user.

        Raises Unauthenticated with one text for every cause; the time tells nothing either.
        """
        stored = await self._checked(name, password)
        step = self._step(stored, code)
        token = passwords.random_token("")
        now = self._core.clock.now()
        expires = now + self._core.settings.security.session_lifetime
        await self._core.store.write(
            store_login, stored.user.name, passwords.token_hash(token), peer, now, expires, step
        )
        return token, stored.user

    def _step(self, stored: accounts.StoredWebUser, code: str) -> int | None:
        """Return the step of a right and fresh code, None for users without; Unauthenticated."""
        if not stored.totp_secret:
            return None
        found = step_of(self._core.vault.open(stored.totp_secret), code, self._core.clock.now())
        if found is None or found <= stored.totp_step:
            raise Unauthenticated("name or password is wrong")
        return found

    async def web_sessions(self) -> list[accounts.OpenSession]:
        """Return the live browser sessions of all web users."""
        return await self._core.store.read(accounts.sessions, now=self._core.clock.now())

    async def end_web_session(self, number: str, actor: Actor) -> None:
        """Log one browser out; NotFound."""
        now = self._core.clock.now()
        await self._core.store.write(remove_session, number, actor, self._teller, now=now)

    async def end_web_sessions(self, name: str, actor: Actor) -> None:
        """Log all browsers of a web user out; NotFound."""
        await self.web_user(name)
        now = self._core.clock.now()
        await self._core.store.write(remove_sessions, name, actor, self._teller, now=now)

    async def check_password(self, name: str, password: Secret) -> WebUser:
        """Return the active web user with that password; Unauthenticated, in constant time.

        A user with one-time codes has no password that is enough by itself.
        """
        stored = await self._checked(name, password)
        if stored.totp_secret:
            raise Unauthenticated("name or password is wrong")
        return stored.user

    async def _checked(self, name: str, password: Secret) -> accounts.StoredWebUser:
        stored = await self._core.store.read(accounts.web_user, name)
        known = stored.password_hash if stored else None
        fits = await self._core.passwords.verify(known, password)
        if not fits or stored is None or not stored.user.active:
            raise Unauthenticated("name or password is wrong")
        return stored

    async def peek_session(self, token: str) -> WebUser | None:
        """Return the web user of a live session without prolonging it; None if there is none."""
        hashed, now = passwords.token_hash(token), self._core.clock.now()
        found = await self._core.store.read(read_session, hashed, now)
        return None if found is None else found[1]

    async def by_session(self, token: str) -> WebUser | None:
        """Return the web user of a live session, whose expiry slides; None if there is none."""
        hashed, now = passwords.token_hash(token), self._core.clock.now()
        found = await self._core.store.read(read_session, hashed, now)
        if found is None:
            return None
        session, user = found
        lifetime = self._core.settings.security.session_lifetime
        if session.expires_at - now < lifetime * 0.9:
            await self._core.store.write(
                accounts.use_session, hashed, now=now, expires_at=now + lifetime
            )
        return user

    async def log_out(self, token: str) -> None:
        """End a session."""
        await self._core.store.write(accounts.delete_session, passwords.token_hash(token))

    # --- tokens -------------------------------------------------------------------------------

    async def by_token(self, secret: str) -> accounts.Token:
        """Return the live token with that secret; Unauthenticated."""
        found = await self._core.store.read(accounts.token, passwords.token_hash(secret))
        now = self._core.clock.now()
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            raise Unauthenticated("the token is not valid")
        return found

    async def token_holder(self, secret: str) -> tuple[accounts.Token, WebUser]:
        """Return the live token with that secret and its active owner; Unauthenticated."""
        found = await self._core.store.read(read_holder, passwords.token_hash(secret))
        now = self._core.clock.now()
        if found is None or (found[0].expires_at is not None and found[0].expires_at <= now):
            raise Unauthenticated("the token is not valid")
        return found

    async def tokens(self) -> list[accounts.Token]:
        """Return all tokens, without their secrets."""
        return await self._core.store.read(accounts.tokens)

    async def delete_token(self, number: int, actor: Actor) -> None:
        """Delete a token; it is refused from now on."""
        now = self._core.clock.now()
        await self._core.store.write(remove_token, number, actor, self._teller, now=now)

    async def new_token(self, token: accounts.Token, actor: Actor) -> str:
        """Create a token; return its secret, which is not stored."""
        secret = passwords.random_token("ddt_")
        now = self._core.clock.now()
        await self._core.store.write(
            store_token, token, passwords.token_hash(secret), actor, self._teller, now=now
        )
        return secret

    async def rotate_token(self, number: int, overlap: timedelta, actor: Actor) -> str:
        """Give a token another secret and return it; the one before is good for `overlap` yet."""
        secret = passwords.random_token("ddt_")
        now = self._core.clock.now()
        await self._core.store.write(
            rotate_token, number, passwords.token_hash(secret), actor, self._teller,
            until=now + overlap, now=now,
        )  # fmt: skip
        return secret


def check_names(
    names: Sequence[str], known: Mapping[str, Any] | Sequence[str], where: Where, key: str
) -> None:
    """Raise ConfigError for a name that is not known."""
    for number, name in enumerate(names):
        if name not in known:
            kind = key.removesuffix("s").replace("policie", "policy")
            raise (
                where.at(key).at(number).error(f"there is no {kind} {name!r}", nearest(name, known))
            )
