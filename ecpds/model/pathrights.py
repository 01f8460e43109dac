"""`portal.pathPermissions`: operations by path, the longest prefix wins.

One rule a line (or between semicolons), `/MET/in: put,mkdir`; the path begins with the destination.
Where no rule reaches, the operations of user and policies count.  Spec: portal.md 5.
"""

from __future__ import annotations

import re
from typing import Final

from ecpds.model.account import Permission
from ecpds.model.errors import RuleError

MOST: Final = 200
"""Rules of one text."""

PathRights = tuple[tuple[str, frozenset[Permission]], ...]
_WORDS: Final = {permission.value: permission for permission in Permission}


def parse_path_rights(text: str) -> PathRights:
    """Return prefix and operations of each rule, longest prefix first; raise RuleError."""
    lines = [part.strip() for part in re.split(r"\n|\\n|;", text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > MOST:
        raise RuleError(f"more than {MOST} path rules")
    found = dict(map(_rule, lines))
    if len(found) < len(lines):
        raise RuleError("a path has two rules")
    return tuple(sorted(found.items(), key=lambda rule: -len(rule[0])))


def _rule(line: str) -> tuple[str, frozenset[Permission]]:
    path, colon, words = line.rpartition(":")
    path = "/" + "/".join(part for part in path.strip().split("/") if part)
    if not colon or not line.startswith("/"):
        raise RuleError(f"path rule {line!r} has the form /DESTINATION/path: dir,get")
    operations = [word.strip().lower() for word in words.split(",") if word.strip()]
    unknown = [word for word in operations if word not in _WORDS]
    if unknown:
        raise RuleError(f"path rule {line!r}: {unknown[0]!r} is no operation")
    return path, frozenset(_WORDS[word] for word in operations)


def rights_at(rules: PathRights, path: str) -> frozenset[Permission] | None:
    """Return the operations of the longest prefix of `path`, None where no rule reaches."""
    for prefix, operations in rules:
        if prefix == "/" or path == prefix or path.startswith(f"{prefix}/"):
            return operations
    return None
