"""Keeps what modules have learned of hosts over a restart: last addresses, quirks of servers.

Spec: transfer-modules.md 4.13; protocols 1.5.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ecpds.engine.core import Core
from ecpds.store import learned
from ecpds.transfer.memory import LIMIT

KEEP_EVERY: Final = timedelta(seconds=30)


class Learning:
    """Between the memory of the modules and the store."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def restore(self) -> None:
        """Give the modules what was learned before the restart."""
        facts = await self._core.store.read(learned.everything, limit=LIMIT)
        self._core.around.memory.restore(facts)

    async def keep(self) -> None:
        """Store what is new; nothing is asked of the store when nothing is."""
        facts = self._core.around.memory.learned()
        if facts:
            now = self._core.clock.now()
            await self._core.store.write(learned.put, facts, limit=LIMIT, now=now)
