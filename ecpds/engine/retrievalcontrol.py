"""What an administrator decided about retrieval as a whole; it survives a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ecpds.store import site
from ecpds.store.codec import dump, load
from ecpds.store.db import Connection

KEY: Final = "retrieval"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalControl:
    """Whether retrieval runs, and limits that replace those of the settings."""

    stopped: bool = False
    streams: int | None = None  # files at a time
    stall: timedelta | None = None  # no byte for so long ends one


def read_control(db: Connection) -> RetrievalControl:
    """Return what is stored, the defaults when nothing is."""
    text = site.meta(db, KEY)
    if text is None:
        return RetrievalControl()
    found = load(text)
    stall = found["stall_seconds"]
    return RetrievalControl(
        stopped=found["stopped"],
        streams=found["streams"],
        stall=None if stall is None else timedelta(seconds=stall),
    )


def write_control(db: Connection, control: RetrievalControl) -> None:
    """Store it."""
    found = {
        "stopped": control.stopped,
        "streams": control.streams,
        "stall_seconds": None if control.stall is None else control.stall.total_seconds(),
    }
    site.set_meta(db, KEY, dump(found))
