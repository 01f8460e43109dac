"""Option families (`sftp.port`, `scheduler.delay`…), their text form, the catalogue of all keys.

A family is a frozen dataclass whose fields are declared with `opt()`.  Hosts, destinations and
users store options as texts by full key; `OptionFamily.read` picks its own.  Validation, editor
help and the manual come from `Catalogue`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin

from ecpds.model import units
from ecpds.model.decode import Where, convert, declared, decode, hints_of, key_of
from ecpds.model.errors import ConfigError, OptionError
from ecpds.model.names import ByteCount, ByteRate, nearest
from ecpds.model.secret import Secret

END = "###### END-OF-PROPERTIES ######"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionFamily:
    """Base of all families."""

    prefix: ClassVar[str] = ""
    scopes: ClassVar[frozenset[str]] = frozenset()  # host, destination, user, policy

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Self:
        """Build the family from full keys to texts; keys of other families are passed over."""
        start = cls.prefix + "."
        own = {key[len(start) :]: text for key, text in options.items() if key.startswith(start)}
        known = {key_of(item).lower(): key_of(item) for item in dataclasses.fields(cls)}
        data = {known.get(key.lower(), key): text for key, text in own.items()}
        return decode(cls, data, Where(path=(cls.prefix,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionEntry:
    """One key of the catalogue."""

    key: str
    type: str
    default: str
    help: str
    secret: bool
    scopes: frozenset[str]


class Catalogue:
    """All known option keys; built once from the families in use."""

    def __init__(self, families: Iterable[type[OptionFamily]]) -> None:
        self._entries: dict[str, OptionEntry] = {}
        self._types: dict[str, tuple[Any, Any]] = {}
        # keys that mean something else in another scope, such as `mqtt.qos` of hosts
        self._twins: dict[tuple[str, str], tuple[OptionEntry, tuple[Any, Any]]] = {}
        for family in families:
            hints = hints_of(family)
            for item in dataclasses.fields(family):
                key = f"{family.prefix}.{key_of(item)}"
                how = declared(item)
                scopes = frozenset(how.scope.split()) if how.scope else family.scopes
                secret = how.secret or hints[item.name] is Secret
                default = item.default if item.default is not dataclasses.MISSING else None
                entry = OptionEntry(
                    key=key,
                    type=type_name(hints[item.name]),
                    default=option_text(hints[item.name], default),
                    help=how.help,
                    secret=secret,
                    scopes=scopes,
                )
                if key.lower() in self._entries:
                    self._twins |= {
                        (key.lower(), scope): (entry, (hints[item.name], how)) for scope in scopes
                    }
                    continue
                self._entries[key.lower()] = entry
                self._types[key.lower()] = (hints[item.name], how)

    def entries(self, scope: str | None = None) -> list[OptionEntry]:
        """Return the entries of one scope (host, destination, user, policy) or all, by key."""
        twins = {id(entry): entry for entry, _ in self._twins.values()}
        everything = [*self._entries.values(), *twins.values()]
        found = [e for e in everything if scope is None or scope in e.scopes]
        return sorted(found, key=lambda entry: (entry.key, sorted(entry.scopes)))

    def is_secret(self, key: str) -> bool:
        """Tell whether the value of that key must be encrypted and masked."""
        entry = self._entries.get(key.lower())
        return entry is not None and entry.secret

    def check(
        self, options: Mapping[str, Any], scope: str, where: Where | None = None
    ) -> dict[str, str]:
        """Return the options as full key to text; raise on unknown or unreadable ones."""
        where = where or Where(path=("options",))
        result: dict[str, str] = {}
        for key, value in options.items():
            entry, types = self._find(key.lower(), scope)
            place = where.at(key)
            if entry is None or types is None:
                raise place.error("unknown option", nearest(key, self._names(scope)))
            if scope not in entry.scopes:
                raise place.error(f"this option is not for a {scope}")
            hint, how = types
            text = option_text(hint, value)
            convert(hint, text, place, how)
            result[entry.key] = text
        return result

    def _find(self, key: str, scope: str) -> tuple[OptionEntry | None, tuple[Any, Any] | None]:
        entry, twin = self._entries.get(key), self._twins.get((key, scope))
        if twin is not None and (entry is None or scope not in entry.scopes):
            return twin
        return entry, self._types.get(key)

    def _names(self, scope: str) -> list[str]:
        return [entry.key for entry in self.entries(scope)]


def option_text(hint: Any, value: Any) -> str:
    """Return the text form of a value of that type; sizes and rates with their unit."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and hint in {ByteCount, ByteRate, ByteCount | None, ByteRate | None}:
        return units.exact_bytes(value)
    return as_text(value)


def as_text(value: Any) -> str:
    """Return the text form of an option value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return units.format_duration(value)
    if isinstance(value, (tuple, list, frozenset)):
        return ",".join(as_text(item) for item in value)
    if isinstance(value, Secret):
        return value.reveal()
    return str(value)


def type_name(hint: Any) -> str:
    """Return a type as people call it: `yes/no`, `duration`, `full/normal`, `list`."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return type_name(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return "/".join(str(part) for part in parts if part != "")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "/".join(str(member.value) for member in hint)
    if origin is not None:
        return "table" if origin in (dict, Mapping) else "list"
    return _TYPE_NAMES.get(hint.__name__, str(hint.__name__))


_TYPE_NAMES = {
    "str": "text",
    "bool": "yes/no",
    "int": "number",
    "float": "number",
    "timedelta": "duration",
    "datetime": "time",
    "ByteCount": "bytes",
    "ByteRate": "bytes/s",
    "Path": "path",
    "Secret": "secret",
}


_LINE = re.compile(r"\s*([A-Za-z][\w-]*\.[\w.\[\]-]+)\s*=\s*\"")


def parse_properties(text: str) -> tuple[dict[str, str], str]:
    """Read `key = "value"` text; return the options and the script behind the end mark.

    A value may span lines and ends at `"` before a line end; `#` begins a comment line.  A line
    that is neither raises OptionError with its number (OpenECPDS stops there silently).
    """
    body, _, script = text.partition(END)
    options: dict[str, str] = {}
    lines = body.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = _LINE.match(line)
        if start is None:
            raise OptionError(f'line {number}: expected key = "value", found {line.strip()[:60]!r}')
        begun, value = number, line[start.end() :]
        while not value.rstrip().endswith('"'):
            if number >= len(lines):
                raise OptionError(f"line {begun}: the value of {start[1]} is never closed")
            value += "\n" + lines[number]
            number += 1
        options[start[1]] = value.rstrip()[:-1]
    return options, script.strip("\n")


def format_properties(options: Mapping[str, str], script: str = "") -> str:
    """Return the text form that `parse_properties` reads back."""
    text = "".join(f'{key} = "{value}"\n' for key, value in options.items())
    return f"{text}{END}\n{script}\n" if script else text


__all__ = [
    "Catalogue",
    "ConfigError",
    "OptionEntry",
    "OptionFamily",
    "as_text",
    "format_properties",
    "option_text",
    "parse_properties",
    "type_name",
]
