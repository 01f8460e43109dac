"""One writer thread with group commit, a few readers beside it, and the registry of statements.

Callers hand plain functions to `write`; the writer runs all that wait in one transaction and
commits once.  When one of them fails, the batch is undone and run again with a savepoint around
each, so that a failure undoes only itself: such a function may change nothing but the store, as
it may run twice.  A second thread syncs the
write-ahead log for all batches committed meanwhile and answers their callers, so that the next
transaction runs while the disk works.  What `synchronous=FULL` does after each commit is done here
for many commits at once; a commit survives a crash of the process even before that.
Source of the numbers: docs/decisions/0002-store.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from ecpds.base.failpoints import Failpoints
from ecpds.model.errors import InputError, StoreError
from ecpds.store.gather import Gathering
from ecpds.store.statement import Statement, statement

__all__ = ["Connection", "Row", "Statement", "Store", "statement"]

P = ParamSpec("P")
T = TypeVar("T")

Connection = sqlite3.Connection
Row = sqlite3.Row
C = TypeVar("C", bound=sqlite3.Connection)

TOO_LARGE = "a number has more than 63 bits"  # SQLite takes no larger one
BATCH_CALLS = 256
BATCH_SECONDS = 0.002  # longest collecting time of one batch
LINGER_SECONDS = 0.001  # a busy writer waits so long for one more call before it commits


class _Call:
    __slots__ = (
        "alone", "args", "aside", "durable", "error", "fn", "future", "kwargs", "loop", "result",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: asyncio.Future[Any],
        *,
        alone: bool = False,
        durable: bool = True,
        aside: bool = False,
    ) -> None:
        self.alone = alone
        self.aside = aside
        self.durable = durable
        self.fn, self.args, self.kwargs, self.future = fn, args, kwargs, future
        self.loop = future.get_loop()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():  # the caller was cancelled
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Store:
    """The open metadata store of one node."""

    def __init__(
        self,
        path: Path,
        *,
        readers: int = 4,
        durability: Literal["full", "normal"] = "full",
        failpoints: Failpoints | None = None,
    ) -> None:
        self.path = path
        self._durability = durability
        self._failpoints = failpoints or Failpoints()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._here: Connection | None = None  # the event loop's own, for `glance`
        self._opened: list[Connection] = []
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="ecpds-reader")
        self._broken: BaseException | None = None
        self._closed = False
        self._aside: _Call | None = None  # to be run alone, after the batch it interrupted
        self.batches = 0
        self.changes = 0  # batches that may have changed more than histories, events and counters
        self.writes = 0
        self.busy_seconds = 0.0
        self._writer = threading.Thread(target=self._write_all, name="ecpds-writer", daemon=True)
        self._db: Gathering | None = None  # the writer's own, opened by its thread
        self._busy = False  # the last batch had more than two calls
        self._ended = False  # the end was met behind a batch
        self._committed: queue.SimpleQueue[list[_Call] | None] = queue.SimpleQueue()
        self._syncer = threading.Thread(target=self._sync_all, name="ecpds-syncer", daemon=True)
        self._writer.start()
        self._syncer.start()

    def connect(self, *, read_only: bool = False) -> Connection:
        """Open one more connection with the settings of this store."""
        return self._connect(sqlite3.Connection, read_only=read_only)

    def _connect(self, factory: type[C], *, read_only: bool = False) -> C:
        db = sqlite3.connect(
            self.path,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            factory=factory,
        )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # the log is synced by `_sync_all`
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -16384")
        db.execute("PRAGMA journal_size_limit = 67108864")
        if read_only:
            db.execute("PRAGMA query_only = ON")
        return db

    @property
    def waiting(self) -> int:
        """Return how many writes wait for the writer."""
        return self._calls.qsize()

    async def write(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn(db, …)` in the next transaction; return its result once it is on disk.

        An error of `fn` undoes what it did and is raised here.  A cancelled caller does not undo.
        """
        result: T = await self._call(fn, args, kwargs, durable=True)
        return result

    async def write_lazily(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `write`, but answer after the commit: a power cut may undo it, a crash cannot.

        For claims and counters: after a power cut the work is simply done again.
        """
        result: T = await self._call(fn, args, kwargs, durable=False)
        return result

    async def write_aside(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `write_lazily` with what changes histories, events and counters only."""
        result: T = await self._call(fn, args, kwargs, durable=False, aside=True)
        return result

    def _call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        durable: bool,
        aside: bool = False,
    ) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreError("the store is closed")
        if self._broken is not None:
            raise StoreError(f"the store cannot be written: {self._broken}")
        future = asyncio.get_running_loop().create_future()
        durable = durable and self._durability == "full"
        self._calls.put(_Call(fn, args, kwargs, future, durable=durable, aside=aside))
        return future

    async def aclose(self) -> None:
        """Close without holding up the loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    async def call_alone(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on the writer outside any transaction, for migrations."""
        future = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(fn, (), {}, future, alone=True))
        result: T = await future
        return result

    async def read(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn(db, …)` on a reader; it sees everything committed before."""
        if self._closed:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read_here, fn, args, kwargs)

    def glance(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn(db, …)` here in the loop: a look-up by key, a few rows, never a scan.

        A hand-over to a reader takes longer than that, and many times longer on a busy machine.
        A reader of the write-ahead log waits for nobody.
        """
        if self._here is None:
            if self._closed:
                raise StoreError("the store is closed")
            self._here = self.connect(read_only=True)
            with self._lock:
                self._opened.append(self._here)
        return fn(self._here, *args, **kwargs)

    def _read_here(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        db = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = self.connect(read_only=True)
            with self._lock:
                self._opened.append(db)
        try:
            return fn(db, *args, **kwargs)
        except OverflowError as error:
            raise InputError(TOO_LARGE) from error

    def _write_all(self) -> None:
        try:
            self._db = self._connect(Gathering)
        except sqlite3.Error as error:
            self._broken = error
        while not self._ended and (first := self._next()) is not None:
            batch = [first]
            begun = time.perf_counter()
            if self._db is None:
                first.error = StoreError(f"{self.path} cannot be opened: {self._broken}")
            elif first.alone:
                self._run_alone(self._db, first)
            else:
                self._write_batch(self._db, batch, begun)
            self.batches += 1
            self.writes += len(batch)
            if not all(call.aside for call in batch):
                self.changes += 1
            self.busy_seconds += time.perf_counter() - begun
            self._answer([call for call in batch if not call.durable])
            if durable := [call for call in batch if call.durable]:
                self._committed.put(durable)
        self._committed.put(None)
        self._syncer.join()
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()

    def _sync_all(self) -> None:
        """Sync the log for all that was committed meanwhile, then answer."""
        log = -1
        ended = False
        while not ended and (first := self._committed.get()) is not None:
            calls = list(first)
            with contextlib.suppress(queue.Empty):
                while (more := self._committed.get_nowait()) is not None:
                    calls += more
                ended = True
            try:
                if log < 0:
                    log = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
                os.fdatasync(log)
            except OSError as error:
                self._broken = error
                for call in calls:
                    call.error = call.error or StoreError(f"the log cannot be synced: {error}")
            self._answer(calls)
        if log >= 0:
            os.close(log)

    def _next(self) -> _Call | None:
        aside, self._aside = self._aside, None
        return aside or self._calls.get()

    @staticmethod
    def _run_alone(db: Connection, call: _Call) -> None:
        try:
            call.result = call.fn(db)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            call.error = error

    def _write_batch(self, db: Gathering, batch: list[_Call], begun: float) -> None:
        """Run the calls that wait in one transaction."""
        try:
            db.execute("BEGIN IMMEDIATE")
            if not self._run_together(db, batch, begun):
                db.execute("ROLLBACK")
                db.execute("BEGIN IMMEDIATE")
                for call in batch:
                    _run_apart(db, call)
            self._failpoints.hit("store.before_commit")
            db.execute("COMMIT")
            self._failpoints.hit("store.after_commit")
        except BaseException as error:  # noqa: BLE001 - everybody in the batch must hear of it
            db.forget()
            self._undo(db, error, batch)

    def _run_together(self, db: Gathering, batch: list[_Call], begun: float) -> bool:
        """Run calls while there are some; False when one fails, then all must be undone."""
        linger = LINGER_SECONDS if self._busy else 0.0
        whole = _run(db, batch[0])
        while len(batch) < BATCH_CALLS and time.perf_counter() - begun < BATCH_SECONDS:
            try:
                call = self._calls.get(timeout=linger) if linger else self._calls.get_nowait()
            except queue.Empty:
                break
            if call is None or call.alone:
                self._ended = call is None
                self._aside = call
                break
            batch.append(call)
            whole = whole and _run(db, call)
        self._busy = len(batch) > 2
        return whole and _flush(db)

    @staticmethod
    def _undo(db: Connection, error: BaseException, batch: list[_Call]) -> None:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        failure = StoreError(f"the store could not commit: {error}")
        failure.__cause__ = error
        for call in batch:
            call.error = call.error or failure

    @staticmethod
    def _answer(batch: list[_Call]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        for call in batch:
            by_loop.setdefault(call.loop, []).append(call)
        for loop, calls in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is gone, nobody waits
                loop.call_soon_threadsafe(_settle, calls)

    def close(self) -> None:
        """Finish the writes that wait, checkpoint and close; blocks; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._calls.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        self._here = None
        for db in self._opened:
            db.close()


def _run(db: Gathering, call: _Call) -> bool:
    """Run one call; False when it failed."""
    try:
        call.result = call.fn(db, *call.args, **call.kwargs)
    except BaseException:  # noqa: BLE001 - it is run again, apart, and heard of there
        db.forget()
        return False
    return True


def _run_apart(db: Gathering, call: _Call) -> None:
    """Run one call so that its failure undoes only itself."""
    db.execute("SAVEPOINT one")
    try:
        call.result = call.fn(db, *call.args, **call.kwargs)
        db.flush()
    except BaseException as error:  # noqa: BLE001 - it belongs to the caller
        call.error = InputError(TOO_LARGE) if isinstance(error, OverflowError) else error
        db.forget()
        db.execute("ROLLBACK TO one")
    db.execute("RELEASE one")


def _flush(db: Gathering) -> bool:
    """Write what was gathered; False when a row is refused."""
    try:
        db.flush()
    except sqlite3.Error:
        db.forget()
        return False
    return True


def _settle(calls: list[_Call]) -> None:
    for call in calls:
        call.settle()
