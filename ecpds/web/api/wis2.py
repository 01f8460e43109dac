"""`/wis2`: discovery records of the node, a checker of messages, a test of the node itself."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from ecpds.model.wis2_check import Finding
from ecpds.store.wis2 import Record
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import Wis2Message, Wis2Test
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import CURSOR, DRY_RUN, FIELDS, LIMIT, Route

READ: Final = "notify:read"
OPERATE: Final = "notify:operate"
WRITE: Final = "notify:write"
ALL: Final = "/api/v2/wis2/records"
ONE: Final = ALL + "/{record}"


def _tag(record: Record) -> str:
    return f'"{record.version}"'


def _row(record: Record) -> dict[str, Any]:
    document = json.loads(record.text)
    return {
        "id": record.id,
        "title": str(document["properties"].get("title", "")),
        "changed": shown.moment(record.changed_at),
        "announced": shown.moment(record.announced_at),
    }


def _finding(one: Finding) -> dict[str, str]:
    return {"requirement": one.requirement, "severity": one.severity, "text": one.text}


async def index(call: Call) -> web.StreamResponse:
    """List the discovery records."""
    found = await call.services.wis2.records()
    return answers.named(call, {one.id: _row(one) for one in found})


async def get(call: Call) -> web.StreamResponse:
    """Return one record as it is served."""
    found = await call.services.wis2.get(call.name("record"))
    return answers.one(call, json.loads(found.text), _tag(found))


async def create(call: Call) -> web.StreamResponse:
    """Store a new record and announce it."""
    call.caller.check_everywhere(WRITE)
    document, dry_run = await call.document(), call.flag("dry_run")
    made = await call.services.wis2.put(
        document, call.caller.actor, must_be_new=True, dry_run=dry_run
    )
    if dry_run:
        return answers.tried(call, document)
    return answers.one(call, document, _tag(made), status=201, location=f"{ALL}/{made.id}")


async def put(call: Call) -> web.StreamResponse:
    """Create or replace a record and announce the change."""
    call.caller.check_everywhere(WRITE)
    name, document = call.name("record"), await call.document()
    if document.setdefault("id", name) != name:
        raise Refused(400, "invalid-input", "the id is not that of the address", pointer="/id")
    known = {one.id: one for one in await call.services.wis2.records()}
    old = known.get(name)
    if old is not None and not call.must_be_new:
        call.check_match(_tag(old))
    dry_run = call.flag("dry_run")
    made = await call.services.wis2.put(
        document,
        call.caller.actor,
        must_be_new=old is None or call.must_be_new,
        if_version=old.version if old is not None else None,
        dry_run=dry_run,
    )
    if dry_run:
        return answers.tried(call, document)
    status = 201 if old is None else 200
    return answers.one(call, document, _tag(made), status=status)


async def delete(call: Call) -> web.StreamResponse:
    """Withdraw a record."""
    call.caller.check_everywhere(WRITE)
    found = await call.services.wis2.get(call.name("record"))
    call.check_match(_tag(found))
    if not call.flag("dry_run"):
        await call.services.wis2.delete(found.id, call.caller.actor)
    return answers.nothing()


async def announce(call: Call) -> web.StreamResponse:
    """Announce a record once more."""
    call.caller.check_everywhere(OPERATE)
    await call.services.wis2.announce(call.name("record"), call.caller.actor)
    return answers.nothing()


async def validate(call: Call) -> web.StreamResponse:
    """Check a message: one finding for each requirement."""
    asked = await call.decoded(Wis2Message)
    found = call.services.wis2.validate(asked.message, asked.topic)
    wrong = any(one.severity == "error" for one in found)
    return answers.one(call, {"valid": not wrong, "findings": [_finding(one) for one in found]})


async def selftest(call: Call) -> web.StreamResponse:
    """Look at this node as a Global Broker and a Global Cache do."""
    call.caller.check_everywhere(OPERATE)
    asked = await call.decoded(Wis2Test)
    found = await call.services.wis2.selftest(asked.login, asked.password)
    wrong = any(one.severity == "error" for one in found)
    return answers.one(call, {"valid": not wrong, "findings": [_finding(one) for one in found]})


ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=(LIMIT, CURSOR, FIELDS),
          summary="Discovery records of this node.", answer="[Wis2RecordRow]"),
    Route(method="POST", path=ALL, right=WRITE, handle=create, query=(DRY_RUN, FIELDS),
          body="Wis2Record", answer="Wis2Record", status=201,
          summary="A new discovery record (WCMP 2), announced when it is stored."),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,), answer="Wis2Record",
          summary="One discovery record as it is served."),
    Route(method="PUT", path=ONE, right=WRITE, handle=put, query=(DRY_RUN, FIELDS),
          body="Wis2Record", answer="Wis2Record", needs_match=True,
          summary="Create or replace a discovery record and announce the change."),
    Route(method="DELETE", path=ONE, right=WRITE, handle=delete, status=204, needs_match=True,
          query=(DRY_RUN,),
          summary="Withdraw a discovery record and tell so."),
    Route(method="POST", path=ONE + "/actions/announce", right=OPERATE, handle=announce,
          status=204, summary="Announce a discovery record once more."),
    Route(method="POST", path="/api/v2/wis2/validate", right=READ, handle=validate,
          body="Wis2Message", query=(FIELDS,), answer="Wis2Report",
          summary="Check a WIS2 message: one finding for each requirement."),
    Route(method="POST", path="/api/v2/wis2/selftest", right=OPERATE, handle=selftest,
          body="Wis2Test", query=(FIELDS,), answer="Wis2Report",
          summary="Look at this node as a Global Broker does and tell what is wrong."),
)  # fmt: skip
