"""One attempt: the path on the Host, the delivery, and what its end changes.

The slot of the connection is given back as soon as the remote side is done; the store then takes
the result in its next commit, together with the next claim.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.breaker import Breakers
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.elsewhere import opened
from ecpds.engine.packing import Packed, Packing
from ecpds.engine.paths import path_of
from ecpds.engine.relay import relayed
from ecpds.engine.resuming import left_behind, store_interruption, store_reached, token_of
from ecpds.engine.retry import after_failure, after_success, reason_of
from ecpds.engine.reverting import back_to_first
from ecpds.engine.telling import Teller
from ecpds.model.compression import NONE
from ecpds.model.destination import IfTargetExist, KeepInSpool, OnHostFailure
from ecpds.model.errors import EcpdsError, NotFound, RemoteConfig
from ecpds.model.host import HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.objects.digests import digests_of
from ecpds.store import destinations, files, history, hosts, outgoing, transfers
from ecpds.store.db import Connection
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
FINAL = frozenset({"template", "missing-content"})  # reasons that no retry can help


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A transfer in EXEC with everything its attempt needs."""

    transfer: Transfer
    file: DataFile
    metadata: Mapping[str, str]
    entry: DestinationEntry
    host: HostEntry
    started_at: datetime
    resume: dict[str, Any] | None = None
    proxy: tuple[HostEntry, int] | None = None  # who sends it, and its number there


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
        self._breakers = breakers
        self._teller = Teller(node=core.node)
        self.packing = Packing(core)
        self.running: dict[int, Running] = {}
        self._throttles: dict[str, tuple[str, Throttle]] = {}

    async def run(
        self, claimed: Claimed, finished: Callable[[Claimed, datetime | None], None]
    ) -> None:
        """Deliver one transfer and store the result; `finished` gives the slot back, once."""
        transfer, access = claimed.transfer, claimed.host.access
        shared = self._shared(claimed.entry) if RATE in claimed.entry.destination.options else ()
        meter = access.upload_meter(*shared) if access is not None else Meter()
        running = Running(claimed, meter, asyncio.Event())
        self.running[transfer.id] = running
        with log_context(
            transfer=transfer.id, destination=transfer.destination, host=claimed.host.name
        ):
            try:
                await self._run(running, finished)
            finally:
                self.running.pop(transfer.id, None)
                running.ended.set()

    def _shared(self, entry: DestinationEntry) -> tuple[Throttle, ...]:
        """Return the bucket of all transfers of a Destination."""
        text = entry.destination.options[RATE]
        known = self._throttles.get(entry.name)
        if known is None or known[0] != text:
            rate = UploadOptions.read({RATE: text}).destination_rate or 1
            known = self._throttles[entry.name] = (text, Throttle(rate))
        return (known[1],)

    async def _run(
        self, running: Running, finished: Callable[[Claimed, datetime | None], None]
    ) -> None:
        claimed, meter, partials = running.claimed, running.meter, running.partials
        self._core.failpoints.hit("attempt.claimed")
        try:
            delivered = await self._deliver(claimed, meter, running)
        except asyncio.CancelledError:
            finished(claimed, None)
            await self._interrupted(claimed, meter, partials[-1] if partials else None)
            raise
        except Exception as error:  # noqa: BLE001 - one transfer's mishap must not stop the others
            await self._failed(_ended(running), meter, error, partials, finished)
        else:
            finished(claimed, None)
            await self._done(_ended(running), delivered)
        self._core.bus.tell("transfer", claimed.transfer.id, destination=claimed.entry.name)
        self._core.bus.tell("destination", claimed.entry.name, destination=claimed.entry.name)

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
        access = claimed.host.access
        protocol = access.module.name if access else ""
        self._breakers.succeeded(claimed.host.name)
        await self._core.store.write(
            store_success, claimed, delivered, self._core, self._teller, protocol, now
        )
        self._core.failpoints.hit("attempt.committed")
        if claimed.entry.destination.on_host_failure is OnHostFailure.REVERT:
            back_to_first(self._core, self._breakers, claimed.entry.name, claimed.host.name, now)
        took = (delivered.finished_at - delivered.started_at).total_seconds()
        waited = (claimed.started_at - claimed.transfer.due_at).total_seconds()
        self._core.metrics.delivered(
            claimed.entry.name, protocol, sent=delivered.sent, took=took, waited=max(waited, 0.0)
        )
        log.debug(
            "transfer done", bytes=delivered.sent, path=delivered.path, seconds=round(took, 3)
        )

    async def _failed(
        self,
        claimed: Claimed,
        meter: Meter,
        error: Exception,
        partials: list[Partial | None],
        finished: Callable[[Claimed, datetime | None], None],
    ) -> None:
        now = self._core.clock.now()
        reason = reason_of(error)
        access = claimed.host.access
        protocol = access.module.name if access else ""
        opened = self._breakers.failed(
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

    async def _interrupted(self, claimed: Claimed, meter: Meter, partial: Partial | None) -> None:
        async with asyncio.timeout(INTERRUPT_TIME.total_seconds()):
            await self._core.store.write(
                store_interruption, claimed, meter.moved, partial, self._core.clock.now()
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


def store_success(
    db: Connection,
    claimed: Claimed,
    delivered: Delivered,
    core: Core,
    teller: Teller,
    protocol: str,
    now: datetime,
) -> bool:
    """Store DONE and what follows from it; False when somebody changed the status meanwhile."""
    host, entry = claimed.host.host, claimed.entry
    took = delivered.finished_at - delivered.started_at
    comment = f"Sent {_amount(delivered, claimed.file.size)} to {host.host or host.name}"
    comment += f" at {delivered.path}"
    done = replace(
        claimed.transfer,
        status=TransferStatus.DONE,
        host=host.name,
        sent=delivered.sent,
        put_at=delivered.started_at,
        duration=took,
        comment=comment,
        started_at=claimed.transfer.started_at or claimed.started_at,
    )
    deleted = entry.destination.keep_in_spool is KeepInSpool.SUCCESS
    if not transfers.finish(db, done, now=now, deleted=deleted):
        return False
    history.step(
        db,
        done.id,
        entry.name,
        TransferStatus.DONE,
        time=now,
        host=host.name,
        sent=delivered.sent,
        duration=took,
        comment=comment,
    )
    _add_attempt(db, claimed, TransferStatus.DONE, delivered.sent, protocol, delivered, now=now)
    if claimed.resume is not None or done.attempts > 1:
        outgoing.done_resume(db, done.id, host.name)
        history.drop_resume(db, done.id)  # what is left at other hosts is removed there
    hosts.count(db, host.name, sent=delivered.sent, micros=took // timedelta(microseconds=1))
    history.add_rate(db, entry.name, delivered.sent, took, now=now)
    _settle_state(db, done, entry, core, now=now)
    teller.delivered(
        db,
        done,
        claimed.file,
        entry,
        protocol=protocol,
        address=host.host,
        network=host.network_name,
        close=timedelta(0),
        now=now,
        delivered=delivered,
    )
    if entry.notices is not None:
        entry.notices.delivered(db, done, now=now)
    if deleted:
        files.mark_unused(db, claimed.file.id)
    return True


def _amount(delivered: Delivered, size: int) -> str:
    if not delivered.filters:
        return f"{delivered.sent} bytes"
    whole = delivered.resumed_at + delivered.sent
    share = f", {100 * whole / size:.1f} % of {size}" if size > 0 else ""
    return f"{delivered.sent} bytes ({delivered.filters}{share})"


def _settle_state(
    db: Connection, done: Transfer, entry: DestinationEntry, core: Core, *, now: datetime
) -> None:
    state = destinations.state(db, entry.name)
    if state is None:
        return
    candidates = [one.host for one in core.snapshot.hosts_of(entry.name, HostRole.DISSEMINATION)]
    decision = after_success(done, state, entry.destination, candidates)
    if decision.release_backlog:
        transfers.release_backlog(db, entry.name)
    if decision.state == state:
        destinations.set_ok(db, entry.name, done.id, now=now)
    else:
        changed = replace(decision.state, last_ok_at=now, last_ok_id=done.id)
        destinations.set_run(db, entry.name, changed)


def _add_attempt(
    db: Connection,
    claimed: Claimed,
    status: TransferStatus,
    sent: int,
    protocol: str,
    delivered: Delivered | None,
    *,
    now: datetime,
) -> None:
    history.add_attempt(
        db,
        history.Attempt(
            transfer=claimed.transfer.id,
            host=claimed.host.name,
            protocol=protocol,
            started_at=claimed.started_at,
            finished_at=now,
            status=status,
            size=claimed.file.size,
            sent=sent,
            requeue_history=claimed.transfer.requeue_history,
            peer=delivered.peer if delivered else "",
            path=delivered.path if delivered else "",
            statistics=delivered.statistics if delivered else {},
            filters=delivered.filters if delivered else "",
            resumed_at=delivered.resumed_at if delivered else 0,
        ),
    )


@dataclass(frozen=True, slots=True)
class Failed:
    """What follows from a failed attempt."""

    pause_until: datetime | None = None  # of the whole destination, the original's way
    is_final: bool = True  # no further attempt will come
    gave_up: bool = False  # the destination stops


def store_failure(
    db: Connection,
    claimed: Claimed,
    sent: int,
    reason: Reason,
    partial: Partial | None,
    core: Core,
    teller: Teller,
    protocol: str,
    now: datetime,
) -> Failed:
    """Store a failed attempt; return what follows from it."""
    present = transfers.get(db, claimed.transfer.id)
    if present is None:
        return Failed()
    host, entry = claimed.host.host, claimed.entry
    if claimed.resume is not None:
        outgoing.done_resume(db, present.id, host.name)
    _add_attempt(db, claimed, TransferStatus.STOP, sent, protocol, None, now=now)
    if present.status is not TransferStatus.EXEC:
        return Failed()  # stopped, held or replaced meanwhile: that decision stands
    gave_up = False
    failed = replace(present, host=host.name, sent=sent)
    state = destinations.state(db, entry.name)
    candidates = [one.host for one in core.snapshot.hosts_of(entry.name, HostRole.DISSEMINATION)]
    if state is None or reason.kind in FINAL:
        failed = replace(
            failed,
            status=TransferStatus.FAIL,
            reason=reason,
            comment=reason.text,
            failed_at=now,
            finished_at=now,
        )
        pause = None
    else:
        decision = after_failure(
            failed,
            state,
            entry.destination,
            candidates,
            reason,
            started_at=claimed.started_at,
            now=now,
        )
        failed, pause = decision.transfer, decision.pause_until
        destinations.set_run(db, entry.name, decision.state)
        gave_up = decision.gave_up
        if gave_up:
            text = f"gave up after {entry.destination.retry_count} rounds: {reason.text}"
            destinations.set_state(db, entry.name, StoredState.HOLD, reason=text)
    transfers.save(db, failed, now=now)
    history.step(
        db,
        failed.id,
        entry.name,
        failed.status,
        time=now,
        host=host.name,
        sent=sent,
        duration=now - claimed.started_at,
        comment=reason.text,
        error=True,
        reason=reason,
    )
    if failed.status is not TransferStatus.RETR:
        history.drop_resume(db, failed.id)
    elif partial is not None:
        history.put_resume(db, failed.id, host.name, asdict(partial), now=now)
    hosts.failed(db, host.name, reason.text)
    teller.failed(
        db,
        failed,
        claimed.file,
        entry,
        reason,
        protocol=protocol,
        address=host.host,
        network=host.network_name,
        login=host.login,
        started_at=claimed.started_at,
        now=now,
    )
    return Failed(pause, is_final=failed.status is not TransferStatus.RETR, gave_up=gave_up)


def _ended(running: Running) -> Claimed:
    """Return the claim, with a mark when the store has a resume record of it."""
    claimed = running.claimed
    return replace(claimed, resume={}) if running.recorded and not claimed.resume else claimed
