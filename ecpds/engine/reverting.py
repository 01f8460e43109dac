"""Back to the first host after a failover: not with the next file, but once a probe reached it."""

from __future__ import annotations

from datetime import datetime

from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core
from ecpds.model.host import HostRole


def back_to_first(core: Core, breakers: Breakers, name: str, used: str, now: datetime) -> None:
    """After a success on host `used` of a destination: have its first host probed."""
    hosts = core.snapshot.hosts_of(name, HostRole.DISSEMINATION)
    if hosts and hosts[0].name != used:
        breakers.suspect(hosts[0].name, now=now, version=hosts[0].version)
        core.bus.tell("breaker", hosts[0].name)
