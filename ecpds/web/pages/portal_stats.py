"""What went through the portal: by user, destination, protocol or day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from aiohttp import web

from ecpds.store import stats
from ecpds.store.stats import Moved
from ecpds.web.call import Call
from ecpds.web.pages import lists, ratetable, trafficplot
from ecpds.web.pages.addresses import get
from ecpds.web.pages.frame import show

READ: Final = "stats:read"
GROUPS: Final = ("user", "destination", "protocol", "day")
ORDERS: Final = ("name", "files", "up", "down", "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Sums of one user, destination, protocol or day."""

    name: str
    files: int
    up: int  # bytes
    down: int
    duration: timedelta

    @property
    def rate(self) -> float | None:
        """Return bytes per second of the time spent moving, None without any."""
        seconds = self.duration.total_seconds()
        return (self.up + self.down) / seconds if seconds > 0 else None


def lines_of(rows: Sequence[Moved], by: str) -> list[Line]:
    """Return the sums by one of GROUPS."""
    found: dict[str, list[Moved]] = {}
    for one in rows:
        found.setdefault(str(getattr(one, by)), []).append(one)
    return [
        Line(
            name=name,
            files=sum(one.files for one in several),
            up=sum(one.bytes for one in several if one.action == "upload"),
            down=sum(one.bytes for one in several if one.action != "upload"),
            duration=sum((one.duration for one in several), timedelta(0)),
        )
        for name, several in found.items()
    ]


def by_day(rows: Sequence[Moved], today: date, days: int) -> list[tuple[date, int, int]]:
    """Return each day with its bytes up and down, oldest first, days without any too."""
    known = {line.name: line for line in lines_of(rows, "day")}
    every = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return [
        (day, known[f"{day}"].up, known[f"{day}"].down) if f"{day}" in known else (day, 0, 0)
        for day in every
    ]


async def index(call: Call) -> web.Response:
    """Traffic of data users: a plot by day and sums by whatever is asked for."""
    days, caller = ratetable.days_of(call), call.caller
    by = call.text("by") if call.text("by") in GROUPS else "user"
    now = call.services.core.clock.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = await call.services.core.store.read(
        stats.moved, since=today - timedelta(days=days - 1), until=now + timedelta(seconds=1)
    )
    rows = [one for one in rows if caller.may_on(READ, one.destination)]
    order = lists.sort_of(call, ORDERS, "-down")
    table = lists.ordered(
        lines_of(rows, by), order,
        {"name": lambda one: one.name, "files": lambda one: one.files, "up": lambda one: one.up,
         "down": lambda one: one.down, "rate": lambda one: one.rate or 0.0},
    )  # fmt: skip
    if lists.wanted(call) != "html":
        return _table(call, table)
    after, most = lists.offset(call), lists.limit_of(call)
    plot, sentence = trafficplot.traffic(by_day(rows, today.date(), days))
    return show(
        call, "pages/statistics_portal.html", days=days, choices=ratetable.DAYS, by=by,
        groups=GROUPS, lines=table[after : after + most], order=order, plot=plot,
        sentence=sentence, first=today - timedelta(days=days - 1), last=today,
        part=lists.Window(after=after, most=most, found=len(table)),
        address=lambda **changes: lists.address(call, **changes),
    )  # fmt: skip


def _table(call: Call, table: Sequence[Line]) -> web.Response:
    if lists.wanted(call) == "json":
        documents: list[dict[str, Any]] = [
            {"name": line.name, "files": line.files, "uploaded": line.up, "downloaded": line.down,
             "seconds": line.duration.total_seconds(), "bytes_per_second": line.rate}
            for line in table
        ]  # fmt: skip
        return lists.as_json(documents, None)
    heads = ("name", "files", "uploaded", "downloaded", "seconds", "bytes_per_second")
    return lists.as_csv(
        "portal", heads,
        ((line.name, line.files, line.up, line.down, line.duration.total_seconds(),
          round(line.rate, 1) if line.rate is not None else None) for line in table),
    )  # fmt: skip


ROUTES: Final = (get("/stats/portal", READ, index, "What data users moved."),)
