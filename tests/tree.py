"""A logged-in user of a small node, and short words for what tests do in its tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ecpds.base.clock import Clock, SystemClock
from ecpds.model.account import Permission, Protocol
from ecpds.model.transfer import HistoryRow, Transfer
from ecpds.store import history, transfers
from ecpds.vfs.contract import Listing, Node, Session
from tests.clock import FakeClock
from tests.node import ALL, SmallNode, small_node


class Tree:
    """A session with a node behind it."""

    def __init__(self, node: SmallNode, session: Session, clock: FakeClock) -> None:
        self.node = node
        self.session = session
        self.clock = clock

    async def put(self, path: str, content: bytes = b"content", **options: Any) -> Node:
        """Upload a file."""
        async with await self.session.open_write(path, **options) as writer:
            writer.write(content)
            return await writer.commit(size=len(content))

    async def send(
        self,
        path: str,
        *blocks: bytes | tuple[int, bytes],
        end: Mapping[str, Any] | None = None,
        park: bool = False,
        **options: Any,
    ) -> Node:
        """Upload blocks, some with their offset; `end` is what the commit is told."""
        async with await self.session.open_write(path, **options) as writer:
            for block in blocks:
                if isinstance(block, bytes):
                    writer.write(block)
                else:
                    writer.write(block[1], block[0])
            if park:
                writer.park()
            return await writer.commit(**(end or {}))

    async def get(self, path: str) -> bytes:
        """Download a file."""
        async with await self.session.open_read(path) as reader:
            content = reader.read(0, reader.size)
            reader.count(len(content))
            return content

    async def names(self, path: str = "/NORTH", **listing: Any) -> list[str]:
        """List a directory; directories end with a slash."""
        found = self.session.list(path, Listing(**listing))
        return [node.name + "/" * node.is_directory async for node in found]

    async def transfers(self, destination: str = "NORTH") -> list[Transfer]:
        """Return the live transfers of a destination, oldest first."""
        found = await self.node.store.read(
            transfers.page, destination=destination, limit=1000, deleted=False
        )
        return found[::-1]

    async def transfer(self, number: int) -> Transfer:
        """Return a transfer, deleted or not."""
        found = await self.node.store.read(transfers.get, number)
        assert found is not None
        return found

    async def steps(self, number: int) -> list[HistoryRow]:
        """Return the history of a transfer."""
        return await self.node.store.read(history.steps, number)

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, oldest first."""
        found = await self.node.store.read(history.events, limit=100, kind=kind)
        return [record for _, record in found][::-1]

    async def incoming(self) -> list[history.Incoming]:
        """Return the uploads and downloads, oldest first."""
        found = await self.node.store.read(history.incoming, limit=100)
        return [row for _, row in found][::-1]


@asynccontextmanager
async def tree(
    folder: Path,
    *,
    options: Mapping[str, Any] | None = None,
    user_options: Mapping[str, Any] | None = None,
    operations: Iterable[Permission] = ALL,
    protocol: Protocol = Protocol.HTTPS,
    destinations: Iterable[str] = ("NORTH", "SOUTH"),
    clock: Clock | None = None,
    failpoints: str = "",
    run: bool = False,
    **fields: Any,
) -> AsyncIterator[Tree]:
    """Open a node where alice may use NORTH (with these options and fields) and SOUTH."""
    # by a clock of 2030 the sweep of a start takes the uploads of today for leftovers
    held = clock or (SystemClock() if run else FakeClock())
    async with small_node(folder, clock=held, failpoints=failpoints, run=run) as node:
        for name in sorted(destinations, reverse=True):
            given = (options, fields) if name == "NORTH" else (None, {})
            await node.destination(name, options=given[0], **given[1])
        await node.user(
            "alice", destinations=destinations, options=user_options, operations=operations,
            country="fr", comment="Alice",
        )  # fmt: skip
        async with await node.login(protocol=protocol, peer="198.51.100.7") as session:
            yield Tree(node, session, held)  # type: ignore[arg-type] # a fake unless a test knows better
