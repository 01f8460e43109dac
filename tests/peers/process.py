"""Start a server, wait until it answers, end it and everything it started.

Output goes to a file, so that no pipe fills up and a failure can show it. The kernel ends the
server when the test process dies (`setpriv --pdeathsig`); start servers from the main thread,
because that signal follows the thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.peers.programs import find

START_LIMIT = 20.0  # seconds; a loaded machine of two cores starts chromium in five
STOP_LIMIT = 5.0  # seconds from SIGTERM to SIGKILL
_STEP = 0.01  # seconds between two looks


class PeerFailed(Exception):
    """A server did not start or ended by itself; the text has its output."""


def _stat(pid: int) -> tuple[int, str, int] | None:
    """Return parent, state letter and start time of a process, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), fields[0], int(fields[19])


def _all_processes() -> Iterator[tuple[int, int, int]]:
    """Yield pid, parent and start time of every process that is not a zombie."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := _stat(int(entry))) and found[1] != "Z":
            yield int(entry), found[0], found[2]


def descendants(pid: int) -> set[tuple[int, int]]:
    """Return (pid, start time) of every live process below `pid`."""
    children: dict[int, list[tuple[int, int]]] = {}
    for child, parent, started in _all_processes():
        children.setdefault(parent, []).append((child, started))
    found: set[tuple[int, int]] = set()
    waiting = [pid]
    while waiting:
        below = [one for one in children.get(waiting.pop(), []) if one not in found]
        found.update(below)
        waiting.extend(one[0] for one in below)
    return found


def _is_alive(process: tuple[int, int]) -> bool:
    found = _stat(process[0])
    return found is not None and found[1] != "Z" and found[2] == process[1]


def _send(processes: set[tuple[int, int]], number: signal.Signals) -> None:
    for process in processes:
        if _is_alive(process):
            with suppress(ProcessLookupError):
                os.kill(process[0], number)


class Child:
    """A started program with its output file; ended with all that it started."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        output: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.output_path = output
        guarded = [find("setpriv"), "--pdeathsig", "TERM", "--", *command]
        with output.open("ab") as sink:
            self.process = subprocess.Popen(
                [str(word) for word in guarded],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self.process.pid

    def output(self) -> str:
        """Return what was written to stdout and stderr so far."""
        return self.output_path.read_text(errors="replace")

    def failed(self, what: str) -> PeerFailed:
        """Return an error with the last 100 lines of output."""
        lines = self.output().splitlines()[-100:]
        state = self.process.poll()
        ended = "still runs" if state is None else f"ended with {state}"
        return PeerFailed("\n".join([f"{self.name} {what} ({ended})", *lines]))

    def _tree(self) -> set[tuple[int, int]]:
        """Return the server and all below it; the server is stopped, so that it starts no more."""
        found = _stat(self.pid)
        if found is None or self.process.poll() is not None:
            return set()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
        return {(self.pid, found[2])} | descendants(self.pid)

    async def stop(self, limit: float = STOP_LIMIT) -> None:
        """Ask the whole tree to end, kill what has not after `limit` seconds."""
        tree = self._tree()
        _send(tree, signal.SIGTERM)
        _send(tree, signal.SIGCONT)
        deadline = time.monotonic() + limit
        while any(map(_is_alive, tree)) and time.monotonic() < deadline:
            self.process.poll()
            await asyncio.sleep(_STEP)
        self.kill(tree)

    def kill(self, tree: set[tuple[int, int]] | None = None) -> None:
        """Send SIGKILL to the whole tree and reap the server."""
        _send(self._tree() if tree is None else tree, signal.SIGKILL)
        self.process.wait(STOP_LIMIT)


async def _greeting(host: str, port: int, banner: bytes) -> bool:
    """Tell whether the port accepts, and greets with `banner` unless that is empty."""
    loop = asyncio.get_running_loop()
    with socket.socket() as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(2):
                await loop.sock_connect(probe, (host, port))
                return (await loop.sock_recv(probe, 256)).startswith(banner) if banner else True
        except (OSError, TimeoutError):
            return False


async def wait_ready(
    child: Child, host: str, port: int, *, banner: bytes = b"", limit: float = START_LIMIT
) -> None:
    """Return once the port accepts connections and greets with `banner`.

    Raises:
        PeerFailed: the process ended, or `limit` seconds are over.
    """
    deadline = time.monotonic() + limit
    while not await _greeting(host, port, banner):
        if child.process.poll() is not None:
            raise child.failed("ended before it was ready")
        if time.monotonic() > deadline:
            raise child.failed(f"was not ready at {host}:{port} after {limit} s")
        await asyncio.sleep(_STEP)


@asynccontextmanager
async def serving(
    name: str,
    command: Sequence[str | Path],
    *,
    folder: Path,
    port: int,
    banner: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run a server on 127.0.0.1 and give it once it is ready; its output goes to `folder`/output.

    Raises:
        PeerFailed: it does not start, or has ended by itself before the block did.
    """
    child = Child(name, command, folder / "output", env=env, cwd=folder)
    try:
        await wait_ready(child, "127.0.0.1", port, banner=banner)
        yield child
        if child.process.poll() is not None:
            raise child.failed("ended during the test")
    finally:
        await child.stop()
