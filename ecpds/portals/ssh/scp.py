"""The old SCP protocol, as `scp -O` and clients older than OpenSSH 9 speak it.

The client runs `scp -t PATH` here to send and `scp -f PATH...` to fetch.  One side says a line, the
other answers one byte: 0 for good, 1 with a text for a file that fails, 2 with a text for the end.
There is no specification; the behaviour is that of OpenSSH's scp.c (functions sink and source).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ecpds.base.logs import get_logger
from ecpds.model.errors import (
    Denied,
    EcpdsError,
    Exists,
    Incomplete,
    InvalidName,
    IsDirectory,
    Malformed,
    NotDirectory,
    NotFound,
)
from ecpds.portals.ssh.link import LEAVE_SECONDS, Link
from ecpds.vfs.contract import Listing, Node, Reader, Session, Writer, client_text

log = get_logger(__name__)

_MAX_LINE = 4096  # bytes; a name has at most 255
_MAX_DEPTH = 64  # directories in directories
_HELD = 256 * 1024  # bytes of the client kept before it is made to wait
_BLOCK = 256 * 1024
_SLOW_BLOCK = 4096
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class ScpCommand:
    """What `scp` was started with on our side."""

    sink: bool
    paths: tuple[str, ...]
    recursive: bool = False
    times: bool = False
    directory: bool = False


def parse(command: str) -> ScpCommand | None:
    """Read a command line; None if it is not one of scp's, whatever else it may be."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0].rpartition("/")[2] != "scp":
        return None
    flags: set[str] = set()
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        flags.update(word[1:])
    if flags - set("tfrpdvq") or len(flags & set("tf")) != 1 or not rest:
        return None
    if "t" in flags and len(rest) != 1:
        return None
    paths = tuple(path.removeprefix("~/") if path != "~" else "/" for path in rest)
    return ScpCommand("t" in flags, paths, "r" in flags, "p" in flags, "d" in flags)


