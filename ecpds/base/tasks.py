"""Long-lived tasks: kept alive, errors logged where they are handled, never silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger

log = get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=1)


async def supervise(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run `run` again whenever it breaks, with a growing pause; end when it returns.

    The one place beside request boundaries that catches every error.
    """
    pause = FIRST_PAUSE
    while True:
        begun = clock.now()
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - the task must outlive any mistake
            log.error("task failed", exc=error, task=name)  # noqa: TRY400 - the trace is in `exc`
        else:
            return
        if clock.now() - begun > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await clock.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def every(
    name: str, interval: timedelta, act: Callable[[], Awaitable[None]], clock: Clock
) -> None:
    """Run `act` now and after each `interval`; a failed one is logged and the next comes."""
    while True:
        try:
            await act()
        except Exception as error:  # noqa: BLE001 - the next round may work
            log.error("task failed", exc=error, task=name)  # noqa: TRY400 - the trace is in `exc`
        await clock.sleep(interval)
