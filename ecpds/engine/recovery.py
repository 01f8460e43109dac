"""After a crash: every row and every file back to a state from which the work goes on.

`settle` runs before anything else starts; `sweep` compares the object directory with the store
beside the running node and removes only what is older than this start.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

from ecpds.base.logs import get_logger
from ecpds.engine import retrieval
from ecpds.engine.core import Core
from ecpds.engine.packing import ahead_of
from ecpds.engine.paths import path_of
from ecpds.engine.resuming import token_of
from ecpds.model.errors import EcpdsError
from ecpds.model.status import TransferStatus
from ecpds.objects import sweep as objects_sweep
from ecpds.store import files, history, outgoing, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import Feature, Partial

log = get_logger(__name__)


def settle(db: Connection, *, now: datetime) -> dict[str, int]:
    """Bring transfers that were under way back into the queue; return counts by what was done."""
    counts = {"fetching": retrieval.recover(db, now=now), "transferring": 0, "arriving": 0}
    for status, name in ((TransferStatus.EXEC, "transferring"), (TransferStatus.INTR, "")):
        while found := transfers.with_status(db, status):
            for one in found:
                _requeue(db, one.id, now)
                if name:
                    outgoing.note_interrupted(db, one.id)
            counts["transferring"] += len(found) if name else 0
    while found := transfers.with_status(db, TransferStatus.INIT):
        for one in found:
            gone = replace(one, status=TransferStatus.INTR, deleted=True, comment="never arrived")
            transfers.save(db, gone, now=now)
            files.mark_unused(db, one.data_file)
        counts["arriving"] += len(found)
    return counts


def _requeue(db: Connection, number: int, now: datetime) -> None:
    present = transfers.get(db, number)
    if present is None:
        return
    text = "interrupted by a restart"
    back = replace(present, status=TransferStatus.RETR, due_at=now, comment=text)
    transfers.save(db, back, now=now)
    history.step(
        db, number, present.destination, TransferStatus.INTR, time=now, host=present.host,
        comment=text, error=True,
    )  # fmt: skip


async def name_interrupted(core: Core) -> None:
    """Find the remote names of attempts that a crash ended before they told them.

    So that they are removed whatever becomes of the transfer; the names are made of its number
    and that of the attempt.
    """
    for number, host, began in await core.store.read(outgoing.interrupted):
        try:
            name = await _written_name(core, number, host, began)
        except (EcpdsError, OSError) as error:
            log.warning("file of an attempt not named", transfer=number, reason=str(error))
            name = ""
        record = asdict(Partial(name=name, offset=0, version="")) if name else {}
        await core.store.write(outgoing.name_interrupted, number, host, record)


async def _written_name(core: Core, number: int, name: str, began: datetime) -> str:
    """Return the written name of the last attempt, empty where none was used."""
    transfer = await core.store.read(transfers.get, number)
    host = core.snapshot.hosts.get(name)
    if transfer is None or host is None or host.access is None:
        return ""
    file = await core.store.read(files.get, transfer.data_file)
    entry = core.snapshot.destinations.get(transfer.destination)
    naming = host.access.delivery.naming
    if file is None or entry is None or not naming.temporary:
        return ""
    if Feature.RENAME not in host.access.module.features:
        return ""
    metadata = await core.store.read(files.metadata, file.id)
    path = await path_of(core, transfer, file, metadata, entry, host, now=began)
    filters = (
        host.access.filters if host.access.compresses else ahead_of(entry, host.access.filters)
    )
    squeeze = filters.squeeze(file.original or path, file.size)
    path += squeeze.extension if squeeze is not None else ""
    return naming.written_name(path, token_of(transfer, transfer.attempts))


async def sweep(core: Core, started: datetime) -> int:
    """Remove temporary files and objects that nothing refers to; return how many."""
    parked = frozenset(await core.store.read(files.parked_names))
    parked |= frozenset(await core.store.read(outgoing.half_names))
    removed = 0
    for volume in core.objects.volumes:
        removed += await core.threads.run(
            "disk", objects_sweep.sweep_temporaries, volume, parked, started
        )
        batches = objects_sweep.candidates(volume, started)
        while keys := await core.threads.run("disk", next, batches, None):
            orphans = await core.store.read(files.unknown_objects, volume.name, keys)
            await core.objects.remove([(volume.name, key) for key in orphans])
            removed += len(orphans)
    if removed:
        log.info("orphans removed", count=removed)
    return removed
