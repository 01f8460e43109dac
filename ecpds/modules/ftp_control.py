"""The control connection of FTP: commands out, replies in, and what a refusal means.

Replies are matched to commands by order, so that one lost or surplus reply would make every later
answer a wrong one.  Therefore a wait that ends without its reply (time-out, cancellation) marks the
connection broken, and answers to probes sent while data flows are counted.

Spec: RFC 959 sections 4.2, 5.4; RFC 2228 (AUTH, PROT); RFC 2640 (UTF-8 names).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from ecpds.base.logs import get_logger
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
)

MAX_LINE: Final = 8 * 1024
"""Longest line of a reply, in bytes."""

MAX_LINES: Final = 1000
"""Most lines of one reply."""

MAX_UNREAD: Final = 100
"""Most replies that wait to be read; a server that sends more talks nonsense."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code and its lines without code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the reply for people: one line, at most 500 characters, printable only."""
        joined = " / ".join(line.strip() for line in self.lines)[:500]
        return "".join(c if c.isprintable() else "?" for c in joined)

    @property
    def positive(self) -> bool:
        """Whether the command was accepted, completely or so far."""
        return self.code < 400

    @property
    def preliminary(self) -> bool:
        """Whether another reply follows."""
        return self.code < 200


_MARKS: Final = frozenset({b" ", b"-", b""})


