"""Jobs: how far each is, what went wrong, and ending one."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ecpds.model.errors import EcpdsError, NotFound
from ecpds.store.jobs import Job
from ecpds.web.api.jobs import document, may_see
from ecpds.web.call import Call, cursor_of
from ecpds.web.display import Look
from ecpds.web.pages import lists
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.bulk import OPERATE, WORDS
from ecpds.web.pages.frame import back, refused, show
from ecpds.web.pages.rows import READ

LOOKS: Final = {
    "running": Look("Running", "up", "info"),
    "done": Look("Done", "check", "good"),
    "cancelled": Look("Cancelled", "stop", "off"),
    "failed": Look("Failed", "cross", "bad"),
}
HIDDEN: Final = ("scope", "ids", "priority")


def about(job: Job) -> str:
    """Return in words what a job is about."""
    ids = job.request.get("ids")
    if ids:
        return f"{len(ids)} named transfers" if len(ids) > 1 else f"transfer {ids[0]}"
    found = [f"{key} {value}" if not isinstance(value, list) else f"{key} {', '.join(value)}"
             for key, value in job.request.items() if key not in HIDDEN]  # fmt: skip
    return "; ".join(found)


async def index(call: Call) -> web.Response:
    """All jobs that the caller may see, newest first."""
    limit = lists.limit_of(call)
    found = await call.services.jobs.page(before=call.before, limit=limit + 1)
    after = cursor_of(found[limit - 1].id) if len(found) > limit else None
    seen = [job for job in found[:limit] if may_see(call, job)]
    if lists.wanted(call) == "json":
        return lists.as_json([document(job) for job in seen], after)
    return show(
        call, "pages/jobs.html", topics=("job:*",),
        rows=[(job, LOOKS[job.state], WORDS.get(job.verb, job.verb), about(job)) for job in seen],
        cursor=after, address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


async def _seen(call: Call) -> Job:
    number = call.number("id", "Job")
    job = await call.services.jobs.get(number)
    if not may_see(call, job):
        raise NotFound(f"Job {number} not found")
    return job


async def detail(call: Call) -> web.Response:
    """One job with its progress and errors."""
    job = await _seen(call)
    now = call.services.core.clock.now()
    looked = job.done + job.skipped + job.failed
    took = (job.ended_at or now) - job.created_at
    left = None
    if job.state == "running" and looked and job.total > looked:
        left = took * ((job.total - looked) / looked)
    return show(
        call, "pages/job.html", topics=("job:*",), job=job, look=LOOKS[job.state],
        word=WORDS.get(job.verb, job.verb), about=about(job), looked=looked, took=took, left=left,
        may_cancel=job.state == "running" and call.caller.may(OPERATE),
    )  # fmt: skip


async def cancel(call: Call) -> web.Response:
    """End a job where it is."""
    job = await _seen(call)
    await call.form()
    address = f"/jobs/{job.id}"
    try:
        await call.services.jobs.cancel(job.id)
    except EcpdsError as error:
        return refused(call, address, error)
    return back(call, address, "Cancelled; what was done stays done.")


ROUTES: Final = (
    get("/jobs", READ, index, "Jobs, newest first."),
    get("/jobs/{id}", READ, detail, "How far a job is."),
    post("/jobs/{id}/actions/cancel", OPERATE, cancel, "End a job."),
)
