"""Remove what a crash left: temporary files nobody parked, objects nobody refers to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from ecpds.objects.directory import remove_all
from ecpds.objects.volume import Volume


def sweep_temporaries(volume: Volume, keep: frozenset[str], before: datetime) -> int:
    """Remove uploads last touched before `before` whose name is not in `keep`; return how many."""
    found: list[Path] = []
    with os.scandir(volume.temporary) as entries:
        found.extend(
            Path(entry.path)
            for entry in entries
            # the time of the name: a second link to an old file has just been made
            if entry.name not in keep and _named_at(entry) < before.timestamp()
        )
    remove_all(found)
    return len(found)


def _named_at(entry: os.DirEntry[str]) -> float:
    """Return when the file got its name; those that have gone meanwhile are no business of ours."""
    try:
        return entry.stat().st_ctime
    except FileNotFoundError:
        return float("inf")


def candidates(volume: Volume, before: datetime, *, batch: int = 500) -> Iterator[list[str]]:
    """Yield keys of objects made before `before`, in batches, for a look-up of who needs them."""
    keys: list[str] = []
    for day in sorted(volume.path.glob("[0-9]" * 8)):
        for hour in sorted(day.iterdir()):
            with os.scandir(hour) as entries:
                for entry in entries:
                    if _named_at(entry) < before.timestamp():
                        keys.append(f"{day.name}/{hour.name}/{entry.name}")
                    if len(keys) >= batch:
                        yield keys
                        keys = []
    if keys:
        yield keys


def drop_empty_directories(volume: Volume, today: str) -> None:
    """Remove hour and day directories without files, but those of `today` (yyyymmdd)."""
    for day in volume.path.glob("[0-9]" * 8):
        if day.name >= today:
            continue
        for hour in day.iterdir():
            _remove_if_empty(hour)
        _remove_if_empty(day)


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:  # it has members, or somebody else removed it
        return
