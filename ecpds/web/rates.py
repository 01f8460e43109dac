"""How often somebody may ask: a token bucket for each name, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Final

MOST: Final = 10_000  # names remembered; the one silent longest is forgotten


class Rates:
    """`a_minute` requests in the mean, a tenth of that (10 at least) at once."""

    def __init__(self, a_minute: int, monotonic: Callable[[], float]) -> None:
        self._rate = a_minute / 60
        self._burst = float(max(a_minute // 10, 10))
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def take(self, name: str) -> int:
        """Count one request; return 0, or the seconds to wait when it is one too many."""
        now = self._monotonic()
        tokens, at = self._known.pop(name, (self._burst, now))
        tokens = min(tokens + (now - at) * self._rate, self._burst)
        allowed = tokens >= 1
        self._known[name] = (tokens - 1 if allowed else tokens, now)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return 0 if allowed else ceil((1 - tokens) / self._rate)
