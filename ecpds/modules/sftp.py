"""`genericSftp`: files on an SSH server, by SFTP version 3.

Reads and writes are sent ahead, up to `sftp.bulkRequestNumber` of them and a few MiB, and
answered in their order: what is confirmed is always a piece without a hole, so that a later
attempt can go on there.

Spec: transfer-modules-protocols.md section 2.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from struct import Struct
from typing import Final, Self, cast

import asyncssh

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    SourceBroke,
)
from ecpds.modules import sftp_link as wire
from ecpds.modules.sftp_entries import entry, names
from ecpds.modules.sftp_exec import filled, run_command
from ecpds.modules.sftp_link import Answer, Fields, SftpLink, SftpStatus
from ecpds.modules.sftp_login import (
    SftpOptions,
    hang_up,
    log_in,
    shown_key,
    translated_login,
)
from ecpds.modules.sftp_reader import AHEAD, Reader
from ecpds.modules.sftp_tree import Acts, tree
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Identity,
    Naming,
    Surroundings,
    Target,
    Timeouts,
    TransferModule,
)
from ecpds.transfer.sockets import statistics

PROBE_AFTER: Final = 5.0
"""Seconds after which an idle session is asked whether it still lives."""

DRAIN: Final = 2.0
"""Seconds to learn, after a failure, how far the server came."""

_U32 = Struct(">I")
_NO_ATTRIBUTES: Final = _U32.pack(0)

LISTED_AHEAD: Final = 4
"""Answers of about a hundred names that are under way while one directory is listed."""

Pending = deque[tuple[asyncio.Future[Answer], int]]
Waiting = deque[asyncio.Future[Answer]]
Answers = list[asyncio.Future[Answer]]


class SftpModule(TransferModule[SftpOptions]):
    """An open SFTP session with one Host."""

    name = "sftp"
    options = SftpOptions
    features = (
        Feature.LIST
        | Feature.GET
        | Feature.PUT
        | Feature.RESUME_GET
        | Feature.RESUME_PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.REPLACE
        | Feature.MKDIR
        | Feature.RMDIR
    )

    def __init__(
        self,
        link: SftpLink,
        connection: asyncssh.SSHClientConnection,
        target: Target,
        options: SftpOptions,
    ) -> None:
        self._link = link
        self._connection = connection
        self._options = options
        self._timeouts: Timeouts = target.timeouts
        self._base = (options.cwd or target.directory).rstrip("/")
        self._mode = octal(options.chmod)
        self._server = str(connection.get_extra_info("server_version") or "")
        self.finishes = bool(options.exec_command)

    @classmethod
    def naming(cls, options: SftpOptions) -> Naming:
        """Return how files are named until complete."""
        return options.naming()

    @classmethod
    def keep_alive(cls, options: SftpOptions) -> timedelta:
        """Return how long an idle session may wait."""
        return options.keep_alive

    @classmethod
    def address(cls, target: Target, options: SftpOptions) -> tuple[str, int]:
        """Return where sessions connect to."""
        return target.host, options.port

    @classmethod
    async def identity(
        cls, target: Target, options: SftpOptions, around: Surroundings
    ) -> Identity | None:
        """Return the host key."""
        return await shown_key(target, options, around)

    @classmethod
    def probe_every(cls, options: SftpOptions) -> timedelta:
        """Return the pause between probes of an idle session."""
        return options.use_noop

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: SftpOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Log in and start SFTP."""
        octal(options.chmod)
        connection = await log_in(target, options, around)
        limit = target.timeouts.close.total_seconds()
        try:
            session = cls(await _start(connection, target, options), connection, target, options)
            await session._enter()
            yield session
        except BaseException:
            await hang_up(connection, limit)
            raise
        session._link.close()
        connection.close()
        try:
            async with asyncio.timeout(limit):
                await connection.wait_closed()
        except TimeoutError:
            await hang_up(connection, 1.0)
        except (OSError, asyncssh.Error):
            return
        finally:
            if connection.via is not None:
                await hang_up(connection.via, limit)

    async def _enter(self) -> None:
        """Create the working directory if there is one to be created."""
        if not self._base:
            return
        with translated(Phase.CWD, self._base, RemoteName):
            if await self._is_directory(wire.path(self._base)):
                return
        if not self._options.mkdirs:
            raise RemoteName(f"{self._base!r} is not there", phase=Phase.CWD)
        parts = self._base.strip("/").split("/")
        start = "/" if self._base.startswith("/") else ""
        for count in range(1, len(parts) + 1):
            level = start + "/".join(parts[:count])
            with suppress(RemoteName):  # above our own directories nobody may create any
                await self.mkdir(level if start else f"./{level}")

    @property
    def peer(self) -> str:
        """Return the address of the server."""
        name = self._connection.get_extra_info("peername")
        return str(name[0]) if name else ""

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the connection."""
        sock = self._connection.get_extra_info("socket")
        return statistics(sock) if sock is not None else {}

    async def alive(self) -> bool:
        """Tell whether the session can be used; asks the server after a while of silence."""
        if self._link.lost:
            return False
        if asyncio.get_running_loop().time() - self._link.used_at < PROBE_AFTER:
            return True
        with translated(Phase.CONNECT, "."):
            await self._body(wire.REALPATH, wire.path("."), kind=wire.NAME, limit=PROBE_AFTER)
        return True

    # --- names --------------------------------------------------------------------------------

    def _place(self, name: str) -> bytes:
        """Return the path of `name` as a field; `./name` is taken from the login directory."""
        if self._base and not name.startswith(("/", "./")):
            name = f"{self._base}/{name}"
        return wire.path(name)

    async def stat(self, name: str) -> Entry:
        """Return the entry `name`, links followed."""
        with translated(Phase.VERIFY, name):
            body = await self._body(wire.STAT, self._place(name), kind=wire.ATTRS)
        return entry(name, Fields(body).attributes())

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename; atomically over an existing name where the server has posix-rename."""
        limit = self._timeouts.rename.total_seconds()
        paths = (self._place(old), self._place(new))
        with translated(Phase.RENAME, new, RemoteName):
            if replace and self._options.delete_on_rename:
                with suppress(SftpStatus):
                    await self._done(wire.REMOVE, paths[1], limit=limit)
            if replace and wire.POSIX_RENAME in self._link.extensions:
                extension = wire.string(wire.POSIX_RENAME.encode())
                await self._done(wire.EXTENDED, extension, *paths, limit=limit)
                return
            try:
                await self._done(wire.RENAME, *paths, limit=limit)
            except SftpStatus as answer:
                if not replace or answer.code == wire.NO_SUCH_FILE:
                    raise
                # version 3 may not rename over a name, and its answer does not tell the reason
                await self._body(wire.LSTAT, paths[0], kind=wire.ATTRS, limit=limit)
                with suppress(SftpStatus):
                    await self._done(wire.REMOVE, paths[1], limit=limit)
                await self._done(wire.RENAME, *paths, limit=limit)

    async def delete(self, name: str) -> None:
        """Delete a file."""
        with translated(Phase.VERIFY, name, RemoteName):
            limit = self._timeouts.delete.total_seconds()
            await self._done(wire.REMOVE, self._place(name), limit=limit)

    async def mkdir(self, path: str) -> None:
        """Create a directory; an existing one is fine."""
        place, limit = self._place(path), self._timeouts.mkdir.total_seconds()
        hooks = self._options.mkdirs_index and self._options.hooks_level(path, self.levels)
        if hooks:
            await self._around_mkdir(self._options.pre_mkdirs, path)
        with translated(Phase.MKDIR, path, RemoteName):
            try:
                await self._done(wire.MKDIR, place, _NO_ATTRIBUTES, limit=limit)
            except SftpStatus as answer:
                if answer.code == wire.NO_SUCH_FILE or not await self._is_directory(place):
                    raise
        if hooks:
            await self._around_mkdir(self._options.post_mkdirs, path)

    async def _around_mkdir(self, command: str, path: str) -> None:
        """Run the command around the making of a directory."""
        if not command:
            return
        values = {"dirname": path, "uid": str(self._connection.get_extra_info("username") or "")}
        limit = self._timeouts.mkdir.total_seconds()
        try:
            await run_command(self._connection, filled(command, values), code=0, limit=limit)
        except RemoteError:
            if not self._options.ignore_mkdirs_errors:
                raise

    async def finished(self, name: str) -> None:
        """Run the command that the host wants after each file."""
        path = self._place(name)[4:].decode(errors="surrogateescape")
        await run_command(
            self._connection,
            filled(self._options.exec_command, {"filename": path}),
            code=self._options.exec_code,
            limit=self._timeouts.command.total_seconds(),
        )

    async def _is_directory(self, place: bytes) -> bool:
        try:
            body = await self._body(wire.STAT, place, kind=wire.ATTRS)
        except SftpStatus:
            return False
        return stat.S_ISDIR(Fields(body).attributes().mode or 0)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        with translated(Phase.VERIFY, path, RemoteName):
            limit = self._timeouts.rmdir.total_seconds()
            await self._done(wire.RMDIR, self._place(path), limit=limit)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of `directory`, as many at a time as the server sends in one answer."""
        wanted = re.compile(fnmatch.translate(filter_text.lstrip("/") or "*"))
        options = self._options
        if options.list_recursive:
            entries = tree(
                Acts(
                    lambda below: self._opened(_joined(directory, below)),
                    lambda handle, below: self._read(handle, _joined(directory, below)),
                    self._let_go,
                ),
                at_a_time=options.list_threads,
                most=options.list_dirs,
                deepest=options.list_depth,
            )
            async with aclosing(cast(AsyncGenerator[Entry, None], entries)) as found_below:
                async for one in found_below:
                    if one.error or wanted.match(one.name.rpartition("/")[2]):
                        yield one
            return
        handle = await self._opened(directory)
        # others may do two requests at a time, and not expect that of one directory
        count = LISTED_AHEAD if "OpenSSH" in self._server else 1
        ahead = self._link.ask_many(wire.READDIR, wire.string(handle), count)
        try:
            while (found := await self._read(handle, directory, ahead)) is not None:
                for one in found:
                    if wanted.match(one.name):
                        yield one
        finally:
            await self._let_go(handle)

    async def _opened(self, directory: str) -> bytes:
        limit = self._timeouts.listing.total_seconds()
        with translated(Phase.LIST, directory):
            place = self._place(directory or ".")
            return await self._body(wire.OPENDIR, place, kind=wire.HANDLE, limit=limit)

    async def _read(
        self, handle: bytes, directory: str, ahead: Waiting | None = None
    ) -> tuple[Entry, ...] | None:
        with translated(Phase.LIST, directory):
            return await self._entries(handle, self._place(directory or "."), ahead)

    async def _entries(
        self, handle: bytes, place: bytes, ahead: Waiting | None
    ) -> tuple[Entry, ...] | None:
        """Return the next entries, None at the end; `ahead` are the answers under way."""
        field = wire.string(handle)
        if ahead is None:
            ahead = deque([self._link.ask(wire.READDIR, field)])
        body = await self._listed(ahead)
        if body is None:
            return None
        ahead.append(self._link.ask(wire.READDIR, field))
        entries = []
        for one in names(body):
            if one.kind is Kind.LINK:
                one = await self._followed(one, place)
            entries.append(one)
        return tuple(entries)

    async def _listed(self, ahead: Waiting) -> bytes | None:
        """Return the next names; None when every answer under way says that there are no more."""
        limit = self._timeouts.listing.total_seconds()
        while ahead:
            try:
                return wire.expect(await self._within(ahead.popleft(), limit), wire.NAME)
            except SftpStatus as answer:
                if answer.code != wire.EOF:
                    raise
        return None

    async def _followed(self, link: Entry, place: bytes) -> Entry:
        """Return a link with where it leads and the size and time of what is there."""
        name = wire.path(link.name)[4:]
        full = wire.string(place[4:].rstrip(b"/") + b"/" + name)
        try:
            leads = Fields(await self._body(wire.READLINK, full, kind=wire.NAME))
            leads.u32()
            text = leads.text()
            there = Fields(await self._body(wire.STAT, full, kind=wire.ATTRS)).attributes()
        except SftpStatus as answer:
            return Entry(kind=Kind.LINK, name=link.name, error=f"{link.name}: {answer.text}")
        told = entry(link.name, there)
        return Entry(kind=Kind.LINK, name=link.name, size=told.size, mtime=told.mtime, link=text)

    # --- content ------------------------------------------------------------------------------

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write `source` to `name` from `offset` on."""
        self.confirmed, self.proven = 0, None
        flags = wire.F_WRITE | wire.F_CREATE | (0 if offset else wire.F_TRUNCATE)
        with translated(Phase.DATA, name, RemoteName):
            request = (self._place(name), _U32.pack(flags), _NO_ATTRIBUTES)
            handle = await self._body(wire.OPEN, *request, kind=wire.HANDLE)
        pending: Pending = deque()
        try:
            with translated(Phase.DATA, name):
                last = await self._send(handle, source, offset, pending)
                return await self._finish(last, pending)
        except BaseException as error:
            await self._abandon(handle, pending)
            if isinstance(error, RemoteTransient) and await self._is_full(error, name):
                raise RemoteSpace(f"{name!r}: no room", remote_text=error.remote_text) from None
            raise

    async def _send(
        self, handle: bytes, source: ByteSource, offset: int, pending: Pending
    ) -> Answers:
        """Send the content, and behind the last block what ends the file; return its answers."""
        size = self._link.write_size
        most = max(min(self._options.requests, AHEAD // size), 1)
        field = wire.string(handle)
        requests, last = self._ending(field), None
        position, end = offset, offset + source.size if source.size > 0 else -1
        async for block in source:
            view = memoryview(block)
            for start in range(0, len(view), size):
                if last is not None:
                    raise SourceBroke(f"the content is longer than {source.size} bytes")
                piece = view[start : start + size]
                while len(pending) >= most:
                    await self._confirm(pending)
                if position + len(piece) == end:
                    written, last = self._link.write_last(field, position, piece, requests)
                else:
                    written = self._link.write(field, position, piece)
                pending.append((written, len(piece)))
                position += len(piece)
        return self._link.ask_together(requests) if last is None else last

    def _ending(self, field: bytes) -> Sequence[wire.Request]:
        """Return what ends a file: the mode, a sync, the question for the size, the close."""
        requests = [(wire.FSTAT, field), (wire.CLOSE, field)]
        if self._options.fsync and wire.FSYNC in self._link.extensions:
            requests.insert(0, (wire.EXTENDED, wire.string(wire.FSYNC.encode()) + field))
        if self._mode is not None:
            requests.insert(0, (wire.FSETSTAT, field + wire.mode_attributes(self._mode)))
        return requests

    async def _finish(self, last: Answers, pending: Pending) -> int:
        """Wait for all answers; note the size that the server tells."""
        while pending:
            await self._confirm(pending)
        for future in last[:-2]:
            wire.check(await self._within(future))
        told = await self._within(last[-2])
        wire.check(await self._within(last[-1]))
        with suppress(SftpStatus):  # a server without FSTAT is asked by name
            self.proven = Fields(wire.expect(told, wire.ATTRS)).attributes().size
        return self.confirmed or 0

    async def _confirm(self, pending: Pending) -> None:
        """Wait for the oldest block."""
        future, count = pending[0]
        wire.check(await future)  # the link fails it when the server is silent
        pending.popleft()
        self.confirmed = (self.confirmed or 0) + count

    async def _abandon(self, handle: bytes, pending: Pending) -> None:
        """After a failure: learn how far the server came, and close the file."""
        if self._link.lost:
            return
        closed = self._link.ask(wire.CLOSE, wire.string(handle))
        with suppress(SftpStatus, EcpdsError, TimeoutError):
            async with asyncio.timeout(DRAIN):
                while pending:
                    await self._confirm(pending)
                await closed

    async def _is_full(self, error: RemoteTransient, name: str) -> bool:
        """Tell whether a failure without reason came from a full disk: version 3 has no code."""
        if error.remote_code != "SSH_FX_FAILURE" or wire.STATVFS not in self._link.extensions:
            return False
        directory = self._place(name.rpartition("/")[0] or ".")
        try:
            extension = wire.string(wire.STATVFS.encode())
            body = await self._body(wire.EXTENDED, extension, directory, kind=wire.EXTENDED_REPLY)
        except (SftpStatus, EcpdsError):
            return False
        fields = Fields(body)
        _, fragment, _, _, available = (fields.u64() for _ in range(5))
        return available * fragment < self._link.write_size

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on."""
        with translated(Phase.VERIFY, name, RemoteName):
            request = (self._place(name), _U32.pack(wire.F_READ), _NO_ATTRIBUTES)
            handle = await self._body(wire.OPEN, *request, kind=wire.HANDLE)
        field = wire.string(handle)
        try:
            with translated(Phase.DATA, name):
                told, first = self._link.ask_first_block(field, offset)
                body = wire.expect(await self._within(told), wire.ATTRS)
                size = Fields(body).attributes().size or 0
                reader = Reader(self._link, field, offset, size, self._options.requests, first)
            while True:
                with translated(Phase.DATA, name):
                    block = await reader.next()
                if not block:
                    break
                yield block
        finally:
            self._link.let_go(field)
        if self.finishes:
            await self.finished(name)

    async def _let_go(self, handle: bytes) -> None:
        """Close a handle whose content does not matter any more."""
        if self._link.lost:
            return
        closed = self._link.ask(wire.CLOSE, wire.string(handle))
        with suppress(EcpdsError, TimeoutError):
            async with asyncio.timeout(DRAIN):
                await closed

    # --- requests -----------------------------------------------------------------------------

    async def _within(self, future: asyncio.Future[Answer], limit: float | None = None) -> Answer:
        if future.done():
            return future.result()
        seconds = self._timeouts.command.total_seconds() if limit is None else limit
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise RemoteTimeout(f"no answer within {seconds:g} s") from None

    async def _body(
        self, request: int, *fields: bytes, kind: int, limit: float | None = None
    ) -> bytes:
        answer = await self._within(self._link.ask(request, *fields), limit)
        body = wire.expect(answer, kind)
        return Fields(body).string() if kind == wire.HANDLE else body

    async def _done(self, request: int, *fields: bytes, limit: float) -> None:
        wire.check(await self._within(self._link.ask(request, *fields), limit))


async def _start(
    connection: asyncssh.SSHClientConnection, target: Target, options: SftpOptions
) -> SftpLink:
    """Open the SFTP channel."""
    stall = min(options.session_timeout, target.timeouts.stall).total_seconds()
    try:
        async with asyncio.timeout(target.timeouts.connect.total_seconds()):
            with translated_login():
                link = SftpLink(stall=stall)
                await connection.create_session(lambda: link, subsystem="sftp", encoding=None)
            await link.begin()
    except TimeoutError:
        raise RemoteTimeout("no SFTP session in time", phase=Phase.CONNECT) from None
    except ConnectionLost as error:
        raise RemoteTransient(
            f"the server started no SFTP: {error.message}", phase=Phase.CONNECT
        ) from None
    return link


def _joined(directory: str, below: str) -> str:
    return f"{directory.rstrip('/')}/{below}" if below and directory else directory or below


def octal(text: str) -> int | None:
    """Return permission bits, None for an empty text; RemoteConfig for anything else."""
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise RemoteConfig(f"sftp.chmod: {text!r} is no octal mode such as 640")
    return int(text, 8)


@contextmanager
def translated(
    phase: Phase, name: str, kind: type[RemoteError] = RemoteTransient
) -> Iterator[None]:
    """Turn negative answers and asyncssh's errors into ours; `kind` as in `sftp_link.failure`."""
    try:
        yield
    except SftpStatus as answer:
        raise wire.failure(answer, phase, name, kind) from None
    except (asyncssh.Error, ConnectionError) as error:
        raise ConnectionLost(f"the connection broke: {error}", phase=phase) from error
