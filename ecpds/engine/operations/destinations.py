"""What people do with destinations: create, change, delete, start, stop, look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ecpds.engine import holds
from ecpds.engine.core import Core, wis2_of
from ecpds.engine.operations.actor import Actor, difference, record
from ecpds.engine.operations.transfers import delete_transfer
from ecpds.engine.publish_text import check_messages
from ecpds.engine.ruletexts import check_loops, check_texts
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.engine.wis2_text import check_wis2
from ecpds.model.decode import Where
from ecpds.model.destination import Destination, DestinationState
from ecpds.model.errors import (
    BadState,
    Conflict,
    InputError,
    InvalidName,
    NotFound,
    OptionError,
    PreconditionFailed,
)
from ecpds.model.families import MqttOptions
from ecpds.model.names import check_new, checked, nearest
from ecpds.model.secret import Secret
from ecpds.model.status import DestinationStatus, Light, StoredState, TransferStatus
from ecpds.store import destinations, transfers
from ecpds.store.codec import plain
from ecpds.store.db import Connection
from ecpds.transfer.compress import NO_FILTERS

S = TransferStatus
KEEP = "***"  # a masked secret that comes back unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationView:
    """A destination as people see it: configuration, state, counts."""

    destination: Destination  # options masked
    state: DestinationState
    version: int
    status: DestinationStatus
    light: Light
    queued: int
    outstanding: int
    counts: Mapping[TransferStatus, int]
    waits_for: str = ""


class DestinationOperations:
    """Verbs on destinations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._teller = Teller(node=engine.core.node)

    async def view(self, name: str) -> DestinationView:
        """Return one destination; NotFound."""
        found = await self._core.store.read(read_view, name)
        if found is None:
            self._core.snapshot.destination(name)
            raise NotFound(f"Destination {name} not found")
        return self._shown(*found)

    async def views(self) -> list[DestinationView]:
        """Return all destinations, by name."""
        states, counts = await self._core.store.read(read_states)
        known = self._core.snapshot.destinations
        return [
            self._shown(known[name].destination, states[name], 0, *counts.get(name, ({}, 0)))
            for name in sorted(known)
            if name in states  # not of one that is just being deleted
        ]

    def _shown(
        self,
        destination: Destination,
        state: DestinationState,
        version: int,
        counts: Mapping[TransferStatus, int],
        outstanding: int,
    ) -> DestinationView:
        queued = counts.get(S.WAIT, 0) + counts.get(S.RETR, 0)
        now = self._core.clock.now()
        scheduler = self._engine.disseminations.get(destination.name)
        status = DestinationStatus.DISABLED
        if scheduler is not None:
            status = scheduler.status(queued, now)
        light = light_of(destination, state, status, outstanding, now)
        options = masked(self._core, destination.options)
        if options != destination.options:  # copying a thousand takes 40 ms
            destination = replace(destination, options=options)
        return DestinationView(
            destination=destination,
            state=state,
            version=version,
            status=status,
            light=self._engine.lights.shown(destination.name, light, state.last_ok_at, now),
            queued=queued,
            outstanding=outstanding,
            counts=counts,
            waits_for=scheduler.waits_for if scheduler else "",
        )

    async def put(
        self,
        destination: Destination,
        actor: Actor,
        *,
        where: Where | None = None,
        must_be_new: bool = False,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Create or replace a destination after checking everything it says.

        Secret options of three stars keep what is stored.  `dry_run` only checks.
        """
        snapshot = self._core.snapshot
        present = snapshot.destinations.get(destination.name)
        kept = kept_options(destination.options, present.destination.options if present else {})
        ready = check_destination(self._core, replace(destination, options=kept), where or Where())
        if present is None:
            check_new_name("destination", destination.name, (where or Where()).at("name"))
        for number, host in enumerate(destination.hosts):
            if host not in snapshot.hosts:
                place = (where or Where()).at("hosts").at(number)
                raise place.error(f"there is no host {host!r}", nearest(host, snapshot.hosts))
        for number, alias in enumerate(destination.aliases):
            if alias.to not in snapshot.destinations and alias.to != destination.name:
                place = (where or Where()).at("aliases").at(number).at("to")
                near = nearest(alias.to, snapshot.destinations)
                raise place.error(f"there is no destination {alias.to!r}", near)
        others = {name: one.destination.aliases for name, one in snapshot.destinations.items()}
        check_loops(others | {ready.name: ready.aliases}, {ready.name: where or Where()})
        if dry_run:
            if present is not None and must_be_new:
                raise Conflict(f"Destination {destination.name} exists")
            return
        now = self._core.clock.now()
        await self._core.store.write(
            store_destination, ready, actor, self._teller, now=now, must_be_new=must_be_new,
            if_version=if_version, secret=secret_keys(self._core),
        )  # fmt: skip
        await self._engine.reload()

    async def delete(self, name: str, actor: Actor) -> None:
        """Delete a destination with its transfers; content goes when nothing else needs it."""
        self._core.snapshot.destination(name)
        now = self._core.clock.now()
        await self._core.store.write(remove_destination, name, actor, self._teller, now=now)
        await self._engine.reload()
        self._engine.retention.poke()

    async def start(self, name: str, actor: Actor) -> None:
        """Let a stopped or given-up destination work again, from its first host."""
        await self._set_state(name, StoredState.WAIT, actor, "start")
        scheduler = self._engine.disseminations.get(name)
        if scheduler is not None:
            scheduler.resume()
        for host in self._core.snapshot.destination(name).destination.hosts:
            self._engine.breakers.succeeded(host)
        self._engine.poke(name)
        self._engine.poke_retrieval(name)

    async def stop(self, name: str, actor: Actor, *, immediate: bool = False) -> None:
        """Start nothing any more; `immediate` also interrupts what runs."""
        await self._set_state(name, StoredState.STOP, actor, "stop")
        if immediate:
            await self._interrupt_all(name, f"destination stopped by {actor.name}")

    async def hold(
        self,
        name: str,
        actor: Actor,
        *,
        reason: str = "",
        immediate: bool = False,
        until: datetime | None = None,
    ) -> None:
        """Stop with a reason, until it is released, at the latest at `until`."""
        if until is not None and until <= self._core.clock.now():
            raise InputError("until lies in the past", pointer="until")
        await self._set_state(name, StoredState.STOP, actor, "hold", reason=reason or "held")
        if until is not None:
            await self._core.store.write(holds.set_end, name, until)
        if immediate:
            await self._interrupt_all(name, f"destination held by {actor.name}")

    async def release(self, name: str, actor: Actor) -> None:
        """Start a stopped or held destination; BadState for one that is neither."""
        entry = self._core.snapshot.destination(name)
        if entry.state is not StoredState.STOP:
            raise BadState(f"Destination {name} is not held", status=entry.state.value)
        await self.start(name, actor)

    async def restart(self, name: str, actor: Actor, *, immediate: bool = False) -> None:
        """Stop and start again; discoveries that `immediate` interrupts begin again at once."""
        await self.stop(name, actor, immediate=immediate)
        await self.start(name, actor)

    async def _interrupt_all(self, name: str, reason: str) -> None:
        running = [
            number
            for number, one in self._engine.attempts.running.items()
            if one.claimed.entry.name == name
        ]
        for number in running:
            await self._engine.attempts.stop(number, reason, wait=timedelta(seconds=5))
        for pair, acquisition in self._engine.acquisitions.items():
            if pair[0] == name:
                acquisition.end_now()
        retrieval = self._engine.retrievals.get(name)
        if retrieval is not None:
            for file in list(retrieval.meters):
                retrieval.stop(file, reason)

    async def _set_state(
        self, name: str, state: StoredState, actor: Actor, action: str, *, reason: str = ""
    ) -> None:
        self._core.snapshot.destination(name)
        now = self._core.clock.now()
        await self._core.store.write(
            change_state, name, state, actor, action, self._teller, now=now, reason=reason
        )
        await self._engine.reload()


def masked(core: Core, options: Mapping[str, Any]) -> dict[str, str]:
    """Return options with the values of secret keys as stars."""
    return {
        key: KEEP if value and core.catalogue.is_secret(key) else value
        for key, value in options.items()
    }


def kept_options(options: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with values of three stars replaced by the present ones."""
    return {
        key: present.get(key, value) if value == KEEP else value for key, value in options.items()
    }


def secret_keys(core: Core) -> frozenset[str]:
    """Return all option keys whose values are secret."""
    return frozenset(entry.key for entry in core.catalogue.entries() if entry.secret)


def sealed_options(core: Core, options: Mapping[str, str]) -> dict[str, str]:
    """Return options with the values of secret keys sealed for the store."""
    return {
        key: core.vault.seal(Secret(value)) if core.catalogue.is_secret(key) else value
        for key, value in options.items()
    }


def check_new_name(kind: str, name: str, where: Where) -> None:
    """Raise ConfigError for a name that nothing new may have."""
    try:
        check_new(kind, name)
    except InvalidName as error:
        raise where.error(error.message) from None


def check_destination(core: Core, destination: Destination, where: Where) -> Destination:
    """Check name, options and rules; return the destination as it is to be stored."""
    try:
        checked("destination", destination.name)
    except InvalidName as error:
        raise where.at("name").error(error.message) from None
    options = core.catalogue.check(destination.options, "destination", where.at("options"))
    check_texts(destination, options, where)
    mqtt = MqttOptions.read(options)
    check_messages(mqtt, where.at("options"))
    check_wis2(wis2_of(options, mqtt), where.at("options"))
    try:
        NO_FILTERS.of_destination(destination.filter_name, options)
    except OptionError as error:
        raise where.at("filter_name").error(error.message) from None
    return replace(destination, options=sealed_options(core, options))


def read_view(
    db: Connection, name: str
) -> tuple[Destination, DestinationState, int, dict[TransferStatus, int], int] | None:
    """Return configuration, state, version, counts and outstanding of one destination."""
    found = destinations.get(db, name)
    if found is None:
        return None
    counts, outstanding = transfers.counts(db, name)
    return found[0], found[1], found[2], counts, outstanding


def read_states(
    db: Connection,
) -> tuple[dict[str, DestinationState], dict[str, tuple[dict[TransferStatus, int], int]]]:
    """Return run state, counts and outstanding of all destinations; no configuration is read."""
    return destinations.states(db), transfers.all_counts(db)


def store_destination(
    db: Connection,
    destination: Destination,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
    secret: frozenset[str],
    must_be_new: bool = False,
    if_version: int | None = None,
) -> None:
    """Write a checked destination with its aliases, audit included."""
    old = destinations.get(db, destination.name)
    if old is not None and must_be_new:
        raise Conflict(f"Destination {destination.name} exists")
    if if_version is not None and (old is None or old[2] != if_version):
        raise PreconditionFailed(f"Destination {destination.name} was changed meanwhile")
    destinations.put(db, destination, now=now)
    if old is not None:
        begin_anew(db, destination, old[1])
    destinations.put_aliases(db, destination.name, destination.aliases)
    before = plain(old[0]) if old else None
    changed = difference(before, plain(destination), secret)
    action = "change" if old else "create"
    record(db, actor, action, "destination", destination.name, changed, teller, now=now)


def begin_anew(db: Connection, destination: Destination, state: DestinationState) -> None:
    """Let a changed destination begin at its first host again, if it wants that (`stopIfDirty`)."""
    if destination.stop_if_dirty:
        fresh = replace(state, current_host="", failures=0, round=1, switched_at=None)
        destinations.set_run(db, destination.name, fresh)


def remove_destination(
    db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime
) -> None:
    """Delete all transfers of a destination, then itself."""
    after = 0
    while numbers := transfers.of_destination(db, name, after=after):
        for number in numbers:
            delete_transfer(db, number, actor, teller, now=now)
        after = numbers[-1]
    destinations.delete(db, name)
    record(db, actor, "delete", "destination", name, {}, teller, now=now)


def change_state(
    db: Connection,
    name: str,
    state: StoredState,
    actor: Actor,
    action: str,
    teller: Teller,
    *,
    now: datetime,
    reason: str = "",
) -> None:
    """Store a decision of a person; a start begins at the first host and round."""
    found = destinations.get(db, name)
    if found is None:
        raise NotFound(f"Destination {name} not found")
    holds.set_end(db, name, None)
    by = actor.name if state is not StoredState.WAIT else ""
    destinations.set_state(db, name, state, by=by, reason=reason)
    if state is StoredState.WAIT:
        fresh = replace(found[1], current_host="", failures=0, round=1, switched_at=None)
        destinations.set_run(db, name, fresh)
    changed = {"state": [found[1].state.value, state.value]}
    record(db, actor, action, "destination", name, changed, teller, now=now)


def light_of(
    destination: Destination,
    state: DestinationState,
    status: DestinationStatus,
    outstanding: int,
    now: datetime,
) -> Light:
    """Return the alert light (monitor.md 3.3)."""
    if not destination.monitor:
        return Light.GREY
    if status is DestinationStatus.STOPPED:
        return Light.YELLOW
    if status in {
        DestinationStatus.GAVE_UP,
        DestinationStatus.NO_HOSTS,
        DestinationStatus.SLEEPING,
    }:
        return Light.RED
    last = state.last_ok_at
    limit = destination.max_inactivity
    if limit and (last is None or now - last > limit):
        return Light.RED
    if outstanding:
        return Light.YELLOW
    idle = status in {DestinationStatus.IDLE, DestinationStatus.WAITING}
    return Light.BLUE if idle else Light.GREEN
