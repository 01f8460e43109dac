"""Compressed content of deliveries: made on the way, or once before and kept beside the original.

The Host says in which form it wants files (`filter_name`); without a word of it a Destination that
compresses ahead does.  A copy made ahead is an object of its own: all Hosts, retries and aliases
use it, and it goes with the content.  An attempt that comes before its copy makes it, so that the
name of a delivered file never depends on who was first.

Spec: transfer-modules.md 4.6; schedulers.md section 5.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ecpds.base.logs import get_logger
from ecpds.engine.content import UploadSink
from ecpds.engine.core import Core, DestinationEntry, Snapshot
from ecpds.model.compression import NONE
from ecpds.model.errors import EcpdsError, NotFound, SourceBroke
from ecpds.model.host import HostRole
from ecpds.model.transfer import DataFile
from ecpds.objects.digests import adler_of, digests_of
from ecpds.objects.directory import Stored
from ecpds.store import files, outgoing
from ecpds.transfer.compress import NO_FILTERS, CompressedSource, Filters, Squeeze
from ecpds.transfer.contract import ByteSource
from ecpds.transfer.meter import Meter
from ecpds.transfer.registry import Access
from ecpds.transfer.source import ContentSource

log = get_logger(__name__)

BATCH = 50  # files looked at in one round
RETRY = timedelta(minutes=30)
AT_A_TIME = 2  # copies made ahead at a time: as many as there are threads for them


@dataclass(slots=True, kw_only=True)
class Packed:
    """Content as it is sent; `close` after use."""

    source: ByteSource
    size: int  # of what is sent; -1: known at the end only
    version: str
    squeeze: Squeeze
    on_the_fly: bool
    digests: Mapping[str, str] = field(default_factory=dict)  # of what is sent; filled on the way
    descriptor: int = -1

    def close(self) -> None:
        """Let go of the copy."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Packing:
    """Chooses and makes the compressed form of content."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._making: dict[int, asyncio.Lock] = {}
        self._failed: dict[int, datetime] = {}  # files that are not tried again before

    async def pack(
        self,
        file: DataFile,
        original: str,
        entry: DestinationEntry,
        access: Access,
        descriptor: int,
        meter: Meter,
    ) -> Packed | None:
        """Return the compressed form of an open content, None when it is sent as it is.

        Raises SourceBroke when the content is not what was stored.
        """
        ahead = ahead_of(entry, access.filters)
        chosen = access.filters if access.compresses else ahead
        squeeze = chosen.squeeze(original, file.size)
        if squeeze is None:
            return None
        made_ahead = ahead.squeeze(original, file.size)
        if made_ahead is None or made_ahead.filters != squeeze.filters:
            return self._on_the_fly(file, squeeze, access, descriptor, meter)
        copy = await self.copy(file, made_ahead, descriptor, keep_larger=False)
        if copy.size >= 0:
            return await self._copied(copy, file, made_ahead, access, meter)
        if access.ectrans.check_filter_size:
            return None
        return self._on_the_fly(file, squeeze, access, descriptor, meter)

    def _on_the_fly(
        self, file: DataFile, squeeze: Squeeze, access: Access, descriptor: int, meter: Meter
    ) -> Packed:
        source = CompressedSource(
            descriptor,
            file.size,
            squeeze,
            threads=self._core.threads,
            meter=meter,
            block_size=access.ectrans.block_size,
            algorithms=access.digests,
        )
        return Packed(
            source=source,
            size=-1,
            version=f"{file.etag}:{file.checksum}:{squeeze.version}",
            squeeze=squeeze,
            on_the_fly=True,
            digests=source.digests,
        )

    async def _copied(
        self,
        copy: outgoing.Squeezed,
        file: DataFile,
        squeeze: Squeeze,
        access: Access,
        meter: Meter,
    ) -> Packed:
        try:
            descriptor = self._core.objects.open(copy.volume, copy.object_key)
        except (NotFound, OSError) as error:
            await self._core.store.write(outgoing.drop_copies, [copy])
            raise SourceBroke(f"the compressed copy cannot be read: {error}") from error
        packed = Packed(
            source=ContentSource(
                descriptor,
                copy.size,
                threads=self._core.threads,
                meter=meter,
                block_size=access.ectrans.block_size,
            ),
            size=copy.size,
            version=f"{file.etag}:{file.checksum}:{copy.version}",
            squeeze=squeeze,
            on_the_fly=False,
            descriptor=descriptor,
        )
        if access.digests:
            try:
                packed.digests = await self._core.threads.run(
                    "digest", digests_of, descriptor, access.digests
                )
            except BaseException:
                packed.close()
                raise
        return packed

    # --- copies -----------------------------------------------------------------------------

    async def copy(
        self, file: DataFile, squeeze: Squeeze, descriptor: int, *, keep_larger: bool
    ) -> outgoing.Squeezed:
        """Return the compressed copy of an open content, made now if there is none."""
        lock = self._making.setdefault(file.id, asyncio.Lock())
        try:
            async with lock:
                found = await self._core.store.read(
                    outgoing.squeezed, file.id, file.instance, squeeze.label
                )
                if found is not None and found.version == squeeze.version:
                    return found
                return await self._make(file, squeeze, descriptor, keep_larger=keep_larger)
        finally:
            if not lock.locked():
                self._making.pop(file.id, None)

    async def _make(
        self, file: DataFile, squeeze: Squeeze, descriptor: int, *, keep_larger: bool
    ) -> outgoing.Squeezed:
        core = self._core
        adler = await core.threads.run("digest", adler_of, descriptor, file.size)
        if file.checksum and adler != file.checksum:
            raise SourceBroke(f"the content of file {file.id} is not what was stored")
        stored = await self._squeezed(file, squeeze, descriptor, keep_larger=keep_larger)
        made = outgoing.Squeezed(
            file=file.id,
            instance=file.instance or 0,
            filters=squeeze.label,
            version=squeeze.version,
            size=stored.size if stored else -1,
            volume=stored.volume if stored else "",
            object_key=stored.key if stored else "",
        )
        core.failpoints.hit("packing.made")
        await core.store.write(outgoing.add_squeezed, made, now=core.clock.now())
        core.failpoints.hit("packing.stored")
        log.info("content compressed", file=file.id, by=squeeze.label, bytes=made.size)
        return made

    async def _squeezed(
        self, file: DataFile, squeeze: Squeeze, descriptor: int, *, keep_larger: bool
    ) -> Stored | None:
        """Store the compressed content; None as soon as it is not smaller."""
        core = self._core
        source = CompressedSource(descriptor, file.size, squeeze, threads=core.threads)
        upload = core.objects.create(file.size)
        try:
            sink = UploadSink(upload, core.threads)
            async for block in source:
                if not keep_larger and upload.received + len(block) >= file.size:
                    upload.discard()
                    return None
                await sink.write(block)
            return await core.objects.seal(upload)
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()

    async def work_ahead(self) -> None:
        """Make copies of queued files, and remove those that nobody needs; one round."""
        snapshot = self._core.snapshot
        for entry in list(snapshot.destinations.values()):
            if entry.destination.filter_name != NONE and entry.destination.active:
                await self._destination(entry, first_filters(entry, snapshot))
        now = self._core.clock.now()
        self._failed = {number: until for number, until in self._failed.items() if until > now}
        await self._purge()

    async def _destination(self, entry: DestinationEntry, base: Filters) -> None:
        core = self._core
        numbers = await core.store.read(outgoing.unsqueezed, entry.name, limit=BATCH)
        ahead = ahead_of(entry, base)
        slots = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                await slots.acquire()
                task = group.create_task(self._one(number, ahead), name=f"compress-{number}")
                task.add_done_callback(lambda _: slots.release())

    async def _one(self, number: int, ahead: Filters) -> None:
        core = self._core
        now = core.clock.now()
        file = await core.store.read(files.get, number)
        if file is None or not file.stored or file.deleted or self._failed.get(number, now) > now:
            return
        squeeze = ahead.squeeze(file.original, file.size)
        if squeeze is None:
            nothing = outgoing.Squeezed(
                file=file.id, instance=file.instance or 0, filters="", version="", size=-1
            )
            await core.store.write(outgoing.add_squeezed, nothing, now=core.clock.now())
            return
        try:
            descriptor = core.objects.open(file.volume, file.object_key)
        except (EcpdsError, OSError):
            return  # gone meanwhile; an attempt tells what is wrong
        try:
            await self.copy(file, squeeze, descriptor, keep_larger=False)
        except (EcpdsError, OSError) as error:
            self._failed[number] = now + RETRY
            log.warning("content not compressed", file=file.id, reason=str(error))
        finally:
            os.close(descriptor)

    async def _purge(self) -> None:
        core = self._core
        while unused := await core.store.read(outgoing.unused_copies, limit=BATCH):
            await core.objects.remove([(one.volume, one.object_key) for one in unused])
            await core.store.write(outgoing.drop_copies, unused)


def ahead_of(entry: DestinationEntry, base: Filters) -> Filters:
    """Return what a Destination compresses ahead."""
    destination = entry.destination
    if destination.filter_name == NONE:
        return NO_FILTERS
    return base.of_destination(destination.filter_name, destination.options)


def first_filters(entry: DestinationEntry, snapshot: Snapshot) -> Filters:
    """Return the patterns and levels of the first Host, which a Destination may override."""
    for host in snapshot.hosts_of(entry.name, HostRole.DISSEMINATION):
        if host.access is not None:
            return host.access.filters
    return NO_FILTERS
