"""Events as classic lines: `CODE;Name=value;…`, rendered from the JSON record.

One table a code gives field names, their order, and where each value stands in the record;
documents and tests are made from it.  Spec: events.md sections 1 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

_TIMES = frozenset(
    {"ts", "scheduled", "queued", "started", "put", "finished", "retrieved", "expires", "meta.base"}
)

_PRODUCT: Final = (
    ("MetaStream", "meta.stream"),
    ("MetaType", "meta.type"),
    ("MetaTime", "meta.time"),
)
_BASE: Final = (("TimeBase", "meta.base"), ("TimeStep", "meta.step"))
_HEAD: Final = (
    ("Monitored", "destination.monitored"),
    ("TimeStamp", "ts"),
    ("DataTransferId", "transfer_id"),
    ("DestinationName", "destination.name"),
    ("DestinationType", "destination.type"),
    ("FileName", "file.name"),
    ("FileSize", "file.size"),
)

FIELDS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "PRS": (
        ("TimeStamp", "ts"),
        ("StatusCode", "status"),
        ("DataStream", "meta.stream"),
        ("TimeStep", "meta.step"),
        ("TimeBase", "meta.base"),
        ("Type", "meta.type"),
        ("ScheduleTime", "scheduled"),
        ("LastUpdate", "finished"),
    ),
    "RET": (
        *_HEAD[:5],
        ("FileName", "file.source"),
        ("FileSize", "file.size"),
        ("Identity", "file.identity"),
        ("ScheduledTime", "scheduled"),
        ("StartTime", "started"),
        *_PRODUCT,
        *_BASE,
        ("Duration", "duration_ms"),
        ("HostId", "host.id"),
        ("HostLogin", "host.login"),
        ("HostAddress", "net.remote"),
        ("TransferProtocol", "net.protocol"),
        ("MoverName", "net.server"),
        ("UserId", "user.id"),
        ("RequestAddress", "net.client"),
        ("DataOnlyDuration", "data_ms"),
        ("StandBy", "standby"),
        ("RemoteHost", "net.member"),
    ),
    "UPH": (
        *_HEAD,
        ("Identity", "file.identity"),
        *_PRODUCT,
        ("Priority", "priority"),
        ("QueueTime", "queued"),
        ("RequeueCount", "requeues"),
        ("ScheduledTime", "scheduled"),
        ("StartTime", "started"),
        ("PutTime", "put"),
        ("Duration", "duration_ms"),
        ("DurationOnClose", "close_ms"),
        ("BytesSent", "bytes"),
        ("StatusCode", "status"),
        ("RetrievalTime", "retrieved"),
        *_BASE,
        ("FinishTime", "finished"),
        ("TransferProtocol", "net.protocol"),
        ("TransferServer", "net.server"),
        ("NetworkCode", "net.network"),
        ("HostAddress", "net.remote"),
        ("PreSchedule", "asap"),
        ("ProxyHost", "proxy.host"),
        ("Proxied", "proxy.used"),
        ("SocketStatistics", "tcp"),
        ("Compressed", "compression.name"),
        ("CompressedOnTheFly", "compression.on_the_fly"),
    ),
    "INH": (
        *_HEAD,
        ("ScheduledTime", "scheduled"),
        ("StartTime", "started"),
        *_PRODUCT,
        *_BASE,
        ("Duration", "duration_ms"),
        ("UserId", "user.id"),
        ("CountryCode", "user.country"),
        ("UserDescription", "user.description"),
        ("BytesSent", "bytes"),
        ("TransferProtocol", "net.protocol"),
        ("TransferServer", "net.server"),
        ("HostAddress", "net.client"),
        ("Caller", "caller"),
        ("ExpiryTime", "expires"),
        ("FileSystem", "volume"),
        ("Action", "action"),
    ),
    "ERR": (
        *_HEAD,
        ("ScheduledTime", "scheduled"),
        ("StartTime", "started"),
        *_PRODUCT,
        *_BASE,
        ("Duration", "duration_ms"),
        ("UserId", "user.id"),
        ("CountryCode", "destination.country"),
        ("BytesSent", "bytes"),
        ("TransferProtocol", "net.protocol"),
        ("TransferServer", "net.server"),
        ("HostAddress", "net.remote"),
        ("NetworkCode", "net.network"),
        ("Message", "error.message"),
    ),
    "CPY": (
        *_HEAD,
        ("ScheduledTime", "scheduled"),
        ("StartTime", "started"),
        *_PRODUCT,
        *_BASE,
        ("Duration", "duration_ms"),
        ("CountryCode", "destination.country"),
        ("Target", "target"),
        ("TransferServer", "net.server"),
        ("Caller", "caller"),
        ("ExpiryTime", "expires"),
        ("FileSystem", "volume"),
        ("Status", "status"),
        ("Message", "error.message"),
        ("Action", "action"),
    ),
    "DEA": (
        ("TimeStamp", "ts"),
        ("UserId", "user.id"),
        ("Message", "error.message"),
        ("Context", "context"),
    ),
}

FALSE_WHEN_MISSING: Final = frozenset(
    {"proxy.used", "compression.on_the_fly", "destination.monitored"}
)


_STEPS: Final = {
    kind: tuple((f"{name}=", path, tuple(path.split("."))) for name, path in fields)
    for kind, fields in FIELDS.items()
}


def classic(record: Mapping[str, Any]) -> str | None:
    """Return the classic line without line end; None for types of the JSON form only."""
    fields = _STEPS.get(record["type"])
    if fields is None:
        return None
    parts = [record["type"]]
    parts += [name + _value(record, path, steps) for name, path, steps in fields]
    failed = record.get("outcome") in {"failed", "ignored"}
    if record["type"] == "RET" and failed:
        parts += ["Status=false", f"Message={_error_message(record)}"]
    if record["type"] == "PRS" and failed:
        parts.append(f"ErrorMessage={_error_message(record)}")
    return ";".join(parts)


def _error_message(record: Mapping[str, Any]) -> str:
    return _value(record, "error.message", ("error", "message"))


def _value(record: Mapping[str, Any], path: str, steps: tuple[str, ...]) -> str:
    value: Any = record
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None and path in FALSE_WHEN_MISSING:
        return "false"
    if path in _TIMES and isinstance(value, str):
        return _classic_stamp(value)
    return classic_text(value)


def _classic_stamp(text: str) -> str:
    """Return the classic form of a time in a record; those of our own records are only cut."""
    if len(text) == len("2031-05-04T10:00:00.000Z") and text.endswith("Z"):
        return f"{text[:10]} {text[11:19]}.{text[20:23].rstrip('0') or '0'}"
    return classic_time(datetime.fromisoformat(text))


def classic_text(value: object) -> str:
    """Return a value as a field: missing is `-`; separators, `%` and line ends are escaped."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):  # as ss(8) writes them
        value = " ".join(f"{name}:{one}" for name, one in value.items())
    text = str(value).replace("%", "%25").replace(";", "%3B")
    return text.replace("\r", "%0D").replace("\n", "%0A")


def classic_time(time: datetime) -> str:
    """Return `yyyy-MM-dd HH:mm:ss.f`, UTC, trailing zeros cut but one digit kept."""
    utc = time.astimezone(UTC)
    fraction = f"{utc.microsecond:06d}".rstrip("0") or "0"
    return f"{utc:%Y-%m-%d %H:%M:%S}.{fraction}"
