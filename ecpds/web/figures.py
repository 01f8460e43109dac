"""Figures of `/metrics` that are looked up when somebody asks, at most every five seconds.

One pair of gauges for each destination, up to `MOST`; nothing is counted while nobody asks.
Spec: rest-api.md B.6.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.notices import NoticeOperations
from ecpds.engine.supervisor import Engine
from ecpds.model.errors import EcpdsError
from ecpds.store import files, history
from ecpds.store.db import Connection

MOST: Final = 500  # destinations with gauges of their own
OFTEN: Final = timedelta(seconds=5)


class Figures:
    """Sets the gauges that nothing else sets."""

    def __init__(
        self, engine: Engine, destinations: DestinationOperations, notices: NoticeOperations
    ) -> None:
        self._engine = engine
        self._core = engine.core
        self._destinations = destinations
        self._notices = notices
        self._at: datetime | None = None

    async def refresh(self) -> None:
        """Look everything up, unless that was done a moment ago."""
        now = self._core.clock.now()
        if self._at is not None and now - self._at < OFTEN:
            return
        self._at = now
        await self._of_destinations()
        await self._of_acquisition()
        metrics = self._core.metrics
        for state, count in (await self._notices.counts()).items():
            metrics.waiting_publications.labels(state).set(count)
        metrics.store_busy.set(self._core.store.busy_seconds)
        metrics.running.set(len(self._engine.attempts.running))
        for volume, (files_there, size) in (await self._core.store.read(files.totals)).items():
            metrics.storage_files.labels(volume).set(files_there)
            metrics.storage_bytes.labels(volume).set(size)
        await self._of_certificate()

    async def _of_destinations(self) -> None:
        metrics = self._core.metrics
        for gauge in (metrics.destination_state, metrics.destination_light, metrics.last_success):
            gauge.clear()
        for view in islice(await self._destinations.views(), MOST):
            name = view.destination.name
            metrics.destination_state.labels(name, view.status.value).set(1)
            metrics.destination_light.labels(name, view.light.value).set(1)
            if view.state.last_ok_at is not None:
                metrics.last_success.labels(name).set(view.state.last_ok_at.timestamp())

    async def _of_acquisition(self) -> None:
        pairs = list(self._engine.acquisitions)[:MOST]
        found = await self._core.store.read(read_clocks, pairs)
        for host, at in found.items():
            self._core.metrics.last_discovery.labels(host).set(at.timestamp())

    async def _of_certificate(self) -> None:
        certificates = self._core.certificates
        if certificates is None:
            return
        try:
            ends = await self._core.threads.run("disk", certificates.expires_at)
        except (OSError, ValueError, EcpdsError):
            return  # an incident tells of it
        self._core.metrics.certificate_expiry.set(ends.timestamp())


def read_clocks(db: Connection, pairs: list[tuple[str, str]]) -> dict[str, datetime]:
    """Return when each host was discovered last, whatever the destination."""
    found: dict[str, datetime] = {}
    for destination, host in pairs:
        at = history.clock(db, destination, host).finished_at
        if at is not None and (host not in found or at > found[host]):
            found[host] = at
    return found
