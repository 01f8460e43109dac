"""`datafile/…` and `monitoring/…`: files to be fetched, and what producers have reported."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from ecpds.engine.submit import Submission
from ecpds.model import units
from ecpds.model.errors import BadState, InputError, NotFound
from ecpds.model.metadata import parse_metadata
from ecpds.model.product import ProductEntry, ProductKey, ProductState
from ecpds.web.api.files import reached_file
from ecpds.web.apiv1.envelope import BASE, number, required, success, yes
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import Query, Route
from ecpds.web.shown import Document

WRITE: Final = "files:write"
PRODUCTS: Final = "products:read"
FILES: Final = BASE + "/datafile"
SUMMARY: Final = BASE + "/monitoring/summary/{product}/{time}"
DEPRECATED: Final = "@1767225600"  # 2026-01-01: a GET that writes (RFC 9745)
SUNSET: Final = "Thu, 31 Dec 2037 23:59:59 GMT"  # RFC 8594; the POST stays
_DIGITS: Final = re.compile(r"[0-9]{8}(?:[0-9]{2}){0,3}", re.ASCII)


async def put(call: Call) -> web.StreamResponse:
    """Register a file that is to be fetched from the destination's source host."""
    destination, source = required(call, "destination"), required(call, "source")
    call.caller.check(WRITE, destination)
    entry = call.services.core.snapshot.destination(destination)
    if not entry.destination.source_host:
        raise BadState(f"Destination {destination} has no source host", status="no-source")
    call.services.core.snapshot.host(entry.destination.source_host)
    base = source.rstrip("/").rpartition("/")[2]
    registered = await call.services.files.register(
        Submission(
            destination=destination,
            target=call.text("target") or base,
            source=source,
            original=source,
            version=call.text("uniquename") or None,
            metadata=parse_metadata(call.text("metadata")),
            priority=number(call, "priority", high=99) if call.text("priority") else 99,
            lifetime=_lifetime(call),
            at=_at(call),
            standby=yes(call, "standby"),
            on_duplicate="overwrite" if yes(call, "force") else "fail",
            submitter=call.caller.name,
            submitted_from=call.peer,
            caller="api",
        )
    )
    answer = success(id=registered.file)
    if call.request.method == "GET":
        answer.headers["Deprecation"] = DEPRECATED
        answer.headers["Sunset"] = SUNSET
        answer.headers["Link"] = f'<{FILES}/put>; rel="alternate"'
    return answer


def _lifetime(call: Call) -> timedelta | None:
    """Return a length of time; a bare number is hours, as in submissions of the original."""
    text = call.text("lifetime")
    if not text:
        return None
    try:
        if text.isascii() and text.isdigit():
            return timedelta(hours=int(text[:9]))
        return units.parse_duration(text)
    except (InputError, OverflowError):
        raise Refused(412, "parameter", "bad parameter: lifetime is no duration") from None


def _at(call: Call) -> datetime | None:
    """Return a start: RFC 3339, or digits from yyyyMMdd to yyyyMMddHHmmss, UTC."""
    text = call.text("at")
    if not text:
        return None
    if _DIGITS.fullmatch(text):
        try:
            return datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            raise Refused(412, "parameter", "bad parameter: at is no time") from None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise Refused(412, "parameter", "bad parameter: at is no time") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


async def size(call: Call) -> web.StreamResponse:
    """Return the size of a data file, -1 while it is unknown."""
    view = await reached_file(call, number(call, "id"), "files:read")
    return success(size=view.file.size)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a data file with all its transfers."""
    view = await reached_file(call, number(call, "id"), WRITE)
    if view.file.deleted:
        raise BadState("Already deleted", status="deleted")
    await call.services.files.delete(view.file.id, call.caller.actor)
    return success()


# --- products ------------------------------------------------------------------------------------


def _seconds(value: datetime | None) -> int | None:
    return None if value is None else int(value.timestamp())


def _step(entry: ProductEntry) -> Document:
    arrival = entry.updated_at if entry.state is ProductState.DONE else None
    early = None
    if entry.scheduled_at is not None and arrival is not None:
        early = (entry.scheduled_at - arrival) // timedelta(minutes=1)
    return {
        "product": entry.key.stream,
        "time": entry.key.time,
        "buffer": int(entry.buffer.total_seconds()),
        "step": entry.key.step,
        "type": entry.key.type or None,
        "status": entry.state.label,
        "arrivalTime": _seconds(arrival),
        "scheduledTime": _seconds(entry.scheduled_at),
        "lastUpdate": _seconds(entry.updated_at),
        "productTime": _seconds(entry.time_base),
        "minutesBeforeSchedule": early,
    }


async def summary(call: Call) -> web.StreamResponse:
    """Return where the steps of a product and time are."""
    product, time = call.name("product"), call.name("time")
    found = await call.services.products.current(stream=product, time=time)
    if not found:
        raise NotFound(f"Product {product} {time} not found")
    return success(stepStatusList=[_step(one) for one in found])


async def step(call: Call) -> web.StreamResponse:
    """Return all reports of one step."""
    text, kind = call.name("step"), call.name("type")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(412, "parameter", "bad parameter: step is no number")
    key = ProductKey(stream=call.name("product"), time=call.name("time"), step=int(text),
                     type="" if kind == "-" else kind)  # fmt: skip
    found = await call.services.products.history(key)
    return success(stepStatusHistoryList=[_step(one) for one in found])


_PUT: Final = (
    Query(name="destination", help="Name of the destination."),
    Query(name="source", help="Path at its source host."),
    Query(name="uniquename", help="Tells equal targets apart."),
    Query(name="target", help="Name at the destination; default: the last part of the source."),
    Query(name="metadata", help="a=b,c=d"),
    Query(name="priority", help="0 first to 99 last (default)."),
    Query(name="lifetime", help="How long it is kept, such as 2d; a bare number is hours."),
    Query(name="at", help="Start: RFC 3339, or yyyyMMddHHmmss UTC."),
    Query(name="standby", help="yes: wait for a release."),
    Query(name="force", help="yes: replace a file of the same target and unique name."),
)
_ID: Final = Query(name="id", help="Number of the data file.")

ROUTES: Final = (
    *(
        Route(method=method, path=FILES + "/put", right=WRITE, services=("datafilePut",),
              kind="v1", handle=put, query=_PUT, summary="Register a file to be fetched.")
        for method in ("GET", "POST")
    ),
    Route(method="GET", path=FILES + "/size", right="files:read", services=("datafileSize",),
          kind="v1", handle=size, query=(_ID,), summary="Size of a data file."),
    Route(method="DELETE", path=FILES + "/del", right=WRITE, services=("datafileDel",), kind="v1",
          handle=delete, query=(_ID,), summary="Delete a data file with its transfers."),
    Route(method="GET", path=SUMMARY, right=PRODUCTS, kind="v1", handle=summary,
          summary="Where the steps of a product are."),
    Route(method="GET", path=SUMMARY + "/{step}/{type}", right=PRODUCTS, kind="v1", handle=step,
          summary="All reports of one step."),
)  # fmt: skip
