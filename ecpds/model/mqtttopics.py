"""MQTT topics and filters: what is one, what matches, what covers.

Spec: MQTT 5.0 section 4.7; portal.md 3.7, Ex 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

LONGEST: Final = 4096  # bytes of a topic or filter
DEEPEST: Final = 128  # levels


def _is_sized(text: str) -> bool:
    return len(text) > 0 and len(text.encode()) <= LONGEST and text.count("/") < DEEPEST


def is_topic(text: str) -> bool:
    """Tell whether something can be published there."""
    return _is_sized(text) and "#" not in text and "+" not in text


def is_filter(text: str) -> bool:
    """Tell whether it can be subscribed to."""
    if not _is_sized(text):
        return False
    levels = text.split("/")
    if any(("#" in level or "+" in level) and len(level) > 1 for level in levels):
        return False
    return "#" not in levels[:-1]


def matches(name: str, topic: str) -> bool:
    """Tell whether a filter matches a topic."""
    return covers(name, topic)  # a topic is a filter without wildcards


def covers(permitted: str, wanted: str) -> bool:
    """Tell whether every topic that matches `wanted` matches `permitted` too."""
    have, want = permitted.split("/"), wanted.split("/")
    if want[0].startswith("$") and not have[0].startswith("$"):
        return False  # wildcards at the start match no topic of the server's own
    for number, level in enumerate(have):
        if level == "#":
            return True
        if number >= len(want):
            return False
        if want[number] == "#" or (level != "+" and level != want[number]):
            return False
    return _ends_alike(have, want)


def _ends_alike(have: Sequence[str], want: Sequence[str]) -> bool:
    return len(have) == len(want)


def permitted_filters(text: str) -> tuple[str, ...]:
    """Return the filters of a comma-separated list; what is no filter is left out."""
    return tuple(part for part in (one.strip() for one in text.split(",")) if is_filter(part))


def is_permitted(permitted: Iterable[str], wanted: str) -> bool:
    """Tell whether one of the permitted filters covers the wanted one."""
    return any(covers(one, wanted) for one in permitted)
