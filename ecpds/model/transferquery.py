"""What the search language knows of transfers: keys, and the value of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from ecpds.model.query import Kind, Search, Value
from ecpds.model.transfer import Transfer

KEYS: Final[Mapping[str, Kind]] = {
    "target": "text", "destination": "text", "dest": "text", "status": "text", "host": "text",
    "identity": "text", "reason": "text", "user": "text", "priority": "number", "size": "size",
    "attempts": "number", "id": "number", "file": "number", "asap": "flag", "event": "flag",
    "deleted": "flag", "expired": "flag",
}  # fmt: skip
Read = Callable[[Transfer, datetime], Value]
VALUES: Final[Mapping[str, Read]] = {
    "target": lambda one, _: one.target,
    "destination": lambda one, _: one.destination,
    "dest": lambda one, _: one.destination,
    "status": lambda one, _: one.status.word,
    "host": lambda one, _: one.host,
    "identity": lambda one, _: one.identity,
    "reason": lambda one, _: one.reason.kind if one.reason else "",
    "user": lambda one, _: one.status_by,
    "priority": lambda one, _: one.priority,
    "size": lambda one, _: one.size,
    "attempts": lambda one, _: one.attempts,
    "id": lambda one, _: one.id,
    "file": lambda one, _: one.data_file,
    "asap": lambda one, _: one.asap,
    "event": lambda one, _: one.event,
    "deleted": lambda one, _: one.deleted,
    "expired": lambda one, now: one.expires_at <= now,
}


def matches(search: Search, one: Transfer, now: datetime) -> bool:
    """Tell whether a transfer fulfils all terms."""
    return search.matches(lambda key: VALUES[key](one, now))
