"""Which compression a file gets: names, extensions, tiers by size, chains.

    zstd                                  always
    zstd:10000000:lz4:2000000000          zstd up to 10 MB, lz4 up to 2 GB, nothing above
    lz4:1MB:gzip                          lz4 up to 1 MiB, gzip above
    gzip,bzip2                            gzip, and bzip2 over it

Spec: transfer-modules.md 4.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ecpds.model.errors import OptionError
from ecpds.model.names import nearest
from ecpds.model.units import parse_bytes

NONE: Final = "none"
EXTENSIONS: Final[Mapping[str, str]] = {
    "lzma": ".lzma",
    "zip": ".zip",
    "gzip": ".gz",
    "bzip2": ".bz2",
    "lbzip2": ".bz2",
    "lz4": ".lz4",
    "snappy": ".sz",
    "zstd": ".zst",
}
LEVELS: Final[Mapping[str, tuple[int, int]]] = {
    "lzma": (0, 6),  # 7 to 9 take up to 700 MB a file
    "zip": (0, 9),
    "gzip": (0, 9),
    "bzip2": (1, 9),
    "lbzip2": (1, 9),
    "lz4": (0, 16),
    "snappy": (0, 0),
    "zstd": (1, 19),
}
_OLD_NAMES: Final = {"bzip2a": "bzip2"}
LONGEST_CHAIN: Final = 3
"""Filters one over the other at most."""


@dataclass(frozen=True, slots=True)
class Tier:
    """The filters for sizes up to a limit."""

    filters: tuple[str, ...]  # empty: as it is
    limit: int | None = None  # bytes; None: any size


@dataclass(frozen=True, slots=True)
class Compression:
    """What `filter_name` of a Host or a Destination says."""

    tiers: tuple[Tier, ...] = ()

    def filters(self, size: int) -> tuple[str, ...]:
        """Return the filters for a file of `size` bytes, the inner one first; empty for none."""
        for tier in self.tiers:
            if tier.limit is None or size <= tier.limit:
                return tier.filters
        return ()

    def __bool__(self) -> bool:
        """Tell whether any size is compressed."""
        return any(tier.filters for tier in self.tiers)


@lru_cache(maxsize=256)
def parse_compression(text: str) -> Compression:
    """Read tiers and chains; raises OptionError that names the nearest filter."""
    parts = [part.strip() for part in text.split(":")]
    if parts in ([""], [NONE]):
        return Compression()
    return Compression(tuple(_tiers(parts, text)))


def _tiers(parts: list[str], text: str) -> Iterator[Tier]:
    last = -1
    for start in range(0, len(parts), 2):
        limit = None
        if start + 1 < len(parts):
            limit = parse_bytes(parts[start + 1], legacy_unit="b")
        if limit is not None and limit <= last:
            raise OptionError(f"filter {text!r}: the limits must grow")
        last = limit if limit is not None else last
        yield Tier(_chain(parts[start]), limit)


def _chain(text: str) -> tuple[str, ...]:
    names = [name.strip().lower() for name in re.split("[,;]", text)]
    found = tuple(_OLD_NAMES.get(name, name) for name in names if name != NONE)
    for name in found:
        if name not in EXTENSIONS:
            known = (NONE, *EXTENSIONS)
            near = nearest(name, known)
            hint = f" (did you mean {near!r}?)" if near else f", known are {', '.join(known)}"
            raise OptionError(f"no filter {name!r}{hint}")
    if len(found) > LONGEST_CHAIN:
        raise OptionError(f"filter {text!r}: at most {LONGEST_CHAIN} one over the other")
    return found


def extension(filters: tuple[str, ...]) -> str:
    """Return what is added to the name of a file that got these filters."""
    return "".join(EXTENSIONS[name] for name in filters)


def parse_levels(texts: tuple[str, ...]) -> dict[str, int]:
    """Read `zstd=9`, `gzip=6`…; raises OptionError for another filter or level."""
    found = {}
    for text in texts:
        name, equals, level = text.partition("=")
        name, level = name.strip().lower(), level.strip()
        low, high = LEVELS.get(name, (1, 0))
        if not equals or not level.isdigit() or not low <= int(level) <= high:
            raise OptionError(f"filterLevel: {text!r} is no filter=level such as zstd=9")
        found[name] = int(level)
    return found
