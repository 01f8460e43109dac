"""One turn of a thread: bytes between a file and a plain socket without passing through Python.

The sockets are non-blocking: a turn ends when the client is not ready within `patience`
milliseconds, so that a slow client never holds a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from typing import Final

from ecpds.base.logs import get_logger

log = get_logger(__name__)

PIPE_SIZE: Final = 1024 * 1024  # what an unprivileged process may ask for


def sendfile(
    sock: int, file: int, offset: int, most: int, patience: int
) -> tuple[int, OSError | None]:
    """Send up to `most` bytes; return the count, less when the client is not ready in time."""
    sent = 0
    while sent < most:
        try:
            count = os.sendfile(sock, file, offset + sent, most - sent)
        except BlockingIOError:
            if not patience or not _soon(sock, select.POLLOUT, patience):
                break
            continue
        except OSError as error:
            return sent, error
        if not count:
            return sent, OSError(errno.EIO, "the stored content is too short")
        sent += count
    return sent, None


def _soon(sock: int, event: int, patience: int) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(patience))


class Pipe:
    """The pipe between socket and file that splice needs."""

    def __enter__(self) -> Pipe:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            log.debug("splicing through a small pipe")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._in)
        os.close(self._out)

    def splice(
        self, sock: int, file: int, offset: int, most: int, patience: int
    ) -> tuple[int, bool, OSError | None]:
        """Move up to `most` bytes to `file` at `offset`; return count, whether all came, error."""
        done = 0
        while done < most:
            try:
                count = os.splice(
                    sock, self._in, most - done, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
                )
            except BlockingIOError:
                if not patience or not _soon(sock, select.POLLIN, patience):
                    break
                continue
            except OSError as error:
                return done, False, error
            if not count:
                return done, True, None
            try:
                self._drain(file, offset + done, count)
            except OSError as error:
                return done, False, error
            done += count
        return done, False, None

    def _drain(self, file: int, offset: int, count: int) -> None:
        while count:
            try:
                moved = os.splice(self._out, file, count, offset_dst=offset, flags=os.SPLICE_F_MOVE)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                moved = _copy(self._out, file, count, offset)  # a file system without splice
            offset += moved
            count -= moved


def _copy(pipe: int, file: int, count: int, offset: int) -> int:
    view = memoryview(os.read(pipe, count))
    done = 0
    while done < len(view):
        done += os.pwrite(file, view[done:], offset + done)
    return done
