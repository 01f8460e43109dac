"""The tree below one path, for whoever has a link to it: to read, or to upload new files.

A path is made normal before it is put below the root, so nothing leads out of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

from ecpds.model.account import DataUser, Permission, Profile, Service
from ecpds.model.errors import Denied, InvalidName, NotFound, TooLarge
from ecpds.store.links import Link
from ecpds.vfs import paths
from ecpds.vfs.contract import Listing, Node, Reader, Session, Writer

SHARED: Final = frozenset({Permission.DIR, Permission.GET, Permission.SIZE, Permission.MTIME})
BRANDING: Final = (
    "color",
    "title",
    "tab",
    "footer",
    "warning",
    "headerRegistry",
    "maxRangesAllowed",
)


class Counter(Protocol):
    """What counts the uses of a link."""

    async def use(self, link: Link, count: int = 0) -> None:
        """Count a use and its uploaded bytes; NotFound when there is not so much left."""


class RootedSession(Session):
    """A session of the link's user, seen through the link."""

    def __init__(self, inner: Session, link: Link, counter: Counter) -> None:
        self.link = link
        self.protocol = inner.protocol
        self.peer = inner.peer
        user = DataUser(login="", service=Service.OPEN)
        self.profile = Profile(
            user=user, destinations=(), operations=frozenset(), options=dict(_brand(inner))
        )
        self.only = ""  # name of the one file that is shared
        self._inner = inner
        self._counter = counter
        self._root = link.path.rstrip("/")

    @property
    def options(self) -> Mapping[str, str]:
        """Return what the user's pages look like, and nothing else."""
        return self.profile.options

    async def begin(self) -> Node:
        """Look at what the link leads to; NotFound when it is gone."""
        node = await self._inner.stat(self.link.path)
        if not node.is_directory:
            self.only = node.name
            self._root = self._root.rpartition("/")[0]
        return node

    # --- paths --------------------------------------------------------------------------

    def absolute(self, path: str, *, base: str = "/") -> str:
        """Return the normal form of a path below the root."""
        return paths.normal(path, base=base)

    def _real(self, path: str) -> str:
        below = self.absolute(path)
        if self.only and below not in ("/", f"/{self.only}"):
            raise NotFound(f"{below} is not there")
        return self._root + below if below != "/" else self._root or "/"

    def shown(self, node: Node) -> Node:
        """Return a node as it looks below the root."""
        below = node.path[len(self._root) :] or "/"
        name = node.name if below != "/" else ""
        return replace(node, path=below, name=name, comment="", metadata={})

    def may(self, permission: Permission, path: str) -> bool:
        """Tell whether the link gives that and its user has it."""
        given = SHARED if self.link.kind == "share" else frozenset({Permission.PUT})
        return permission in given and self._inner.may(permission, self._real(path))

    def _need(self, kind: str) -> None:
        if self.link.kind != kind:
            raise Denied("the link is not for that")

    # --- reading ------------------------------------------------------------------------

    async def stat(self, path: str) -> Node:
        """Return a node; of a request only the directory itself."""
        if self.link.kind == "request" and self.absolute(path) != "/":
            raise NotFound(f"{path} is not there")
        if self.only and self.absolute(path) == "/":
            return Node(name="", path="/", kind="directory")
        return self.shown(await self._inner.stat(self._real(path)))

    async def list(self, path: str, listing: Listing | None = None) -> AsyncIterator[Node]:
        """Yield the members of a shared directory."""
        self._need("share")
        if self.only:
            yield await self.stat(f"/{self.only}")
            return
        async for node in self._inner.list(self._real(path), listing):
            yield self.shown(node)

    async def walk(
        self, path: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> AsyncIterator[Node]:
        """Yield the files at any depth below a shared directory."""
        self._need("share")
        if self.only:
            yield await self.stat(f"/{self.only}")
            return
        found = self._inner.walk(self._real(path), prefix=prefix, after=after, limit=limit)
        async for node in found:
            yield self.shown(node)

    async def open_read(self, path: str) -> Reader:
        """Open a shared file; that is a use of the link."""
        self._need("share")
        reader = await self._inner.open_read(self._real(path))
        try:
            await self._counter.use(self.link)
        except BaseException:
            await reader.close()
            raise
        reader.node = self.shown(reader.node)
        return reader

    async def digest(self, path: str, algorithm: str) -> str:
        """Return a digest of a shared file."""
        self._need("share")
        return await self._inner.digest(self._real(path), algorithm)

    # --- writing ------------------------------------------------------------------------

    async def open_write(
        self,
        path: str,
        *,
        size: int | None = None,
        offset: int = 0,
        exclusive: bool = False,
        if_match: Sequence[str] = (),
        mtime: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        make_parents: bool = True,
    ) -> Writer:
        """Begin the upload of a new file; one that is there is never replaced."""
        del exclusive, if_match, make_parents, offset
        self._need("request")
        below = self.absolute(path)
        if below.count("/") != 1 or below == "/":
            raise InvalidName("files go into the directory of the link itself")
        left = None
        if self.link.most_bytes is not None:
            left = max(self.link.most_bytes - self.link.bytes, 0)
            if size is not None and size > left:
                raise TooLarge(f"the link takes {left} more bytes", limit=left)
        writer = await self._inner.open_write(
            self._real(path), size=size, exclusive=True, mtime=mtime, metadata=metadata
        )
        return _LinkWriter(self, writer, left)

    async def count(self, received: int) -> None:
        """Count an upload; NotFound when the link has not so much left."""
        await self._counter.use(self.link, received)

    async def parked(self, path: str) -> int:
        """Return 0: uploads through links are not gone on with."""
        del path
        return 0

    async def delete(self, path: str) -> None:
        """Refuse."""
        raise Denied("the link is not for that")

    async def mkdir(self, path: str) -> None:
        """Refuse."""
        raise Denied("the link is not for that")

    async def rmdir(self, path: str, *, recursive: bool = False) -> None:
        """Refuse."""
        raise Denied("the link is not for that")

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """Refuse."""
        raise Denied("the link is not for that")

    async def set_mtime(self, path: str, mtime: datetime) -> None:
        """Refuse."""
        raise Denied("the link is not for that")

    # --- the rest -----------------------------------------------------------------------

    def touch(self) -> None:
        """Tell that something happened."""
        self._inner.touch()

    @property
    def closing(self) -> bool:
        """Whether the session is to end."""
        return self._inner.closing

    async def close(self) -> None:
        """Log out."""
        await self._inner.close()


def _brand(inner: Session) -> dict[str, str]:
    found = {
        key: text for name in BRANDING if (text := inner.options.get(key := f"portal.{name}", ""))
    }
    return found | {"portal.loginButton": "no"}


class _LinkWriter(Writer):
    """An upload through a link: counted, and bounded by what the link has left."""

    def __init__(self, session: RootedSession, inner: Writer, left: int | None) -> None:
        self._session = session
        self._inner = inner
        self._left = left
        self.descriptor = inner.descriptor
        self.rate = inner.rate
        bounds = [bound for bound in (inner.limit, left) if bound is not None]
        self.limit = min(bounds, default=None)

    @property
    def received(self) -> int:  # type: ignore[override]
        """Return the bytes taken so far."""
        return self._inner.received

    def _check(self, end: int) -> None:
        if self._left is not None and end > self._left:
            raise TooLarge(f"the link takes {self._left} more bytes", limit=self._left)

    def write(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> int:
        """Write a block."""
        self._check((self._inner.received if offset is None else offset) + len(data))
        return self._inner.write(data, offset)

    def advance(self, count: int) -> None:
        """Take over what the kernel has written."""
        self._check(self._inner.received + count)
        self._inner.advance(count)

    def pause(self) -> float:
        """Return the seconds to wait before the next block."""
        return self._inner.pause()

    async def commit(
        self,
        *,
        size: int | None = None,
        digests: Mapping[str, str] | None = None,
        etag: str | None = None,
        last_check: Callable[[], Awaitable[None]] | None = None,
    ) -> Node:
        """Register; that is a use of the link."""
        del last_check

        async def count() -> None:
            await self._session.count(self._inner.received)

        node = await self._inner.commit(size=size, digests=digests, etag=etag, last_check=count)
        return self._session.shown(node)

    def park(self, *, expected: bool = False) -> None:
        """Do nothing: uploads through links are not gone on with."""

    async def close(self) -> None:
        """Release."""
        await self._inner.close()
