"""All rule texts of a Destination: checked when it is saved, compiled when it is read.

A text that was imported (`legacy`) keeps its old meaning and may be saved although it cannot be
read; then it refuses whatever it would have decided about, and the destination says why.

Spec: schedulers.md sections 6 and 7, interface.md section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from ecpds.model.arbitration import VARIABLES, Arbiter
from ecpds.model.dates import DatePattern, parse_zone
from ecpds.model.decode import Where
from ecpds.model.destination import Alias, Destination
from ecpds.model.errors import ConfigError, InputError
from ecpds.model.expression import Expression
from ecpds.model.families import IncomingOptions, SchedulerOptions
from ecpds.model.names import nearest
from ecpds.model.rules import Policy, RuleSet, compile_regex
from ecpds.model.rulesettings import (
    VERSION_TOKENS,
    AliasSettings,
    ForceSettings,
    SettingRules,
    alias_loop,
    parse_alias,
    parse_force,
)
from ecpds.model.script import Script
from ecpds.model.tokens import parse_pieces
from ecpds.model.units import TimeRanges

OF_DESTINATION: Final = frozenset(
    {
        "scheduler.force",
        "scheduler.requeueon",
        "scheduler.requeuepattern",
        "scheduler.requeueignore",
        "scheduler.version",
        "incoming.version",
        "incoming.metadata",
        "incoming.tmpPattern",
    }
)
"""Options of a destination that may be marked as imported."""

OF_HOST: Final = frozenset({"directory", "ectrans.hostSelector"})
"""The same of a host."""

T = TypeVar("T")
Aliases = tuple[tuple[str, SettingRules[AliasSettings]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTexts:
    """What the rule texts of one destination say."""

    aliases: Aliases = ()
    force: SettingRules[ForceSettings] | None = None
    arbiter: Arbiter | None = None
    active_times: TimeRanges | None = None
    problems: Mapping[str, str] = field(default_factory=dict)  # by field, of imported texts


def compiled(destination: Destination, scheduler: SchedulerOptions) -> RuleTexts:
    """Compile the texts of a stored destination; what cannot be read becomes a problem."""
    problems: dict[str, str] = {}

    def kept(name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except InputError as error:
            problems[name] = error.message
            return None

    aliases = []
    for number, alias in enumerate(destination.aliases):
        reader = partial(parse_alias, alias.rule, legacy=alias.legacy)
        if (rule := kept(f"aliases.{number}", reader)) is not None:
            aliases.append((alias.to, rule))
    legacy = "scheduler.force" in destination.legacy
    force = scheduler.force
    ranges = scheduler.active_time_range
    return RuleTexts(
        aliases=tuple(aliases),
        force=kept("scheduler.force", lambda: parse_force(force, legacy=legacy)) if force else None,
        arbiter=kept("scheduler.requeueon", lambda: arbiter_of(scheduler)),
        active_times=kept("scheduler.activeTimeRange", lambda: TimeRanges.parse(ranges))
        if ranges
        else None,
        problems=problems,
    )


def arbiter_of(scheduler: SchedulerOptions) -> Arbiter | None:
    """Return the arbiter of duplicates, None without `requeueon`; RuleError."""
    if not scheduler.requeue_on.strip():
        return None
    pattern, ignore = scheduler.requeue_pattern, scheduler.requeue_ignore
    return Arbiter(
        Expression.parse(scheduler.requeue_on, VARIABLES),
        None if pattern in {"", ".*"} else compile_regex(pattern),
        compile_regex(ignore) if ignore else None,
    )


# --- at save -------------------------------------------------------------------------------------


def check_texts(destination: Destination, options: Mapping[str, str], where: Where) -> None:
    """Raise ConfigError at the place of the first text that cannot be read.

    Imported ones may stay as they are.
    """
    _check_legacy(destination.legacy, OF_DESTINATION, where.at("legacy"))
    for number, alias in enumerate(destination.aliases):
        _check_alias(destination.name, alias, where.at("aliases").at(number))
    scheduler, incoming = SchedulerOptions.read(options), IncomingOptions.read(options)
    for name, read in _readers(scheduler, incoming).items():
        if name in destination.legacy:
            continue
        _at(where.at("options").at(name), read)


def _check_legacy(names: Iterable[str], known: frozenset[str], where: Where) -> None:
    for number, name in enumerate(names):
        if name not in known:
            message = f"{name!r} is no field whose old meaning can be kept"
            raise where.at(number).error(message, nearest(name, known))


def check_host_legacy(names: Iterable[str], where: Where) -> None:
    """Raise ConfigError for a name that is no rule text of a host."""
    _check_legacy(names, OF_HOST, where.at("legacy"))


def _check_alias(name: str, alias: Alias, where: Where) -> None:
    if not alias.legacy:
        _at(where.at("rule"), lambda: parse_alias(alias.rule))
    if alias.to == name:
        raise where.at("to").error(f"destination {name} cannot be a copy of itself")


def _at(where: Where, read: Callable[[], object]) -> None:
    try:
        read()
    except ConfigError:
        raise
    except InputError as error:
        raise where.error(error.message) from None


def _readers(
    scheduler: SchedulerOptions, incoming: IncomingOptions
) -> dict[str, Callable[[], object]]:
    """Return how each text that is given is read, by option."""
    ranges, force = scheduler.active_time_range, scheduler.force
    return {
        "scheduler.activeTimeRange": lambda: TimeRanges.parse(ranges) if ranges else None,
        "scheduler.timeZone": lambda: parse_zone(scheduler.time_zone or "UTC"),
        "scheduler.force": lambda: parse_force(force) if force else None,
        "scheduler.requeueon": lambda: arbiter_of(_only_rule(scheduler)),
        "scheduler.requeuepattern": lambda: compile_regex(scheduler.requeue_pattern),
        "scheduler.requeueignore": lambda: compile_regex(scheduler.requeue_ignore),
        "scheduler.version": lambda: parse_pieces(scheduler.version, VERSION_TOKENS),
        "scheduler.dateformat": lambda: DatePattern.parse(scheduler.date_format),
        "incoming.version": lambda: parse_pieces(incoming.version, VERSION_TOKENS),
        "incoming.dateformat": lambda: DatePattern.parse(incoming.date_format),
        "incoming.tmpPattern": lambda: compile_regex(incoming.tmp_pattern),
        "incoming.metadata": lambda: _check_metadata(incoming.metadata),
    }


def _only_rule(scheduler: SchedulerOptions) -> SchedulerOptions:
    return SchedulerOptions(requeue_on=scheduler.requeue_on)


def _check_metadata(text: str) -> None:
    if not text.strip() or Script.find(text, VERSION_TOKENS) is not None:
        return
    rules = RuleSet.parse(text, policy=Policy.FIRST, vocabulary=VERSION_TOKENS)
    for rule in rules.rules:
        parse_pieces(rule.result, VERSION_TOKENS, place=rule.place)


def check_loops(aliases: Mapping[str, Iterable[Alias]], where: Mapping[str, Where]) -> None:
    """Raise ConfigError when recursive aliases lead back to where they began.

    `aliases` are those of all destinations as they would be, `where` tells of those being saved.
    A loop with one alias that is not recursive in it is none: copies end there.
    """
    for name, place in where.items():
        loop = alias_loop(name, aliases)
        if loop:
            path = " -> ".join(loop)
            raise place.at("aliases").error(f"recursive aliases lead in a circle: {path}")
