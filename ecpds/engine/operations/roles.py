"""What administrators do with roles: look, make, change, delete; the built-in ones stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, check_wanted, difference, record
from ecpds.engine.operations.destinations import check_new_name
from ecpds.engine.telling import Teller
from ecpds.model.account import Grant, Role
from ecpds.model.decode import Where
from ecpds.model.errors import Conflict, InvalidName, NotFound
from ecpds.model.names import checked, nearest
from ecpds.store import roles
from ecpds.store.db import Connection
from ecpds.store.roles import StoredRole


class RoleOperations:
    """Verbs on roles."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)

    async def everything(self) -> list[StoredRole]:
        """Return the roles that the site made, by name."""
        return await self._core.store.read(roles.everything)

    async def role(self, name: str) -> StoredRole:
        """Return one that the site made; NotFound."""
        found = await self._core.store.read(roles.get, name)
        if found is None:
            raise NotFound(f"Role {name} not found")
        return found

    async def put(
        self,
        role: StoredRole,
        actor: Actor,
        *,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a role, whose scopes are checked already; `dry_run` only checks."""
        try:
            checked("role", role.name)
        except InvalidName as error:
            raise Where().at("name").error(error.message) from None
        if role.name in set(Role):
            raise Conflict(f"the role {role.name} is built in")
        present = await self._core.store.read(roles.get, role.name)
        if present is None:
            check_new_name("role", role.name, Where().at("name"))
        if dry_run:
            if must_be_new and present is not None:
                raise Conflict(f"Role {role.name} exists")
            return
        now = self._core.clock.now()
        await self._core.store.write(
            store_role, role, actor, self._teller, now=now, must_be_new=must_be_new,
            if_version=if_version,
        )  # fmt: skip
        self._core.bus.tell("account", "")

    async def delete(self, name: str, actor: Actor, *, dry_run: bool = False) -> None:
        """Delete a role that nobody has; Conflict names those that do."""
        await self.role(name)
        held = await self._core.store.read(roles.holders, name)
        if held:
            raise Conflict(f"Role {name} is held by {', '.join(held)}", dependents=held)
        if not dry_run:
            now = self._core.clock.now()
            await self._core.store.write(remove_role, name, actor, self._teller, now=now)


def check_grants(
    db: Connection, grants: Iterable[Grant], where: Where, *, key: str = "roles"
) -> None:
    """Raise ConfigError for a role that is not there."""
    known = [*Role, *(one.name for one in roles.everything(db))]
    for number, grant in enumerate(grants):
        if grant.role not in known:
            place = where.at(key).at(number).at("role")
            raise place.error(f"there is no role {grant.role!r}", nearest(grant.role, known))


def store_role(
    db: Connection,
    role: StoredRole,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a role, audit included."""
    old = roles.get(db, role.name)
    check_wanted(old, f"Role {role.name}", must_be_new=must_be_new, if_version=if_version)
    roles.put(db, role, now=now)
    before = asdict(old) if old is not None else {}
    changed = difference(before | {"version": role.version}, asdict(role), frozenset())
    record(db, actor, "change" if old else "create", "role", role.name, changed, teller, now=now)


def remove_role(db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime) -> None:
    """Delete a role, audit included; Conflict when somebody has got it meanwhile."""
    held = roles.holders(db, name)
    if held:
        raise Conflict(f"Role {name} is held by {', '.join(held)}", dependents=held)
    roles.delete(db, name)
    record(db, actor, "delete", "role", name, {}, teller, now=now)