class ScpService:
    """Serves one `scp` on one channel."""

    def __init__(self, session: Session, link: Link, command: ScpCommand) -> None:
        self._session = session
        self._link = link
        self._command = command
        self._inbox = bytearray()
        self._news = asyncio.Event()  # something came, or nothing more will
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._over = False
        self._lost = False
        self._working = False
        self._errors = 0

    # --- what the channel tells --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._inbox += data
        if len(self._inbox) >= _HELD and not self._paused:
            self._paused = True
            self._link.pause()
        self._news.set()

    def finished(self) -> None:
        """Note that the client sends no more."""
        self._over = True
        self._news.set()

    def lost(self, patience: float = LEAVE_SECONDS) -> None:
        """Note that the channel is gone."""
        del patience  # nothing here goes on without its client but a commit
        self._over = self._lost = True
        self._news.set()
        self._writable.set()

    def blocked(self, blocked: bool) -> None:
        """Note whether the client fails to take what we send."""
        if blocked and not self._lost:
            self._writable.clear()
        else:
            self._writable.set()

    @property
    def running(self) -> bool:
        """Whether the client waits for an answer of ours."""
        return self._working

    @property
    def busy(self) -> bool:
        """Whether something would be cut off by ending now: one command is one act."""
        return not self._over

    async def serve(self) -> int:
        """Run the command; return its exit status."""
        try:
            if self._command.sink:
                await self._sink(self._command.paths[0])
            else:
                await self._status()  # the client says when it is ready
                for path in self._command.paths:
                    await self._source(path)
        except EcpdsError as error:
            self._say(error)
        except OSError as error:
            self._broken(error)
        return 1 if self._errors else 0

    # --- lines and bytes ---------------------------------------------------------------------

    async def _wait(self) -> None:
        """Wait for more from the client; raise Incomplete when there will be none."""
        if self._over:
            raise Incomplete("the client went away")
        self._news.clear()
        if self._paused:
            self._paused = False
            self._link.resume()
        await self._news.wait()

    async def _line(self) -> bytes:
        """Return the next line without its end, empty at the end of what the client sends."""
        while (end := self._inbox.find(b"\n", 0, _MAX_LINE)) < 0:
            if len(self._inbox) >= _MAX_LINE:
                raise Malformed("a line is too long")
            if self._over and not self._inbox:
                return b""
            await self._wait()
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        return line

    async def _bytes(self, most: int) -> bytes:
        """Return between 1 and `most` bytes."""
        while not self._inbox:
            await self._wait()
        data = bytes(self._inbox[:most])
        del self._inbox[:most]
        return data

    async def _status(self) -> bool:
        """Take the client's answer; False for a file that failed there, Incomplete for the end."""
        code = (await self._bytes(1))[0]
        if code == 0:
            return True
        text = (await self._line()).decode(errors="replace")[:200]
        self._errors += 1
        if code == 1:
            return False
        raise Incomplete(f"the client stopped: {text}")

    async def _rest(self, seconds: float) -> None:
        """Wait as the rate of the transfer demands; the client's end is noticed afterwards."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _send(self, data: bytes) -> None:
        self._link.write(data)
        await self._writable.wait()
        if self._lost:
            raise Incomplete("the client went away")

    def _say(self, error: EcpdsError) -> None:
        self._tell(client_text(error))

    def _broken(self, error: OSError) -> None:
        log.error("a file of the hub cannot be used", reason=str(error))
        self._tell("input or output error")

    def _tell(self, text: str) -> None:
        self._errors += 1
        if not self._lost:
            self._link.write(b"\x01scp: " + text.encode() + b"\n")

    def _good(self) -> None:
        self._link.write(b"\0")

    # --- the client sends --------------------------------------------------------------------

    async def _sink(self, path: str) -> None:
        target = self._session.absolute(path)
        into = await self._is_directory(target)
        if self._command.directory and not into:
            raise NotDirectory(f"{target} is not a directory")
        self._good()
        above: list[tuple[str, bool]] = []
        mtime: datetime | None = None
        while line := await self._line():
            kind, rest = line[:1], line[1:]
            if kind == b"T":
                mtime = _time(rest)
                self._good()
            elif kind == b"C":
                await self._one_file(rest, target, into, mtime)
                mtime = None
            elif kind == b"D":
                below = await self._enter(rest, target, into, len(above))
                above.append((target, into))
                target, into = below, True
                mtime = None
            elif kind == b"E" and above:
                target, into = above.pop()
                self._good()
            elif kind == b"\x01":  # a file that the client could not read: it goes on
                self._errors += 1
            else:
                raise Malformed("unexpected line")

    async def _is_directory(self, path: str) -> bool:
        try:
            return (await self._session.stat(path)).is_directory
        except NotFound:
            return False

    async def _enter(self, rest: bytes, target: str, into: bool, depth: int) -> str:
        if not self._command.recursive or depth >= _MAX_DEPTH:
            raise Denied("directories are not expected here")
        _, name = _entry(rest)
        path = _below(target, name) if into else target
        try:
            await self._session.mkdir(path)
        except (Exists, Denied):
            if not await self._is_directory(path):
                raise
        self._good()
        return path

    async def _one_file(self, rest: bytes, target: str, into: bool, mtime: datetime | None) -> None:
        size, name = _entry(rest)
        path = _below(target, name) if into else target
        try:
            writer = await self._session.open_write(path, size=size, mtime=mtime)
        except EcpdsError as error:
            self._say(error)  # the client goes on with the next file
            return
        async with writer:
            self._good()
            try:
                failure = await self._content(writer, size)
            except (Incomplete, asyncio.CancelledError):
                writer.park()
                raise
            try:
                if failure is not None:
                    raise failure
                await self._commit(writer, size)
            except EcpdsError as error:
                self._say(error)
                return
        self._good()

    async def _commit(self, writer: Writer, size: int) -> None:
        self._working = True
        try:
            await writer.commit(size=size)
        finally:
            self._working = False

    async def _content(self, writer: Writer, size: int) -> EcpdsError | None:
        """Take all bytes, also those that are of no use any more; return what went wrong."""
        failure: EcpdsError | None = None
        left = size
        while left:
            data = await self._bytes(min(left, _step(writer.rate)))
            left -= len(data)
            if failure is None:
                try:
                    writer.write(data)
                except EcpdsError as error:
                    failure = error
                await self._rest(writer.pause())
        if not await self._status():
            failure = Incomplete("the client could not read its file")
        return failure

    # --- the client fetches ------------------------------------------------------------------

    async def _source(self, path: str) -> None:
        try:
            async for node in self._matches(path):
                await self._one(node, 0)
        except (Incomplete, Malformed):
            raise
        except EcpdsError as error:
            self._say(error)

    async def _matches(self, path: str) -> AsyncIterator[Node]:
        """Yield what `path` names; wild cards may be in its last segment."""
        parent, _, last = path.rpartition("/")
        if not _WILD & set(last):
            yield await self._session.stat(self._session.absolute(path))
            return
        found = False
        where = self._session.absolute(parent or ".")
        async for node in self._session.list(where, Listing(pattern=last)):
            found = True
            yield node
        if not found:
            raise NotFound(f"{path} is not there")

    async def _one(self, node: Node, depth: int) -> None:
        if not node.is_directory:
            await self._give_file(node)
        elif not self._command.recursive or depth >= _MAX_DEPTH:
            self._say(IsDirectory(f"{node.path} is a directory"))
        else:
            await self._give_directory(node, depth)

    async def _head(self, line: str, node: Node) -> bool:
        """Say what comes, after its times where the client wants them; False: it refused."""
        if self._command.times:
            seconds = int(node.mtime.timestamp()) if node.mtime else 0
            await self._send(f"T{seconds} 0 {seconds} 0\n".encode())
            if not await self._status():
                return False
        await self._send(line.encode())
        return await self._status()

    async def _give_directory(self, node: Node, depth: int) -> None:
        if not await self._head(f"D0750 0 {node.name or 'DATA'}\n", node):
            return
        try:
            async for member in self._session.list(node.path):
                await self._one(member, depth + 1)
        except (Incomplete, Malformed):
            raise
        except EcpdsError as error:
            self._say(error)
        await self._send(b"E\n")
        await self._status()

    async def _give_file(self, node: Node) -> None:
        try:
            reader = await self._session.open_read(node.path)
        except EcpdsError as error:
            self._say(error)
            return
        async with reader:
            if not await self._head(f"C0644 {reader.size} {node.name}\n", node):
                await reader.close(Incomplete("the client refused the file"))
                return
            await self._give_content(reader)

    async def _give_content(self, reader: Reader) -> None:
        sent = 0
        try:
            while sent < reader.size:
                data = reader.read(sent, min(_step(reader.rate), reader.size - sent))
                if not data:
                    raise Incomplete("the file became shorter")
                await self._send(data)
                sent += len(data)
                await self._rest(reader.pause(sent))
            await self._send(b"\0")
            await self._status()
        finally:
            reader.count(sent)


def _step(rate: int | None) -> int:
    """Return the size of a block: small for a low rate, so that it flows."""
    return _BLOCK if rate is None else max(_SLOW_BLOCK, min(_BLOCK, rate // 8))


def _below(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def _time(rest: bytes) -> datetime:
    """Read `<mtime> 0 <atime> 0`."""
    try:
        return datetime.fromtimestamp(int(rest.split()[0]), UTC)
    except (ValueError, IndexError, OverflowError, OSError) as error:
        raise Malformed("the times cannot be read") from error


def _entry(rest: bytes) -> tuple[int, str]:
    """Read `<mode> <size> <name>`; return size and name."""
    try:
        mode, size, name = rest.decode().split(" ", 2)
        int(mode, 8)
        count = int(size)
    except ValueError as error:
        raise Malformed("the line cannot be read") from error
    if count < 0 or not size.isascii() or not size.isdigit():
        raise Malformed("the size cannot be read")
    if not name or "/" in name or name in (".", ".."):
        raise InvalidName("a name is expected, not a path")
    return count, name
