"""What all of the engine shares, and the configuration as it is now.

`Snapshot` is made from the store after each change and replaced as a whole: whoever took one goes
on with it to the end of its act.  Secrets are open in it and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ecpds.base.bus import Bus
from ecpds.base.clock import Clock
from ecpds.base.failpoints import Failpoints
from ecpds.base.logs import get_logger
from ecpds.base.mail import Mailer
from ecpds.base.metrics import Metrics
from ecpds.base.passwords import Passwords
from ecpds.base.settings import Settings
from ecpds.base.threads import Threads
from ecpds.base.tls import Certificates
from ecpds.base.vault import PREFIX, Vault
from ecpds.engine.brokerlogins import BrokerLogins
from ecpds.engine.host_notices import HostNotice
from ecpds.engine.notices import NoticeRule
from ecpds.engine.ruletexts import compiled
from ecpds.engine.versions import version_pieces
from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.arbitration import Arbiter
from ecpds.model.destination import Destination
from ecpds.model.errors import ConfigError, EcpdsError, NotFound
from ecpds.model.families import IncomingOptions, MqttOptions, SchedulerOptions
from ecpds.model.host import Host, HostRole
from ecpds.model.names import nearest
from ecpds.model.options import Catalogue
from ecpds.model.rulesettings import (
    AliasSettings,
    ForceSettings,
    SettingRules,
)
from ecpds.model.status import StoredState
from ecpds.model.template import Template
from ecpds.model.tokens import Pieces
from ecpds.model.units import TimeRanges
from ecpds.model.wis2 import Wis2Options
from ecpds.objects.directory import ObjectDirectory
from ecpds.scripting.scripts import Scripts
from ecpds.store import destinations, hosts
from ecpds.store.db import Connection, Store
from ecpds.transfer.contract import Surroundings
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationEntry:
    """A Destination with its options and rules read."""

    destination: Destination
    scheduler: SchedulerOptions
    incoming: IncomingOptions
    mqtt: MqttOptions
    aliases: tuple[tuple[str, SettingRules[AliasSettings]], ...]
    force: SettingRules[ForceSettings] | None
    active_times: TimeRanges | None
    state: StoredState
    arbiter: Arbiter | None = None  # of duplicates, `scheduler.requeueon`
    notices: NoticeRule | None = None  # what is published, None: nothing
    wis2: Wis2Options = field(default_factory=Wis2Options)  # none published unless it says so
    problems: Mapping[str, str] = field(default_factory=dict)  # imported texts that cannot be read

    @property
    def name(self) -> str:
        """Return the name of the destination."""
        return self.destination.name

    def version_rule(self, forced: ForceSettings) -> str | Pieces:
        """Return the template of the version: what `scheduler.force` says, else the option."""
        if forced.version is not None:
            return forced.version
        text = self.scheduler.version
        if text and "scheduler.version" in self.destination.legacy:
            return version_pieces(text, legacy=True)
        return text

    def forced(self, target: str) -> ForceSettings:
        """Return what `scheduler.force` says of a target."""
        found = self.force.choose(target) if self.force else None
        return found or ForceSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """A Host with its secrets open."""

    host: Host
    access: Access | None  # None: its method or options cannot be used, `problem` says why
    template: Template | None = None  # of a dissemination host
    directory_only: str | None = None  # the whole template when it has neither rules nor tokens
    acquisition: AcquisitionOptions = AcquisitionOptions()
    notice: HostNotice | None = None  # what a broker of its own is told, None: nothing
    problem: str = ""
    version: int = 1

    @property
    def name(self) -> str:
        """Return the nickname."""
        return self.host.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The configuration of one moment."""

    destinations: Mapping[str, DestinationEntry] = field(default_factory=dict)
    hosts: Mapping[str, HostEntry] = field(default_factory=dict)
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host -> destinations

    def destination(self, name: str) -> DestinationEntry:
        """Return one destination; NotFound names the nearest."""
        found = self.destinations.get(name)
        if found is None:
            near = nearest(name, self.destinations)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise NotFound(f"Destination {name} not found{hint}")
        return found

    def host(self, name: str) -> HostEntry:
        """Return one host; NotFound names the nearest."""
        found = self.hosts.get(name)
        if found is None:
            near = nearest(name, self.hosts)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise NotFound(f"Host {name} not found{hint}")
        return found

    def alias_rules(self, name: str) -> Iterable[tuple[str, SettingRules[AliasSettings]]]:
        """Return the copies that a destination makes, as destination and rule."""
        entry = self.destinations.get(name)
        return entry.aliases if entry else ()

    def hosts_of(self, name: str, role: HostRole) -> list[HostEntry]:
        """Return the active hosts of a destination in that role, in order of priority."""
        entry = self.destinations.get(name)
        if entry is None:
            return []
        found = (self.hosts.get(host) for host in entry.destination.hosts)
        return [h for h in found if h is not None and h.host.active and h.host.role is role]

    def acquisition_hosts(self, name: str) -> list[HostEntry]:
        """Return the active acquisition hosts of a destination."""
        return self.hosts_of(name, HostRole.ACQUISITION)


