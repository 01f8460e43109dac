"""How values look on the pages: times, sizes, rates, names, states.

Times are UTC with seconds, sizes and rates SI (1 kB = 1000 B).  A state is always an icon, a word
and a tone; the tone alone never tells anything.  Names come from anybody: characters that are not
seen or turn the text around are shown as their number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from markupsafe import Markup, escape

from ecpds.model.status import DestinationStatus, Light, TransferStatus

DASH: Final = "\u2013"
NONE: Final = Markup('<span class="none">&#8211;</span>')
SHOWN: Final = 400  # characters of one value in a table
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # not seen, or moves others
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is shown: word, icon of the sprite, tone of the palette."""

    word: str
    icon: str
    tone: str  # good, info, warn, bad, off


S, D = TransferStatus, DestinationStatus
TRANSFERS: Final[Mapping[TransferStatus, Look]] = {
    S.INIT: Look(S.INIT.label, "down", "info"),
    S.SCHE: Look(S.SCHE.label, "clock", "warn"),
    S.FETC: Look(S.FETC.label, "down", "info"),
    S.HOLD: Look(S.HOLD.label, "pause", "warn"),
    S.WAIT: Look(S.WAIT.label, "clock", "warn"),
    S.EXEC: Look(S.EXEC.label, "up", "info"),
    S.DONE: Look(S.DONE.label, "check", "good"),
    S.RETR: Look(S.RETR.label, "again", "warn"),
    S.FAIL: Look(S.FAIL.label, "cross", "bad"),
    S.STOP: Look(S.STOP.label, "stop", "off"),
    S.INTR: Look(S.INTR.label, "break", "off"),
}
DESTINATIONS: Final[Mapping[DestinationStatus, Look]] = {
    D.IDLE: Look("Idle", "idle", "off"),
    D.WAITING: Look("Waiting", "clock", "warn"),
    D.RUNNING: Look("Running", "up", "good"),
    D.RETRYING: Look("Retrying", "again", "warn"),
    D.SLEEPING: Look("Sleeping", "pause", "bad"),
    D.STOPPED: Look("Stopped", "stop", "bad"),
    D.NO_HOSTS: Look("No hosts", "break", "bad"),
    D.GAVE_UP: Look("Gave up", "cross", "bad"),
    D.DISABLED: Look("Disabled", "off", "off"),
}
LIGHTS: Final[Mapping[Light, Look]] = {
    Light.GREEN: Look("Good", "light-green", "good"),
    Light.BLUE: Look("Quiet", "light-blue", "info"),
    Light.YELLOW: Look("Attention", "light-yellow", "warn"),
    Light.RED: Look("Alarm", "light-red", "bad"),
    Light.GREY: Look("Not monitored", "light-grey", "off"),
}
URGENCY: Final = (Light.RED, Light.YELLOW, Light.GREEN, Light.BLUE, Light.GREY)
WAITS: Final[Mapping[str, str]] = {
    "disabled": "The destination is disabled.",
    "STOP": "The destination is stopped.",
    "HOLD": "The destination gave up; start it when the cause is removed.",
    "FAIL": "The destination failed; start it when the cause is removed.",
    "no-hosts": "The destination has no active dissemination host.",
    "pause": "The destination pauses after a failure.",
    "schedule": "Outside of the hours in which the destination may send.",
    "max_connections": "All connections of the destination are in use.",
    "host_connections": "All connections of the host are in use.",
    "breaker": "No host can be used now; each is tried again by itself.",
}


def stamp(time: datetime | None) -> Markup:
    """Return a time with seconds; the full form is in the tooltip and for machines."""
    if time is None:
        return NONE
    full = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    text = '<time datetime="{}" title="{}"><span class="day">{}</span> {}</time>'
    day, clock = f"{time:%Y-%m-%d}", f"{time:%H:%M:%S}"
    return Markup(text).format(f"{time:%Y-%m-%dT%H:%M:%SZ}", full, day, clock)  # noqa: S704


