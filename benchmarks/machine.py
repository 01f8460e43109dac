"""The machine that a figure belongs to, and the memory of a process on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import MeasurementFailed

PROC = Path("/proc")


def machine() -> dict[str, object]:
    """Return what the figures depend on: processor, cores, memory, kernel, Python, OpenSSL."""
    import ssl  # here: the memory probe of a bare process should not pay for it

    return {
        "cpu": _field(PROC / "cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }


def machine_line() -> str:
    """Return `machine()` as one line for the head of the table."""
    m = machine()
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, Linux {m['kernel']}, "
        f"Python {m['python']}, {m['openssl']}"
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes; `pss` counts shared pages by their share."""

    rss: int
    pss: int


def memory(pid: int) -> Memory:
    """Return the memory of a process and all its descendants."""
    rss = pss = 0
    for each in family(pid):
        rss += _kilobytes(each, "Rss:")
        pss += _kilobytes(each, "Pss:")
    if not rss:
        raise MeasurementFailed(f"process {pid} has no memory: it has ended")
    return Memory(rss, pss)


def family(pid: int) -> Iterator[int]:
    """Yield the process and its descendants, parents first."""
    yield pid
    for task in (PROC / str(pid) / "task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # the thread ended meanwhile
        for child in children:
            yield from family(int(child))


def _kilobytes(pid: int, key: str) -> int:
    """Return a line of smaps_rollup in bytes, 0 when the process is gone."""
    try:
        value = _field(PROC / str(pid) / "smaps_rollup", key.rstrip(":"))
    except OSError:
        return 0
    return int(value.split()[0]) * 1024 if value else 0


def _field(path: Path, key: str) -> str | None:
    """Return what follows `key:` in a file of the /proc kind."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
