r"""The one form of a path that a client gives, whatever the protocol.

`\` counts as `/`, empty and `.` segments say nothing, `..` goes up and never above the root, names
are in Unicode normal form C.  Spec: portal.md 2.1; UAX 15.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ecpds.model.errors import InvalidName, NotFound
from ecpds.model.targets import MAX_SEGMENT, MAX_TARGET

MAX_PATH: Final = MAX_TARGET + 2 * MAX_SEGMENT
"""Longest path, in bytes of UTF-8: a target below the two upper levels."""

_NORMAL: Final = re.compile(r"/|(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def normal(path: str, *, base: str = "/") -> str:
    """Return the normal absolute form of `path` as seen from the normal path `base`.

    Raises:
        NotFound: `..` leads above the root.
        InvalidName: control character, segment or path above its limit.
    """
    if len(path) <= MAX_SEGMENT and _NORMAL.fullmatch(path):
        return path  # nearly every path
    if len(path) > 4 * MAX_PATH:
        raise InvalidName(f"a path has at most {MAX_PATH} bytes")
    if (bad := _CONTROL.search(path)) is not None:
        raise InvalidName(f"the path {path[:80]!r} has the control character {bad[0]!r}")
    text = unicodedata.normalize("NFC", path.replace("\\", "/"))
    if not text.startswith("/"):
        text = f"{base}/{text}"
    result = "/" + "/".join(_resolved(text))
    _check_length(result)
    return result


def _resolved(text: str) -> list[str]:
    segments: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            if not segments:
                raise NotFound(f"{text[:80]} leads above the root")
            segments.pop()
        elif segment not in {"", "."}:
            segments.append(segment)
    return segments


def _check_length(path: str) -> None:
    if len(path.encode()) > MAX_PATH:
        raise InvalidName(f"the path {path[:80]!r}... has more than {MAX_PATH} bytes")
    if any(len(segment.encode()) > MAX_SEGMENT for segment in path.split("/")):
        raise InvalidName(f"a part of the path {path[:80]!r} has more than {MAX_SEGMENT} bytes")


def check_new(path: str) -> None:
    """Raise InvalidName for a name that would be stored under another one (`a//b`).

    Reading may spell a path as it likes; a created name must be found again under its own text.
    """
    if "//" in path.strip("/"):
        raise InvalidName(f"the path {path[:80]!r} has an empty part")


def last(path: str) -> str:
    """Return the last segment of a normal path, empty for the root."""
    return path.rpartition("/")[2]


def joined(directory: str, name: str) -> str:
    """Return the path of a member of a directory, both normal."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def parents(inner: str) -> list[str]:
    """Return the directories above a relative path, the nearest last: `a/b/c` gives a, a/b."""
    segments = inner.split("/")[:-1]
    return ["/".join(segments[: count + 1]) for count in range(len(segments))]
