"""Durations, byte counts, rates, booleans and times of day as texts.

One reader for settings, options, rules and the directory language, so that `15s` and `10MB` mean
the same everywhere.  A number alone is refused for durations and sizes: older systems took it for
milliseconds in one place and for hours in another.  Texts imported from them name the unit of their
place (`legacy_unit`).

Spec: ISO 8601-1 section 5.5.2 (durations, without years and months: their length varies).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from ecpds.model.errors import OptionError

LONGEST: Final = timedelta(days=36_525)
"""Longest length of time that we accept, 100 years: sums with any sane date stay valid."""

MOST_BYTES: Final = 2**63 - 1
"""Largest byte count, what a signed 64 bit column holds."""

MAX_TEXT: Final = 64
"""Longest text of one duration, size, rate or boolean, in characters."""

MAX_RANGES: Final = 96
"""Most ranges in one list of times of day."""

_MILLISECOND: Final = timedelta(milliseconds=1)
_DURATION_UNITS: Final = {
    "ms": _MILLISECOND,
    "z": _MILLISECOND,
    "s": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(weeks=52),
}
_SHORT: Final = (
    ("w", timedelta(weeks=1)),
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
    ("ms", _MILLISECOND),
)
_NUMBER_UNIT: Final = re.compile(r"([+-]?)([0-9]{1,15})\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_ISO: Final = re.compile(
    r"([+-]?)P(?!$)(?:([+-]?[0-9]{1,9})W)?(?:([+-]?[0-9]{1,9})D)?"
    r"(?:T(?!$)(?:([+-]?[0-9]{1,9})H)?(?:([+-]?[0-9]{1,9})M)?"
    r"(?:([+-]?)([0-9]{1,12})(?:[.,]([0-9]{1,6}))?S)?)?",
    re.IGNORECASE | re.ASCII,
)

_BYTE_UNITS: Final = {
    unit + tail: 1024**power
    for power, unit in enumerate(("", "k", "m", "g", "t", "p", "e"))
    for tail in (("b",) if not unit else ("", "b", "ib"))
}
_BIT_UNITS: Final = {
    f"{unit}bit": 1000**power for power, unit in enumerate(("", "k", "m", "g", "t"))
}
_TRUE: Final = frozenset({"yes", "true", "on", "1"})
_FALSE: Final = frozenset({"no", "false", "off", "0"})


def parse_duration(text: str, *, legacy_unit: str | None = None) -> timedelta:
    """Read `15s`, `5min`, `200ms`, `2d`, `-1d`, `PT15M` or `P2D`.

    Units: ms (or z), s, m (or min), h, d, w, y (52 weeks), any case, exactly one of them; ISO 8601
    with weeks, days, hours, minutes and seconds.  `legacy_unit` (`ms`, `h` ...) is the unit of a
    number alone in an imported text; zero needs none.

    Raises:
        OptionError: no duration, no unit, or longer than 100 years.
    """
    bare = text.strip()
    if not bare or len(bare) > MAX_TEXT:
        raise OptionError(f"{_shown(text)} is no duration; write for example 15s, PT15M or 2d")
    found = _iso_length(bare) if "p" in bare.lower() else _unit_length(bare, legacy_unit)
    if abs(found) > LONGEST:
        raise OptionError(f"the duration {_shown(text)} is longer than 100 years")
    return found


def _unit_length(text: str, legacy_unit: str | None) -> timedelta:
    match = _NUMBER_UNIT.fullmatch(text)
    if match is None:
        raise OptionError(f"{_shown(text)} is no duration; write for example 15s, PT15M or 2d")
    sign, digits, unit = match.groups()
    if not unit and int(digits) and legacy_unit is None:
        raise OptionError(
            f"the duration {_shown(text)} has no unit; write {text}s, {text}m, {text}h or {text}d"
        )
    one = _DURATION_UNITS.get(unit.lower() or legacy_unit or "s")
    if one is None:
        raise OptionError(
            f"the duration {_shown(text)} has an unknown unit {unit!r}; units are ms s m h d w y"
        )
    return _times(one, int(sign + digits))


def _iso_length(text: str) -> timedelta:
    match = _ISO.fullmatch(text)
    if match is None:
        raise OptionError(f"{_shown(text)} is no ISO 8601 duration such as PT15M or P2D")
    sign, weeks, days, hours, minutes, second_sign, seconds, fraction = match.groups()
    micros = int(seconds or 0) * 1_000_000 + int((fraction or "").ljust(6, "0"))
    found = (
        _times(timedelta(weeks=1), int(weeks or 0))
        + _times(timedelta(days=1), int(days or 0))
        + timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        + _times(timedelta(microseconds=1), -micros if second_sign == "-" else micros)
    )
    return -found if sign == "-" else found


def _times(one: timedelta, count: int) -> timedelta:
    """Multiply without ever overflowing: what is far too long stays just too long."""
    most = 2 * (LONGEST // one)
    return one * max(-most, min(count, most))


def format_duration(length: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back to the same length, as `15m`."""
    if not length:
        return "0s"
    for unit, one in _SHORT:
        if not length % one:
            return f"{length // one}{unit}"
    return iso_duration(length)


