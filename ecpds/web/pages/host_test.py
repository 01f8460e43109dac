"""Trying a host out: the page comes while the test runs, step by step, with and without a script.

What is known is sent as it becomes known, as rows of one table that ends with the last step.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.engine.probe import Report, Step
from ecpds.web.call import Call
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import show
from ecpds.web.pages.host_form import READ, may, seen
from ecpds.web.pages.hosts import STEPS, look_of
from ecpds.web.render import CSP

ACT: Final = "hosts:operate"
PART: Final = "<!--part-->"  # of the template: where the page waits for what comes
LOOK_EVERY: Final = timedelta(milliseconds=50)


async def offer(call: Call) -> web.Response:
    """What is known of the host, and the button."""
    view = await seen(call)
    return show(
        call, "pages/host_test.html", view=view, tab="test",
        look=look_of(view, call.services.engine), may_write=may(call, "hosts:write", view),
        may_act=may(call, ACT, view),
    )  # fmt: skip


async def run(call: Call) -> web.StreamResponse:
    """Run the test and tell each step when it ends."""
    view = await seen(call, ACT)
    await call.form()  # checks that it came from our own page
    name, render = view.host.name, call.services.renderer
    values: dict[str, Any] = {"name": name, "words": STEPS}
    first = render.text(call, "pages/hosttest.html", found=None, notice=None, **values)
    answer = web.StreamResponse(
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Security-Policy": CSP,
            "X-Accel-Buffering": "no",
        }
    )
    await answer.prepare(call.request)
    before, after = first.split(PART)
    await answer.write(before.encode())
    report, told = Report(), list[tuple[str, Step]]()
    async with asyncio.TaskGroup() as group:
        test = group.create_task(call.services.hosts.test(name, call.caller.actor, report))
        while not test.done():
            await _tell(call, answer, report, told)
            await call.services.core.clock.sleep(LOOK_EVERY)
    await _tell(call, answer, report, told)
    verdict = render.text(call, "pages/hosttest_end.html", found=test.result(), **values)
    await answer.write((verdict + after).encode())
    await answer.write_eof()
    return answer


async def _tell(
    call: Call, answer: web.StreamResponse, report: Report, told: list[tuple[str, Step]]
) -> None:
    """Send the steps that were not told yet; a step that was judged anew is told again."""
    known = dict(told)
    for name, step in itertools.chain(list(report.steps.items())):
        if known.get(name) is step:
            continue
        told.append((name, step))
        row = call.services.renderer.text(
            call, "pages/hosttest_row.html", step=asdict(step), words=STEPS
        )
        await answer.write(row.encode())


ROUTES: Final = (get("/hosts/{name}/test", READ, offer, "Where a host is tried out."),)
