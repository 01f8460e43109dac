"""SFTP version 3 from the client's side, on one SSH channel.

Requests are sent at once and answered by futures, so that a caller keeps many under way without a
task for each; answers are taken apart in `data_received`.  One silent connection is told from a
slow one here: every future fails when nothing came for the stall time while something was asked
for.

Spec: draft-ietf-secsh-filexfer-02; OpenSSH PROTOCOL sections 3.3 (posix-rename), 3.4 (statvfs),
3.6 (fsync) and 4.8 (limits).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

import asyncssh

from ecpds.base.ssh import send_data
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    Unsupported,
)

INIT, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT = 1, 3, 4, 5, 6, 7, 8, 9
FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH = 10, 11, 12, 13, 14, 15, 16
STAT, RENAME, READLINK, EXTENDED = 17, 18, 19, 200
VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201

F_READ, F_WRITE, F_APPEND, F_CREATE, F_TRUNCATE, F_EXCLUSIVE = 1, 2, 4, 8, 16, 32
A_SIZE, A_OWNER, A_MODE, A_TIMES, A_EXTENDED = 1, 2, 4, 8, 0x80000000

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
NO_CONNECTION, CONNECTION_LOST, OP_UNSUPPORTED = 6, 7, 8
NO_SPACE, QUOTA = 14, 15  # of version 5; some servers of version 3 send them

POSIX_RENAME: Final = "posix-rename@openssh.com"
STATVFS: Final = "statvfs@openssh.com"
FSYNC: Final = "fsync@openssh.com"
LIMITS: Final = "limits@openssh.com"

LONGEST_PACKET: Final = 1024 * 1024
"""Longest answer that is taken."""

SAFE_BLOCK: Final = 32 * 1024
"""Bytes of one read or write that every server takes."""

_U32 = Struct(">I")
_U64 = Struct(">Q")
_HEAD = Struct(">IBI")
_WRITE_TAIL = Struct(">QI")


class SftpStatus(Exception):
    """A negative answer; `failure` turns it into an error of ours."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What the server tells of a file; None where it says nothing."""

    size: int | None = None
    owner: int | None = None
    group: int | None = None
    mode: int | None = None
    mtime: int | None = None  # seconds since 1970


class Fields:
    """Reads the fields of one answer in their order; a cut answer raises RemoteTransient."""

    __slots__ = ("_data", "_place")

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data = data
        self._place = place

    def _take(self, count: int) -> int:
        start = self._place
        if count > len(self._data) - start:
            raise RemoteTransient("the server sent a malformed answer")
        self._place = start + count
        return start

    def u32(self) -> int:
        """Return the next 32 bits."""
        value: int = _U32.unpack_from(self._data, self._take(4))[0]
        return value

    def u64(self) -> int:
        """Return the next 64 bits."""
        value: int = _U64.unpack_from(self._data, self._take(8))[0]
        return value

    def string(self) -> bytes:
        """Return the next string as bytes."""
        count = self.u32()
        start = self._take(count)
        return self._data[start : start + count]

    def text(self) -> str:
        """Return the next string as text; bytes that are no UTF-8 survive a round trip."""
        return self.string().decode(errors="surrogateescape")

    def more(self) -> bool:
        """Tell whether anything is left."""
        return self._place < len(self._data)

    def attributes(self) -> Attributes:
        """Return the next attribute block."""
        flags = self.u32()
        size = self.u64() if flags & A_SIZE else None
        owner, group = (self.u32(), self.u32()) if flags & A_OWNER else (None, None)
        mode = self.u32() if flags & A_MODE else None
        mtime = None
        if flags & A_TIMES:
            self.u32()
            mtime = self.u32()
        for _ in range(self.u32() if flags & A_EXTENDED else 0):
            self.string()
            self.string()
        return Attributes(size=size, owner=owner, group=group, mode=mode, mtime=mtime)


def string(value: bytes) -> bytes:
    """Encode a string."""
    return _U32.pack(len(value)) + value


def path(name: str) -> bytes:
    """Encode a name as a string."""
    return string(name.encode(errors="surrogateescape"))


def mode_attributes(mode: int) -> bytes:
    """Encode permission bits as an attribute block."""
    return _U32.pack(A_MODE) + _U32.pack(mode)


Answer = tuple[int, bytes]
"""Type and body (behind the request number) of one answer."""

Request = tuple[int, bytes]
"""The same of a request."""