class Configuration:
    """Holds the present snapshot and makes the next one."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        registry: Registry,
        roots: tuple[str, ...],
        node: str = "",
        carriers: tuple[str, ...] = (),
    ) -> None:
        """`carriers`: the kinds of publications that somebody carries."""
        self._node = node
        self._carriers = carriers
        self._store = store
        self._vault = vault
        self._registry = registry
        self._roots = roots
        self.now = Snapshot()

    async def reload(self) -> Snapshot:
        """Read the store anew and make it the present configuration."""
        self.now = await self._store.read(self.read)
        return self.now

    def read(self, db: Connection) -> Snapshot:
        """Build a snapshot inside a transaction."""
        found = {row.host.name: self._host(row.host, row.version) for row in hosts.everything(db)}
        entries = {}
        users: dict[str, list[str]] = {}
        for destination, state in destinations.everything(db):
            delivers = any(
                name in found
                and found[name].host.active
                and found[name].host.role is HostRole.DISSEMINATION
                for name in destination.hosts
            )
            entries[destination.name] = self._destination(
                destination, state.state, delivers=delivers
            )
            for host in destination.hosts:
                users.setdefault(host, []).append(destination.name)
        return Snapshot(
            destinations=entries,
            hosts=found,
            users={host: tuple(names) for host, names in users.items()},
        )

    def _destination(
        self, stored: Destination, state: StoredState, *, delivers: bool
    ) -> DestinationEntry:
        options = self.opened(stored.options)
        destination = replace(stored, options=options)
        scheduler = SchedulerOptions.read(options)
        texts = compiled(destination, scheduler)
        mqtt, incoming = MqttOptions.read(options), IncomingOptions.read(options)
        wis2 = wis2_of(options, mqtt)
        return DestinationEntry(
            destination=destination,
            scheduler=scheduler,
            incoming=incoming,
            mqtt=mqtt,
            wis2=wis2,
            notices=NoticeRule.of(
                destination.name,
                mqtt,
                self._carriers,
                delivers=delivers,
                tmp_pattern=incoming.tmp_pattern,
                wis2=wis2.publish,
            ),
            aliases=texts.aliases,
            force=texts.force,
            active_times=texts.active_times,
            state=state,
            arbiter=texts.arbiter,
            problems=texts.problems,
        )

    def _host(self, stored: Host, version: int) -> HostEntry:
        host = replace(
            stored,
            password=self._vault.open(stored.password.reveal()),
            options=self.opened(stored.options),
        )
        try:
            access = self._registry.access(host, local_roots=self._roots, node=self._node)
            is_sender = host.role is HostRole.DISSEMINATION
            template = (
                Template.parse(host.directory, legacy="directory" in host.legacy)
                if is_sender
                else None
            )
            acquisition = AcquisitionOptions.read(host.options)
        except EcpdsError as error:  # a host of a missing module must not stop the start
            return HostEntry(host=host, access=None, problem=error.message, version=version)
        return HostEntry(
            host=host,
            access=access,
            template=template,
            directory_only=template.directory_only if template else None,
            acquisition=acquisition,
            notice=_notice(host.name, access) if is_sender else None,
            version=version,
        )

    def opened(self, options: Mapping[str, Any]) -> dict[str, str]:
        """Return options with their sealed values open."""
        return {
            key: self._vault.open(text).reveal() if text.startswith(PREFIX) else text
            for key, text in options.items()
        }


def _notice(name: str, access: Access) -> HostNotice | None:
    """Return what a Host's broker is told; a text that was never checked must not stop us."""
    try:
        return HostNotice.of(name, access.ectrans)
    except ConfigError as error:
        log.warning("host notification cannot be read", host=name, reason=error.message)
        return None


@dataclass(slots=True, kw_only=True)
class Core:
    """The parts that engine, vfs and web work with; built by the daemon."""

    settings: Settings
    clock: Clock
    threads: Threads
    store: Store
    objects: ObjectDirectory
    vault: Vault
    passwords: Passwords
    bus: Bus
    metrics: Metrics
    failpoints: Failpoints
    registry: Registry
    pool: Pool
    around: Surroundings
    catalogue: Catalogue
    configuration: Configuration
    scripts: Scripts = field(default_factory=Scripts)
    mailer: Mailer
    broker_logins: BrokerLogins | None = None  # kept for another broker, None: there is none
    certificates: Certificates | None = None  # of the listeners
    endpoints: dict[str, str] = field(default_factory=dict)  # filled when all listen

    @property
    def snapshot(self) -> Snapshot:
        """Return the present configuration."""
        return self.configuration.now

    @property
    def node(self) -> str:
        """Return the name of this node."""
        return self.settings.node.name


_NO_WIS2: Final = Wis2Options()


def wis2_of(options: Mapping[str, str], mqtt: MqttOptions) -> Wis2Options:
    """Return the options of WIS2; `mqtt.template = wis2` switches it on as `wis2.publish` does."""
    is_chosen = mqtt.publish and mqtt.template == "wis2"
    if not is_chosen and not any(key.startswith("wis2.") for key in options):
        return _NO_WIS2
    found = Wis2Options.read(options)
    return replace(found, publish=True) if is_chosen else found


def closure(snapshot: Snapshot, name: str) -> Iterable[str]:
    """Yield every destination that a file submitted to `name` may be copied to."""
    seen = {name}
    waiting = [name]
    while waiting:
        entry = snapshot.destinations.get(waiting.pop())
        for to, _ in entry.aliases if entry else ():
            if to not in seen:
                seen.add(to)
                waiting.append(to)
                yield to
