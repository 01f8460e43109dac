"""Names and numbers that identify things, as types of their own, and the forms they may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NewType

from ecpds.model.errors import InvalidName

DestinationName = NewType("DestinationName", str)
HostName = NewType("HostName", str)
UserName = NewType("UserName", str)
TransferId = NewType("TransferId", int)
FileId = NewType("FileId", int)
ByteCount = NewType("ByteCount", int)
ByteRate = NewType("ByteRate", int)

_FORMS = {
    "destination": (re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*"), 32, "letters, digits, - _"),
    "host": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 128, "letters, digits, - _ ."),
    "data user": (re.compile(r"[A-Za-z0-9_.-]+"), 128, "letters, digits, - _ ."),
    "policy": (re.compile(r"[A-Za-z0-9_.-]+"), 32, "letters, digits, - _ ."),
    "web user": (re.compile(r"[A-Za-z0-9_.@-]+"), 32, "letters, digits, - _ . @"),
    "API user": (re.compile(r"[A-Za-z0-9_.@-]+"), 128, "letters, digits, - _ . @"),
    "metadata field": (re.compile(r"[A-Za-z0-9_.-]+"), 64, "letters, digits, - _ ."),
    "role": (re.compile(r"[A-Za-z0-9_.-]+"), 32, "letters, digits, - _ ."),
    "webhook": (re.compile(r"[A-Za-z0-9_.-]+"), 64, "letters, digits, - _ ."),
}


RESERVED = frozenset({"new", "import", "export"})
"""Words that stand in addresses where names stand too."""


def check_new(kind: str, name: str) -> None:
    """Raise InvalidName for a name that nothing new may have; what has it already keeps it."""
    if name in RESERVED:
        raise InvalidName(f"{name!r} is reserved: no {kind} may have it", pointer="name")


def checked(kind: str, name: str) -> str:
    """Return `name` if it is a possible name of that kind; raise InvalidName else."""
    form, longest, allowed = _FORMS[kind]
    if not form.fullmatch(name) or len(name) > longest:
        raise InvalidName(
            f"{name!r} is no {kind} name: 1 to {longest} characters out of {allowed}",
            pointer="name",
        )
    return name


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like `name`, or an empty text."""
    options = list(known)
    lowered = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""
