"""Tables and plots of what was delivered, day by day; SI units, means weighted by bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from ecpds.store.stats import Rate
from ecpds.web import display, plots
from ecpds.web.call import Call
from ecpds.web.pages import lists

DAYS: Final = (7, 30, 90, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Sums of one day, or of one destination."""

    name: str
    day: date | None = None
    files: int = 0
    bytes: int = 0
    duration: timedelta = timedelta(0)

    @property
    def rate(self) -> float | None:
        """Return bytes per second of the time spent sending, None without any."""
        seconds = self.duration.total_seconds()
        return self.bytes / seconds if seconds > 0 else None


def days_of(call: Call) -> int:
    """Return how many days the query asks for, 30 unless it is one of the choices."""
    text = call.text("days")
    return int(text) if text in {str(one) for one in DAYS} else 30


def _sum(name: str, day: date | None, rates: Iterable[Rate]) -> Line:
    rows = list(rates)
    return Line(
        name=name,
        day=day,
        files=sum(one.files for one in rows),
        bytes=sum(one.bytes for one in rows),
        duration=sum((one.duration for one in rows), timedelta(0)),
    )


def by_day(rates: Sequence[Rate], today: date, days: int) -> list[Line]:
    """Return one line a day, oldest first, days without deliveries too."""
    found: dict[date, list[Rate]] = {}
    for one in rates:
        found.setdefault(one.day, []).append(one)
    every = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return [_sum(f"{day}", day, found.get(day, ())) for day in every]


def by_destination(rates: Sequence[Rate]) -> list[Line]:
    """Return one line a destination, that with most bytes first."""
    found: dict[str, list[Rate]] = {}
    for one in rates:
        found.setdefault(one.destination, []).append(one)
    lines = [_sum(name, None, rows) for name, rows in found.items()]
    return sorted(lines, key=lambda line: (-line.bytes, line.name))


def plots_of(table: Sequence[Line]) -> dict[str, Any]:
    """Return the plots of volume and rate with their highest values, and the sums."""
    total = Line(
        name="",
        files=sum(line.files for line in table),
        bytes=sum(line.bytes for line in table),
        duration=sum((line.duration for line in table), timedelta(0)),
    )
    peak = max(table, key=lambda line: line.bytes) if table else Line(name="")
    fastest = max((line.rate or 0.0 for line in table), default=0.0)
    return {
        "total": total,
        "peak": peak,
        "fastest": fastest,
        "volume_plot": _plot(table, "Bytes a day", [line.bytes for line in table], display.size),
        "rate_plot": _plot(
            table, "Mean rate of each day", [line.rate or 0.0 for line in table], display.rate
        ),
    }


def _plot(table: Sequence[Line], what: str, values: Sequence[float], word: Any) -> Markup:
    points = [
        plots.Point(value, f"{line.name}: {word(value)}, {line.files} files")
        for line, value in zip(table, values, strict=True)
    ]
    most = max(values, default=0)
    label = f"{what}, {len(table)} days until {table[-1].name if table else ''}; most {word(most)}"
    return plots.columns(points, label)


def answer(call: Call, name: str, table: Sequence[Line]) -> web.Response:
    """Answer with the table as CSV or JSON."""
    if lists.wanted(call) == "json":
        return lists.as_json(
            [
                {"name": line.name, "files": line.files, "bytes": line.bytes,
                 "seconds": line.duration.total_seconds(), "bytes_per_second": line.rate}
                for line in table
            ],
            None,
        )  # fmt: skip
    heads = ("name", "files", "bytes", "seconds", "bytes_per_second")
    return lists.as_csv(
        name,
        heads,
        (
            (line.name, line.files, line.bytes, line.duration.total_seconds(),
             round(line.rate, 1) if line.rate is not None else None)
            for line in table
        ),
    )  # fmt: skip
