"""Servers that run until the end of a worker, with a directory of its own for each test.

To start and end one for each of a thousand tests took longer than the tests.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from ecpds.conformance.case import Server
from tests.peers.peer import Peer


def below(peer: Peer, name: str) -> Peer:
    """Return the peer with a directory of its root as the root."""
    return replace(peer, root=peer.root / name, directory=peer.remote(name))


def beside(peer: Peer, name: str) -> Peer:
    """Return the peer with a directory beside its root as the root: one more bucket."""
    return replace(peer, root=peer.root.parent / name)


class Kept:
    """The server of a case: the running one, else one of its own for whoever asks."""

    def __init__(self, server: Server, place: Callable[[Peer, str], Peer] = below) -> None:
        self.server = server
        self.running: Peer | None = None
        self._place = place

    @asynccontextmanager
    async def __call__(self, base: Path) -> AsyncIterator[Peer]:
        """Give an empty directory of the server; nothing of it stays."""
        if self.running is None:
            async with self.server(base) as peer:
                yield peer
            return
        peer = self._place(self.running, f"t{secrets.token_hex(4)}")
        peer.account.open(peer.root)
        try:
            yield peer
        finally:
            shutil.rmtree(peer.root, ignore_errors=True)


class Keeper:
    """Starts servers when they are first wanted and ends them together."""

    def __init__(self) -> None:
        # a loop of its own: the one of a test ends with it, and would end their generators
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._running: list[Kept] = []

    def keep(self, kept: Kept, base: Path) -> None:
        """Have the server run from now on."""
        kept.running = self._runner.run(self._stack.enter_async_context(kept.server(base)))
        self._running.append(kept)

    def close(self) -> None:
        """End all of them."""
        for kept in self._running:
            kept.running = None
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()
