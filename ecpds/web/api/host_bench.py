"""What is tried at a host by hand: its network, scripts, files there; and its counters anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from aiohttp import web

from ecpds.engine import hostreport
from ecpds.engine.hostreport import AddressReport, Excerpt
from ecpds.model.decode import opt
from ecpds.store import stats
from ecpds.web import shown
from ecpds.web.api import answers, scripts
from ecpds.web.api.hosts import ONE, OPERATE, WRITE, check, tag
from ecpds.web.api.ruleforms import ScriptTry
from ecpds.web.api.schemas import Nothing
from ecpds.web.call import Call
from ecpds.web.routes import Route
from ecpds.web.shown import Document

HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """Which files at a host are to be looked into."""

    names: tuple[str, ...] = opt((), "Up to five files there; none: the first ones of `path`.")
    path: str = opt("", "Directory there.")
    lines: int = opt(20, "Most lines shown of each, out of its first 64 KiB.", low=1, high=200)


def _host(call: Call, right: str) -> str:
    name = call.name("host")
    check(call, right, name)
    call.services.core.snapshot.host(name)
    return name


async def report(call: Call) -> web.StreamResponse:
    """Connect to each address of the host; tell what was sent in the last hours."""
    name = _host(call, OPERATE)
    await call.decoded(Nothing)
    core = call.services.core
    found = await hostreport.report(core.snapshot.host(name), core.around)
    hour = core.clock.now().replace(minute=0, second=0, microsecond=0)
    hours = await core.store.read(
        stats.by_hour, name, since=hour - timedelta(hours=HOURS - 1), hours=HOURS
    )
    view = await call.services.hosts.view(name)
    return answers.as_json(
        {
            "host": name, "name": found.name, "port": found.port or None,
            "error": found.error or None, "addresses": [_address(one) for one in found.addresses],
            "breaker": shown.reason(view.breaker),
            "hours": [
                {"begin": shown.moment(one.begin), "files": one.files, "bytes": one.bytes,
                 "failed": one.failed, "seconds": round(one.duration.total_seconds(), 3)}
                for one in hours
            ],
        }
    )  # fmt: skip


def _address(one: AddressReport) -> Document:
    took = one.took
    return {
        "address": one.address, "family": one.family, "connected": len(took),
        "failed": one.failed, "best_ms": min(took, default=None),
        "average_ms": round(sum(took) / len(took), 2) if took else None,
        "worst_ms": max(took, default=None), "error": one.error or None,
    }  # fmt: skip


async def preview(call: Call) -> web.StreamResponse:
    """Show the first lines of files at the host."""
    name, asked = _host(call, OPERATE), await call.decoded(PreviewRequest)
    core = call.services.core
    found = await hostreport.excerpts(
        core.snapshot.host(name), core.around, names=asked.names, path=asked.path,
        lines=asked.lines,
    )  # fmt: skip
    return answers.as_json({"host": name, "files": [_excerpt(one) for one in found]})


def _excerpt(one: Excerpt) -> Document:
    return {
        "name": one.name, "size": one.size, "read": one.read, "text": one.is_text,
        "lines": list(one.lines), "start": one.start, "error": one.error or None,
    }  # fmt: skip


async def run_script(call: Call) -> web.StreamResponse:
    """Run a script with the values of this host; who may store one may try one."""
    name, asked = _host(call, WRITE), await call.decoded(ScriptTry)
    return answers.as_json(await scripts.run(call, replace(asked, host=name)))


async def reset_stats(call: Call) -> web.StreamResponse:
    """Count from nothing again."""
    name = _host(call, OPERATE)
    await call.decoded(Nothing)
    await call.services.hosts.reset_statistics(name, call.caller.actor)
    view = await call.services.hosts.view(name)
    return answers.one(call, shown.host(view), tag(view))


ROUTES: Final = (
    Route(method="POST", path=ONE + "/actions/report", right=OPERATE, handle=report,
          body="Nothing", answer="HostReport",
          summary="Connect to each of its addresses; tell what went there in the last day."),
    Route(method="POST", path=ONE + "/actions/preview", right=OPERATE, handle=preview,
          body="PreviewRequest", answer="HostPreview",
          summary="The first lines of up to five files there."),
    Route(method="POST", path=ONE + "/actions/run_script", right=WRITE, handle=run_script,
          body="ScriptTry", answer="Script", summary="Run a script with its values."),
    Route(method="POST", path=ONE + "/actions/reset_stats", right=OPERATE, handle=reset_stats,
          body="Nothing", answer="Host", summary="Count its connections and bytes from nothing."),
)  # fmt: skip
