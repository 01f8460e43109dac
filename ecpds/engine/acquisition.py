"""Discovery: lists an acquisition Host for a Destination and registers what its lines select.

One scheduler for each pair of Destination and Host, with a clock of its own that counts from the
end of a run.  Listings are streamed: entries are tested, looked up and registered in batches, so
that memory does not grow with the listing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ecpds.base.logs import get_logger, log_context
from ecpds.engine.core import Core, DestinationEntry, HostEntry
from ecpds.engine.submit import OnDuplicate, Plan, Registered, Submission, plan, register
from ecpds.engine.versions import key_of
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import EcpdsError, InputError, RemoteConfig
from ecpds.model.metadata import parse_metadata
from ecpds.model.search import Search
from ecpds.model.selection import Choice, Decision, Known, Outcome, Selector, decide
from ecpds.model.status import StoredState, TransferStatus
from ecpds.objects.directory import Stored
from ecpds.store import files, history, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import TransferModule

log = get_logger(__name__)

BATCH = 500  # entries tested before the store is asked
BOUND = 100_000  # entries whose stability is remembered
RETRY_PAUSE = timedelta(seconds=30)  # after a run that could not list at all, if it is shorter

ON_DUPLICATE: dict[Decision, OnDuplicate] = {
    Decision.REGISTER: "skip",
    Decision.FORCE: "overwrite",
    Decision.FAILED_ONLY: "failed_only",
}


@dataclass(slots=True)
class Run:
    """Counts and messages of one discovery."""

    started_at: datetime
    listed: int = 0
    selected: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        """Count an entry that ended so."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def error(self, text: str) -> None:
        """Keep the first messages."""
        if len(self.errors) < 20:
            self.errors.append(text)


