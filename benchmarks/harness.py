"""Interleaved rounds, medians and ratios.

The contenders of a comparison take turns within each round, and the order rotates from round to
round: a noisy neighbour, a warm cache or a busy disk then hits everybody alike. The figure of a
contender is the median of its rounds; a ratio divides two medians so that above 1 we do better.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.errors import MeasurementFailed

US = "ecpds"

Figures = Mapping[str, float]
Run = Callable[[int], Figures | Awaitable[Figures]]
"""Does the work of one round (its number is the argument) and returns figures by name.

A plain function is called in a thread; a coroutine function runs in the loop and may not block it.

Most runs return one figure under the contender's name. A run that yields several figures of the
same work (a peer before and after `sync`) returns them all.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Somebody who can do the work of a comparison.

    `rounds` bounds its part: a slow peer without a reach need not take everybody's time.
    """

    name: str
    run: Run
    rounds: int | None = None

    def joins(self, number: int) -> bool:
        """Tell whether it takes part in round `number`."""
        return self.rounds is None or number < self.rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the project wants to reach: a ratio to a peer, or a bound of our own figure."""

    limit: float
    against: str | None = None  # None: `limit` bounds our median itself
    others: Mapping[str, float] = field(default_factory=dict)  # further peers and their limits

    def limit_of(self, peer: str | None) -> float | None:
        """Return what is to be reached beside a peer, None: nothing."""
        return self.limit if peer == self.against else self.others.get(peer or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row of the table: a piece of work and those who do it."""

    case: str
    work: str
    unit: str
    contenders: Sequence[Contender]
    better: Literal["higher", "lower"] = "higher"
    reach: Reach | None = None
    rounds: int = 5
    seconds: float = 60.0  # no new round begins when it would end later than this


@dataclass(slots=True, kw_only=True)
class Result:
    """What a comparison gave."""

    comparison: Comparison
    figures: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def medians(self) -> dict[str, float]:
        """The median of each name that has at least one figure."""
        return {name: statistics.median(values) for name, values in self.figures.items() if values}

    @property
    def ratios(self) -> dict[str, float]:
        """Our median beside that of each peer; above 1 we do better."""
        medians = self.medians
        ours = medians.get(US)
        if ours is None:
            return {}
        return {
            name: ratio(ours, value, better=self.comparison.better)
            for name, value in medians.items()
            if name != US
        }

    @property
    def reached(self) -> bool | None:
        """Whether the reach is met; None when there is none or nothing to judge."""
        reach = self.comparison.reach
        if reach is None:
            return None
        if reach.against is not None:
            ratios, wanted = self.ratios, {reach.against: reach.limit, **reach.others}
            if any(peer not in ratios for peer in wanted):
                return None
            return all(ratios[peer] >= limit for peer, limit in wanted.items())
        ours = self.medians.get(US)
        if ours is None:
            return None
        return ours >= reach.limit if self.comparison.better == "higher" else ours <= reach.limit


def ratio(ours: float, theirs: float, *, better: Literal["higher", "lower"]) -> float:
    """Return how many times better we are; infinite when the worse side is zero."""
    top, bottom = (ours, theirs) if better == "higher" else (theirs, ours)
    return top / bottom if bottom else float("inf")


def spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median: 0.1 says that the rounds lie within ten per cent."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1) of the values do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = -(-len(ordered) * share // 1)  # nearest rank, rounded up
    return ordered[min(len(ordered), max(1, int(at))) - 1]


def turns(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the contenders in the order of round `number`: everybody is first in turn."""
    start = number % len(contenders) if contenders else 0
    return [*contenders[start:], *contenders[:start]]


class Budget:
    """The time that a whole run may take, by a clock that tests can hold."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def now(self) -> float:
        """Return the reading of the clock."""
        return self._clock()

    @property
    def left(self) -> float:
        """Seconds until the budget is spent; negative afterwards."""
        return self._end - self._clock()


async def compare(comparison: Comparison, budget: Budget) -> Result:
    """Run the rounds of `comparison` and return its figures.

    At least one round is run when any budget is left; further rounds only when, at the pace so
    far, they end within the comparison's own seconds and within the budget.
    """
    result = Result(comparison=comparison)
    if budget.left <= 0:
        result.skipped = "out of time"
        return result
    began = budget.now()
    for number in range(comparison.rounds):
        still = [each for each in comparison.contenders if each.name not in result.failures]
        if not still:
            break
        for contender in turns([each for each in still if each.joins(number)], number):
            await _one(contender, number, result)
        used = budget.now() - began
        pace = used / (number + 1)
        if used + pace > comparison.seconds or pace > budget.left:
            break
    return result


async def _one(contender: Contender, number: int, result: Result) -> None:
    """Let one contender do one round; a failure is kept as text and ends its part."""
    try:
        answer = await asyncio.to_thread(contender.run, number)
        figures = answer if isinstance(answer, Mapping) else await answer
    except MeasurementFailed as error:
        result.failures[contender.name] = str(error)
        return
    for name, value in figures.items():
        result.figures.setdefault(name, []).append(value)
