"""Tells other systems of events: standard output, syslog, HTTP collectors, MQTT brokers.

The event rows of the store are the spool.  Each sink keeps how far it is, goes on there after a
restart, and gets events in their order, at least once, for as long as `scheduler.events_for` keeps
them.  Without a sink nothing of this runs.  Spec: events.md section 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol

from ecpds.base.logs import get_logger
from ecpds.base.settings import SinkSettings
from ecpds.base.tasks import supervise
from ecpds.engine.core import Core
from ecpds.model.errors import EcpdsError
from ecpds.store import sinks
from ecpds.store.codec import load

log = get_logger(__name__)

BATCH: Final = 500  # events of one delivery
PAUSE: Final = timedelta(milliseconds=300)  # between two looks
FIRST_PAUSE: Final = timedelta(seconds=1)  # after a failure, doubled each time
LAST_PAUSE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Told:
    """One event, as it stands in the JSON event log."""

    id: int
    text: str
    record: dict[str, Any]


class SinkRefused(EcpdsError):
    """A sink takes the connection but not these events; fewer of them may pass."""

    code = "sink-refused"


class Sink(Protocol):
    """Somebody who is told of events."""

    async def send(self, events: Sequence[Told]) -> None:
        """Return when all are taken.

        Raises SinkRefused when what was sent is at fault, EcpdsError, OSError or TimeoutError
        when it is to be sent again as it is.
        """

    async def close(self) -> None:
        """End the connection; may be called twice."""


class Feeder:
    """Feeds one sink."""

    def __init__(self, core: Core, settings: SinkSettings, sink: Sink) -> None:
        self.name = settings.name
        self._core = core
        self._sink = sink
        self._types = frozenset(settings.types)  # none: all
        self._seen = -1

    async def run(self) -> None:
        """Tell what is new, until cancelled."""
        store = self._core.store
        try:
            place = await store.write(sinks.place, self.name)
            while True:
                if store.batches != self._seen:
                    self._seen = store.batches
                    place = await self.feed(place)
                await self._core.clock.sleep(PAUSE)
        finally:
            await self._sink.close()

    async def feed(self, place: int) -> int:
        """Tell everything behind that event; return the last one."""
        while rows := await self._core.store.read(sinks.after, place, limit=BATCH):
            wanted = [
                Told(number, text, load(text))
                for number, kind, text in rows
                if not self._types or kind in self._types
            ]
            if wanted:
                await self._told(wanted)
                self._core.failpoints.hit("sink.sent")
            place = rows[-1][0]
            await self._core.store.write_aside(sinks.set_place, self.name, place)
        return place

    async def _told(self, events: Sequence[Told]) -> None:
        """Send until it is taken; what is refused is halved until one bad event is left out."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._sink.send(events)
            except SinkRefused as error:
                await self._halved(events, error)
                return
            except (EcpdsError, OSError, TimeoutError) as error:
                text = str(error) or type(error).__name__
                log.warning("events not taken", sink=self.name, reason=text)
                self._count("failed", len(events))
                await self._core.clock.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
            else:
                self._count("sent", len(events))
                return

    async def _halved(self, events: Sequence[Told], error: SinkRefused) -> None:
        if len(events) == 1:
            event = events[0].record["id"]
            log.error("event refused", sink=self.name, event=event, reason=error.message)
            self._count("refused", 1)
            return
        middle = len(events) // 2
        await self._told(events[:middle])
        await self._told(events[middle:])

    def _count(self, result: str, number: int) -> None:
        self._core.metrics.event_sinks.labels(self.name, result).inc(number)


async def feed_all(core: Core, feeders: Sequence[Feeder]) -> None:
    """Feed all sinks until cancelled; one that is stuck holds up no other."""
    async with asyncio.TaskGroup() as group:
        for one in feeders:
            run = partial(supervise, f"sink {one.name}", one.run, core.clock)
            group.create_task(run(), name=f"sink {one.name}")
