"""What the search language knows of data files: keys, and the value of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ecpds.model.query import Kind, Search, Value
from ecpds.model.transfer import DataFile

KEYS: Final[Mapping[str, Kind]] = {
    "name": "text", "source": "text", "checksum": "text", "group": "text", "host": "text",
    "submitter": "text", "size": "size", "ts": "number", "id": "number", "stored": "flag",
    "deleted": "flag",
}  # fmt: skip
VALUES: Final[Mapping[str, Callable[[DataFile], Value]]] = {
    "name": lambda one: one.original,
    "source": lambda one: one.source,
    "checksum": lambda one: one.checksum,
    "group": lambda one: one.group_by,
    "host": lambda one: one.host,
    "submitter": lambda one: one.submitter,
    "size": lambda one: one.size,
    "ts": lambda one: one.time_step,
    "id": lambda one: one.id,
    "stored": lambda one: one.stored,
    "deleted": lambda one: one.deleted,
}


def matches(search: Search, one: DataFile) -> bool:
    """Tell whether a data file fulfils all terms."""
    return search.matches(lambda key: VALUES[key](one))
