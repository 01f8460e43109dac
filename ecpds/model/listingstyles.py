"""Listing lines of servers that do not answer like `ls -l`.

Samples come from the listings that these servers are known for; each style is one regular
expression and one small function.  A line of another style gives None, so that the next style can
be tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from ecpds.model.dates import DatePattern
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the dates of a listing depend on."""

    now: datetime
    zone: tzinfo
    months: tuple[str, ...]
    formats: tuple[DatePattern, ...] = ()

    def month(self, name: str) -> int:
        """Return 1 to 12; raise ValueError for an unknown name."""
        wanted = name.lower()
        for number, known in enumerate(self.months, 1):
            if known.lower() == wanted:
                return number
        raise ValueError(f"unknown month {name!r}")

    def by_format(self, text: str) -> datetime:
        """Read a date by the patterns of the Host; raise InputError when none fits."""
        for pattern in self.formats:
            if pattern.regex.fullmatch(text) is None:
                continue
            if pattern.has_year:
                return pattern.read(text, zone=self.zone, now=self.now)
            for year in _years(self.now):
                try:
                    moment = pattern.read(text, zone=self.zone, year=year)
                except InputError:
                    continue  # 29 February
                if moment <= self.now + timedelta(days=1):
                    return moment
        raise InputError(f"{text!r} fits no date format of the host")


def _years(now: datetime) -> range:
    """Years to try, latest first, far enough back for a 29 February."""
    return range(min(now.year + 1, 9999), max(now.year - 9, 1), -1)


def latest_year(
    reading: Reading, month: int, day: int, hour: int, minute: int, second: int
) -> datetime:
    """Return the latest such moment that is not more than one day ahead of now."""
    limit = reading.now + timedelta(days=1)
    for year in _years(reading.now):
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=reading.zone)
        except ValueError:
            if (month, day) != (2, 29):
                raise
            continue
        if moment <= limit:
            return moment
    raise ValueError("no such day in the last years")


_BITS: Final = tuple((place, 1 << (8 - place)) for place in range(9))
_SPECIAL: Final = {2: 0o4000, 5: 0o2000, 8: 0o1000}


def permissions(text: str) -> int:
    """Return the bits of nine letters such as `rwxr-sr-x`."""
    mode = 0
    for place, bit in _BITS:
        letter = text[place]
        if letter not in "-STLl":
            mode |= bit
        if letter in "sStT":
            mode |= _SPECIAL.get(place, 0)
    return mode


# --- one function a style ------------------------------------------------------------------------

_WINDOWS: Final = re.compile(
    r"(?P<date>\d{2}[-/]\d{2}[-/]\d{2}(?:\d{2})?|\d{4}-\d{2}-\d{2})\s+"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::\d{2})?\s?(?P<half>[AaPp])?[Mm]?\s+"
    r"(?:<(?P<dir>DIR|SYMLINKD?|JUNCTION)>|(?P<size>\d[\d,.]*))\s+(?P<name>\S.*)"
)


def windows(reading: Reading, line: str) -> Entry | None:
    """`02-19-24  12:30PM   <DIR>  data` or `2024-02-19  12:30   1,234 a.nc` (month first)."""
    match = _WINDOWS.fullmatch(line.strip())
    if match is None:
        return None
    hour = int(match["hour"])
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    mtime = _moment(reading, match["date"], hour, int(match["minute"]))
    if mtime is None:
        return None
    if match["dir"] and match["dir"] != "DIR":
        name, _, link = match["name"].removesuffix("]").partition(" [")
        return Entry(kind=Kind.LINK, name=name, mtime=mtime, link=link)
    if match["dir"]:
        return Entry(kind=Kind.DIRECTORY, name=match["name"], mtime=mtime)
    return _file(match["name"], match["size"], mtime)


