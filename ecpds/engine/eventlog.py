"""Writes committed events to the event files, classic and JSON, in their order.

Events are rows of the transaction that they tell of; here they become lines, are synced, and only
then marked as written.  A crash may repeat lines but never loses one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core
from ecpds.model.events import classic
from ecpds.store import history
from ecpds.store.codec import load

log = get_logger(__name__)

BATCH = 500
PAUSE = timedelta(milliseconds=300)  # between two looks; lines are late by no more


class EventFile:
    """One rotated file of lines."""

    def __init__(self, path: Path, *, rotate_size: int, keep: int) -> None:
        self.path = path
        self._rotate_size = rotate_size
        self._keep = keep

    def append(self, lines: Sequence[str]) -> None:
        """Add lines durably; rotate first when the file is large."""
        if not lines:
            return
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > self._rotate_size:
            self._rotate()
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = (
                self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            )
            if newer.exists():
                newer.replace(older)


class EventLog:
    """Turns event rows into lines."""

    def __init__(self, core: Core) -> None:
        self._core = core
        settings = core.settings.events
        self._classic = self._file(settings.classic)
        self._json = self._file(settings.json)
        self._seen = -1
        self._one_at_a_time = asyncio.Lock()

    def _file(self, text: str) -> EventFile | None:
        if not text or text == "off":
            return None
        settings = self._core.settings.events
        path = Path(text) if Path(text).is_absolute() else self._core.settings.data_dir / text
        return EventFile(path, rotate_size=settings.rotate_size, keep=settings.keep_files)

    async def run(self) -> None:
        """Write what is new, until cancelled."""
        while True:
            if self._core.store.batches != self._seen:
                self._seen = self._core.store.batches
                await self.drain()
            await self._core.clock.sleep(PAUSE)

    async def drain(self) -> None:
        """Write everything that is committed now."""
        async with self._one_at_a_time:
            while rows := await self._core.store.read(history.unwritten, limit=BATCH):
                await self._write_rows(rows)

    async def _write_rows(self, rows: Sequence[tuple[int, str]]) -> None:
        records = await self._core.threads.run("disk", self._write, [text for _, text in rows])
        self._core.failpoints.hit("eventlog.written")
        await self._core.store.write_aside(history.written, rows[-1][0])
        self._core.metrics.events_written.inc(len(rows))
        for record in records:
            name = record.get("destination", {}).get("name", "")
            self._core.bus.tell("event", record["id"], destination=name)

    def _write(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = [load(text) for text in texts]
        if self._classic is not None:
            lines = [line for record in records if (line := classic(record)) is not None]
            self._classic.append(lines)
        if self._json is not None:
            self._json.append(texts)
        return records
