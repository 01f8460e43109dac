"""Forms made from the declaration of a model class: label, help, limits and kind of each field.

What is sent is read by the decoder of the site files and of the API; each field that it refuses
is told beside that field, all at once, and what was typed is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, get_args

from ecpds.model.decode import Where, convert, declared, hints_of, key_of
from ecpds.model.errors import ConfigError, EcpdsError, InputError
from ecpds.model.names import ByteCount
from ecpds.model.options import format_properties, option_text, parse_properties
from ecpds.model.secret import Secret

Kind = Literal["text", "number", "flag", "choice", "lines", "options", "secret", "names"]
Pairs = Sequence[tuple[str, str]]

KEEP: Final = "***"
SPARE: Final = 2  # empty lines for more names


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One group of fields."""

    title: str
    keys: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a declaration does not say of a field."""

    label: str = ""
    kind: Kind | None = None
    known: tuple[str, ...] = ()  # values that are proposed
    fixed: bool = False  # shown, not to be changed
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field as it is drawn."""

    key: str
    label: str
    help: str
    kind: Kind
    value: str = ""
    values: tuple[str, ...] = ()  # of names
    on: bool = False
    choices: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    error: str = ""
    fixed: bool = False
    default: str = ""
    scope: str = ""  # of options


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A group of drawn fields."""

    title: str
    note: str
    controls: tuple[Control, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether a field of it was refused."""
        return any(control.error for control in self.controls)


@dataclass(slots=True, kw_only=True)
class Typed:
    """What somebody sent: values for the decoder, the texts as typed, and what is wrong."""

    document: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def refuse(self, error: EcpdsError) -> None:
        """Note an error beside its field, without one at the top."""
        pointer = error.pointer if isinstance(error, InputError) else ""
        key = pointer.strip("/").partition(".")[0].partition("[")[0].partition("/")[0]
        text = error.message.removeprefix(f"{key}: ")
        self.errors[key if key in self.texts else ""] = text[:1].upper() + text[1:]


def _fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    return {key_of(item): item for item in dataclasses.fields(cls)}


def _kind(hint: Any, key: str) -> Kind:
    if key == "options":
        return "options"
    if hint is bool:
        return "flag"
    if hint is Secret:
        return "secret"
    if hint is int:
        return "number"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "choice"
    if hint == tuple[str, ...]:
        return "names"
    return "text"


def texts_of(one: Any, layout: Sequence[Layout]) -> dict[str, Any]:
    """Return the texts of an object as a form shows them."""
    cls, found = type(one), dict[str, Any]()
    fields, hints = _fields(cls), hints_of(cls)
    for key in (key for part in layout for key in part.keys):
        item = fields[key]
        value, hint = getattr(one, item.name), hints[item.name]
        kind = _kind(hint, key)
        if kind == "options":
            found[key] = format_properties(value, getattr(one, "script", ""))
        elif kind == "flag":
            found[key] = bool(value)
        elif kind == "names":
            found[key] = tuple(value)
        elif kind == "secret":
            found[key] = KEEP if value else ""
        else:
            found[key] = _text(hint, value)
    return found


def _text(hint: Any, value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    wants_unit = hint is ByteCount or ByteCount in get_args(hint)
    return option_text(ByteCount if wants_unit and value is not None else hint, value)


def read(cls: type, layout: Sequence[Layout], pairs: Pairs) -> Typed:
    """Return what was typed; empty numbers and lengths are left to their defaults."""
    typed, fields, hints = Typed(), _fields(cls), hints_of(cls)
    given: dict[str, list[str]] = {}
    for key, text in pairs:
        given.setdefault(key, []).append(text)
    for key in (key for part in layout for key in part.keys):
        item = fields[key]
        hint = hints[item.name]
        _take(typed, key, _kind(hint, key), given.get(key, []), hint)
        if key not in typed.document or key in typed.errors or key == "options":
            continue
        try:
            convert(hint, typed.document[key], Where(path=(key,)), declared(item))
        except ConfigError as error:
            typed.refuse(error)
    return typed


def _take(typed: Typed, key: str, kind: Kind, texts: list[str], hint: Any) -> None:
    last = texts[-1].replace("\r\n", "\n") if texts else ""
    if kind == "flag":
        typed.texts[key] = typed.document[key] = bool(texts)
    elif kind == "names":
        names = tuple(text.strip() for text in texts if text.strip())
        typed.texts[key], typed.document[key] = names, list(names)
    elif kind == "options":
        typed.texts[key] = last
        try:
            options, script = parse_properties(last)
            typed.document |= {"options": options, "script": script}
        except InputError as error:
            typed.errors[key] = error.message
    elif kind == "secret":
        typed.texts[key] = ""
        typed.document[key] = last or KEEP
    else:
        typed.texts[key] = last
        if hint is str or last.strip():
            typed.document[key] = last if hint is str else last.strip()


def drawn(
    cls: type,
    layout: Sequence[Layout],
    texts: Mapping[str, Any],
    errors: Mapping[str, str],
    looks: Mapping[str, Look],
    scope: str,
) -> list[Section]:
    """Return the form as it is drawn."""
    fields, hints = _fields(cls), hints_of(cls)
    found = []
    for part in layout:
        controls = tuple(
            _control(
                key, fields[key], hints[fields[key].name], texts.get(key, ""),
                errors.get(key, ""), looks.get(key, Look()), scope,
            )
            for key in part.keys
        )  # fmt: skip
        found.append(Section(title=part.title, note=part.note, controls=controls))
    return found


def _control(
    key: str, item: dataclasses.Field[Any], hint: Any, value: Any, error: str, look: Look,
    scope: str,
) -> Control:  # fmt: skip
    kind = look.kind or _kind(hint, key)
    choices: tuple[str, ...] = ()
    if kind == "choice" and isinstance(hint, type) and issubclass(hint, Enum):
        choices = tuple(str(one.value) for one in hint)
    elif kind == "choice":
        choices = look.known
    has_default = item.default is not dataclasses.MISSING
    plain = kind in {"text", "number"} and hint is not str and has_default
    return Control(
        key=key,
        label=look.label or key.replace("_", " ").capitalize(),
        help=declared(item).help,
        kind=kind,
        value=value if isinstance(value, str) else "",
        values=value if isinstance(value, tuple) else (),
        on=value is True,
        choices=choices,
        known=look.known,
        error=error,
        fixed=look.fixed,
        default=_text(hint, item.default) if plain else "",
        scope=scope,
    )
