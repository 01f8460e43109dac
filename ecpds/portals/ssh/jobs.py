"""Requests that wait for the session, run side by side as far as their paths allow.

The protocol lets a server answer in any order as long as requests about one file look as if they
were done in the order they came.  Two jobs are related when a path of one is, or is above, a path
of the other, and at least one of them changes something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Job:
    """One request under way."""

    paths: tuple[str, ...]  # normal paths, or keys of handles
    work: Callable[[], Awaitable[bytes]]  # returns the encoded answer
    alone: bool = True  # changes something; others about these paths wait
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def related(self, other: Job) -> bool:
        """Tell whether the order of the two matters."""
        if not (self.alone or other.alone):
            return False
        return any(_meet(a, b) for a in self.paths for b in other.paths)


def _meet(one: str, other: str) -> bool:
    """Tell whether one path is the other or above it."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    return long.startswith(short if short.endswith("/") else f"{short}/")
