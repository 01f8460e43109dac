"""Downloads that go on where they broke off, also after a restart.

What has come stays in the volume's directory of uploads, under a row that tells which version of
the source it is: size, time and tag as the server told them before the first byte.  Content of
another version, or of a server that cannot send parts, begins anew.

Spec: transfer-modules.md 4.5; transfer-modules-protocols.md 3.1 (Range with If-Range).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.errors import EcpdsError, NotFound, RemoteError, RemoteVerify
from ecpds.model.transfer import DataFile
from ecpds.objects.upload import Upload
from ecpds.store import outgoing
from ecpds.store.outgoing import Half
from ecpds.transfer.contract import Feature, TransferModule

log = get_logger(__name__)

WORTH: Final = 4 * 1024 * 1024
"""Bytes from which a file may be gone on with: for smaller ones the questions cost more."""

KEEP_TIME: Final = timedelta(seconds=5)
"""Longest wait until what has come is stored, when the download was cancelled."""

_MEMORY: Final = "receiving"
_NO_PARTS: Final = "no parts"


@dataclass(slots=True)
class Receiving:
    """One download under way."""

    file: DataFile
    host: str
    upload: Upload
    version: str = ""  # empty: it cannot be gone on with
    recorded: int = 0  # bytes that the store knows of
    begun_at: int = 0


class Halves:
    """Begins downloads with what is there, and keeps what has come of those that break off."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._running: dict[int, Receiving] = {}

    async def begin(self, file: DataFile, host: str, module: TransferModule[Any]) -> Receiving:
        """Return where the content goes; its upload holds what an earlier try received.

        Raises RemoteError when the source cannot be asked, StorageFull.
        """
        version = await self._version(file, host, module)
        upload = await self._earlier(file, host, version) if version else None
        if upload is None:
            upload = self._core.objects.create(max(file.size, 0), group=file.transfer_group)
        at = upload.received
        receiving = Receiving(file, host, upload, version, recorded=at, begun_at=at)
        if version:
            self._running[file.id] = receiving
        return receiving

    async def _version(self, file: DataFile, host: str, module: TransferModule[Any]) -> str:
        """Return what tells this content from another one, empty when nothing does."""
        wanted = Feature.RESUME_GET | Feature.SIZE
        if 0 <= file.size < WORTH or wanted not in module.features:
            return ""
        if self._core.around.memory.recall(_MEMORY, host, _NO_PARTS):
            return ""
        found = await module.stat(file.source)
        if found.size is None or (found.mtime is None and not found.etag):
            return ""
        time = found.mtime.isoformat() if found.mtime else ""
        return f"{found.size}:{time}:{found.etag}"

    async def _earlier(self, file: DataFile, host: str, version: str) -> Upload | None:
        store = self._core.store
        half = await store.read(outgoing.half, file.id)
        if half is None:
            return None
        try:
            upload = self._core.objects.reopen(half.volume, half.temporary, half.received)
        except (NotFound, OSError):
            upload = None
        if upload is not None and (half.host, half.source, half.version) == (
            host,
            file.source,
            version,
        ):
            log.info("download goes on", file=file.id, at=half.received)
            return upload
        if upload is not None:
            upload.discard()
        await store.write(outgoing.drop_half, file.id)
        return None

    async def done(self, receiving: Receiving) -> None:
        """Forget the row of a download that is complete."""
        self._running.pop(receiving.file.id, None)
        if receiving.recorded:
            await self._core.store.write(outgoing.drop_half, receiving.file.id)

    async def broke(self, receiving: Receiving, error: BaseException) -> None:
        """Keep what has come if a later try can go on with it, else remove it."""
        self._running.pop(receiving.file.id, None)
        upload = receiving.upload
        if receiving.begun_at and isinstance(error, RemoteVerify):
            self._core.around.memory.keep(_MEMORY, receiving.host, _NO_PARTS, "yes")
        try:
            if receiving.version and upload.received >= WORTH // 4 and _is_passing(error):
                async with asyncio.timeout(KEEP_TIME.total_seconds()):
                    await self._record(receiving)
                return
            if receiving.recorded:
                await self._core.store.write(outgoing.drop_half, receiving.file.id)
        except (EcpdsError, OSError, TimeoutError) as failed:
            log.warning("download not kept", file=receiving.file.id, reason=str(failed))
        upload.discard()

    async def record(self) -> None:
        """Store how far the downloads came; one round."""
        for receiving in list(self._running.values()):
            if receiving.upload.received - receiving.recorded >= WORTH:
                await self._record(receiving)

    async def _record(self, receiving: Receiving) -> None:
        """Make what has come durable, then tell the store."""
        upload = receiving.upload
        received = upload.received
        if self._core.settings.store.durability == "full":
            copy = os.dup(upload.descriptor)  # the download may end meanwhile
            try:
                await self._core.threads.run("disk", os.fdatasync, copy)
            finally:
                os.close(copy)
        half = Half(
            file=receiving.file.id,
            host=receiving.host,
            source=receiving.file.source,
            version=receiving.version,
            volume=upload.volume.name,
            temporary=upload.path.name,
            received=received,
        )
        receiving.recorded = received
        await self._core.store.write(outgoing.put_half, half, now=self._core.clock.now())


def _is_passing(error: BaseException) -> bool:
    """Tell whether another try may find the rest: not after another content or a stop by hand."""
    if isinstance(error, RemoteError):
        return error.retryable and error.kind == "transient"
    return isinstance(error, asyncio.CancelledError)
