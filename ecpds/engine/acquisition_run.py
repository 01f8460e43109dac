"""One discovery: lists what the lines of a Host say, selects, compares with what is known, takes.

Listings are streamed: entries are tested, looked up and taken in batches, so that memory does not
grow with the listing.  What is taken goes to a `Taker`: one registers, the other only tells.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar
from zoneinfo import ZoneInfo

from ecpds.base.logs import get_logger
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.versions import key_of
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import EcpdsError, InputError, RemoteConfig, RemoteError, ScriptError
from ecpds.model.search import Directory, Search
from ecpds.model.selection import Choice, Decision, Known, Outcome, Selector, decide
from ecpds.store import known
from ecpds.store.known import Key, KnownFile
from ecpds.transfer.contract import TransferModule
from ecpds.transfer.options import style_of

log = get_logger(__name__)

BATCH: Final = 500  # entries tested before the store is asked
MOST_SEEN: Final = 200_000  # entries whose stability is remembered
MOST_FOLDERS: Final = 100_000  # directories of one line that wait to be listed
MOST_WATCHED: Final = 10_000  # directories that a run reports for watching
MOST_LOTS: Final = 8  # taken at a time with listParallel; the store has one writer
TURN: Final = 2000  # rejected entries after which others get a turn of the loop


@dataclass(slots=True)
class Run:
    """Counts and messages of one discovery."""

    started_at: datetime
    listed: int = 0
    selected: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    folders: list[tuple[Search, str, str]] = field(default_factory=list)  # line, below, full path
    is_partial: bool = False  # only of names that a watch has told
    was_connected: bool = False

    def count(self, outcome: str, times: int = 1) -> None:
        """Count entries that ended so."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + times

    def error(self, text: str) -> None:
        """Keep the first messages."""
        if len(self.errors) < 20:
            self.errors.append(text)

    def visited(self, search: Search, below: str, path: str) -> None:
        """Keep the directories that were listed."""
        if len(self.folders) < MOST_WATCHED:
            self.folders.append((search, below, path))


@dataclass(frozen=True, slots=True)
class Decided:
    """A selected entry and what is to be done with it; `number` is its place in the listing."""

    number: int
    choice: Choice
    decision: Decision
    why: str
    key: Key
    known: KnownFile | None


class Taker(ABC):
    """What becomes of the entries of a run."""

    wants_known: ClassVar[bool] = False  # to be told of files that are known, one by one

    @abstractmethod
    def rejected(self, number: int, choice: Choice, search: Search, run: Run) -> None:
        """Be told of an entry that was not selected."""

    @abstractmethod
    async def take(
        self,
        decided: Sequence[Decided],
        search: Search,
        run: Run,
        module: TransferModule[Any] | None = None,
    ) -> None:
        """Take a batch of selected entries of action `queue`; `module` has listed them."""

    @abstractmethod
    async def delete(
        self, module: TransferModule[Any], chosen: Sequence[tuple[int, Choice]], run: Run
    ) -> None:
        """Delete a batch of selected entries at their source."""


