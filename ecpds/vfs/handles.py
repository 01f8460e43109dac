"""Open files: a reader that records what it gave, a writer that registers all or nothing.

Spec: portal.md 2.8 and 2.9; interface.md 6.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import DestinationEntry
from ecpds.engine.retry import reason_of
from ecpds.engine.submit import Registered, plan
from ecpds.model.errors import (
    BadState,
    ChecksumMismatch,
    Incomplete,
    QuotaExceeded,
    TooLarge,
)
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason
from ecpds.objects.digests import digests_of
from ecpds.objects.directory import Stored, sync_directory
from ecpds.objects.upload import Upload
from ecpds.store import files, portal
from ecpds.store.db import Connection
from ecpds.store.portal import Entry
from ecpds.vfs import records
from ecpds.vfs.contract import Node, Reader, Writer
from ecpds.vfs.limits import Pace, Quota, slower
from ecpds.vfs.records import Download, Part
from ecpds.vfs.scripted import scripted_rules
from ecpds.vfs.services import Services, Visitor
from ecpds.vfs.tree import file_node
from ecpds.vfs.uploads import Order, Prepared, submission_of

log = get_logger(__name__)

BLOCK: Final = 1024 * 1024
MOST_PARTS: Final = 1_000
"""Parts of one download that are remembered one by one; later ones join the last."""

MOST_PARKED: Final = 100
"""Parked uploads of one user; the oldest give way."""

END_TIME: Final = 5.0  # seconds to park or discard when the client is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a reader gives, and whom it counts for."""

    node: Node
    shown: Entry
    where: DestinationEntry
    quotas: tuple[Quota, ...]


class PortalReader(Reader):
    """An open file of a destination."""

    def __init__(
        self, services: Services, visitor: Visitor, opened: Opened, descriptor: int
    ) -> None:
        self.node = opened.node
        self.size = opened.shown.size
        self.descriptor = descriptor
        self.rate = slower(opened.where.incoming.max_rate_in, visitor.rate_in)
        self._services = services
        self._visitor = visitor
        self._opened = opened
        self._parts: list[Part] = []
        self._pace = Pace(self.rate)
        self._started_at = services.core.clock.now()

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes (1 MiB at most) from `offset`, none behind the end."""
        return os.pread(self.descriptor, min(length, BLOCK), offset)

    def count(self, sent: int, *, offset: int = 0, last: bool = True) -> None:
        """Add a part; `last` makes no difference here, the record is made by `close`."""
        if len(self._parts) < MOST_PARTS:
            self._parts.append(Part(sent=sent, offset=offset))
            return
        before = self._parts[-1]
        self._parts[-1] = Part(sent=before.sent + sent, offset=before.offset)

    def pause(self, sent: int) -> float:
        """Return the seconds to wait before the next block, after `sent` bytes in all."""
        return self._pace.pause(sent)

    async def close(self, error: BaseException | None = None) -> None:
        """Record and release; nothing is recorded of a file that was only opened."""
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        if not self._parts and error is None:
            return
        services, opened = self._services, self._opened
        download = Download(
            visitor=self._visitor,
            entry=opened.where,
            shown=opened.shown,
            parts=tuple(self._parts),
            is_complete=_covers(self._parts, self.size),
            error=_reason(error),
            started_at=self._started_at,
            ended_at=services.core.clock.now(),
            quotas=opened.quotas,
        )
        await self._count(download)
        if opened.shown.status == TransferStatus.HOLD.code and download.is_complete:
            await services.core.store.write(records.finish_download, download, services.teller)
            services.told((opened.where.name,))
        else:
            await services.recorder.put_sharing(records.record_download, download, services.teller)

    async def _count(self, download: Download) -> None:
        protocol = self._visitor.protocol.value
        self._services.core.metrics.moved(protocol, "download", download.sent)
        if not download.error:
            await self._services.count(download.quotas, download.sent, self._visitor)


def _reason(error: BaseException | None) -> Reason | None:
    if error is None:
        return None
    if isinstance(error, asyncio.CancelledError):
        return Reason(kind="cancelled", code="cancelled", text="the client is gone")
    return reason_of(error)


def _covers(parts: list[Part], size: int) -> bool:
    """Tell whether the parts together are the whole file."""
    reached = 0
    for part in sorted(parts, key=lambda part: part.offset):
        if part.offset > reached:
            return False
        reached = max(reached, part.offset + part.sent)
    return reached >= size


# --- writing ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An upload as it begins."""

    order: Order
    prepared: Prepared
    promised: int | None  # bytes
    quotas: tuple[Quota, ...]
    is_resumed: bool
    room: int | None = None  # bytes that the user may still keep here
    shown: str  # portal.listTime
    registered: Callable[[Node, Entry], None]


