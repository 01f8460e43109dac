"""The one helper through which blocking work leaves the event loop.

Pools are named and bounded, so that a slow disk cannot starve name look-ups and a long digest
cannot hold up file calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

PoolName = Literal["disk", "digest", "codec", "dns", "auth"]
SIZES: dict[PoolName, int] = {"disk": 8, "digest": 2, "codec": 2, "dns": 4, "auth": 2}


class Threads:
    """Named thread pools; built once by the daemon."""

    def __init__(self, sizes: dict[PoolName, int] | None = None) -> None:
        chosen = SIZES | (sizes or {})
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"ecpds-{name}")
            for name, size in chosen.items()
        }

    async def run(
        self, pool: PoolName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in that pool and return what it returns.

        A cancelled caller leaves the call running to its end; its result is dropped.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pools[pool], lambda: fn(*args, **kwargs))

    def start(
        self, pool: PoolName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Run `fn` in that pool beside the caller; whoever starts it takes the result."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pools[pool], lambda: fn(*args, **kwargs))

    def close(self) -> None:
        """End all threads after the calls that run."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
