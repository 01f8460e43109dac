"""Thread pools that go away with the event loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ecpds.base.threads import PoolName, Threads

P = ParamSpec("P")
T = TypeVar("T")


class LoopThreads(Threads):
    """Makes each call in the loop's own pool and counts them; nothing has to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.visits = 0

    async def run(
        self, pool: PoolName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `fn`."""
        self.visits += 1
        return await asyncio.to_thread(fn, *args, **kwargs)

    def start(
        self, pool: PoolName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Call `fn` beside the caller."""
        self.visits += 1
        return asyncio.get_running_loop().run_in_executor(None, lambda: fn(*args, **kwargs))