class Stability:
    """Remembers since when files look as they do; two generations, in bounded memory."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[int, datetime]] = {}
        self._seen: dict[int, tuple[int, datetime]] = {}

    def turn(self) -> None:
        """Begin a run: what the last one saw is compared with, older things are forgotten."""
        self._before, self._seen = self._seen, {}

    def is_stable(self, choice: Choice, search: Search, now: datetime) -> bool:
        """Tell whether size and time have not changed for `stable`, or the file is that old."""
        wanted, found = search.options.stable, choice.entry
        if wanted is None or (found.mtime is not None and now - found.mtime >= wanted):
            return True
        name, look = _mark(choice.original), hash((found.size, found.mtime))
        known = self._seen.get(name) or self._before.get(name)
        since = known[1] if known is not None and known[0] == look else now
        if len(self._seen) < MOST_SEEN:
            self._seen[name] = (look, since)
        return now - since >= wanted


def _mark(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


class Discovery:
    """One run of one Destination at one Host."""

    def __init__(
        self,
        core: Core,
        entry: DestinationEntry,
        host: HostEntry,
        taker: Taker,
        *,
        stability: Stability | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self._core = core
        self._entry = entry
        self._host = host
        self._taker = taker
        self._stability = stability
        self._goes_on = goes_on
        self._now = core.clock.now()

    async def directory(self) -> Directory:
        """Return the compiled lines of the Host; those of a script come from running it."""
        return await lines_of(self._core, self._host)

    async def run(self, run: Run) -> None:
        """Go through all lines; what fails with one of them is noted and the next one begins.

        Raises RemoteError when no session can be had.
        """
        if self._host.access is None:
            raise RemoteConfig(self._host.problem)
        directory = await self.directory()
        if self._stability is not None:
            self._stability.turn()
        async with self._core.pool.session(self._host.access) as module:
            run.was_connected = True
            for line in directory.lines:
                if not self._goes_on():
                    run.error("the destination was stopped")
                    return
                try:
                    search = line.at(self._now)
                    await self._one_line(search, entries_below(module, search, run), module, run)
                except (InputError, RemoteError) as error:
                    run.error(f"line {line.number}: {error.message}")
                    log.warning("line failed", line=line.number, reason=error.message)
                    if isinstance(error, RemoteError) and not await module.alive():
                        raise

    async def run_names(self, names: Sequence[tuple[Search, str]], run: Run) -> None:
        """Go through single names, relative to the path of their line."""
        if self._host.access is None:
            raise RemoteConfig(self._host.problem)
        async with self._core.pool.session(self._host.access) as module:
            run.was_connected = True
            by_line: dict[int, tuple[Search, list[str]]] = {}
            for search, name in names:
                by_line.setdefault(search.line.number, (search, []))[1].append(name)
            for search, found in by_line.values():
                await self._one_line(search, named_entries(module, search, found), module, run)

    async def run_entries(self, search: Search, entries: AsyncIterator[Entry], run: Run) -> None:
        """Go through entries that came from elsewhere."""
        await self._one_line(search, entries, None, run)

    async def _one_line(
        self,
        search: Search,
        entries: AsyncIterator[Entry],
        module: TransferModule[Any] | None,
        run: Run,
    ) -> None:
        options = self._host.acquisition
        size = BATCH if options.list_synchronous else 1
        if not options.list_parallel or search.options.action == "delete":

            async def taken(batch: Sequence[tuple[int, Choice]]) -> None:
                await self._batch(search, batch, module, run)

            await self._listed(search, entries, run, size, taken)
            return
        slots = asyncio.Semaphore(min(options.list_max_threads, MOST_LOTS))

        async def one(batch: Sequence[tuple[int, Choice]]) -> None:
            try:
                await self._batch(search, batch, module, run)
            finally:
                slots.release()

        async def begun(batch: Sequence[tuple[int, Choice]]) -> None:
            await slots.acquire()
            group.create_task(one(batch), name=f"lot {self._host.name}")

        try:
            async with asyncio.TaskGroup() as group:
                size = min(size, options.list_max_waiting)
                await self._listed(search, entries, run, size, begun)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _listed(
        self,
        search: Search,
        entries: AsyncIterator[Entry],
        run: Run,
        size: int,
        take: Callable[[Sequence[tuple[int, Choice]]], Awaitable[None]],
    ) -> None:
        """Test all entries; give those that are selected to `take`, in lots of `size`."""
        selector = Selector(search, self._entry.name)
        batch: list[tuple[int, Choice]] = []
        async with closed(entries):
            async for found in entries:
                run.listed += 1
                choice = selector.test(found)
                if choice.is_selected and not self._is_stable(choice, search):
                    choice = replace(choice, outcome=Outcome.WRONG_AGE, reason=_FRESH)
                if not choice.is_selected:
                    self._taker.rejected(run.listed, choice, search, run)
                    if not run.listed % TURN:
                        await asyncio.sleep(0)
                    continue
                batch.append((run.listed, choice))
                if len(batch) >= size:
                    await take(batch)
                    batch = []
        if batch:
            await take(batch)

    def _is_stable(self, choice: Choice, search: Search) -> bool:
        if search.options.stable is None:
            return True
        stability = self._stability or Stability()
        return stability.is_stable(choice, search, self._core.clock.now())

    async def _batch(
        self,
        search: Search,
        batch: Sequence[tuple[int, Choice]],
        module: TransferModule[Any] | None,
        run: Run,
    ) -> None:
        if search.options.action == "delete":
            if module is not None:
                await self._taker.delete(module, batch, run)
            return
        await self._taker.take(await self._decided(search, batch, run), search, run, module)

    async def _decided(
        self, search: Search, batch: Sequence[tuple[int, Choice]], run: Run
    ) -> list[Decided]:
        keys = self._keys(batch)
        found = await self._core.store.read(known.known, self._entry.name, keys)
        if self._all_known(search, batch, found):
            run.count(Decision.EXISTS.value, len(batch))  # most batches of most runs
            return []
        decided = []
        for (number, choice), key in zip(batch, keys, strict=True):
            file = found.get(key)
            stored = None
            if file is not None:
                stored = Known(size=file.size, mtime=file.file_time, has_failed=file.has_failed)
            decision, why = decide(search.rules.requeue, stored, choice, self._entry.name)
            decided.append(Decided(number, choice, decision, why, key, file))
        return decided

    def _all_known(
        self, search: Search, batch: Sequence[object], found: Mapping[Key, KnownFile]
    ) -> bool:
        """Tell whether nothing is to be done about a batch, nor to be told of it."""
        if self._taker.wants_known or search.rules.requeue is not None:
            return False
        return len(found) == len(batch) and not any(file.has_failed for file in found.values())

    def _keys(self, batch: Sequence[tuple[int, Choice]]) -> list[Key]:
        entry = self._entry
        if entry.force is None and not entry.scheduler.version:
            return [(entry.name, choice.target, choice.unique_name) for _, choice in batch]
        return [self._key(choice) for _, choice in batch]

    def _key(self, choice: Choice) -> Key:
        scheduler = self._entry.scheduler
        return key_of(
            self._entry.name,
            choice.target,
            unique_name=choice.unique_name,
            version=self._entry.version_rule(self._entry.forced(choice.target)),
            original=choice.original,
            file_time=choice.entry.mtime,
            date_format=scheduler.date_format,
            now=self._now,
        )


# --- lines ---------------------------------------------------------------------------------------


async def lines_of(core: Core, host: HostEntry) -> Directory:
    """Compile the directory text of a Host; run it if it is a script.

    Errors stay with their lines; raises ScriptError when a script fails.
    """
    zone = ZoneInfo(core.settings.node.timezone)
    values, legacy = host_tokens(host), "directory" in host.host.legacy
    directory = parse_directory(
        host.host.directory, host.host.options, tokens=values, zone=zone, legacy=legacy
    )
    if directory.script is None:
        return directory
    script = directory.script
    found = await core.scripts.run(script.language, script.source(values), values)
    directory = parse_directory(
        found.text, host.host.options, tokens=values, zone=zone, legacy=legacy
    )
    if directory.script is not None:
        raise ScriptError("the script of the directory returned a script")
    return directory


def host_tokens(host: HostEntry) -> dict[str, str]:
    """Return the values of `$host[…]` in a directory text; no secret among them."""
    one = host.host
    return {
        "host[name]": str(one.id),
        "host[comment]": one.comment,
        "host[host]": one.host,
        "host[login]": one.login,
        "host[userMail]": one.user_mail,
        "host[networkCode]": one.network_code,
        "host[networkName]": one.network_name,
        "host[nickname]": one.name,
        "transferMethod[name]": one.method,
        "ectransModule[name]": host.access.module.name if host.access else "",
    }


_FRESH: Final = "may still be written"
E = TypeVar("E")


@asynccontextmanager
async def closed(entries: AsyncIterator[E]) -> AsyncIterator[AsyncIterator[E]]:
    """Close a generator when the block is left, not when somebody collects it some day."""
    try:
        yield entries
    finally:
        if isinstance(entries, AsyncGenerator):
            await entries.aclose()


# --- entries -------------------------------------------------------------------------------------


async def entries_below(
    module: TransferModule[Any], search: Search, run: Run
) -> AsyncIterator[Entry]:
    """Yield the entries of a line's path, and of the directories below it as far as it says.

    A directory whose name is excluded is not entered.  One below that cannot be listed is an entry
    with an error; the path itself raises.
    """
    waiting = deque([("", search.options.recursive)])
    while waiting:
        if len(waiting) > MOST_FOLDERS:
            raise RemoteConfig(f"more than {MOST_FOLDERS} directories wait")
        below, depth = waiting.popleft()
        path = f"{search.path.rstrip('/')}/{below}" if below else search.path
        run.visited(search, below, path)
        try:
            async with closed(_entries_in(module, search, path, depth)) as entries:
                async for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if entry.kind is not Kind.DIRECTORY or not depth:
                        yield replace(entry, name=name) if below else entry
                    elif not _is_excluded(search, name):
                        waiting.append((name, depth - 1))
        except RemoteError as error:
            if not below or isinstance(error, RemoteConfig) or not await module.alive():
                raise
            yield Entry(kind=Kind.DIRECTORY, name=below, error=error.message)


async def _entries_in(
    module: TransferModule[Any], search: Search, path: str, depth: int
) -> AsyncIterator[Entry]:
    """Yield what passes the filters near the source, and directories that may be entered."""
    wildcard = search.listed.removeprefix(search.path)
    module.listing = style_of(search.options)
    async with closed(module.list(path, filter_text="" if depth else wildcard)) as entries:
        async for entry in entries:
            if depth and entry.kind is Kind.DIRECTORY:
                if entry.name not in {".", ".."}:
                    yield entry
            elif _is_near(search, entry, wildcard if depth else ""):
                yield entry


def _is_excluded(search: Search, name: str) -> bool:
    exclude = search.rules.exclude
    return exclude is not None and exclude.fullmatch(name) is not None


def _is_near(search: Search, entry: Entry, wildcard: str) -> bool:
    """Tell whether an entry passes what the line filters near the source."""
    if wildcard and not matches(wildcard, entry.name):
        return False
    return search.name_filter is None or search.name_filter.fullmatch(entry.name) is not None


def matches(wildcard: str, name: str) -> bool:
    """Tell whether a name matches a wildcardFilter, as servers do."""
    return fnmatch.fnmatchcase(name, wildcard.lstrip("/") or "*")


async def named_entries(
    module: TransferModule[Any], search: Search, names: Sequence[str]
) -> AsyncIterator[Entry]:
    """Yield what single names are now; those that are gone are passed over."""
    wildcard = search.listed.removeprefix(search.path)
    for name in names:
        base = name.rpartition("/")[2]
        try:
            entry = await module.stat(f"{search.path.rstrip('/')}/{name}")
        except EcpdsError:
            continue  # renamed or removed meanwhile; the sweep comes anyway
        near = replace(entry, name=base)
        if _is_near(search, near, wildcard):
            yield replace(entry, name=name)