class AcquisitionScheduler:
    """The discoveries of one Destination at one Host."""

    def __init__(
        self,
        core: Core,
        name: str,
        host: str,
        *,
        slots: asyncio.Semaphore,
        submitted: Callable[[Registered], None],
    ) -> None:
        self.name = name
        self.host = host
        self.is_running = False
        self.last: Run | None = None
        self._core = core
        self._slots = slots
        self._submitted = submitted
        self._wake = asyncio.Event()
        self._now = False
        self._draining = False
        self._seen: dict[str, tuple[int | None, datetime | None, datetime]] = {}

    def poke(self) -> None:
        """Look at the clock and the configuration."""
        self._wake.set()

    def run_now(self) -> None:
        """Start a discovery as soon as possible, whatever the clock says."""
        self._now = True
        self._wake.set()

    def drain(self) -> None:
        """Start nothing any more."""
        self._draining = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled or drained."""
        clock = self._core.clock
        last = await self._core.store.read(history.clock, self.name, self.host)
        finished = last.finished_at
        while not self._draining:
            self._wake.clear()
            due = self._due(finished)
            if due is None or due > clock.now():
                await clock.wait(self._wake, due)
                continue
            self._now = False
            async with self._slots:
                await self._discover()
            finished = clock.now()

    def _due(self, finished: datetime | None) -> datetime | None:
        entry = self._core.snapshot.destinations.get(self.name)
        host = self._core.snapshot.hosts.get(self.host)
        if entry is None or host is None or entry.state is StoredState.STOP:
            return None
        now = self._core.clock.now()
        if finished is None or self._now:
            return now
        return finished + host.host.acquisition_frequency

    async def _discover(self) -> None:
        entry = self._core.snapshot.destination(self.name)
        host = self._core.snapshot.host(self.host)
        run = Run(self._core.clock.now())
        self.is_running, self.last = True, run
        with log_context(destination=self.name, host=self.host):
            try:
                await self._limited(entry, host, run)
            except (EcpdsError, OSError, TimeoutError) as error:
                run.error(str(error) or "time is over")
                log.warning("discovery failed", reason=str(error) or type(error).__name__)
            finally:
                self.is_running = False
        await self._finished(run)

    async def _limited(self, entry: DestinationEntry, host: HostEntry, run: Run) -> None:
        options = host.acquisition
        limit = options.maximum_duration if options.interrupt_slow else None
        async with asyncio.timeout(limit.total_seconds() if limit else None):
            await self._all_lines(entry, host, run)

    async def _finished(self, run: Run) -> None:
        now = self._core.clock.now()
        outcome = "failed" if run.errors else "ok"
        clock = history.AcquisitionClock(
            started_at=run.started_at,
            finished_at=now,
            listed=run.listed,
            selected=run.selected,
            outcome=outcome,
            message="; ".join(run.errors)[:2000],
        )
        await self._core.store.write(history.set_clock, self.name, self.host, clock)
        self._core.metrics.acquisition_runs.labels(self.host, outcome).inc()
        for word, count in run.outcomes.items():
            self._core.metrics.acquisition_files.labels(self.host, word).inc(count)
        self._core.bus.tell("host", self.host, destination=self.name)
        if run.selected or run.errors:
            log.info(
                "discovery ended", host=self.host, destination=self.name, listed=run.listed,
                selected=run.selected, errors=len(run.errors),
            )  # fmt: skip

    async def _all_lines(self, entry: DestinationEntry, host: HostEntry, run: Run) -> None:
        if host.access is None:
            raise RemoteConfig(host.problem)
        now = self._core.clock.now()
        directory = parse_directory(
            host.host.directory,
            host.host.options,
            tokens=host_tokens(host),
            zone=ZoneInfo(self._core.settings.node.timezone),
        )
        if directory.script is not None:
            raise RemoteConfig("directory scripts are not run by this release")
        async with self._core.pool.session(host.access) as module:
            for line in directory.lines:
                try:
                    await self._one_line(module, line.at(now), entry, host, run)
                except InputError as error:
                    run.error(f"line {line.number}: {error.message}")
                    log.warning("line failed", line=line.number, reason=error.message)
        self._core.failpoints.hit("acquisition.listed")

    async def _one_line(
        self,
        module: TransferModule[Any],
        search: Search,
        entry: DestinationEntry,
        host: HostEntry,
        run: Run,
    ) -> None:
        selector = Selector(search, entry.name)
        batch: list[Choice] = []
        async for found in entries_below(module, search):
            run.listed += 1
            choice = selector.test(found)
            if choice.is_selected and not self._is_stable(choice, search):
                choice = replace(choice, outcome=Outcome.WRONG_AGE, reason="may still be written")
            if not choice.is_selected:
                run.count(choice.outcome.value)
                continue
            batch.append(choice)
            if len(batch) >= BATCH:
                await self._take(module, search, entry, host, batch, run)
                batch = []
        if batch:
            await self._take(module, search, entry, host, batch, run)

    def _is_stable(self, choice: Choice, search: Search) -> bool:
        wanted = search.options.stable
        if wanted is None:
            return True
        now, found = self._core.clock.now(), choice.entry
        if found.mtime is not None and now - found.mtime >= wanted:
            return True
        size, mtime, since = self._seen.get(choice.original, (None, None, now))
        if (size, mtime) != (found.size, found.mtime):
            since = now
            if len(self._seen) >= BOUND:
                self._seen.clear()
            self._seen[choice.original] = (found.size, found.mtime, now)
        return now - since >= wanted

    async def _take(
        self,
        module: TransferModule[Any],
        search: Search,
        entry: DestinationEntry,
        host: HostEntry,
        batch: Sequence[Choice],
        run: Run,
    ) -> None:
        if search.options.action == "delete":
            await self._delete(module, batch, run)
            return
        keys = [self._key(choice, entry) for choice in batch]
        known = await self._core.store.read(known_files, keys)
        plans = []
        for choice, key in zip(batch, keys, strict=True):
            decision, why = decide(search.rules.requeue, known.get(key), choice, entry.name)
            if decision not in ON_DUPLICATE:
                run.count(decision.value)
                if why:
                    run.error(f"{choice.original}: {why}")
                continue
            made = await self._plan(choice, search, host, ON_DUPLICATE[decision], run)
            if made is not None:
                plans.append(made)
        await self._register(plans, run)

    def _key(self, choice: Choice, entry: DestinationEntry) -> tuple[str, str, str]:
        return key_of(
            entry.name,
            choice.target,
            unique_name=choice.unique_name,
            version=entry.scheduler.version,
            original=choice.original,
            file_time=choice.entry.mtime,
            date_format=entry.scheduler.date_format,
            now=self._core.clock.now(),
        )

    async def _plan(
        self,
        choice: Choice,
        search: Search,
        host: HostEntry,
        on_duplicate: OnDuplicate,
        run: Run,
    ) -> Plan | None:
        options, found = search.options, choice.entry
        try:
            submission = Submission(
                destination=self.name,
                target=choice.target,
                original=choice.original,
                source=choice.original,
                content=await self._inline(found),
                size=-1 if found.size is None else found.size,
                file_time=found.mtime,
                metadata=parse_metadata(choice.metadata, lenient=True),
                priority=options.priority,
                lifetime=options.lifetime,
                standby=options.standby,
                event=options.event,
                no_retrieval=options.no_retrieval,
                unique_name=choice.unique_name,
                group_by=options.group_by or f"ACQ_{self.name}_{host.host.id}",
                host=host.name,
                delete_original=options.delete_original,
                submitter=host.host.login,
                submitted_from=host.host.host,
                on_duplicate=on_duplicate,
                comment=f"Found on {host.name}",
            )
            return plan(submission, self._core.snapshot, self._core.clock.now())
        except EcpdsError as error:
            run.count(Outcome.REGISTRATION_ERROR.value)
            run.error(f"{choice.original}: {error.message}")
            return None

    async def _inline(self, found: Entry) -> Stored | None:
        if found.inline_body is None:
            return None
        upload = self._core.objects.create(len(found.inline_body))
        try:
            upload.write(found.inline_body)
            return await self._core.objects.seal(upload)
        except BaseException:
            upload.discard()
            raise
        finally:
            upload.close()

    async def _register(self, plans: Sequence[Plan], run: Run) -> None:
        if not plans:
            return
        now = self._core.clock.now()
        done, refused = await self._core.store.write(register_all, plans, now=now)
        self._core.failpoints.hit("acquisition.registered")
        names: set[str] = set()
        for registered in done:
            run.count("exists" if registered.skipped else "selected")
            run.selected += not registered.skipped
            names.update(registered.destinations)
        for text in refused:
            run.count(Outcome.REGISTRATION_ERROR.value)
            run.error(text)
        if names:
            first = min((one.expires_at for one in done if one.expires_at), default=None)
            self._submitted(
                Registered(file=0, transfers=(), destinations=tuple(names), expires_at=first)
            )

    async def _delete(self, module: TransferModule[Any], batch: Sequence[Choice], run: Run) -> None:
        for choice in batch:
            try:
                await module.delete(choice.original)
            except EcpdsError as error:
                run.count(Outcome.DELETE_ERROR.value)
                run.error(f"{choice.original}: {error.message}")
            else:
                run.selected += 1
                run.count("deleted")


async def entries_below(module: TransferModule[Any], search: Search) -> AsyncIterator[Entry]:
    """Yield the entries of a line's path, and of the directories below it as far as it says."""
    waiting = [("", search.options.recursive)]
    wildcard = search.listed.removeprefix(search.path)
    while waiting:
        below, depth = waiting.pop(0)
        path = f"{search.path.rstrip('/')}/{below}" if below else search.path
        async for entry in module.list(path, filter_text=wildcard):
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.kind is Kind.DIRECTORY and depth:
                waiting.append((name, depth - 1))
            elif search.name_filter is None or search.name_filter.fullmatch(entry.name):
                yield replace(entry, name=name) if below else entry


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


def known_files(
    db: Connection, keys: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Known]:
    """Return what the store has under each key that it has."""
    found: dict[tuple[str, str, str], Known] = {}
    for key in keys:
        live = transfers.with_key(db, key)
        if not live:
            continue
        file = files.get(db, live[0].data_file)
        found[key] = Known(
            size=None if file is None or file.size < 0 else file.size,
            mtime=file.file_time if file else None,
            has_failed=any(one.status is TransferStatus.FAIL for one in live),
        )
    return found


def register_all(
    db: Connection, plans: Sequence[Plan], *, now: datetime
) -> tuple[list[Registered], list[str]]:
    """Register a batch in one transaction; a refused one leaves the others."""
    done: list[Registered] = []
    refused: list[str] = []
    for one in plans:
        try:
            done.append(register(db, one, now=now))
        except EcpdsError as error:
            refused.append(f"{one.file.source}: {error.message}")
    return done, refused
