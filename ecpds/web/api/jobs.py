"""`/transfers/actions/{verb}` and `/jobs`: one verb on many transfers, in the background."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.engine.operations.jobs import Selection
from ecpds.model.errors import NotFound
from ecpds.store.jobs import Job
from ecpds.web import shown
from ecpds.web.api import answers
from ecpds.web.api.schemas import BulkRequest
from ecpds.web.call import Call
from ecpds.web.routes import DRY_RUN, FIELDS, PAGED, Route

READ: Final = "transfers:read"
OPERATE: Final = "transfers:operate"
WRITE: Final = "transfers:write"
ALL: Final = "/api/v2/jobs"
ONE: Final = ALL + "/{job}"


def document(job: Job) -> shown.Document:
    """Return how far a job is."""
    return {
        "id": job.id,
        "verb": job.verb,
        "state": job.state,
        "total": job.total,
        "total_is_minimum": job.total_is_minimum,
        "done": job.done,
        "skipped": job.skipped,
        "failed": job.failed,
        "errors": [dict(error) for error in job.errors],
        "request": {key: value for key, value in job.request.items() if key != "scope"},
        "by": job.actor["name"],
        "created": shown.moment(job.created_at),
        "updated": shown.moment(job.updated_at),
        "ended": shown.moment(job.ended_at),
    }


def may_see(call: Call, job: Job) -> bool:
    """Tell whether the caller may know of a job: its own, or all transfers."""
    return job.actor["name"] == call.caller.name or call.caller.may_everywhere(READ)


async def _job(call: Call) -> Job:
    number = call.number("job", "Job")
    found = await call.services.jobs.get(number)
    if not may_see(call, found):
        raise NotFound(f"Job {number} not found")
    return found


async def start(call: Call) -> web.StreamResponse:
    """Start a job; with `dry_run` only count what it would look at."""
    verb, given = call.name("verb"), await call.decoded(BulkRequest)
    right = WRITE if verb == "delete" else OPERATE
    caller = call.caller
    scope = None
    if not caller.may_everywhere(right):
        names = call.services.core.snapshot.destinations
        scope = tuple(name for name in names if caller.may_on(right, name))
    if given.destination:
        caller.check(right, given.destination)
        call.services.core.snapshot.destination(given.destination)
    selection = Selection(
        ids=given.ids,
        q=given.q,
        destination=given.destination,
        status=given.status,
        target=given.target,
        host=given.host,
        since=given.since,
        until=given.until,
        limit=given.limit,
        scope=scope,
        priority=given.priority,
    )
    if call.flag("dry_run"):
        tried = await call.services.jobs.try_out(selection)
        now = call.services.core.clock.now()
        return answers.tried(
            call,
            {
                "total": tried.total,
                "total_is_minimum": tried.total_is_minimum,
                "sample": [shown.transfer(one, now) for one in tried.sample],
            },
        )
    job = await call.services.jobs.create(verb, selection, caller.actor)
    location = f"{ALL}/{job.id}"
    return answers.as_json(document(job), status=202, headers={"Location": location})


async def index(call: Call) -> web.StreamResponse:
    """List jobs, newest first."""
    limit = call.limit
    found = await call.services.jobs.page(before=call.before, limit=limit + 1)
    after = found[limit - 1].id if len(found) > limit else None
    mine = [document(job) for job in found[:limit] if may_see(call, job)]
    return answers.page(call, mine, after)


async def get(call: Call) -> web.StreamResponse:
    """Return how far a job is."""
    return answers.one(call, document(await _job(call)))


async def cancel(call: Call) -> web.StreamResponse:
    """End a job where it is; what it has done stays done."""
    job = await _job(call)
    await call.services.jobs.cancel(job.id)
    return answers.nothing()


ROUTES: Final = (
    Route(method="POST", path="/api/v2/transfers/actions/{verb}", right=OPERATE, handle=start,
          query=(DRY_RUN, FIELDS), body="BulkRequest", answer="Job", status=202,
          summary="requeue, stop, hold, release, schedule_now, extend, prioritise or delete all"
          " transfers that are named or fit, as a job."),
    Route(method="GET", path=ALL, right=READ, handle=index, query=PAGED,
          summary="Jobs, newest first.", answer="[Job]"),
    Route(method="GET", path=ONE, right=READ, handle=get, query=(FIELDS,),
          summary="How far a job is.", answer="Job"),
    Route(method="DELETE", path=ONE, right=OPERATE, handle=cancel, status=204,
          summary="End a job; what it has done stays done."),
)  # fmt: skip
