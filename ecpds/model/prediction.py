"""When a product will be complete, told from earlier days; always with the number of samples.

Spec: monitor.md section 3.4: offsets from the base time, with more than four samples without the
smallest and the largest; mean and one standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean, pstdev

TRIMMED = 4  # more samples than that lose their extremes
ENOUGH = 5  # samples below which a prediction is no reason for a colour


@dataclass(frozen=True, slots=True)
class Prediction:
    """How long after its base time something comes."""

    after: timedelta
    spread: timedelta  # one standard deviation, contained in `after`
    samples: int

    @property
    def is_sound(self) -> bool:
        """Whether there are samples enough to judge by."""
        return self.samples >= ENOUGH


def predict(offsets: Sequence[timedelta]) -> Prediction | None:
    """Return mean and one standard deviation of the offsets, None without any."""
    if not offsets:
        return None
    seconds = sorted(one.total_seconds() for one in offsets)
    if len(seconds) > TRIMMED:
        seconds = seconds[1:-1]
    spread = pstdev(seconds)
    return Prediction(
        after=timedelta(seconds=fmean(seconds) + spread),
        spread=timedelta(seconds=spread),
        samples=len(offsets),
    )
