"""A discovery that only tells: each entry taken or why not, under which target and key.

Entries come from the live Host or from a pasted listing; nothing is stored, fetched or deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from ecpds.engine.acquisition_run import Discovery, Run, lines_of
from ecpds.engine.acquisition_take import Row, Telling
from ecpds.engine.core import Core, HostEntry
from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.dates import parse_zone
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    BadState,
    InputError,
    RemoteConfig,
    RemoteError,
    RuleError,
)
from ecpds.model.host import HostRole
from ecpds.model.listing import ListingFormat

LIMIT: Final = timedelta(seconds=60)
"""Longest look at a live host."""

MOST_LINES: Final = 100_000
"""Most lines of a pasted listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to look at."""

    host: str
    destination: str = ""  # empty: the first that uses the host
    directory: str | None = None  # text to try; None: that of the host
    listing: str | None = None  # pasted; None: ask the host
    names_only: bool = False  # the listing has names, with size and time behind tabs
    limit: int = 1000  # rows told; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReport:
    """One line of the directory text, as it would be searched now."""

    line: int
    text: str
    path: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run would do."""

    host: str
    destination: str
    run: Run
    lines: tuple[LineReport, ...] = ()
    rows: list[Row] = field(default_factory=list)


async def dry_run(core: Core, request: Request) -> Report:
    """Look; NotFound, BadState (no acquisition host), InputError, RemoteError (no session)."""
    host = core.snapshot.host(request.host)
    if host.host.role is not HostRole.ACQUISITION:
        raise BadState(f"Host {request.host} is no acquisition host")
    if request.directory is not None:
        host = replace(host, host=replace(host.host, directory=request.directory))
    entry = core.snapshot.destination(destination_of(core, request))
    run, now = Run(core.clock.now()), core.clock.now()
    telling = Telling(core, entry, host, limit=request.limit)
    discovery = Discovery(core, entry, host, telling)
    directory = await lines_of(core, host)
    reports = []
    for line in directory.lines:
        try:
            path = line.at(now).listed
            reports.append(LineReport(line=line.number, text=line.text, path=path))
        except InputError as error:
            reports.append(LineReport(line=line.number, text=line.text, error=error.message))
    with suppress(TimeoutError):
        async with asyncio.timeout(LIMIT.total_seconds()) as limit:
            if request.listing is None:
                await discovery.run(run)
            else:
                await _pasted(discovery, request, host, now, run)
        if limit.expired():
            run.error("time is over")
    return Report(
        host=host.name, destination=entry.name, run=run, lines=tuple(reports), rows=telling.ordered
    )


def destination_of(core: Core, request: Request) -> str:
    """Return for which destination to look; BadState when that cannot be told."""
    if request.destination:
        return request.destination
    users = core.snapshot.users.get(request.host, ())
    if not users:
        raise BadState(f"no destination uses host {request.host}: name one")
    return users[0]


async def _pasted(
    discovery: Discovery, request: Request, host: HostEntry, now: datetime, run: Run
) -> None:
    """Test a pasted listing against each line."""
    text = request.listing or ""
    if text.count("\n") > MOST_LINES:
        raise InputError(f"a pasted listing has at most {MOST_LINES} lines", pointer="listing")
    entries = list(_named(text) if request.names_only else listed(text, host, now))
    for line in (await discovery.directory()).lines:
        try:
            await discovery.run_entries(line.at(now), _each(entries), run)
        except RuleError as error:
            run.error(f"line {line.number}: {error.message}")


async def _each(entries: list[Entry]) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


def listed(text: str, host: HostEntry, now: datetime) -> Iterator[Entry]:
    """Read lines as a server of that host sends them; raises InputError for its options."""
    options = AcquisitionOptions.read(host.host.options)
    zone = parse_zone(options.server_time_zone) if options.server_time_zone else ZoneInfo("UTC")
    format_ = ListingFormat.make(
        options.system_key,
        default_format=options.default_date_format,
        recent_format=options.recent_date_format,
        month_names=options.short_month_names,
        language=options.server_language,
        zone=zone,
        regex=options.regex_format,
        now=now,
    )
    for line in text.splitlines():
        if (entry := format_.read(line)) is not None:
            yield entry


def _named(text: str) -> Iterator[Entry]:
    """Read `name`, `name TAB size`, `name TAB size TAB time` (RFC 3339)."""
    for line in text.splitlines():
        name, _, rest = line.partition("\t")
        size, _, moment = rest.partition("\t")
        if not name.strip():
            continue
        try:
            yield Entry(
                kind=Kind.FILE,
                name=name,
                size=int(size) if size.strip() else None,
                mtime=_moment(moment.strip()),
            )
        except (ValueError, InputError) as error:
            yield Entry(kind=Kind.OTHER, name=name, error=str(error))


def _moment(text: str) -> datetime | None:
    """Read an RFC 3339 time, UTC without a zone; ValueError."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def listing(core: Core, name: str, path: str, limit: int) -> tuple[list[Entry], bool]:
    """Return what a Host has under a path now, and whether there was more; RemoteError."""
    host = core.snapshot.host(name)
    if host.access is None:
        raise RemoteConfig(host.problem)
    found: list[Entry] = []
    try:
        async with asyncio.timeout(LIMIT.total_seconds()):
            async with core.pool.session(host.access) as module:
                async for entry in module.list(path):
                    if len(found) >= limit:
                        return found, True
                    found.append(entry)
    except TimeoutError:
        raise RemoteError("the listing took too long") from None
    return found, False
