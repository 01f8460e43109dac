"""The JSON form of events as JSON Schema, one definition a type.

Fields may come without a new `v`, and readers pass over what they do not know: the published schema
asks for what every event has and for the types of the rest.  The tests hold each of their events
against the strict form, which refuses unknown fields and asks for all that are not optional.
Spec: events.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ID: Final = "https://ecpds.invalid/events/v1"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Fields = dict[str, Any]
"""Names to types; `?` behind a type: or null; behind a name: the field may be missing."""

_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "count": {"type": "integer", "minimum": 0},
    "number": {"type": "integer"},
    "yes/no": {"type": "boolean"},
    "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
    "ulid": {"type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$"},
    "status": {"enum": ["INIT", "SCHE", "FETC", "HOLD", "WAIT", "EXEC", "DONE", "RETR", "STOP",
                        "FAIL", "INTR"]},
    "outcome": {"enum": ["ok", "failed", "denied", "ignored"]},
    "counts": {"type": "array", "items": {"type": "integer"}},
    "counters": {"type": "object", "additionalProperties": {"type": "number"}},
}  # fmt: skip

_HEAD: Final[Fields] = {"id": "ulid", "ts": "time", "node": "text"}
_ERROR: Final[Fields] = {
    "code": "text", "message": "text", "retryable": "yes/no", "class?": "text", "phase?": "text?",
}  # fmt: skip
_DESTINATION: Final[Fields] = {"name": "text"}
_FILE: Final[Fields] = {"name": "text", "size": "number?"}
_META: Final[Fields] = {
    "stream": "text?", "type": "text?", "time": "text?", "base": "time?", "step": "number",
}  # fmt: skip
_USER: Final[Fields] = {"id": "text?", "kind": "text"}
_OBJECT: Final[Fields] = {"kind": "text", "name": "text"}
_ABOUT: Final[Fields] = {
    "transfer_id": "count",
    "file_id": "count",
    "destination": {"name": "text", "type": "text", "monitored": "yes/no", "country": "text?"},
    "file": {
        "name": "text", "size": "number", "identity": "text", "checksum": "text?", "source": "text",
    },
    "meta": _META,
    "scheduled": "time?",
    "queued": "time?",
    "expires": "time?",
    "priority": "count",
    "requeues": "count",
    "asap": "yes/no",
    "caller": "text?",
    "volume": "text",
}  # fmt: skip
_DONE: Final[Fields] = {"started": "time?", "duration_ms": "number", "outcome": "outcome"}

TYPES: Final[Mapping[str, Fields]] = {
    "PRS": {
        "status": "status", "meta": _META, "scheduled": "time?", "finished": "time?",
        "outcome": "outcome", "error?": _ERROR,
    },
    "RET": _ABOUT | _DONE | {
        "host": {"id": "number", "login": "text?"},
        "net": {"protocol": "text", "remote": "text", "server": "text", "member": "text?",
                "client": "text?"},
        "user": _USER,
        "data_ms": "number",
        "bytes": "count",
        "standby": "yes/no",
        "tcp?": "counters",
        "error?": _ERROR,
    },
    "UPH": _ABOUT | _DONE | {
        "net": {"protocol": "text", "remote": "text", "server": "text", "network": "text"},
        "put": "time?",
        "finished": "time",
        "retrieved": "time?",
        "close_ms": "number",
        "bytes": "count",
        "status": "status",
        "compression?": {"name": "text", "on_the_fly": "yes/no"},
        "proxy?": {"host": "text", "used": "yes/no"},
        "tcp?": "counters",
    },
    "INH": _ABOUT | _DONE | {
        "user": _USER | {"description": "text?", "subscriber": "text?", "country": "text?"},
        "net": {"protocol": "text", "client": "text", "server": "text", "tls": "text?"},
        "action": "text",
        "bytes": "count",
        "offset": "count",
        "trace": "text",
        "error?": _ERROR,
    },
    "ERR": _ABOUT | _DONE | {
        "user": _USER,
        "net": {"protocol": "text", "remote": "text", "server": "text", "network": "text"},
        "bytes": "count",
        "status": "status",
        "error": _ERROR,
    },
    "CPY": _ABOUT | _DONE | {
        "net": {"protocol": "text", "remote": "text", "server": "text"},
        "target": "text",
        "action": "text",
        "status": "yes/no",
        "error?": _ERROR,
    },
    "DEA": {
        "user": _USER,
        "net": {"protocol": "text", "client": "text", "server": "text"},
        "context": "text",
        "outcome": "outcome",
        "error": _ERROR,
    },
    "LOG": {
        "user": _USER,
        "net": {"protocol": "text", "client": "text", "server": "text", "tls": "text?"},
        "action": "text",
        "outcome": "outcome",
        "trace": "text",
    },
    "ADM": {
        "user": _USER, "net": {"client": "text?"}, "action": "text", "object": _OBJECT,
        "outcome": "outcome",
    },
    "DEL": {
        "transfer_id": "count", "file_id": "count", "destination": _DESTINATION, "file": _FILE,
        "user": _USER, "outcome": "outcome",
    },
    "EXP": {
        "transfer_id": "count", "file_id": "count", "destination": _DESTINATION, "file": _FILE,
        "status": "status", "outcome": "outcome",
    },
    "PUB": {
        "transfer_id": "count?", "destination": {"name": "text?"}, "action": "text",
        "topic": "text?", "driver": "text", "outcome": "outcome", "error?": _ERROR,
    },
    "QTA": {
        "holder": "text", "direction": "text", "used": "count", "limit": "count",
        "percent": "count", "user": _USER, "outcome": "outcome",
    },
    "SYS": {
        "action": "text", "object": _OBJECT, "context?": "text", "severity?": "text",
        "outcome?": "outcome", "file_id?": "count", "transfers?": "counts", "repaired?": "count",
    },
}  # fmt: skip


def schema(*, strict: bool = False) -> dict[str, Any]:
    """Return the schema of any event."""
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "An event of ecpds, one line of events.jsonl",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in TYPES],
        "$defs": {kind: of_type(kind, strict=strict) for kind in TYPES},
    }


def of_type(kind: str, *, strict: bool = False) -> dict[str, Any]:
    """Return the schema of one type of events."""
    found = _object(_HEAD | TYPES[kind], strict=strict)
    found["properties"] = {"v": {"const": 1}, "type": {"const": kind}} | found["properties"]
    found["required"] = ["v", "type", *(found["required"] if strict else _HEAD)]
    return found


def _object(fields: Fields, *, strict: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {
            name.removesuffix("?"): _type(told, strict=strict) for name, told in fields.items()
        },
    }
    if strict:
        found["required"] = [name for name in fields if not name.endswith("?")]
        found["additionalProperties"] = False
    return found


def _type(told: str | Fields, *, strict: bool) -> dict[str, Any]:
    if not isinstance(told, str):
        return _object(told, strict=strict)
    found = dict(_KINDS[told.removesuffix("?")])
    if told.endswith("?"):
        found["type"] = [found["type"], "null"]
    return found
