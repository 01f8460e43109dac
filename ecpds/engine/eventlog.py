"""Writes committed events to the event files, classic and JSON, in their order.

Events are rows of the transaction that they tell of; here they become lines, are synced, and only
then marked as written.  A crash may repeat lines but never loses one.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
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
    """One file of lines, rotated by size and at fixed times, old ones compressed if wanted."""

    def __init__(
        self,
        path: Path,
        *,
        rotate_size: int,
        keep: int,
        every: timedelta = timedelta(0),
        compress: bool = False,
    ) -> None:
        """`every`: length of the periods since 1970, UTC, that have files of their own; 0: none."""
        self.path = path
        self._rotate_size = rotate_size
        self._keep = keep
        self._every = int(every.total_seconds())
        self._compress = compress

    def append(self, lines: Sequence[str], now: datetime) -> None:
        """Add lines durably; rotate first when the file is large or of another period.

        The file is opened for each call: whoever moved it away gets no more lines.
        """
        if not lines:
            return
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self.path.exists() and self._is_over(self.path.stat(), now):
            self._rotate()
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if self._every:
                os.utime(descriptor, (now.timestamp(), now.timestamp()))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _is_over(self, state: os.stat_result, now: datetime) -> bool:
        if state.st_size > self._rotate_size:
            return True
        if not self._every or not state.st_size:
            return False
        return int(state.st_mtime) // self._every != int(now.timestamp()) // self._every

    def _rotate(self) -> None:
        for ending in (".gz", ""):
            self._numbered(self._keep, ending).unlink(missing_ok=True)
            for number in range(self._keep - 1, 0, -1):
                newer = self._numbered(number, ending)
                if newer.exists():
                    newer.replace(self._numbered(number + 1, ending))
        first = self._numbered(1)
        self.path.replace(first)
        if self._compress:
            self._squeeze(first)

    def _numbered(self, number: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{ending}")

    def _squeeze(self, plain: Path) -> None:
        """Compress a file that is complete; it stays plain until its other form is on disk."""
        target = plain.with_name(f"{plain.name}.gz")
        temporary = target.with_name(f".{target.name}.part")
        with plain.open("rb") as source, gzip.open(temporary, "wb", 6) as packed:
            shutil.copyfileobj(source, packed, 1024 * 1024)
        temporary.chmod(0o640)
        temporary.replace(target)
        plain.unlink()


class EventLog:
    """Turns event rows into lines."""

    def __init__(self, core: Core) -> None:
        self._core = core
        settings = core.settings.events
        self._classic = self._file(settings.classic)
        self._json = self._file(settings.json)
        self._types = frozenset(settings.types)  # none: all
        self._seen = -1
        self._one_at_a_time = asyncio.Lock()

    def _file(self, text: str) -> EventFile | None:
        if not text or text == "off":
            return None
        settings = self._core.settings.events
        path = Path(text) if Path(text).is_absolute() else self._core.settings.data_dir / text
        return EventFile(
            path,
            rotate_size=settings.rotate_size,
            keep=settings.keep_files,
            every=settings.rotate_every,
            compress=settings.gzip,
        )

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
        wanted = list(zip(records, texts, strict=True))
        if self._types:
            wanted = [pair for pair in wanted if pair[0]["type"] in self._types]
        now = self._core.clock.now()
        if self._classic is not None:
            lines = [line for record, _ in wanted if (line := classic(record)) is not None]
            self._classic.append(lines, now)
        if self._json is not None:
            self._json.append([text for _, text in wanted], now)
        return records
