"""What a case is given: a folder, the files to move, and how much time it may take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Comparison

BIG = 1 << 30
SMALL = 16 << 10
MEDIUM = 64 << 10
MANY = 5000
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where and how much to measure.

    `full`: more rounds and the long runs. `ours`: include our daemon; without it the peers are
    measured alone. `scale` shortens the time of every comparison (1.0 is what it asks for), `size`
    multiplies the counts of those cases that have some to give: 0.05 is a trial run.
    """

    work: Path
    full: bool = False
    ours: bool = True
    scale: float = 1.0
    size: float = 1.0

    @property
    def rounds(self) -> int:
        """How many rounds a comparison of moderate length has at most."""
        return 9 if self.full else 5

    def count(self, wanted: int, *, least: int = 1) -> int:
        """Return how many of something a run of this size has."""
        return max(least, round(wanted * self.size))

    def seconds(self, wanted: float) -> float:
        """Return the time for a comparison that asks for `wanted` seconds."""
        return wanted * (4 if self.full else self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case of the table; `share` is the seconds of `make bench` that it asks for."""

    name: str
    share: float
    open: Callable[[Scene], AbstractAsyncContextManager[Sequence[Comparison]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Files to send and to fetch, with content that does not compress."""

    folder: Path

    @property
    def big(self) -> Path:
        """One file of BIG bytes."""
        return self.folder / "big"

    @property
    def medium(self) -> Path:
        """One file of MEDIUM bytes."""
        return self.folder / "medium"

    def small(self, count: int = MANY) -> list[Path]:
        """The first `count` of MANY files of SMALL bytes."""
        return [self.folder / "small" / f"f{number:05}.bin" for number in range(count)]

    def create(self) -> Material:
        """Write what is missing or short; a second run finds everything."""
        (self.folder / "small").mkdir(parents=True, exist_ok=True)
        _fill(self.big, BIG)
        _fill(self.medium, MEDIUM)
        for path in self.small():
            _fill(path, SMALL)
        return self

    def link_into(self, folder: Path) -> None:
        """Offer everything to a peer below `folder`; bytes and page cache are the same for all."""
        for path in (self.big, self.medium, *self.small()):
            place = folder / path.name
            place.unlink(missing_ok=True)
            os.link(path, place)
            place.chmod(0o644)


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _fill(path: Path, size: int) -> None:
    if path.exists() and path.stat().st_size == size:
        return
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - start)))
