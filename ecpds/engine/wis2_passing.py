"""Data that a Global Cache may not copy: their messages are passed on with the links they have.

Spec: WIS2 Notification Message 1.3 (`properties.cache`), Guide to WIS, volume II, 2.7.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ecpds.engine.core import DestinationEntry
from ecpds.store import announced, outbox
from ecpds.store.db import Connection
from ecpds.transfer.subscription import Notification

PASSED: Final = "passed"  # event of such a publication
PASSED_ON: Final = "passed on"  # outcome of such a message


@dataclass(frozen=True, slots=True)
class Cache:
    """A destination that is a Global Cache: its centre, and who carries its messages."""

    centre: str
    kinds: Sequence[str]

    @classmethod
    def of(cls, entry: DestinationEntry) -> Cache | None:
        """Return what a destination says, None when it is no cache."""
        if not entry.wis2.publish or entry.wis2.channel != "cache":
            return None
        return cls(entry.wis2.centre_id, entry.notices.wis2_kinds if entry.notices else ())

    def passes(self, note: Notification) -> bool:
        """Tell whether a message is only passed on."""
        return not note.may_cache and note.topic.split("/")[4:6] == ["data", "core"]


def pass_on(
    db: Connection, cache: Cache, note: Notification, destination: str, *, now: datetime
) -> str:
    """Note in the outbox that a message is to be told again."""
    if note.data_id and note.published is not None:
        announced.put_datum(db, destination, note.data_id, note.published, None, now=now)
    content: Mapping[str, Any] = {
        "topic": note.topic, "message": note.message.decode(), "centre": cache.centre,
    }  # fmt: skip
    outbox.add_record(db, cache.kinds, PASSED, dict(content), now=now)
    return PASSED_ON
