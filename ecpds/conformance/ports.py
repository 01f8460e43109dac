"""Free TCP ports that stay ours: blocks below the ephemeral range, held by a file lock.

A server that takes its port from its configuration cannot bind port 0. Asking the kernel for a free
port and letting it go again is a race against every outgoing connection and every other pytest
worker; a locked block outside the ephemeral range is not.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 32  # one for control, the others for passive data connections
_FIRST = 12000
_HOSTS = ("127.0.0.1", "0.0.0.0")


def _ephemeral_start() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return 32768
    return max(int(text.split()[0]), _FIRST + 100 * BLOCK)


def _is_free(port: int) -> bool:
    for host in _HOSTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


@contextmanager
def reserved() -> Iterator[range]:
    """Give `BLOCK` consecutive ports that no other user of this file gets meanwhile.

    Raises:
        RuntimeError: every block is taken.
    """
    folder = Path(tempfile.gettempdir()) / f"ecpds-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    starts = list(range(_FIRST, _ephemeral_start() - BLOCK, BLOCK))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        lock = os.open(folder / str(start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(lock) and all(map(_is_free, range(start, start + BLOCK))):
                yield range(start, start + BLOCK)
                return
        finally:
            os.close(lock)
    raise RuntimeError("no free block of ports")


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
