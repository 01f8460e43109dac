"""What the rules make of a name, without storing anything: which line hits, path, key, copies.

The answer comes from the same functions that a submission and an attempt use; texts that are not
saved yet can stand in for those of the destination and its hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from ecpds.engine.core import Core, DestinationEntry, HostEntry, Snapshot
from ecpds.engine.paths import template_of, values_of
from ecpds.engine.submit import Plan, PlannedTransfer, Submission, plan
from ecpds.model.arbitration import VARIABLES
from ecpds.model.directory import check_directory
from ecpds.model.errors import EcpdsError, InputError, NotFound
from ecpds.model.expression import Expression
from ecpds.model.host import Host, HostRole
from ecpds.model.metadata import product_of
from ecpds.model.place import Problem
from ecpds.model.rulesettings import (
    AliasSettings,
    ForceSettings,
    SettingRules,
    parse_alias,
    parse_force,
)
from ecpds.model.status import TransferStatus
from ecpds.model.targets import normal_target
from ecpds.model.template import Explanation, TargetValues, Template, check_template, render
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import files, transfers
from ecpds.store.db import Connection

R = TypeVar("R", AliasSettings, ForceSettings)
TRIED: Final = "(tried)"
"""Name of the host that a tried directory text belongs to when no host is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked; a None text stands for what is stored."""

    submission: Submission
    transfer: Transfer | None = None  # a real one
    file: DataFile | None = None
    host: str = ""  # only this one
    directory: str | None = None
    force: str | None = None
    alias_to: str = ""
    alias_rule: str | None = None
    legacy: bool = False  # the texts keep their old meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """The line of a rule text that was taken; line 0 when none was."""

    line: int = 0
    rule: str = ""
    applies: bool = False
    why: str = ""  # it does not


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasHit:
    """What one alias says of the name as it is there."""

    source: str
    to: str
    target: str  # the name that its rule saw
    hit: Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPath:
    """Where the file would go on one host."""

    host: str
    path: str = ""
    how: Explanation | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything the rules say."""

    destination: str
    target: str
    force: Hit
    aliases: Sequence[AliasHit]
    hosts: Sequence[HostPath]
    plan: Plan | None
    refused: str  # why a submission would be refused
    refusal: str  # code of that
    duplicates: Sequence[Transfer] = ()
    product: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[tuple[str, Problem]] = ()  # of tried texts, by field


def question_of(db: Connection, number: int) -> tuple[Transfer, DataFile, dict[str, str]]:
    """Read a real transfer with its file and metadata; NotFound."""
    one = transfers.get(db, number)
    file = files.get(db, one.data_file) if one is not None else None
    if one is None or file is None:
        raise NotFound(f"Transfer {number} not found")
    return one, file, files.metadata(db, file.id)


async def preview(core: Core, question: Question) -> Answer:
    """Answer; NotFound for a destination or host, RuleError never: it becomes a problem."""
    now = core.clock.now()
    snapshot, problems = _tried(core.snapshot, question)
    submission = question.submission
    entry = snapshot.destination(submission.destination)
    made, refused, refusal = _planned(submission, snapshot, now)
    target = _target(submission)
    found: Sequence[Transfer] = ()
    if made is not None:
        found = await core.store.read(transfers.with_key, made.key)
    return Answer(
        destination=entry.name,
        target=target,
        force=_hit(entry.force, target),
        aliases=tuple(_aliases(snapshot, entry.name, target, now)),
        hosts=await _paths(core, snapshot, entry, question, made, now),
        plan=made,
        refused=refused,
        refusal=refusal,
        duplicates=found,
        product=_product(submission, now),
        metadata=dict(submission.metadata),
        problems=problems,
    )


def _target(submission: Submission) -> str:
    try:
        return normal_target(
            submission.target, source=submission.source or submission.original or submission.target
        )
    except InputError:
        return submission.target


def _planned(
    submission: Submission, snapshot: Snapshot, now: datetime
) -> tuple[Plan | None, str, str]:
    try:
        return plan(submission, snapshot, now), "", ""
    except EcpdsError as error:
        return None, error.message, error.code


def _product(submission: Submission, now: datetime) -> Mapping[str, Any]:
    try:
        product = product_of(submission.metadata, file_time=submission.file_time, now=now)
    except InputError:
        return {}
    return {
        "time_base": product.time_base,
        "time_step": product.time_step if product.time_step >= 0 else None,
        "stream": product.stream,
        "target": product.target,
        "time": product.time,
        "type": product.type,
    }


# --- texts that are not saved --------------------------------------------------------------------


def _tried(snapshot: Snapshot, question: Question) -> tuple[Snapshot, list[tuple[str, Problem]]]:
    """Return the configuration with the tried texts in place of the stored ones."""
    name = question.submission.destination
    entry = snapshot.destination(name)
    problems: list[tuple[str, Problem]] = []
    hosts = dict(snapshot.hosts)
    if question.force is not None:
        try:
            force = parse_force(question.force, legacy=question.legacy)
            entry = replace(entry, force=force if question.force.strip() else None)
        except InputError as error:
            problems.append(("force", Problem.of(error, 1)))
    if question.alias_rule is not None:
        entry = _with_alias(entry, question, problems)
    if question.directory is not None:
        host = _with_directory(hosts, question, problems)
        hosts[host.name] = host
    destinations = {**snapshot.destinations, name: entry}
    return replace(snapshot, destinations=destinations, hosts=hosts), problems


