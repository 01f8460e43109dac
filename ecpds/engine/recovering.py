"""Destinations that gave up go on by themselves once one of their hosts answers again.

A give-up (all rounds over all hosts) stops a destination until a person starts it; here its hosts
are probed each minute, and the first one that answers starts it, with a notice.  A stop by a person
is never undone.  `scheduler.recover = no` keeps the original's way.  Spec: schedulers.md section 9.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.operations.actor import SYSTEM, record
from ecpds.engine.telling import Teller
from ecpds.model.errors import EcpdsError
from ecpds.model.host import HostRole
from ecpds.model.status import StoredState
from ecpds.store import destinations
from ecpds.store.db import Connection

log = get_logger(__name__)

LOOK_EVERY: Final = timedelta(minutes=1)


class Recovering:
    """Starts what gave up."""

    def __init__(self, core: Core, breakers: Breakers) -> None:
        self._core = core
        self._breakers = breakers
        self._teller = Teller(node=core.node)

    async def look(self) -> None:
        """Probe the hosts of every destination that gave up."""
        for entry in list(self._core.snapshot.destinations.values()):
            gave_up = entry.state is StoredState.HOLD and entry.destination.active
            if gave_up and entry.scheduler.recover:
                await self._try(entry)

    async def _try(self, entry: DestinationEntry) -> None:
        for host in self._core.snapshot.hosts_of(entry.name, HostRole.DISSEMINATION):
            if host.access is None:
                continue
            try:
                async with self._core.pool.session(host.access):
                    pass
            except (EcpdsError, OSError):
                continue
            now = self._core.clock.now()
            self._breakers.succeeded(host.name)
            if await self._core.store.write(start_again, entry.name, host.name, self._teller, now):
                self._core.failpoints.hit("recovering.started")
                log.info("destination goes on", destination=entry.name, host=host.name)
                self._core.bus.tell("configuration", entry.name)
            return


def start_again(db: Connection, name: str, host: str, teller: Teller, now: datetime) -> bool:
    """Start a destination that gave up at the host that answers; False when it did not give up."""
    state = destinations.state(db, name)
    if state is None or state.state is not StoredState.HOLD:
        return False
    destinations.set_state(db, name, StoredState.WAIT, reason=f"host {host} answers again")
    destinations.set_run(
        db, name, replace(state, current_host=host, failures=0, round=1, switched_at=now)
    )
    changed = {"state": [StoredState.HOLD.value, StoredState.WAIT.value]}
    record(db, SYSTEM, "recover", "destination", name, changed, teller, now=now)
    return True
