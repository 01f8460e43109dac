"""How nodes and times look in FTP: MLSD facts, `ls -l` lines, MDTM times.

Spec: RFC 3659 sections 2.3 and 7 (times, facts), portal.md 2.4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ecpds.model.account import Permission
from ecpds.model.errors import InputError
from ecpds.vfs.contract import Node, Session

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
RECENT: Final = timedelta(days=180)  # older files show their year instead of the time of day
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = re.compile(r"(\d{14})(?:\.(\d{1,6})\d*)?", re.ASCII)

_FILE_RIGHTS: Final = (
    ("d", Permission.DELETE),
    ("f", Permission.RENAME),
    ("r", Permission.GET),
    ("w", Permission.PUT),
)
_DIRECTORY_RIGHTS: Final = (
    ("c", Permission.PUT),
    ("d", Permission.RMDIR),
    ("f", Permission.RENAME),
    ("l", Permission.DIR),
    ("m", Permission.MKDIR),
    ("p", Permission.DELETE),
)


def _type(node: Node, _: Session) -> str:
    return "dir" if node.is_directory else "file"


def _size(node: Node, _: Session) -> str:
    return "" if node.is_directory else str(node.size)


def _modify(node: Node, _: Session) -> str:
    return show_time(node.mtime) if node.mtime else ""


def _perm(node: Node, session: Session) -> str:
    rights = _DIRECTORY_RIGHTS if node.is_directory else _FILE_RIGHTS
    granted = "".join(letter for letter, right in rights if session.may(right, node.path))
    return "".join(sorted(granted + "e")) if node.is_directory else granted


def _unique(node: Node, _: Session) -> str:
    if node.file_id is not None:
        return f"f{node.file_id:x}"
    return "d" + hashlib.blake2s(node.path.encode(), digest_size=8).hexdigest()


FACTS: Final[Mapping[str, Callable[[Node, Session], str]]] = {
    "type": _type,
    "size": _size,
    "modify": _modify,
    "perm": _perm,
    "unique": _unique,
}


def machine_line(node: Node, session: Session, facts: Sequence[str], name: str) -> str:
    """Return one line of MLSD or MLST without its end: facts, a space, the name.

    A fact without value is left out, `perm` is there even when nothing is granted.
    """
    found = ((fact, FACTS[fact](node, session)) for fact in facts)
    shown = "".join(f"{fact}={value};" for fact, value in found if value or fact == "perm")
    return f"{shown} {name}"


def list_line(node: Node, now: datetime, name: str) -> str:
    """Return one line of LIST without its end, as `ls -l` would, times in UTC."""
    mode, links = ("drwxr-x---", 2) if node.is_directory else ("-rw-r--r--", 1)
    time = node.mtime or _EPOCH
    is_recent = now - RECENT < time <= now + timedelta(days=1)
    when = f"{time:%H:%M}" if is_recent else f" {time.year:4d}"
    owner, group = _word(node.owner), _word(node.group)
    return (
        f"{mode} {links:3d} {owner:<8} {group:<8} {node.size:12d} "
        f"{MONTHS[time.month - 1]} {time.day:2d} {when} {name}"
    )


def _word(text: str) -> str:
    return "_".join(text.split())[:32] or "ecpds"


def show_time(time: datetime) -> str:
    """Return `YYYYMMDDhhmmss` in UTC."""
    return f"{time.astimezone(UTC):%Y%m%d%H%M%S}"


def read_time(text: str) -> datetime:
    """Read `YYYYMMDDhhmmss[.fraction]`, UTC.

    Raises:
        InputError: it is no time.
    """
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        time = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise InputError("times have the form YYYYMMDDhhmmss") from None
    return time.replace(microsecond=int((match[2] or "").ljust(6, "0")))
