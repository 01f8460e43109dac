"""Digests of a range of a file, as `check-file` asks for them.

Spec: draft-ietf-secsh-filexfer-extensions-00 section 3.  The draft's answer begins with the
algorithm; paramiko (its client code of 2.x and 3.x) sends `check-file` with a handle and reads the
name of the extension before it, so that this one request gets that form.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import Protocol

from ecpds.model.errors import Conflict, TooLarge, Unsupported
from ecpds.portals.ssh import wire

ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "crc32")
_READ = 1 << 20
_MIN_BLOCK = 256  # bytes; the draft's own
_MAX_DIGESTS = 2048  # in one answer: 128 KiB of SHA-512


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object:
        """Take more."""

    def digest(self) -> bytes:
        """Return the digest of what was taken."""


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Check:
    """One request: which digests of which bytes."""

    algorithm: str
    start: int
    length: int  # 0: to the end
    block: int  # bytes for each digest, 0: one digest for all

    @classmethod
    def read(cls, fields: wire.Fields) -> Check:
        """Read the fields behind name or handle; take the first algorithm that we have."""
        names = fields.text().split(",")
        start, length, block = fields.u64(), fields.u64(), fields.u32()
        algorithm = next((name for name in names if name in ALGORITHMS), None)
        if algorithm is None:
            raise Unsupported(f"the algorithms are {', '.join(ALGORITHMS)}")
        if 0 < block < _MIN_BLOCK:
            raise Conflict(f"blocks have at least {_MIN_BLOCK} bytes")
        return cls(algorithm, start, length, block)

    def is_whole(self, size: int) -> bool:
        """Tell whether one digest of all `size` bytes is asked for."""
        return not self.start and not self.block and (not self.length or self.length >= size)

    def digests(self, descriptor: int, size: int) -> bytes:
        """Return the digests one behind the other; blocks, and closes `descriptor`."""
        try:
            return b"".join(self._each(descriptor, size))
        finally:
            os.close(descriptor)

    def _each(self, descriptor: int, size: int) -> list[bytes]:
        if self.start > size:
            raise Conflict("the range begins behind the end")
        end = min(self.start + self.length, size) if self.length else size
        step = self.block or max(end - self.start, 1)
        starts = range(self.start, max(end, self.start + 1), step)
        if len(starts) > _MAX_DIGESTS:
            raise TooLarge(f"more than {_MAX_DIGESTS} blocks in one request")
        return [self._one(descriptor, place, min(place + step, end)) for place in starts]

    def _one(self, descriptor: int, start: int, end: int) -> bytes:
        found: _Hash
        if self.algorithm == "crc32":
            found = _Crc32()
        else:
            found = hashlib.new(self.algorithm, usedforsecurity=False)
        while start < end:
            data = os.pread(descriptor, min(_READ, end - start), start)
            if not data:
                raise Conflict("the file became shorter")
            found.update(data)
            start += len(data)
        return found.digest()

    def answer(self, request: int, digests: bytes, *, echo: bytes = b"") -> bytes:
        """Encode the answer, behind the name of the extension where the client expects that."""
        head = wire.string(echo) if echo else b""
        body = head + wire.string(self.algorithm.encode()) + digests
        return wire.answer(wire.EXTENDED_REPLY, request, body)
