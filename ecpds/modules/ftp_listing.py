"""Listings of FTP servers: lines out of blocks, and the facts of MLSD and MLST.

Spec: RFC 3659 sections 2.3 (times) and 7 (MLSD, MLST).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ecpds.model.entry import Entry, Kind

MAX_LINE: Final = 8 * 1024
"""Longest line of a listing, in bytes; the rest of a longer one is dropped."""

MAX_ENTRIES: Final = 1_000_000
"""Most lines of one listing."""

GLOB: Final = frozenset("*?[")
"""Characters that make a path a pattern."""


class LineSplitter:
    """Cuts blocks into lines; holds one line of bounded length."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._rest = b""

    def feed(self, block: bytes) -> list[str | None]:
        """Return the lines that `block` completes; None for one that cannot be decoded."""
        *lines, rest = (self._rest + block).split(b"\n")
        self._rest = rest[: MAX_LINE + 1]
        return [self._decode(line) for line in lines]

    def close(self) -> list[str | None]:
        """Return the last line if it has no end."""
        rest, self._rest = self._rest, b""
        return [self._decode(rest)] if rest else []

    def _decode(self, line: bytes) -> str | None:
        try:
            return line[:MAX_LINE].rstrip(b"\r").decode(self._encoding)
        except UnicodeDecodeError:
            return None


def undecodable(encoding: str) -> Entry:
    """Return the message for a name that is not written in the encoding of the host."""
    return Entry(kind=Kind.OTHER, name="", error=f"a name is not {encoding}: see ftp.encoding")


_KINDS: Final = {"file": Kind.FILE, "dir": Kind.DIRECTORY}


def facts_entry(line: str) -> Entry | None:
    """Return the entry of an MLSD or MLST line, None for the directory itself and its parent.

    A line that cannot be read becomes an entry with an `error`.
    """
    text, blank, name = line.lstrip(" ").partition(" ")
    facts = dict(_pair(fact) for fact in text.split(";") if "=" in fact)
    if not blank or not name or not facts:
        return Entry(kind=Kind.OTHER, name=line[:200], error="listing line cannot be read")
    kind, link = _kind(facts.get("type", "file"))
    if kind is None:
        return None
    size = facts.get("size", "")
    return Entry(
        kind=kind,
        name=name,
        size=int(size) if kind is Kind.FILE and _is_number(size, 18) else None,
        mtime=stamp(facts.get("modify", "")),
        owner=facts.get("unix.ownername", facts.get("unix.owner", "")),
        group=facts.get("unix.groupname", facts.get("unix.group", "")),
        mode=_mode(facts.get("unix.mode", "")),
        link=link,
    )


def _pair(fact: str) -> tuple[str, str]:
    key, _, value = fact.partition("=")
    return key.lower(), value


def _kind(text: str) -> tuple[Kind | None, str]:
    lowered = text.lower()
    if lowered in ("cdir", "pdir"):
        return None, ""
    if lowered.startswith(("os.unix=slink", "os.unix=symlink")):
        return Kind.LINK, text.partition(":")[2]
    return _KINDS.get(lowered, Kind.OTHER), ""


def _is_number(text: str, longest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= longest


def _mode(text: str) -> int | None:
    digits = text.removeprefix("0o")
    if not digits or len(digits) > 6 or set(digits) - set("01234567"):
        return None
    return int(digits, 8) & 0o7777


def stamp(text: str) -> datetime | None:
    """Return the time `YYYYMMDDHHMMSS[.sss]` of MDTM and of facts, which is UTC; else None."""
    whole, _, fraction = text.strip().partition(".")
    if not _is_number(whole, 14) or len(whole) != 14:
        return None
    micro = (fraction + "000000")[:6] if _is_number(fraction, 9) else "0"
    parts = (whole[:4], whole[4:6], whole[6:8], whole[8:10], whole[10:12], whole[12:], micro)
    try:
        return datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[misc,arg-type]  # seven numbers
    except ValueError:
        return None


def below(directory: str, entry_name: str) -> str:
    """Return a listed name without the directory that was listed.

    NLST and patterns often give whole paths.
    """
    start = directory.rstrip("/") + "/"
    return entry_name[len(start) :] if entry_name.startswith(start) else entry_name


def safe_path(path: str) -> str:
    """Return a path that is not taken for an option."""
    return f"./{path}" if path.startswith("-") else path
