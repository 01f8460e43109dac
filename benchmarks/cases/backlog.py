"""The queue when a site has been down: 10^4, 10^5 and 10^6 transfers wait.

The transfers are due, spread over destinations whose only host refuses connections. Rows are
written with the store's own statements; a million submissions would take the whole ten minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach, percentile
from benchmarks.node import Node
from benchmarks.scene import SMALL, Scene, fresh
from ecpds.base.clock import SystemClock
from ecpds.model.status import TransferStatus
from ecpds.store import claims, files, transfers
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection, Store

SIZES = (10_000, 100_000, 1_000_000)
DESTINATIONS = 100
CLAIMS = 1000
RUNNING_FOR = 10.0
"""Seconds between ready and the look at the memory."""
MEGABYTE = 1_000_000

HOST = """\
[[hosts]]
name = "down"
role = "dissemination"
method = "genericFtp"
host = "127.0.0.1"
login = "nobody"
password = "nothing"
directory = "/in/"
max_connections = 4
[hosts.options]
"ftp.port" = 1
"""

DESTINATION = """\
[[destinations]]
name = "{name}"
max_connections = 4
max_pending = 0
hosts = ["down"]
"""


@dataclass(slots=True, kw_only=True)
class Backlog:
    """One size of the queue; measured once, asked for several rows."""

    folder: Path
    count: int
    destinations: int = DESTINATIONS
    running_for: float = RUNNING_FOR
    figures: dict[str, float] = field(default_factory=dict)
    failure: MeasurementFailed | None = None

    async def figure(self, name: str) -> float:
        """Return `ready` (s), `rss`, `pss` (MB), `p50` or `p99` (ms)."""
        if not self.figures and self.failure is None:
            try:
                await self._measure()
            except MeasurementFailed as error:
                self.failure = error
        if self.failure is not None:
            raise self.failure
        return self.figures[name]

    async def _measure(self) -> None:
        node = Node.create(self.folder / f"queue-{self.count}-{self.destinations}")
        names = _names(self.destinations)
        try:
            await node.start()
            await node.apply(HOST + "".join(DESTINATION.format(name=each) for each in names))
            await node.stop()
            database = node.data / "ecpds.db"
            await asyncio.to_thread(load, database, self.count, names)
            waits = await claim_times(database, names)
            ready = await node.start()
            await asyncio.sleep(self.running_for)
            used = node.memory()
        finally:
            await node.stop()
        self.figures = {
            "ready": ready,
            "rss": used.rss / MEGABYTE,
            "pss": used.pss / MEGABYTE,
            "p50": percentile(waits, 0.5) * 1000,
            "p99": percentile(waits, 0.99) * 1000,
        }


def _names(count: int) -> list[str]:
    return [f"Q{number:03}" for number in range(count)]


def load(database: Path, count: int, names: Sequence[str]) -> None:
    """Add `count` data files, each with one transfer that has been due for a minute."""
    store = Store(database, readers=1, durability="normal")
    try:
        db = store.connect()
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("BEGIN IMMEDIATE")
        first = _next_file(db)
        db.executemany(files.INSERT.sql, _files(count))
        db.executemany(transfers.INSERT.sql, _transfers(count, first, names))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    finally:
        store.close()


def _next_file(db: Connection) -> int:
    row = db.execute("SELECT COALESCE(MAX(id), 0) + 1 AS id FROM data_file").fetchone()
    return int(row["id"])


def _files(count: int) -> Iterator[Mapping[str, object]]:
    arrived = to_micros(SystemClock().now() - timedelta(minutes=2))
    same: dict[str, object] = {
        "size": SMALL,
        "arrived_at": arrived,
        "file_time": arrived,
        "time_base": arrived,
        "time_step": -1,
        "meta_stream": "None",
        "meta_target": "None",
        "meta_time": "00",
        "meta_type": "",
        "group_by": "",
        "host": "",
        "stored": 1,
        "standby": 0,
        "delete_original": 0,
        "caller": "bench",
        "submitter": "bench",
        "submitted_from": "",
        "checksum": "00000001",
        "volume": "default",
        "instance": None,
        "get_started_at": None,
        "get_duration": None,
        "remote_host": "",
    }
    for number in range(count):
        name = f"product-{number:07}.bin"
        yield same | {"original": name, "source": name, "object_key": f"none/{number:07}"}


def _transfers(count: int, first: int, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
    now = SystemClock().now()
    due, created = to_micros(now - timedelta(minutes=1)), to_micros(now - timedelta(minutes=2))
    same: dict[str, object] = {
        "unique_name": "",
        "identity": "",
        "priority": 99,
        "status_by": "",
        "comment": "",
        "status": TransferStatus.WAIT.code,
        "scheduled_at": due,
        "queue_at": due,
        "due_at": due,
        "expires_at": to_micros(now + timedelta(days=2)),
        "created_at": created,
        "changed_at": created,
        "asap": 0,
        "event": 0,
        "temporary": 0,
        "is_alias": 0,
    }
    for number in range(count):
        name, target = names[number % len(names)], f"product-{number:07}.bin"
        own = {"destination": name, "key_destination": name, "target": target}
        yield same | own | {"key_target": target, "data_file": first + number}


async def claim_times(database: Path, names: Sequence[str]) -> list[float]:
    """Claim CLAIMS transfers one after the other; return the seconds of each, commit included."""
    store = Store(database)
    clock, waits = SystemClock(), []
    try:
        for number in range(CLAIMS):
            began = time.monotonic()
            await store.write(
                claims.claim_due, names[number % len(names)], now=clock.now(), limit=1
            )
            waits.append(time.monotonic() - began)
    finally:
        await asyncio.to_thread(store.close)
    return waits


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Without the daemon there is nothing to compare."""
    yield _rows(fresh(scene.work / "queue")) if scene.ours else []


def _rows(folder: Path) -> list[Comparison]:
    rows = []
    queues = {count: Backlog(folder=folder, count=count) for count in SIZES}
    for count, queue in queues.items():
        last = count == SIZES[-1]
        rows += [
            _row(count, queue, "start to ready", "s", "ready", Reach(limit=5) if last else None),
            _row(count, queue, "claim, median", "ms", "p50", None),
            _row(count, queue, "claim, 99 %", "ms", "p99", Reach(limit=10) if last else None),
            _row(count, queue, "resident memory", "MB", "rss", Reach(limit=500) if last else None),
        ]
    before, largest = queues[SIZES[-2]], queues[SIZES[-1]]

    async def growth(number: int) -> Mapping[str, float]:
        return {US: await largest.figure("rss") / await before.figure("rss")}

    rows.append(
        _comparison("memory, 1,000,000 beside 100,000", "x", growth, reach=Reach(limit=1.2))
    )
    return rows


def _row(
    count: int, queue: Backlog, what: str, unit: str, figure: str, reach: Reach | None
) -> Comparison:
    async def run(number: int) -> Mapping[str, float]:
        return {US: await queue.figure(figure)}

    return _comparison(f"{count:,} queued: {what}", unit, run, reach=reach)


def _comparison(work: str, unit: str, run: object, *, reach: Reach | None) -> Comparison:
    return Comparison(
        case="queue",
        work=work,
        unit=unit,
        contenders=[Contender(name=US, run=run)],  # type: ignore[arg-type] # a coroutine function
        better="lower",
        reach=reach,
        rounds=1,
    )
