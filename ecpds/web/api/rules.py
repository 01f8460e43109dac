"""`/rules`: what the rules make of a name, and whether a rule text can be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aiohttp import web

from ecpds.engine.preview import (
    AliasHit,
    Answer,
    Hit,
    HostPath,
    Question,
    check_text,
    preview,
    question_of,
)
from ecpds.engine.submit import Plan, PlannedTransfer, Submission
from ecpds.model.errors import InputError
from ecpds.model.place import Problem
from ecpds.web.api import answers
from ecpds.web.api.ruleforms import RulesTest, TextCheck
from ecpds.web.call import Call
from ecpds.web.routes import Route
from ecpds.web.shown import Document, moment, plain

READ: Final = "destinations:read"


# --- the question --------------------------------------------------------------------------------


async def question_for(call: Call, asked: RulesTest) -> Question:
    """Return what is asked, after checking that the caller may know the answer."""
    question = await _question(call, asked)
    submission = question.submission
    if not submission.destination:
        raise InputError("name a destination or a transfer", pointer="destination")
    if not submission.target:
        raise InputError("name a target or a transfer", pointer="target")
    call.caller.check(READ, submission.destination)
    if asked.alias_rule is not None:
        if not asked.alias_to:
            raise InputError("name the destination of the alias", pointer="alias_to")
        call.caller.check(READ, asked.alias_to)
        call.services.core.snapshot.destination(asked.alias_to)
    if asked.host:
        users = call.services.core.snapshot.users.get(asked.host, ())
        call.caller.check_any("hosts:read", users, f"Host {asked.host} not found")
    return question


async def _question(call: Call, asked: RulesTest) -> Question:
    one = file = None
    given = Submission(destination=asked.destination, target=asked.target)
    if asked.transfer is not None:
        one, file, metadata = await call.services.core.store.read(question_of, asked.transfer)
        missing = f"Transfer {asked.transfer} not found"
        call.caller.check("transfers:read", one.destination, missing)
        given = Submission(
            destination=one.destination,
            target=one.target,
            original=file.original,
            source=file.source,
            size=file.size,
            file_time=file.file_time,
            metadata=metadata,
            priority=one.priority,
            event=one.event,
            unique_name=one.unique_name,
            version="",
        )
        given = replace(given, destination=asked.destination or given.destination)
    is_real = not asked.target and not asked.destination and not asked.metadata
    return Question(
        submission=_with_fields(given, asked),
        transfer=one if is_real else None,
        file=file if is_real else None,
        host=asked.host,
        directory=asked.directory,
        force=asked.force,
        alias_to=asked.alias_to,
        alias_rule=asked.alias_rule,
        legacy=asked.legacy,
    )


def _with_fields(given: Submission, asked: RulesTest) -> Submission:
    """Return the submission with everything that was asked for on top of it."""
    fields = {
        "target": asked.target or None,
        "original": asked.original or None,
        "source": asked.source or None,
        "size": asked.size,
        "file_time": asked.file_time,
        "metadata": asked.metadata,
        "priority": asked.priority,
        "lifetime": asked.lifetime,
        "delay": asked.delay,
        "event": asked.event,
        "version": asked.version,
    }
    found = {name: value for name, value in fields.items() if value is not None}
    unique = given.unique_name if asked.version is None else None
    return replace(
        given, standby=asked.standby, unique_name=unique,
        **found,  # type: ignore[arg-type]  # each by its name
    )  # fmt: skip


async def test(call: Call) -> web.StreamResponse:
    """Tell what the rules make of a name."""
    question = await question_for(call, await call.decoded(RulesTest))
    return answers.as_json(document(call, await preview(call.services.core, question)))


async def check(call: Call) -> web.StreamResponse:
    """Tell whether a rule text can be read, and what is probably not meant."""
    asked = await call.decoded(TextCheck)
    problems = check_text(asked.kind, asked.text, legacy=asked.legacy)
    found = [_problem(asked.kind, one) for one in problems]
    return answers.as_json({"ok": not any(one.is_error for one in problems), "problems": found})


# --- the answer ----------------------------------------------------------------------------------


def document(call: Call, found: Answer) -> Document:
    """Return the answer as JSON; copies that the caller may not see are left out."""
    may_see = {name for name in _names(found) if call.caller.may_on(READ, name)}
    made = found.plan
    return {
        "destination": found.destination,
        "target": found.target,
        "key": None if made is None else dict(
            zip(("destination", "target", "version"), made.key, strict=True)
        ),
        "duplicates": [{"id": one.id, "destination": one.destination, "status": one.status.word}
                       for one in found.duplicates if call.caller.may_on(READ, one.destination)],
        "refused": {"code": found.refusal, "text": found.refused} if found.refused else None,
        "force": _hit(found.force),
        "transfers": [] if made is None else [
            _planned(made, one) for one in made.transfers if one.destination in may_see
        ],
        "aliases": [_alias(one) for one in found.aliases if {one.source, one.to} <= may_see],
        "metadata": dict(found.metadata),
        "product": plain(found.product),
        "hosts": [_path(one) for one in found.hosts],
        "problems": [_problem(name, one) for name, one in found.problems],
    }  # fmt: skip


def _names(found: Answer) -> set[str]:
    names = {found.destination}
    names |= {name for one in found.aliases for name in (one.source, one.to)}
    return names | {one.destination for one in (found.plan.transfers if found.plan else ())}


def _hit(one: Hit) -> Document:
    return {
        "line": one.line or None,
        "rule": one.rule,
        "applies": one.applies,
        "why": one.why or None,
    }


def _alias(one: AliasHit) -> Document:
    return {"from": one.source, "to": one.to, "target": one.target} | _hit(one.hit)


def _planned(made: Plan, one: PlannedTransfer) -> Document:
    return {
        "destination": one.destination,
        "target": one.target,
        "priority": one.priority,
        "scheduled": moment(one.scheduled_at),
        "expires": moment(one.expires_at),
        "standby": one.standby,
        "asap": one.asap,
        "event": one.event,
        "alias": one.is_alias,
        "no_retrieval": made.no_retrieval,
    }


def _path(one: HostPath) -> Document:
    how = one.how
    return {
        "host": one.host,
        "path": one.path or None,
        "error": one.error or None,
        "line": how.line if how is not None and how.line else None,
        "rule": how.rule if how is not None else "",
        "score": how.score if how is not None else 0,
        "default": how.is_default if how is not None else False,
        "tokens": dict(how.tokens) if how is not None else {},
        "appended": how.is_appended if how is not None else False,
    }


def _problem(name: str, one: Problem) -> Document:
    return {
        "field": name,
        "line": one.line,
        "column": one.column,
        "text": one.message,
        "error": one.is_error,
    }


ROUTES: Final = (
    Route(method="POST", path="/api/v2/rules/test", right=READ, handle=test, body="RulesTest",
          summary="What the rules make of a name: lines that hit, path, key, copies.",
          answer="RulesAnswer"),
    Route(method="POST", path="/api/v2/rules/check", right=READ, handle=check, body="TextCheck",
          summary="Whether a rule text can be read.", answer="TextProblems"),
)  # fmt: skip
