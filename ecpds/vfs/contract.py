"""What a portal sees of the hub: a login, a session, nodes, readers and writers.

Portals depend on this file only; `vfs.session` and its neighbours implement it.  All paths are
absolute texts as the client gave them; the session normalises them (portal.md 2.1) and checks
rights, limits and visibility.  Every method raises the errors of `model.errors`: NotFound, Denied,
Exists, IsDirectory, NotDirectory, NotEmpty, Unsupported, InvalidName, QuotaExceeded, TooLarge,
TooManyPending, StorageFull, Incomplete, Busy, NotStored, PreconditionFailed, Stopping.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ecpds.model.account import Permission, Profile, Protocol
from ecpds.model.errors import EcpdsError, Unauthenticated, Unsupported
from ecpds.model.secret import Secret


@dataclass(frozen=True, slots=True)
class Password:
    """A password (or one-time code) as the client sent it."""

    text: Secret


@dataclass(frozen=True, slots=True)
class KeyAndPassword(Password):
    """A password that came after possession of the public key had been proven."""

    line: str


@dataclass(frozen=True, slots=True)
class ProvenKey:
    """An SSH public key, OpenSSH format, whose possession the transport has already proven."""

    line: str


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credential; only open-access users accept it."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A login by password that a portal saw succeed at `since` and remembers behind a cookie.

    Every check of portal.md 1.4 but the credential is repeated; Unauthenticated when the user's
    credentials, or those of the subscriber who logged in, were changed after `since`.
    """

    since: datetime
    subscriber: int | None = None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An S3 access key; `verify` gets its secret and raises what the client is told if it is wrong.

    What it raises has to be an Unauthenticated; `unknown` is raised for a key that nobody has or
    whose time is over.
    """

    access_key: str
    verify: Callable[[Secret], None]
    unknown: Unauthenticated


@dataclass(frozen=True, slots=True)
class Vouched:
    """A link that the user made stands for him; every check but the credential is made."""


Credential = Password | ProvenKey | Anonymous | Resumed | KeyPair | Vouched


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of the virtual tree."""

    name: str  # last segment; empty for the root
    path: str  # absolute and normal, "/" for the root
    kind: Literal["file", "directory"]
    size: int = 0  # bytes; 0 for a directory
    mtime: datetime | None = None  # arrival; newest child for a directory; None if it has none
    scheduled: datetime | None = None
    transfer_id: int | None = None
    file_id: int | None = None
    etag: str = ""  # quoted, empty for a directory
    checksum: str = ""  # adler32 as 8 hex digits, empty for a directory
    destination: str = ""
    owner: str = "ecpds"
    group: str = "ecpds"
    comment: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.kind == "directory"


class Reader(ABC):
    """An open file; the content stays readable while this is open, whatever happens to the name.

    Use as `async with session.open_read(path) as reader:`; leaving the block records the download
    (history, INH event, quota) with the bytes counted by `count`, as failed when left by an error.
    """

    node: Node
    descriptor: int  # plain file descriptor; use pread or sendfile with explicit offsets
    size: int  # bytes
    rate: int | None = None  # bytes a second that this download may use; see `pause`

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; meant for blocks up to 1 MiB, in the loop."""

    @abstractmethod
    def count(self, sent: int, *, offset: int = 0, last: bool = True) -> None:
        """Tell that `sent` bytes from `offset` went out; `last` is false before the last range."""

    def pause(self, sent: int) -> float:
        """Return the seconds to sleep before the next block, after `sent` bytes in all."""
        del sent
        return 0.0

    @abstractmethod
    async def close(self, error: BaseException | None = None) -> None:
        """Record what was sent and release the content; may be called twice."""

    async def __aenter__(self) -> Reader:
        """Return itself."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Record and release."""
        await self.close(error)


