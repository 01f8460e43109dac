"""What an SFTP client holds open: files being read, uploads under way, listings.

Reading and writing are plain calls, so that a request costs no task; opening and closing await the
session.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime

from ecpds.base.logs import get_logger
from ecpds.model.errors import (
    Conflict,
    EcpdsError,
    Incomplete,
    LimitError,
    NotFound,
    PreconditionFailed,
    Unsupported,
)
from ecpds.portals.ssh import wire
from ecpds.vfs.contract import Node, Reader, Session, Writer

log = get_logger(__name__)

# Open handles of one connection; OpenSSH clients hold a few, parallel tools some dozens.
MAX_HANDLES = 256
# A listing answer stays below what the oldest clients accept as one packet.
_LISTING_BYTES = 32 * 1024
_SLOW_BLOCK = 4096  # bytes; what a download with a rate gives at once, at least


class Handle(ABC):
    """One open thing of an SFTP channel."""

    path: str  # normal
    rate: int | None = None  # bytes a second that it may move; then `pause` tells how

    def pause(self) -> float:
        """Return the seconds that the next answer is held back."""
        return 0.0

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, none at the end."""
        raise Conflict("the handle is not open for reading")

    def write(self, offset: int, data: memoryview) -> None:
        """Take a block of an upload."""
        raise Conflict("the handle is not open for writing")

    def attributes(self) -> bytes:
        """Return the encoded attributes."""
        raise Conflict("the handle is not a file")

    def set(self, wanted: wire.Attributes) -> None:  # noqa: B027 - nothing to set on most
        """Take attributes; what cannot be kept is tolerated, except a size."""

    @abstractmethod
    async def close(self) -> None:
        """End as the client asked; what raises here was not done."""

    @abstractmethod
    async def abandon(self) -> None:
        """End because the client went away; bounded, raises nothing of the session's."""


