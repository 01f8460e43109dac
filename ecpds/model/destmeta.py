"""Fields that a site defines for its destinations, and what may stand in them (monitor.md 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ecpds.model.decode import opt
from ecpds.model.errors import InputError

MetadataType = Literal[
    "text", "textarea", "url", "email", "phone", "password", "contact", "mail-group", "switchboard"
]
OBJECTS: Final = frozenset({"contact", "mail-group", "switchboard"})
LONGEST: Final = 4096  # characters of one text
MOST_KEYS: Final = 20  # of one object
MOST_VALUES: Final = 1000  # of one field


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataField:
    """The definition of one field."""

    id: int = opt(0, "Number given by the store.")
    name: str = opt("", "Key of the field, cannot be changed.")
    label: str = opt("", "What people see.")
    type: MetadataType = opt("text", "Kind of its values.")
    category: str = opt("", "Group of fields in which it is shown.")
    tooltip: str = opt("", "Help shown beside it.")
    max_occurrences: int = opt(1, "Most values of one destination; -1 any number.", low=-1)
    position: int = opt(0, "Place within its category.", low=0)
    active: bool = opt(True, "Shown and accepted.")
    destination_types: tuple[str, ...] = opt((), "Types of destinations that have it; none: all.")

    @property
    def is_list(self) -> bool:
        """Whether a destination may have several values."""
        return self.max_occurrences != 1


def check_values(field: MetadataField, given: Any, pointer: str) -> list[Any]:
    """Return the values to be stored for a field, none for null or blank; InputError."""
    several = given if isinstance(given, list) else [given]
    found = [value for value in several if not _is_blank(value)]
    most = MOST_VALUES if field.max_occurrences < 0 else field.max_occurrences
    if len(found) > most:
        raise InputError(f"{field.name}: at most {most} values", pointer=pointer)
    for value in found:
        _check(field, value, pointer)
    return found


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == {}


def _check(field: MetadataField, value: Any, pointer: str) -> None:
    if field.type in OBJECTS and isinstance(value, Mapping):
        if len(value) > MOST_KEYS:
            raise InputError(f"{field.name}: at most {MOST_KEYS} keys", pointer=pointer)
        for key, one in value.items():
            if not isinstance(one, str | int | float | bool | None):
                raise InputError(f"{field.name}: {key} is no text", pointer=pointer)
            _check_length(field, f"{key}{one}", pointer)
        return
    if not isinstance(value, str):
        what = "a text or an object" if field.type in OBJECTS else "a text"
        raise InputError(f"{field.name}: {what} is wanted", pointer=pointer)
    _check_length(field, value, pointer)
    if field.type == "url" and not value.startswith(("http://", "https://")):
        raise InputError(f"{field.name}: a URL begins with https:// or http://", pointer=pointer)
    if field.type == "email" and "@" not in value:
        raise InputError(f"{field.name}: {value[:80]!r} is no mail address", pointer=pointer)


def _check_length(field: MetadataField, text: str, pointer: str) -> None:
    if len(text) > LONGEST:
        raise InputError(f"{field.name}: more than {LONGEST} characters", pointer=pointer)
