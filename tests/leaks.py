"""What a test left behind: tasks, threads, descriptors, child processes.

Everything that may stay is named here, with the reason.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 2.0  # seconds; closing is asynchronous in the kernel and in executors
_STEP = 0.01

# Beginnings of thread names that may stay after a test.
TOLERATED_THREADS = (
    "pytest_timeout",  # the watchdog of pytest-timeout, when it uses a thread
    "execnet",  # the channel of a pytest-xdist worker
)
# Parts of descriptor targets that may stay.
TOLERATED_DESCRIPTORS = (
    "/dev/urandom",  # opened once by OpenSSL or uvloop, kept for the life of the process
    "/dev/random",
    "/.hypothesis/",  # the example database
    "/dev/null",  # faulthandler and playwright keep one
)
# Beginnings of the command lines of children that may stay.
TOLERATED_CHILDREN = ("git ",)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The threads, descriptors and children of this process at one moment."""

    threads: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    children: frozenset[int]


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one of this very listing
            continue
        found.add((int(name), target))
    return frozenset(found)


def _children() -> frozenset[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return frozenset(found)


def snapshot() -> Snapshot:
    """Return what this process holds now."""
    threads = frozenset(thread.ident or 0 for thread in threading.enumerate())
    return Snapshot(threads, _descriptors(), _children())


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() or "a zombie"
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _left(before: Snapshot) -> list[str]:
    now = snapshot()
    threads = [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if (thread.ident or 0) not in before.threads
        and not thread.name.startswith(TOLERATED_THREADS)
    ]
    descriptors = [
        f"descriptor {number} -> {target}"
        for number, target in sorted(now.descriptors - before.descriptors)
        if not any(part in target for part in TOLERATED_DESCRIPTORS)
    ]
    children = [
        f"child process {pid}: {command}"
        for pid in sorted(now.children - before.children)
        if (command := _command(pid)) and not command.startswith(TOLERATED_CHILDREN)
    ]
    return threads + descriptors + children


def left_since(before: Snapshot) -> list[str]:
    """Return what was not there before, once it has had `PATIENCE` to go away by itself."""
    deadline = time.monotonic() + PATIENCE
    while (left := _left(before)) and time.monotonic() < deadline:
        gc.collect()  # clients such as boto3 leave broken connections in cycles
        time.sleep(_STEP)
    return left


def tasks_left() -> list[str]:
    """Return the tasks of the running loop besides the one that asks."""
    current = asyncio.current_task()
    return [f"task {task!r}" for task in asyncio.all_tasks() if task is not current]