class ReadHandle(Handle):
    """A file being read, in any order."""

    def __init__(self, reader: Reader) -> None:
        self.path = reader.node.path
        self.rate = reader.rate
        self.reader = reader
        self._sent = 0
        self._first: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, none at the end."""
        most = wire.MAX_DATA if self.rate is None else max(self.rate // 8, _SLOW_BLOCK)
        data = self.reader.read(offset, min(length, most, wire.MAX_DATA))
        self._sent += len(data)
        if self._first is None or offset < self._first:
            self._first = offset
        return data

    def pause(self) -> float:
        """Return the seconds that the next answer is held back."""
        return self.reader.pause(self._sent)

    def attributes(self) -> bytes:
        """Return the encoded attributes of the content that is open, whatever the name has now."""
        return wire.file_attributes(self.reader.size, self.reader.node.mtime)

    def _count(self) -> None:
        if self._first is not None:
            self.reader.count(self._sent, offset=self._first)

    async def close(self) -> None:
        """Record the download."""
        self._count()
        await self.reader.close()

    async def abandon(self) -> None:
        """Record a download that broke."""
        self._count()
        await self.reader.close(Incomplete("the client went away before it closed the file"))


class WriteHandle(Handle):
    """An upload: nothing is visible before `close` has returned.

    Blocks come in any order; holes are found by the writer at the end.  With `resume`, bytes of an
    earlier broken upload are parked at the path, and the offset of the first block tells whether
    the client goes on with them: `begin` opens the writer then.
    """

    def __init__(
        self,
        session: Session,
        path: str,
        *,
        exclusive: bool = False,
        must_exist: bool = False,
        append: bool = False,
        mtime: datetime | None = None,
    ) -> None:
        self.path = path
        self.writer: Writer | None = None
        self._session = session
        self._exclusive = exclusive
        self._must_exist = must_exist
        self._append = append
        self._mtime = mtime
        self._late_mtime: datetime | None = None
        self._parked = 0
        self._end = 0
        self._promised = 0
        self._ordered = True
        self._failed: EcpdsError | OSError | None = None

    async def open(self, *, resume: bool) -> WriteHandle:
        """Open the writer, or find that the first block has to tell where; return itself."""
        self._parked = await self._session.parked(self.path) if resume else 0
        if self._append:
            if not self._parked:
                raise Unsupported("only a broken upload can be appended to")
            await self.begin(self._parked)
        elif not self._parked:
            await self.begin(0)
        return self

    async def begin(self, offset: int) -> None:
        """Open the writer where the first block belongs."""
        if self.writer is not None:
            return
        start = offset if self._parked else 0
        try:
            self.writer = await self._session.open_write(
                self.path,
                offset=start,
                exclusive=self._exclusive,
                if_match=("*",) if self._must_exist else (),
                mtime=self._mtime,
            )
        except PreconditionFailed as error:
            raise NotFound(f"{self.path} is not there") from error
        self.rate = self.writer.rate
        self._end = start

    def pause(self) -> float:
        """Return the seconds that the next answer is held back."""
        return self.writer.pause() if self.writer is not None else 0.0

    def write(self, offset: int, data: memoryview) -> None:
        """Take a block; after a failed one the upload can only be closed, and that fails too."""
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        if self.writer is None:
            raise Conflict("the upload is not open")
        if self._append:
            offset = self._end
        try:
            self.writer.write(data, offset)
        except (EcpdsError, OSError) as error:
            self._failed = error
            raise
        self._ordered = self._ordered and offset == self._end
        self._end = max(self._end, offset + len(data))

    def attributes(self) -> bytes:
        """Return the encoded attributes as far as the upload has come."""
        size = self._end if self.writer is not None else self._parked
        return wire.file_attributes(size, self._late_mtime or self._mtime)

    def set(self, wanted: wire.Attributes) -> None:
        """Remember the source time; a size may announce what is still to come."""
        if wanted.mtime is not None:
            self._late_mtime = wanted.mtime
        if wanted.size is not None:
            if wanted.size < self._end:
                raise Unsupported("an upload cannot be cut")
            self._promised = wanted.size

    async def close(self) -> None:
        """Register the upload: the acknowledgement that the content is kept."""
        if self.writer is None:
            raise Incomplete("nothing was written")
        async with self.writer:
            if self._failed is not None:
                raise self._failed
            await self.writer.commit(size=max(self._promised, self._end))
        if self._late_mtime is not None:
            await self._keep_time(self._late_mtime)

    async def _keep_time(self, mtime: datetime) -> None:
        try:
            await self._session.set_mtime(self.path, mtime)
        except EcpdsError as error:  # the upload is registered: its time is not worth a failure
            log.warning("the time of an upload was not kept", reason=error.message)

    async def abandon(self) -> None:
        """Park what came in order; the rest cannot be gone on with."""
        if self.writer is None:
            return
        if self._ordered and self._failed is None and self._end:
            self.writer.park()
        await self.writer.close()


class DirectoryHandle(Handle):
    """A listing that is read step by step."""

    def __init__(self, path: str, nodes: AsyncIterator[Node]) -> None:
        self.path = path
        self._nodes = nodes
        self._next: Node | None = None

    async def open(self) -> DirectoryHandle:
        """Take the first member: here a missing or denied directory shows; return itself."""
        self._next = await anext(self._nodes, None)
        return self

    async def batch(self, now: datetime) -> list[bytes]:
        """Return the next encoded members, none at the end."""
        found: list[bytes] = []
        size = 0
        while self._next is not None:
            entry = wire.name_entry(self._next, now)
            if found and size + len(entry) > _LISTING_BYTES:
                break
            found.append(entry)
            size += len(entry)
            self._next = await anext(self._nodes, None)
        return found

    async def close(self) -> None:
        """Let go of the listing."""
        self._next = None
        end = getattr(self._nodes, "aclose", None)  # generators have it, plain iterators need not
        if end is not None:
            await end()

    async def abandon(self) -> None:
        """Let go of the listing."""
        await self.close()


class Places:
    """Counts the open handles of one connection, over all its channels."""

    def __init__(self, limit: int = MAX_HANDLES) -> None:
        self.limit = limit
        self.taken = 0


def key_of(name: bytes) -> str:
    """Return what stands for a handle among paths; no normal path begins like this."""
    return f"//{name.hex()}"


class Handles:
    """The open handles of one channel, by the name that the client knows."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._open: dict[bytes, Handle] = {}
        self._last = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for a handle, given back when the block fails; raise LimitError if full."""
        if self.places.taken >= self.places.limit:
            raise LimitError(f"more than {self.places.limit} open files")
        self.places.taken += 1
        kept = False
        try:
            yield
            kept = True
        finally:
            if not kept:
                self.places.taken -= 1

    def add(self, handle: Handle) -> bytes:
        """Keep `handle` in the place taken for it; return its name."""
        while True:
            self._last = (self._last + 1) & 0xFFFFFFFF
            name = self._last.to_bytes(wire.HANDLE_BYTES, "big")
            if name not in self._open:
                self._open[name] = handle
                return name

    def get(self, name: bytes) -> Handle:
        """Return the handle; raise Conflict for one that is not or no longer open."""
        try:
            return self._open[name]
        except KeyError:
            raise Conflict("no such handle") from None

    def pop(self, name: bytes) -> Handle:
        """Forget the handle and give its place back; the caller closes it."""
        handle = self.get(name)
        del self._open[name]
        self.places.taken -= 1
        return handle

    def pop_all(self) -> list[Handle]:
        """Forget all handles; the caller closes them."""
        return [self.pop(name) for name in list(self._open)]

    def __len__(self) -> int:
        return len(self._open)
