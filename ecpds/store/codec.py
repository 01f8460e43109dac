"""Between Python values and columns: times, lengths of time, JSON texts."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from ecpds.model.options import as_text
from ecpds.model.secret import Secret
from ecpds.model.transfer import Reason

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """Return whole microseconds since 1970, UTC."""
    return (time - EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the time of a column."""
    return EPOCH + timedelta(microseconds=value)


def maybe_micros(time: datetime | None) -> int | None:
    """Return the column of a time that may be missing."""
    return None if time is None else to_micros(time)


def maybe_time(value: int | None) -> datetime | None:
    """Return the time of a column that may be NULL."""
    return None if value is None else from_micros(value)


def length(value: timedelta | None) -> int | None:
    """Return whole microseconds of a length of time."""
    return None if value is None else value // _MICROSECOND


def maybe_length(value: int | None) -> timedelta | None:
    """Return the length of time of a column."""
    return None if value is None else timedelta(microseconds=value)


def by_name(row: sqlite3.Row) -> dict[str, Any]:
    """Return a wide row as a dictionary: a Row compares names one by one at each look-up."""
    return dict(zip(row.keys(), row, strict=True))


# Made once: json.dumps with other than its default separators builds an encoder at each call.
_ENCODE: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":")
).encode


def dump(value: Any) -> str:
    """Return compact JSON."""
    return _ENCODE(value)


def load(text: str) -> Any:
    """Read JSON that `dump` wrote."""
    return json.loads(text)


def plain(value: Any) -> Any:
    """Turn a model value into JSON-like data by field name; secrets must be sealed before."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (timedelta, Secret)):
        return as_text(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        items = [plain(item) for item in value]
        return sorted(items) if isinstance(value, (frozenset, set)) else items
    return value


def dump_reason(reason: Reason | None) -> str | None:
    """Return the column of a reason."""
    if reason is None:
        return None
    return dump(
        {"class": reason.kind, "phase": reason.phase, "code": reason.code, "text": reason.text}
    )


def load_reason(text: str | None) -> Reason | None:
    """Return the reason of a column."""
    if text is None:
        return None
    data = load(text)
    return Reason(kind=data["class"], phase=data["phase"], code=data["code"], text=data["text"])
