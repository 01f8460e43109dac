"""Wait until transfers have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ecpds.cli.client import Client
from ecpds.cli.codes import CommandError, Exit

LOOK_EVERY: Final = 0.5  # seconds between two questions
FAILED: Final = frozenset({"failed", "stopped"})
NOT_STORED: Final = frozenset({"arriving", "preset", "fetching"})

Found = dict[str, Any]


def deadline(timeout: float | None) -> float:
    """Return when to give up on the monotonic clock; never without a time-out."""
    return float("inf") if timeout is None else time.monotonic() + timeout


def wait_for(
    client: Client, numbers: Iterable[int], wanted: str, limit: float, tell: Callable[[Found], None]
) -> int:
    """Wait until each transfer is `done` or `stored`, or never will be; return how many never.

    Raises CommandError (time-out) when some are neither at `limit`.
    """
    waiting = sorted(set(numbers))
    count, failed = len(waiting), 0
    while True:
        left = []
        for number in waiting:
            one = client.call("GET", f"/transfers/{number}")
            if _is_lost(one):
                failed += 1
            elif not _is_there(one, wanted):
                left.append(number)
                continue
            tell(one)
        if not left:
            return failed
        waiting = left
        if time.monotonic() >= limit:
            message = f"{len(left)} of {count} transfers are not yet {wanted}"
            raise CommandError(message, Exit.TIMEOUT)
        time.sleep(min(LOOK_EVERY, max(limit - time.monotonic(), 0.0)))


def _is_lost(one: Found) -> bool:
    if one["status"] == "done":
        return False
    return bool(one["status"] in FAILED or one["deleted"] or one["expired"])


def _is_there(one: Found, wanted: str) -> bool:
    if wanted == "stored":
        return bool(one["status"] not in NOT_STORED)
    return bool(one["status"] == "done")
