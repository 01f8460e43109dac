"""Digests and sums by name, one form for all: of stored, sent and fetched content."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import crc32c
from isal import isal_zlib

from ecpds.model.errors import Unsupported

HASHES: Final = ("md5", "sha1", "sha256", "sha512")
SUMS: Final = ("adler32", "crc32", "crc32c")
ALGORITHMS: Final = HASHES + SUMS


class Digest(Protocol):
    """A digest that grows block by block."""

    def update(self, block: bytes, /) -> None:
        """Take the next block."""

    def hexdigest(self) -> str:
        """Return the digest of all blocks."""


class _Sum:
    def __init__(self, fn: Callable[[bytes, int], int], start: int) -> None:
        self._fn, self._value = fn, start

    def update(self, block: bytes, /) -> None:
        self._value = self._fn(block, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def new_digest(algorithm: str) -> Digest:
    """Return a digest of no block yet; Unsupported names those that there are."""
    if algorithm in HASHES:
        return hashlib.new(algorithm, usedforsecurity=False)
    if algorithm == "adler32":
        return _Sum(isal_zlib.adler32, 1)
    if algorithm == "crc32":
        return _Sum(zlib.crc32, 0)
    if algorithm == "crc32c":
        return _Sum(crc32c.crc32c, 0)
    raise Unsupported(f"no digest {algorithm!r}; known are {', '.join(ALGORITHMS)}")
