"""Digests of stored content, one pass for all that are asked; runs in the `digest` pool."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable

import crc32c
from isal import isal_zlib

from ecpds.model.errors import Unsupported

BLOCK = 1024 * 1024
HASHES = ("md5", "sha1", "sha256", "sha512")
SUMS = ("adler32", "crc32", "crc32c")
ALGORITHMS = HASHES + SUMS


def adler_of(descriptor: int, size: int) -> str:
    """Return the Adler-32 of the first `size` bytes as 8 hex digits."""
    value, offset = 1, 0
    while offset < size:
        block = os.pread(descriptor, min(BLOCK, size - offset), offset)
        if not block:
            break
        value = isal_zlib.adler32(block, value)
        offset += len(block)
    return f"{value:08x}"


class _Sum:
    def __init__(self, fn: Callable[[bytes, int], int], start: int) -> None:
        self._fn, self._value = fn, start

    def update(self, block: bytes) -> None:
        self._value = self._fn(block, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _make(algorithm: str) -> _Sum | hashlib._Hash:
    if algorithm in HASHES:
        return hashlib.new(algorithm, usedforsecurity=False)
    if algorithm == "adler32":
        return _Sum(isal_zlib.adler32, 1)
    if algorithm == "crc32":
        return _Sum(zlib.crc32, 0)
    if algorithm == "crc32c":
        return _Sum(crc32c.crc32c, 0)
    raise Unsupported(f"no digest {algorithm!r}; known are {', '.join(ALGORITHMS)}")


def digests_of(descriptor: int, algorithms: Iterable[str]) -> dict[str, str]:
    """Return algorithm to hex of the whole file behind `descriptor`."""
    running = {algorithm: _make(algorithm) for algorithm in algorithms}
    offset = 0
    while block := os.pread(descriptor, BLOCK, offset):
        for one in running.values():
            one.update(block)
        offset += len(block)
    return {algorithm: one.hexdigest() for algorithm, one in running.items()}
