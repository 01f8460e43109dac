"""What a service of the SSH portal sees of its channel, and the channel of its service."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

# How long what runs may go on for a client that has left, in seconds.
LEAVE_SECONDS = 10.0
STOP_SECONDS = 1.5  # the same when the node stops


class Link(Protocol):
    """The channel, seen from the service."""

    def write(self, data: bytes) -> None:
        """Send data; dropped when the channel is gone."""

    def write_error(self, text: str) -> None:
        """Send a line to the client's standard error."""

    def pause(self) -> None:
        """Take no more from the client."""

    def resume(self) -> None:
        """Take from the client again."""

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside, at most until the connection ends."""


class Service(Protocol):
    """What runs on a channel, seen from there; every call but `serve` returns at once."""

    def received(self, data: bytes) -> None:
        """Take bytes of the client."""

    def finished(self) -> None:
        """Note that the client sends no more; what it asked for is still answered."""

    def lost(self, patience: float = LEAVE_SECONDS) -> None:
        """Note that the channel is gone; what runs may go on for `patience` seconds."""

    def blocked(self, blocked: bool) -> None:
        """Note whether the client fails to take what we send."""

    @property
    def running(self) -> bool:
        """Whether the client waits for an answer of ours."""

    @property
    def busy(self) -> bool:
        """Whether something would be cut off by ending now."""

    async def serve(self) -> int:
        """Serve until the client ends or goes away; return the exit status of the channel."""
