"""When room runs short, work of low priority stops first; it goes on by itself when room is back.

Below `scheduler.shed_below` bytes of room (at most a tenth of the volume) the least important files
are neither fetched nor accepted; the limit rises in step until at the reserve nothing is, which the
object store refuses by itself.  Nothing that is stored is given up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.errors import StorageFull

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=2)
LAST: Final = 99  # the least important priority
BACK: Final = 1.1  # room must be so much more before a limit is eased


class Guard:
    """Which priorities may take room now."""

    def __init__(self, core: Core, eased: Callable[[], None]) -> None:
        """`eased` is called when more may be taken than before."""
        self.cutoff = LAST  # priorities above this one wait
        self._core = core
        self._eased = eased

    async def look(self) -> None:
        """Set the limit by the room of the volume that has most."""
        wanted = self._wanted(1.0)
        if wanted > self.cutoff:
            wanted = max(self._wanted(BACK), self.cutoff)
        if wanted == self.cutoff:
            return
        is_eased, self.cutoff = wanted > self.cutoff, wanted
        log.warning("room is short", highest_priority=wanted) if wanted < LAST else log.info(
            "room enough"
        )
        self._core.bus.tell("room", str(wanted))
        if is_eased:
            self._eased()

    def _wanted(self, margin: float) -> int:
        best = 0.0
        for volume in self._core.objects.volumes:
            low = min(self._core.settings.scheduler.shed_below, volume.total // 10)
            if low <= 0:
                return LAST
            best = max(best, volume.room / (low * margin))
        return LAST if best >= 1 else max(int(best * LAST), 0)

    def check(self, priority: int) -> None:
        """Raise StorageFull for a file that has to wait; callers ask only while room is short."""
        if priority > self.cutoff:
            raise StorageFull(
                f"room is short: only priorities up to {self.cutoff} are accepted now",
                priority=priority,
                limit=self.cutoff,
            )