class Writer(ABC):
    """An upload under way; nothing is visible before `commit` returns.

    Leaving the `async with` block without `commit` discards the bytes, or parks them when `park`
    was called.
    """

    descriptor: int  # the temporary file, for kernel-side copies
    received: int  # bytes taken so far = offset of the next byte when written in order
    limit: int | None  # bytes this upload may reach (destination's max_file_size and quota)
    rate: int | None = None  # bytes a second that this upload may use; see `pause`
    replaces: bool = False  # whether a file of that name was there when the upload began

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview, offset: int | None = None) -> int:
        """Write `data` at `offset` (None: at the end); return its length.

        Runs in the loop; hand over blocks of up to 1 MiB.  Raises TooLarge or QuotaExceeded at the
        byte that passes the limit, StorageFull when the volume has no room.
        """

    @abstractmethod
    def advance(self, count: int) -> None:
        """Tell that `count` bytes were written to `descriptor` at `received` by the kernel.

        Raises TooLarge, QuotaExceeded or StorageFull as `write` does; call it at least each 16 MiB.
        """

    def pause(self) -> float:
        """Return the seconds to sleep before the next block is taken from the client."""
        return 0.0

    @abstractmethod
    async def commit(
        self,
        *,
        size: int | None = None,
        digests: Mapping[str, str] | None = None,
        etag: str | None = None,
        last_check: Callable[[], Awaitable[None]] | None = None,
    ) -> Node:
        """Make the content durable and visible; return its node.  This is the acknowledgement.

        `size` and `digests` (algorithm name to hex) are what the client announced; a difference
        raises Incomplete or ChecksumMismatch and nothing is registered.  Holes (out-of-order
        writes) raise Incomplete.  `etag` (without quotes) is shown by every protocol instead of
        our own: the MD5 form that S3 clients expect.  `last_check` runs when the content is on
        disk and nothing is registered yet; what it raises is raised here and nothing is kept.
        """

    @abstractmethod
    def park(self, *, expected: bool = False) -> None:
        """Keep the bytes received so far for a later append by the same user (at most 24 hours).

        `expected`: the client means to go on, so that nothing is recorded as failed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release everything; nothing is registered without a `commit`.  May be called twice."""

    async def __aenter__(self) -> Writer:
        """Return itself."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Release."""
        await self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Room for uploads: what is left of the quota and the volumes, whichever is less."""

    total: int  # bytes
    free: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How a listing is to be filtered, sorted and paged; None means the user's own default."""

    sort: Literal["size", "target", "time"] | None = None
    order: Literal["asc", "desc"] | None = None
    pattern: str | None = None  # shell glob on the last segment
    limit: int | None = None  # None: all
    cursor: str | None = None  # last `name` of the page before; a directory may have its slash


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file that became visible; `cursor` is what to go on after."""

    cursor: str
    at: datetime
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsPage:
    """What is new, and the cursor that leads on whether there are items or not."""

    items: Sequence[Item]
    cursor: str
    more: bool  # whether there is more now


class Session(ABC):
    """One logged-in connection (FTP, SFTP) or request (HTTP) of a data user."""

    profile: Profile
    protocol: Protocol
    peer: str  # client address without port
    subscriber: int | None = None  # the person behind a self-service user
    changed: Callable[[], None] | None = None  # called when rights changed or the session must end

    @property
    @abstractmethod
    def options(self) -> Mapping[str, str]:
        """Return the effective `portal.*` options as texts."""

    @abstractmethod
    def may(self, permission: Permission, path: str) -> bool:
        """Tell whether the operation is granted on that path; for `perm` facts in listings."""

    @abstractmethod
    def absolute(self, path: str, *, base: str = "/") -> str:
        """Return the normal form of `path` seen from `base`; raise InvalidName or NotFound."""

    @abstractmethod
    async def stat(self, path: str) -> Node:
        """Return the node at `path`; needs any of dir, get, size, mtime."""

    @abstractmethod
    def list(self, path: str, listing: Listing | None = None) -> AsyncIterator[Node]:
        """Yield the visible members of the directory `path` in bounded memory; needs dir.

        The first step raises NotFound, NotDirectory or Denied.
        """

    @abstractmethod
    async def open_read(self, path: str) -> Reader:
        """Open the file at `path`; needs get."""

    @abstractmethod
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
        """Begin an upload; needs put (and mkdir when the parent is missing).

        `size`: promised bytes, checked against limits and free space at once.  `offset` > 0 goes on
        with a parked upload of exactly that length or longer (cut to it); Unsupported if there is
        none. `exclusive`: Exists if the name is there.  `if_match`: PreconditionFailed unless the
        present etag is one of them (quoted form, or `*` for any existing).
        """

    @abstractmethod
    async def parked(self, path: str) -> int:
        """Return the length of a parked upload of this user at `path`, 0 if there is none."""

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete the file at `path`; IsDirectory for a directory."""

    @abstractmethod
    async def mkdir(self, path: str) -> None:
        """Create a directory; Exists if the name is taken."""

    @abstractmethod
    async def rmdir(self, path: str, *, recursive: bool = False) -> None:
        """Remove a directory; NotEmpty unless `recursive` (which needs delete on each member)."""

    @abstractmethod
    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """Rename within one destination; Exists unless `replace`."""

    @abstractmethod
    async def set_mtime(self, path: str, mtime: datetime) -> None:
        """Keep `mtime` as the source time of the file."""

    @abstractmethod
    async def digest(self, path: str, algorithm: str) -> str:
        """Return the hex digest (md5 sha1 sha256 sha512 crc32 crc32c adler32); needs get."""

    async def copy(
        self,
        source: str,
        target: str,
        *,
        replace: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> Node:
        """Copy a file inside the hub, without moving its content; return the new node.

        Needs get and put (and mkdir when the parent is missing); `metadata` None: that of the
        source.  Exists unless `replace`; other errors as `open_read`, `open_write` and `commit`.
        """
        raise Unsupported("files are not copied here")

    def walk(
        self, path: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> AsyncIterator[Node]:
        """Yield the files at any depth below the directory `path` in bounded memory; needs dir.

        Their order is that of the bytes of their paths below it (UTF-8), as object stores list
        keys; `prefix` and `after` are such paths, `after` is not among what comes.
        """
        raise Unsupported("files are only listed by directory here")

    async def news(self, path: str, since: str, *, limit: int) -> NewsPage:
        """Return the files that became visible below a directory; needs dir.

        `since`: a cursor or an RFC 3339 time, then oldest first; empty: the newest, newest first.
        """
        raise Unsupported("nobody keeps the news here")

    def watching(self) -> AbstractContextManager[Callable[[float], Awaitable[None]]]:
        """Return what gives a function that waits for news, at most so many seconds."""
        raise Unsupported("nobody keeps the news here")

    async def space(self, path: str) -> Space | None:
        """Return the room that an upload to `path` has; None when nothing can be said."""
        return None

    def identity(self, path: str) -> str:
        """Return one text for a path that all users and protocols share, whatever they see it as.

        `NORTH/a/b`, `NORTH` for a destination itself, `/` above.

        Raises NotFound as `stat` does for unknown destinations, InvalidName.
        """
        return self.absolute(path)

    async def properties(self, nodes: Sequence[Node]) -> Mapping[int, Mapping[str, str]]:
        """Return what clients keep with these files, by transfer; those without any left out."""
        del nodes
        return {}

    async def set_properties(
        self, path: str, changes: Mapping[str, str | None], *, replace: bool = False
    ) -> None:
        """Keep texts with the file at `path`, None removes one; needs put.

        `replace`: these and no others.  Unsupported for directories; LimitError for too many.
        """
        raise Unsupported("files have no properties here")

    def admits(self, protocol: Protocol) -> bool:
        """Tell whether this login may also be used for `protocol`, as SSH ones are for SCP."""
        del protocol
        return True

    def using(self, protocol: Protocol) -> None:  # noqa: B027 - nothing to tell for most
        """Tell that this login speaks `protocol` from now on: history and events name it.

        SSH logs in before the client says whether it wants SFTP or SCP.
        """

    @abstractmethod
    def touch(self) -> None:
        """Tell that the client did something (idle time in the session list)."""

    @property
    @abstractmethod
    def closing(self) -> bool:
        """Whether an operator or a lost right ended this session; the portal then hangs up."""

    @abstractmethod
    async def close(self) -> None:
        """Log out and give the connection slot back; may be called twice."""

    async def __aenter__(self) -> Session:
        """Return itself."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Log out."""
        await self.close()


class Gate(ABC):
    """Where portals log users in."""

    @abstractmethod
    async def login(
        self,
        user: str,
        credential: Credential,
        *,
        protocol: Protocol,
        peer: str,
    ) -> Session:
        """Run the login checks of portal.md 1.4 in their order and return the session.

        Raises Banned, Unauthenticated (one neutral text for unknown user, disabled, bad credential,
        no destination, no permission), Denied (protocol), TooManyConnections, QuotaExceeded,
        Stopping. Takes constant time for unknown users.
        """

    @abstractmethod
    async def check(self, peer: str) -> None:
        """Raise Banned when the address is banned; for listeners, before they speak."""

    @abstractmethod
    async def authorised_keys(self, user: str) -> Sequence[str]:
        """Return the user's SSH public key lines, none for unknown, inactive or key-less users."""

    async def wants_both(self, user: str) -> bool:
        """Tell whether a key is not enough for SSH and a password has to follow."""
        return False

    @abstractmethod
    def banner(self, user: str | None = None) -> str:
        """Return the text shown before (None) or after login; may have several lines."""


class Registrar(ABC):
    """Where people register for self-service users (portal.md 1.6)."""

    @abstractmethod
    async def check(self, user: str) -> None:
        """Raise InputError unless people may register for this user."""

    @abstractmethod
    async def register(self, user: str, *, name: str, email: str, country: str, peer: str) -> None:
        """Take a registration; the same silence for addresses that are known.

        Raises InputError for what cannot be taken, LimitError for too many from one address.
        """

    @abstractmethod
    async def verify(self, token: str) -> Literal["activated", "verified", "invalid"]:
        """Follow the link of a verification mail."""

    @abstractmethod
    async def ask_reset(self, user: str, *, email: str, peer: str) -> None:
        """Mail a link for a new password, if there is such a subscriber; raises as `register`."""

    @abstractmethod
    async def reset(self, token: str) -> bool:
        """Mail a new password to whom a link belongs; tell whether the link was good."""


def client_text(error: EcpdsError) -> str:
    """Return the error text for a protocol answer: one line, no control characters."""
    return "".join(c if c.isprintable() else " " for c in error.message)[:500]
