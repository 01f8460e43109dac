"""What was published since some time, for those who have missed it: over HTTP, by the same rights.

A page holds a bounded number of messages and bytes and was looked for in a bounded number of rows;
its cursor says where to go on, also when nothing of it may be seen.
Spec: notifications.md 7; portal.md 3.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ecpds.engine.core import Core
from ecpds.engine.notices import EMBEDDED, EXTERNAL, IS_WIS2
from ecpds.model.errors import InputError
from ecpds.store import replay
from ecpds.store.codec import to_micros
from ecpds.store.replay import Place, Replayed

__all__ = ["WIS2", "ReplayPage", "Replayed", "Replays", "Seen", "read_place"]

SCAN: Final = 5_000  # rows that one page looks at
MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 4 * 1024 * 1024  # characters of payloads; a page has one message at least
WIS2: Final = tuple(sorted(IS_WIS2))
_CURSOR: Final = re.compile(r"([0-9]{1,17})-([0-9]{1,17})")

Seen = Callable[[Replayed], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPage:
    """Messages, where a reader goes on later, and whether there is more now."""

    messages: Sequence[Replayed]
    cursor: str
    more: bool


class Replays:
    """Finds what was sent."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def general(self) -> tuple[str, ...]:
        """Return the kinds of publications that count: with two carriers, those of our own."""
        both = self._core.settings.mqtt.driver == "both"
        return (EMBEDDED,) if both else (EMBEDDED, EXTERNAL)

    async def page(
        self, kinds: Sequence[str], after: Place, seen: Seen, *, limit: int = MOST_MESSAGES
    ) -> ReplayPage:
        """Return what was sent after that place and may be seen."""
        rows = await self._core.store.read(replay.sent, kinds, after, limit=SCAN)
        now, found, size = to_micros(self._core.clock.now()), list[Replayed](), 0
        for row in rows:
            if _is_over(row, now) or not seen(row):
                after = row.place
                continue
            size += len(row.content.get("payload") or "")
            if len(found) >= limit or (found and size > MOST_BYTES):
                return ReplayPage(messages=found, cursor=_text(after), more=True)
            found.append(row)
            after = row.place
        return ReplayPage(messages=found, cursor=_text(after), more=len(rows) == SCAN)


def _is_over(row: Replayed, now: int) -> bool:
    """Tell whether a message has expired, or was for one client only."""
    if "client" in row.content:
        return True
    expires: Any = row.content.get("expires")
    if expires is None or row.event in ("deleted", "cleared"):
        return False
    return to_micros(datetime.fromisoformat(expires)) <= now


def _text(place: Place) -> str:
    return "{}-{}".format(*place)


def read_place(since: str, after: str) -> Place:
    """Return where to begin: at a cursor, else at a time (RFC 3339).  Raises InputError."""
    found = _CURSOR.fullmatch(after)
    if found is not None:
        return int(found[1]), int(found[2])
    if after not in ("", "0"):
        raise InputError("after is no cursor of an earlier answer", pointer="after")
    try:
        moment = datetime.fromisoformat(since.replace(" ", "+"))
    except ValueError:
        raise InputError("since is an RFC 3339 time", pointer="since") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(to_micros(aware) - 1, 0), 2**60
