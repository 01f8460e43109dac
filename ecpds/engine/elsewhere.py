"""Content that is not in our store: at a backup host, or still only at its source.

It is read into a temporary object that has no name when the delivery begins; nothing of it stays.
Spec: schedulers.md 4.5 (content order) and 3 (noRetrieval).
"""

from __future__ import annotations

import os
from dataclasses import replace

from ecpds.base.logs import get_logger
from ecpds.engine.content import UploadSink
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.model.errors import EcpdsError, NotFound, RemoteConfig, SourceBroke
from ecpds.model.transfer import DataFile
from ecpds.store import copies
from ecpds.transfer.fetch import fetch
from ecpds.transfer.meter import Meter

log = get_logger(__name__)


async def opened(core: Core, file: DataFile, entry: DestinationEntry) -> tuple[int, DataFile]:
    """Return a descriptor of the content, to be closed by the caller, and the file with its size.

    Order: our store, a backup host, the source host.  Raises SourceBroke when nobody has it.
    """
    tried: list[str] = []
    if file.stored and file.object_key:
        try:
            return core.objects.open(file.volume, file.object_key), file
        except (NotFound, OSError) as error:
            tried.append(f"the content of file {file.id} cannot be read: {error}")
    for host, place in await _places(core, file, entry):
        try:
            return await _fetched(core, file, host, place)
        except (EcpdsError, OSError) as error:
            log.warning("content not read", host=host.name, place=place, reason=str(error))
            tried.append(f"{host.name}: {error}")
    raise SourceBroke("; ".join(tried) or f"nobody has the content of file {file.id}")


async def _places(
    core: Core, file: DataFile, entry: DestinationEntry
) -> list[tuple[HostEntry, str]]:
    hosts = core.snapshot.hosts
    now = core.clock.now()
    found = [
        (hosts[copy.host], copy.place)
        for copy in await core.store.read(copies.of_file, file.id, now=now)
        if copy.role == "backup" and copy.state == "there" and copy.host in hosts
        and copy.instance == (file.instance or 0)
    ]  # fmt: skip
    source = file.host or entry.destination.source_host
    if source in hosts and file.source and not file.delete_original:
        found.append((hosts[source], file.source))
    return [(host, place) for host, place in found if host.host.active]


async def _fetched(core: Core, file: DataFile, host: HostEntry, place: str) -> tuple[int, DataFile]:
    access = host.access
    if access is None:
        raise RemoteConfig(host.problem)
    upload = core.objects.create(max(file.size, 0))
    try:
        async with core.pool.session(access) as module:
            fetched = await fetch(
                module,
                place,
                UploadSink(upload, core.threads),
                around=core.around,
                watch=access.fetching,
                meter=Meter(),
                expected_size=file.size,
            )
        return os.dup(upload.descriptor), replace(file, size=fetched.size)
    finally:
        upload.discard()
        upload.close()
