"""What all sessions of a node share, and who is at the other end of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.supervisor import Engine
from ecpds.engine.telling import Teller
from ecpds.model.account import Protocol
from ecpds.model.errors import Busy
from ecpds.store.db import Connection
from ecpds.vfs.limits import Direction, Quota, Quotas
from ecpds.vfs.looks import Looks
from ecpds.vfs.recorder import Recorder
from ecpds.vfs.terms import Keeping

STOP_WAIT: Final = timedelta(seconds=5)
"""Longest wait for the end of a delivery whose content is replaced or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The client of a session, as history and events name it."""

    login: str
    comment: str = ""
    country: str = ""
    protocol: Protocol
    peer: str
    trace: str = ""
    records_history: bool = True
    records_events: bool = True
    last_range_only: bool = True
    rate_in: int | None = None  # bytes a second of a download, beside that of the destination
    rate_out: int | None = None  # the same of an upload


@dataclass(slots=True, kw_only=True)
class Services:
    """Core, engine, and what the sessions keep in memory together."""

    core: Core
    engine: Engine
    teller: Teller
    recorder: Recorder
    quotas: Quotas
    looks: Looks
    keeping: Keeping
    writing: dict[tuple[str, str], str] = field(default_factory=dict)  # place to user
    parked: set[tuple[str, str, str]] = field(default_factory=set)  # user, destination, path
    is_stopping: bool = False
    digesting: dict[tuple[int, int], asyncio.Lock] = field(default_factory=dict)

    def lock(self, destination: str, key: str, login: str) -> None:
        """Hold a name for one upload; Busy when somebody is writing it."""
        holder = self.writing.get((destination, key))
        if holder is not None:
            raise Busy(f"Already processed by {holder}")
        self.writing[destination, key] = login

    def unlock(self, destination: str, key: str) -> None:
        """Let a name go."""
        self.writing.pop((destination, key), None)

    async def check_quotas(
        self, quotas: Iterable[Quota], entry: DestinationEntry, direction: Direction
    ) -> tuple[Quota, ...]:
        """Return the quotas that a transfer counts for; QuotaExceeded when one is used up."""
        wanted = tuple(
            quota
            for quota in (*quotas, *Quota.of_destination(entry))
            if quota.direction == direction
        )
        now = self.core.clock.now()
        for quota in wanted:
            await self.quotas.load(quota, now)
            self.quotas.check(quota, now)
        return wanted

    async def count(self, quotas: Iterable[Quota], moved: int, visitor: Visitor) -> None:
        """Count bytes for quotas; tell when one is nearly or wholly used up."""
        now = self.core.clock.now()
        for quota in quotas:
            passed = self.quotas.add(quota, moved, now)
            if passed is not None:
                used = self.quotas.used(quota, now)
                await self.recorder.put(
                    _tell_quota, self.teller, quota, used, passed, visitor.login, now=now
                )

    def told(self, destinations: Iterable[str]) -> None:
        """Wake whom a change of the queue concerns."""
        for name in destinations:
            self.engine.poke(name)


def _tell_quota(
    db: Connection,
    teller: Teller,
    quota: Quota,
    used: int,
    percent: int,
    login: str,
    *,
    now: datetime,
) -> None:
    """QTA: a threshold of a quota was passed."""
    teller.plain(
        db,
        "QTA",
        now=now,
        holder=quota.holder,
        direction=quota.direction,
        used=used,
        limit=quota.most,
        percent=percent,
        user={"id": login, "kind": "data"},
        outcome="ok",
    )