def iso_duration(length: timedelta) -> str:
    """Return the ISO 8601 form: `PT15M`, `P2D`, `-P1DT2H`, `PT0.2S`, `PT0S`."""
    whole = abs(length)
    hours, rest = divmod(whole.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{whole.microseconds:06d}".rstrip("0") if whole.microseconds else ""
    day_part = f"{whole.days}D" if whole.days else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction or not (day_part or clock):
        clock += f"{seconds}{fraction}S"
    return f"{'-' if length < timedelta(0) else ''}P{day_part}{'T' + clock if clock else ''}"


def parse_bytes(text: str, *, legacy_unit: str | None = None) -> int:
    """Read a byte count: `10KB`, `2 GB`, `64k`, `10MiB`, `512B`; every prefix is a power of 1024.

    `legacy_unit="b"` accepts a number alone as bytes; zero needs no unit.

    Raises:
        OptionError: no whole number, no or an unknown unit, or above 2**63 - 1.
    """
    bare = text.strip()
    match = _NUMBER_UNIT.fullmatch(bare) if len(bare) <= MAX_TEXT else None
    if match is None or match[1] == "-":
        raise OptionError(f"{_shown(text)} is no size; write for example 512B, 10KB or 2GB")
    digits, unit = match[2], match[3].lower()
    if not unit and int(digits) and legacy_unit is None:
        raise OptionError(f"the size {_shown(text)} has no unit; write {digits}B, {digits}KB ...")
    factor = _BYTE_UNITS.get(unit or legacy_unit or "b")
    if factor is None:
        raise OptionError(
            f"the size {_shown(text)} has an unknown unit {match[3]!r}; use B KB MB GB TB PB EB"
        )
    return _bounded(int(digits) * factor, text)


def _bounded(count: int, text: str) -> int:
    if count > MOST_BYTES:
        raise OptionError(f"the size {_shown(text)} is above {MOST_BYTES} bytes")
    return count


def format_bytes(count: int) -> str:
    """Return a byte count for people: `0 B`, `512 B`, `1.5 KB`, `10 MB`; three digits at most."""
    if abs(count) < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KB", "MB", "GB", "TB", "PB"):
        size /= 1024
        if abs(size) < 999.5:
            return f"{_three_digits(size)} {unit}"
    return f"{_three_digits(size / 1024)} EB"


def _three_digits(number: float) -> str:
    text = f"{number:.0f}" if abs(number) >= 99.95 else f"{number:.1f}"
    return text.removesuffix(".0")


def exact_bytes(count: int) -> str:
    """Return the shortest text that `parse_bytes` reads back to the same count: `10KB`, `1025B`."""
    if not count:
        return "0B"
    for power, unit in ((6, "EB"), (5, "PB"), (4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if not count % 1024**power:
            return f"{count // 1024**power}{unit}"
    return f"{count}B"


def parse_rate(text: str, *, legacy_unit: str | None = None) -> int:
    """Read a rate into bytes per second: `10MB`, `10 MB/s`, `18Mbit/s` (bits count in thousands).

    Raises:
        OptionError: as `parse_bytes`.
    """
    bare = text.strip()
    for tail in ("/s", "ps"):
        if bare.lower().endswith(tail):
            bare = bare[:-2].rstrip()
            break
    match = _NUMBER_UNIT.fullmatch(bare) if len(bare) <= MAX_TEXT else None
    if match is not None and match[1] != "-" and match[3].lower() in _BIT_UNITS:
        return _bounded(int(match[2]) * _BIT_UNITS[match[3].lower()] // 8, text)
    return parse_bytes(bare, legacy_unit=legacy_unit)


def format_rate(rate: int) -> str:
    """Return bytes per second for people: `1.5 MB/s`."""
    return f"{format_bytes(rate)}/s"


def parse_bool(text: str, *, legacy: bool = False) -> bool:
    """Read yes, no, true, false, on, off, 1, 0 in any case.

    With `legacy` all but yes and true is false, as imported texts mean it.

    Raises:
        OptionError: none of these words.
    """
    word = text.strip().lower()
    if legacy:
        return word in {"yes", "true"}
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise OptionError(f"{_shown(text)} is neither yes nor no")


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "...")


# --- times of day --------------------------------------------------------------------------------

_DAY: Final = 24 * 60
_QUARTER: Final = timedelta(minutes=15)  # no zone changes its clock in between
_RANGE: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})", re.ASCII)


def _parse_range(text: str) -> tuple[int, int]:
    """Return start and end in minutes since midnight; the end is smaller over midnight."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"{_shown(text)} is no time range; write HH:mm-HH:mm")
    hour, minute, end_hour, end_minute = map(int, match.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if max(minute, end_minute) > 59 or start >= _DAY or end > _DAY:
        raise OptionError(f"{_shown(text)} has a time outside 00:00 to 24:00")
    if start == end:
        raise OptionError(f"the time range {_shown(text)} is empty; the whole day is 00:00-24:00")
    return start, end


def _covers(span: tuple[int, int], minute: int) -> bool:
    start, end = span
    return start <= minute < end if start < end else minute >= start or minute < end


def _ranges(text: str) -> list[str]:
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise OptionError("no time range given; write HH:mm-HH:mm")
    if len(parts) > MAX_RANGES:
        raise OptionError(f"more than {MAX_RANGES} time ranges")
    return parts


def _moments(now: datetime, minutes: Iterable[int]) -> list[datetime]:
    """Return the moments of two days after `now` with one of these minutes of the day, in order.

    Those at which the zone changes its clock are among them: minutes come twice then, or not.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    found = {
        (midnight + timedelta(days=day, minutes=minute)).replace(fold=fold).astimezone(UTC)
        for day in range(3)
        for minute in minutes
        for fold in (0, 1)
    }
    start = now.astimezone(UTC)
    quarter = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
    before = now.utcoffset()
    for count in range(1, 4 * 48):
        moment = (quarter + count * _QUARTER).astimezone(now.tzinfo)
        if moment.utcoffset() != before:
            before = moment.utcoffset()
            found.add(moment.astimezone(UTC))
    return [one.astimezone(now.tzinfo) for one in sorted(found) if one > start]


@dataclass(frozen=True, slots=True)
class TimeRanges:
    """Times of day when something is allowed, as `22:00-06:00, 12:00-13:00`.

    A range holds its start and not its end, may pass midnight, and may end at 24:00.  Times are
    those of the datetime that is asked about: the caller picks the zone.
    """

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> TimeRanges:
        """Read a list separated by commas, at most 96 ranges.

        Raises:
            OptionError: empty list, empty range or impossible time; names the entry.
        """
        return cls(tuple(_parse_range(part) for part in _ranges(text)))

    def contains(self, moment: datetime | time) -> bool:
        """Tell whether this time of day lies in one of the ranges."""
        minute = moment.hour * 60 + moment.minute
        return any(_covers(span, minute) for span in self.spans)

    def next_change(self, now: datetime) -> datetime | None:
        """Return the first moment after `now` when `contains` changes, None when it never does."""
        here = self.contains(now)
        edges = {edge % _DAY for span in self.spans for edge in span}
        for moment in _moments(now, edges):
            if self.contains(moment) is not here:
                return moment
        return None

    def __str__(self) -> str:
        return ",".join(map(_span_text, self.spans))


@dataclass(frozen=True, slots=True)
class DaySchedule:
    """A number by time of day, as `00:00-08:00=200,22:00-24:00=50`; the first match counts."""

    entries: tuple[tuple[tuple[int, int], int], ...]

    @classmethod
    def parse(cls, text: str) -> DaySchedule:
        """Read a list separated by commas, at most 96 entries, numbers from 0 to 10**9.

        Raises:
            OptionError: bad entry; names it.
        """
        return cls(tuple(map(_schedule_entry, _ranges(text))))

    def value(self, moment: datetime | time, default: int) -> int:
        """Return the number for this time of day, `default` outside all ranges."""
        minute = moment.hour * 60 + moment.minute
        for span, number in self.entries:
            if _covers(span, minute):
                return number
        return default

    def __str__(self) -> str:
        return ",".join(f"{_span_text(span)}={number}" for span, number in self.entries)


def _schedule_entry(text: str) -> tuple[tuple[int, int], int]:
    span, _, number = text.partition("=")
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", number, re.ASCII) is None:
        raise OptionError(f"{_shown(text.strip())} is no schedule entry; write HH:mm-HH:mm=number")
    return _parse_range(span), int(number)


def _span_text(span: tuple[int, int]) -> str:
    return "-".join(f"{edge // 60:02d}:{edge % 60:02d}" for edge in span)
