"""The suite, run with our module and its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ecpds_shelf import ShelfModule

from ecpds.conformance.case import Case
from ecpds.conformance.peer import Peer
from ecpds.conformance.suite import *  # noqa: F403


@asynccontextmanager
async def shelf(folder: Path) -> AsyncIterator[Peer]:
    """Start the server of one test: here a directory is enough."""
    (folder / "shelf").mkdir()
    yield Peer(name="shelf", scheme="file", port=0, root=folder / "shelf")


CASES = [
    Case(
        name="shelf",
        module=ShelfModule,
        server=shelf,
        options=lambda peer: {"shelf.root": str(peer.root)},
        is_remote=False,
        has_login=False,
    )
]
