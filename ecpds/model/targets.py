"""The one form that the name of a transfer may have.

Every door (command line, API, portals, acquisition, aliases) puts names through here, so that a
name is compared, stored and looked up in one way only.

Spec: entities.md section 6; Unicode normal form C (UAX 15).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ecpds.model.errors import InvalidName

MAX_SEGMENT: Final = 255
"""Longest segment, in bytes of UTF-8: what file systems hold."""

MAX_TARGET: Final = 1024
"""Longest target, in bytes of UTF-8."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def normal_target(text: str, *, source: str = "") -> str:
    """Return the normal form of a target: relative, without `.`, `..`, empty segments, in NFC.

    A leading `/` is dropped, and a text that ends in `/` gets the base name of `source`.

    Raises:
        InvalidName: `..` leads out, control character, no name left, or longer than the limits.
    """
    if len(text) <= MAX_SEGMENT and _PLAIN.fullmatch(text):
        return text  # nearly every name; spares the rest for listings of 100,000 entries
    if len(text) > 4 * MAX_TARGET:
        raise InvalidName(f"a target has at most {MAX_TARGET} bytes")
    if text.endswith("/"):
        base = base_name(source)
        text += "" if base in {".", ".."} else base
    if (bad := _CONTROL.search(text)) is not None:
        raise InvalidName(f"the target {text[:80]!r} has the control character {bad[0]!r}")
    segments = _resolved(text)
    result = unicodedata.normalize("NFC", "/".join(segments))
    if not result or text.endswith("/"):
        raise InvalidName(f"the target {text[:80]!r} has no file name")
    _check_length(result)
    return result


def _resolved(text: str) -> list[str]:
    segments: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            if not segments:
                raise InvalidName(f"the target {text[:80]!r} leads out of its destination")
            segments.pop()
        elif segment not in {"", "."}:
            segments.append(segment)
    return segments


def _check_length(target: str) -> None:
    if len(target.encode()) > MAX_TARGET:
        raise InvalidName(f"the target {target[:80]!r}... has more than {MAX_TARGET} bytes")
    if any(len(segment.encode()) > MAX_SEGMENT for segment in target.split("/")):
        raise InvalidName(f"a part of the target {target[:80]!r} has more than {MAX_SEGMENT} bytes")


def base_name(path: str) -> str:
    """Return what stands behind the last `/` or backslash."""
    return re.split(r"[/\\]", path)[-1]


def parent_of(target: str) -> str:
    """Return the directory part, empty if there is none."""
    return target.rpartition("/")[0]
