"""One strict decoder from text or JSON-like values to dataclasses.

Settings, options, site files and the JSON API all go through it, so that the same mistake gets the
same message everywhere: what is wrong, where, and the nearest known name.  A field is declared once
with `opt()`: default, help, key, limits, whether it is secret and whether a reload may change it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ecpds.model import units
from ecpds.model.errors import ConfigError, InputError
from ecpds.model.names import ByteCount, ByteRate, nearest
from ecpds.model.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What `opt()` says of a field beyond its type and default."""

    help: str
    key: str
    low: float | None
    high: float | None
    secret: bool
    reload: bool
    scope: str


def opt(
    default: Any,
    help: str,  # noqa: A002 - reads best where it is used
    *,
    key: str = "",
    low: float | None = None,
    high: float | None = None,
    secret: bool = False,
    reload: bool = True,
    scope: str = "",
) -> Any:
    """Declare a field: `default` (a callable makes one), help, outside name `key`, limits."""
    declared = Declared(
        help=help, key=key, low=low, high=high, secret=secret, reload=reload, scope=scope
    )
    metadata = {"declared": declared}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Where:
    """Where a value stands, for messages: a file, the line of each key, and the path so far."""

    file: str = ""
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)
    path: tuple[str | int, ...] = ()

    def at(self, step: str | int) -> Where:
        """Return the place one step further in."""
        return Where(self.file, self.lines, (*self.path, step))

    @property
    def key(self) -> str:
        """Return the path as dotted text, list positions in brackets."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        return text

    @property
    def line(self) -> int:
        """Return the line of the nearest known key at or above this place, 0 if none is known."""
        for length in range(len(self.path), 0, -1):
            if (found := self.lines.get(self.path[:length])) is not None:
                return found
        return 0

    def error(self, message: str, near: str = "") -> ConfigError:
        """Make the error that names this place."""
        text = f"{self.key}: {message}" if self.path else message
        return ConfigError(text, file=self.file, line=self.line, key=self.key, nearest=near)


def declared(item: Field[Any]) -> Declared:
    """Return what `opt()` said of a field; a plain field has no help and no limits."""
    found = item.metadata.get("declared")
    if isinstance(found, Declared):
        return found
    return Declared(help="", key="", low=None, high=None, secret=False, reload=True, scope="")


def key_of(item: Field[Any]) -> str:
    """Return the outside name of a field."""
    return declared(item).key or item.name


def decode(cls: type[T], data: Mapping[str, Any], where: Where | None = None) -> T:
    """Build a `cls` from `data`; an unknown key, a wrong type or limit raises ConfigError."""
    where = where or Where()
    if not isinstance(data, Mapping):
        raise where.error(f"a table is expected, not {_kind(data)}")
    fields = {key_of(item): item for item in dataclasses.fields(typing.cast(Any, cls))}
    hints = hints_of(cls)
    for key in data:
        if key not in fields:
            raise where.at(key).error("unknown key", nearest(str(key), fields))
    values: dict[str, Any] = {}
    for key, item in fields.items():
        if key in data:
            values[item.name] = convert(hints[item.name], data[key], where.at(key), declared(item))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise where.error(f"{key!r} is missing")
    return cls(**values)


def hints_of(cls: type) -> dict[str, Any]:
    """Return the resolved types of the fields of a dataclass."""
    return _cached_hints(typing.cast(Hashable, cls))


@functools.cache
def _cached_hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def convert(hint: Any, value: Any, where: Where, how: Declared | None = None) -> Any:
    """Turn an outside value into the type `hint`; texts are read as the type's text form."""
    try:
        result = _convert(hint, value, where)
    except ConfigError:
        raise
    except InputError as error:
        raise where.error(error.message) from None
    if how is not None and result is not None:
        _check_limits(result, where, how)
    return result


def _convert(hint: Any, value: Any, where: Where) -> Any:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is typing.Literal:
        return _convert_choice(get_args(hint), value, where)
    if origin in (tuple, list, frozenset):
        return _convert_many(origin, get_args(hint)[0], value, where)
    if origin in (dict, Mapping):
        return _convert_mapping(get_args(hint)[1], value, where)
    if hint in _SIMPLE:
        return _SIMPLE[hint](value, where)
    return _convert_class(hint, value, where)


