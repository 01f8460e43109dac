"""Thread pools without threads, for tests of what runs around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ecpds.base.threads import PoolName, Threads

P = ParamSpec("P")
T = TypeVar("T")


class InlineThreads(Threads):
    """Makes each call in the loop, after letting everybody else have a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.visits = 0

    async def run(
        self, pool: PoolName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `fn`."""
        self.visits += 1
        await asyncio.sleep(0)
        return fn(*args, **kwargs)
