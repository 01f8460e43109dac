"""One SFTP channel: packets in, answers out.

Reading and writing of blocks are answered on the spot, without a task; everything that has to wait
for the session is a job (`jobs.py`).  Answers are gathered and leave in few SSH packets.
What a client may make us hold is bounded: one packet, the jobs under way, the open handles and the
answers that it does not take; beyond that its requests stay in the socket.

Spec: draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from ecpds.base.clock import Clock
from ecpds.base.logs import get_logger
from ecpds.base.threads import Threads
from ecpds.model.errors import EcpdsError, Malformed
from ecpds.portals.ssh import wire
from ecpds.portals.ssh.answers import status_of
from ecpds.portals.ssh.extensions import ANNOUNCED
from ecpds.portals.ssh.handles import Handle, Handles, Places, WriteHandle, key_of
from ecpds.portals.ssh.jobs import Job
from ecpds.portals.ssh.link import LEAVE_SECONDS, Link
from ecpds.portals.ssh.requests import Requests
from ecpds.vfs.contract import Session

log = get_logger(__name__)

MAX_JOBS = 64
_FLUSH_BYTES = 256 * 1024


class SftpService:
    """Serves SFTP version 3 on one channel."""

    def __init__(
        self, session: Session, link: Link, *, places: Places, clock: Clock, threads: Threads
    ) -> None:
        self._link = link
        self._handles = Handles(places)
        self._requests = Requests(session, self._handles, clock=clock, threads=threads)
        self._buffer = bytearray()
        self._answers: list[bytes] = []
        self._gathered = 0  # bytes in the answers
        self._flush_due = False
        self._inside = False  # a run over the buffer is under way
        self._greeted = False
        self._jobs: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._blocked = False  # the client does not take our answers
        self._paused = False
        self._finished = False  # the client sends no more
        self._lost = False
        self._patience = LEAVE_SECONDS
        self._failed = False
        self._ended = asyncio.Event()

    # --- what the channel tells --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._lost or self._failed:
            return
        self._buffer += data
        self._go_on()

    def finished(self) -> None:
        """Note that the client sends no more; what it asked for is still answered."""
        self._finished = True
        self._go_on()

    def lost(self, patience: float = LEAVE_SECONDS) -> None:
        """Note that the channel is gone."""
        self._patience = min(patience, self._patience)
        self._lost = True
        self._ended.set()

    def blocked(self, blocked: bool) -> None:
        """Note whether the client fails to take our answers."""
        self._blocked = blocked
        if not blocked:
            self._go_on()

    @property
    def running(self) -> bool:
        """Whether the client waits for an answer of ours."""
        return bool(self._jobs)

    @property
    def busy(self) -> bool:
        """Whether something would be cut off by ending now."""
        return bool(self._jobs) or len(self._handles) > 0

    async def serve(self) -> int:
        """Serve until the client ends or goes away; return the exit status of the channel.

        Cancelled, it still parks or discards the open uploads.
        """
        try:
            await self._ended.wait()
            await self._settle()
        finally:
            self._lost = True
            await self._abandon()
        return 1 if self._failed else 0

    async def _abandon(self) -> None:
        for handle in self._handles.pop_all():
            try:
                async with asyncio.timeout(LEAVE_SECONDS):
                    await handle.abandon()
            except (EcpdsError, OSError, TimeoutError) as error:
                log.warning("an open file of a lost client was not settled", reason=str(error))

    async def _settle(self) -> None:
        """Let what runs come to its end, but not for ever."""
        self._lost = True  # nothing new begins
        try:
            async with asyncio.timeout(self._patience):
                for job in list(self._jobs):
                    await job.done.wait()
        except TimeoutError:
            for task in list(self._tasks):
                task.cancel()
            for job in list(self._jobs):
                await job.done.wait()

    # --- packets -----------------------------------------------------------------------------

    @property
    def _held(self) -> bool:
        return self._blocked or self._lost or self._failed or len(self._jobs) >= MAX_JOBS

    def _go_on(self) -> None:
        """Answer what can be answered, then take more from the client or no more."""
        if self._inside:  # called from within our own write: the loop below goes on by itself
            return
        self._inside = True
        try:
            self._run_buffer()
            self._flush()
        finally:
            self._inside = False
        if self._held and not self._paused:
            self._paused = True
            self._link.pause()
        elif self._paused and not self._held:
            self._paused = False
            self._link.resume()
        if self._failed or (self._finished and not self._jobs and not self._held):
            self._ended.set()

    def _run_buffer(self) -> None:
        buffer, place = self._buffer, 0
        with memoryview(buffer) as view:
            while not self._held and len(buffer) - place >= 4:
                length = int.from_bytes(view[place : place + 4], "big")
                if not 0 < length <= wire.MAX_PACKET:
                    self._fail("a packet is too large")
                    break
                after = place + 4 + length
                if after > len(buffer):
                    break
                with view[place + 4 : after] as packet:
                    self._packet(packet)
                place = after
        try:
            del buffer[:place]
        except BufferError:  # somebody still holds a piece, as a traceback may
            self._buffer = buffer[place:]

    def _packet(self, packet: memoryview) -> None:
        if packet[0] in {wire.READ, wire.WRITE} and self._greeted and len(packet) >= 5:
            self._transfer(packet)
        else:
            self._request(bytes(packet))

    def _transfer(self, packet: memoryview) -> None:
        """Answer READ and WRITE, which are nearly all requests there are."""
        request = int.from_bytes(packet[1:5], "big")
        try:
            if len(packet) < wire.TRANSFER.size:
                raise Malformed("the request is cut short")
            kind, request, size, name, offset, length = wire.TRANSFER.unpack_from(packet)
            if size != wire.HANDLE_BYTES:
                raise Malformed("no such handle")
            handle = self._handles.get(name)
            if kind == wire.READ:
                self._read(request, name, handle, offset, length)
                return
            if len(packet) != wire.TRANSFER.size + length:
                raise Malformed("the block is not as long as it says")
            with packet[wire.TRANSFER.size :] as data:
                self._write(request, name, handle, offset, data)
        except EcpdsError as error:
            self._send(status_of(request, error))
        except OSError as error:
            self._send(_broken(request, error))

    def _read(self, request: int, name: bytes, handle: Handle, offset: int, length: int) -> None:
        if handle.rate is not None:
            self._begin(request, _paced_read(request, name, handle, offset, length))
            return
        data = handle.read(offset, length)
        if data:
            self._answers.append(wire.data_head(request, len(data)))
            self._send(data)
        else:
            self._send(wire.status(request, wire.EOF))

    def _write(
        self, request: int, name: bytes, handle: Handle, offset: int, data: memoryview
    ) -> None:
        if handle.rate is not None or _is_unopened(handle):
            self._begin(request, _waiting_write(request, name, handle, offset, bytes(data)))
            return
        handle.write(offset, data)
        self._send(wire.status(request, wire.OK))

    def _request(self, packet: bytes) -> None:
        if not self._greeted:
            self._greet(packet)
            return
        if len(packet) < 5 or packet[0] == wire.INIT:
            self._fail("a request without a number")
            return
        request = int.from_bytes(packet[1:5], "big")
        try:
            planned = self._requests.plan(packet[0], request, wire.Fields(packet, 5))
        except EcpdsError as error:
            planned = status_of(request, error)
        if isinstance(planned, Job):
            self._begin(request, planned)
        else:
            self._send(planned)

    def _greet(self, packet: bytes) -> None:
        """Answer INIT; like OpenSSH we say 3 to everybody, and newer clients come down to it."""
        if packet[0] != wire.INIT or len(packet) < 5:
            self._fail("the client did not begin with INIT")
            return
        self._greeted = True
        body = bytearray(wire.u32(wire.VERSION))
        for name, value in self._announced().items():
            body += wire.string(name) + wire.string(value)
        self._send(wire.u32(1 + len(body)) + bytes([wire.VERSION_REPLY]) + bytes(body))

    def _announced(self) -> Mapping[bytes, bytes]:
        return ANNOUNCED

    # --- jobs --------------------------------------------------------------------------------

    def _begin(self, request: int, job: Job) -> None:
        earlier = [other for other in self._jobs if other.related(job)]
        self._jobs.append(job)
        task = self._link.spawn(self._run(request, job, earlier), f"sftp-request-{request}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._forget, job))

    def _forget(self, job: Job, task: asyncio.Task[None]) -> None:
        """Note the end of a job, also of one that was cancelled before its first step."""
        self._tasks.discard(task)
        self._end(job)

    def _end(self, job: Job) -> None:
        if not job.done.is_set():
            self._jobs.remove(job)
            job.done.set()

    async def _run(self, request: int, job: Job, earlier: list[Job]) -> None:
        try:
            for other in earlier:
                await other.done.wait()
            answer = await job.work()
        except EcpdsError as error:
            answer = status_of(request, error)
        except OSError as error:
            answer = _broken(request, error)
        except Exception as error:  # noqa: BLE001 - the boundary of the server
            answer = _mistaken(request, error)
        finally:
            self._end(job)
        self._send(answer)
        if self._jobs:
            self._go_on_soon()
        else:  # a client that asks one thing at a time waits for this one
            self._go_on()

    # --- answers -----------------------------------------------------------------------------

    def _send(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._gathered += len(answer)
        if self._gathered >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._answers:
            data, self._answers = b"".join(self._answers), []
            self._gathered = 0
            if not self._lost:
                self._link.write(data)

    def _go_on_soon(self) -> None:
        """Go on once for all jobs that end in the same turn of the loop."""
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._due)

    def _due(self) -> None:
        self._flush_due = False
        self._go_on()

    def _fail(self, reason: str) -> None:
        """End a channel whose requests can no longer be told apart."""
        log.info("an SFTP client broke the protocol", reason=reason)
        self._failed = True


def _is_unopened(handle: Handle) -> bool:
    return isinstance(handle, WriteHandle) and handle.writer is None


def _paced_read(request: int, name: bytes, handle: Handle, offset: int, length: int) -> Job:
    """Return a READ whose answer is held back as the rate of the download demands."""

    async def work() -> bytes:
        data = handle.read(offset, length)
        await asyncio.sleep(handle.pause())
        if not data:
            return wire.status(request, wire.EOF)
        return wire.data_head(request, len(data)) + data

    return Job((key_of(name),), work)


def _waiting_write(request: int, name: bytes, handle: Handle, offset: int, data: bytes) -> Job:
    """Return a WRITE that opens the writer where it belongs, or whose answer is held back."""

    async def work() -> bytes:
        if isinstance(handle, WriteHandle):
            await handle.begin(offset)
        handle.write(offset, memoryview(data))
        await asyncio.sleep(handle.pause())
        return wire.status(request, wire.OK)

    return Job((key_of(name), handle.path), work)


def _broken(request: int, error: OSError) -> bytes:
    log.error("a file of the hub cannot be used", reason=str(error))
    return wire.status(request, wire.FAILURE, "input or output error")


def _mistaken(request: int, error: Exception) -> bytes:
    log.error("a request failed", exc=error)
    return wire.status(request, wire.FAILURE, "internal error")
