"""One attempt: the path on the Host, the delivery, and what its end changes.

The slot of the connection is given back as soon as the remote side is done; the store then takes
the result in its next commit, together with the next claim.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.attempt_store import Claimed, protocol_of, store_failure, store_success
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.elsewhere import opened
from ecpds.engine.packing import Packed, Packing
from ecpds.engine.paths import path_of
from ecpds.engine.relay import relayed
from ecpds.engine.resuming import left_behind, store_interruption, store_reached, token_of
from ecpds.engine.retry import reason_of
from ecpds.engine.reverting import back_to_first
from ecpds.engine.telling import Teller
from ecpds.model.compression import NONE
from ecpds.model.destination import IfTargetExist, OnHostFailure
from ecpds.model.errors import EcpdsError, NotFound, RemoteConfig
from ecpds.model.transfer import DataFile
from ecpds.objects.digests import digests_of
from ecpds.store import files, outgoing
from ecpds.transfer.contract import Delivered, Feature, Partial, TransferModule
from ecpds.transfer.deliver import deliver, remove_partial
from ecpds.transfer.meter import Meter, Throttle
from ecpds.transfer.options import UploadOptions
from ecpds.transfer.registry import Access
from ecpds.transfer.source import ContentSource

log = get_logger(__name__)

INTERRUPT_TIME = timedelta(seconds=5)  # to store that a cancelled attempt was interrupted
RATE = "upload.destinationRate"
RECORD_FROM = 4 * 1024 * 1024  # bytes that are worth a record while an attempt runs


Finished = Callable[[Claimed, datetime | None], None]


@dataclass(slots=True)
class Running:
    """An attempt under way, for progress and for stopping it."""

    claimed: Claimed
    meter: Meter
    ended: asyncio.Event
    partials: list[Partial | None] = field(default_factory=list)  # as `deliver` told them
    module: TransferModule[Any] | None = None
    recorded: bool = False  # a resume record of this attempt is in the store

    def reached(self) -> Partial | None:
        """Return what a later attempt could go on with now, None if that is not worth a record."""
        last = self.partials[-1] if self.partials else None
        if last is None or self.module is None or not last.version:
            return None
        if self.meter.moved < RECORD_FROM and not last.state:
            return None
        if Feature.RESUME_PUT not in self.module.features:
            return None
        confirmed = self.module.confirmed
        return replace(
            last, offset=last.offset + (self.meter.moved if confirmed is None else confirmed)
        )


class Attempts:
    """Runs attempts; knows all that are under way."""

    def __init__(self, core: Core, breakers: Breakers) -> None:
        self._core = core
        self.breakers = breakers
        self._teller = Teller(node=core.node)
        self.packing = Packing(core)
        self.running: dict[int, Running] = {}
        self._throttles: dict[str, tuple[str, Throttle]] = {}

    async def run(self, claimed: Claimed, finished: Finished) -> None:
        """Deliver one transfer and store the result; `finished` gives the slot back, once."""
        transfer, access = claimed.transfer, claimed.host.access
        shared = self._shared(claimed.entry) if RATE in claimed.entry.destination.options else ()
        meter = access.upload_meter(*shared) if access is not None else Meter()
        running = Running(claimed, meter, asyncio.Event())
        with (
            log_context(
                transfer=transfer.id, destination=transfer.destination, host=claimed.host.name
            ),
            self.shown([running]),
        ):
            await self._run(running, finished)

    @contextmanager
    def shown(self, attempts: Sequence[Running]) -> Iterator[None]:
        """Let others see and stop these attempts while they are under way."""
        for one in attempts:
            self.running[one.claimed.transfer.id] = one
        try:
            yield
        finally:
            for one in attempts:
                self.running.pop(one.claimed.transfer.id, None)
                one.ended.set()

    def _shared(self, entry: DestinationEntry) -> tuple[Throttle, ...]:
        """Return the bucket of all transfers of a Destination."""
        text = entry.destination.options[RATE]
        known = self._throttles.get(entry.name)
        if known is None or known[0] != text:
            rate = UploadOptions.read({RATE: text}).destination_rate or 1
            known = self._throttles[entry.name] = (text, Throttle(rate))
        return (known[1],)

    async def _run(self, running: Running, finished: Finished) -> None:
        claimed, meter, partials = running.claimed, running.meter, running.partials
        self._core.failpoints.hit("attempt.claimed")
        try:
            delivered = await self._deliver(claimed, meter, running)
        except asyncio.CancelledError:
            await self.cut_off(running, finished)
            raise
        except Exception as error:  # noqa: BLE001 - one transfer's mishap must not stop the others
            await self._failed(_ended(running), meter, error, partials, finished)
        else:
            finished(claimed, None)
            await self._done(_ended(running), delivered)
        self.tell(claimed)

    def tell(self, claimed: Claimed) -> None:
        """Tell those who look on that the attempt has ended."""
        self._core.bus.tell("transfer", claimed.transfer.id, destination=claimed.entry.name)
        self._core.bus.tell("destination", claimed.entry.name, destination=claimed.entry.name)

    async def cut_off(self, running: Running, finished: Finished) -> None:
        """Store that a cancelled attempt was interrupted."""
        finished(running.claimed, None)
        partial = running.partials[-1] if running.partials else None
        async with asyncio.timeout(INTERRUPT_TIME.total_seconds()):
            await self._core.store.write(
                store_interruption, running.claimed, running.meter.moved, partial,
                self._core.clock.now(),
            )  # fmt: skip

    async def _deliver(self, claimed: Claimed, meter: Meter, running: Running) -> Delivered:
        access, file, partials = claimed.host.access, claimed.file, running.partials
        if access is None:
            raise RemoteConfig(claimed.host.problem)
        path = await path_of(
            self._core, claimed.transfer, file, claimed.metadata, claimed.entry, claimed.host,
            now=claimed.started_at,
        )  # fmt: skip
        if claimed.proxy is not None and (sent := await relayed(self._core, claimed, meter)):
            return sent
        try:
            descriptor = self._core.objects.open(file.volume, file.object_key)
        except (NotFound, OSError):
            descriptor, file = await opened(self._core, file, claimed.entry)
        try:
            if access.compresses or claimed.entry.destination.filter_name != NONE:
                packed = await self.packing.pack(
                    file, file.original or path, claimed.entry, access, descriptor, meter
                )
                if packed is not None:
                    return await self._deliver_packed(claimed, access, path, packed, running)
            source = ContentSource(
                descriptor,
                file.size,
                threads=self._core.threads,
                meter=meter,
                block_size=access.ectrans.block_size,
            )
            digests: Mapping[str, str] = {}
            if access.digests:
                digests = await self._digests(file, descriptor, access.digests)
            async with self._core.pool.session(access) as module:
                running.module = module
                return await deliver(
                    module,
                    path,
                    source,
                    size=file.size,
                    rules=access.delivery,
                    clock=self._core.clock,
                    version=f"{file.etag}:{file.checksum}",
                    token=token_of(claimed.transfer, claimed.transfer.attempts),
                    partial=left_behind(claimed, access, path),
                    on_partial=lambda left: self._noted(left, partials),
                    append=claimed.entry.destination.if_target_exist is IfTargetExist.RESUME,
                    digests=digests,
                    sidecars=access.sidecars(path, digests),
                )
        finally:
            os.close(descriptor)

    async def _deliver_packed(
        self,
        claimed: Claimed,
        access: Access,
        path: str,
        packed: Packed,
        running: Running,
    ) -> Delivered:
        """Deliver the compressed form under its longer name."""
        path += packed.squeeze.extension
        try:
            async with self._core.pool.session(access) as module:
                running.module = module
                delivered = await deliver(
                    module,
                    path,
                    packed.source,
                    size=packed.size,
                    rules=access.delivery,
                    clock=self._core.clock,
                    version=packed.version,
                    token=token_of(claimed.transfer, claimed.transfer.attempts),
                    partial=left_behind(claimed, access, path),
                    on_partial=lambda left: self._noted(left, running.partials),
                    append=claimed.entry.destination.if_target_exist is IfTargetExist.RESUME,
                    digests=packed.digests,
                    sidecars=access.late_sidecars(path, packed.digests),
                )
        finally:
            packed.close()
        return replace(delivered, filters=packed.squeeze.label, on_the_fly=packed.on_the_fly)

    async def _digests(
        self, file: DataFile, descriptor: int, algorithms: Sequence[str]
    ) -> dict[str, str]:
        """Return digests of the content, computed once and remembered."""
        core = self._core
        known = await core.store.read(files.digests, file.id, file.instance)
        missing = [algorithm for algorithm in algorithms if algorithm not in known]
        if missing:
            found = await core.threads.run("digest", digests_of, descriptor, missing)
            await core.store.write(files.set_digests, file.id, file.instance, found)
            known |= found
        return {algorithm: known[algorithm] for algorithm in algorithms}

    def _noted(self, left: Partial | None, partials: list[Partial | None]) -> None:
        partials.append(left)
        if left is None:  # renamed, or removed after a failure
            self._core.failpoints.hit("attempt.renamed")

    async def _done(self, claimed: Claimed, delivered: Delivered) -> None:
        self._core.failpoints.hit("attempt.sent")
        now = self._core.clock.now()
        self.breakers.succeeded(claimed.host.name)
        await self._core.store.write(
            store_success, claimed, delivered, self._core, self._teller, protocol_of(claimed), now
        )
        self._core.failpoints.hit("attempt.committed")
        if claimed.entry.destination.on_host_failure is OnHostFailure.REVERT:
            back_to_first(self._core, self.breakers, claimed.entry.name, claimed.host.name, now)
        self.count(claimed, delivered)

    def count(self, claimed: Claimed, delivered: Delivered) -> None:
        """Note a success that is stored, in metrics and log."""
        took = (delivered.finished_at - delivered.started_at).total_seconds()
        waited = (claimed.started_at - claimed.transfer.due_at).total_seconds()
        self._core.metrics.delivered(
            claimed.entry.name, protocol_of(claimed), sent=delivered.sent, took=took,
            waited=max(waited, 0.0),
        )  # fmt: skip
        log.debug(
            "transfer done", bytes=delivered.sent, path=delivered.path, seconds=round(took, 3)
        )

    async def _failed(
        self,
        claimed: Claimed,
        meter: Meter,
        error: Exception,
        partials: list[Partial | None],
        finished: Finished,
    ) -> None:
        now = self._core.clock.now()
        reason = reason_of(error)
        protocol = protocol_of(claimed)
        opened = self.breakers.failed(
            claimed.host.name, reason, now=now, version=claimed.host.version
        )
        partial = partials[-1] if partials else None
        legacy = claimed.entry.scheduler.legacy_pause
        stored = await self._core.store.write(
            store_failure, claimed, meter.moved, reason, partial, self._core, self._teller,
            protocol, now,
        )  # fmt: skip
        if stored.gave_up:  # told when it is in the store, for those who look it up there
            self._core.bus.tell("configuration", claimed.entry.name)
        if stored.is_final and partial is not None:
            await self._remove(claimed, partial)
        finished(claimed, stored.pause_until if legacy else None)
        self._core.metrics.finished.labels(claimed.entry.name, protocol, "failed").inc()
        log.warning(
            "attempt failed",
            kind=reason.kind,
            phase=reason.phase,
            reason=reason.text,
            opened=opened,
        )
        if opened:
            self._core.bus.tell("breaker", claimed.host.name)
        if not isinstance(error, (EcpdsError, OSError)):
            log.error("attempt broke", exc=error)

    async def _remove(self, claimed: Claimed, partial: Partial) -> None:
        """Remove what no later attempt will go on with; a failure is only a warning."""
        access = claimed.host.access
        try:
            if access is not None:
                async with self._core.pool.session(access) as module:
                    await remove_partial(module, partial)
        except (EcpdsError, OSError) as error:
            log.info("partial file removed later", path=partial.name, reason=str(error))
            now = self._core.clock.now()
            await self._core.store.write(
                outgoing.add_stale, claimed.host.name, asdict(partial), now=now
            )

    async def record(self) -> None:
        """Store how far the long attempts came, so that a crash costs them little; one round."""
        found = []
        for running in self.running.values():
            partial = running.reached()
            if partial is not None:
                running.recorded = True
                found.append((running.claimed, partial))
        if found:
            await self._core.store.write_lazily(store_reached, found, now=self._core.clock.now())

    async def stop(self, number: int, reason: str, *, wait: timedelta) -> None:
        """End the attempt of that transfer, if one runs; wait for it at most `wait`."""
        running = self.running.get(number)
        if running is None:
            return
        running.meter.stop(reason)
        try:
            async with asyncio.timeout(wait.total_seconds()):
                await running.ended.wait()
        except TimeoutError:
            log.warning("attempt does not end", transfer=number)


def _ended(running: Running) -> Claimed:
    """Return the claim, with a mark when the store has a resume record of it."""
    claimed = running.claimed
    return replace(claimed, resume={}) if running.recorded and not claimed.resume else claimed
