"""The bench of a host: what its rules make of a name, and scripts with the values of a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from ecpds.engine.preview import preview
from ecpds.model.decode import Where, decode
from ecpds.model.errors import Denied, EcpdsError, InputError
from ecpds.model.host import HostRole
from ecpds.model.metadata import parse_metadata
from ecpds.web.api import rules, scripts
from ecpds.web.api.ruleforms import RulesTest, ScriptTry
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import show
from ecpds.web.pages.host_form import READ, may, seen
from ecpds.web.pages.hosts import look_of

WRITE: Final = "hosts:write"
NAMED: Final = ("destination", "target", "original", "source", "size", "version", "force")


async def _page(call: Call, typed: Mapping[str, str], **values: Any) -> web.Response:
    view = await seen(call)
    given: dict[str, Any] = {"answer": None, "result": None, "problem": ""} | values
    return show(
        call,
        "pages/host_script.html",
        status=422 if given["problem"] else 200,
        view=view,
        tab="script",
        look=look_of(view, call.services.engine),
        typed=typed,
        destinations=[name for name in view.destinations
                      if call.caller.may_on("destinations:read", name)],
        is_target=view.host.role is HostRole.DISSEMINATION,
        may_write=may(call, WRITE, view),
        **given,
    )  # fmt: skip


async def bench(call: Call) -> web.Response:
    """Empty forms."""
    return await _page(call, {})


def _number(text: str, what: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{what}: {text[:40]!r} is no number", pointer=what)
    return int(text)


async def try_rules(call: Call) -> web.Response:
    """Tell what the rules make of a name; nothing is stored."""
    view = await seen(call)
    form = {key: text.replace("\r\n", "\n") for key, text in (await call.form()).items()}
    try:
        asked: dict[str, Any] = {key: form[key] for key in NAMED if form.get(key)}
        asked["transfer"] = _number(form.get("transfer", "").strip(), "transfer")
        if form.get("metadata"):
            asked["metadata"] = dict(parse_metadata(form["metadata"], lenient=True))
        text = form.get("directory", "")
        if text.strip() != view.host.directory.strip():
            asked["directory"] = text
        question = await rules.question_for(
            call, decode(RulesTest, asked | {"host": view.host.name}, Where())
        )
        answer = rules.document(call, await preview(call.services.core, question))
    except Denied:
        raise
    except EcpdsError as error:
        return await _page(call, form, problem=error.message)
    return await _page(call, form, answer=answer)


async def try_script(call: Call) -> web.Response:
    """Run a script; who may store one may try one."""
    view = await seen(call, WRITE)
    form = {key: text.replace("\r\n", "\n") for key, text in (await call.form()).items()}
    try:
        asked: dict[str, Any] = {"code": form.get("code", ""), "host": view.host.name}
        asked |= {key: form[key] for key in ("language", "destination", "target") if form.get(key)}
        asked["transfer"] = _number(form.get("transfer", "").strip(), "transfer")
        result = await scripts.run(call, decode(ScriptTry, asked, Where()))
    except Denied:
        raise
    except EcpdsError as error:
        return await _page(call, form, problem=error.message)
    return await _page(call, form, result=result)


ROUTES: Final = (
    get("/hosts/{name}/script", READ, bench, "Rules and scripts are tried out."),
    post("/hosts/{name}/script/rules", READ, try_rules, "What the rules make of a name."),
    post("/hosts/{name}/script/run", WRITE, try_script, "Run a script."),
)
