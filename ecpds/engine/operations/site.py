"""Applies a site file: checked against the configuration as it will be, written all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ecpds.engine.core import Core, Snapshot
from ecpds.engine.operations.accountrows import (
    SealedCredentials,
    remove,
    store_policy,
    store_user,
    store_web_user,
)
from ecpds.engine.operations.actor import Actor, difference
from ecpds.engine.operations.apiusers import (
    api_user_facts,
    check_api_user,
    remove_api_user,
    store_api_user,
)
from ecpds.engine.operations.destinations import (
    KEEP,
    check_destination,
    check_new_name,
    remove_destination,
    sealed_options,
    secret_keys,
    store_destination,
)
from ecpds.engine.operations.hosts import check_host, remove_host, store_host
from ecpds.engine.operations.roles import check_grants
from ecpds.engine.operations.siteexport import export, user_facts
from ecpds.engine.operations.sitefile import (
    ApiUserSpec,
    DataUserSpec,
    HostSpec,
    PolicySpec,
    Site,
    WebUserSpec,
)
from ecpds.engine.ruletexts import check_loops
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.account import DataUser, Policy, WebUser
from ecpds.model.apiuser import ApiUser
from ecpds.model.decode import Where
from ecpds.model.destination import Destination
from ecpds.model.errors import InvalidName
from ecpds.model.host import Host
from ecpds.model.names import RESERVED, checked, nearest
from ecpds.model.secret import Secret
from ecpds.store import accounts, apiusers, destinations, hosts, site
from ecpds.store.codec import plain
from ecpds.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What applying did, or would do, to one object."""

    action: str  # create, change, delete, unchanged
    kind: str
    name: str
    difference: Mapping[str, Any]

    def line(self) -> str:
        """Return the line of a dry run."""
        details = "; ".join(_shown(key, value) for key, value in self.difference.items())
        tail = f": {details}" if details and self.action == "change" else ""
        return f"{self.action} {self.kind.replace('_', ' ')} {self.name}{tail}"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(_shown(f"{key}.{inner}", one) for inner, one in value.items())
    return f"{key} {value[0]!r} -> {value[1]!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """Everything ready to be written."""

    hosts: tuple[tuple[Host, str], ...]  # with the sealed password
    destinations: tuple[Destination, ...]
    policies: tuple[Policy, ...]
    users: tuple[tuple[DataUser, str | None, SealedCredentials], ...]
    web_users: tuple[tuple[WebUser, str | None, SealedCredentials], ...]
    api_users: tuple[tuple[ApiUser, str | None], ...]


class SiteOperations:
    """Apply and export."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def apply(
        self, document: Site, actor: Actor, *, file: str = "", dry_run: bool, prune: bool = False
    ) -> list[Change]:
        """Bring the configuration to what the document says; return the changes.

        Raises ConfigError and changes nothing when anything is wrong.
        """
        ready = await self._check(document)
        now = self._core.clock.now()
        doomed = set(await self._core.store.read(site.applied, file)) if prune else set()
        doomed -= document.names()
        await self._core.store.read(check_new_names, document, self._core.snapshot)
        act = preview if dry_run else write
        changes = await self._core.store.write(
            act, ready, doomed, document.names(), file, actor, self._teller, now=now,
            secret=secret_keys(self._core),
        )  # fmt: skip
        if not dry_run:
            await self._engine.reload()
            self._core.bus.tell("account", "")
        return changes

    async def _check(self, document: Site) -> _Checked:
        core, snapshot = self._core, self._core.snapshot
        host_names = {*snapshot.hosts, *(one.host.name for one in document.hosts)}
        names = {*snapshot.destinations, *(one.name for one, _ in document.destinations)}
        stored = {one.name for one in await core.store.read(accounts.policies)}
        policy_names = stored | {one.name for one, _ in document.policies}
        ready_hosts = tuple(self._host(one) for one in document.hosts)
        ready_destinations = []
        for destination, where in document.destinations:
            kept = self._kept(destination.options, destination.name, "destination")
            ready = check_destination(core, replace(destination, options=kept), where)
            _known(destination.hosts, host_names, where.at("hosts"), "host")
            for number, alias in enumerate(destination.aliases):
                place = where.at("aliases").at(number).at("to")
                if alias.to not in names:
                    raise place.error(
                        f"there is no destination {alias.to!r}", nearest(alias.to, names)
                    )
            if destination.source_host and destination.source_host not in host_names:
                place = where.at("source_host")
                near = nearest(destination.source_host, host_names)
                raise place.error(f"there is no host {destination.source_host!r}", near)
            ready_destinations.append(ready)
        _check_loops(core, ready_destinations, document)
        policies = tuple(self._policy(one, where, names) for one, where in document.policies)
        users = [await self._user(one, where, names, policy_names) for one, where in document.users]
        web_users = [await self._web_user(one, where) for one, where in document.web_users]
        api_users = [await self._api_user(one, where) for one, where in document.api_users]
        return _Checked(
            hosts=ready_hosts,
            destinations=tuple(ready_destinations),
            policies=policies,
            users=tuple(users),
            web_users=tuple(web_users),
            api_users=tuple(api_users),
        )

    def _host(self, spec: HostSpec) -> tuple[Host, str]:
        host = replace(spec.host, options=self._kept(spec.host.options, spec.host.name, "host"))
        present = self._core.snapshot.hosts.get(host.name)
        password = host.password
        if present is not None and (not spec.has_password or password.reveal() == KEEP):
            password = present.host.password
        ready = check_host(self._core, host, spec.where)
        return ready, self._core.vault.seal(password)

    def _kept(self, options: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
        """Return the options with masked secrets replaced by the stored ones."""
        present: Mapping[str, Any] = {}
        snapshot = self._core.snapshot
        if kind == "host" and name in snapshot.hosts:
            present = snapshot.hosts[name].host.options
        if kind == "destination" and name in snapshot.destinations:
            present = snapshot.destinations[name].destination.options
        return {
            key: present.get(key, value) if value == KEEP else value
            for key, value in options.items()
        }

    def _policy(self, spec: PolicySpec, where: Where, names: set[str]) -> Policy:
        _checked_name("policy", spec.name, where.at("name"))
        _known(spec.destinations, names, where.at("destinations"), "destination")
        options = self._core.catalogue.check(spec.options, "policy", where.at("options"))
        return Policy(
            name=spec.name,
            active=spec.active,
            comment=spec.comment,
            destinations=spec.destinations,
            operations=frozenset(spec.operations),
            options=sealed_options(self._core, options),
        )

    async def _user(
        self, spec: DataUserSpec, where: Where, names: set[str], policies: set[str]
    ) -> tuple[DataUser, str | None, SealedCredentials]:
        _checked_name("data user", spec.login, where.at("login"))
        _known(spec.destinations, names, where.at("destinations"), "destination")
        _known(spec.policies, policies, where.at("policies"), "policy")
        options = self._core.catalogue.check(spec.options, "user", where.at("options"))
        user = DataUser(
            login=spec.login,
            service=spec.service,
            active=spec.active,
            comment=spec.comment,
            country=spec.country,
            operations=frozenset(spec.operations),
            destinations=spec.destinations,
            policies=spec.policies,
            ssh_keys=spec.ssh_keys,
            options=sealed_options(self._core, options),
        )
        old = await self._core.store.read(accounts.user, spec.login)
        kept = old.password_hash if old else ""
        hashed = await self._hash(spec.password, kept)
        if self._core.broker_logins is not None and spec.password:
            await self._core.broker_logins.keep(hashed or kept, spec.password)
        vault = self._core.vault
        keys = spec.s3_keys
        sealed = SealedCredentials(
            totp=None if spec.totp is None else vault.seal(spec.totp),
            s3_keys=None
            if keys is None
            else [(key.access_key, vault.seal(Secret(key.secret))) for key in keys],
        )
        return user, hashed, sealed

    async def _web_user(
        self, spec: WebUserSpec, where: Where
    ) -> tuple[WebUser, str | None, SealedCredentials]:
        _checked_name("web user", spec.name, where.at("name"))
        await self._core.store.read(check_grants, spec.roles, where)
        old = await self._core.store.read(accounts.web_user, spec.name)
        hashed = await self._hash(spec.password, old.password_hash if old else "")
        user = WebUser(name=spec.name, active=spec.active, comment=spec.comment, grants=spec.roles)
        vault, totp = self._core.vault, None
        present = vault.open(old.totp_secret) if old and old.totp_secret else Secret("")
        if spec.totp is not None and spec.totp.reveal() != present.reveal():
            totp = vault.seal(spec.totp) if spec.totp else ""
        return user, hashed, SealedCredentials(totp=totp, s3_keys=None)

    async def _api_user(self, spec: ApiUserSpec, where: Where) -> tuple[ApiUser, str | None]:
        user = ApiUser(
            name=spec.name, active=spec.active, comment=spec.comment, services=spec.services
        )
        check_api_user(user, where)
        old = await self._core.store.read(apiusers.get, spec.name)
        return user, await self._hash(spec.password, old.password_hash if old else "")

    async def _hash(self, password: Secret | None, stored: str) -> str | None:
        """Return the new hash; None keeps the stored one, also when the password is the same."""
        if password is None:
            return None
        if not password:
            return ""
        if stored and await self._core.passwords.verify(stored, password):
            return None
        return await self._core.passwords.hash(password)

    async def export(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the configuration as a document; secrets as stars unless `secrets`."""
        return await self._core.store.read(export, self._engine, secrets=secrets)


def check_new_names(db: Connection, document: Site, snapshot: Snapshot) -> None:
    """Raise ConfigError for something new with a name that nothing new may have."""
    named = [
        *(("host", one.host.name, one.where.at("name")) for one in document.hosts),
        *(("destination", one.name, where.at("name")) for one, where in document.destinations),
        *(("policy", one.name, where.at("name")) for one, where in document.policies),
        *(("data user", one.login, where.at("login")) for one, where in document.users),
        *(("web user", one.name, where.at("name")) for one, where in document.web_users),
    ]
    there: dict[str, Callable[[str], object]] = {
        "host": snapshot.hosts.get,
        "destination": snapshot.destinations.get,
        "policy": lambda name: accounts.policy(db, name),
        "data user": lambda name: accounts.user(db, name),
        "web user": lambda name: accounts.web_user(db, name),
    }
    for kind, name, where in named:
        if name in RESERVED and there[kind](name) is None:
            check_new_name(kind, name, where)


def _check_loops(core: Core, ready: list[Destination], document: Site) -> None:
    aliases = {name: one.destination.aliases for name, one in core.snapshot.destinations.items()}
    aliases |= {one.name: one.aliases for one in ready}
    check_loops(aliases, {one.name: where for one, where in document.destinations})


def _checked_name(kind: str, name: str, where: Where) -> None:
    try:
        checked(kind, name)
    except InvalidName as error:
        raise where.error(error.message) from None


def _known(names: tuple[str, ...], known: set[str], where: Where, kind: str) -> None:
    for number, name in enumerate(names):
        if name not in known:
            raise where.at(number).error(f"there is no {kind} {name!r}", nearest(name, known))


def preview(
    db: Connection,
    ready: _Checked,
    doomed: set[tuple[str, str]],
    names: set[tuple[str, str]],
    file: str,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    secret: frozenset[str],
) -> list[Change]:
    """Return what `write` would do; changes nothing."""
    return _changes(db, ready, doomed, secret)


def write(
    db: Connection,
    ready: _Checked,
    doomed: set[tuple[str, str]],
    names: set[tuple[str, str]],
    file: str,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    secret: frozenset[str],
) -> list[Change]:
    """Write everything in one transaction; return what changed."""
    changes = _changes(db, ready, doomed, secret)
    touched = {(one.kind, one.name) for one in changes if one.action != "unchanged"}
    for host, sealed in ready.hosts:
        if ("host", host.name) in touched:
            store_host(db, host, sealed, actor, teller, now=now, secret=secret)
    changed = [one for one in ready.destinations if ("destination", one.name) in touched]
    for destination in changed:  # first without aliases, they may name each other
        destinations.put(db, replace(destination, aliases=()), now=now)
    for destination in changed:
        store_destination(db, destination, actor, teller, now=now, secret=secret)
    _write_accounts(db, ready, touched, actor, teller, now=now)
    for api_user, hashed in ready.api_users:
        if ("api_user", api_user.name) in touched:
            store_api_user(db, api_user, hashed, actor, teller, now=now)
    _remove_doomed(db, doomed, actor, teller, now=now)
    site.set_applied(db, file, sorted(names))
    return changes


def _write_accounts(
    db: Connection,
    ready: _Checked,
    touched: set[tuple[str, str]],
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    for policy in ready.policies:
        if ("policy", policy.name) in touched:
            store_policy(db, policy, actor, teller, now=now)
    for user, hashed, credentials in ready.users:
        if ("user", user.login) in touched:
            store_user(db, user, hashed, credentials, actor, teller, now=now)
    for web_user, hashed, credentials in ready.web_users:
        if ("web_user", web_user.name) in touched:
            store_web_user(db, web_user, hashed, credentials.totp, actor, teller, now=now)


def _remove_doomed(
    db: Connection, doomed: set[tuple[str, str]], actor: Actor, teller: Teller, *, now: datetime
) -> None:
    order = ["api_user", "web_user", "user", "policy", "destination", "host"]
    for kind, name in sorted(doomed, key=lambda one: order.index(one[0])):
        if kind == "destination":
            remove_destination(db, name, actor, teller, now=now)
        elif kind == "host":
            remove_host(db, name, actor, teller, now=now)
        elif kind == "api_user":
            remove_api_user(db, name, actor, teller, now=now)
        else:
            remove(db, kind, name, actor, teller, now=now)


def _changes(
    db: Connection, ready: _Checked, doomed: set[tuple[str, str]], secret: frozenset[str]
) -> list[Change]:
    found: list[Change] = []
    for host, sealed in ready.hosts:
        row = hosts.get(db, host.name)
        old = plain(row.host) if row else None
        new = plain(host) | {"password": bool(sealed)}
        if old is not None:
            old["id"], old["password"] = 0, bool(old["password"])
        found.append(_change("host", host.name, old, new | {"id": 0}, secret))
    for destination in ready.destinations:
        stored = destinations.get(db, destination.name)
        before = plain(stored[0]) if stored else None
        found.append(_change("destination", destination.name, before, plain(destination), secret))
    for policy in ready.policies:
        present = accounts.policy(db, policy.name)
        was = plain(present) if present else None
        found.append(_change("policy", policy.name, was, plain(policy), secret))
    for user, hashed, credentials in ready.users:
        known = accounts.user(db, user.login)
        was = user_facts(known.user) if known else None
        now = user_facts(user)
        _credential_facts(was, now, hashed, credentials)
        found.append(_change("user", user.login, was, now, secret))
    for web_user, hashed, credentials in ready.web_users:
        there = accounts.web_user(db, web_user.name)
        was = {"grants": plain(there.user.grants), "active": there.user.active,
               "comment": there.user.comment} if there else None  # fmt: skip
        new = {"grants": plain(web_user.grants), "active": web_user.active,
               "comment": web_user.comment}  # fmt: skip
        _credential_facts(was, new, hashed, credentials)
        found.append(_change("web_user", web_user.name, was, new, secret))
    for api_user, hashed in ready.api_users:
        had = apiusers.get(db, api_user.name)
        was = api_user_facts(had.user) if had else None
        new = api_user_facts(api_user)
        _credential_facts(was, new, hashed, None)
        found.append(_change("api_user", api_user.name, was, new, secret))
    found += [Change(action="delete", kind=kind, name=name, difference={}) for kind, name in doomed]
    return found


def _credential_facts(
    was: dict[str, Any] | None,
    new: dict[str, Any],
    hashed: str | None,
    credentials: SealedCredentials | None,
) -> None:
    if hashed is not None:
        new["password"] = "new"  # noqa: S105 - a mark, no password
    if credentials is not None and credentials.totp is not None:
        new["totp"] = "new"
    if was is not None:
        for key in ("password", "totp"):
            if key in new:
                was[key] = "old"


def _change(
    kind: str,
    name: str,
    old: dict[str, Any] | None,
    new: dict[str, Any],
    secret: frozenset[str],
) -> Change:
    hidden = secret | {"password", "totp"}
    if old is None:
        return Change(action="create", kind=kind, name=name, difference=difference({}, new, hidden))
    if _without_seals(old, secret) == _without_seals(new, secret):
        return Change(action="unchanged", kind=kind, name=name, difference={})
    return Change(action="change", kind=kind, name=name, difference=difference(old, new, hidden))


def _without_seals(facts: dict[str, Any], secret: frozenset[str]) -> dict[str, Any]:
    """Return facts without sealed values, which differ each time they are sealed."""
    options = facts.get("options")
    if not isinstance(options, dict):
        return facts
    return facts | {"options": {key: key in secret or value for key, value in options.items()}}
