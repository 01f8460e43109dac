"""Acquisition asked for by people: now, interrupted, dry, and a look into a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ecpds.engine import acquisition_dry
from ecpds.engine.acquisition_dry import LineReport, Report, Request
from ecpds.engine.acquisition_take import Row
from ecpds.model.decode import opt
from ecpds.model.entry import Entry
from ecpds.web.api import answers
from ecpds.web.api.hosts import ONE, OPERATE, check
from ecpds.web.call import Call
from ecpds.web.routes import Query, Route
from ecpds.web.shown import Document, moment

SEE: Final = "destinations:read"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquireRequest:
    """What a dry run looks at; without `dry_run` only the destination counts."""

    destination: str = opt("", "Only for that one; none: for all, a dry run for the first.")
    directory: str | None = opt(None, "Directory text to try; none: that of the host.")
    listing: str | None = opt(None, "Pasted listing lines; none: the host is asked.")
    names_only: bool = opt(False, "The listing has names, with size and time behind tabs.")
    limit: int = opt(1000, "Most entries told; all are counted.", low=0, high=10000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """A directory at a host."""

    path: str = opt("", "Path there.")
    limit: int = opt(1000, "Most entries.", low=1, high=10000)


def _host(call: Call) -> str:
    name = call.name("host")
    check(call, OPERATE, name)
    call.services.core.snapshot.host(name)
    return name


async def acquire(call: Call) -> web.StreamResponse:
    """Look for new files now, or tell what that would find."""
    name, asked = _host(call), await call.decoded(AcquireRequest)
    if asked.destination:
        call.services.core.snapshot.destination(asked.destination)
        call.caller.check(SEE, asked.destination)
    if call.flag("dry_run"):
        request = Request(
            host=name,
            destination=asked.destination,
            directory=asked.directory,
            listing=asked.listing,
            names_only=asked.names_only,
            limit=asked.limit,
        )
        core = call.services.core
        call.caller.check(SEE, acquisition_dry.destination_of(core, request))
        return answers.as_json(_report(await acquisition_dry.dry_run(core, request)))
    names = await call.services.hosts.acquire(
        name, call.caller.actor, destination=asked.destination
    )
    return answers.as_json({"host": name, "destinations": names}, status=202)


async def interrupt(call: Call) -> web.StreamResponse:
    """End the discoveries that run at a host."""
    name = _host(call)
    names = await call.services.hosts.interrupt(name, call.caller.actor)
    return answers.as_json({"host": name, "destinations": names})


async def look(call: Call) -> web.StreamResponse:
    """List a directory of a host."""
    name, asked = _host(call), await call.decoded(ListRequest)
    core = call.services.core
    found, more = await acquisition_dry.listing(core, name, asked.path, asked.limit)
    return answers.as_json(
        {"host": name, "path": asked.path, "truncated": more,
         "entries": [_entry(one) for one in found]}
    )  # fmt: skip


def _entry(one: Entry) -> Document:
    return {
        "name": one.name,
        "kind": one.kind.value,
        "size": one.size,
        "time": moment(one.mtime),
        "link": one.link or None,
        "error": one.error or None,
    }


def _report(found: Report) -> Document:
    run = found.run
    return {
        "host": found.host,
        "destination": found.destination,
        "lines": [_line(one) for one in found.lines],
        "listed": run.listed,
        "selected": run.selected,
        "outcomes": dict(run.outcomes),
        "errors": list(run.errors),
        "entries": [_row(one) for one in found.rows],
        "truncated": run.listed > len(found.rows),
    }


def _line(one: LineReport) -> Document:
    return {
        "line": one.line,
        "text": one.text,
        "path": one.path or None,
        "error": one.error or None,
    }


def _row(row: Row) -> Document:
    choice, known, made = row.choice, row.known, row.plan
    return _entry(choice.entry) | {
        "line": row.line,
        "outcome": row.outcome,
        "why": row.why or None,
        "original": choice.original or None,
        "target": choice.target or None,
        "key": None if row.key is None else dict(
            zip(("destination", "target", "version"), row.key, strict=True)
        ),
        "metadata": choice.metadata or None,
        "data_file": known.id if known is not None else None,
        "destinations": [one.destination for one in made.transfers] if made is not None else [],
    }  # fmt: skip


_DRY: Final = Query(name="dry_run", type="flag",
                    help="Tell what would be taken or not, and why; store nothing.")  # fmt: skip

ROUTES: Final = (
    Route(method="POST", path=ONE + "/actions/acquire", right=OPERATE, handle=acquire,
          query=(_DRY,), body="AcquireRequest", answer="HostAcquire", tried="AcquireReport",
          status=202,
          summary="Look for new files now; with dry_run tell what that would find."),
    Route(method="POST", path=ONE + "/actions/interrupt", right=OPERATE, handle=interrupt,
          body="Nothing", summary="End the discoveries that run.", answer="HostInterrupt"),
    Route(method="POST", path=ONE + "/actions/list", right=OPERATE, handle=look,
          body="ListRequest", summary="List a directory of the host now.", answer="HostListing"),
)  # fmt: skip
