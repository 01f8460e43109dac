"""A gate and sessions over a plain directory: the whole of `vfs.contract`, for portal tests.

Directories below `tree` are destinations.  There is no store, no queue and no history: what a test
wants to know is in `downloads`, `uploads` and `sessions` of the gate and on the disk.  Failures are
arranged by setting attributes of the gate (`banned`, `full`, `quota`, `max_file_size`, `rate`,
`stopping`).
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import os
import shutil
import time
import unicodedata
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ecpds.model.account import DataUser, Permission, Profile, Protocol
from ecpds.model.errors import (
    Banned,
    Busy,
    ChecksumMismatch,
    Denied,
    Exists,
    Incomplete,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    Stopping,
    StorageFull,
    TooLarge,
    TooManyConnections,
    Unauthenticated,
    Unsupported,
)
from ecpds.vfs.contract import (
    Credential,
    Gate,
    Listing,
    Node,
    Password,
    ProvenKey,
    Reader,
    Resumed,
    Session,
    Writer,
)

ALL = frozenset(Permission)
_BLOCK = 1 << 20


@dataclass(kw_only=True)
class Account:
    """What the disk gate knows of one data user."""

    password: str = "secret"
    operations: frozenset[Permission] = ALL
    denied: frozenset[tuple[Permission, str]] = frozenset()  # operation and path prefix
    options: dict[str, str] = field(default_factory=dict)
    ssh_keys: tuple[str, ...] = ()
    open_access: bool = False
    protocols: frozenset[Protocol] = frozenset(Protocol)
    max_connections: int = 100


@dataclass(frozen=True, kw_only=True)
class Download:
    """One finished read."""

    path: str
    sent: int
    offset: int
    error: BaseException | None


class DiskReader(Reader):
    """An open file of the tree."""

    def __init__(self, gate: DiskGate, node: Node, descriptor: int) -> None:
        self.node = node
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.rate = gate.rate
        self._gate = gate
        self._sent = 0
        self._offset = 0
        self._begun = time.monotonic()

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, min(length, _BLOCK), offset)

    def pause(self, sent: int) -> float:
        return _pause(sent, self.rate, self._begun)

    def count(self, sent: int, *, offset: int = 0, last: bool = True) -> None:
        self._sent += sent
        self._offset = offset

    async def close(self, error: BaseException | None = None) -> None:
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        self._gate.downloads.append(
            Download(path=self.node.path, sent=self._sent, offset=self._offset, error=error)
        )


class DiskWriter(Writer):
    """A temporary file that `commit` renames into the tree."""

    def __init__(
        self,
        session: DiskSession,
        path: str,
        spool: Path,
        *,
        offset: int,
        exclusive: bool,
        mtime: datetime | None,
        metadata: Mapping[str, str],
    ) -> None:
        gate = session.gate
        self.descriptor = os.open(spool, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.descriptor, offset)
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        self.received = offset
        self.limit = min(
            (n for n in (gate.max_file_size, gate.quota) if n is not None), default=None
        )
        self.rate = gate.rate
        self._begun = time.monotonic()
        self._base = offset
        self._session = session
        self._gate = gate
        self._path = path
        self._spool = spool
        self._exclusive = exclusive
        self._mtime = mtime
        self.replaces = gate.place(path).is_file()
        self._metadata = dict(metadata)
        self._extents = [(0, offset)] if offset else []  # sorted, disjoint, not touching
        self._park = False
        self._done = False

    def write(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> int:
        start = self.received if offset is None else offset
        self._check(start + len(data))
        done, view = 0, memoryview(data)
        while done < len(view):
            done += os.pwrite(self.descriptor, view[done:], start + done)
        self._add(start, start + done)
        return done

    def advance(self, count: int) -> None:
        self._add(self.received, self.received + count)
        self._check(self.received)

    def pause(self) -> float:
        return _pause(self.received - self._base, self.rate, self._begun)

    def _check(self, end: int) -> None:
        if self._gate.full:
            raise StorageFull("no volume has room")
        if self._gate.max_file_size is not None and end > self._gate.max_file_size:
            raise TooLarge(f"files may have {self._gate.max_file_size} bytes here")
        if self._gate.quota is not None and end > self._gate.quota:
            raise QuotaExceeded("Upload quota exceeded")

    def _add(self, start: int, end: int) -> None:
        """Join the range to the ones that are there; most writes just lengthen the last one."""
        if self._extents and self._extents[-1][1] == start:
            self._extents[-1] = (self._extents[-1][0], end)
        elif end > start:
            joined: list[tuple[int, int]] = []
            for first, last in sorted([*self._extents, (start, end)]):
                if joined and first <= joined[-1][1]:
                    joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
                else:
                    joined.append((first, last))
            self._extents = joined
        self.received = self._extents[-1][1] if self._extents else 0

    async def commit(
        self,
        *,
        size: int | None = None,
        digests: Mapping[str, str] | None = None,
        etag: str | None = None,
        last_check: Callable[[], Awaitable[None]] | None = None,
    ) -> Node:
        if last_check is not None:
            await last_check()
        if self._extents not in ([], [(0, self.received)]):
            raise Incomplete("some bytes in the middle are missing")
        if size is not None and size != self.received:
            raise Incomplete(f"{self.received} of {size} bytes came")
        for algorithm, expected in (digests or {}).items():
            if digest(self._spool, algorithm) != expected.lower():
                raise ChecksumMismatch(f"the {algorithm} differs")
        if self._gate.durable:
            await asyncio.to_thread(os.fdatasync, self.descriptor)
        place = self._gate.place(self._path)
        if self._exclusive and place.exists():
            raise Exists(f"{self._path} exists")
        place.parent.mkdir(parents=True, exist_ok=True)
        self._spool.replace(place)
        self._done = True
        self._register(etag)
        await self.close()
        return self._gate.node(self._path)

    def _register(self, etag: str | None) -> None:
        if self._mtime:
            self._gate.source_times[self._path] = self._mtime
        self._gate.metadata[self._path] = self._metadata
        self._gate.etags.pop(self._path, None)
        if etag is not None:
            self._gate.etags[self._path] = f'"{etag}"'
        self._gate.uploads.append(self._path)

    def park(self, *, expected: bool = False) -> None:
        self._park = True

    async def close(self) -> None:
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        self._gate.writing.discard(self._path)
        if self._park and not self._done and self.received:
            self._gate.parked[self._session.profile.user.login, self._path] = self._spool
        elif not self._done:
            self._spool.unlink(missing_ok=True)


class DiskSession(Session):
    """A logged-in client of the disk gate."""

    def __init__(self, gate: DiskGate, login: str, protocol: Protocol, peer: str) -> None:
        account = gate.accounts[login]
        self.gate = gate
        self.account = account
        self.protocol = protocol
        self.peer = peer
        self.closed = False
        self.kicked = False  # a test sets this to play the operator
        self.profile = Profile(
            user=DataUser(login=login, operations=account.operations),
            destinations=gate.destinations,
            operations=account.operations,
            options=account.options,
        )

    @property
    def options(self) -> Mapping[str, str]:
        return self.account.options

    def may(self, permission: Permission, path: str) -> bool:
        return permission in self.account.operations and not any(
            permission is denied and self.absolute(path).startswith(prefix)
            for denied, prefix in self.account.denied
        )

    def _need(self, permission: Permission, path: str) -> None:
        if self.gate.stopping:
            raise Stopping("the node is shutting down")
        if not self.may(permission, path):
            raise Denied(f"{permission.value} is not permitted")

    def absolute(self, path: str, *, base: str = "/") -> str:
        text = unicodedata.normalize("NFC", path.replace("\\", "/"))
        if any(unicodedata.category(c) == "Cc" for c in text):
            raise InvalidName("names have no control characters")
        found: list[str] = []
        for part in (text if text.startswith("/") else f"{base}/{text}").split("/"):
            if len(os.fsencode(part)) > 255:
                raise InvalidName("a name has at most 255 bytes")
            if part == "..":
                if not found:
                    raise NotFound(f"{path} is not there")
                found.pop()
            elif part not in ("", "."):
                found.append(part)
        if found[:1] == ["DATA"]:
            del found[0]
        return "/" + "/".join(found)

    async def stat(self, path: str) -> Node:
        wanted = self.absolute(path)
        if not any(
            self.may(p, wanted)
            for p in (Permission.DIR, Permission.GET, Permission.SIZE, Permission.MTIME)
        ):
            raise NotFound(f"{wanted} is not there")
        return self.gate.node(wanted)

    async def list(self, path: str, listing: Listing | None = None) -> AsyncIterator[Node]:
        wanted, how = self.absolute(path), listing or Listing()
        self._need(Permission.DIR, wanted)
        if not self.gate.node(wanted).is_directory:
            raise NotDirectory(f"{wanted} is a file")
        below = "" if wanted == "/" else wanted
        names = await asyncio.to_thread(lambda: os.listdir(self.gate.place(wanted)))
        nodes = [self.gate.node(f"{below}/{name}") for name in names]
        keys: dict[str | None, Callable[[Node], tuple[object, str]]] = {
            "size": lambda n: (n.size, n.name),
            "time": lambda n: (n.mtime, n.name),
        }
        nodes.sort(key=keys.get(how.sort, lambda n: (n.name, "")), reverse=how.order == "desc")
        if how.pattern is not None:
            nodes = [n for n in nodes if fnmatch.fnmatchcase(n.name, how.pattern)]
        if how.cursor is not None:
            places = [n.name for n in nodes]
            nodes = nodes[places.index(how.cursor) + 1 :] if how.cursor in places else []
        for node in nodes[: how.limit]:
            yield node

    async def open_read(self, path: str) -> Reader:
        wanted = self.absolute(path)
        self._need(Permission.GET, wanted)
        node = self.gate.node(wanted)
        if node.is_directory:
            raise IsDirectory(f"{wanted} is a directory")
        return DiskReader(self.gate, node, os.open(self.gate.place(wanted), os.O_RDONLY))

    async def open_write(
        self,
        path: str,
        *,
        size: int | None = None,
        offset: int = 0,
        exclusive: bool = False,
        if_match: Sequence[str] = (),
        mtime: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        make_parents: bool = True,
    ) -> Writer:
        wanted = self.absolute(path)
        self._need(Permission.PUT, wanted)
        self._check_place(wanted, exclusive=exclusive, make_parents=make_parents)
        if if_match:
            present = self.gate.node(wanted).etag if self.gate.place(wanted).exists() else ""
            if not present or not {"*", present} & set(if_match):
                raise PreconditionFailed(f"{wanted} is another version")
        if size is not None:
            self._check_size(size)
        spool = self._spool(wanted, offset)
        self.gate.writing.add(wanted)
        return DiskWriter(
            self,
            wanted,
            spool,
            offset=offset,
            exclusive=exclusive,
            mtime=mtime,
            metadata=metadata or {},
        )

    def _check_place(self, path: str, *, exclusive: bool, make_parents: bool) -> None:
        place = self.gate.place(path)
        if path.count("/") < 2:
            raise (
                IsDirectory(f"{path} is a directory")
                if place.is_dir()
                else Denied("files live in destinations")
            )
        if path in self.gate.writing:
            raise Busy(f"Already processed: {path}")
        if place.is_dir():
            raise IsDirectory(f"{path} is a directory")
        if exclusive and place.exists():
            raise Exists(f"{path} exists")
        self.gate.node("/" + path.split("/")[1])
        self._check_parents(place, path, make_parents=make_parents)

    def _check_parents(self, place: Path, path: str, *, make_parents: bool) -> None:
        for parent in place.parents:
            if parent == self.gate.tree:
                return
            if parent.is_file():
                raise NotDirectory(f"a part of {path} is a file")
            if not parent.exists():
                if not make_parents:
                    raise NotFound(f"the directory of {path} is not there")
                self._need(Permission.MKDIR, path.rpartition("/")[0])

    def _check_size(self, size: int) -> None:
        if self.gate.full:
            raise StorageFull("no volume has room")
        if self.gate.max_file_size is not None and size > self.gate.max_file_size:
            raise TooLarge(f"files may have {self.gate.max_file_size} bytes here")
        if self.gate.quota is not None and size > self.gate.quota:
            raise QuotaExceeded("Upload quota exceeded")

    def _spool(self, path: str, offset: int) -> Path:
        parked = self.gate.parked.pop((self.profile.user.login, path), None)
        if offset:
            if parked is None or parked.stat().st_size < offset:
                raise Unsupported("Offset not supported: there is no parked upload of that length")
            return parked
        if parked:
            parked.unlink()
        self.gate.spooled += 1
        return self.gate.spool / str(self.gate.spooled)

    async def parked(self, path: str) -> int:
        found = self.gate.parked.get((self.profile.user.login, self.absolute(path)))
        return found.stat().st_size if found else 0

    async def delete(self, path: str) -> None:
        wanted = self.absolute(path)
        self._need(Permission.DELETE, wanted)
        if self.gate.node(wanted).is_directory:
            raise IsDirectory(f"{wanted} is a directory")
        self.gate.place(wanted).unlink()

    async def mkdir(self, path: str) -> None:
        wanted = self.absolute(path)
        self._need(Permission.MKDIR, wanted)
        place = self.gate.place(wanted)
        if place.exists():
            raise Exists(f"{wanted} exists")
        if wanted.count("/") < 2:
            raise Denied("directories live in destinations")
        self.gate.node("/" + wanted.split("/")[1])
        place.mkdir(parents=True)

    async def rmdir(self, path: str, *, recursive: bool = False) -> None:
        wanted = self.absolute(path)
        self._need(Permission.RMDIR, wanted)
        if not self.gate.node(wanted).is_directory:
            raise NotDirectory(f"{wanted} is a file")
        if wanted.count("/") < 2:
            raise Denied("a destination is not removed here")
        place = self.gate.place(wanted)
        if await asyncio.to_thread(lambda: bool(os.listdir(place))) and not recursive:
            raise NotEmpty(f"{wanted} has members")
        await asyncio.to_thread(partial(shutil.rmtree, place))

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        source, target = self.absolute(old), self.absolute(new)
        self._need(Permission.RENAME, source)
        self._need(Permission.RENAME, target)
        self.gate.node(source)
        if source.split("/")[1] != target.split("/")[1] or target.count("/") < 2:
            raise Unsupported("a rename stays in its destination")
        if self.gate.place(target).exists() and not replace:
            raise Exists(f"{target} exists")
        self.gate.place(target).parent.mkdir(parents=True, exist_ok=True)
        self.gate.place(source).rename(self.gate.place(target))

    async def set_mtime(self, path: str, mtime: datetime) -> None:
        wanted = self.absolute(path)
        self._need(Permission.MTIME, wanted)
        self.gate.node(wanted)
        self.gate.source_times[wanted] = mtime

    async def digest(self, path: str, algorithm: str) -> str:
        wanted = self.absolute(path)
        self._need(Permission.GET, wanted)
        if self.gate.node(wanted).is_directory:
            raise IsDirectory(f"{wanted} is a directory")
        return digest(self.gate.place(wanted), algorithm)

    def touch(self) -> None:
        self.gate.touches += 1

    @property
    def closing(self) -> bool:
        return self.kicked

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.gate.sessions.remove(self)


class DiskGate(Gate):
    """Logs users in to a directory tree; `accounts` is by login name."""

    def __init__(
        self,
        root: Path,
        accounts: Mapping[str, Account] | None = None,
        *,
        destinations: Sequence[str] = ("NORTH", "SOUTH"),
        durable: bool = False,
    ) -> None:
        self.tree = root / "tree"
        self.spool = root / "spool"
        for place in (self.spool, *(self.tree / name for name in destinations)):
            place.mkdir(parents=True, exist_ok=True)
        self.destinations = tuple(sorted(destinations))
        self.accounts = dict(accounts or {"alice": Account()})
        self.durable = durable
        self.banned: set[str] = set()
        self.stopping = False
        self.full = False
        self.max_file_size: int | None = None
        self.quota: int | None = None
        self.welcome = ""  # text after login
        self.greeting = "ecpds test"
        self.logins: list[tuple[str, bool]] = []
        self.sessions: list[DiskSession] = []  # open ones
        self.downloads: list[Download] = []
        self.uploads: list[str] = []  # paths, in the order of their commits
        self.writing: set[str] = set()
        self.parked: dict[tuple[str, str], Path] = {}
        self.source_times: dict[str, datetime] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.etags: dict[str, str] = {}  # those that came with an upload, quoted
        self.rate: int | None = None  # bytes a second of each transfer
        self.spooled = 0
        self.touches = 0

    async def login(
        self, user: str, credential: Credential, *, protocol: Protocol, peer: str
    ) -> Session:
        await self.check(peer)
        if self.stopping:
            raise Stopping("the node is shutting down")
        account = self.accounts.get(user)
        good = account is not None and _accepts(account, credential)
        self.logins.append((user, good))
        if account is None or not good:
            raise Unauthenticated("Login failed")
        if protocol not in account.protocols:
            raise Denied("Protocol not allowed")
        if sum(s.profile.user.login == user for s in self.sessions) >= account.max_connections:
            raise TooManyConnections(
                f"Maximum number of connections exceeded ({account.max_connections})"
            )
        session = DiskSession(self, user, protocol, peer)
        self.sessions.append(session)
        return session

    async def check(self, peer: str) -> None:
        if peer in self.banned:
            raise Banned("Address banned")

    async def authorised_keys(self, user: str) -> Sequence[str]:
        account = self.accounts.get(user)
        return account.ssh_keys if account else ()

    def banner(self, user: str | None = None) -> str:
        return self.greeting if user is None else self.welcome

    def place(self, path: str) -> Path:
        """Return where the normal `path` is on the disk."""
        return self.tree / path[1:]

    def node(self, path: str) -> Node:
        """Return the node at the normal `path`; raise NotFound."""
        place = self.place(path)
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{path} is not there") from error
        directory = place.is_dir()
        own = f'"{found.st_ino:x}-{found.st_mtime_ns:x}"'
        mtime = datetime.fromtimestamp(found.st_mtime_ns // 1000 / 1e6, UTC)
        return Node(
            name=path.rpartition("/")[2],
            path=path,
            kind="directory" if directory else "file",
            size=0 if directory else found.st_size,
            mtime=None if path == "/" else mtime,
            transfer_id=None if directory else found.st_ino,
            file_id=None if directory else found.st_ino,
            etag="" if directory else self.etags.get(path, own),
            checksum="" if directory or found.st_size > _BLOCK else digest(place, "adler32"),
            destination=path.split("/")[1],
            metadata=self.metadata.get(path, {}),
        )


def _accepts(account: Account, credential: Credential) -> bool:
    if account.open_access or isinstance(credential, Resumed):
        return True
    if isinstance(credential, Password):
        return credential.text.reveal() == account.password
    if isinstance(credential, ProvenKey):
        wanted = credential.line.split()[:2]
        return any(line.split()[:2] == wanted for line in account.ssh_keys)
    return False


def _pause(moved: int, rate: int | None, begun: float) -> float:
    return max(0.0, begun + moved / rate - time.monotonic()) if rate else 0.0


def digest(place: Path, algorithm: str) -> str:
    """Return the hex digest of a file; CRC-32C bit by bit, for small files."""
    content = place.read_bytes()
    if algorithm == "adler32":
        return f"{zlib.adler32(content):08x}"
    if algorithm == "crc32":
        return f"{zlib.crc32(content):08x}"
    if algorithm == "crc32c":
        register = 0xFFFFFFFF
        for byte in content:
            register ^= byte
            for _ in range(8):
                register = register >> 1 ^ (0x82F63B78 & -(register & 1))
        return f"{register ^ 0xFFFFFFFF:08x}"
    if algorithm not in ("md5", "sha1", "sha256", "sha512"):
        raise Unsupported(f"no digest {algorithm!r}")
    return hashlib.new(algorithm, content).hexdigest()