def _moment(reading: Reading, text: str, hour: int = 0, minute: int = 0) -> datetime | None:
    """Read `2024-02-19` or, with the month first, `02-19-24`; slashes and dots do as well."""
    first, second, third = (int(part) for part in re.split(r"[-/.]", text))
    year, month, day = (first, second, third) if first > 31 else (third, first, second)
    if year < 100:
        year += 1900 if year >= 70 else 2000
    try:
        return datetime(year, month, day, hour, minute, tzinfo=reading.zone)
    except ValueError:
        return None


def _file(name: str, size: str, mtime: datetime | None, owner: str = "") -> Entry:
    digits = re.sub("[,.]", "", size)
    count = int(digits) if digits and len(digits) < 19 else None
    return Entry(kind=Kind.FILE, name=name, size=count, mtime=mtime, owner=owner)


_VMS: Final = re.compile(
    r"(?P<name>\S+?)(?P<version>;\d+)?\s+(?P<used>\d{1,15})(?:/\d+)?\s+"
    r"(?P<day>\d{1,2})-(?P<month>[A-Za-z]{3})-(?P<year>\d{4})\s+"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?:\.\d+)?"
    r"(?:\s+\[(?:(?P<group>[^\],]*),)?(?P<owner>[^\]]*)\])?(?:\s+\([RWED,]*\))?\s*"
)
_BLOCK: Final = 512


def vms(reading: Reading, line: str) -> Entry | None:
    """`A.NC;1   213/216   2-JUN-1998 07:32:04  [GROUP,OWNER]  (RWED,RWED,RE,)`: blocks of 512."""
    match = _VMS.fullmatch(line)
    if match is None:
        return None
    try:
        mtime = datetime(
            int(match["year"]),
            reading.month(match["month"]),
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            int(match["second"] or 0),
            tzinfo=reading.zone,
        )
    except ValueError:
        return None
    name = match["name"]
    is_dir = name.upper().endswith(".DIR") and bool(match["version"])
    return Entry(
        kind=Kind.DIRECTORY if is_dir else Kind.FILE,
        name=name[:-4] if is_dir else name,
        size=None if is_dir else int(match["used"]) * _BLOCK,
        mtime=mtime,
        owner=match["owner"] or "",
        group=match["group"] or "",
    )


_OS2: Final = re.compile(
    r"\s*(?P<size>\d{1,18})\s+(?:[AHRS]{1,4}\s+)?(?P<dir>DIR\s+)?"
    r"(?P<date>\d{2}-\d{2}-\d{2}(?:\d{2})?)\s+(?P<hour>\d{1,2}):(?P<minute>\d{2})\s+(?P<name>\S.*)"
)


def os2(reading: Reading, line: str) -> Entry | None:
    """`  0   DIR   12-30-97   12:32  jbrekke` or `  73098   A   04-06-97   15:15  a.nc`."""
    match = _OS2.fullmatch(line)
    if match is None:
        return None
    mtime = _moment(reading, match["date"], int(match["hour"]), int(match["minute"]))
    if mtime is None:
        return None
    if match["dir"]:
        return Entry(kind=Kind.DIRECTORY, name=match["name"], mtime=mtime)
    return _file(match["name"], match["size"], mtime)


_OS400: Final = re.compile(
    r"(?P<owner>\S+)\s+(?:(?P<size>\d{1,18})\s+)?(?:(?P<date>\d{2,4}[/.-]\d{2}[/.-]\d{2})\s+"
    r"(?P<hour>\d{2}):(?P<minute>\d{2}):\d{2}\s+)?(?P<type>\*\w+)\s+(?P<name>\S.*)"
)
_OS400_FILES: Final = frozenset({"*STMF", "*FILE", "*MEM", "*DSTMF"})
_OS400_DIRS: Final = frozenset({"*DIR", "*DDIR", "*LIB", "*FLR"})


def os400(reading: Reading, line: str) -> Entry | None:
    """`PEP  36864 04/03/31 14:24:46 *STMF  a.nc`; directories end with `/`."""
    match = _OS400.fullmatch(line)
    if match is None:
        return None
    mtime = _os400_moment(reading, match)
    kind = match["type"].upper()
    if kind in _OS400_DIRS:
        name = match["name"].rstrip("/")
        return Entry(kind=Kind.DIRECTORY, name=name, mtime=mtime, owner=match["owner"])
    if kind in _OS400_FILES:
        return _file(match["name"], match["size"] or "", mtime, match["owner"])
    return Entry(kind=Kind.OTHER, name=match["name"], mtime=mtime, owner=match["owner"])


