"""Metadata of destinations: definitions of fields, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ecpds.engine.core import Core
from ecpds.engine.operations.actor import Actor, difference, record
from ecpds.engine.telling import Teller
from ecpds.model.decode import Where
from ecpds.model.destmeta import MetadataField, check_values
from ecpds.model.errors import (
    Conflict,
    InputError,
    InvalidName,
    NotFound,
    PreconditionFailed,
)
from ecpds.model.names import checked, nearest
from ecpds.model.secret import Secret
from ecpds.store import destmeta
from ecpds.store.codec import plain
from ecpds.store.db import Connection

Values = dict[str, dict[str, Any]]  # category to field to value, list of values or None
STARS = "***"


class MetadataOperations:
    """Verbs on fields and values."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._teller = Teller(node=core.node)

    async def fields(self) -> list[MetadataField]:
        """Return all definitions, by category and position."""
        return await self._core.store.read(destmeta.fields)

    async def field(self, name: str) -> MetadataField:
        """Return one definition; NotFound."""
        found = await self._core.store.read(destmeta.field, name)
        if found is None:
            raise NotFound(f"Metadata field {name} not found")
        return found

    async def put_field(
        self,
        field: MetadataField,
        actor: Actor,
        *,
        instead_of: MetadataField | None,
        dry_run: bool = False,
    ) -> None:
        """Create a field, or replace it if it still is `instead_of`; `dry_run` only checks."""
        try:
            checked("metadata field", field.name)
        except InvalidName as error:
            raise Where().at("name").error(error.message) from None
        ready = replace(field, label=field.label or field.name)
        if dry_run:
            present = await self._core.store.read(destmeta.field, field.name)
            if instead_of is None and present is not None:
                raise Conflict(f"Metadata field {field.name} exists")
            return
        now = self._core.clock.now()
        await self._core.store.write(store_field, ready, instead_of, actor, self._teller, now=now)

    async def delete_field(self, name: str, actor: Actor, *, cascade: bool) -> None:
        """Delete a field; one that has values only with `cascade`.  NotFound, Conflict."""
        await self.field(name)
        count = await self._core.store.read(destmeta.uses, name)
        if count and not cascade:
            raise Conflict(
                f"Metadata field {name} has {count} values; use cascade=true",
                dependents=[f"{count} values"],
            )
        now = self._core.clock.now()
        await self._core.store.write(remove_field, name, actor, self._teller, now=now)

    async def values(self, destination: str, *, secrets: bool = False) -> Values:
        """Return what a destination's active fields say; passwords as stars unless `secrets`."""
        kind = self._core.snapshot.destination(destination).destination.type
        defined, stored = await self._core.store.read(read_both, destination)
        found: Values = {}
        for field in defined:
            if not _applies(field, kind):
                continue
            several = [self._shown(field, one, secrets) for one in stored.get(field.id, [])]
            value = several or None if field.is_list else (several[0] if several else None)
            found.setdefault(field.category, {})[field.name] = value
        return found

    def _shown(self, field: MetadataField, value: Any, secrets: bool) -> Any:
        if field.type != "password":
            return value
        return self._core.vault.open(value).reveal() if secrets else STARS

    async def set_values(
        self,
        destination: str,
        given: Mapping[str, Any],
        actor: Actor,
        *,
        skip_unknown: bool = False,
        dry_run: bool = False,
    ) -> int:
        """Replace the values of a destination; return how many there are.

        `given` is category to field to value as `values` returns it; stars keep a stored password.
        Raises InputError for a field that is not defined, unless they are skipped.
        """
        kind = self._core.snapshot.destination(destination).destination.type
        defined, stored = await self._core.store.read(read_both, destination)
        known = {one.name: one for one in defined if _applies(one, kind)}
        ready: dict[int, Sequence[Any]] = {}
        for category, inner in given.items():
            if not isinstance(inner, Mapping):
                raise InputError(f"{category}: an object of fields is wanted", pointer=category)
            for name, value in inner.items():
                field = known.get(name)
                if field is None:
                    if skip_unknown:
                        continue
                    raise _unknown(f"{category}.{name}", name, list(known))
                ready[field.id] = self._sealed(
                    field, check_values(field, value, f"{category}.{name}"), stored
                )
        if not dry_run:
            now = self._core.clock.now()
            await self._core.store.write(
                store_values, destination, ready, actor, self._teller, now=now
            )
        return sum(len(several) for several in ready.values())

    def _sealed(
        self, field: MetadataField, several: list[Any], stored: Mapping[int, list[Any]]
    ) -> list[Any]:
        if field.type != "password":
            return several
        old = stored.get(field.id, [])
        return [
            old[place]
            if value == STARS and place < len(old)
            else self._core.vault.seal(Secret(value))
            for place, value in enumerate(several)
        ]


def _applies(field: MetadataField, kind: str) -> bool:
    return field.active and (not field.destination_types or kind in field.destination_types)


def _unknown(pointer: str, name: str, known: Sequence[str]) -> InputError:
    near = nearest(name, known)
    hint = f" (did you mean {near!r}?)" if near else ""
    return InputError(f"there is no metadata field {name!r}{hint}", pointer=pointer)


def read_both(db: Connection, destination: str) -> tuple[list[MetadataField], dict[int, list[Any]]]:
    """Return all definitions, and the values of a destination by their id."""
    return destmeta.fields(db), destmeta.values(db, destination)


def store_field(
    db: Connection,
    field: MetadataField,
    instead_of: MetadataField | None,
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Write a checked field, audit included."""
    old = destmeta.field(db, field.name)
    if old is not None and instead_of is None:
        raise Conflict(f"Metadata field {field.name} exists")
    if instead_of is not None and old != instead_of:
        raise PreconditionFailed(f"Metadata field {field.name} was changed meanwhile")
    destmeta.put_field(db, field)
    changed = difference(plain(old) if old else None, plain(field), frozenset())
    changed.pop("id", None)
    action = "change" if old else "create"
    record(db, actor, action, "metadata_field", field.name, changed, teller, now=now)


def remove_field(db: Connection, name: str, actor: Actor, teller: Teller, *, now: datetime) -> None:
    """Delete a field with its values, audit included."""
    destmeta.delete_field(db, name)
    record(db, actor, "delete", "metadata_field", name, {}, teller, now=now)


def store_values(
    db: Connection,
    destination: str,
    given: Mapping[int, Sequence[Any]],
    actor: Actor,
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Replace the values of a destination, audit included."""
    names = {one.id: one for one in destmeta.fields(db)}
    old = destmeta.values(db, destination)
    destmeta.set_values(db, destination, given)
    hidden = frozenset(one.name for one in names.values() if one.type == "password")
    changed = difference(
        {names[number].name: several for number, several in old.items() if several},
        {names[number].name: list(several) for number, several in given.items() if several},
        hidden,
    )
    record(db, actor, "metadata", "destination", destination, changed, teller, now=now)
