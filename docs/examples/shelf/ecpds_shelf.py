"""`genericShelf`: a directory of this machine, as the smallest module that passes the suite."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from ecpds.model.decode import opt
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import Phase, RemoteConfig, RemoteMissing, Unsupported
from ecpds.model.options import OptionFamily
from ecpds.transfer.contract import ByteSource, Feature, Surroundings, Target, TransferModule


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfOptions(OptionFamily):
    """Host options `shelf.*`: declared once, checked on save, shown in the editor."""

    prefix: ClassVar[str] = "shelf"
    scopes: ClassVar[frozenset[str]] = frozenset({"host"})

    root: str = opt("", "Directory that holds the files.")


class ShelfModule(TransferModule[ShelfOptions]):
    """A session; there is nothing to log in to."""

    name = "shelf"  # method genericShelf
    options = ShelfOptions
    # ATOMIC_PUT: what is put is seen only when complete
    features = (
        Feature.GET | Feature.RESUME_GET | Feature.PUT | Feature.ATOMIC_PUT
        | Feature.SIZE | Feature.DELETE
    )  # fmt: skip

    def __init__(self, root: Path, around: Surroundings) -> None:
        self._root, self._run = root, around.threads.run

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: ShelfOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session."""
        if not options.root:
            raise RemoteConfig("shelf.root names no directory", phase=Phase.CONNECT)
        yield cls(Path(options.root), around)

    def _path(self, name: str) -> Path:
        return self._root / name.lstrip("/")

    async def stat(self, name: str) -> Entry:
        """Return size and kind."""
        try:
            size = (await self._run("disk", self._path(name).stat)).st_size
        except OSError:
            raise RemoteMissing(f"no {name!r}", phase=Phase.VERIFY) from None
        return Entry(kind=Kind.FILE, name=name, size=size)

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on."""
        try:
            file = await self._run("disk", self._path(name).open, "rb")
        except OSError:
            raise RemoteMissing(f"no {name!r}") from None
        with file:
            file.seek(offset)
            while block := await self._run("disk", file.read, 256 * 1024):
                yield block

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write beside the final name, then rename."""
        if offset:
            raise Unsupported("files are written from their first byte")
        path, sent = self._path(name), 0
        part = path.with_name(f".{secrets.token_hex(8)}")
        await self._run("disk", lambda: path.parent.mkdir(parents=True, exist_ok=True))
        try:
            with part.open("wb") as file:
                async for block in source:
                    sent += await self._run("disk", file.write, block)
            await self._run("disk", part.replace, path)
        finally:
            part.unlink(missing_ok=True)
        return sent

    async def delete(self, name: str) -> None:
        """Delete a file."""
        try:
            await self._run("disk", self._path(name).unlink)
        except OSError:
            raise RemoteMissing(f"no {name!r}", phase=Phase.VERIFY) from None
