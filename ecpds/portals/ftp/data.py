"""The data connection: small files and listings through the loop, big files through the kernel.

Small means that a hand-over to a thread (about 40 microseconds) costs more than the bytes.  Big
files on a plain connection go by sendfile and splice in short turns of a thread, so that neither
a slow disk holds up the loop nor a slow client a thread.  TLS runs in the loop in blocks.

Every wait for the client is under `patience` and can be interrupted (ABOR, lost control
connection).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, ParamSpec, TypeVar

from ecpds.base.logs import get_logger
from ecpds.base.threads import Threads
from ecpds.model.errors import (
    ConnectionLost,
    EcpdsError,
    Phase,
    RemoteError,
    RemoteTimeout,
    SourceBroke,
    StorageFull,
    TooLarge,
)
from ecpds.portals.ftp.setups import Setup
from ecpds.portals.ftp.tls import MORE, TlsLayer
from ecpds.portals.ftp.turns import Pipe, sendfile
from ecpds.vfs.contract import Reader, Writer

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BLOCK: Final = 262_144  # bytes read, written or encrypted at once in the loop
TURN: Final = 16 * 1024 * 1024  # most bytes of one turn of a thread
BRISK: Final = 1024 * 1024  # a turn that moved this much earns patience in the next one
PATIENCE_MS: Final = 10  # wait of a thread for a brisk client; others are waited for in the loop
THREAD_END: Final = 10.0  # seconds for a turn to end after the connection was cut
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_ONCE: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: on, no time


class DataLink:
    """One data connection, from its set-up to its end; `moved` counts the bytes of the file."""

    def __init__(
        self,
        setup: Setup,
        *,
        threads: Threads,
        patience: timedelta,
        scratch: memoryview,
        before_wait: Callable[[], None],
    ) -> None:
        """Prepare; `scratch` is a buffer of `BLOCK` bytes that is free whenever nobody awaits.

        `before_wait` is called before each wait: replies leave, the session is told to be alive.
        """
        self._setup = setup
        self._threads = threads
        self._patience = patience
        self._scratch = scratch
        self._before_wait = before_wait
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._tls: TlsLayer | None = None
        self._future: asyncio.Future[None] | None = None
        self._broken: EcpdsError | None = None
        self._phase = Phase.CONNECT
        self._waits = 0
        self._is_over = False  # the client has ended its side
        self._begun = 0.0
        self.moved = 0

    # ---- beginning and end

    async def open(self) -> None:
        """Connect.

        Raises:
            ConnectionLost, RemoteTimeout: phase CONNECT; the client did not come, or strangers did.
        """
        self._check()
        try:
            self._sock = await self._setup.connect(self._ready)
        except OSError as error:
            raise self._lost(error) from error
        finally:
            self._setup.close()
        self._check()
        self._phase = Phase.DATA
        self._begun = time.monotonic()  # uvloop's own clock stands still between two rounds

    @property
    def is_secure(self) -> bool:
        """Whether TLS protects it."""
        return self._tls is not None

    @property
    def lasted(self) -> float:
        """How long it is or was in use, in seconds."""
        return time.monotonic() - self._begun

    async def secure(self, context: ssl.SSLContext, *, needs_reuse: bool = False) -> None:
        """Do the TLS handshake; `needs_reuse`: only with a session of an earlier connection.

        Raises:
            ConnectionLost, RemoteTimeout: phase TLS.
        """
        self._phase = Phase.TLS
        tls = TlsLayer(context, tickets=False)
        done = False
        while not done:
            try:
                done = tls.handshake()
            finally:
                await self._flush(tls)
            if not done:
                count = await self._receive(self._scratch)
                if not count:
                    raise ConnectionLost("the client went away in the handshake", phase=Phase.TLS)
                tls.feed(self._scratch[:count])
        if needs_reuse and not tls.is_resumed:
            text = "the data connection has to resume the TLS session of the control connection"
            raise ConnectionLost(text, phase=Phase.TLS)
        self._tls = tls
        self._phase = Phase.DATA

    async def finish(self) -> socket.socket | None:
        """Tell the client that this was all; return the socket if it has to linger.

        With TLS it has to: the client's close_notify on a closed socket would be answered by a
        reset, which may overtake the last bytes.  The caller closes it when the client did, or
        soon.
        """
        self._check()
        sock = self._connected
        if self._tls is None or self._is_over:
            self.close()
            return None
        self._tls.end()
        await self._flush(self._tls)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._lost(error) from error
        self._sock = None
        return sock

    def interrupt(self, error: EcpdsError) -> None:
        """End it from outside: whoever waits for the client gets `error`."""
        if self._broken is not None:
            return
        self._broken = error
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
        self._hang_up()

    def close(self, *, reset: bool = False) -> None:
        """Close; `reset`: so that it cannot be taken for an orderly end.  May be called twice."""
        self._setup.close()
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if reset:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            except OSError:
                log.debug("no reset of a dead connection")
        sock.close()

    def _hang_up(self) -> None:
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # already down

    @property
    def _connected(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionLost("there is no data connection", phase=Phase.CONNECT)
        return self._sock

    # ---- out

    async def send(self, data: bytes | memoryview) -> None:
        """Send a piece of a listing or a small file."""
        if self._tls is not None:
            self._tls.write(data)
            await self._flush(self._tls)
            self.moved += len(data)
        else:
            await self._send_plain(memoryview(data))

    async def send_file(self, reader: Reader, offset: int) -> None:
        """Send the file from byte `offset` to its end.

        Raises:
            SourceBroke: the content cannot be read or is shorter than its size.
        """
        if self._tls is None and reader.rate is None and reader.size - offset > BLOCK:
            await self._send_by_kernel(reader, offset)
            return
        step = _step(reader.rate)
        while offset < reader.size:
            data = reader.read(offset, min(step, reader.size - offset))
            if not data:
                raise SourceBroke("the stored content is too short")
            offset += len(data)
            if offset < reader.size:
                os.posix_fadvise(reader.descriptor, offset, 8 * BLOCK, os.POSIX_FADV_WILLNEED)
            await self.send(data)
            if offset < reader.size:
                await self._pause(reader.pause(self.moved))

    async def _send_by_kernel(self, reader: Reader, offset: int) -> None:
        sock, patience = self._connected.fileno(), PATIENCE_MS
        end = reader.size
        while offset < end:
            self._check()
            most = min(TURN, end - offset)
            count, wrong = await self._in_thread(
                sendfile, sock, reader.descriptor, offset, most, patience
            )
            offset += count
            self.moved += count
            if wrong is not None:
                raise self._lost(wrong) if _is_network(wrong) else SourceBroke(str(wrong))
            if count < most:
                await self._ready(self._connected, write=True)
            patience = PATIENCE_MS if count >= BRISK else 0

    async def _flush(self, tls: TlsLayer) -> None:
        if data := tls.take():
            await self._send_plain(memoryview(data), is_content=False)

    async def _send_plain(self, view: memoryview, *, is_content: bool = True) -> None:
        while view:
            self._check()
            try:
                count = self._connected.send(view)
            except (BlockingIOError, InterruptedError):
                await self._ready(self._connected, write=True)
                continue
            except OSError as error:
                raise self._lost(error) from error
            view = view[count:]
            self.moved += count if is_content else 0

    # ---- in

    async def receive(self, writer: Writer, promise: int | None) -> None:
        """Take the client's bytes to their orderly end.

        Raises:
            TooLarge: more came than `promise`; and whatever the writer raises.
            ConnectionLost: the connection was cut; with TLS also an end without close_notify.
        """
        if self._tls is not None:
            await self._receive_tls(self._tls, writer, promise)
        elif await self._receive_in_loop(writer, promise):
            with Pipe() as pipe:
                await self._receive_by_kernel(writer, promise, pipe)
        self._is_over = True
        self._check()  # an interrupted connection looks like an orderly end

    async def _receive_in_loop(self, writer: Writer, promise: int | None) -> bool:
        """Take bytes until the end (False) or until so many come at once that threads pay."""
        at_once, waits, view = 0, self._waits, self._scratch[: _step(writer.rate)]
        while at_once < 4 * BLOCK:
            count = await self._receive(view)
            if not count:
                return False
            writer.write(view[:count])
            self._count(count, promise)
            if writer.rate is not None:
                await self._pause(writer.pause())
            at_once = at_once + count if waits == self._waits and writer.rate is None else count
            waits = self._waits
        return True

    async def _receive_by_kernel(self, writer: Writer, promise: int | None, pipe: Pipe) -> None:
        sock, patience, done = self._connected.fileno(), PATIENCE_MS, False
        while not done:
            self._check()
            most = TURN if writer.limit is None else min(TURN, writer.limit - writer.received + 1)
            count, done, wrong = await self._in_thread(
                pipe.splice, sock, writer.descriptor, writer.received, max(most, 1), patience
            )
            if count:
                writer.advance(count)
                self._count(count, promise)
            if wrong is not None:
                raise self._lost(wrong) if _is_network(wrong) else _unwritten(wrong)
            if not count and not done:
                await self._ready(self._connected, write=False)
            patience = PATIENCE_MS if count >= BRISK else 0

    async def _receive_tls(self, tls: TlsLayer, writer: Writer, promise: int | None) -> None:
        clear, view = memoryview(bytearray(BLOCK)), self._scratch[: _step(writer.rate)]
        while True:
            while (count := tls.read_into(clear)) > 0:
                writer.write(clear[:count])
                self._count(count, promise)
            if count != MORE:
                break
            await self._flush(tls)  # a key update asks for an answer
            await self._pause(writer.pause())
            if not (count := await self._receive(view)):
                raise ConnectionLost("the data connection ended without TLS close_notify")
            tls.feed(view[:count])
        tls.end()  # some clients wait for our close_notify before they read the reply
        try:
            await self._flush(tls)
        except RemoteError:
            log.debug("client did not wait for close_notify")

    async def _receive(self, view: memoryview) -> int:
        while True:
            self._check()
            try:
                return self._connected.recv_into(view)
            except (BlockingIOError, InterruptedError):
                await self._ready(self._connected, write=False)
            except OSError as error:
                raise self._lost(error) from error

    def _count(self, count: int, promise: int | None) -> None:
        self.moved += count
        if promise is not None and self.moved > promise:
            raise TooLarge("more bytes came than ALLO had announced")

    # ---- waiting

    async def _ready(self, sock: socket.socket, write: bool) -> None:
        self._before_wait()
        self._check()
        self._waits += 1
        future = self._future = self._loop.create_future()
        if write:
            self._loop.add_writer(sock, _done, future)
        else:
            self._loop.add_reader(sock, _done, future)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await future
        except TimeoutError:
            raise RemoteTimeout(
                f"nothing moved for {self._patience.total_seconds():g} s", phase=self._phase
            ) from None
        finally:
            self._future = None
            if sock.fileno() >= 0:
                (self._loop.remove_writer if write else self._loop.remove_reader)(sock)

    async def _pause(self, seconds: float) -> None:
        """Give others their turn, or sleep as long as the rate demands; ABOR ends it."""
        self._check()
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._before_wait()
        future = self._future = self._loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return
        finally:
            self._future = None

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _lost(self, error: OSError) -> EcpdsError:
        if self._broken is not None:
            return self._broken
        return ConnectionLost(f"data connection: {error.strerror or error}", phase=self._phase)

    async def _in_thread(self, turn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a turn in a thread; a cancelled caller waits, as the descriptors are in use."""
        self._before_wait()
        claim, ended, loop = threading.Lock(), asyncio.Event(), self._loop

        def run() -> T:
            if not claim.acquire(blocking=False):
                raise ConnectionLost("cancelled before it began")
            try:
                return turn(*args, **kwargs)
            finally:
                loop.call_soon_threadsafe(ended.set)

        try:
            return await self._threads.run("disk", run)
        except asyncio.CancelledError:
            if not claim.acquire(blocking=False):  # it has begun
                self._hang_up()
                await _within(ended, THREAD_END)
            raise


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        log.error("a thread did not let go of a data connection")  # noqa: TRY400


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _step(rate: int | None) -> int:
    """Return the size of a block: small for a low rate, so that it flows."""
    return BLOCK if rate is None else max(4096, min(BLOCK, rate // 8))


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError) or error.errno in (
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOTCONN,
    )


def _unwritten(error: OSError) -> EcpdsError:
    if error.errno in _NO_ROOM:
        return StorageFull("no volume has room")
    return EcpdsError(f"writing failed: {error.strerror or error}")
