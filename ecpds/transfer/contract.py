"""What a transfer module is: one open session with one remote system.

A module speaks one protocol and knows nothing of queues, retries, quotas or the store.  `deliver`
and `fetch` (beside this file) own temporary names, verification, renaming and cleaning up; the
module only does the single acts.  Each act may raise `RemoteError`s (with phase, code and text of
the remote side), `SourceBroke`, `Unsupported`, and nothing else; the translation from the
library's errors is one context manager per module.  Every await on a socket is bounded by a time-
out of `Target.timeouts`.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Flag, auto
from types import MappingProxyType
from typing import ClassVar, Generic, Self, TypeVar

from ecpds.base.clock import Clock
from ecpds.base.threads import Threads
from ecpds.model.entry import Entry
from ecpds.model.errors import Unsupported
from ecpds.model.options import OptionFamily
from ecpds.model.secret import Secret
from ecpds.transfer.memory import Made, Memory
from ecpds.transfer.meter import Meter
from ecpds.transfer.proxies import Proxy
from ecpds.transfer.sockets import Addresses, SocketTuning
from ecpds.transfer.subscription import Subscriber
from ecpds.transfer.syncs import Syncs


class Feature(Flag):
    """What a module can do; tests hold that each works and each missing one raises Unsupported."""

    NONE = 0
    LIST = auto()
    GET = auto()
    PUT = auto()
    RESUME_GET = auto()  # get() honours offset > 0
    RESUME_PUT = auto()  # put() honours offset > 0
    SIZE = auto()
    DELETE = auto()
    RENAME = auto()
    REPLACE = auto()  # rename() over an existing name is atomic
    MKDIR = auto()
    RMDIR = auto()
    ATOMIC_PUT = auto()  # a put under the final name becomes visible only when complete
    CHECKSUM = auto()  # the server can tell a digest
    COPY = auto()  # the server makes copies by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Longest waits of a session."""

    connect: timedelta = timedelta(minutes=1)
    command: timedelta = timedelta(seconds=90)  # one reply, one stat
    stall: timedelta = timedelta(minutes=5)  # no byte moved during put or get
    close: timedelta = timedelta(seconds=10)
    delete: timedelta = timedelta(seconds=90)
    listing: timedelta = timedelta(seconds=90)  # until the next part of a listing
    mkdir: timedelta = timedelta(seconds=90)
    rename: timedelta = timedelta(seconds=90)
    rmdir: timedelta = timedelta(seconds=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTrust:
    """How a remote certificate is verified, in one vocabulary for all modules (`ectrans.tls*`)."""

    verify: bool = True
    ca: str = ""  # path or PEM text; empty = the system's
    pin: str = ""  # SHA-256 of the certificate, hex; replaces the chain check
    client_certificate: str = ""  # path or PEM text with certificate and key
    minimum: str = ""  # TLS version: 1.2, 1.3; empty = as the module says


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingStyle:
    """How the listing lines of a server read (`acquisition.systemKey` and its neighbours)."""

    system: str = ""
    default_format: str = ""
    recent_format: str = ""
    month_names: str = ""
    language: str = ""
    regex: str = ""
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and as whom to connect; never a credential string."""

    host_name: str  # nickname of the Host, for messages
    host: str  # name or address as configured; used for SNI and certificate checks
    address: str = ""  # resolved address to connect to; empty = resolve `host`
    login: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    directory: str = ""  # working directory or base path, may be empty
    tls: TlsTrust = field(default_factory=TlsTrust)
    timeouts: Timeouts = field(default_factory=Timeouts)
    block_size: int = 256 * 1024
    local_roots: tuple[str, ...] = ()  # directories genericFile may use (transfer.file_roots)
    sockets: SocketTuning = field(default_factory=SocketTuning)
    may_use_old_address: bool = True  # when the name service does not answer
    listing: ListingStyle = field(default_factory=ListingStyle)
    proxy: Proxy | None = None  # through which `open_socket` connects


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a module may use of the process: the thread pools and the clock."""

    threads: Threads
    clock: Clock
    addresses: Addresses = field(default_factory=Addresses)
    memory: Memory = field(default_factory=Memory)
    made: Made = field(default_factory=Made)
    syncs: Syncs = field(default_factory=Syncs)
    key_directories: tuple[str, ...] = ()  # where hosts' options may name private key files
    egress_allow: tuple[str, ...] = ()  # private networks to which links may lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the other side shows of itself before any login, believed or not."""

    kind: str  # "certificate" or "host key"
    fingerprint: str  # as the option that pins it takes it
    text: str = ""  # for people: issued for whom, by whom, until when
    pin_option: str = ""  # that option


class ByteSource(ABC):
    """Content on its way out: an async iterator of blocks, or a plain descriptor."""

    size: int  # bytes that will come from `offset` on; -1 unknown
    offset: int  # first byte that is sent
    descriptor: int | None = None  # plain file, to be read from `offset`; None = only iterate
    meter: Meter  # counts what was taken; `deliver` watches it

    def start_at(self, offset: int) -> None:
        """Begin again, at that byte; raises Unsupported when it cannot be read twice."""
        raise Unsupported("this content can be read once only", offset=offset)

    async def allow(self, count: int) -> int:
        """Wait until bytes may go (rate limits); return how many of `count`, at least one.

        For takers through the descriptor; iteration waits by itself.
        """
        return count

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield blocks; raises SourceBroke when the content cannot be read."""

    @abstractmethod
    def count(self, sent: int) -> None:
        """Tell that `sent` more bytes were taken through the descriptor; iteration counts itself.

        Raises RemoteCancelled when the transfer was stopped.
        """


class ByteSink(ABC):
    """Content on its way in."""

    @abstractmethod
    async def write(self, block: bytes | memoryview) -> None:
        """Take the next block; raises what the storing side raises (StorageFull, OSError)."""

    async def copy_from(self, descriptor: int, offset: int, count: int) -> int:
        """Take up to `count` bytes of a plain file at `offset` by a kernel copy; return how many.

        Called in blocks of a few MiB.  -1: not offered, use `write`.
        """
        return -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How a file is named on the remote side until it is complete.

    The written name is prefix + base + `.` + random part + suffix in the directory of the final
    name. Prefix and suffix both empty mean the suffix `.tmp`.
    """

    temporary: bool = True
    prefix: str = ""
    suffix: str = ""
    make_parents: bool = True  # after the server said that the directory is missing
    delete_first: bool = False  # delete the final name before the rename even if rename can replace

    def written_name(self, name: str, token: str = "") -> str:
        """Return the written name for the final name `name`, cut to 255 bytes.

        `token` is the part that makes it unique; random when empty.
        """
        if not self.temporary:
            return name
        directory, slash, base = name.rpartition("/")
        prefix, suffix = self.prefix, self.suffix
        if not prefix and not suffix:
            suffix = ".tmp"
        tail = f".{token or secrets.token_hex(4)}{suffix}"
        room = 255 - len((prefix + tail).encode())
        base = base.encode()[:room].decode(errors="ignore")
        return f"{directory}{slash}{prefix}{base}{tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A remote file that an attempt began and did not finish; kept in the attempt record."""

    name: str  # as written on the remote side
    offset: int  # bytes from the start that were handed to the remote side
    version: str  # of the source content; another one never goes on from here
    state: str = ""  # of an upload that shows only when complete (`TransferModule.upload`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A small file to be written beside the final name, after it (`<name>.md5`)."""

    extension: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallPut:
    """A small file to be written under one name and published under another."""

    written: str
    name: str
    source: str  # a path on this machine
    size: int  # bytes that it must have


class SmallFiles(ABC):
    """Moves small files of this machine, many in one visit to a thread; all calls block."""

    @abstractmethod
    def read(self, name: str, most: int) -> bytes:
        """Return up to `most` bytes of the file `name`; raises RemoteError, OSError."""

    @abstractmethod
    def put(self, files: Sequence[SmallPut]) -> list[bool]:
        """Write, sync, rename; tell for each file whether it is there, whole and durable.

        What could not be done has left nothing, and is done again by `put` of the module, which
        tells why.
        """


O = TypeVar("O", bound=OptionFamily)  # noqa: E741 - the family of a module


class TransferModule(ABC, Generic[O]):
    """An open session with one Host; made by `connect`, used for one act at a time."""

    name: ClassVar[str]  # "sftp": method genericSftp
    options: ClassVar[type[OptionFamily]]
    features: ClassVar[Feature] = Feature.NONE

    moves_small: ClassVar[bool] = False  # sessions have `small`
    sends: ClassVar[bool] = True  # put() moves bytes away; False: nothing is counted as sent
    sets_off: ClassVar[bool] = False  # a put sets something off that delete() does not undo

    confirmed: int | None = None
    """Bytes of the last put known to be at the far end without a hole, counted from its offset.

    None: bytes arrive in order, so that the size of the remote file tells.
    """

    upload: str = ""
    """State of the put under way, for an ATOMIC_PUT module that can RESUME_PUT; at most 2000 bytes.

    Part numbers, session address, whatever another session needs to go on with it.
    """

    on_upload: Callable[[str], None] | None = None
    """Is told `upload` as soon as it is known, so that it can be stored before the first byte."""

    proven: int | None = None
    """Size of the file of the last put, if the server told it behind the last byte.

    Or compared a digest of all of it; `verify = "size"` then asks nothing more.
    """

    digests: Mapping[str, str] = MappingProxyType({})
    """Hex digests by algorithm of what the next put brings, for servers that keep such facts."""

    keeps_digests: ClassVar[bool] = False  # put() stores `digests`, so that no sidecar is needed

    listing: ListingStyle | None = None
    """How the lines of the next listings read, where a directory line says it; None: as the Host's.
    """

    levels: int = 0
    """Levels of the directory whose parents are being made, for commands around `mkdir`."""

    finishes: bool = False
    """Whether `finished` is to be called."""

    small: SmallFiles | None = None
    """What moves many small files at once, None where each goes its own way."""

    @classmethod
    def naming(cls, options: O) -> Naming:
        """Return how files are named until complete, out of the module's own options."""
        return Naming(temporary=Feature.RENAME in cls.features)

    @classmethod
    def keep_alive(cls, options: O) -> timedelta:
        """Return how long an idle session may wait for its next use; zero = close it at once."""
        return timedelta(0)

    @classmethod
    def probe_every(cls, options: O) -> timedelta:
        """Return the pause between probes of an idle session; zero = only before its next use."""
        return timedelta(0)

    @classmethod
    def address(cls, target: Target, options: O) -> tuple[str, int] | None:
        """Return the name and port that sessions connect to, None when there is no such place."""
        return None

    @classmethod
    async def identity(cls, target: Target, options: O, around: Surroundings) -> Identity | None:
        """Return what the other side shows of itself, without a login; None = it shows nothing.

        Nothing that is secret is sent.  Raises RemoteError.
        """
        return None

    @classmethod
    @abstractmethod
    def connect(
        cls, target: Target, options: O, around: Surroundings
    ) -> AbstractAsyncContextManager[Self]:
        """Open, authenticate and give a session; leaving the block closes it.

        The pool may leave the block from another task than the one that entered it: no TaskGroup
        and no `asyncio.timeout` may be open at the `yield`.  On failure everything opened is
        released.  Raises RemoteAuth, RemotePin, RemoteConfig, RemoteTimeout, RemoteTransient with
        the phase in which it happened.
        """

    @classmethod
    def subscriber(cls, target: Target, options: O, around: Surroundings) -> Subscriber | None:
        """Return who listens to a Host that announces its files; None: it is listed."""
        return None

    @property
    def peer(self) -> str:
        """Return the address that the session is connected to, for the history."""
        return ""

    def statistics(self) -> Mapping[str, int]:
        """Return what the kernel knows of the connection (`sockets.statistics`), or nothing."""
        return {}

    async def alive(self) -> bool:
        """Tell whether the session can be used again (probe on borrow from the pool)."""
        return True

    async def stat(self, name: str) -> Entry:
        """Return the entry `name` (size at least); RemoteMissing if there is none."""
        raise Unsupported(f"{self.name} cannot tell sizes", name=name)

    async def size(self, name: str) -> int | None:
        """Return the size of a file alone, where that costs less than `stat`; None: not told."""
        return (await self.stat(name)).size

    def list(self, directory: str, *, filter_text: str = "") -> AsyncIterator[Entry]:
        """Yield the entries of one directory in bounded memory, names as the server gives them.

        `filter_text` is appended to the path for servers that filter (wildcardFilter).
        """
        raise Unsupported(f"{self.name} cannot list", directory=directory, filter=filter_text)

    def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the content from byte `offset` on.

        Raises RemoteMissing, and ConnectionLost when the stream breaks or ends without the
        positive end of the protocol.
        """
        raise Unsupported(f"{self.name} cannot get", file=name, offset=offset)

    async def open_local(self, name: str) -> int | None:
        """Return a plain read-only descriptor of the content if it is on this machine, else None.

        The caller closes it.  Lets `fetch` copy in the kernel.
        """
        return None

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write `source` to `name` from byte `offset` on; return the count of bytes written.

        Returns only after the server's positive final answer.  A failed put may leave a partial
        file: `deliver` owns the cleaning up.
        """
        raise Unsupported(f"{self.name} cannot put", file=name, offset=offset, size=source.size)

    def began(self, state: str) -> None:
        """Note that an upload has begun which shows only when complete."""
        self.upload = state
        if self.on_upload is not None:
            self.on_upload(state)

    async def uploaded(self, name: str, state: str) -> int:
        """Return how many bytes of an interrupted upload are at the far end, 0 if it is gone.

        Makes it the upload under way: the next put of `name` from that offset goes on with it.
        """
        raise Unsupported(f"{self.name} cannot go on with uploads", file=name, state=state)

    async def forget(self, name: str, state: str) -> None:
        """Drop an interrupted upload; one that is gone is fine."""
        raise Unsupported(f"{self.name} cannot drop uploads", file=name, state=state)

    async def finished(self, name: str) -> None:
        """Do what comes after a delivery: file and sidecars stand under their final names."""

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Rename; with `replace` over an existing `new` (atomically when Feature.REPLACE)."""
        raise Unsupported(f"{self.name} cannot rename", old=old, new=new, replace=replace)

    async def copy(self, old: str, new: str) -> None:
        """Let the server copy a file, over an existing `new`; RemoteMissing if `old` is none."""
        raise Unsupported(f"{self.name} cannot copy", old=old, new=new)

    async def delete(self, name: str) -> None:
        """Delete a file; RemoteMissing if there is none."""
        raise Unsupported(f"{self.name} cannot delete", file=name)

    async def mkdir(self, path: str) -> None:
        """Create one directory; an existing one is fine, a missing parent is RemoteName."""
        raise Unsupported(f"{self.name} cannot make directories", path=path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        raise Unsupported(f"{self.name} cannot remove directories", path=path)

    async def checksum(self, name: str, algorithm: str) -> str | None:
        """Return the server's own digest in hex, None if it has none for that algorithm."""
        raise Unsupported(f"{self.name} has no checksums", file=name, algorithm=algorithm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What `deliver` did."""

    path: str  # final name on the remote side
    sent: int  # bytes of this attempt
    size: int  # bytes at the far end, -1 when nobody knows
    peer: str
    started_at: datetime
    finished_at: datetime
    resumed_at: int = 0  # first byte of this attempt
    statistics: Mapping[str, int] = field(default_factory=dict)  # of the TCP connection
    filters: str = ""  # how it was compressed: zstd
    on_the_fly: bool = False  # while it was sent
    via: str = ""  # proxy host that sent it


Options = Mapping[str, str]
