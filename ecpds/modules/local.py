"""`genericFile`: a local or mounted directory as a remote system.

Only paths below the allowed roots exist for it: the directory of every name is resolved, links
included, and compared with the roots; the last part of a written name may not be a link.  Calls
on small files stay in the event loop, which costs less than a thread would; what waits for the
disk (sync, large copies, listings) goes to the disk pool.  A network mount may hang:
`file.useThreads` sends every call there.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import itertools
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, ParamSpec, Self, TypeVar

from ecpds.model.decode import opt
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
    SourceBroke,
)
from ecpds.model.names import ByteCount
from ecpds.modules.local_copy import kernel_copy, plain_copy, read, write_all
from ecpds.modules.local_scan import Scan
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Naming,
    SmallFiles,
    SmallPut,
    Surroundings,
    Target,
    TransferModule,
)
from ecpds.transfer.options import NamingOptions
from ecpds.transfer.source import READ, SMALL
from ecpds.transfer.syncs import sync_names, synced

P = ParamSpec("P")
Done = list[bool]  # the class below has a method of the name `list`
Numbers = list[int]
T = TypeVar("T")

KERNEL_BLOCK: Final = 8 * 1024 * 1024
KEEP: Final = timedelta(seconds=10)
LISTED: Final = 500
"""Entries of one visit to the disk pool while listing."""

_NO_KERNEL_COPY: Final = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MOMENTARY: Final = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions(NamingOptions):
    """Options of the `file` family."""

    prefix: ClassVar[str] = "file"

    durable: bool = opt(True, "Sync file and directory: Done survives a power cut.", key="fsync")
    chmod: str = opt("", "Permission bits of written files, octal; empty = by the umask.")
    reserve: ByteCount = opt(
        ByteCount(0), "Bytes that stay free; less room refuses the file.", key="reserve", low=0
    )
    use_threads: bool = opt(
        False, "Make every call in a thread: for network mounts.", key="useThreads"
    )


@contextmanager
def translated(phase: Phase, name: str) -> Iterator[None]:
    """Turn an OSError into the error that the scheduler understands."""
    try:
        yield
    except OSError as error:
        raise _error(error, phase, name) from error


def _error(error: OSError, phase: Phase, name: str) -> RemoteError:
    number = error.errno or 0
    kind: type[RemoteError] = RemoteName
    if number in _SPACE:
        kind = RemoteSpace
    elif number in _MOMENTARY:
        kind = RemoteTransient
    elif number == errno.ENOENT and phase not in (Phase.DATA, Phase.MKDIR):
        kind = RemoteMissing
    code = errno.errorcode.get(number, "")
    return kind(f"{name!r}: {error.strerror}", phase=phase, remote_code=code)


class FileModule(TransferModule[FileOptions]):
    """The directories of this machine."""

    name = "file"
    options = FileOptions
    moves_small = True
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
        | Feature.CHECKSUM
    )

    def __init__(self, target: Target, options: FileOptions, around: Surroundings) -> None:
        self._around = around
        self._options = options
        self._mode = _mode(options.chmod)
        self._roots = target.local_roots
        self._real_roots: tuple[str, ...] | None = None
        self._base = target.directory
        self._head = ""  # the directory used last, as named
        self._at = -1  # its descriptor
        if not options.use_threads:  # what may hang is watched one by one
            self.small = _Small(partial(type(self), target, options, around))

    @classmethod
    def naming(cls, options: FileOptions) -> Naming:
        """Return how files are named until complete."""
        return options.naming()

    @classmethod
    def keep_alive(cls, options: FileOptions) -> timedelta:
        """Return how long a session is kept: it holds nothing but the directory used last."""
        return KEEP

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: FileOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; raises RemoteConfig when no directory is allowed."""
        if not target.local_roots:
            raise RemoteConfig("no directory is allowed: see transfer.file_roots", phase=Phase.CWD)
        session = cls(target, options, around)
        try:
            yield session
        finally:
            session._leave()

    @property
    def peer(self) -> str:
        """Return the name of this machine as a peer."""
        return "localhost"

    async def stat(self, name: str) -> Entry:
        """Return the entry `name`; a link tells of what it leads to."""
        return await self._do(self._stat, name)

    async def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of `directory`, unsorted, `LISTED` at a time from the disk pool.

        A link tells size and time of what it leads to, so that selection rules on them make sense;
        one that leads out of the roots or nowhere is an entry with an error.
        """
        wanted = re.compile(fnmatch.translate(filter_text.lstrip("/") or "*"))
        run, scan = self._around.threads.run, Scan()
        try:
            await run("disk", scan.call, partial(self._open_directory, directory), None)
            more = partial(self._batch, directory)
            while entries := await run("disk", scan.call, more, ()):
                for entry in entries:
                    if wanted.match(entry.name):
                        yield entry
        finally:
            scan.close()

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on."""
        descriptor = await self.open_local(name)
        position = offset
        try:
            while True:
                with translated(Phase.DATA, name):
                    block = await self._around.threads.run(
                        "disk", os.pread, descriptor, READ, position
                    )
                if not block:
                    return
                yield block
                position += len(block)
        finally:
            os.close(descriptor)

    async def open_local(self, name: str) -> int:
        """Return a descriptor of the regular file `name`."""
        return await self._do(self._open, name)

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write `source` to `name`; synced when `file.fsync` says so."""
        descriptor = await self._do(self._create, name, offset, source.size)
        try:
            with translated(Phase.DATA, name):
                written = await self._write(descriptor, source, offset)
                if self._options.durable:
                    await self._around.syncs.file(self._around.threads, descriptor)
        finally:
            os.close(descriptor)
        return written

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename, atomically over an existing file."""
        await self._do(self._rename, old, new, replace)
        if self._options.durable:
            with translated(Phase.RENAME, new):
                await self._around.syncs.directory(self._around.threads, self._at)

    async def delete(self, name: str) -> None:
        """Delete a file or link."""
        await self._do(self._delete, name)

    async def mkdir(self, path: str) -> None:
        """Create a directory; an existing one is fine."""
        await self._do(self._mkdir, path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self._do(self._rmdir, path)

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the digest, read in the digest pool; None for an unknown algorithm."""
        if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
            return None
        descriptor = await self.open_local(name)
        with translated(Phase.VERIFY, name):
            return await self._around.threads.run("digest", _digest, descriptor, algorithm)

    async def _do(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a short call here, or in the disk pool when mounts may hang."""
        if self._options.use_threads:
            return await self._around.threads.run("disk", call, *args, **kwargs)
        return call(*args, **kwargs)

    # --- paths ------------------------------------------------------------------------------

    def _leave(self) -> None:
        if self._at >= 0:
            os.close(self._at)
            self._head, self._at = "", -1

    def _absolute(self, name: str, phase: Phase) -> str:
        if "\0" in name:
            raise RemoteName(f"{name!r} has a zero byte", phase=phase)
        path = f"{self._base}/{name}" if self._base and not name.startswith("/") else name
        if not path.startswith("/"):
            raise RemoteName(f"{name!r} is not absolute", phase=phase)
        return path

    def _is_inside(self, path: str) -> bool:
        """Tell whether a resolved path is a root or below one."""
        if any(path == root or path.startswith(f"{root}/") for root in self._roots):
            return True
        if self._real_roots is None:  # roots that are links themselves, or have a final slash
            self._real_roots = tuple(os.path.realpath(root) for root in self._roots)
        return any(path == root or path.startswith(f"{root}/") for root in self._real_roots)

    def _find(self, path: str, phase: Phase, *, beneath: int | None = None) -> int:
        """Return an O_PATH descriptor of what is there, links followed, if it is below a root."""
        found = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=beneath)
        try:
            where = os.readlink(f"/proc/self/fd/{found}")  # noqa: PTH115 - twice as fast
            if not self._is_inside(where):
                raise RemoteName(f"{path!r} is not below an allowed directory", phase=phase)
        except BaseException:
            os.close(found)
            raise
        return found

    def _enter(self, name: str, phase: Phase) -> str:
        """Make the directory of `name` the present one and return the last part of the name."""
        head, _, tail = self._absolute(name, phase).rstrip("/").rpartition("/")
        if tail in ("", ".", ".."):
            raise RemoteName(f"{name!r} names no file", phase=phase)
        if self._head != head or self._at < 0:
            found = self._find(head or "/", phase)
            self._leave()
            self._head, self._at = head, found
        return tail

    # --- calls, in the loop or in a thread --------------------------------------------------

    def _stat(self, name: str) -> Entry:
        with translated(Phase.VERIFY, name):
            found = self._find(self._absolute(name, Phase.VERIFY), Phase.VERIFY)
            try:
                return _entry(name, os.fstat(found), "")
            finally:
                os.close(found)

    def _open_directory(self, directory: str, scan: Scan) -> None:
        with translated(Phase.LIST, directory):
            found = self._find(self._absolute(directory, Phase.LIST), Phase.LIST)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            try:
                scan.open(lambda: os.open(".", flags, dir_fd=found))
            finally:
                os.close(found)

    def _batch(self, directory: str, scan: Scan) -> tuple[Entry, ...]:
        with translated(Phase.LIST, directory):
            some = itertools.islice(scan.entries, LISTED)
            return tuple(self._listed(item, scan.descriptor) for item in some)

    def _listed(self, item: os.DirEntry[str], at: int) -> Entry:
        try:
            if not item.is_symlink():
                return _entry(item.name, item.stat(follow_symlinks=False), "")
            link = os.readlink(item.name, dir_fd=at)
            found = self._find(item.name, Phase.LIST, beneath=at)
        except OSError as error:
            text = f"{item.name}: {error.strerror}"
            return Entry(kind=Kind.OTHER, name=item.name, error=text)
        except RemoteName as error:
            return Entry(kind=Kind.LINK, name=item.name, link=link, error=error.message)
        try:
            return _entry(item.name, os.fstat(found), link)
        finally:
            os.close(found)

    def _open(self, name: str) -> int:
        with translated(Phase.VERIFY, name):  # not the data phase: a missing file is missing
            found = self._find(self._absolute(name, Phase.DATA), Phase.DATA)
            try:
                if not stat.S_ISREG(os.fstat(found).st_mode):
                    raise RemoteName(f"{name!r} is no plain file")
                return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(found)

    def _create(self, name: str, offset: int, size: int) -> int:
        with translated(Phase.DATA, name):
            tail = self._enter(name, Phase.DATA)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            flags |= 0 if offset else os.O_TRUNC
            descriptor = os.open(tail, flags, 0o666, dir_fd=self._at)
            try:
                self._prepare(descriptor, size)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def _prepare(self, descriptor: int, size: int) -> None:
        room = os.fstatvfs(descriptor)
        free = room.f_bavail * room.f_frsize - self._options.reserve
        if free < max(size, 1):
            raise RemoteSpace(f"{max(free, 0)} bytes are free, {max(size, 1)} needed")
        if self._mode is not None:
            os.fchmod(descriptor, self._mode)

    def _rename(self, old: str, new: str, replace: bool) -> None:
        with translated(Phase.RENAME, new):
            source = self._enter(old, Phase.RENAME)
            begin = os.dup(self._at)
            try:
                tail = self._enter(new, Phase.RENAME)
                if replace:
                    os.replace(source, tail, src_dir_fd=begin, dst_dir_fd=self._at)
                    return
                # unlike a rename, a link never replaces
                os.link(source, tail, src_dir_fd=begin, dst_dir_fd=self._at, follow_symlinks=False)
                os.unlink(source, dir_fd=begin)
            finally:
                os.close(begin)

    def _delete(self, name: str) -> None:
        with translated(Phase.VERIFY, name):
            os.unlink(self._enter(name, Phase.VERIFY), dir_fd=self._at)

    def _mkdir(self, path: str) -> None:
        with translated(Phase.MKDIR, path):
            plain = os.path.normpath(self._absolute(path, Phase.MKDIR))
            if plain in map(os.path.normpath, self._roots):
                Path(plain).mkdir(parents=True, exist_ok=True)
                return
            tail = self._enter(path, Phase.MKDIR)
            try:
                os.mkdir(tail, dir_fd=self._at)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(tail, dir_fd=self._at).st_mode):
                    raise

    def _rmdir(self, path: str) -> None:
        with translated(Phase.VERIFY, path):
            os.rmdir(self._enter(path, Phase.VERIFY), dir_fd=self._at)

    def read_small(self, name: str, most: int) -> bytes:
        """Return up to `most` bytes; blocks."""
        descriptor = self._open(name)
        try:
            return os.pread(descriptor, most, 0)
        finally:
            os.close(descriptor)

    def put_small(self, files: Sequence[SmallPut]) -> Done:
        """Write all, sync all, rename all, sync their directories; blocks."""
        opened: Numbers = []
        done = [False] * len(files)
        try:
            for number, one in enumerate(files):
                with suppress(OSError, RemoteError, SourceBroke):
                    opened.append(self._copy_small(one))
                    done[number] = True
                if not done[number]:
                    opened.append(-1)
            for number, descriptor in enumerate(opened):
                if done[number] and self._options.durable:
                    done[number] = synced(descriptor)
            self._publish_small(files, done)
        finally:
            for descriptor in opened:
                if descriptor >= 0:
                    os.close(descriptor)
            self._leave()
        return done

    def _copy_small(self, one: SmallPut) -> int:
        """Return the open file with the content."""
        source = os.open(one.source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.pread(source, one.size + 1, 0)
        finally:
            os.close(source)
        if len(content) != one.size:
            raise SourceBroke(f"the content has {len(content)} bytes")
        target = self._create(one.written, 0, one.size)
        try:
            write_all(target, content, 0)
        except BaseException:
            os.close(target)
            raise
        return target

    def _publish_small(self, files: Sequence[SmallPut], done: Done) -> None:
        """Rename what is whole; remove the rest."""
        heads: dict[str, Numbers] = {}
        for number, one in enumerate(files):
            try:
                if done[number]:
                    self._rename(one.written, one.name, replace=True)
                    heads.setdefault(one.name.rpartition("/")[0], []).append(number)
                    continue
            except RemoteError:
                done[number] = False
            with suppress(RemoteError):
                self._delete(one.written)
        for numbers in heads.values() if self._options.durable else ():
            try:
                self._enter(files[numbers[0]].name, Phase.RENAME)
                is_synced = sync_names(self._at) is None
            except (OSError, RemoteError):
                is_synced = False
            for number in numbers:
                done[number] = is_synced

    # --- content ----------------------------------------------------------------------------

    async def _write(self, target: int, source: ByteSource, offset: int) -> int:
        if source.descriptor is None or source.size < 0:
            return await self._write_blocks(target, source, offset)
        if source.size <= SMALL:
            return await self._write_small(target, source.descriptor, source, offset)
        return await self._write_large(target, source.descriptor, source, offset)

    async def _write_blocks(self, target: int, source: ByteSource, offset: int) -> int:
        position = offset
        async for block in source:
            position += await self._do(write_all, target, block, position)
        return position - offset

    async def _write_small(
        self, target: int, descriptor: int, source: ByteSource, offset: int
    ) -> int:
        left = source.size
        while left > 0:
            count = await source.allow(left)
            block = read(descriptor, count, source.offset + source.size - left)
            await self._do(write_all, target, block, offset + source.size - left)
            source.count(len(block))
            left -= len(block)
        return source.size

    async def _write_large(
        self, target: int, descriptor: int, source: ByteSource, offset: int
    ) -> int:
        moved = 0
        copy: Callable[[int, int, int, int, int], int] = kernel_copy
        while moved < source.size:
            count = await source.allow(min(KERNEL_BLOCK, source.size - moved))
            begin = source.offset + moved
            try:
                done = await self._around.threads.run(
                    "disk", copy, descriptor, target, count, begin, offset + moved
                )
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY or copy is plain_copy:
                    raise
                copy = plain_copy
                continue
            source.count(done)
            moved += done
        return moved


class _Small(SmallFiles):
    """The small files of one session; a thread uses a session of its own, which nobody closes."""

    def __init__(self, make: Callable[[], FileModule]) -> None:
        self._make = make
        self._reader: FileModule | None = None

    def read(self, name: str, most: int) -> bytes:
        """Return up to `most` bytes."""
        if self._reader is None:
            self._reader = self._make()
        return self._reader.read_small(name, most)

    def put(self, files: Sequence[SmallPut]) -> list[bool]:
        """Write, sync, rename."""
        return self._make().put_small(files)


def _mode(text: str) -> int | None:
    if not text:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise RemoteConfig(f"file.chmod: {text!r} is no octal mode such as 640")
    return mode


def _entry(name: str, state: os.stat_result, link: str) -> Entry:
    kind = Kind.OTHER
    if link:
        kind = Kind.LINK
    elif stat.S_ISREG(state.st_mode):
        kind = Kind.FILE
    elif stat.S_ISDIR(state.st_mode):
        kind = Kind.DIRECTORY
    return Entry(
        kind=kind,
        name=name,
        size=state.st_size,
        mtime=datetime.fromtimestamp(state.st_mtime_ns // 1000 / 1_000_000, UTC),
        owner=str(state.st_uid),
        group=str(state.st_gid),
        mode=stat.S_IMODE(state.st_mode),
        link=link,
    )


def _digest(descriptor: int, algorithm: str) -> str:
    with os.fdopen(descriptor, "rb", buffering=0) as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