def _convert_class(hint: Any, value: Any, where: Where) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _convert_choice(tuple(member.value for member in hint), value, where, hint)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where)
    if hint in (Any, object):
        return value
    raise TypeError(f"{where.key}: the decoder does not know {hint!r}")


def _convert_union(hints: tuple[Any, ...], value: Any, where: Where) -> Any:
    if value is None and type(None) in hints:
        return None
    rest = [hint for hint in hints if hint is not type(None)]
    if value == "" and type(None) in hints and str not in rest:
        return None
    for hint in rest[:-1]:
        try:
            return _convert(hint, value, where)
        except InputError:
            continue
    return _convert(rest[-1], value, where)


def _convert_choice(
    choices: tuple[Any, ...], value: Any, where: Where, enum: type[Enum] | None = None
) -> Any:
    texts = {str(choice).lower(): choice for choice in choices}
    found = texts.get(str(value).lower())
    if found is None:
        listed = ", ".join(str(choice) for choice in choices)
        raise where.error(f"{value!r} is none of {listed}", nearest(str(value), texts))
    return enum(found) if enum else found


def _convert_many(origin: type, hint: Any, value: Any, where: Where) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise where.error(f"a list is expected, not {_kind(value)}")
    items = [convert(hint, item, where.at(number)) for number, item in enumerate(value)]
    return origin(items)


def _convert_mapping(hint: Any, value: Any, where: Where) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise where.error(f"a table is expected, not {_kind(value)}")
    return {str(key): convert(hint, item, where.at(key)) for key, item in value.items()}


def _kind(value: Any) -> str:
    names = {str: "text", bool: "yes/no", int: "a number", float: "a number", list: "a list"}
    names[dict] = "a table"
    return names.get(type(value), type(value).__name__)


def _text(value: Any, where: Where) -> str:
    if isinstance(value, str):
        return value
    raise where.error(f"text is expected, not {_kind(value)}")


def _number(value: Any, where: Where) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(_text(value, where).strip())
    except ValueError:
        raise where.error(f"{value!r} is no whole number") from None


def _real(value: Any, where: Where) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(_text(value, where))
    except ValueError:
        raise where.error(f"{value!r} is no number") from None


def _flag(value: Any, where: Where) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        raise where.error("yes or no is expected, not a number")
    return units.parse_bool(_text(value, where))


def _bytes(value: Any, where: Where) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return units.parse_bytes(_text(value, where))


def _rate(value: Any, where: Where) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return units.parse_rate(_text(value, where))


def _duration(value: Any, where: Where) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)):
        raise where.error(f"{value!r} has no unit; write for instance '{value}s'")
    return units.parse_duration(_text(value, where))


def _time(value: Any, where: Where) -> datetime:
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(_text(value, where))
        except ValueError:
            raise where.error(f"{value!r} is no RFC 3339 time") from None
    if value.tzinfo is None:
        raise where.error("the time needs a zone, for instance 2031-05-04T10:00:00Z")
    return typing.cast(datetime, value)


_SIMPLE: dict[Any, Callable[[Any, Where], Any]] = {
    str: _text,
    int: _number,
    float: _real,
    bool: _flag,
    ByteCount: _bytes,
    ByteRate: _rate,
    timedelta: _duration,
    datetime: _time,
    Path: lambda value, where: Path(_text(value, where)),
    Secret: lambda value, where: (
        value if isinstance(value, Secret) else Secret(_text(value, where))
    ),
}


def _check_limits(value: Any, where: Where, how: Declared) -> None:
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return
    unit = " s" if isinstance(value, timedelta) else ""
    if how.low is not None and number < how.low:
        raise where.error(f"{number:g}{unit} is less than {how.low:g}{unit}")
    if how.high is not None and number > how.high:
        raise where.error(f"{number:g}{unit} is more than {how.high:g}{unit}")
