"""A container of objects as a peer: there are only names, and directories are parts of them."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.peers.peer import Peer
from tests.peers.process import Child, PeerFailed

START_LIMIT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsPeer(Peer):
    """What is the same for all stores; the others say how they write, read and delete."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete one object."""

    def fill(self, directory: str, count: int) -> None:
        """Write empty objects."""
        for number in range(count):
            self.put(f"{directory}/{number:06d}", b"")

    def mkdir(self, name: str) -> Path:
        """Do nothing: there are only names."""
        return Path(name)

    def has_directory(self, name: str) -> bool:
        """Tell whether an object is below it."""
        return any(one.startswith(f"{name}/") for one in self.names())

    def remove(self, name: str) -> None:
        """Delete an object, or all below a directory."""
        for one in self.names():
            if one == name or one.startswith(f"{name}/"):
                self.delete(one)


def wait_answering(child: Child, ask: Callable[[], object]) -> None:
    """Return when `ask` raises no OSError any more; PeerFailed when that does not come."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            ask()
        except OSError:
            if child.process.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed(child.output()) from None
            time.sleep(0.05)
        else:
            return
