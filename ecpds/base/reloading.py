"""Which settings change while the node works: new ones where that is possible, else the old ones.

Every key is declared with `reload=False` when it is read at the start only (`opt()` in
`base.settings`); such a change is told and waits for a restart.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from ecpds.base.settings import Settings
from ecpds.model.decode import declared, key_of

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Settings to go on with, and the keys that differ."""

    settings: Settings
    changed: tuple[str, ...]  # in effect now
    waiting: tuple[str, ...]  # in effect after a restart


def reloaded(old: Settings, new: Settings) -> Reloaded:
    """Return `new` with the values of `old` where only a restart may change them."""
    changed: list[str] = []
    waiting: list[str] = []
    settings = _merged(old, new, "", changed, waiting)
    return Reloaded(settings, tuple(changed), tuple(waiting))


def _merged(old: S, new: S, path: str, changed: list[str], waiting: list[str]) -> S:
    kept: dict[str, Any] = {}
    for item in dataclasses.fields(old):  # type: ignore[arg-type]
        name = f"{path}.{key_of(item)}" if path else key_of(item)
        before, after = getattr(old, item.name), getattr(new, item.name)
        if before == after:
            continue
        if not declared(item).reload:
            waiting.append(name)
            kept[item.name] = before
        elif dataclasses.is_dataclass(before):
            kept[item.name] = _merged(before, after, name, changed, waiting)
        elif _is_list(before) or _is_list(after):
            kept[item.name] = _list(before, after, name, changed, waiting)
        else:
            changed.append(name)
    return dataclasses.replace(new, **kept)  # type: ignore[type-var]


def _is_list(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and dataclasses.is_dataclass(value[0])


def _list(
    old: tuple[Any, ...], new: tuple[Any, ...], path: str, changed: list[str], waiting: list[str]
) -> tuple[Any, ...]:
    """Merge tables one by one; another number of them waits for a restart."""
    if len(old) != len(new):
        waiting.append(path)
        return old
    return tuple(
        _merged(before, after, f"{path}.{number}", changed, waiting)
        for number, (before, after) in enumerate(zip(old, new, strict=True))
    )
