"""Runs scripts in locked processes: a small warm pool, hard limits, nothing started without need.

A process that has run a script runs only that script again, so that none can leave anything behind
for another; one that fails its limits is killed.  Values are handed over as variables.

Spec: acquisition.md section 11, dissemination.md section 5.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecpds.model.errors import ScriptError
from ecpds.scripting import worker

MOST_CODE: Final = 128 * 1024
"""Longest script, in characters."""

START_TIME: Final = 20.0  # seconds until a new process is ready, on a machine that is busy
MOST_RUNS: Final = 500  # of one process
LANGUAGES: Final = ("javascript", "python")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptLimits:
    """What one run may use."""

    seconds: float = 10.0
    memory: int = 256 * 1024 * 1024  # bytes of address space of the process


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptResult:
    """What a script gave: its value, and what it printed."""

    value: Any
    output: str = ""

    @property
    def text(self) -> str:
        """Return the returned text, else a list as lines, else what was printed; ScriptError."""
        value = self.value
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            if not all(isinstance(line, str) for line in value):
                raise ScriptError("the script returned a list that holds more than texts")
            return "\n".join(value)
        if value is None:
            if not self.output:
                raise ScriptError("the script returned nothing and printed nothing")
            return self.output
        raise ScriptError(f"the script returned {_KINDS.get(type(value), 'no text')}, no text")

    @property
    def table(self) -> dict[str, Any]:
        """Return the returned object; ScriptError when it is none."""
        if not isinstance(self.value, dict):
            raise ScriptError("the script returned no object")
        return self.value


_KINDS: Final = {bool: "yes or no", int: "a number", float: "a number", dict: "an object"}


class _Worker:
    """One process and what it is bound to."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.runs = 0

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer; raises EOFError when the process died."""
        assert self.process.stdin is not None  # noqa: S101 - both are pipes
        data = json.dumps(request).encode()
        if len(data) > worker.MOST_REQUEST:
            raise ScriptError(f"the values of a script have at most {worker.MOST_REQUEST} bytes")
        with suppress(ConnectionError):
            self.process.stdin.write(struct.pack("!I", len(data)) + data)
            await self.process.stdin.drain()
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self.process.stdout is not None  # noqa: S101
        try:
            (length,) = struct.unpack("!I", await self.process.stdout.readexactly(4))
            if length > worker.MOST_ANSWER:
                raise EOFError
            found = json.loads(await self.process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            raise EOFError from None
        return dict(found) if isinstance(found, dict) else {"error": "the answer is no object"}

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def end(self) -> None:
        """Kill and wait; may be called twice."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        transport = getattr(self.process, "_transport", None)
        if transport is not None:
            transport.close()


class Scripts:
    """All script processes of the node."""

    def __init__(self, *, processes: int = 4, limits: ScriptLimits | None = None) -> None:
        self.limits = limits or ScriptLimits()
        self._slots = asyncio.Semaphore(processes)
        self._most = processes
        self._idle: OrderedDict[tuple[str, str], list[_Worker]] = OrderedDict()
        self._is_closed = False
        self.started = 0

    async def run(
        self,
        language: str,
        code: str,
        variables: Mapping[str, Any] | None = None,
        *,
        limits: ScriptLimits | None = None,
    ) -> ScriptResult:
        """Run a script and return what it gave.

        Raises ScriptError: it fails, takes too long or too much memory, or returns what is no JSON.
        """
        if language not in LANGUAGES:
            raise ScriptError(f"there is no script language {language!r}")
        if len(code) > MOST_CODE:
            raise ScriptError(f"a script has at most {MOST_CODE} characters")
        chosen = limits or self.limits
        request = {
            "language": language,
            "code": code,
            "variables": nested(variables or {}),
            "limits": {"seconds": chosen.seconds, "memory": chosen.memory},
        }
        async with self._slots, self._worker((language, code)) as one:
            return await self._asked(one, request, chosen)

    async def _asked(
        self, one: _Worker, request: Mapping[str, Any], limits: ScriptLimits
    ) -> ScriptResult:
        try:
            async with asyncio.timeout(limits.seconds + 1):  # the language's own limit comes first
                found = await one.ask(request)
        except TimeoutError:
            raise ScriptError(f"the script took longer than {limits.seconds:g} s") from None
        except EOFError:
            await one.end()
            code = one.process.returncode
            raise ScriptError(f"the script broke its process (status {code})") from None
        if "error" in found:
            raise ScriptError(str(found["error"]))
        return ScriptResult(value=found.get("value"), output=str(found.get("output", "")))

    @asynccontextmanager
    async def _worker(self, key: tuple[str, str]) -> AsyncIterator[_Worker]:
        """Give a process for that script; it is kept when the run was good, else killed."""
        kept = self._idle.get(key)
        one = kept.pop() if kept else await self._start()
        try:
            yield one
        except BaseException:
            await self._ended(one)
            raise
        one.runs += 1
        if one.runs >= MOST_RUNS or not one.is_alive or self._is_closed:
            await self._ended(one)
            return
        self._idle.setdefault(key, []).append(one)
        self._idle.move_to_end(key)
        await self._shrink()

    async def _ended(self, one: _Worker) -> None:
        async with asyncio.timeout(5):
            await one.end()

    async def _shrink(self) -> None:
        """End the processes that were used longest ago, above the number that may wait."""
        while sum(map(len, self._idle.values())) > self._most:
            key = next(iter(self._idle))
            workers = self._idle[key]
            oldest = workers.pop(0)
            if not workers:
                del self._idle[key]
            await self._ended(oldest)

    async def _start(self) -> _Worker:
        place = importlib.util.find_spec("quickjs")
        folder = "" if place is None or place.origin is None else str(Path(place.origin).parents[1])
        if getattr(sys, "frozen", False):
            folder = worker.BUNDLED
        process = await asyncio.create_subprocess_exec(
            *command(), str(self.limits.memory), folder,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={"LC_ALL": "C.UTF-8"}, cwd="/",
            close_fds=True, start_new_session=True, limit=2 * worker.MOST_ANSWER,
        )  # fmt: skip
        one = _Worker(process)
        self.started += 1
        try:
            async with asyncio.timeout(START_TIME):
                ready = await one.answer()
        except (EOFError, TimeoutError):
            await self._ended(one)
            raise ScriptError("no process for scripts can be started") from None
        except BaseException:
            await self._ended(one)
            raise
        if not ready.get("filtered"):
            await self._ended(one)
            raise ScriptError("this machine cannot keep scripts from the system: no seccomp")
        return one

    async def close(self) -> None:
        """End all processes."""
        self._is_closed = True
        workers = [one for some in self._idle.values() for one in some]
        self._idle.clear()
        for one in workers:
            await self._ended(one)


def command() -> list[str]:
    """Return how the process is started: the file with a bare interpreter, or our own binary."""
    if getattr(sys, "frozen", False):  # our single executable; `cli.main` leads to the worker
        return [sys.executable, worker.WORD]
    return [sys.executable, "-I", "-S", "-B", os.fspath(worker.__file__)]


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by token id (`destination[name]`) as objects: `destination.name`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        group, bracket, rest = name.partition("[")
        if not bracket:
            found[name] = value
            continue
        inner = found.setdefault(group, {})
        if isinstance(inner, dict):
            inner[rest.removesuffix("]")] = value
    return found
