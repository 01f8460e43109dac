"""Users of the v1 API: create, change, delete, check."""

from __future__ import annotations

from datetime import datetime

from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, check_wanted, difference, record
from ecpds.engine.telling import Teller
from ecpds.model.apiuser import ApiUser, check_services
from ecpds.model.decode import Where
from ecpds.model.errors import (
    Conflict,
    InputError,
    InvalidName,
    NotFound,
    Unauthenticated,
)
from ecpds.model.names import checked
from ecpds.model.secret import Secret
from ecpds.store import apiusers
from ecpds.store.apiusers import StoredApiUser
from ecpds.store.codec import plain
from ecpds.store.db import Connection


class ApiUserOperations:
    """Verbs on users of the v1 API."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)

    async def user(self, name: str) -> StoredApiUser:
        """Return one user; NotFound."""
        found = await self._core.store.read(apiusers.get, name)
        if found is None:
            raise NotFound(f"API user {name} not found")
        return found

    async def users(self) -> list[StoredApiUser]:
        """Return all users by name."""
        return await self._core.store.read(apiusers.everyone)

    async def put(
        self,
        user: ApiUser,
        password: Secret | None,
        actor: Actor,
        *,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a user; no password keeps the stored one, `dry_run` only checks."""
        check_api_user(user, Where())
        if dry_run:
            if must_be_new and await self._core.store.read(apiusers.get, user.name) is not None:
                raise Conflict(f"API user {user.name} exists")
            return
        hashed = None
        if password is not None:
            hashed = await self._core.passwords.hash(password) if password else ""
        await self._core.store.write(
            store_api_user, user, hashed, actor, self._teller, now=self._core.clock.now(),
            must_be_new=must_be_new, if_version=if_version,
        )  # fmt: skip

    async def delete(self, name: str, actor: Actor) -> None:
        """Delete a user; it is refused from now on."""
        await self.user(name)
        now = self._core.clock.now()
        await self._core.store.write(remove_api_user, name, actor, self._teller, now=now)

    async def find(self, name: str) -> StoredApiUser | None:
        """Return one user, None if there is none."""
        return await self._core.store.read(apiusers.get, name)

    async def verify(self, stored: StoredApiUser | None, password: Secret) -> ApiUser:
        """Return the active user with that password; Unauthenticated, in constant time."""
        fits = await self._core.passwords.verify(stored.password_hash if stored else None, password)
        if not fits or stored is None or not stored.user.active:
            raise Unauthenticated("user or password is wrong")
        return stored.user


def check_api_user(user: ApiUser, where: Where) -> None:
    """Raise ConfigError for a name or an expression that cannot be."""
    try:
        checked("API user", user.name)
    except InvalidName as error:
        raise where.at("name").error(error.message) from None
    try:
        check_services(user.services)
    except InputError as error:
        raise where.at("services").error(error.message) from None


def store_api_user(
    db: Connection,
    user: ApiUser,
    hashed: str | None,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a checked user, audit included."""
    old = apiusers.get(db, user.name)
    check_wanted(old, f"API user {user.name}", must_be_new=must_be_new, if_version=if_version)
    kept = old.password_hash if old else ""
    apiusers.put(db, user, password_hash=kept if hashed is None else hashed, now=now)
    changed = difference(api_user_facts(old.user) if old else None, api_user_facts(user),
                         frozenset())  # fmt: skip
    if hashed is not None:
        changed["password"] = ["***", "***"]
    action = "change" if old else "create"
    record(db, actor, action, "api_user", user.name, changed, teller, now=now)


def remove_api_user(
    db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Delete a user, audit included."""
    apiusers.delete(db, name)
    record(db, actor, "delete", "api_user", name, {}, teller, now=now)


def api_user_facts(user: ApiUser) -> dict[str, object]:
    """Return what a site file says of a user, but the password."""
    facts: dict[str, object] = plain(user)
    del facts["has_password"]
    return facts
