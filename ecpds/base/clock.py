"""The one door through which time comes in; tests hold it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells and waits for time."""

    def now(self) -> datetime:
        """Return the present time, UTC and aware."""

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        """Return when `event` is set or at `until`, whichever is first; None: only the event."""

    async def sleep(self, duration: timedelta) -> None:
        """Return after `duration`."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present time, UTC and aware."""
        return datetime.now(UTC)  # noqa: TID251 - this is the door

    async def wait(self, event: asyncio.Event, until: datetime | None) -> None:
        """Return when `event` is set or at `until`, whichever is first; None: only the event."""
        if until is None:
            await event.wait()
            return
        seconds = (until - self.now()).total_seconds()
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass

    async def sleep(self, duration: timedelta) -> None:
        """Return after `duration`."""
        await asyncio.sleep(duration.total_seconds())