class PortalWriter(Writer):
    """An upload on its way into a destination."""

    def __init__(self, services: Services, visitor: Visitor, begun: Begun, upload: Upload) -> None:
        given = begun.order.entry
        self.descriptor = upload.descriptor
        self.received = upload.received
        self.rate = slower(given.incoming.max_rate_out, visitor.rate_out)
        self._most = given.destination.max_file_size
        bounds = [quota.most for quota in begun.quotas]
        bounds += [self._most] if self._most is not None else []
        bounds += [begun.room] if begun.room is not None else []
        self.limit = min(bounds, default=None)
        self.replaces = begun.prepared.present is not None
        self._services = services
        self._visitor = visitor
        self._begun = begun
        self._upload = upload
        self._pace = Pace(self.rate)
        self._base = upload.received
        self._started_at = services.core.clock.now()
        self._is_parked = self._is_expected = False
        self._is_registering = False
        self._is_done = False
        self._is_closed = False
        self.known: Mapping[str, str] = {}  # digests that were computed while the bytes came
        self.after: Callable[[Connection, int, int | None], None] | None = None  # see records

    def write(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> int:
        """Write a block; see the contract."""
        upload = self._upload
        if self.limit is not None:
            start = upload.received if offset is None else offset
            self._check(start + len(data))
        count = upload.write(data, offset)
        self.received = upload.received
        return count

    def advance(self, count: int) -> None:
        """Take over what the kernel has written."""
        upload = self._upload
        upload.advance(count)
        self.received = upload.received
        self._check(self.received)

    def _check(self, end: int) -> None:
        if self.limit is None or end <= self.limit:
            return
        name = self._begun.order.entry.name
        if self._most is not None and end > self._most:
            raise TooLarge(
                f"File exceeds maximum allowed size of {self._most} bytes for Destination {name}",
                limit=self._most,
            )
        raise QuotaExceeded(f"the upload is larger than the quota of {self.limit} bytes")

    def pause(self) -> float:
        """Return the seconds to wait before the next block is taken."""
        return self._pace.pause(self.received - self._base)

    # --- the positive end ---------------------------------------------------------------

    async def commit(
        self,
        *,
        size: int | None = None,
        digests: Mapping[str, str] | None = None,
        etag: str | None = None,
        last_check: Callable[[], Awaitable[None]] | None = None,
    ) -> Node:
        """Verify, seal and register; see the contract."""
        if self._is_done or self._is_closed:
            raise BadState("the upload has ended already")
        self._check_size(size)
        known = await self._verified(digests or {}) | dict(self.known)
        if etag is not None:
            known["etag"] = etag
        core = self._services.core
        stored = await core.objects.seal(self._upload)
        if last_check is not None:
            await last_check()
        core.failpoints.hit("vfs.before_register")
        self._is_registering = True
        try:
            registered, shown = await self._register(stored, known)
        except asyncio.CancelledError:
            raise  # it may be committed: what nobody refers to goes at the next start
        except BaseException:
            self._is_registering = False
            raise
        self._is_done = True
        core.failpoints.hit("vfs.after_register")
        node = self._node(shown)
        self._after(registered, shown, node)
        await self._services.count(self._begun.quotas, shown.size, self._visitor)
        return node

    def _check_size(self, size: int | None) -> None:
        received, promised = self._upload.received, self._begun.promised
        if self._upload.has_gap:
            raise Incomplete("some bytes in the middle are missing", received=received)
        if size is not None and received != size:
            raise Incomplete(f"{received} of {size} bytes came", received=received)
        if promised is not None and received < promised:
            raise Incomplete(f"{received} of {promised} bytes came", received=received)

    async def _verified(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return the announced digests that hold; ChecksumMismatch for one that does not."""
        wanted = {algorithm.lower(): text.lower() for algorithm, text in digests.items()}
        if not wanted:
            return {}
        found = await self._services.core.threads.run(
            "digest", digests_of, self._upload.descriptor, list(wanted)
        )
        for algorithm, text in wanted.items():
            if found[algorithm] != text:
                raise ChecksumMismatch(
                    f"{algorithm} of the content is {found[algorithm]}, not {text}"
                )
        return found

    async def _register(self, stored: Stored, known: dict[str, str]) -> tuple[Registered, Entry]:
        services, begun = self._services, self._begun
        core, order = services.core, begun.order
        now = core.clock.now()
        rules = None
        if order.entry.incoming.metadata.lstrip().startswith("$("):
            rules = await scripted_rules(core.scripts, order, now)
        submission = submission_of(
            order, self._visitor, stored, node=core.node, took=now - self._started_at, now=now,
            rules=rules,
        )  # fmt: skip
        planned = plan(submission, core.snapshot, now)
        await self._interrupt(planned.key)
        upload = records.Upload(
            visitor=self._visitor,
            entry=order.entry,
            inner=order.inner,
            started_at=self._started_at,
            exclusive=order.exclusive,
            if_match=order.if_match,
            digests=known,
            quotas=begun.quotas,
            was_parked=begun.prepared.parked is not None,
            after=self.after,
        )
        return await core.store.write(
            records.register_upload, planned, upload, services.teller, now=now
        )

    async def _interrupt(self, key: tuple[str, str, str]) -> None:
        """Stop deliveries of the content that is replaced."""
        present = self._begun.prepared.present
        if present is None:
            return
        engine = self._services.engine
        if any(run.claimed.file.id == present.file for run in engine.attempts.running.values()):
            await engine.interrupt(key, "content replaced")

    def _node(self, shown: Entry) -> Node:
        order = self._begun.order
        return file_node(
            shown, order.path, order.entry, shown=self._begun.shown, metadata=order.metadata
        )

    def _after(self, registered: Registered, shown: Entry, node: Node) -> None:
        services, protocol = self._services, self._visitor.protocol.value
        services.core.metrics.moved(protocol, "upload", shown.size)
        self._begun.registered(node, shown)
        order = self._begun.order
        services.parked.discard((self._visitor.login, order.entry.name, order.inner))
        if self._begun.room is not None:
            services.keeping.add(self._visitor.login, shown.size)
        services.told(registered.destinations or (shown.destination,))
        services.core.bus.tell("transfer", shown.transfer, destination=shown.destination)
        if registered.updated:
            services.engine.retention.poke()
        self._drop_older()

    def _drop_older(self) -> None:
        """Remove the file of a parked upload that this one makes useless."""
        parked = self._begun.prepared.parked
        if parked is None or self._begun.is_resumed:
            return
        place = self._services.core.objects.volume(parked[0]).temporary
        (place / Path(parked[1]).name).unlink(missing_ok=True)

    # --- every other end ----------------------------------------------------------------

    def park(self, *, expected: bool = False) -> None:
        """Keep the bytes for later."""
        self._is_parked = True
        self._is_expected = expected

    async def close(self) -> None:
        """Release; park or discard what was not committed."""
        if self._is_closed:
            return
        self._is_closed = True
        self.descriptor = -1
        order = self._begun.order
        try:
            if self._is_done or self._is_registering:
                self._upload.close()
                return
            async with asyncio.timeout(END_TIME):
                if self._is_parked and self._upload.received:
                    await self._keep()
                else:
                    await self._discard()
        finally:
            self._upload.close()
            if order.lock_key is not None:
                self._services.unlock(order.entry.name, order.lock_key)

    async def _keep(self) -> None:
        upload, core, order = self._upload, self._services.core, self._begun.order
        now = core.clock.now()
        if upload.has_gap:
            upload.cut(upload.received)
        await core.threads.run("disk", _sync, upload)
        await core.store.write(
            portal.park, self._visitor.login, order.entry.name, order.inner,
            volume=upload.volume.name, temporary=upload.path.name, size=upload.received,
            most=MOST_PARKED, now=now,
        )  # fmt: skip
        self._services.parked.add((self._visitor.login, order.entry.name, order.inner))
        self._drop_older()
        if not self._is_expected:
            await self._failed(f"parked after {upload.received} bytes")

    async def _discard(self) -> None:
        upload, begun = self._upload, self._begun
        received = upload.received
        upload.discard()
        order = begun.order
        if begun.is_resumed:
            await self._services.core.store.write(
                files.unpark, self._visitor.login, order.entry.name, order.inner
            )
            self._services.parked.discard((self._visitor.login, order.entry.name, order.inner))
        if received:
            await self._failed(f"given up after {received} bytes")

    async def _failed(self, text: str) -> None:
        services, order = self._services, self._begun.order
        log.warning(
            "upload not finished", user=self._visitor.login, destination=order.entry.name,
            target=order.target, reason=text,
        )  # fmt: skip
        if self._visitor.records_history:
            await services.recorder.put(
                records.record_failed_upload, self._visitor, order.entry.name, order.target,
                self._upload.received, text,
                started_at=self._started_at, now=services.core.clock.now(),
            )  # fmt: skip


def _sync(upload: Upload) -> None:
    """Make what was received durable among the temporary files, sealed before or not."""
    temporary = upload.volume.temporary / upload.path.name
    if upload.path != temporary:
        upload.path.rename(temporary)
        upload.path = temporary
    os.fdatasync(upload.descriptor)
    sync_directory(upload.volume.temporary)
