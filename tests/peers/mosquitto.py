"""Mosquitto: somebody else's broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers import ports
from tests.peers.process import Child, wait_ready
from tests.peers.programs import find


@dataclass
class Mosquitto:
    """A running broker; it can be killed and started again with what it remembers."""

    folder: Path
    port: int
    extra: str = ""
    child: Child | None = None

    async def start(self) -> None:
        """Start it and wait until it accepts."""
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous {'false' if self.extra else 'true'}\n"
            f"persistence true\npersistence_location {self.folder}/\nautosave_interval 1\n"
            f"max_queued_messages 0\nuser root\n{self.extra}"
        )
        self.child = Child("mosquitto", [find("mosquitto"), "-c", config], self.folder / "log")
        await wait_ready(self.child, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """End it; what is persistent is written."""
        if self.child is not None:
            await self.child.stop()
            self.child = None


@asynccontextmanager
async def mosquitto(folder: Path, *, extra: str = "") -> AsyncIterator[Mosquitto]:
    """Run a broker on a free port of loopback; `extra` lines are for one with logins."""
    folder.mkdir(exist_ok=True)
    with ports.reserved() as free:
        broker = Mosquitto(folder, free[0], extra)
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()
