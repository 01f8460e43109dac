"""A directory as one ZIP file, written while it is sent: nothing is stored, nothing is compressed.

Products are hardly ever compressible, and a stored member costs no more than its file.
Spec: PKWARE APPNOTE 6.3 (data descriptors, ZIP64).
"""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ecpds.base.clock import Clock
from ecpds.model.account import Permission
from ecpds.model.errors import LimitError, NotDirectory, NotFound
from ecpds.portals.https.blocks import BLOCK, FileBlocks
from ecpds.portals.https.exchange import Answer
from ecpds.portals.https.fields import FILE_POLICY, disposition, security
from ecpds.portals.https.visit import Visit
from ecpds.vfs.contract import Node, Reader

MOST_FILES: Final = 10_000
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)  # of the format


class _Sink:
    """What the archive writes, until it is sent."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._place = 0

    def write(self, data: bytes) -> int:
        self._held += data
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """Do nothing: `take` empties it."""

    def take(self) -> bytes:
        found = bytes(self._held)
        self._held.clear()
        return found


@dataclass(frozen=True, slots=True)
class Archives:
    """Sends directories as archives."""

    blocks: FileBlocks
    clock: Clock

    async def send(self, visit: Visit, node: Node) -> None:
        """Send all files below a directory; LimitError for too many."""
        if not node.is_directory:
            raise NotDirectory(f"{node.path} is a file")
        found = [one async for one in visit.session.walk(node.path, limit=MOST_FILES + 1)]
        if len(found) > MOST_FILES:
            raise LimitError(f"an archive has at most {MOST_FILES} files")
        members = [one for one in found if visit.session.may(Permission.GET, one.path)]
        fields = security(secure=visit.ask.secure, policy=FILE_POLICY)
        name = f"{node.name or 'files'}.zip"
        fields |= {
            "Content-Type": "application/zip",
            "Content-Disposition": disposition(name, "application/zip", ""),
            "Cache-Control": "no-store",
        }
        cut = len(node.path.rstrip("/")) + 1
        await visit.send(Answer(headers=fields, body=self._written(visit, members, cut)))

    async def _written(self, visit: Visit, members: list[Node], cut: int) -> AsyncIterator[bytes]:
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload] # no `seek`: it goes without
            for member in members:
                try:
                    reader = await visit.session.open_read(member.path)
                except NotFound:
                    continue  # gone since it was listed
                async with reader:
                    info = zipfile.ZipInfo(member.path[cut:], _stamp(member))
                    info.external_attr = 0o644 << 16
                    with archive.open(info, "w", force_zip64=True) as entry:
                        async for block in self._content(visit, reader):
                            entry.write(block)
                            yield sink.take()
                yield sink.take()
        yield sink.take()

    async def _content(self, visit: Visit, reader: Reader) -> AsyncIterator[bytearray]:
        sent = 0
        while sent < reader.size:
            visit.look()
            length = min(BLOCK, reader.size - sent)
            yield await self.blocks.read(reader.descriptor, sent, length)
            sent += length
            seconds = reader.pause(sent)
            if seconds > 0:
                await self.clock.sleep(timedelta(seconds=seconds))
        reader.count(sent)


def _stamp(node: Node) -> tuple[int, int, int, int, int, int]:
    """Return the time of a member, UTC; the format has none before 1980."""
    t = max(node.mtime or _EARLIEST, _EARLIEST).astimezone(UTC)
    return t.year, t.month, t.day, t.hour, t.minute, t.second
