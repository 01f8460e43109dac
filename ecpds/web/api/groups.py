"""`/groups`: batches of registered files; `/retrieval`: their fetching as a whole."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.groups import GroupView
from ecpds.engine.operations.retrievals import RetrievalView
from ecpds.store.groups import Group, GroupFile
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import Nothing, RetrievalChange
from ecpds.web.call import Call
from ecpds.web.errors import Refused
from ecpds.web.routes import FIELDS, PAGED, Query, Route

READ: Final = "files:read"
ADMIN: Final = "system:admin"
ALL: Final = "/api/v2/groups"
ONE: Final = ALL + "/{group}"
RETRIEVAL: Final = "/api/v2/retrieval"
KINDS: Final = ("all", "waiting", "failed", "trouble")


def group_of(group: Group) -> shown.Document:
    """Return how far a batch is."""
    return {
        "name": group.name,
        "files": group.files,
        "done": group.done,
        "waiting": group.waiting,
        "failed": group.failed,
        "retrying": group.trouble - group.failed if group.trouble > group.failed else 0,
        "bytes": group.bytes,
        "complete": group.waiting == 0,
        "since": shown.moment(group.first_at),
    }


def file_of(one: GroupFile, received: int | None = None) -> shown.Document:
    """Return one file of a batch."""
    state = "stored" if one.stored else "waiting" if one.waits else "failed"
    return {
        "data_file_id": one.id,
        "source": one.source,
        "size": one.size if one.size >= 0 else None,
        "state": state,
        "host": one.host or None,
        "submitter": one.submitter or None,
        "from": one.submitted_from or None,
        "tries": one.tries,
        "received": received,
        "reason": shown.reason(one.reason),
    }


def status_of(view: GroupView) -> shown.Document:
    """Return a batch with the files that somebody who waits wants to know of."""
    return group_of(view.group) | {
        "waiting_files": [file_of(one, view.moved.get(one.id)) for one in view.waiting],
        "failed_files": [file_of(one) for one in view.failed],
    }


async def check_group(call: Call, name: str) -> None:
    """Raise NotFound or Denied unless the caller may know of that batch."""
    if not call.caller.may_everywhere(READ):
        names = await call.services.groups.destinations(name)
        call.caller.check_any(READ, names, f"Group {name} not found")


async def index(call: Call) -> web.StreamResponse:
    """List batches by name."""
    call.caller.check_everywhere(READ)
    limit = call.limit
    found = await call.services.groups.page(after=call.cursor, limit=limit + 1)
    after = found[limit - 1].name if len(found) > limit else None
    return answers.page(call, [group_of(one) for one in found[:limit]], after)


async def get(call: Call) -> web.StreamResponse:
    """Return one batch: counts, what failed, and what is still to come when that is little."""
    name = call.name("group")
    await check_group(call, name)
    return answers.one(call, status_of(await call.services.groups.view(name)))


async def members(call: Call) -> web.StreamResponse:
    """List the files of a batch by id."""
    name, which = call.name("group"), call.text("state", "all")
    await check_group(call, name)
    if which not in KINDS:
        raise Refused(400, "bad-parameter", f"state: {which!r} is none of {', '.join(KINDS)}")
    limit = call.limit
    found = await call.services.groups.members(
        name, which=which, after=call.before or 0, limit=limit + 1
    )
    after = found[limit - 1].id if len(found) > limit else None
    return answers.page(call, [file_of(one) for one in found[:limit]], after)


def retrieval_of(view: RetrievalView) -> shown.Document:
    """Return retrieval as it is now."""
    return {
        "stopped": view.control.stopped,
        "streams": view.streams,
        "running": view.running,
        "stream_timeout": shown.plain(view.control.stall),
    }


async def retrieval(call: Call) -> web.StreamResponse:
    """Return whether retrieval runs, how much, and its limits."""
    view = await call.services.retrievals.view()
    return answers.one(call, retrieval_of(view), _limits_tag(view))


def _limits_tag(view: RetrievalView) -> str:
    """Return the tag of what a person may change; what runs does not change it."""
    return shown.etag_of([view.streams, shown.plain(view.control.stall), view.control.stopped])


async def tune(call: Call) -> web.StreamResponse:
    """Change the limits of retrieval; If-Match is honoured, and may be left out."""
    given = await call.decoded(RetrievalChange)
    call.check_match(_limits_tag(await call.services.retrievals.view()), optional=True)
    view = await call.services.retrievals.set(
        call.caller.actor, streams=given.streams, stall=given.stream_timeout
    )
    return answers.one(call, retrieval_of(view), _limits_tag(view))


async def start(call: Call) -> web.StreamResponse:
    """Let retrieval go on."""
    await call.decoded(Nothing)
    return answers.as_json(retrieval_of(await call.services.retrievals.start(call.caller.actor)))


async def stop(call: Call) -> web.StreamResponse:
    """Start no retrieval any more."""
    await call.decoded(Nothing)
    return answers.as_json(retrieval_of(await call.services.retrievals.stop(call.caller.actor)))


_STATE: Final = Query(name="state", help="all, waiting, failed, or trouble: failed at least once.")

ROUTES: Final = (
    Route(method="GET", path=ALL, right=READ, handle=index, query=PAGED,
          summary="Batches by name.", answer="[Group]"),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,),
          summary="How far a batch is, and which of its files failed.", answer="GroupStatus"),
    Route(method="GET", path=ONE + "/files", right=READ, handle=members, query=(*PAGED, _STATE),
          summary="Files of a batch.", answer="[GroupFile]"),
    Route(method="GET", path=RETRIEVAL, right="system:read", handle=retrieval,
          summary="Whether retrieval runs, and its limits.", answer="Retrieval"),
    Route(method="PATCH", path=RETRIEVAL, right=ADMIN, handle=tune, body="RetrievalChange",
          summary="Change the limits of retrieval.", answer="Retrieval"),
    Route(method="POST", path=RETRIEVAL + "/actions/start", right=ADMIN, handle=start,
          body="Nothing", summary="Let retrieval go on.", answer="Retrieval"),
    Route(method="POST", path=RETRIEVAL + "/actions/stop", right=ADMIN, handle=stop,
          body="Nothing", summary="Start no retrieval any more.", answer="Retrieval"),
)  # fmt: skip