def _os400_moment(reading: Reading, match: re.Match[str]) -> datetime | None:
    if not match["date"]:
        return None
    first = match["date"][:-6]  # the year stands first, with two digits or four
    year = int(first) + (0 if len(first) == 4 else 1900 if int(first) >= 70 else 2000)
    text = f"{year}-{match['date'][-5:-3]}-{match['date'][-2:]}"
    return _moment(reading, text, int(match["hour"]), int(match["minute"]))


_MVS_SET: Final = re.compile(
    r"\S+\s+\S+\s+(?P<date>\d{4}/\d{2}/\d{2}|\*\*NONE\*\*)\s+\d+\s+\d+\s+[A-Z]+\s+\d+\s+\d+\s+"
    r"(?P<org>[A-Z][A-Z-]*)\s+(?P<name>\S+)\s*"
)
_MVS_MEMBER: Final = re.compile(
    r"\s*(?P<name>[A-Z0-9@#$]{1,8})\s+\d{2}\.\d{2}\s+\d{4}/\d{2}/\d{2}\s+"
    r"(?P<date>\d{4}/\d{2}/\d{2})\s+(?P<hour>\d{2}):(?P<minute>\d{2})(?:\s+\d+){3}\s+(?P<owner>\S+)\s*"
)


def mvs(reading: Reading, line: str) -> Entry | None:
    """Data sets and members; a listing of data sets tells no size."""
    if (match := _MVS_SET.fullmatch(line)) is not None:
        mtime = (
            _moment(reading, match["date"].replace("/", "-")) if match["date"][0] != "*" else None
        )
        kind = {"PS": Kind.FILE, "PO": Kind.DIRECTORY, "PO-E": Kind.DIRECTORY}
        return Entry(
            kind=kind.get(match["org"], Kind.OTHER), name=match["name"].strip("'"), mtime=mtime
        )
    if (match := _MVS_MEMBER.fullmatch(line)) is not None:
        mtime = _moment(reading, match["date"], int(match["hour"]), int(match["minute"]))
        return Entry(kind=Kind.FILE, name=match["name"], mtime=mtime, owner=match["owner"])
    return None


_NETWARE: Final = re.compile(
    r"(?P<type>[d-])\s+\[[-A-Z]+\]\s+(?P<owner>\S+)\s+(?P<size>\d{1,18})\s+"
    r"(?P<month>\S{3,4})\s+(?P<day>\d{1,2})\s+(?:(?P<year>\d{4})|(?P<hour>\d{1,2}):(?P<minute>\d{2}))"
    r"\s+(?P<name>.+)"
)


def netware(reading: Reading, line: str) -> Entry | None:
    """`- [RWCEAFMS] rkb  8192 Mar 02 10:54  a.nc`."""
    match = _NETWARE.fullmatch(line)
    if match is None:
        return None
    try:
        month, day = reading.month(match["month"]), int(match["day"])
        if match["year"]:
            mtime = datetime(int(match["year"]), month, day, tzinfo=reading.zone)
        else:
            mtime = latest_year(reading, month, day, int(match["hour"]), int(match["minute"]), 0)
    except ValueError:
        return None
    if match["type"] == "d":
        return Entry(kind=Kind.DIRECTORY, name=match["name"], mtime=mtime, owner=match["owner"])
    return _file(match["name"], match["size"], mtime, match["owner"])


STYLES: Final[Mapping[str, tuple[Callable[[Reading, str], Entry | None], ...]]] = {
    "WINDOWS": (windows,),
    "VMS": (vms,),
    "OS/2": (os2,),
    "OS/400": (os400,),
    "AS/400": (os400,),
    "MVS": (mvs,),
    "NETWARE": (netware,),
}
"""The styles beside UNIX, by `systemKey`."""
