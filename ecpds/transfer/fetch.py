"""Fetching one remote file into a sink: count, rate limits, stall guard, size rule.

A file on this machine is copied by the kernel: in one read and one write when it is small, in
blocks from the disk pool when it is not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ecpds.model.errors import ConnectionLost, RemoteMissing, RemoteVerify
from ecpds.transfer.contract import ByteSink, Surroundings, TransferModule
from ecpds.transfer.deliver import checked_name
from ecpds.transfer.meter import Meter, Watch, watched
from ecpds.transfer.source import READ, SMALL

KERNEL_BLOCK = 8 * 1024 * 1024
"""Bytes of one kernel copy: long enough to hide the hand-over, short enough to count and to stop.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What `fetch` did."""

    name: str
    received: int  # bytes of this attempt
    size: int  # bytes of the whole content: offset + received
    peer: str
    started_at: datetime
    finished_at: datetime
    statistics: Mapping[str, int] = field(default_factory=dict)  # of the TCP connection


async def fetch(
    module: TransferModule[Any],
    name: str,
    sink: ByteSink,
    *,
    around: Surroundings,
    watch: Watch,
    meter: Meter | None = None,
    expected_size: int = -1,
    offset: int = 0,
    check_size: bool = True,
) -> Fetched:
    """Read the remote file `name` from byte `offset` into `sink`.

    Args:
        module: an open session; discard it when this raises.
        name: as `list` gave it, below the directory that was listed.
        sink: takes the blocks in order.
        around: clock and thread pools.
        watch: stall, slow and total limits.
        meter: counts and limits; may be stopped from outside.
        expected_size: bytes the listing promised, -1 unknown.
        offset: first byte, for going on with what the sink holds; needs Feature.RESUME_GET.
        check_size: whether another size than the expected one is an error
            (`acquisition.skipPostRetrievalSizeCheckPattern`).

    Raises:
        RemoteMissing: no such file.
        RemoteVerify: the size is not the expected one; more bytes end it at once.
        RemoteError: as the module; RemoteCancelled after `Meter.stop`.
        OSError, StorageFull: whatever the sink raises.
    """
    meter = meter or Meter()
    limit = expected_size if check_size and expected_size >= 0 else None
    copying = _Fetch(module, checked_name(name), sink, meter, around, offset, limit)
    started_at = around.clock.now()
    received = await watched(copying.run(), meter, watch)
    if limit is not None and offset + received != limit:
        raise RemoteVerify(f"{offset + received} bytes came instead of {limit}", received=received)
    return Fetched(
        name=name,
        received=received,
        size=offset + received,
        peer=module.peer,
        started_at=started_at,
        finished_at=around.clock.now(),
        statistics=module.statistics(),
    )


class _Fetch:
    """One call of `fetch`."""

    def __init__(
        self,
        module: TransferModule[Any],
        name: str,
        sink: ByteSink,
        meter: Meter,
        around: Surroundings,
        offset: int,
        limit: int | None,
    ) -> None:
        self._module = module
        self._name = name
        self._sink = sink
        self._meter = meter
        self._around = around
        self._offset = offset
        self._limit = limit
        self._received = 0

    async def run(self) -> int:
        """Move all bytes; return their count."""
        descriptor = await self._module.open_local(self._name)
        if descriptor is None:
            async for block in self._module.get(self._name, offset=self._offset):
                await self._take(block)
            return self._received
        try:
            await self._copy(descriptor)
        except OSError as error:
            raise ConnectionLost(f"{self._name!r} cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return self._received

    async def _take(self, block: bytes) -> None:
        self._count(len(block))
        if self._meter.limited:
            await self._pace(len(block))
        await self._sink.write(block)

    def _count(self, count: int) -> None:
        self._meter.add(count)
        self._received += count
        if self._limit is not None and self._offset + self._received > self._limit:
            raise RemoteVerify(f"more than the expected {self._limit} bytes came")

    async def _pace(self, count: int) -> None:
        while count > 0:
            count -= await self._meter.allow(count)

    async def _copy(self, descriptor: int) -> None:
        left = os.fstat(descriptor).st_size - self._offset
        if left < 0:
            raise RemoteMissing(f"{self._name!r} has become shorter than {self._offset} bytes")
        if left <= SMALL:
            # one byte more, so that a file that grows meanwhile is seen
            await self._take(os.pread(descriptor, SMALL + 1, self._offset))
            return
        while left > 0:
            moved = await self._copy_block(descriptor, left)
            if not moved:
                return
            left -= moved

    async def _copy_block(self, descriptor: int, left: int) -> int:
        position = self._offset + self._received
        count = await self._meter.allow(min(KERNEL_BLOCK, left))
        moved = await self._sink.copy_from(descriptor, position, count)
        if moved >= 0:
            self._count(moved)
            return moved
        block = await self._around.threads.run(
            "disk", os.pread, descriptor, min(READ, count), position
        )
        self._count(len(block))
        await self._sink.write(block)
        return len(block)
