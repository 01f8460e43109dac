"""The console of an acquisition host: run now, interrupt, and what a look would take and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from ecpds.engine import acquisition_dry
from ecpds.engine.acquisition_dry import Report, Request
from ecpds.model.errors import BadState, Denied, EcpdsError, NotFound
from ecpds.model.host import HostRole
from ecpds.model.selection import Outcome
from ecpds.web.call import Call
from ecpds.web.display import Look
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import show
from ecpds.web.pages.host_form import READ, may, seen
from ecpds.web.pages.hosts import discoveries, look_of, read_clocks

ACT: Final = "hosts:operate"
MOST: Final = 500  # entries shown; all are counted
LOOKS: Final[Mapping[str, Look]] = {
    Outcome.SELECTED: Look("Taken", "check", "good"),
    Outcome.EXISTS: Look("Exists", "idle", "off"),
}
BAD: Final = {Outcome.ERROR, Outcome.UNREADABLE, Outcome.BAD_NAME, Outcome.REQUEUE_ERROR,
              Outcome.REGISTRATION_ERROR, Outcome.DELETE_ERROR}  # fmt: skip


def look_at(outcome: str) -> Look:
    """Return how the verdict on an entry is shown."""
    if outcome in LOOKS:
        return LOOKS[outcome]
    word = outcome[:1].upper() + outcome[1:]
    return Look(word, "cross", "bad") if outcome in BAD else Look(word, "off", "warn")


async def _page(
    call: Call, typed: Mapping[str, str], report: Report | None = None, problem: str = ""
) -> web.Response:
    view = await seen(call)
    if view.host.role is not HostRole.ACQUISITION:
        raise NotFound(f"Host {view.host.name} is no acquisition host")
    services = call.services
    clocks = await services.core.store.read(read_clocks, view.host.name, view.destinations)
    values: dict[str, Any] = {}
    if report is not None:
        counts = sorted(report.run.outcomes.items(), key=lambda pair: -pair[1])
        values = {"counts": [(look_at(word), number) for word, number in counts],
                  "rows": [(row, look_at(row.outcome)) for row in report.rows]}  # fmt: skip
    return show(
        call,
        "pages/host_console.html",
        status=422 if problem else 200,
        topics=(f"host:{view.host.name}",),
        view=view,
        tab="console",
        look=look_of(view, services.engine),
        discoveries=discoveries(call, view, clocks),
        typed=typed,
        report=report,
        problem=problem,
        may_act=may(call, ACT, view),
        may_write=may(call, "hosts:write", view),
        destinations=[name for name in view.destinations
                      if call.caller.may_on("destinations:read", name)],
        most=MOST,
        **values,
    )  # fmt: skip


async def console(call: Call) -> web.Response:
    """What runs, and a form for a dry run."""
    return await _page(call, {})


async def look(call: Call) -> web.Response:
    """Tell what a discovery would take; nothing is stored, fetched or deleted."""
    view = await seen(call, ACT)
    form = await call.form()
    core = call.services.core
    is_pasted = form.get("from") == "pasted"
    text = form.get("directory", "").replace("\r\n", "\n")
    request = Request(
        host=view.host.name,
        destination=form.get("destination", ""),
        directory=None if text.strip() == view.host.directory.strip() else text,
        listing=form.get("listing", "").replace("\r\n", "\n") if is_pasted else None,
        names_only=bool(form.get("names_only")),
        limit=MOST,
    )
    try:
        if request.destination:
            core.snapshot.destination(request.destination)
        call.caller.check("destinations:read", acquisition_dry.destination_of(core, request))
        report = await acquisition_dry.dry_run(core, request)
    except (Denied, NotFound):
        raise
    except (EcpdsError, BadState) as error:
        return await _page(call, form, problem=error.message)
    return await _page(call, form, report)


ROUTES: Final = (
    get("/hosts/{name}/console", READ, console, "What an acquisition host does."),
    post("/hosts/{name}/console", ACT, look, "A dry run."),
)
