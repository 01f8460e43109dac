"""Digests of stored content, one pass for all that are asked; runs in the `digest` pool."""

from __future__ import annotations

import os
from collections.abc import Iterable

from isal import isal_zlib

from ecpds.base.checksums import ALGORITHMS as ALGORITHMS
from ecpds.base.checksums import new_digest

BLOCK = 1024 * 1024


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


def digests_of(descriptor: int, algorithms: Iterable[str]) -> dict[str, str]:
    """Return algorithm to hex of the whole file behind `descriptor`."""
    running = {algorithm: new_digest(algorithm) for algorithm in algorithms}
    offset = 0
    while block := os.pread(descriptor, BLOCK, offset):
        for one in running.values():
            one.update(block)
        offset += len(block)
    return {algorithm: one.hexdigest() for algorithm, one in running.items()}
