"""What rule lists set: copies by aliases, and values forced upon new files.

Spec: schedulers.md sections 6 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from ecpds.model.destination import Alias
from ecpds.model.errors import InputError
from ecpds.model.names import nearest
from ecpds.model.place import Place
from ecpds.model.rules import Policy, RuleSet, Setting, compile_regex, parse_settings
from ecpds.model.targets import base_name, normal_target, parent_of
from ecpds.model.tokens import (
    DATE_PARAMS,
    NO_DATE,
    DateParams,
    Pieces,
    Vocabulary,
    date_param,
    parse_pieces,
)
from ecpds.model.tokenvalues import Dates, render_pieces
from ecpds.model.units import parse_bool, parse_duration

ALIAS_TOKENS: Final = Vocabulary.make("target name path parent destination alias", "date")
VERSION_TOKENS: Final = Vocabulary.make("timestamp destination target original timefile", "date")
"""Tokens of `scheduler.version` and `incoming.version`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasSettings:
    """What one alias line says of a copy; None keeps what was submitted."""

    pattern: re.Pattern[str] | None = None
    ignore: re.Pattern[str] | None = None
    recursive: bool = False
    target: Pieces | None = None
    lifetime: timedelta | None = None
    priority: int | None = None
    asap: bool | None = None
    event: bool | None = None
    delay: timedelta = timedelta(0)
    date: DateParams = NO_DATE

    def new_target(self, target: str, *, destination: str, alias: str, now: datetime) -> str:
        """Return the target of the copy, in normal form.

        Raises:
            InputError: a slice or date fails, or the result is no possible target.
        """
        if self.target is None:
            return target
        values = {
            "target": target,
            "path": target,
            "name": base_name(target),
            "parent": parent_of(target),
            "destination": destination,
            "alias": alias,
        }
        dates = Dates(now=now, defaults={"date": self.date})
        return normal_target(render_pieces(self.target, values, dates), source=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceSettings:
    """What one line of `scheduler.force` says of a file; None keeps what was submitted."""

    pattern: re.Pattern[str] | None = None
    ignore: re.Pattern[str] | None = None
    lifetime: timedelta | None = None
    delay: timedelta | None = None
    no_retrieval: bool | None = None
    asap: bool | None = None
    transfer_group: str | None = None
    version: Pieces | None = None
    standby: str | None = None  # yes, no or never


# --- reading one setting -------------------------------------------------------------------------

_Reader = Callable[[Setting, bool], object]


def _regex(setting: Setting, _: bool) -> object:
    return compile_regex(setting.value, setting.place)


def _length(setting: Setting, legacy: bool) -> object:
    return parse_duration(setting.value, legacy_unit="h" if legacy else None)


def _positive(setting: Setting, legacy: bool) -> object:
    length = parse_duration(setting.value, legacy_unit="h" if legacy else None)
    if length <= timedelta(0):
        raise InputError(f"{setting.value!r} is not above zero")
    return length


def _flag(setting: Setting, legacy: bool) -> object:
    return parse_bool(setting.value, legacy=legacy)


def _priority(setting: Setting, _: bool) -> object:
    if re.fullmatch(r"[0-9]{1,2}", setting.value, re.ASCII) is None:
        raise InputError(f"{setting.value!r} is no priority from 0 to 99")
    return int(setting.value)


def _standby(setting: Setting, _: bool) -> object:
    word = {"true": "yes", "false": "no"}.get(setting.value.lower(), setting.value.lower())
    if word not in {"yes", "no", "never"}:
        raise InputError(f"{setting.value!r} is none of yes, no, never")
    return word


def _template(vocabulary: Vocabulary) -> _Reader:
    def read(setting: Setting, legacy: bool) -> object:
        return parse_pieces(setting.value, vocabulary, place=setting.place, legacy=legacy)

    return read


_SHARED: Final[Mapping[str, tuple[str, _Reader]]] = {
    "pattern": ("pattern", _regex),
    "ignore": ("ignore", _regex),
    "lifetime": ("lifetime", _positive),
    "delay": ("delay", _length),
    "asap": ("asap", _flag),
}
_ALIAS: Final[Mapping[str, tuple[str, _Reader]]] = {
    **_SHARED,
    "recursive": ("recursive", _flag),
    "target": ("target", _template(ALIAS_TOKENS)),
    "priority": ("priority", _priority),
    "event": ("event", _flag),
}
_FORCE: Final[Mapping[str, tuple[str, _Reader]]] = {
    **_SHARED,
    "noretrieval": ("no_retrieval", _flag),
    "transfergroup": ("transfer_group", lambda setting, _: setting.value),
    "version": ("version", _template(VERSION_TOKENS)),
    "standby": ("standby", _standby),
}

T = TypeVar("T", AliasSettings, ForceSettings)


def _read_settings(
    base: T, text: str, place: Place, table: Mapping[str, tuple[str, _Reader]], *, legacy: bool
) -> T:
    """Return `base` with the settings of a text; an empty value counts as absent."""
    result = base
    for setting in parse_settings(text, place):
        name = setting.name.lower()
        if legacy and setting.name == "lifetime" and table is _ALIAS:
            continue  # aliases of old read lifeTime only
        if isinstance(result, AliasSettings) and name in DATE_PARAMS:
            date = date_param(
                result.date,
                name,
                setting.raw,
                setting.place,
                vocabulary=ALIAS_TOKENS,
                legacy=legacy,
            )
            result = replace(result, date=date)
            continue
        if name not in table:
            if legacy:
                continue
            hint = nearest(setting.name, [*table, *(DATE_PARAMS if table is _ALIAS else ())])
            raise setting.place.error(
                f"unknown setting {setting.name!r}" + (f" (did you mean {hint!r}?)" * bool(hint))
            )
        if setting.value:
            result = _with(result, *table[name], setting, legacy=legacy)
    return result


def _with(base: T, field: str, reader: _Reader, setting: Setting, *, legacy: bool) -> T:
    try:
        changes: dict[str, object] = {field: reader(setting, legacy)}
    except InputError as error:
        if "column" in error.facts:
            raise
        raise setting.place.error(f"{setting.name}: {error.message}") from None
    return replace(base, **changes)  # type: ignore[arg-type]  # the table pairs field and reader


# --- rule lists of settings ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingRules(Generic[T]):
    """A compiled rule list whose results are settings."""

    rules: RuleSet
    by_line: Mapping[int, T]

    def choose(self, target: str) -> T | None:
        """Return the settings for this target; None when no line holds or its patterns disagree."""
        chosen = self.rules.choose(target)
        if chosen is None:
            return None
        found = self.by_line[chosen.rule.place.line]
        if found.pattern is not None and found.pattern.fullmatch(target) is None:
            return None
        if found.ignore is not None and found.ignore.fullmatch(target) is not None:
            return None
        return found


def parse_alias(text: str, *, legacy: bool = False) -> SettingRules[AliasSettings]:
    """Compile the rule of an alias; an empty text copies everything.

    Raises:
        RuleError: names line and column.
    """
    rules = RuleSet.parse(
        text if text.strip() else "pattern=.*", policy=Policy.FIRST, legacy=legacy
    )
    return SettingRules(rules, _by_line(rules, AliasSettings(), _ALIAS, legacy=legacy))


def parse_force(text: str, *, legacy: bool = False) -> SettingRules[ForceSettings]:
    """Compile the rule list of `scheduler.force`; raises as `parse_alias`."""
    rules = RuleSet.parse(text, policy=Policy.FIRST, legacy=legacy)
    return SettingRules(rules, _by_line(rules, ForceSettings(), _FORCE, legacy=legacy))


def _by_line(
    rules: RuleSet, base: T, table: Mapping[str, tuple[str, _Reader]], *, legacy: bool
) -> dict[int, T]:
    return {
        rule.place.line: _read_settings(base, rule.result, rule.place, table, legacy=legacy)
        for rule in rules.rules
    }


# --- which copies a submission makes -------------------------------------------------------------

MAX_COPIES: Final = 1000
"""Most copies that one submission makes; the rest of a larger web of aliases is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy: where it goes, under which target, and the settings of the alias that made it."""

    destination: str
    target: str
    settings: AliasSettings


def alias_copies(
    destination: str,
    target: str,
    aliases_of: Callable[[str], Iterable[tuple[str, SettingRules[AliasSettings]]]],
    *,
    now: datetime,
) -> tuple[Copy, ...]:
    """Return the copies of a submission, nearest first; each destination is entered once.

    `aliases_of` gives the aliases of a destination as pairs of copy destination and rule.  Patterns
    see the target at their level.

    Raises:
        InputError: a target cannot be made, or more than 1000 copies.
    """
    found: list[Copy] = []
    seen = {destination}
    waiting = [(destination, target)]
    while waiting:
        here, name = waiting.pop(0)
        for to, rules in aliases_of(here):
            settings = rules.choose(name) if to not in seen else None
            if settings is None:
                continue
            seen.add(to)
            copy = settings.new_target(name, destination=here, alias=to, now=now)
            found.append(Copy(destination=to, target=copy, settings=settings))
            if len(found) > MAX_COPIES:
                raise InputError(f"aliases of {destination} make more than {MAX_COPIES} copies")
            if settings.recursive:
                waiting.append((to, copy))
    return tuple(found)


def alias_loop(name: str, aliases: Mapping[str, Iterable[Alias]]) -> tuple[str, ...]:
    """Return a circle of recursive aliases through `name`, empty when there is none.

    `aliases` are those of all destinations.  Lines of one rule count together: one that is
    recursive makes the alias recursive.
    """
    waiting: list[tuple[str, ...]] = [(name,)]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        for alias in aliases.get(path[-1], ()):
            if not _is_recursive(alias):
                continue
            if alias.to == name:
                return (*path, name)
            if alias.to not in seen:
                seen.add(alias.to)
                waiting.append((*path, alias.to))
    return ()


def _is_recursive(alias: Alias) -> bool:
    if alias.legacy:
        return False  # imported circles are cut when they run, as they always were
    try:
        return any(one.recursive for one in parse_alias(alias.rule).by_line.values())
    except InputError:
        return False
