"""`genericFtp`: files to and from FTP servers, over TLS when the Host asks for it.

Our own client (docs/decisions/0003-ftp-client.md).  One act at a time on one control connection; a
dropped data connection is never a success, because every act ends with the server's final reply.
Names are sent as they are; one with a line end is refused.

Spec: transfer-modules-protocols.md section 1; RFC 959, 2389, 2428, 3659, 4217.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import ClassVar, Final, Self

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteTimeout,
    RemoteTransient,
    RemoteVerify,
    SourceBroke,
)
from ecpds.modules.ftp_control import Reply, argument, refusal
from ecpds.modules.ftp_data import DataChannel
from ecpds.modules.ftp_digest import digest_of, has_digests
from ecpds.modules.ftp_directory import Lister
from ecpds.modules.ftp_flow import Act
from ecpds.modules.ftp_listing import facts_entry, stamp
from ecpds.modules.ftp_options import FtpOptions
from ecpds.modules.ftp_session import FtpSession
from ecpds.modules.trust import unverified
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)

MAX_ASKED: Final = 100_000
"""Most names of an NLST listing whose sizes and times are asked for one by one."""

PROBE_AFTER: Final = 5.0
"""Seconds of silence after which a session is asked whether it still lives."""

_UNKNOWN: Final = frozenset({500, 501, 502, 504})
_ANNOUNCED: Final = re.compile(r"\((\d{1,18}) bytes\)")


class FtpModule(TransferModule[FtpOptions]):
    """An open session with an FTP server."""

    name = "ftp"
    options = FtpOptions
    features: ClassVar[Feature] = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.RESUME_PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.MKDIR
        | Feature.RMDIR
    )

    def __init__(self, session: FtpSession, around: Surroundings) -> None:
        self._session = session
        self._around = around
        self._options = session.options
        self._statistics: Mapping[str, int] = {}  # of the last data connection
        pause = session.options.use_noop.total_seconds()
        self._probe_after = min(PROBE_AFTER, pause / 2) if pause else PROBE_AFTER
        if has_digests(session):  # one server in three
            self.features |= Feature.CHECKSUM  # type: ignore[misc]  # of this session only

    @classmethod
    def naming(cls, options: FtpOptions) -> Naming:
        """Return how files are named until complete."""
        return dataclasses.replace(options.naming(), delete_first=options.delete_on_rename)

    @classmethod
    def keep_alive(cls, options: FtpOptions) -> timedelta:
        """Return how long an idle session may wait for its next use."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: FtpOptions) -> tuple[str, int]:
        """Return where sessions connect to."""
        return target.host, options.control_port

    @classmethod
    async def identity(
        cls, target: Target, options: FtpOptions, around: Surroundings
    ) -> Identity | None:
        """Return the certificate, where there is TLS."""
        return await FtpSession(unverified(target), options, around).certificate()

    @classmethod
    def probe_every(cls, options: FtpOptions) -> timedelta:
        """Return the pause between probes of an idle session."""
        return options.use_noop

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: FtpOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Log in and give a session."""
        session = FtpSession(target, options, around)
        await session.open()
        module = cls(session, around)
        try:
            yield module
        finally:
            await module._session.close()

    @property
    def peer(self) -> str:
        """Return the address of the server."""
        return self._session.link.peer

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knew of the last data connection at its end."""
        return self._statistics

    async def alive(self) -> bool:
        """Tell whether the session may be used for another file."""
        control = self._session.control
        if self._session.link.spoilt or not control.quiet:
            return False
        if asyncio.get_running_loop().time() - control.heard_at < self._probe_after:
            return True
        try:
            await control.ask(self._options.noop)
        except RemoteError:
            return False
        return not control.broken

    # --- names ------------------------------------------------------------------------------

    async def stat(self, name: str) -> Entry:
        """Return the entry `name`: by MLST, else by SIZE and MDTM, else out of a listing."""
        session = self._session
        if "MLST" in session.abilities:
            reply = await session.control.ask(f"MLST {argument(name)}")
            if reply.positive and len(reply.lines) > 1:
                entry = facts_entry(reply.lines[1])
                return dataclasses.replace(entry, name=name) if entry else _directory(name)
            if reply.code not in _UNKNOWN:
                raise refusal(reply, f"size of {name!r}", Phase.VERIFY, missing=True)
        reply = await session.control.ask(f"SIZE {argument(name)}")
        if reply.code in _UNKNOWN:
            return await self._found_in_listing(name)
        if not reply.positive:
            raise refusal(reply, f"size of {name!r}", Phase.VERIFY, missing=True)
        size = _size(reply)
        return Entry(kind=Kind.FILE, name=name, size=size, mtime=await self._modified(name))

    async def size(self, name: str) -> int | None:
        """Return the size alone: SIZE, without the time that `stat` would ask for."""
        if "MLST" not in self._session.abilities:
            reply = await self._session.control.ask(f"SIZE {argument(name)}")
            if reply.positive:
                return _size(reply)
            if reply.code not in _UNKNOWN:
                raise refusal(reply, f"size of {name!r}", Phase.VERIFY, missing=True)
        return (await self.stat(name)).size

    async def _modified(self, name: str) -> datetime | None:
        if "MDTM" not in self._session.abilities:
            return None
        reply = await self._session.control.ask(f"MDTM {name}")
        return stamp(reply.lines[0]) if reply.positive else None

    async def _found_in_listing(self, name: str) -> Entry:
        directory, _, base = name.rpartition("/")
        async for entry in self.list(directory or ("/" if name.startswith("/") else "")):
            if entry.name == base and not entry.error:
                return dataclasses.replace(entry, name=name)
        raise RemoteMissing(f"{name!r} is not listed", phase=Phase.VERIFY)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of one directory."""
        asks = self._options.use_nlst and self._options.ask_each
        lister = Lister(self._session, self._around, self.listing)
        entries = lister.entries(directory, filter_text)
        if not asks:
            async with aclosing(entries):
                async for entry in entries:
                    yield entry
            return
        # one connection does one thing at a time: all names first, then the questions
        names = []
        async with aclosing(entries):
            async for entry in entries:
                names.append(entry.name)
                if len(names) > MAX_ASKED:
                    raise RemoteError(f"more than {MAX_ASKED} names", phase=Phase.LIST)
        for name in names:
            yield await self._asked(directory, name)

    async def _asked(self, directory: str, name: str) -> Entry:
        path = name if name.startswith("/") or not directory else f"{directory}/{name}"
        try:
            return dataclasses.replace(await self.stat(path.replace("//", "/")), name=name)
        except RemoteMissing:
            return _directory(name)  # or gone meanwhile; SIZE refuses directories

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename; where the server does not replace, the existing name is deleted first."""
        if not replace and await self._exists(new):
            raise RemoteName(f"{new!r} exists", phase=Phase.RENAME)
        if replace and self._options.delete_on_rename:
            await self._session.control.ask(f"DELE {argument(new)}", timeout=self._rename_limit)
        reply = await self._rename(old, new)
        if replace and reply.code in (501, 521, 550, 551, 553) and await self._exists(new):
            await self._session.control.ask(f"DELE {new}", timeout=self._rename_limit)
            reply = await self._rename(old, new)
        if not reply.positive:
            raise refusal(reply, f"rename to {new!r}", Phase.RENAME)

    @property
    def _rename_limit(self) -> float:
        return self._session.target.timeouts.rename.total_seconds()

    async def _rename(self, old: str, new: str) -> Reply:
        control, limit = self._session.control, self._rename_limit
        argument(new)
        about = f"rename of {old!r}"
        if not self._session.link.pairs:
            await control.demand(
                f"RNFR {argument(old)}", about, Phase.RENAME, missing=True, timeout=limit
            )
            return await control.ask(f"RNTO {new}", timeout=limit)
        try:
            first, second = await control.ask_both(f"RNFR {old}", f"RNTO {new}", timeout=limit)
        except (RemoteTimeout, ConnectionLost) as error:
            self._session.link.forbid_pairs()
            error.phase = Phase.RENAME
            raise
        if not first.positive:
            raise refusal(first, about, Phase.RENAME, missing=True)
        return second

    async def _exists(self, name: str) -> bool:
        try:
            await self.stat(name)
        except RemoteMissing:
            return False
        return True

    async def delete(self, name: str) -> None:
        """Delete a file."""
        limit = self._session.target.timeouts.delete.total_seconds()
        await self._session.control.demand(
            f"DELE {name}", f"deletion of {name!r}", Phase.VERIFY, missing=True, timeout=limit
        )

    async def mkdir(self, path: str) -> None:
        """Create a directory; an existing one is fine."""
        limit = self._session.target.timeouts.mkdir.total_seconds()
        hooks = self._options.mkdirs_index and self._options.hooks_level(path, self.levels)
        if hooks:
            await self._session.around_mkdir(self._options.pre_mkdirs, path)
        reply = await self._session.control.ask(f"MKD {argument(path)}", timeout=limit)
        if not reply.positive and not await self._session.is_directory(path):
            raise refusal(reply, f"creation of {path!r}", Phase.MKDIR)
        if hooks:
            await self._session.around_mkdir(self._options.post_mkdirs, path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        limit = self._session.target.timeouts.rmdir.total_seconds()
        await self._session.control.demand(
            f"RMD {path}", f"removal of {path!r}", Phase.VERIFY, timeout=limit
        )

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the server's digest, None if it has none for that algorithm."""
        if Feature.CHECKSUM not in self.features:
            return await super().checksum(name, algorithm)
        return await digest_of(self._session, name, algorithm)

    # --- content ----------------------------------------------------------------------------

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on, until the server says that it was all."""
        session = self._session
        await session.hooks(self._options.pre_get, name)
        act = Act(f"RETR {argument(name)}", f"{name!r}", missing=True, offset=offset)
        received = 0
        async with session.flows.flow(act) as flow:
            while block := await flow.channel.read(session.limits.data):
                received += len(block)
                yield block
            self._statistics = flow.channel.statistics()
            await flow.channel.finish(session.limits.data)
            await session.flows.conclude(flow, act)
        # a box on the way may end the data in order although the server has sent it all
        announced = _ANNOUNCED.search(flow.opened.lines[-1])
        if announced and received < int(announced[1]) - offset:
            raise ConnectionLost(
                f"{name!r} ended after {offset + received} of {announced[1]} bytes"
            )
        await session.hooks(self._options.post_get, name)

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write `source` to `name`; return after the server's final reply.

        RemoteVerify: the server does not go on from `offset`.
        """
        session = self._session
        await session.hooks(self._options.pre_put, name)
        act = Act(f"STOR {argument(name)}", f"{name!r}", offset=offset, goes_on=True)
        if not offset and not self._options.ignore_delete:
            await self._session.control.ask(f"DELE {name}")  # some servers do not overwrite
        if offset:
            act = await self._resuming(act, name)
        put = _Put(session.limits.data)
        try:
            async with session.flows.flow(act) as flow:
                await put.copy(flow.channel, source)
                self._statistics = flow.channel.statistics()
                await flow.channel.finish(session.limits.data)
                put.all_sent = True
                await session.flows.conclude(flow, act)
        except RemoteTimeout:
            if not (put.all_sent and self._options.retry_check):
                raise
            await self._confirm(name, offset + put.sent)
        except (RemoteTransient, RemoteName) as error:
            if not offset or put.begun or not error.remote_code or error.remote_code[0] not in "45":
                raise
            raise _cannot_go_on(name, error.message) from error
        await session.hooks(self._options.post_put, name)
        if not session.link.pairs and "SIZE" in session.abilities:
            session.link.allow_pairs()
        return put.sent

    async def _resuming(self, act: Act, name: str) -> Act:
        """Go on by REST, or by APPE if the remote file ends exactly where we go on."""
        if "REST" in self._session.abilities and not self._options.use_append:
            return act
        there = (await self.stat(name)).size
        if there != act.offset:
            raise _cannot_go_on(name, f"it has {there} bytes, {act.offset} wanted")
        return dataclasses.replace(act, command=f"APPE {name}", offset=0)

    async def _confirm(self, name: str, expected: int) -> None:
        """Log in again and look whether all bytes have arrived (retryAfterTimeoutOnCheck)."""
        self._session.control.abort()
        again = FtpSession(self._session.target, self._options, self._around)
        await again.open()
        self._session = again
        there = (await self.stat(name)).size
        if there != expected:
            raise RemoteTimeout(
                f"no final reply for {name!r}, and {there} of {expected} bytes are there"
            )


class _Put:
    """Moves the content of one put into a data connection."""

    def __init__(self, stall: float) -> None:
        self.sent = 0
        self.begun = False
        self.all_sent = False
        self._stall = stall

    async def copy(self, channel: DataChannel, source: ByteSource) -> None:
        """Send it all; raises SourceBroke when less comes than promised."""
        self.begun = True
        blocks = aiter(source)
        try:
            async for block in blocks:
                await channel.write(block, self._stall)
                self.sent += len(block)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()
        if 0 <= source.size != self.sent:
            raise SourceBroke(f"the content has {self.sent} instead of {source.size} bytes")


def _cannot_go_on(name: str, why: str) -> RemoteVerify:
    return RemoteVerify(f"{name!r} cannot be gone on with: {why}", phase=Phase.DATA)


def _directory(name: str) -> Entry:
    return Entry(kind=Kind.DIRECTORY, name=name)


def _size(reply: Reply) -> int:
    digits = reply.lines[0].strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise RemoteTransient(f"no size in {reply.text!r}", phase=Phase.VERIFY)
    return int(digits)
