"""Moving bytes between descriptors of this machine; all of these block."""

from __future__ import annotations

import os

from ecpds.model.errors import SourceBroke
from ecpds.transfer.source import READ


def write_all(descriptor: int, block: bytes, position: int) -> int:
    """Write a whole block at `position`; return its length."""
    view = memoryview(block)
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], position + done)
    return done


def read(descriptor: int, count: int, position: int) -> bytes:
    """Read content that must be there; raises SourceBroke at its end."""
    try:
        block = os.pread(descriptor, count, position)
    except OSError as error:
        raise SourceBroke(f"the content cannot be read: {error.strerror}") from error
    if not block:
        raise SourceBroke(f"the content ends at {position}")
    return block


def kernel_copy(source: int, target: int, count: int, begin: int, position: int) -> int:
    """Copy up to `count` bytes without passing them through the process; return how many."""
    done = os.copy_file_range(source, target, count, begin, position)
    if not done:
        raise SourceBroke(f"the content ends at {begin}")
    return done


def plain_copy(source: int, target: int, count: int, begin: int, position: int) -> int:
    """Do the same by reading and writing, for file systems that cannot."""
    return write_all(target, read(source, min(count, READ), begin), position)
