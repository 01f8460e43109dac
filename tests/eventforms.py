"""Every event that a test leads to is held against the strict schema: here, and of daemons.

A form (names and types of a record) that was right once is not looked at again: a validator takes
longer than all of what the event tells of.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from ecpds.engine.telling import Teller

WRONG: list[str] = []
MOST_LINES = 50_000  # of one daemon
_RIGHT: set[object] = set()
_tell = Teller.tell


def watch() -> None:
    """Look at all events that are told in this process from now on."""
    Teller.tell = _told  # type: ignore[method-assign]  # for as long as tests run


def _told(self: Teller, db: Any, record: dict[str, Any], *, now: Any) -> None:
    check(record)
    _tell(self, db, record, now=now)


def check(record: dict[str, Any]) -> None:
    """Note what is wrong with a record."""
    form = _form(record)
    if form in _RIGHT:
        return
    errors = [f"{record.get('type')}: {one}" for one in problems(record)]
    if errors:
        WRONG.extend(errors)
    else:
        _RIGHT.add(form)


def _form(value: Any) -> object:
    if isinstance(value, dict):
        return tuple((name, _form(inner)) for name, inner in value.items())
    return type(value)


def problems(record: dict[str, Any]) -> list[str]:
    """Return what the strict schema says."""
    validator = _validator(str(record.get("type")))
    return [f"{error.json_path} {error.message}" for error in validator.iter_errors(record)]


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator  # 0.2 s, for tests without events

    from ecpds.model.eventschema import TYPES, of_type

    return Draft202012Validator(of_type(kind, strict=True) if kind in TYPES else False)


def check_file(path: Path) -> None:
    """Check the lines of a daemon; one that a kill cut off is none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(MOST_LINES), strict=False):
            if line.endswith("\n"):
                check(json.loads(line))