def moment(time: datetime | None, now: datetime) -> Markup:
    """Return a time of day when it is today, with its date when it is not."""
    if time is None:
        return NONE
    if time.date() != now.date():
        return stamp(time)
    text = '<time datetime="{}" title="{}">{}</time>'
    return Markup(text).format(  # noqa: S704 - a constant
        f"{time:%Y-%m-%dT%H:%M:%SZ}", f"{time:%Y-%m-%d %H:%M:%S} UTC", f"{time:%H:%M:%S}"
    )


def span(length: timedelta | None) -> str:
    """Return a length of time with two units at most: `45 ms`, `12.4 s`, `3 min 20 s`."""
    if length is None:
        return DASH
    if length < timedelta(0):
        return f"-{span(-length)}"
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for size, unit, smaller, name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(time: datetime | None, now: datetime) -> str:
    """Return how long ago, or how soon, in one unit: `12 s ago`, `in 3 min`."""
    if time is None:
        return "never"
    seconds = int((now - time).total_seconds())
    size = abs(seconds)
    if size < 2:
        return "now"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if size >= unit:
            text = f"{size // unit} {name}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "now"


def size(count: int | None) -> str:
    """Return a byte count with an SI unit and three digits: `812 B`, `16.4 kB`, `1.07 GB`."""
    if count is None or count < 0:
        return DASH
    return _scaled(float(count), "B")


def rate(per_second: float | None) -> str:
    """Return bytes per second: `12.4 MB/s`."""
    if per_second is None or per_second < 0:
        return DASH
    return _scaled(per_second, "B") + "/s"


def _scaled(number: float, unit: str) -> str:
    if number < 999.5:
        return f"{number:.0f} {unit}"
    for prefix in "kMGTP":
        number /= 1000
        if number < 999.5:
            digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
            return f"{number:.{digits}f} {prefix}{unit}"
    return f"{number / 1000:.1f} E{unit}"


def count(number: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u2009")


def percent(part: float, whole: float) -> int:
    """Return whole per cent, 100 only when complete."""
    if whole <= 0:
        return 100 if part >= whole else 0
    return min(int(100 * part / whole), 100)


def plain(text: object, longest: int = SHOWN) -> Markup:
    """Return a text of anybody, isolated, on one line, with what cannot be seen made visible."""
    whole = str(text)
    shown = whole[:longest]
    pieces = [_visible(character) for character in shown]
    if len(whole) > longest:
        pieces.append(Markup('<span class="cut" title="shortened">…</span>'))
    return Markup("<bdi>") + Markup("").join(pieces) + Markup("</bdi>")


def _visible(character: str) -> Markup:
    if unicodedata.category(character) in _HIDDEN:
        return Markup('<span class="odd">U+{:04X}</span>').format(ord(character))
    return escape(character)


def lines(text: str) -> Markup:
    """Return a text of several lines with what cannot be seen made visible."""
    shown = text.replace("\r\n", "\n").split("\n")
    return Markup("\n").join(plain(line, 4000) for line in shown[:2000])


def leaf(path: str) -> str:
    """Return the last part of a path, or all of it when that is empty."""
    return path.rstrip("/").rpartition("/")[2] or path


def look(state: TransferStatus | DestinationStatus | Light) -> Look:
    """Return how a state is shown."""
    if isinstance(state, TransferStatus):
        return TRANSFERS[state]
    if isinstance(state, Light):
        return LIGHTS[state]
    return DESTINATIONS[state]


def waits(word: str) -> str:
    """Return the sentence for why a scheduler starts nothing; empty when it does."""
    return WAITS.get(word, word)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "stamp": stamp,
    "moment": moment,
    "span": span,
    "ago": ago,
    "bytesize": size,
    "rate": rate,
    "count": count,
    "plain": plain,
    "lines_of": lines,
    "leaf": leaf,
    "look": look,
    "waits": waits,
}
GLOBALS: Final[Mapping[str, Any]] = {"percent": percent, "NONE": NONE}