class ReplyParser:
    """Turns bytes into replies; holds at most one reply of bounded size."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._rest = bytearray()
        self._code = b""  # of the multi-line reply that is open
        self._lines: list[str] = []

    @property
    def in_middle(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """Take bytes and return the replies that they complete.

        Raises ValueError for anything that is no reply or is too long.
        """
        if not self._rest and data.find(b"\n") == len(data) - 1 and data:
            reply = self._line(data.rstrip(b"\r\n"))  # nearly always: one line at a time
            return [reply] if reply is not None else []
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        if len(rest) > MAX_LINE:
            raise ValueError(f"a reply line is longer than {MAX_LINE} bytes")
        self._rest = rest
        found = (self._line(bytes(line).rstrip(b"\r")) for line in lines)
        return [reply for reply in found if reply is not None]

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > MAX_LINE:
            raise ValueError(f"a reply line is longer than {MAX_LINE} bytes")
        code, mark, text = line[:3], line[3:4], line[4:]
        if not self._code:
            return self._first(code, mark, text)
        if code == self._code and mark in (b" ", b""):
            self._add(text)
            reply = Reply(int(code), tuple(self._lines))
            self._code, self._lines = b"", []
            return reply
        # old servers repeat the code on every line
        self._add(text if code == self._code and mark == b"-" else line)
        return None

    def _first(self, code: bytes, mark: bytes, text: bytes) -> Reply | None:
        if (
            not (code.isdigit() and len(code) == 3 and b"100" <= code < b"600")
            or mark not in _MARKS
        ):
            raise ValueError("the server does not speak FTP")
        if mark == b"-":
            self._code = code
            self._add(text)
            return None
        return Reply(int(code), (self._decode(text),))

    def _add(self, text: bytes) -> None:
        if len(self._lines) >= MAX_LINES:
            raise ValueError(f"a reply has more than {MAX_LINES} lines")
        self._lines.append(self._decode(text))

    def _decode(self, text: bytes) -> str:
        return text.decode(self._encoding, "surrogateescape")


# --- what refusals mean --------------------------------------------------------------------------

_CLASSES: Final[dict[int, type[RemoteError]]] = {
    430: RemoteAuth,
    452: RemoteSpace,
    500: RemoteName,  # "command line too long"; the commands that we send are known everywhere
    501: RemoteName,
    530: RemoteAuth,
    532: RemoteAuth,
    521: RemoteName,
    522: RemoteConfig,  # data channel must or must not be protected
    533: RemoteConfig,
    534: RemoteConfig,
    536: RemoteConfig,
    537: RemoteConfig,
    550: RemoteName,
    551: RemoteName,
    552: RemoteSpace,
    553: RemoteName,
}
_FULL: Final = re.compile(r"no space|disk (is )?full|quota", re.IGNORECASE)
_CROWDED: Final = re.compile(r"maximum|too many", re.IGNORECASE)
_FORBIDDEN: Final = re.compile(r"permission|denied|not allowed|forbidden", re.IGNORECASE)
_ABSENT: Final = re.compile(r"no such|not found|does not exist|cannot find", re.IGNORECASE)


def refusal(reply: Reply, act: str, phase: Phase, *, missing: bool = False) -> RemoteError:
    """Return the error for a negative (or quite unexpected) reply.

    `act` says what was refused; `missing`: a refused name is taken for an absent file.
    """
    cls = _class_of(reply, missing=missing)
    return cls(
        f"{act}: {reply.code} {reply.text}",
        phase=phase,
        remote_code=str(reply.code),
        remote_text=reply.text,
    )


def _class_of(reply: Reply, *, missing: bool) -> type[RemoteError]:
    text, found = reply.text, _CLASSES.get(reply.code, RemoteTransient)
    if reply.code >= 400 and _FULL.search(text):
        return RemoteSpace
    if found is RemoteAuth and _CROWDED.search(text):
        return RemoteTransient  # ProFTPD: 530 Sorry, the maximum number of clients ...
    if missing and reply.code in (450, 550, 551, 553):
        if reply.code == 450 and not _ABSENT.search(text):
            return RemoteTransient
        return found if _FORBIDDEN.search(text) else RemoteMissing
    return found


def argument(text: str) -> str:
    """Return a name as it may stand in a command; raise RemoteName if it may not."""
    if any(c in text for c in "\r\n\0"):
        raise RemoteName(f"{text!r} has a line end or a NUL")
    return text


# --- the connection ------------------------------------------------------------------------------

# Answers that a probe may get; no end of a transfer has one of these codes.
_PROBE_ANSWERS: Final = frozenset({200, 202, 211, 212, 213, 214, 257, 500, 501, 502, 503, 504})


class Control(asyncio.Protocol):
    """Sends commands and gives replies in order."""

    def __init__(self, host: str, *, timeout: float, encoding: str = "utf-8") -> None:
        self.broken = False  # not in step with the server any more
        self.on_trouble: Callable[[], None] | None = None  # refusal or loss while data flows
        self.transport: asyncio.Transport | None = None
        self.encoding = encoding
        self._host = host
        self._timeout = timeout
        self._parser = ReplyParser(encoding)
        self._replies: deque[Reply] = deque()
        self._lost: RemoteError | None = None
        self.heard_at = 0.0  # loop time of the last reply
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0  # of the waiter
        self._timer: asyncio.TimerHandle | None = None
        self._owed = 0  # probes that were not answered yet
        self._probed = ""  # the command of the latest probe

    # called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; comes a second time after the change to TLS."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Parse replies and wake whoever waits."""
        try:
            found = self._parser.feed(data)
        except ValueError as error:
            self._fail(RemoteTransient(f"{self._host}: {error}", phase=Phase.CONNECT))
            return
        self._replies.extend(found)
        self.heard_at = self._loop.time()
        if len(self._replies) > MAX_UNREAD:
            self._fail(ConnectionLost(f"{self._host} sends replies that nobody asked for"))
            return
        self._wake()
        if any(not reply.positive and reply.code not in _PROBE_ANSWERS for reply in found):
            self._trouble()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember why."""
        why = f": {exc}" if exc is not None else ""
        self._fail(ConnectionLost(f"{self._host} closed the control connection{why}"))

    def _fail(self, error: RemoteError) -> None:
        if self._lost is None:
            self._lost = error
        self.abort()
        self._wake()
        self._trouble()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _trouble(self) -> None:
        if self.on_trouble is not None:
            self.on_trouble()

    # called by the session

    def send(self, command: str, *, secret: bool = False, behind: str = "") -> None:
        """Write one command line; raises RemoteName for line ends in it, ConnectionLost.

        `behind`: a second command, sent without waiting for the reply to the first one.
        """
        line = self._line(command) + (self._line(behind) if behind else b"")
        if self._lost is not None or self.transport is None:
            raise self._lost or ConnectionLost(f"{self._host} is not connected")
        log.debug("ftp command", line=command.partition(" ")[0] + " ***" if secret else command)
        if behind:
            log.debug("ftp command", line=behind)
        self.transport.write(line)

    def _line(self, command: str) -> bytes:
        try:
            line = argument(command).encode(self.encoding, "surrogateescape")
        except UnicodeError:
            raise RemoteName(f"the name cannot be written in {self.encoding}") from None
        # 255 is the command mark of telnet, whose rules hold here
        return line.replace(b"\xff", b"\xff\xff") + b"\r\n"

    async def reply(self, timeout: float | None = None) -> Reply:
        """Return the next reply.

        Raises RemoteTimeout (after `timeout` seconds, else those of the constructor) and
        ConnectionLost; either way, and when cancelled, the connection cannot be used again.
        """
        if not self._replies:
            limit = self._timeout if timeout is None else timeout
            self._watch(limit)
            try:
                await self._wait()
            except TimeoutError:
                self.broken = True
                raise RemoteTimeout(f"{self._host} did not answer within {limit:g} s") from None
            except BaseException:
                self.broken = True
                raise
        found = self._replies.popleft()
        if found.code == 421:
            self.broken = True
        log.debug("ftp reply", code=found.code, text=found.lines[0])
        return found

    async def _wait(self) -> None:
        while not self._replies:
            if self._lost is not None:
                raise self._lost
            self._waiter = self._loop.create_future()
            await self._waiter

    def _watch(self, limit: float) -> None:
        """Have the next wait end after `limit` seconds: one timer goes on from reply to reply."""
        self._deadline = self._loop.time() + limit
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
        else:
            self._waiter.set_exception(TimeoutError())

    async def ask(
        self, command: str, *, secret: bool = False, timeout: float | None = None
    ) -> Reply:
        """Send a command and return its final reply."""
        self.send(command, secret=secret)
        reply = await self.reply(timeout)
        while reply.preliminary:
            reply = await self.reply(timeout)
        return reply

    async def ask_both(self, first: str, second: str, *, timeout: float) -> tuple[Reply, Reply]:
        """Send two commands at once; return their final replies."""
        self.send(first, behind=second)
        reply = await self.final(timeout)
        return reply, await self.final(timeout)

    async def demand(
        self,
        command: str,
        act: str,
        phase: Phase,
        *,
        missing: bool = False,
        timeout: float | None = None,
    ) -> Reply:
        """Send a command; raise what its refusal means."""
        try:
            reply = await self.ask(command, timeout=timeout)
        except RemoteError as error:
            error.phase = phase
            raise
        if not reply.positive:
            raise refusal(reply, act, phase, missing=missing)
        return reply

    def probe(self, command: str) -> None:
        """Send a probe while data flows; its answer may come before or after the final reply."""
        if not self.broken:
            self.send(command)
            self._probed = command.upper()
            self._owed += 1

    async def final(self, timeout: float | None = None) -> Reply:
        """Return the final reply of a transfer, without the answers to probes."""
        reply = await self.reply(timeout)
        while reply.preliminary or (self._owed and reply.code in _PROBE_ANSWERS):
            self._owed -= 0 if reply.preliminary else 1
            reply = await self.reply(timeout)
        if self._owed and not self.broken:
            await self._settle(timeout)
        return reply

    async def _settle(self, timeout: float | None) -> None:
        """Get in step again: some servers answer probes late, some never.

        The question put here has an answer with a code of its own; what comes before it belongs
        to probes.  When all probes are answered, whatever comes is the answer.
        """
        question, code = ("SYST", 215) if self._probed == "PWD" else ("PWD", 257)
        self.send(question)
        reply = await self.reply(timeout)
        while reply.code != code and self._owed:
            self._owed -= 1
            reply = await self.reply(timeout)
        self._owed = 0

    def drop_unread(self) -> bool:
        """Forget what came unasked; tell whether there was anything, even half a reply."""
        found = bool(self._replies) or self._parser.in_middle
        self._replies.clear()
        return found

    @property
    def quiet(self) -> bool:
        """Whether the connection stands and nothing came unasked."""
        return not self.broken and not self._replies

    def abort(self) -> None:
        """Close at once."""
        self.broken = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()
