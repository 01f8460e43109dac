"""Dates in rules and file names: SimpleDateFormat patterns, zones, `$date` and `$timestamp`.

Forecasters know the pattern letters (`yyyyMMdd`, `DDD`, `HH`) from the tools that this hub follows,
so we keep them and translate to our own formatter and reader.  Names of months and days are English
unless a list of month names is given; weeks are those of ISO 8601 whatever the locale.

Spec: the letters of java.text.SimpleDateFormat; acquisition.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from ecpds.model.errors import InputError, OptionError, RuleError

MAX_PATTERN: Final = 128
"""Longest date pattern, in characters."""

MAX_DATE: Final = 256
"""Longest text that is read as a date, in characters."""

# fmt: off
MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)
_LONG_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)
# fmt: on
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_WIDEST: Final = 16
_NUMERIC: Final = frozenset("yYwWDdFuHkKhmsS")
_UNREADABLE: Final = frozenset("GWF")


@dataclass(frozen=True, slots=True)
class _Field:
    """One run of the same pattern letter."""

    letter: str
    width: int

    @property
    def numeric(self) -> bool:
        return self.letter in _NUMERIC or (self.letter in "ML" and self.width < 3)


_Part = str | _Field


@dataclass(frozen=True, slots=True)
class DatePattern:
    """A compiled pattern; `str()` gives its text back."""

    text: str
    parts: tuple[_Part, ...]
    months: tuple[str, ...]
    regex: re.Pattern[str]
    letters: tuple[str, ...]  # one per group of `regex`

    @classmethod
    def parse(cls, text: str, *, months: tuple[str, ...] = MONTHS) -> DatePattern:
        """Compile a pattern; `months` are twelve short names.

        Raises:
            RuleError: unknown letter, unclosed quote, empty or longer than 128 characters; names
                the letter and its position, counted from 1.
        """
        if not text or len(text) > MAX_PATTERN:
            raise RuleError(f"a date pattern has 1 to {MAX_PATTERN} characters")
        parts = tuple(_parts(text))
        letters = tuple(part.letter for part in parts if isinstance(part, _Field))
        return cls(text, parts, months, _regex(parts, months), letters)

    @property
    def has_year(self) -> bool:
        """Tell whether a year is part of the text."""
        return "y" in self.letters or "Y" in self.letters

    def format(self, moment: datetime) -> str:
        """Return the text of a moment, in the moment's own zone."""
        return "".join(
            part if isinstance(part, str) else _format(part, moment, self.months)
            for part in self.parts
        )

    def read(
        self,
        text: str,
        *,
        zone: tzinfo = UTC,
        now: datetime | None = None,
        year: int = 1970,
        whole: bool = True,
    ) -> datetime:
        """Read a moment; fields that the pattern lacks are those of `year`-01-01T00:00.

        A text without a zone is in `zone`.  `now` decides the century of two-digit years (80 years
        back, 20 ahead).  With `whole=False` the text may go on behind the date.

        Raises:
            InputError: the text does not fit the pattern, or no such day exists.
        """
        match = None
        if len(text) <= MAX_DATE:
            match = self.regex.fullmatch(text) if whole else self.regex.match(text)
        if match is None:
            raise InputError(f"{text[:MAX_DATE]!r} is no date of the pattern {self.text!r}")
        return self.moment(match.groups(), zone=zone, now=now, year=year)

    def moment(
        self,
        groups: tuple[str, ...],
        *,
        zone: tzinfo = UTC,
        now: datetime | None = None,
        year: int = 1970,
    ) -> datetime:
        """Return the moment of the groups that `regex` found; arguments and errors as `read`."""
        if unreadable := _UNREADABLE & set(self.letters):
            raise RuleError(f"the letter {min(unreadable)!r} of {self.text!r} cannot be read back")
        found = dict(zip(self.letters, groups, strict=True))
        try:
            day = _day(found, self.months, now, year)
            hour, minute, second, milli = _clock(found)
            return datetime(
                day.year, day.month, day.day, hour, minute, second, milli * 1000, _zone(found, zone)
            )
        except (ValueError, OverflowError) as error:
            shown = " ".join(groups)
            raise InputError(
                f"{shown!r} is no date of the pattern {self.text!r}: {error}"
            ) from None

    def __str__(self) -> str:
        return self.text


# --- compiling -----------------------------------------------------------------------------------


def _parts(text: str) -> list[_Part]:
    parts: list[_Part] = []
    place = 0
    while place < len(text):
        sign = text[place]
        if sign == "'":
            literal, place = _quoted(text, place)
        elif sign.isascii() and sign.isalpha():
            width = len(text) - place - len(text[place:].lstrip(sign))
            parts.append(_field(sign, width, text, place))
            place += width
            continue
        else:
            literal, place = sign, place + 1
        if parts and isinstance(parts[-1], str):
            parts[-1] += literal
        else:
            parts.append(literal)
    return parts


