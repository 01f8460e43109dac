"""Steps of the wall clock: nothing waits for a time that will not come, nothing expires too early.

Back: what was to happen soon would wait for as long as the clock went back; times of transfers
that lie in that future are brought to now.  Forward: expiry waits ten minutes, so that a wrong
clock that is set right again has thrown nothing away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, statement

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=5)
STEP: Final = timedelta(seconds=30)  # what a good clock never does
GRACE: Final = timedelta(minutes=10)

# Made in what is the future now: all its times are moved by the distance to now.
SHIFT = statement("""
    UPDATE transfer SET
        due_at = MAX(due_at - (created_at - :now), :now),
        queue_at = MAX(queue_at - (created_at - :now), :now),
        scheduled_at = MAX(scheduled_at - (created_at - :now), :now),
        expires_at = MAX(expires_at - (created_at - :now), :now + 1), created_at = :now
    WHERE status IN ('WAIT', 'RETR', 'SCHE', 'HOLD', 'EXEC', 'FETC') AND deleted = 0
      AND created_at > :now""")
# Made before, but put off to a time that the clock had reached already.
NOW = statement("""
    UPDATE transfer SET due_at = MAX(scheduled_at, :now), queue_at = MAX(scheduled_at, :now)
    WHERE status IN ('WAIT', 'RETR') AND deleted = 0
      AND due_at > :now AND due_at > scheduled_at AND failed_at > :now""")
RETRIEVALS = statement("""
    UPDATE data_file SET retrieval_at = NULL
    WHERE stored = 0 AND deleted = 0 AND retrieval_at > :now""")
SWITCHES = statement("UPDATE destination SET switched_at = :now WHERE switched_at > :now")
CLOCKS = statement("""
    UPDATE acquisition_clock SET finished_at = NULL, started_at = NULL
    WHERE finished_at > :now""")
COPIES = statement("UPDATE content_copy SET due_at = :now WHERE due_at > :late")


def settle_times(db: Connection, *, now: datetime) -> int:
    """Bring times that lie in a future that was the present once back to now; return how many."""
    values = {"now": to_micros(now)}
    count = db.execute(SHIFT.sql, values).rowcount + db.execute(NOW.sql, values).rowcount
    for one in (RETRIEVALS, SWITCHES, CLOCKS):
        db.execute(one.sql, values)
    db.execute(COPIES.sql, values | {"late": to_micros(now + timedelta(hours=1))})
    return count


class ClockWatch:
    """Compares the wall clock with one that never steps."""

    def __init__(
        self,
        core: Core,
        stepped_back: Callable[[], None],
        stepped_on: Callable[[timedelta], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self._stepped_back = stepped_back
        self._stepped_on = stepped_on
        self._steady = steady
        self._seen = (core.clock.now(), steady())

    async def look(self) -> None:
        """Act upon a step since the last look."""
        now, steady = self._core.clock.now(), self._steady()
        before, steady_before = self._seen
        self._seen = (now, steady)
        step = (now - before) - timedelta(seconds=steady - steady_before)
        if abs(step) < STEP:
            return
        log.warning("the clock was set", seconds=round(step.total_seconds()))
        if step > timedelta(0):
            self._stepped_on(GRACE)
            return
        count = await self._core.store.write(settle_times, now=now)
        log.info("times were brought back", transfers=count)
        self._stepped_back()
