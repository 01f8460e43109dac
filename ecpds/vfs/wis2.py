"""What a WIS2 node shows to everybody: discovery records, core data, the messages of a while.

Nobody logs in here: WIS2 wants core data to be there without further steps.  A file is open only
while its destination publishes it as core data.  Spec: notifications.md sections 5.1 and 5.3.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

from ecpds.engine.core import Core, DestinationEntry
from ecpds.engine.publish_text import media_type
from ecpds.model.errors import NotFound, NotStored
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import files, transfers, wis2
from ecpds.store.db import Connection
from ecpds.store.replay import Place
from ecpds.vfs.contract import Node, Reader
from ecpds.vfs.gate import PortalGate
from ecpds.vfs.replay import WIS2, ReplayPage, Replays, Seen

PROTOCOL: Final = "wis2"
BLOCK: Final = 1024 * 1024


class OpenReader(Reader):
    """A file of core data; counted, but no download of anybody's."""

    def __init__(self, core: Core, node: Node, media: str, descriptor: int) -> None:
        self.node = node
        self.media_type = media
        self.size = node.size
        self.descriptor = descriptor
        self._core = core
        self._sent = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes (1 MiB at most) from `offset`."""
        return os.pread(self.descriptor, min(length, BLOCK), offset)

    def count(self, sent: int, *, offset: int = 0, last: bool = True) -> None:
        """Add bytes that went out."""
        self._sent += sent

    async def close(self, error: BaseException | None = None) -> None:
        """Count and release."""
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        if self._sent:
            self._core.metrics.moved(PROTOCOL, "download", self._sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    transfer: Transfer
    file: DataFile
    topic: str  # of the message that announced it, empty for own data


class Wis2Shelf:
    """What can be read without a login."""

    def __init__(self, core: Core, gate: PortalGate) -> None:
        self._core = core
        self._gate = gate
        self._replays = Replays(core)

    @property
    def is_used(self) -> bool:
        """Whether this node has anything to do with WIS2."""
        return any(one.wis2.publish for one in self._core.snapshot.destinations.values())

    async def check(self, peer: str) -> None:
        """Raise Banned for an address that may not come in."""
        await self._gate.check(peer)

    async def record(self, identifier: str) -> bytes:
        """Return a discovery record; NotFound."""
        found = await self._core.store.read(wis2.record, identifier)
        if found is None:
            raise NotFound("there is no such record")
        return found.text.encode()

    async def open(self, destination: str, number: int, target: str) -> OpenReader:
        """Open core data; NotFound for whatever is not published as such."""
        entry = self._core.snapshot.destinations.get(destination)
        if entry is None or not entry.wis2.publish:
            raise NotFound("there is no such file")
        found = await self._core.store.read(_found, number)
        if found is None or not self._is_open(found, entry, target):
            raise NotFound("there is no such file")
        file = found.file
        if not file.stored or file.removed:
            raise NotStored("the content is not stored yet")
        node = Node(
            name=target.rpartition("/")[2],
            path=f"/{target}",
            kind="file",
            size=file.size,
            mtime=file.arrived_at,
            etag=f'"{file.etag}"',
        )
        media = entry.wis2.media_type or media_type(target)
        descriptor = self._core.objects.open(file.volume, file.object_key)
        return OpenReader(self._core, node, media, descriptor)

    def _is_open(self, found: _Found, entry: DestinationEntry, target: str) -> bool:
        transfer = found.transfer
        if transfer.destination != entry.name or transfer.target.strip("/") != target:
            return False
        if transfer.deleted or transfer.expires_at <= self._core.clock.now():
            return False
        if entry.wis2.channel == "cache":
            return found.topic.split("/")[4:6] == ["data", "core"]
        return entry.wis2.is_core

    async def replay(self, after: Place, seen: Seen, *, limit: int) -> ReplayPage:
        """Return messages that were sent after that place."""
        return await self._replays.page(WIS2, after, seen, limit=limit)


def _found(db: Connection, number: int) -> _Found | None:
    transfer = transfers.get(db, number)
    file = files.get(db, transfer.data_file) if transfer is not None else None
    if transfer is None or file is None:
        return None
    origin = wis2.origin(db, file.id)
    return _Found(transfer=transfer, file=file, topic=origin[0] if origin else "")


def replayed(page: ReplayPage) -> bytes:
    """Return the answer to a replay: messages with their topics, and where to go on."""
    items = [
        {"topic": one.topic, "time": one.sent_at.isoformat().replace("+00:00", "Z"),
         "message": json.loads(one.content["payload"])}
        for one in page.messages
    ]  # fmt: skip
    document = {"items": items, "next": page.cursor if page.more else None, "cursor": page.cursor}
    return json.dumps(document, ensure_ascii=False).encode()
