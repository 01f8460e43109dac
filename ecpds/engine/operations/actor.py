"""Who does something, and the trace that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ecpds.engine.telling import Teller
from ecpds.model.errors import Conflict, PreconditionFailed
from ecpds.store import history
from ecpds.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person or program that asked for a change."""

    name: str
    kind: str = "web"  # web, token, user, system
    peer: str = ""


SYSTEM = Actor(name="system", kind="system")


def difference(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, secret: frozenset[str]
) -> dict[str, Any]:
    """Return what changed as key to [old, new]; the values of `secret` keys are stars."""
    old, new = old or {}, new or {}
    found: dict[str, Any] = {}
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key in secret:
            before, after = before and "***", after and "***"
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            nested_old = before if isinstance(before, Mapping) else {}
            nested_new = after if isinstance(after, Mapping) else {}
            found[key] = difference(nested_old, nested_new, secret)
        else:
            found[key] = [before, after]
    return found


class Versioned(Protocol):
    """A stored object that counts its changes."""

    @property
    def version(self) -> int:
        """Return the number of its last change."""


def check_wanted(
    old: Versioned | None, what: str, *, must_be_new: bool, if_version: int | None
) -> None:
    """Raise Conflict or PreconditionFailed when the stored object is not the one that was meant."""
    if old is not None and must_be_new:
        raise Conflict(f"{what} exists")
    if if_version is not None and (old is None or old.version != if_version):
        raise PreconditionFailed(f"{what} was changed meanwhile")


def record(
    db: Connection,
    actor: Actor,
    action: str,
    kind: str,
    name: str,
    changed: Mapping[str, Any],
    teller: Teller,
    *,
    now: datetime,
) -> None:
    """Add audit row and ADM event in the transaction of the change."""
    history.add_audit(
        db,
        history.AuditRow(
            time=now,
            actor=actor.name,
            peer=actor.peer,
            action=action,
            object_type=kind,
            object_name=name,
            difference=dict(changed),
        ),
    )
    teller.plain(
        db,
        "ADM",
        now=now,
        user={"id": actor.name, "kind": actor.kind},
        net={"client": actor.peer or None},
        action=action,
        object={"kind": kind, "name": name},
        outcome="ok",
    )
