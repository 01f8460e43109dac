"""The last hour minute by minute, from the counters of `/metrics`.

Counting attempts in the store would cost more the more is delivered; the counters cost the same
always.  The price: a restart begins with an empty hour.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.base.metrics import Metrics

MINUTES: Final = 60
EVERY: Final = 5.0  # seconds between two looks at the counters


@dataclass(frozen=True, slots=True)
class Minute:
    """What ended in one minute."""

    files: int = 0
    bytes: int = 0
    failed: int = 0


EMPTY: Final = Minute()
Totals = dict[str, tuple[int, int, int]]  # destination -> done, bytes, failed since the start


class Pulse:
    """Looks at the counters of a node every few seconds and remembers an hour."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._edges: deque[Totals] = deque(maxlen=MINUTES)  # totals at the ends of past minutes
        self._minute: datetime | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look; needs a running loop."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self.start)

    def stop(self) -> None:
        """Look no more; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Note the totals when a minute has passed."""
        minute = self._clock.now().replace(second=0, microsecond=0)
        if self._minute is None:
            self._edges.append(self._totals())
        elif minute > self._minute:
            passed = (minute - self._minute) // timedelta(minutes=1)
            totals = self._totals()
            for _ in range(min(passed, MINUTES)):
                self._edges.append(totals)
        self._minute = minute

    def _totals(self) -> Totals:
        found: dict[str, list[int]] = {}
        for sample in _samples(self._metrics.finished):
            name, result, value = sample
            found.setdefault(name, [0, 0, 0])[0 if result == "done" else 2] += value
        for name, _, value in _samples(self._metrics.sent_bytes):
            found.setdefault(name, [0, 0, 0])[1] += value
        return {name: (done, sent, failed) for name, (done, sent, failed) in found.items()}

    def hour(self, name: str | None = None) -> list[Minute]:
        """Return the last hour of a destination, or of all: oldest first, the last one goes on."""
        edges = [*self._edges, self._totals()]
        sums = [_sum(edge, name) for edge in edges]
        minutes = [
            Minute(*(max(late - soon, 0) for soon, late in zip(before, after, strict=True)))
            for before, after in itertools.pairwise(sums)
        ]
        return [EMPTY] * (MINUTES - len(minutes)) + minutes[-MINUTES:]


def _samples(counter: object) -> list[tuple[str, str, int]]:
    """Return destination, result and value of a counter with these labels."""
    return [
        (one.labels["destination"], one.labels["result"], int(one.value))
        for family in counter.collect()  # type: ignore[attr-defined] # prometheus has no type here
        for one in family.samples
        if one.name.endswith("_total")
    ]


def _sum(totals: Totals, name: str | None) -> tuple[int, int, int]:
    if name is not None:
        return totals.get(name, (0, 0, 0))
    columns = zip(*totals.values(), strict=True)
    done, sent, failed = ([sum(column) for column in columns]) or (0, 0, 0)
    return done, sent, failed