def _field(letter: str, width: int, text: str, place: int) -> _Field:
    if letter not in _FORMATS:
        raise RuleError(
            f"date pattern {text!r}: unknown letter {letter!r} at position {place + 1}; "
            "quote plain text as 'T'"
        )
    if width > _WIDEST:
        raise RuleError(f"date pattern {text!r}: too many {letter!r} at position {place + 1}")
    return _Field(letter, width)


def _quoted(text: str, place: int) -> tuple[str, int]:
    """Return the literal that begins at the quote and the place behind it; `''` is one quote."""
    if text.startswith("''", place):
        return "'", place + 2
    end = place + 1
    while True:
        end = text.find("'", end)
        if end < 0:
            raise RuleError(f"date pattern {text!r}: quote at position {place + 1} never closed")
        if not text.startswith("''", end):
            return text[place + 1 : end].replace("''", "'"), end + 1
        end += 2


def _regex(parts: tuple[_Part, ...], months: tuple[str, ...]) -> re.Pattern[str]:
    source = ""
    for number, part in enumerate(parts):
        if isinstance(part, str):
            source += re.escape(part)
            continue
        following = parts[number + 1] if number + 1 < len(parts) else ""
        # digits that touch the next number are counted by the pattern, as 20240301 in yyyyMMdd
        touching = isinstance(following, _Field) and following.numeric
        source += f"({_field_regex(part, months, touching=touching)})"
    return re.compile(source, re.IGNORECASE)


def _field_regex(part: _Field, months: tuple[str, ...], *, touching: bool) -> str:
    if part.numeric:
        if touching:
            return f"[0-9]{{{part.width}}}"
        most = {"y": 4, "Y": 4, "D": 3, "S": 3}.get(part.letter, 2)
        return f"[0-9]{{1,{max(part.width, most)}}}"
    words = {
        "M": (*_LONG_MONTHS, *months),
        "L": (*_LONG_MONTHS, *months),
        "E": (*_DAYS, *(day[:3] for day in _DAYS)),
        "a": ("AM", "PM"),
        "G": ("AD", "BC"),
    }.get(part.letter)
    if words is not None:
        return "|".join(re.escape(word) for word in sorted(set(words), key=len, reverse=True))
    return r"(?:GMT|UTC)?[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2}|GMT|UTC|Z"


# --- writing -------------------------------------------------------------------------------------


def _format(part: _Field, moment: datetime, months: tuple[str, ...]) -> str:
    if part.letter in "ML" and part.width >= 3:
        names = _LONG_MONTHS if part.width > 3 else months
        return names[moment.month - 1]
    found = _FORMATS[part.letter](moment, part.width)
    return found if isinstance(found, str) else f"{found:0{part.width}d}"


