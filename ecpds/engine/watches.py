"""Small periodic acts of the engine that each look after one thing; all started in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from ecpds.base.tasks import every
from ecpds.engine import (
    ageing,
    clockwatch,
    groups,
    guard,
    holds,
    hostchecks,
    incidents,
    lateness,
    mailnotices,
    recovering,
)
from ecpds.engine.ageing import Ageing
from ecpds.engine.clockwatch import ClockWatch
from ecpds.engine.groups import GroupWatch
from ecpds.engine.guard import Guard
from ecpds.engine.holds import Holds
from ecpds.engine.hostchecks import HostChecks
from ecpds.engine.incidents import Incidents
from ecpds.engine.lateness import Lateness
from ecpds.engine.mailnotices import MailNotices
from ecpds.engine.recovering import Recovering

if TYPE_CHECKING:
    from ecpds.engine.supervisor import Engine


class Watches:
    """The periodic acts of one engine."""

    def __init__(self, engine: Engine) -> None:
        core = engine.core
        self._engine = engine
        self.guard = Guard(core, self._poke_all)
        self.host_checks = HostChecks(core, engine.breakers)
        self.mail = MailNotices(core)
        self.ageing = Ageing(core)
        self.holds = Holds(core, engine.poke)
        self.lateness = Lateness(core)
        self.recovering = Recovering(core, engine.breakers)
        self.incidents = Incidents(engine)
        self.groups = GroupWatch(core, engine.poke)
        self.clock = ClockWatch(core, self._stepped_back, engine.retention.hold)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Run all of them in that group until it is cancelled."""
        acts: dict[str, tuple[timedelta, Callable[[], Awaitable[None]]]] = {
            "guard": (guard.LOOK_EVERY, self.guard.look),
            "host checks": (hostchecks.LOOK_EVERY, self.host_checks.look),
            "mail notices": (mailnotices.LOOK_EVERY, self.mail.look),
            "ageing": (ageing.LOOK_EVERY, self.ageing.look),
            "holds": (holds.LOOK_EVERY, self.holds.look),
            "lateness": (lateness.LOOK_EVERY, self.lateness.look),
            "recovering": (recovering.LOOK_EVERY, self.recovering.look),
            "groups": (groups.LOOK_EVERY, self.groups.look),
            "incidents": (incidents.LOOK_EVERY, self.incidents.look),
            "clock": (clockwatch.LOOK_EVERY, self.clock.look),
        }
        for name, (interval, look) in acts.items():
            clock = self._engine.core.clock
            group.create_task(every(name, interval, look, clock), name=f"watch {name}")

    def _poke_all(self) -> None:
        for name in self._engine.core.snapshot.destinations:
            self._engine.poke_retrieval(name)

    def _stepped_back(self) -> None:
        for scheduler in self._engine.disseminations.values():
            scheduler.resume()
        for one in self._engine.acquisitions.values():
            one.run_now()
        self._engine.breakers.clock_was_set()
        self._poke_all()
