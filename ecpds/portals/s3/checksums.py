"""Checksums that S3 clients send and ask for, and their computation beside an upload.

Short contents are summed up in the loop as they come; longer ones by a thread that reads back what
was written, so that MD5, slower than any disk, holds up neither the client nor anybody else.
Spec: Amazon S3 User Guide, Checking object integrity; portal.md 3.6.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Protocol

import crc32c
from anycrc import Model
from isal import isal_zlib

from ecpds.base.threads import Threads
from ecpds.model.errors import SourceBroke
from ecpds.portals.s3.codes import S3Error

ALGORITHMS: Mapping[str, int] = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}
"""Name to length in bytes."""

FIELD = "x-amz-checksum-"
INLINE = 256 * 1024  # bytes up to which a hand-over to a thread costs more than the sum
STEP = 4 * 1024 * 1024  # bytes that a thread takes at a time
_BLOCK = 1024 * 1024


@cache
def model(name: str) -> Model:
    """Return a cyclic sum by the name that the catalogue of CRCs gives it."""
    return Model(name)


class _Sum:
    """A cyclic sum with the face of hashlib."""

    def __init__(self, fn: Callable[[bytes, int], int], length: int) -> None:
        self._fn, self._length, self._value = fn, length, 0

    def update(self, block: bytes | memoryview) -> None:
        self._value = self._fn(block, self._value)  # type: ignore[arg-type] # any buffer

    def digest(self) -> bytes:
        return self._value.to_bytes(self._length, "big")


class Running(Protocol):
    """A sum that grows."""

    def update(self, block: bytes | memoryview, /) -> None:
        """Add a block."""

    def digest(self) -> bytes:
        """Return the sum of all blocks."""


def _crc64nvme(block: bytes, value: int) -> int:
    return int(model("CRC64-NVME").calc(block, value))


def make(name: str) -> Running:
    """Return a sum of nothing yet."""
    if name in ("md5", "sha1", "sha256"):
        return hashlib.new(name, usedforsecurity=False)
    if name == "crc32":
        return _Sum(isal_zlib.crc32, 4)
    if name == "crc32c":
        return _Sum(crc32c.crc32c, 4)
    return _Sum(_crc64nvme, 8)


class Sums:
    """Sums of one content while it is written to a file."""

    def __init__(
        self, names: Iterable[str], descriptor: int, offset: int, size: int | None, threads: Threads
    ) -> None:
        """`offset`: where in the file the content begins; `size` None: not known before."""
        self._running = {name: make(name) for name in dict.fromkeys(names)}
        self._descriptor = descriptor
        self._offset = offset
        self._threads = threads
        self._inline = size is not None and size <= INLINE
        self._written = 0
        self._summed = 0
        self._more = asyncio.Event()
        self._is_over = False

    def take(self, block: bytes | memoryview) -> None:
        """Count a block that has just been written behind the last one."""
        self._written += len(block)
        if self._inline:
            for one in self._running.values():
                one.update(block)
            self._summed = self._written
        elif self._written - self._summed >= STEP:
            self._more.set()

    async def follow(self) -> None:
        """Sum up what is written until `end`; runs beside the upload."""
        while not self._inline and not self._is_over:
            await self._more.wait()
            self._more.clear()
            while self._written - self._summed >= STEP:
                await self._step(STEP)

    def end(self) -> None:
        """Tell that no more is written."""
        self._is_over = True
        self._more.set()

    async def _step(self, count: int) -> None:
        start = self._offset + self._summed
        self._summed += count
        await self._threads.run("digest", _sum, self._running, self._descriptor, start, count)

    async def of(self, count: int) -> dict[str, bytes]:
        """Return all sums of what somebody else wrote."""
        self._written = count
        while self._written - self._summed > STEP:
            await self._step(STEP)
        return await self.digests()

    async def digests(self) -> dict[str, bytes]:
        """Return all sums of the whole; `follow` has returned."""
        if self._written > self._summed:
            await self._step(self._written - self._summed)
        return {name: one.digest() for name, one in self._running.items()}


def _sum(running: Mapping[str, Running], descriptor: int, offset: int, count: int) -> None:
    done = 0
    while done < count:
        block = os.pread(descriptor, min(_BLOCK, count - done), offset + done)
        if not block:
            raise SourceBroke("the upload is shorter than what was written of it")
        for one in running.values():
            one.update(block)
        done += len(block)


# --- fields ----------------------------------------------------------------------------------


def decoded(text: str, length: int, code: str, message: str) -> bytes:
    """Return the bytes of a Base64 text; S3Error unless there are `length` of them."""
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length:
        raise S3Error(code, message)
    return raw


def encoded(raw: bytes) -> str:
    """Return bytes as Base64."""
    return base64.b64encode(raw).decode()


def announced(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return the checksum that the fields announce: algorithm to its bytes, at most one."""
    found: dict[str, bytes] = {}
    for name, text in headers.items():
        algorithm = name.removeprefix(FIELD)
        if not name.startswith(FIELD) or algorithm in ("algorithm", "type", "mode"):
            continue
        if algorithm not in ALGORITHMS:
            raise S3Error("InvalidRequest", "The algorithm type you specified is unknown.")
        message = f"Value for {name} header is invalid."
        found[algorithm] = decoded(text, ALGORITHMS[algorithm], "InvalidRequest", message)
    if len(found) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header.")
    return found


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """Return what Content-MD5 says."""
    text = headers.get("content-md5")
    if text is None:
        return None
    return decoded(text, 16, "InvalidDigest", "The Content-MD5 you specified is not valid.")


def wanted_algorithm(headers: Mapping[str, str], field: str) -> str:
    """Return the algorithm that a field names in lower case, empty if it names none."""
    name = headers.get(field, "").strip().lower()
    if name and name not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    return name