def _offset(moment: datetime, width: int, letter: str) -> str:
    length = moment.utcoffset() or timedelta(0)
    sign = "-" if length < timedelta(0) else "+"
    hours, minutes = divmod(abs(length) // timedelta(minutes=1), 60)
    if letter == "X":
        if not length:
            return "Z"
        return f"{sign}{hours:02d}" + ("", f"{minutes:02d}", f":{minutes:02d}")[min(width, 3) - 1]
    return f"{sign}{hours:02d}{minutes:02d}"


def _zone_name(moment: datetime, _: int) -> str:
    return moment.tzname() or "UTC"


def _year(moment: datetime, width: int) -> int | str:
    return f"{moment.year % 100:02d}" if width == 2 else moment.year


def _week_year(moment: datetime, width: int) -> int | str:
    year = moment.isocalendar().year
    return f"{year % 100:02d}" if width == 2 else year


def _day_name(moment: datetime, width: int) -> str:
    name = _DAYS[moment.weekday()]
    return name if width > 3 else name[:3]


_FORMATS: Final[Mapping[str, Callable[[datetime, int], int | str]]] = {
    "G": lambda _moment, _width: "AD",
    "y": _year,
    "Y": _week_year,
    "M": lambda moment, _: moment.month,
    "L": lambda moment, _: moment.month,
    "w": lambda moment, _: moment.isocalendar().week,
    "W": lambda moment, _: (moment.day + moment.replace(day=1).weekday() - 1) // 7 + 1,
    "D": lambda moment, _: moment.timetuple().tm_yday,
    "d": lambda moment, _: moment.day,
    "F": lambda moment, _: (moment.day - 1) // 7 + 1,
    "E": _day_name,
    "u": lambda moment, _: moment.isoweekday(),
    "a": lambda moment, _: "AM" if moment.hour < 12 else "PM",
    "H": lambda moment, _: moment.hour,
    "k": lambda moment, _: moment.hour or 24,
    "K": lambda moment, _: moment.hour % 12,
    "h": lambda moment, _: moment.hour % 12 or 12,
    "m": lambda moment, _: moment.minute,
    "s": lambda moment, _: moment.second,
    "S": lambda moment, _: moment.microsecond // 1000,
    "z": _zone_name,
    "Z": lambda moment, width: _offset(moment, width, "Z"),
    "X": lambda moment, width: _offset(moment, width, "X"),
}


# --- reading -------------------------------------------------------------------------------------


def _day(
    found: Mapping[str, str], months: tuple[str, ...], now: datetime | None, default_year: int
) -> date:
    year = _century(found.get("y") or found.get("Y") or str(default_year), now)
    if "w" in found:
        return date.fromisocalendar(year, int(found["w"]), int(found.get("u", "1")))
    month = found.get("M") or found.get("L")
    if "D" in found and month is None:
        day = date(year, 1, 1) + timedelta(days=int(found["D"]) - 1)
        if day.year != year:
            raise ValueError(f"year {year} has no day {found['D']}")
        return day
    return date(year, _month(month or "1", months), int(found.get("d", "1")))


def _century(text: str, now: datetime | None) -> int:
    if len(text) != 2:
        return int(text)
    this_year = (now or datetime(2000, 1, 1, tzinfo=UTC)).year
    year = this_year - this_year % 100 + int(text)
    if year > this_year + 20:
        return year - 100
    return year + 100 if year <= this_year - 80 else year


def _month(text: str, months: tuple[str, ...]) -> int:
    if text.isdigit():
        return int(text)
    for names in (months, _LONG_MONTHS):
        for number, name in enumerate(names, 1):
            if name.lower() == text.lower():
                return number
    raise ValueError(f"unknown month {text!r}")


def _clock(found: Mapping[str, str]) -> tuple[int, int, int, int]:
    if "H" in found:
        hour = int(found["H"])
    elif "k" in found:
        hour = int(found["k"]) % 24
    else:
        hour = int(found.get("K") or found.get("h") or "0")
        if hour > 12:
            raise ValueError(f"no hour {hour} before or after noon")
        hour = hour % 12 + (12 if found.get("a", "").upper() == "PM" else 0)
    return hour, int(found.get("m", "0")), int(found.get("s", "0")), int(found.get("S", "0"))


def _zone(found: Mapping[str, str], default: tzinfo) -> tzinfo:
    text = found.get("z") or found.get("Z") or found.get("X")
    return default if text is None else _fixed_zone(text)


_OFFSET: Final = re.compile(
    r"(?:GMT|UTC)?([+-])([0-9]{1,2}):?([0-5][0-9])?", re.IGNORECASE | re.ASCII
)


def _fixed_zone(text: str) -> tzinfo:
    match = _OFFSET.fullmatch(text)
    if match is None:
        return UTC
    length = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timezone(-length if match[1] == "-" else length)


def parse_zone(text: str) -> tzinfo:
    """Read a zone: `UTC`, `+01:00`, `GMT+2`, or a name as `Europe/Rome`.

    Raises:
        OptionError: unknown zone.
    """
    name = text.strip()
    if name.upper() in {"UTC", "GMT", "Z"}:
        return UTC
    try:
        return _fixed_zone(name) if _OFFSET.fullmatch(name) else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise OptionError(
            f"{name[:64]!r} is no time zone; write UTC, +01:00 or Europe/Rome"
        ) from None


# --- $date and $timestamp ------------------------------------------------------------------------

_DAY: Final = timedelta(days=1)
DEFAULT_FORMAT: Final = DatePattern.parse("yyyyMMdd")


def expand_date(
    now: datetime,
    *,
    dateformat: DatePattern = DEFAULT_FORMAT,
    delta: timedelta = timedelta(0),
    source: str | None = None,
    datepattern: DatePattern | None = None,
    zone: tzinfo = UTC,
) -> str:
    """Return the text of a `$date` token: `now`, or the date read from `source`, plus `delta`.

    The source may go on behind the date.  Whole days keep the time of day, as people count them;
    hours are hours that pass, also in the nights when clocks change.

    Raises:
        InputError: the source is no date of `datepattern`, or the sum is outside the calendar.
    """
    try:
        if source is None:
            moment = now.astimezone(zone)
        else:
            moment = (datepattern or dateformat).read(source, zone=zone, now=now, whole=False)
        if delta % _DAY:
            return dateformat.format((moment.astimezone(UTC) + delta).astimezone(moment.tzinfo))
        return dateformat.format(moment + delta)
    except OverflowError:
        raise InputError("the date is outside the years 1 to 9999") from None


def timestamp(moment: datetime | None) -> str:
    """Return milliseconds since 1970 rounded down to a second, `0` when the time is unknown."""
    return "0" if moment is None else str(milliseconds(moment))


def milliseconds(moment: datetime) -> int:
    """Return milliseconds since 1970 rounded down to a second."""
    return int(moment.timestamp() // 1) * 1000
