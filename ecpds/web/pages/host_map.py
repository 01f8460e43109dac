"""Hosts on a map: marks over the outline of the land, those close to each other as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ecpds.engine.operations.hosts import HostView
from ecpds.web.display import Look

SCALE: Final = 2.0  # units of the picture for a degree
CLOSE: Final = 2.0  # degrees within which marks become one
WORST: Final = ("bad", "warn", "info", "good", "off")  # what a mark of several shows


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark: the hosts there, the look of the worst of them, and its place in the picture."""

    hosts: tuple[tuple[HostView, Look], ...]
    x: float
    y: float

    @property
    def look(self) -> Look:
        """Return the look of the host that needs somebody most."""
        return min((look for _, look in self.hosts), key=lambda look: WORST.index(look.tone))

    @property
    def title(self) -> str:
        """Return the names with their states."""
        return ", ".join(f"{view.host.name}: {look.word}" for view, look in self.hosts[:10])


def place(latitude: float, longitude: float) -> tuple[float, float]:
    """Return where a place is in the picture: degrees east and south of its upper left corner."""
    return round((longitude + 180) * SCALE, 1), round((90 - latitude) * SCALE, 1)


def marks(views: Sequence[tuple[HostView, Look]]) -> list[Mark]:
    """Return the marks of all hosts whose place is known, from north to south."""
    found: dict[tuple[int, int], list[tuple[HostView, Look]]] = {}
    for view, look in views:
        latitude, longitude = view.host.latitude, view.host.longitude
        if latitude is not None and longitude is not None:
            key = round(latitude / CLOSE), round(longitude / CLOSE)
            found.setdefault(key, []).append((view, look))
    made = []
    for together in found.values():
        first = together[0][0].host
        x, y = place(first.latitude or 0.0, first.longitude or 0.0)
        made.append(Mark(tuple(together), x, y))
    return sorted(made, key=lambda mark: (mark.y, mark.x))
