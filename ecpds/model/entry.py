"""One line of a remote listing as a record, whatever protocol it came by."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What a listed name is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"  # device, socket, or nothing that could be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a listing tells of one name.

    `name` is as listed and may be a path or a URL.  An `error` makes the entry a message for people
    that is never selected.
    """

    kind: Kind
    name: str
    size: int | None = None  # bytes, None unknown
    mtime: datetime | None = None
    owner: str = ""
    group: str = ""
    mode: int | None = None  # permission bits
    link: str = ""  # where a symbolic link leads
    url: str = ""
    error: str = ""
    inline_body: bytes | None = None  # the content itself came with the entry
    inline_message: bytes | None = None  # the notification that announced it
    etag: str = ""
    checksum: str = ""


_LETTERS = {Kind.FILE: "-", Kind.DIRECTORY: "d", Kind.LINK: "l", Kind.OTHER: "?"}


def listing_line(entry: Entry) -> str:
    """Return the entry as people know it from `ls -l`; only for display."""
    if entry.error:
        return f"err: {entry.error}"
    mode = stat.filemode(entry.mode)[1:] if entry.mode is not None else "rw-r--r--"
    size = "-" if entry.size is None else str(entry.size)
    moment = f"{entry.mtime:%b %d %Y %H:%M}" if entry.mtime is not None else "-"
    link = f" -> {entry.link}" if entry.link else ""
    return (
        f"{_LETTERS[entry.kind]}{mode} 1 {entry.owner or '-':<8} {entry.group or '-':<8} "
        f"{size:>10} {moment} {entry.name}{link}"
    )
