"""`/scripts/try`: runs a script with the values of a real or hand-written transfer."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from ecpds.engine.core import HostEntry
from ecpds.engine.paths import values_of
from ecpds.engine.preview import TRIED, question_of, transfer_of
from ecpds.engine.submit import Submission, plan
from ecpds.model.errors import InputError
from ecpds.model.host import Host
from ecpds.model.script import Script
from ecpds.model.template import TOKENS, TargetValues
from ecpds.web.api import answers
from ecpds.web.api.ruleforms import ScriptTry
from ecpds.web.call import Call
from ecpds.web.routes import Route

RIGHT: Final = "hosts:write"  # who may store a script may try one


async def _values(call: Call, asked: ScriptTry) -> TargetValues | None:
    """Return the values of the transfer that was named, None without one."""
    core = call.services.core
    now, snapshot = core.clock.now(), core.snapshot
    host = HostEntry(host=Host(name=TRIED), access=None)
    if asked.host:
        users = snapshot.users.get(asked.host, ())
        call.caller.check_any("hosts:read", users, f"Host {asked.host} not found")
        host = snapshot.host(asked.host)
    if asked.transfer is not None:
        one, file, metadata = await core.store.read(question_of, asked.transfer)
        call.caller.check("transfers:read", one.destination, f"Transfer {asked.transfer} not found")
        entry = snapshot.destination(one.destination)
        return values_of(one, file, metadata, entry, host, node=core.node, now=now)
    if not asked.destination:
        return None
    call.caller.check("destinations:read", asked.destination)
    given = Submission(
        destination=asked.destination, target=asked.target, metadata=asked.metadata or {}
    )
    made = plan(given, snapshot, now)
    one = transfer_of(made, made.transfers[0], now)
    entry = snapshot.destination(asked.destination)
    return values_of(one, made.file, given.metadata, entry, host, node=core.node, now=now)


async def attempt(call: Call) -> web.StreamResponse:
    """Run a script; a failure of it is an answer, not an error."""
    return answers.as_json(await run(call, await call.decoded(ScriptTry)))


async def run(call: Call, asked: ScriptTry) -> dict[str, Any]:
    """Run a script and return what came of it; InputError when there is none."""
    if not asked.code.strip():
        raise InputError("there is no script", pointer="code")
    values = await _values(call, asked)
    tokens: dict[str, Any] = dict(values.tokens) if values is not None else {}
    text = asked.code.strip()
    if not (text.startswith("$(") and text.endswith(")")):
        text = f"$({'js' if asked.language == 'javascript' else 'python'}:{asked.code})"
    script = Script.find(text, TOKENS)
    if script is None:
        raise InputError("that is no script", pointer="code")
    found: dict[str, Any] = {"ok": False, "value": None, "text": None, "output": "", "error": None}
    try:
        code = (
            script.source(values.tokens, values.dates) if values is not None else script.source({})
        )
        result = await call.services.core.scripts.run(
            script.language, code, tokens | asked.variables
        )
        found |= {"value": result.value, "output": result.output}
        found |= {"text": result.text, "ok": True}
    except InputError as error:
        found["error"] = error.message
    return found


ROUTES: Final = (
    Route(method="POST", path="/api/v2/scripts/try", right=RIGHT, handle=attempt, body="ScriptTry",
          summary="Run a script with the values of a real or hand-written transfer.",
          answer="Script"),
)  # fmt: skip
