"""Listing a directory of an FTP server: MLSD where the server has it, else LIST or NLST.

An empty answer may mean an empty directory or a missing one (vsftpd says 226 to both), so that it
is looked at twice.

Spec: transfer-modules-protocols.md 1.2; RFC 3659 section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    InputError,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
)
from ecpds.model.listing import ListingFormat
from ecpds.modules.ftp_control import argument
from ecpds.modules.ftp_flow import Act
from ecpds.modules.ftp_listing import (
    GLOB,
    MAX_ENTRIES,
    LineSplitter,
    below,
    facts_entry,
    safe_path,
    undecodable,
)
from ecpds.modules.ftp_session import FtpSession
from ecpds.transfer.contract import ListingStyle, Surroundings

LineReader = Callable[[str], Entry | None]
Batch = list[Entry]

STEP: Final = 200
"""Lines that are read at a stretch, a few milliseconds' work."""

_DOTS = frozenset({".", ".."})
_NO_COMMAND = frozenset({"500", "501", "502", "504"})


class Lister:
    """Lists directories through one session."""

    def __init__(
        self, session: FtpSession, around: Surroundings, style: ListingStyle | None = None
    ) -> None:
        self._session = session
        self._around = around
        self._style = style or session.target.listing

    async def entries(self, directory: str, filter_text: str) -> AsyncGenerator[Entry, None]:
        """Yield the entries of one directory in bounded memory."""
        count = 0
        async with aclosing(self._batches(directory, filter_text)) as batches:
            async for batch in batches:
                for entry in batch:
                    if entry.name not in _DOTS:
                        count += 1
                        yield entry
                if count > MAX_ENTRIES:
                    raise RemoteError(
                        f"{directory!r} has more than {MAX_ENTRIES} entries", phase=Phase.LIST
                    )
        if not count and not filter_text:
            await self._check_exists(directory)

    async def _check_exists(self, directory: str) -> None:
        if not _is_pattern(directory) and not await self._session.is_directory(directory or "."):
            raise RemoteMissing(f"there is no directory {directory!r}", phase=Phase.LIST)

    async def _batches(self, directory: str, filter_text: str) -> AsyncGenerator[Batch, None]:
        options = self._session.options
        if not options.use_nlst and not filter_text and "MLST" in self._session.abilities:
            command = f"MLSD {argument(directory)}".rstrip()
            try:
                async with aclosing(self._read(command, directory, facts_entry)) as batches:
                    async for batch in batches:
                        yield batch
            except RemoteError as error:
                if not _another_way(error, directory):
                    raise
            else:
                return
        async with aclosing(self._by_text(directory, filter_text)) as batches:
            async for batch in batches:
                yield batch

    async def _by_text(self, directory: str, filter_text: str) -> AsyncGenerator[Batch, None]:
        """LIST or NLST; a directory whose name looks like a pattern is entered first."""
        session, home = self._session, None
        path = _with_filter(directory, filter_text)
        if _is_pattern(directory) and not filter_text:
            home = await session.enter(directory)
            path = "" if home is not None else path
        verb, reader = self._verb()
        command = " ".join(filter(None, (verb, argument(safe_path(path)))))
        try:
            async with aclosing(self._read(command, directory, reader)) as batches:
                async for batch in batches:
                    yield [_below(directory, entry) for entry in batch]
        finally:
            if home is not None and not session.control.broken:
                await session.go_home(home)

    def _verb(self) -> tuple[str, LineReader]:
        options, style = self._session.options, self._style
        if options.use_nlst:
            return "NLST", _name_entry
        try:
            form = ListingFormat.make(
                style.system,
                default_format=style.default_format,
                recent_format=style.recent_format,
                month_names=style.month_names,
                language=style.language,
                zone=style.zone,
                regex=style.regex,
                now=self._around.clock.now(),
            )
        except InputError as error:
            raise RemoteConfig(error.message, phase=Phase.LIST) from None
        return f"LIST {options.list_options}".rstrip(), form.read

    async def _read(
        self, command: str, directory: str, reader: LineReader
    ) -> AsyncGenerator[Batch, None]:
        """Send the command and yield what each block of the answer tells."""
        session = self._session
        encoding = session.options.encoding
        limit = session.target.timeouts.listing.total_seconds()
        about = f"listing of {directory!r}"
        act = Act(command, about, Phase.LIST, missing=True, goes_on=True)
        splitter = LineSplitter(encoding)
        async with session.flows.flow(act) as flow:
            while block := await flow.channel.read(limit):
                lines = splitter.feed(block)
                for start in range(0, len(lines), STEP):
                    yield _read_lines(lines[start : start + STEP], reader, encoding)
                    await asyncio.sleep(0)  # a block may have thousands of lines
            await flow.channel.finish(session.limits.data)
            await session.flows.conclude(flow, act)
        yield _read_lines(splitter.close(), reader, encoding)


def _read_lines(lines: list[str | None], reader: LineReader, encoding: str) -> Batch:
    found = (undecodable(encoding) if line is None else reader(line) for line in lines)
    return [entry for entry in found if entry is not None]


def _below(directory: str, entry: Entry) -> Entry:
    name = below(directory, entry.name)
    return entry if name == entry.name else replace(entry, name=name)


def _another_way(error: RemoteError, directory: str) -> bool:
    """Whether LIST may do what MLSD did not: the command is unknown, or the path is a pattern."""
    if error.remote_code in _NO_COMMAND:
        return True
    return isinstance(error, RemoteMissing) and _is_pattern(directory)


def _is_pattern(path: str) -> bool:
    return not GLOB.isdisjoint(path)


def _with_filter(directory: str, filter_text: str) -> str:
    if not filter_text:
        return directory
    return f"{directory.rstrip('/')}/{filter_text.lstrip('/')}" if directory else filter_text


def _name_entry(line: str) -> Entry | None:
    return Entry(kind=Kind.FILE, name=line) if line.strip() else None
