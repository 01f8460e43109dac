"""Metadata of a product: `date=20310504,time=06,stream=wave,step=12,note=a,b`.

A part without `=` continues the value before it, comma included, so that free texts need no quotes;
the reserved keys, which fill the columns of a product, take one word.

Spec: entities.md section 5, cli.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ecpds.model.errors import InputError

MAX_TEXT: Final = 16_384
"""Longest metadata text, in characters."""

MAX_ITEMS: Final = 256
MAX_KEY: Final = 25
MAX_VALUE: Final = 255

RESERVED: Final = frozenset(
    {"application", "step", "date", "time", "domain", "type", "target", "stream"}
)
_LONGEST: Final = {"time": 16, "stream": 25, "type": 25, "target": 25}


def parse_metadata(text: str, *, lenient: bool = False) -> dict[str, str]:
    """Read `k1=v1,k2=v2`; a key given twice keeps its last value.

    With `lenient` a stray part behind a reserved key is dropped instead of refused.

    Raises:
        InputError: no key, stray part, control character, key above 25 or value above 255
            characters, more than 256 keys.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"metadata is longer than {MAX_TEXT} characters")
    found: dict[str, str] = {}
    last = ""
    for part in text.split(",") if text.strip() else ():
        key, sign, value = part.partition("=")
        if sign:
            last = key.strip()
            found[last] = value
        elif last and last not in RESERVED:
            found[last] += f",{part}"
        elif part.strip() and not (lenient and last):
            raise InputError(_stray(part.strip(), last))
    values = {key: value.strip() for key, value in found.items()}
    check_metadata(values)
    return values


def _stray(part: str, last: str) -> str:
    after = f"; {last!r} takes one word" if last else ""
    return f"metadata is key=value, not {part[:60]!r}{after}"


def check_metadata(values: Mapping[str, str]) -> None:
    """Raise InputError when a key or value is above its limit or holds a control character."""
    if len(values) > MAX_ITEMS:
        raise InputError(f"more than {MAX_ITEMS} metadata keys")
    for key, value in values.items():
        longest = _LONGEST.get(key, MAX_VALUE)
        if not 0 < len(key) <= MAX_KEY:
            raise InputError(f"a metadata key has 1 to {MAX_KEY} characters, not {key[:60]!r}")
        if len(value) > longest:
            raise InputError(f"metadata {key!r} is longer than {longest} characters")
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in key + value):
            raise InputError(f"metadata {key!r} holds a control character")


def format_metadata(values: Mapping[str, str]) -> str:
    """Return the text that `parse_metadata` reads; raise InputError for a value that has none.

    A value with `=` behind a comma would be read as a new key.
    """
    text = ",".join(f"{key}={value}" for key, value in values.items())
    if parse_metadata(text) != dict(values):
        raise InputError("these metadata values cannot be written as one text")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The columns that the monitor and the dissemination tokens show."""

    time_base: datetime
    time_step: int = -1
    stream: str = "None"
    target: str = "None"
    time: str = "00"
    type: str = ""


def product_of(
    values: Mapping[str, str], *, file_time: datetime | None, now: datetime, lenient: bool = False
) -> Product:
    """Return the product columns; without a date the time base is that of the file, else now.

    With `lenient`, as acquisition has it, an unreadable date or step counts as missing.

    Raises:
        InputError: `step` is no whole number, or `date` no date.
    """
    base, step = file_time or now, -1
    try:
        base = _time_base(values.get("date", ""), values.get("time", "")) or base
    except InputError:
        if not lenient:
            raise
    try:
        step = _step(values.get("step", ""))
    except InputError:
        if not lenient:
            raise
    return Product(
        time_base=base,
        time_step=step,
        stream=_stream(values),
        target=values.get("target") or "None",
        time=values.get("time") or "00",
        type=values.get("type", ""),
    )


_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})?", re.ASCII)


def _time_base(date: str, time: str) -> datetime | None:
    if not date:
        return None
    match = _DATE.fullmatch(date)
    try:
        if match is None:
            raise ValueError("yyyyMMdd or yyyyMMddHH")
        hour = match[4] or (time if re.fullmatch(r"[0-9]{2}", time, re.ASCII) else "0")
        return datetime(int(match[1]), int(match[2]), int(match[3]), int(hour), tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"metadata date {date!r}, time {time!r}: {error}") from None


def _step(text: str) -> int:
    if not text:
        return -1
    if re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII) is None:
        raise InputError(f"metadata step {text!r} is no whole number")
    return int(text)


def _stream(values: Mapping[str, str]) -> str:
    stream = values.get("domain", "") + values.get("stream", "") or "None"
    application = values.get("application", "")
    return f"{stream}-{application}" if application and application != "pgen" else stream
