"""What an SFTP server tells of files, as entries."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from ecpds.model.entry import Entry, Kind
from ecpds.modules.sftp_link import Attributes, Fields


def entry(name: str, told: Attributes, letter: str = "") -> Entry:
    """Return what the server tells as an entry; `letter` begins the long name of a listing."""
    return Entry(
        kind=_kind(told.mode, letter),
        name=name,
        size=told.size,
        mtime=None if told.mtime is None else datetime.fromtimestamp(told.mtime, UTC),
        owner="" if told.owner is None else str(told.owner),
        group="" if told.group is None else str(told.group),
        mode=None if told.mode is None else stat.S_IMODE(told.mode),
    )


_LETTERS: Final = {"-": Kind.FILE, "d": Kind.DIRECTORY, "l": Kind.LINK}


def _kind(mode: int | None, letter: str) -> Kind:
    if mode is None or not stat.S_IFMT(mode):
        return _LETTERS.get(letter, Kind.FILE)
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


def names(body: bytes) -> Iterator[Entry]:
    """Yield the entries of one answer to READDIR."""
    fields = Fields(body)
    for _ in range(fields.u32()):
        name, long_name = fields.text(), fields.text()
        told = fields.attributes()
        if name not in (".", ".."):
            yield entry(name, told, long_name[:1])
