"""Raw listings of FTP servers as entries, one line at a time.

Only FTP needs this: every other protocol tells names, sizes and times in fields of their own.
Which lines to expect is the Host's business (`systemKey`); without one UNIX lines are tried first
and WINDOWS lines second, which covers nearly every server in the field.  Characters outside ASCII
and brackets in names stay as they are.

Spec: acquisition.md section 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from ecpds.model import listingstyles
from ecpds.model.dates import MONTHS, DatePattern
from ecpds.model.entry import Entry, Kind, listing_line
from ecpds.model.errors import InputError, OptionError, RuleError
from ecpds.model.listingstyles import Reading, latest_year, permissions
from ecpds.model.names import nearest

MAX_LINE: Final = 8192
"""Longest listing line, in characters; a longer one becomes an unreadable entry."""

MAX_REGEX: Final = 4096
"""Longest regular expression that replaces the line parser, in characters."""

LANGUAGES: Final = {
    "en": "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec",
    "da": "jan|feb|mar|apr|maj|jun|jul|aug|sep|okt|nov|dec",
    "de": "Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez",
    "es": "ene|feb|mar|abr|may|jun|jul|ago|sep|oct|nov|dic",
    "fr": "jan|fév|mar|avr|mai|jun|jui|aoû|sep|oct|nov|déc",
    "it": "gen|feb|mar|apr|mag|giu|lug|ago|set|ott|nov|dic",
    "nl": "jan|feb|mrt|apr|mei|jun|jul|aug|sep|okt|nov|dec",
    "no": "jan|feb|mar|apr|mai|jun|jul|aug|sep|okt|nov|des",
    "pt": "jan|fev|mar|abr|mai|jun|jul|ago|set|out|nov|dez",
    "ro": "ian|feb|mar|apr|mai|iun|iul|aug|sep|oct|nov|dec",
    "sk": "jan|feb|mar|apr|maj|jun|jul|aug|sep|okt|nov|dec",
    "sl": "jan|feb|mar|apr|maj|jun|jul|avg|sep|okt|nov|dec",
    "sv": "jan|feb|mar|apr|maj|jun|jul|aug|sep|okt|nov|dec",
}

_Reader = Callable[[Reading, str], Entry | None]


@dataclass(frozen=True, slots=True)
class ListingFormat:
    """How the lines of one server are read."""

    readers: tuple[_Reader, ...]
    reading: Reading

    @classmethod
    def make(
        cls,
        system: str = "",
        *,
        default_format: str = "",
        recent_format: str = "",
        month_names: str = "",
        language: str = "",
        zone: tzinfo = UTC,
        regex: str = "",
        now: datetime,
    ) -> ListingFormat:
        """Choose the format.

        `system` is a `systemKey`, `default_format` and `recent_format` are date patterns with and
        without a year, `month_names` are twelve names separated by `|`, `language` a code such as
        `de`.  `regex` replaces the parser: it has the named groups `name` and, if wanted, `type`
        (`d`, `l`, else file), `size`, `date`, `owner`, `group`, `mode`, `link`.

        Raises:
            OptionError: unknown system or language, or not twelve names.
            RuleError: bad date pattern or regular expression.
        """
        months = _months(month_names, language)
        recent = DatePattern.parse(recent_format, months=months) if recent_format else None
        default = DatePattern.parse(default_format, months=months) if default_format else None
        formats = tuple(pattern for pattern in (recent, default) if pattern is not None)
        reading = Reading(now=now, zone=zone, months=months, formats=formats)
        readers = (_CustomLine(_own_regex(regex)),) if regex else _readers(system, reading)
        return cls(readers, reading)

    def read(self, line: str) -> Entry | None:
        """Return the entry of a line, None when the line is blank or a `total` line.

        A line that cannot be read becomes an entry with an `error`, so that people see it.
        """
        text = line.rstrip("\r\n")
        if not text.strip() or _TOTAL.fullmatch(text):
            return None
        if text.startswith("err:"):
            return Entry(kind=Kind.OTHER, name="", error=text[4:].strip())
        if len(text) <= MAX_LINE:
            for reader in self.readers:
                if (entry := reader(self.reading, text)) is not None:
                    return entry
        return Entry(kind=Kind.OTHER, name=text[:200], error="listing line cannot be read")


_TOTAL: Final = re.compile(r"total\s+[0-9.,]+[KMGTP]?", re.IGNORECASE)


def _months(names: str, language: str) -> tuple[str, ...]:
    if names:
        found = tuple(name.strip() for name in names.split("|"))
        if len(found) != 12 or not all(found):
            raise OptionError(f"shortMonthNames: twelve names separated by |, found {len(found)}")
        return found
    code = language.strip().lower()
    if not code:
        return MONTHS
    if code not in LANGUAGES:
        raise OptionError(f"unknown language {code!r}; known are {' '.join(LANGUAGES)}")
    return tuple(LANGUAGES[code].split("|"))


def _readers(system: str, reading: Reading) -> tuple[_Reader, ...]:
    key = " ".join(system.upper().split())
    if not key:
        return (_UnixLine(_unix_regex(reading)), listingstyles.windows)
    if key in {"UNIX", "MACOS PETER"}:
        return (_UnixLine(_unix_regex(reading)),)
    found = listingstyles.STYLES.get(key)
    if found is None:
        hint = nearest(key, ["UNIX", "MACOS PETER", *listingstyles.STYLES])
        raise OptionError(
            f"unknown systemKey {system!r}" + (f" (did you mean {hint!r}?)" * bool(hint))
        )
    # MVS and OS/400 servers also keep a Unix file system
    return (*found, _UnixLine(_unix_regex(reading)))


# --- UNIX ----------------------------------------------------------------------------------------


def _unix_regex(reading: Reading) -> re.Pattern[str]:
    month = "|".join(re.escape(name) for name in sorted(reading.months, key=len, reverse=True))
    clock = r"\d{1,2}:\d{2}(?::\d{2})?"
    own = [pattern.regex.pattern for pattern in reading.formats]
    usual = [
        rf"(?:{month})\.?\s+\d{{1,2}}\s+(?:\d{{4}}|{clock}(?:\s+\d{{4}})?)",
        rf"\d{{1,2}}\.?\s+(?:{month})\.?\s+(?:\d{{4}}|{clock})",
        rf"\d{{4}}-\d{{2}}-\d{{2}}(?:[ T]+{clock}(?:\.\d+)?(?:\s*(?:Z|[+-]\d{{4}}))?)?",
        rf"\d{{2}}-\d{{2}}\s+{clock}",
    ]
    return re.compile(
        r"(?P<type>[-bcdlpsDn?])(?P<mode>[-rwxsStTlL]{9})[.+@]?\s*(?:\d+\s+)?"
        r"(?P<who>(?:\S+\s+)*?)(?:\d+,\s*)?(?P<size>\d{1,18})\s+"
        rf"(?P<date>{'|'.join(own or usual)})(?:\s(?P<name>.+))",
        re.IGNORECASE,
    )


@dataclass(frozen=True, slots=True)
class _UnixLine:
    regex: re.Pattern[str]

    def __call__(self, reading: Reading, line: str) -> Entry | None:
        match = self.regex.fullmatch(line)
        if match is None:
            return None
        kind_letter, mode, who, size, date_text, name = match.group(
            "type", "mode", "who", "size", "date", "name"
        )
        try:
            mtime = unix_date(reading, date_text)
        except (InputError, ValueError):
            return None
        kind, link = _UNIX_KINDS.get(kind_letter, Kind.OTHER), ""
        if kind is Kind.LINK:
            name, _, link = name.partition(" -> ")
        elif name in {".", ".."}:
            kind = Kind.DIRECTORY
        owner, _, group = (who or "").strip().partition(" ")
        return Entry(
            kind=kind,
            name=name,
            size=int(size) if kind in _SIZED else None,
            mtime=mtime,
            owner=owner,
            group=group.strip(),
            mode=permissions(mode),
            link=link,
        )


_UNIX_KINDS: Final = {"-": Kind.FILE, "d": Kind.DIRECTORY, "D": Kind.DIRECTORY, "l": Kind.LINK}
_SIZED: Final = frozenset({Kind.FILE, Kind.LINK})


def unix_date(reading: Reading, text: str) -> datetime:
    """Read the date of a UNIX line; raises ValueError or InputError when there is no such day."""
    if reading.formats:
        return reading.by_format(text)
    words = text.replace("T", " ", 1).split() if text[:4].isdigit() else text.split()
    if "-" in words[0]:
        return _iso_words(reading, words)
    if words[0].rstrip(".").isdigit():
        words[0], words[1] = words[1], words[0]
    month = reading.month(words[0].rstrip("."))
    day = int(words[1].rstrip("."))
    if ":" not in words[2]:
        return datetime(int(words[2]), month, day, tzinfo=reading.zone)
    hour, minute, second = _clock(words[2])
    if len(words) > 3:
        return datetime(int(words[3]), month, day, hour, minute, second, tzinfo=reading.zone)
    return latest_year(reading, month, day, hour, minute, second)


def _iso_words(reading: Reading, words: list[str]) -> datetime:
    parts = [int(part) for part in words[0].split("-")]
    if len(parts) == 2:
        return latest_year(reading, parts[0], parts[1], *_clock(words[1]))
    if len(words) == 1:
        return datetime(parts[0], parts[1], parts[2], tzinfo=reading.zone)
    clock = words[1].partition(".")[0].rstrip("Zz")
    moment = datetime(parts[0], parts[1], parts[2], *_clock(clock), tzinfo=reading.zone)
    zone = words[2] if len(words) > 2 else "Z" if words[1][-1] in "Zz" else ""
    return moment if not zone else _in_zone(moment, zone)


def _in_zone(moment: datetime, zone: str) -> datetime:
    text = "+0000" if zone in "Zz" else zone
    return datetime.strptime(moment.strftime("%Y-%m-%d %H:%M:%S ") + text, "%Y-%m-%d %H:%M:%S %z")


def _clock(text: str) -> tuple[int, int, int]:
    parts = [int(part) for part in text.split(":")]
    return parts[0], parts[1], parts[2] if len(parts) > 2 else 0


# --- a regular expression of the operator --------------------------------------------------------


def _own_regex(text: str) -> re.Pattern[str]:
    if len(text) > MAX_REGEX:
        raise RuleError(f"regexFormat: longer than {MAX_REGEX} characters")
    try:
        regex = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise RuleError(f"regexFormat: {error}") from None
    if "name" not in regex.groupindex:
        raise RuleError("regexFormat: the named group (?P<name>...) is missing")
    return regex


@dataclass(frozen=True, slots=True)
class _CustomLine:
    regex: re.Pattern[str]

    def __call__(self, reading: Reading, line: str) -> Entry | None:
        match = self.regex.fullmatch(line)
        if match is None or not match["name"]:
            return None
        found = {key: text or "" for key, text in match.groupdict().items()}
        size, moment, mode = found.get("size", ""), found.get("date", ""), found.get("mode", "")
        try:
            mtime = unix_date(reading, moment) if moment else None
        except (InputError, ValueError, IndexError):
            mtime = None
        return Entry(
            kind={"d": Kind.DIRECTORY, "l": Kind.LINK}.get(found.get("type", "")[:1], Kind.FILE),
            name=found["name"],
            size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None,
            mtime=mtime,
            owner=found.get("owner", ""),
            group=found.get("group", ""),
            mode=permissions(mode) if len(mode) == 9 else None,
            link=found.get("link", ""),
        )


__all__ = ["LANGUAGES", "Entry", "Kind", "ListingFormat", "listing_line", "unix_date"]
