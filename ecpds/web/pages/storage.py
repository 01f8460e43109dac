"""Volumes: how full they are and what of that is ours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web
from markupsafe import Markup

from ecpds.objects.volume import Volume
from ecpds.store import files, stats
from ecpds.web import plots
from ecpds.web.call import Call
from ecpds.web.display import size
from ecpds.web.pages.frame import show

LOOK: Final = timedelta(days=2)  # back and ahead; files live for two days by default
NARROW: Final = 0.1  # of the volume left: look at it
Totals = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """One volume."""

    volume: Volume
    total: int  # bytes of the file system
    room: int  # bytes that may still be stored
    files: int
    bytes: int  # ours
    tone: str
    gauge: Markup

    @property
    def used(self) -> int:
        """Return the bytes in use, ours and others', with the reserve."""
        return self.total - max(self.room, 0)


def measured(volume: Volume) -> tuple[int, int]:
    """Return size and room of a volume; asks the file system."""
    return volume.total, volume.room


async def rows_of(call: Call, totals: Totals) -> list[VolumeRow]:
    """Return the volumes with their figures; `totals` are files and bytes of each."""
    core = call.services.core
    rows = []
    for volume in core.objects.volumes:
        total, room = await core.threads.run("disk", measured, volume)
        number, own = totals.get(volume.name, (0, 0))
        tone = tone_of(total, room)
        label = f"{size(total - max(room, 0))} of {size(total)} in use"
        share = 1 - max(room, 0) / total if total else 0.0
        rows.append(
            VolumeRow(
                volume=volume,
                total=total,
                room=room,
                files=number,
                bytes=own,
                tone=tone,
                gauge=plots.gauge(share, tone, label),
            )
        )
    return rows


def tone_of(total: int, room: int) -> str:
    """Return how urgent it is: bad when nothing fits any more."""
    if room <= 0:
        return "bad"
    return "warn" if room < total * NARROW else "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Whether room runs out: what came in a while, and what leaves by itself in the next."""

    over: timedelta
    came: int  # bytes, still here
    leaves: int  # bytes that expire
    room: int
    now: datetime

    @property
    def growth(self) -> float:
        """Return bytes a day by which more comes than goes."""
        return (self.came - self.leaves) / (self.over / timedelta(days=1))

    @property
    def full_in(self) -> timedelta | None:
        """Return when nothing fits any more, None when that is more than ten years away."""
        if self.growth <= 0:
            return None
        days = self.room / self.growth
        return timedelta(days=days) if days < 3650 else None

    @property
    def tone(self) -> str:
        """Return how urgent it is."""
        left = self.full_in
        if left is None or left > timedelta(days=30):
            return "good"
        return "bad" if left < timedelta(days=3) else "warn"


async def forecast(call: Call, rows: list[VolumeRow]) -> Forecast:
    """Return the forecast for all volumes together."""
    core = call.services.core
    now = core.clock.now()
    came, leaves = await core.store.read(stats.flow, now=now, over=LOOK)
    room = sum(max(row.room, 0) for row in rows)
    return Forecast(over=LOOK, came=came, leaves=leaves, room=room, now=now)


async def index(call: Call) -> web.Response:
    """All volumes, and when they will be full."""
    totals = await call.services.core.store.read(files.totals)
    rows = await rows_of(call, totals)
    return show(call, "pages/storage.html", rows=rows, forecast=await forecast(call, rows))
