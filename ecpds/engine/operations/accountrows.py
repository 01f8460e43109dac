"""What is written about accounts, each change in one transaction with its trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecpds.base.vault import PREFIX
from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, check_wanted, difference, record
from ecpds.engine.telling import Teller
from ecpds.model.account import DataUser, Policy, WebUser
from ecpds.model.errors import Conflict, NotFound, PreconditionFailed, Unauthenticated
from ecpds.model.secret import Secret
from ecpds.store import accounts
from ecpds.store.codec import plain
from ecpds.store.db import Connection

Account = DataUser | Policy | WebUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """New credentials of an account; None keeps what is stored."""

    password: Secret | None = None
    totp: Secret | None = None
    s3_keys: Sequence[tuple[str, Secret]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedCredentials:
    """Credentials as they are stored; None keeps what is there."""

    totp: str | None
    s3_keys: Sequence[tuple[str, str]] | None


def seal_credentials(core: Core, credentials: Credentials) -> SealedCredentials:
    """Encrypt TOTP secret and S3 secrets."""
    return SealedCredentials(
        totp=_sealed(core, credentials.totp),
        s3_keys=None
        if credentials.s3_keys is None
        else [(key, core.vault.seal(secret)) for key, secret in credentials.s3_keys],
    )


def _sealed(core: Core, secret: Secret | None) -> str | None:
    """Return a secret as it is stored, an empty one as no secret."""
    if secret is None:
        return None
    return core.vault.seal(secret) if secret else ""


def store_user(
    db: Connection,
    user: DataUser,
    hashed: str | None,
    sealed: SealedCredentials,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a checked data user, audit included."""
    old = accounts.user(db, user.login)
    check_wanted(old, f"Data user {user.login}", must_be_new=must_be_new, if_version=if_version)
    kept = old.password_hash if old else ""
    totp = old.totp_secret if old else ""
    accounts.put_user(
        db,
        user,
        password_hash=kept if hashed is None else hashed,
        totp_secret=totp if sealed.totp is None else sealed.totp,
        now=now,
    )
    if sealed.s3_keys is not None:
        accounts.put_s3_keys(db, user.login, sealed.s3_keys, now=now)
    action = "change" if old else "create"
    facts = changes(old.user if old else None, user, password=hashed, totp=sealed.totp)
    record(db, actor, action, "user", user.login, facts, teller, now=now)


def store_policy(
    db: Connection,
    policy: Policy,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    must_be_new: bool = False,
    instead_of: Policy | None = None,
) -> None:
    """Write a checked policy, audit included."""
    old = accounts.policy(db, policy.name)
    if old is not None and must_be_new:
        raise Conflict(f"Policy {policy.name} exists")
    if instead_of is not None and old != instead_of:
        raise PreconditionFailed(f"Policy {policy.name} was changed meanwhile")
    accounts.put_policy(db, policy, now=now)
    record(db, actor, "put", "policy", policy.name, changes(old, policy), teller, now=now)


