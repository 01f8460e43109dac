"""What people do with hosts: create, change, delete, test, list now."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from ecpds.engine.core import Core
from ecpds.engine.host_publish import check_notice
from ecpds.engine.operations.actor import Actor, check_wanted, difference, record
from ecpds.engine.operations.destinations import (
    KEEP as KEEP,
)
from ecpds.engine.operations.destinations import (
    begin_anew,
    check_new_name,
    kept_options,
    masked,
    sealed_options,
    secret_keys,
)
from ecpds.engine.probe import Report, probe
from ecpds.engine.ruletexts import check_host_legacy
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.decode import Where
from ecpds.model.directory import parse_directory
from ecpds.model.errors import (
    BadState,
    ConfigError,
    Conflict,
    EcpdsError,
    InvalidName,
    NotFound,
    RuleError,
)
from ecpds.model.host import Host, HostRole
from ecpds.model.names import checked
from ecpds.model.secret import Secret
from ecpds.model.template import Template
from ecpds.model.transfer import Reason
from ecpds.store import destinations, hosts
from ecpds.store.codec import plain
from ecpds.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """A host as people see it."""

    host: Host  # secrets masked
    version: int
    destinations: tuple[str, ...]
    connections: int
    bytes: int
    error: str
    checked_at: datetime | None
    valid: bool | None
    breaker: Reason | None
    problem: str = ""


class HostOperations:
    """Verbs on hosts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def view(self, name: str) -> HostView:
        """Return one host; NotFound."""
        self._core.snapshot.host(name)
        row = await self._core.store.read(hosts.get, name)
        if row is None:
            raise NotFound(f"Host {name} not found")
        return self._shown(row)

    async def views(self) -> list[HostView]:
        """Return all hosts, by name."""
        return [self._shown(row) for row in await self._core.store.read(hosts.everything)]

    def _shown(self, row: hosts.HostRow) -> HostView:
        shown = replace(
            row.host,
            password=Secret(KEEP) if row.host.password else Secret(""),
            options=masked(self._core, row.host.options),
        )
        entry = self._core.snapshot.hosts.get(shown.name)
        return HostView(
            host=shown,
            version=row.version,
            destinations=self._core.snapshot.users.get(shown.name, ()),
            connections=row.connections,
            bytes=row.bytes,
            error=row.error,
            checked_at=row.checked_at,
            valid=row.valid,
            breaker=self._engine.breakers.open_reason(shown.name, version=row.version),
            problem=entry.problem if entry else "",
        )

    async def put(
        self,
        host: Host,
        actor: Actor,
        *,
        where: Where | None = None,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a host after checking everything it says.

        A password or secret option of three stars keeps the one that is stored.  `dry_run` only
        checks.
        """
        present = self._core.snapshot.hosts.get(host.name)
        kept = kept_options(host.options, present.host.options if present else {})
        ready = check_host(self._core, replace(host, options=kept), where or Where())
        if present is None:
            check_new_name("host", host.name, (where or Where()).at("name"))
        if dry_run:
            if present is not None and must_be_new:
                raise Conflict(f"Host {host.name} exists")
            return
        now = self._core.clock.now()
        password = host.password
        if password.reveal() == KEEP and present is not None:
            password = present.host.password
        await self._core.store.write(
            store_host, ready, self._core.vault.seal(password), actor, self._teller, now=now,
            secret=secret_keys(self._core), must_be_new=must_be_new, if_version=if_version,
        )  # fmt: skip
        await self._engine.reload()

    async def delete(self, name: str, actor: Actor) -> None:
        """Delete a host that no destination uses; Conflict names those that do."""
        self._core.snapshot.host(name)
        now = self._core.clock.now()
        await self._core.store.write(remove_host, name, actor, self._teller, now=now)
        await self._engine.reload()

    async def test(
        self, name: str, actor: Actor, report: Report | None = None
    ) -> dict[str, object]:
        """Try the host out step by step (`engine.probe`); return what happened.

        The steps appear in `report`, if one is given, as they end.
        """
        entry = self._core.snapshot.host(name)
        begun = self._core.clock.now()
        report = await probe(entry, self._core.around, report)
        error = report.error
        now = self._core.clock.now()
        text = error.message if error else ""
        await self._core.store.write(hosts.checked, name, error=text, now=now)
        if error is None:
            self._engine.breakers.succeeded(name)
        return {
            "ok": error is None,
            "seconds": round((now - begun).total_seconds(), 3),
            "peer": report.peer,
            "error": text or None,
            "phase": getattr(error, "phase", None),
            "fingerprint": report.identity.fingerprint if report.identity else None,
            "round_trip_ms": report.round_trip,
            "rate": report.rate,
            "by": actor.name,
            "steps": [asdict(step) for step in report.ordered],
        }

    async def reset_statistics(self, name: str, actor: Actor) -> None:
        """Count connections, bytes and time of a host from nothing; attempts stay."""
        self._core.snapshot.host(name)
        now = self._core.clock.now()
        await self._core.store.write(reset_host, name, actor, self._teller, now=now)

    async def interrupt(self, name: str, actor: Actor) -> list[str]:
        """End the discoveries that run at an acquisition host; return their destinations."""
        self._core.snapshot.host(name)
        del actor
        return [
            scheduler.name
            for pair, scheduler in self._engine.acquisitions.items()
            if pair[1] == name and scheduler.interrupt()
        ]

    async def acquire(self, name: str, actor: Actor, *, destination: str = "") -> list[str]:
        """Start discoveries at an acquisition host now; return the destinations."""
        host = self._core.snapshot.host(name).host
        if host.role is not HostRole.ACQUISITION:
            raise BadState(f"Host {name} is no acquisition host")
        found = [
            scheduler
            for pair, scheduler in self._engine.acquisitions.items()
            if pair[1] == name and destination in ("", pair[0])
        ]
        if not found:
            raise BadState(f"no active destination acquires from host {name}")
        for scheduler in found:
            scheduler.run_now()
        del actor
        return [scheduler.name for scheduler in found]


def check_host(core: Core, host: Host, where: Where) -> Host:
    """Check name, method, options and directory; return the host with sealed options."""
    try:
        checked("host", host.name)
    except InvalidName as error:
        raise where.at("name").error(error.message) from None
    try:
        core.registry.module(host.method)
    except ConfigError as error:
        raise where.at("method").error(error.bare, error.nearest) from None
    options = core.catalogue.check(host.options, "host", where.at("options"))
    try:
        core.registry.access(replace(host, options=options), local_roots=core.settings.file_roots)
    except EcpdsError as error:
        raise where.at("options").error(error.message) from None
    check_notice(options, where.at("options"))
    check_host_legacy(host.legacy, where)
    if "directory" not in host.legacy:
        _check_directory(host, options, where.at("directory"))
    return replace(host, options=sealed_options(core, options))


def _check_directory(host: Host, options: dict[str, str], where: Where) -> None:
    if host.role is HostRole.ACQUISITION:
        problems = parse_directory(host.directory, options).problems
        if problems:
            raise where.error(f"line {problems[0].line}: {problems[0].message}")
    elif host.role is HostRole.DISSEMINATION:
        try:
            Template.parse(host.directory)
        except RuleError as error:
            raise where.error(error.message) from None


def store_host(
    db: Connection,
    host: Host,
    sealed_password: str,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    secret: frozenset[str],
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a checked host, audit included."""
    old = hosts.get(db, host.name)
    check_wanted(old, f"Host {host.name}", must_be_new=must_be_new, if_version=if_version)
    before = plain(old.host) if old else {}
    after = plain(host) | {"password": sealed_password}
    hosts.put(db, host, sealed_password, now=now)
    for ignored in ("id",):
        before.pop(ignored, None)
        after.pop(ignored, None)
    changed = difference(before, after, secret | {"password"})
    if old is not None and changed and host.role is HostRole.DISSEMINATION:
        for name in hosts.used_by(db, host.name):
            found = destinations.get(db, name)
            if found is not None:
                begin_anew(db, found[0], found[1])
    action = "change" if old else "create"
    record(db, actor, action, "host", host.name, changed, teller, now=now)


def reset_host(db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime) -> None:
    """Set the counters of a host to nothing, audit included."""
    hosts.reset(db, name)
    record(db, actor, "reset-stats", "host", name, {}, teller, now=now)


def remove_host(db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime) -> None:
    """Delete an unused host, audit included."""
    used = hosts.used_by(db, name)
    if used:
        raise Conflict(f"Host {name} is used by {', '.join(used)}", dependents=used)
    hosts.delete(db, name)
    record(db, actor, "delete", "host", name, {}, teller, now=now)