class SftpLink(asyncssh.SSHClientSession[bytes]):
    """One SFTP session."""

    def __init__(self, *, stall: float) -> None:
        self.extensions: dict[str, bytes] = {}
        self.read_size = self.write_size = SAFE_BLOCK
        self.used_at = 0.0  # loop time of the last answer
        self._loop = asyncio.get_running_loop()
        self._stall = stall
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._packet_size = SAFE_BLOCK
        self._input = bytearray()
        self._next = 0
        self._version: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._lost: RemoteError | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncssh's calls ---------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Note the channel."""
        self._channel = chan

    def session_started(self) -> None:
        """Note how much fits into one packet of the channel."""
        size = getattr(self._channel, "_send_pktsize", SAFE_BLOCK)  # no public way to ask
        self._packet_size = max(min(size, 256 * 1024), 1024)

    def data_received(self, data: bytes, datatype: object) -> None:
        """Take bytes of the server; what it writes to standard error is dropped."""
        if datatype is not None:
            return
        self.used_at = self._loop.time()
        self._input += data
        start, end = 0, len(self._input)
        while end - start >= 4:
            length = _U32.unpack_from(self._input, start)[0]
            if not 5 <= length <= LONGEST_PACKET:
                self.fail(RemoteTransient("the server sent no SFTP", phase=Phase.CONNECT))
                return
            if end - start < 4 + length:
                break
            self._take(bytes(memoryview(self._input)[start + 4 : start + 4 + length]))
            start += 4 + length
        del self._input[:start]

    def _take(self, packet: bytes) -> None:
        if packet[0] == VERSION:
            if not self._version.done():
                self._version.set_result(packet[1:])
            return
        future = self._waiting.pop(_U32.unpack_from(packet, 1)[0], None)
        if future is not None and not future.done():
            future.set_result((packet[0], packet[5:]))

    def eof_received(self) -> bool:
        """Note that the server sends no more."""
        self.fail(ConnectionLost("the server ended the session"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all that waits."""
        text = f": {exc}" if exc is not None else ""
        self.fail(ConnectionLost(f"the connection is lost{text}"))

    # --- life ---------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether the session has ended."""
        return self._lost is not None

    def fail(self, error: RemoteError) -> None:
        """End the session: everything that waits, and everything asked later, gets `error`."""
        if self._lost is None:
            self._lost = error
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, {}
        futures: list[asyncio.Future[Any]] = [self._version, *waiting.values()]
        for future in futures:
            if not future.done():
                future.set_exception(self._lost)
                future.exception()  # whoever was cancelled will not come to look

    def close(self) -> None:
        """End the session without a word."""
        self.fail(ConnectionLost("the session is closed"))
        if self._channel is not None:
            self._channel.close()

    async def begin(self) -> None:
        """Agree on version 3 and learn extensions and limits."""
        self._send(_U32.pack(5) + bytes([INIT]) + _U32.pack(3))
        fields = Fields(await self._version)
        if fields.u32() != 3:
            raise RemoteTransient("the server does not speak SFTP version 3", phase=Phase.CONNECT)
        while fields.more():
            name = fields.string().decode(errors="replace")
            self.extensions[name] = fields.string()
        if LIMITS in self.extensions:
            await self._read_limits()

    async def _read_limits(self) -> None:
        kind, body = await self.ask(EXTENDED, string(LIMITS.encode()))
        if kind != EXTENDED_REPLY:
            return
        fields = Fields(body)
        fields.u64()
        reading, writing = fields.u64(), fields.u64()
        self.read_size = min(reading or SAFE_BLOCK, 255 * 1024)
        self.write_size = min(writing or SAFE_BLOCK, 255 * 1024)

    # --- requests -----------------------------------------------------------------------------

    def ask(self, kind: int, *body: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future gives type and body of the answer."""
        number, future = self._register()
        if future.done():
            return future
        joined = b"".join(body)
        self._send(_HEAD.pack(5 + len(joined), kind, number) + joined)
        return future

    def ask_together(self, requests: Sequence[Request]) -> list[asyncio.Future[Answer]]:
        """Send several requests in one packet."""
        packed, futures = self._packed(requests)
        if packed:
            self._send(packed)
        return futures

    def _packed(self, requests: Sequence[Request]) -> tuple[bytes, list[asyncio.Future[Answer]]]:
        """Return requests as bytes, none when the session has ended, and their futures."""
        pieces: list[bytes] = []
        futures: list[asyncio.Future[Answer]] = []
        for kind, body in requests:
            number, future = self._register()
            futures.append(future)
            pieces += (_HEAD.pack(5 + len(body), kind, number), body)
        return b"" if self._lost is not None else b"".join(pieces), futures

    def ask_first_block(
        self, handle: bytes, offset: int
    ) -> tuple[asyncio.Future[Answer], asyncio.Future[Answer]]:
        """Ask for attributes and for a first block in one packet: all that a small file needs."""
        number, told = self._register()
        other, block = self._register()
        if told.done():
            return told, block
        requests = (
            _HEAD.pack(5 + len(handle), FSTAT, number),
            handle,
            _HEAD.pack(5 + len(handle) + _WRITE_TAIL.size, READ, other),
            handle,
            _WRITE_TAIL.pack(offset, self.read_size),
        )
        self._send(b"".join(requests))
        return told, block

    def ask_many(self, kind: int, field: bytes, count: int) -> deque[asyncio.Future[Answer]]:
        """Ask the same `count` times in one packet."""
        numbers, futures = zip(*(self._register() for _ in range(count)), strict=True)
        if not futures[0].done():
            head = (_HEAD.pack(5 + len(field), kind, number) + field for number in numbers)
            self._send(b"".join(head))
        return deque(futures)

    def let_go(self, handle: bytes) -> None:
        """Ask to close a handle whose answer nobody waits for."""
        if self._lost is None:
            self.ask(CLOSE, handle)

    def write_last(
        self, handle: bytes, offset: int, data: memoryview, requests: Sequence[Request]
    ) -> tuple[asyncio.Future[Answer], list[asyncio.Future[Answer]]]:
        """Ask to write a block, with further requests behind it: one packet if it is small."""
        number, written = self._register()
        packed, futures = self._packed(requests)
        if not written.done():
            self._send_block(number, handle, offset, b"".join((data, packed)), len(data))
        return written, futures

    def write(self, handle: bytes, offset: int, data: memoryview) -> asyncio.Future[Answer]:
        """Ask to write a block."""
        number, future = self._register()
        if future.done():
            return future
        self._send_block(number, handle, offset, data, len(data))
        return future

    def _send_block(
        self, number: int, handle: bytes, offset: int, data: bytes | memoryview, count: int
    ) -> None:
        """Send a write of the first `count` bytes of `data`, and what is behind them."""
        length = 5 + len(handle) + 12 + count
        tail = _WRITE_TAIL.pack(offset, count)
        head = _HEAD.pack(length, WRITE, number) + handle + tail
        room = self._packet_size - len(head)
        self._send(b"".join((head, data[:room])))
        # one channel packet each: a longer piece would be moved in memory for each packet
        for start in range(room, len(data), self._packet_size):
            self._send(data[start : start + self._packet_size])

    def read(self, handle: bytes, offset: int, count: int) -> asyncio.Future[Answer]:
        """Ask for a block."""
        return self.ask(READ, handle, _WRITE_TAIL.pack(offset, count))

    def _register(self) -> tuple[int, asyncio.Future[Answer]]:
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self._lost is not None:
            future.set_exception(self._lost)
            return 0, future
        number = self._next = (self._next + 1) & 0xFFFFFFFF
        if not self._waiting:
            self.used_at = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(min(self._stall, 1), self._look)
        self._waiting[number] = future
        return number, future

    def _send(self, data: Any) -> None:
        if self._channel is None or self._channel.is_closing():
            self.fail(ConnectionLost("the session is closed"))
            return
        send_data(self._channel, data)

    def _look(self) -> None:
        """Fail when something waits and nothing came for too long."""
        self._timer = None
        if not self._waiting:
            return
        if self._loop.time() - self.used_at >= self._stall:
            self.fail(RemoteTimeout(f"the server is silent for {self._stall:g} s"))
            return
        self._timer = self._loop.call_later(min(self._stall, 1), self._look)


# --- answers ----------------------------------------------------------------------------------


def check(answer: Answer) -> None:
    """Accept a positive status; raise SftpStatus for another one."""
    kind, body = answer
    if kind != STATUS:
        raise RemoteTransient(f"the server sent an answer of type {kind} instead of a status")
    if body[:4] != b"\0\0\0\0":
        raise status(body)


def expect(answer: Answer, kind: int) -> bytes:
    """Return the body of an answer of that type; raise SftpStatus for a status."""
    if answer[0] == kind:
        return answer[1]
    if answer[0] == STATUS:
        raise status(answer[1])
    raise RemoteTransient(f"the server sent an answer of type {answer[0]} instead of {kind}")


def status(body: bytes) -> SftpStatus:
    """Read a status; some servers leave the text out."""
    fields = Fields(body)
    code = fields.u32()
    text = fields.string().decode(errors="replace") if fields.more() else ""
    return SftpStatus(code, text)


_NAMES: Final = {
    NO_SUCH_FILE: "SSH_FX_NO_SUCH_FILE",
    PERMISSION_DENIED: "SSH_FX_PERMISSION_DENIED",
    FAILURE: "SSH_FX_FAILURE",
    OP_UNSUPPORTED: "SSH_FX_OP_UNSUPPORTED",
}


def failure(
    answer: SftpStatus, phase: Phase, name: str, kind: type[RemoteError] = RemoteTransient
) -> RemoteError | Unsupported:
    """Return the error for a negative answer; `kind` is what "failure" without reason means."""
    text = f"{name!r}: {answer.text or 'refused by the server'}"
    code = _NAMES.get(answer.code, str(answer.code))
    if answer.code == OP_UNSUPPORTED:
        return Unsupported(text, phase=phase)
    if answer.code in (NO_CONNECTION, CONNECTION_LOST):
        kind = ConnectionLost
    elif answer.code in (NO_SPACE, QUOTA):
        kind = RemoteSpace
    elif answer.code == PERMISSION_DENIED:
        kind = RemoteName
    elif answer.code == NO_SUCH_FILE:
        kind = RemoteName if phase in (Phase.DATA, Phase.MKDIR) else RemoteMissing
    return kind(text, phase=phase, remote_code=code, remote_text=answer.text)