def store_web_user(
    db: Connection,
    user: WebUser,
    hashed: str | None,
    totp: str | None,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a web user, audit included; a new password ends its sessions."""
    old = accounts.web_user(db, user.name)
    check_wanted(old, f"Web user {user.name}", must_be_new=must_be_new, if_version=if_version)
    kept = old.password_hash if old else ""
    kept_totp = old.totp_secret if old else ""
    accounts.put_web_user(
        db,
        user,
        password_hash=kept if hashed is None else hashed,
        totp_secret=kept_totp if totp is None else totp,
        now=now,
    )
    if hashed is not None or totp is not None or not user.active:
        accounts.end_sessions(db, user.name)
    facts = changes(old.user if old else None, user, password=hashed, totp=totp)
    record(db, actor, "put", "web_user", user.name, facts, teller, now=now)


def changes(
    old: Account | None, new: Account, *, password: str | None = None, totp: str | None = None
) -> dict[str, Any]:
    """Return what changed of an account; secrets are stars, whether they changed or not."""
    before = without_logins(plain(old)) if old is not None else {}
    after = without_logins(plain(new))
    options = [*before.get("options", {}).items(), *after.get("options", {}).items()]
    sealed = frozenset(key for key, text in options if str(text).startswith(PREFIX))
    found = difference(before, after, sealed)
    for name, value in (("password", password), ("totp", totp)):
        if value is not None:
            found[name] = "***" if value else ""
    return found


def without_logins(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of an account that people set."""
    own = {"last_login_at", "last_login_from", "has_password", "made_roles"}
    return {key: value for key, value in facts.items() if key not in own}


def store_login(
    db: Connection,
    name: str,
    hashed: str,
    peer: str,
    now: datetime,
    expires: datetime,
    step: int | None = None,
) -> None:
    """Write a new browser session; `step` is that of the one-time code, which is used now.

    Raises Unauthenticated when somebody else used the code in the meantime.
    """
    if step is not None:
        stored = accounts.web_user(db, name)
        if stored is None or step <= stored.totp_step:
            raise Unauthenticated("name or password is wrong")
        accounts.web_code_used(db, name, step)
    accounts.put_session(db, hashed, name, peer=peer, now=now, expires_at=expires)
    accounts.web_logged_in(db, name, peer, now=now)


def remove_session(
    db: Connection, number: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Log one browser out, audit included."""
    found = [one for one in accounts.sessions(db, now=now) if one.id == number]
    if not found or not accounts.end_session(db, number):
        raise NotFound("that session is over")
    record(db, actor, "end-session", "web_user", found[0].name, {}, teller, now=now)


def remove_sessions(
    db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Log all browsers of a web user out, audit included."""
    accounts.end_sessions(db, name)
    record(db, actor, "end-sessions", "web_user", name, {}, teller, now=now)


def read_session(
    db: Connection, hashed: str, now: datetime
) -> tuple[accounts.WebSession, WebUser] | None:
    """Return a live session and its active user."""
    session = accounts.session(db, hashed, now=now)
    stored = accounts.web_user(db, session.name) if session else None
    if session is None or stored is None or not stored.user.active:
        return None
    return session, stored.user


def read_holder(db: Connection, hashed: str) -> tuple[accounts.Token, WebUser] | None:
    """Return the token with that hash and its active owner, None when one of them is gone."""
    token = accounts.token(db, hashed)
    owner = accounts.web_user(db, token.owner) if token is not None else None
    if token is None or owner is None or not owner.user.active:
        return None
    return token, owner.user


def remove_token(
    db: Connection, number: int, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Delete a token, audit included."""
    found = accounts.token_by_id(db, number)
    if found is None or not accounts.delete_token(db, number):
        raise NotFound(f"Token {number} not found")
    record(db, actor, "delete", "token", found.name, {}, teller, now=now)


def store_token(
    db: Connection,
    token: accounts.Token,
    hashed: str,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Write a token, audit included."""
    accounts.put_token(db, token, secret_hash=hashed, now=now)
    record(db, actor, "create", "token", token.name, {}, teller, now=now)


def rotate_token(
    db: Connection,
    number: int,
    hashed: str,
    actor: Actor,
    teller: Teller,
    *,
    until: datetime,
    now: datetime,
) -> None:
    """Give a token another secret, audit included; NotFound."""
    found = accounts.token_by_id(db, number)
    if found is None:
        raise NotFound(f"Token {number} not found")
    accounts.rotate_token(db, number, hashed, until=until)
    record(db, actor, "rotate", "token", found.name, {}, teller, now=now)


def remove(
    db: Connection, kind: str, name: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Delete an account, audit included."""
    act = {
        "user": accounts.delete_user,
        "policy": accounts.delete_policy,
        "web_user": accounts.delete_web_user,
    }[kind]
    act(db, name)
    record(db, actor, "delete", kind, name, {}, teller, now=now)
