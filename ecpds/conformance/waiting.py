"""Wait for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP = 0.005  # seconds between two looks


async def until(condition: Callable[[], object], *, limit: float = 20.0, what: str = "") -> None:
    """Return once `condition()` is true.

    Raises:
        AssertionError: it is still not after `limit` seconds; `what` names it.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {limit} s still not: {what or condition}")
        await asyncio.sleep(STEP)
