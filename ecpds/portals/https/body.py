"""The body of a request on its way from the socket to whoever reads it.

An upload takes each block in the moment in which it is decrypted: no queue, no task switch and no
copy in between.  Whoever reads at his own pace has a small queue before the socket has to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ecpds.model.errors import Incomplete
from ecpds.portals.https.exchange import Body, Refused, Take

QUEUE = 256 * 1024  # bytes that wait for a reader
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class WireBody(Body):
    """A body that a connection feeds."""

    def __init__(
        self,
        length: int | None,
        *,
        waits: bool,
        timeout: float,
        hold: Callable[[bool], None],
        send: Callable[[bytes], None],
    ) -> None:
        """Arrange a body of `length` bytes (None: chunked).

        `waits`: the client sends nothing before it is told to go on.  `timeout`: seconds in which
        the next bytes have to come.  `hold` stops and resumes reading from the socket, `send`
        writes to it.
        """
        self.length = length
        self.announced = True
        self.present = length != 0
        self.received = 0
        self.complete = not self.present
        self._waits = waits
        self._timeout = timeout
        self._hold = hold
        self._send = send
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._take: Take | None = None
        self._failed: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    # --- for the reader ------------------------------------------------------------------

    async def read(self) -> bytes:
        """Return what has arrived."""
        self._go_on()
        while not self._queue:
            if self._failed is not None:
                raise self._failed
            if self.complete:
                return b""
            await self._more()
        block = self._queue.popleft()
        self._queued -= len(block)
        if self._queued < QUEUE // 2:
            self._hold(False)
        return block

    async def pour(self, take: Take) -> None:
        """Call `take` with each block as it arrives; return when the body is complete."""
        self._go_on()
        while self._queue:
            take(self._queue.popleft())
        self._queued = 0
        self._take = take
        try:
            self._hold(False)
            while not self.complete and self._failed is None:
                await self._more()
        finally:
            self._take = None
        if self._failed is not None:
            raise self._failed

    def _go_on(self) -> None:
        if self._waits:
            self._waits = False
            if not self.received and not self.complete:
                self._send(_CONTINUE)

    async def _more(self) -> None:
        """Return when something has changed; raise Refused (408) when nothing arrives in time."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._watch = loop.call_later(self._timeout, self._check, self.received)
        try:
            await self._waiter
        finally:
            self._watch.cancel()
            self._watch = self._waiter = None

    def _check(self, before: int) -> None:
        """End a wait in which nothing came; wait once more when something did."""
        if self.received == before:
            self.fail(Refused(408, "the body did not arrive in time"))
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._timeout, self._check, self.received)

    # --- for the connection --------------------------------------------------------------

    def feed(self, block: bytes | memoryview) -> None:
        """Take bytes from the socket; a view may be changed after the call."""
        self.received += len(block)
        if self._failed is not None:
            return
        if self._take is None:
            self._queue.append(bytes(block))
            self._queued += len(block)
            if self._queued > QUEUE:
                self._hold(True)
            self._wake()
            return
        try:
            self._take(block)
        except Exception as error:  # noqa: BLE001 - it is raised where `pour` waits
            self.fail(error)

    def finish(self) -> None:
        """Tell that the last byte has come."""
        self.complete = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Tell the reader that no more will come, and why; nothing happens once it is complete."""
        if not self.complete and self._failed is None:
            self._failed = error
            self._wake()

    def cut(self) -> None:
        """Tell the reader that the connection has ended."""
        self.fail(Incomplete(f"the body ended after {self.received} bytes"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