def _with_alias(
    entry: DestinationEntry, question: Question, problems: list[tuple[str, Problem]]
) -> DestinationEntry:
    to, text = question.alias_to, question.alias_rule or ""
    try:
        rule = parse_alias(text, legacy=question.legacy)
    except InputError as error:
        problems.append(("alias", Problem.of(error, 1)))
        return entry
    others = tuple(pair for pair in entry.aliases if pair[0] != to)
    return replace(entry, aliases=(*others, (to, rule)))


def _with_directory(
    hosts: Mapping[str, HostEntry], question: Question, problems: list[tuple[str, Problem]]
) -> HostEntry:
    text = question.directory or ""
    entry = hosts.get(question.host) or HostEntry(host=Host(name=TRIED), access=None)
    problems += [("directory", one) for one in check_template(text, legacy=question.legacy)]
    template = None
    if not any(one.is_error for _, one in problems):
        template = Template.parse(text, legacy=question.legacy)
    return replace(entry, template=template, directory_only=None, problem="")


# --- which line hits -----------------------------------------------------------------------------


def _hit(rules: SettingRules[R] | None, target: str) -> Hit:
    if rules is None:
        return Hit(why="no rules")
    try:
        chosen = rules.rules.choose(target)
    except InputError as error:
        return Hit(why=error.message)
    if chosen is None:
        return Hit(why="no line holds")
    rule = chosen.rule
    applies = rules.choose(target) is not None
    why = "" if applies else "its pattern or ignore disagrees"
    return Hit(line=rule.place.line, rule=rule.text, applies=applies, why=why)


def _aliases(snapshot: Snapshot, name: str, target: str, now: datetime) -> Iterator[AliasHit]:
    """Walk the aliases as a submission does, and tell of those that copy nothing too."""
    seen, waiting = {name}, [(name, target)]
    while waiting:
        here, present = waiting.pop(0)
        for to, rules in snapshot.alias_rules(here):
            hit = _hit(rules, present)
            if hit.applies and to in seen:
                hit = replace(hit, applies=False, why=f"{to} has it already")
            yield AliasHit(source=here, to=to, target=present, hit=hit)
            settings = rules.choose(present)
            if not hit.applies or settings is None:
                continue
            seen.add(to)
            if settings.recursive:
                try:
                    copy = settings.new_target(present, destination=here, alias=to, now=now)
                except InputError:
                    continue  # the plan tells
                waiting.append((to, copy))


# --- remote paths --------------------------------------------------------------------------------


async def _paths(
    core: Core,
    snapshot: Snapshot,
    entry: DestinationEntry,
    question: Question,
    made: Plan | None,
    now: datetime,
) -> list[HostPath]:
    one, file = question.transfer, question.file
    if made is not None and (one is None or file is None):
        one = transfer_of(made, made.transfers[0], now)
        file = made.file
    if one is None or file is None:
        return []
    metadata = question.submission.metadata
    return [
        await _path(
            core, host, values_of(one, file, metadata, entry, host, node=core.node, now=now),
            legacy=question.legacy or "directory" in host.host.legacy,
        )
        for host in _hosts(snapshot, entry, question)
    ]  # fmt: skip


async def _path(core: Core, host: HostEntry, values: TargetValues, *, legacy: bool) -> HostPath:
    if host.template is None:
        return HostPath(host=host.name, error=host.problem or "the directory cannot be read")
    try:
        template = await template_of(core.scripts, host.template, values, legacy=legacy)
        path, how = render(template, values)
    except InputError as error:
        return HostPath(host=host.name, error=error.message)
    return HostPath(host=host.name, path=path, how=how)


def _hosts(snapshot: Snapshot, entry: DestinationEntry, question: Question) -> list[HostEntry]:
    if question.host:
        return [snapshot.host(question.host)]
    if question.directory is not None:
        return [snapshot.hosts[TRIED]]
    return snapshot.hosts_of(entry.name, HostRole.DISSEMINATION)


def transfer_of(made: Plan, one: PlannedTransfer, now: datetime) -> Transfer:
    """Return the transfer that a submission would make."""
    return Transfer(
        id=0,
        destination=one.destination,
        data_file=0,
        target=one.target,
        unique_name=made.key[2],
        identity=made.identity,
        priority=one.priority,
        status=TransferStatus.WAIT,
        scheduled_at=one.scheduled_at,
        queue_at=one.scheduled_at,
        due_at=one.scheduled_at,
        expires_at=one.expires_at,
        created_at=now,
        asap=one.asap,
        event=one.event,
    )


def check_text(kind: str, text: str, *, legacy: bool = False) -> list[Problem]:
    """Return errors and warnings of one rule text, for editors.

    `kind`: directory, listing (directory of an acquisition host), force, alias, requeueon.
    """
    if kind == "directory":
        return check_template(text, legacy=legacy)
    if kind == "listing":
        return check_directory(text, legacy=legacy)
    try:
        if kind == "requeueon":
            Expression.parse(text, VARIABLES)
        elif kind == "force":
            parse_force(text, legacy=legacy)
        else:
            parse_alias(text, legacy=legacy)
    except InputError as error:
        return [Problem.of(error, 1)]
    return []
