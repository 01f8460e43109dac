"""What the network says of a host, how its last connections went, and what lies there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aiohttp import web

from ecpds.engine import hostreport
from ecpds.engine.hostreport import AddressReport, NetworkReport
from ecpds.engine.leftovers import MOST_SHOWN
from ecpds.model.errors import EcpdsError
from ecpds.store import history
from ecpds.web.call import Call
from ecpds.web.display import Look
from ecpds.web.pages.addresses import get, post
from ecpds.web.pages.frame import back, refused, segment, show
from ecpds.web.pages.host_form import READ, may, seen
from ecpds.web.pages.hosts import look_of

ACT: Final = "hosts:operate"
SHOWN: Final = 50  # leftovers on the page
ATTEMPTS: Final = 20  # whose connections are shown
LOOK_BACK: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One address with how it is to be shown."""

    one: AddressReport
    look: Look
    best: float | None  # milliseconds
    average: float | None
    worst: float | None


def reached(one: AddressReport) -> Reached:
    """Return an address with its figures: good when every connection was made."""
    look = Look("answers", "check", "good")
    if not one.took:
        look = Look("does not answer", "cross", "bad")
    elif one.failed:
        look = Look("answers sometimes", "light-yellow", "warn")
    return Reached(
        one=one,
        look=look,
        best=min(one.took, default=None),
        average=sum(one.took) / len(one.took) if one.took else None,
        worst=max(one.took, default=None),
    )


async def _page(call: Call, report: NetworkReport | None, problem: str = "") -> web.Response:
    view = await seen(call)
    core = call.services.core
    left = await call.services.engine.leftovers.at(view.host.name)
    recent = await core.store.read(
        history.connections, view.host.name, since=core.clock.now() - LOOK_BACK, limit=ATTEMPTS
    )
    return show(
        call, "pages/host_network.html", view=view, tab="network",
        look=look_of(view, call.services.engine), may_write=may(call, "hosts:write", view),
        may_act=may(call, ACT, view), report=report, problem=problem,
        addresses=[reached(one) for one in report.addresses] if report else [],
        left=left[:SHOWN], found=len(left), most=MOST_SHOWN, recent=recent,
    )  # fmt: skip


async def index(call: Call) -> web.Response:
    """What is known without asking the network."""
    return await _page(call, None)


async def ask(call: Call) -> web.Response:
    """Resolve the name and connect to each address; takes up to a minute."""
    view = await seen(call, ACT)
    await call.form()  # checks that it came from our own page
    core = call.services.core
    try:
        report = await hostreport.report(core.snapshot.host(view.host.name), core.around)
    except EcpdsError as error:
        return await _page(call, None, error.message)
    return await _page(call, report)


async def clean(call: Call) -> web.Response:
    """Remove now what no transfer will go on with."""
    view = await seen(call, ACT)
    await call.form()
    place = f"/hosts/{segment(view.host.name)}/network"
    try:
        removed, reasons = await call.services.engine.leftovers.clean(view.host.name)
    except EcpdsError as error:
        return refused(call, place, error)
    if reasons:
        return back(
            call, place, f"{removed} removed, {len(reasons)} left: {reasons[0]}", tone="warn"
        )
    return back(call, place, f"{removed} removed.")


ROUTES: Final = (
    get("/hosts/{name}/network", READ, index, "Connections and leftovers of a host."),
    post("/hosts/{name}/network", ACT, ask, "Resolve its name, connect to each address."),
    post("/hosts/{name}/leftovers", ACT, clean, "Remove what no transfer will go on with."),
)
