"""`genericExec`: a file is written below a file root, then a command of this machine takes it.

The command is a program below `transfer.file_roots`, started without a shell, with a bare
environment, in a process group of its own that ends with the session.  What it prints is kept up to
a limit and told when it fails.  Credentials of the host go in the environment only.

With `exec.stdin = file` nothing is written: the command reads the content.

Spec: transfer-modules-protocols.md section 10.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Final, Self

from ecpds.model.entry import Entry
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteConfig,
    RemoteError,
    RemoteTimeout,
    RemoteVerify,
    Unsupported,
)
from ecpds.modules.exec_options import ExecOptions
from ecpds.modules.local import FileModule, FileOptions
from ecpds.transfer.contract import (
    ByteSource,
    Feature,
    Naming,
    Surroundings,
    Target,
    TransferModule,
)

GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL for a command that is ended."""

TOLD: Final = 1000
"""Characters of its output in an error."""


class ExecModule(TransferModule[ExecOptions]):
    """A session with a command that gets the path of each file."""

    name = "exec"
    options = ExecOptions
    features: ClassVar[Feature] = (
        Feature.PUT
        | Feature.SIZE
        | Feature.DELETE
        | Feature.RENAME
        | Feature.REPLACE
        | Feature.MKDIR
    )
    sets_off: ClassVar[bool] = True

    def __init__(
        self,
        target: Target,
        options: ExecOptions,
        around: Surroundings,
        words: list[str],
        files: FileModule | None,
    ) -> None:
        self._target = target
        self._options = options
        self._around = around
        self._words = words
        self._files = files

    @classmethod
    def naming(cls, options: ExecOptions) -> Naming:
        """Return how files are named until complete."""
        return options.naming()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, target: Target, options: ExecOptions, around: Surroundings
    ) -> AsyncIterator[Self]:
        """Give a session; RemoteConfig for a command that may not be started."""
        words = await around.threads.run("disk", command_of, options.command, target.local_roots)
        if options.stdin == "file":
            yield ExecPipe(target, options, around, words, None)  # type: ignore[misc] # see there
            return
        async with FileModule.connect(target, FileOptions(), around) as files:
            yield cls(target, options, around, words, files)

    @property
    def peer(self) -> str:
        """Return the name of this machine as a peer."""
        return "localhost"

    def _below(self) -> FileModule:
        if self._files is None:
            raise Unsupported("the command reads the content, no file is written")
        return self._files

    async def stat(self, name: str) -> Entry:
        """Return the entry of a written file."""
        return await self._below().stat(name)

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Write a file; the command runs when it gets its final name."""
        if offset:
            raise Unsupported("files for a command are written as a whole", offset=offset)
        count = await self._below().put(name, source)
        if not self._options.use_temporary:
            await self._run(name)
        return count

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Give a file its final name, then run the command with it."""
        await self._below().rename(old, new, replace=replace)
        if self._options.use_temporary:
            await self._run(new)

    async def mkdir(self, path: str) -> None:
        """Create a directory."""
        await self._below().mkdir(path)

    async def delete(self, name: str) -> None:
        """Delete a written file; what the command has done stays done."""
        await self._below().delete(name)

    async def _run(self, name: str) -> None:
        run = Run(self._words, self._options, environment_of(self._target, self._options, name))
        await run.finish(name)
        if not self._options.keep_file:
            await self._below().delete(name)


class ExecPipe(ExecModule):
    """A session with a command that reads each file from its standard input."""

    features: ClassVar[Feature] = Feature.PUT | Feature.ATOMIC_PUT

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Run the command and give it the content."""
        if offset:
            raise Unsupported("a command reads content from its first byte", offset=offset)
        run = Run(self._words, self._options, environment_of(self._target, self._options, name))
        return await run.finish(name, source)

    async def stat(self, name: str) -> Entry:
        """Refuse."""
        raise Unsupported("what a command has read has no size", name=name)

    async def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Refuse."""
        raise Unsupported("what a command has read has no name", name=old)

    async def mkdir(self, path: str) -> None:
        """Refuse."""
        raise Unsupported("a command has no directories", path=path)

    async def delete(self, name: str) -> None:
        """Refuse."""
        raise Unsupported("what a command has read cannot be deleted", name=name)


class Run:
    """One run of the command."""

    def __init__(
        self, words: list[str], options: ExecOptions, environment: Mapping[str, str]
    ) -> None:
        self._words = words
        self._options = options
        self._environment = environment
        self._output = bytearray()

    async def finish(self, name: str, source: ByteSource | None = None) -> int:
        """Run it to its end; return the count of bytes that it was given.

        Raises RemoteConfig when it cannot be started, RemoteTimeout, RemoteVerify or RemoteError
        when it does not succeed; the process group is gone then.
        """
        process = await self._start(source)
        limit = self._options.time_limit.total_seconds()
        try:
            async with asyncio.timeout(limit):
                count = await self._work(process, source)
        except TimeoutError:
            raise RemoteTimeout(
                f"{name!r}: the command took more than {limit:g} s{self._told()}", phase=Phase.HOOK
            ) from None
        finally:
            await end(process)
        self._judge(process.returncode, name)
        return count

    async def _start(self, source: ByteSource | None) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.PIPE if source else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(self._environment),
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise RemoteConfig(
                f"exec.command cannot be started: {error.strerror}", phase=Phase.HOOK
            ) from None

    async def _work(self, process: asyncio.subprocess.Process, source: ByteSource | None) -> int:
        count = 0

        async def feed() -> None:
            nonlocal count
            if source is not None and process.stdin is not None:
                count = await feed_all(process.stdin, source)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(process))
                group.create_task(feed())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        await process.wait()
        return count

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101
        while block := await process.stdout.read(64 * 1024):
            room = self._options.output_limit - len(self._output)
            self._output += block[:room]
            if len(block) > room:
                raise RemoteError(
                    f"the command says more than {self._options.output_limit} bytes",
                    phase=Phase.HOOK,
                )

    def _judge(self, code: int | None, name: str) -> None:
        if code != self._options.return_code:
            what = f"ended with {code}" if code is None or code >= 0 else f"was ended by {-code}"
            raise RemoteError(
                f"{name!r}: the command {what}{self._told()}", phase=Phase.HOOK,
                remote_code=str(code), remote_text=self._text()[-TOLD:],
            )  # fmt: skip
        wanted = self._options.acknowledgement
        last = next((line for line in reversed(self._text().splitlines()) if line.strip()), "")
        if wanted and wanted not in last:
            raise RemoteVerify(
                f"{name!r}: the command does not say {wanted!r}{self._told()}", phase=Phase.HOOK
            )

    def _text(self) -> str:
        return self._output.decode(errors="replace")

    def _told(self) -> str:
        text = " ".join(self._text().split())
        return f": {text[-TOLD:]}" if text else ""


async def feed_all(sink: asyncio.StreamWriter, source: ByteSource) -> int:
    """Write all content to a command; one that closes its input early is an error.

    The input is ended only after the last byte: a command must not take a part for the whole.
    """
    count = 0
    try:
        async for block in source:
            sink.write(block)
            await sink.drain()
            count += len(block)
        sink.close()
        await sink.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        raise ConnectionLost(
            f"the command took {count} bytes only", phase=Phase.HOOK, sent=count
        ) from None
    return count


async def end(process: asyncio.subprocess.Process) -> None:
    """End the process group of a command: what it has started ends with it."""
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            if process.returncode is not None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await process.wait()
    finally:  # asyncio keeps the pipes of what was not read to its end
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()


def command_of(text: str, roots: tuple[str, ...]) -> list[str]:
    """Return program and arguments; looks at the disk.

    Raises RemoteConfig when it cannot be split, or the program is no executable file below a root.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RemoteConfig(f"exec.command: {error}", phase=Phase.HOOK) from None
    if not words:
        raise RemoteConfig("exec.command is empty", phase=Phase.HOOK)
    place = words[0]
    if not place.startswith("/"):
        found = (f"{root.rstrip('/')}/{place}" for root in roots)
        place = next((path for path in found if os.path.exists(path)), place)  # noqa: PTH110
    real = os.path.realpath(place)
    allowed = [os.path.realpath(root) for root in roots]
    if not any(real.startswith(f"{root}/") for root in allowed):
        raise RemoteConfig(
            f"exec.command: {words[0]!r} is not below transfer.file_roots", phase=Phase.HOOK
        )
    try:
        state = os.stat(real)  # noqa: PTH116
    except OSError as error:
        raise RemoteConfig(f"exec.command: {error.strerror}", phase=Phase.HOOK) from None
    if not stat.S_ISREG(state.st_mode) or not os.access(real, os.X_OK):
        raise RemoteConfig(f"exec.command: {words[0]!r} is no executable file", phase=Phase.HOOK)
    return [real, *words[1:]]


def environment_of(target: Target, options: ExecOptions, name: str) -> dict[str, str]:
    """Return all that the command finds in its environment."""
    found = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "ECPDS_FILE": name,
        "ECPDS_NAME": name.rpartition("/")[2],
        "ECPDS_HOST": target.host_name,
        "ECPDS_ADDRESS": target.host,
        "ECPDS_LOGIN": target.login,
        "ECPDS_PASSWORD": target.password.reveal(),
    }
    for line in options.environment:
        key, equals, value = line.strip().partition("=")
        if not equals or not key.isidentifier():
            raise RemoteConfig(f"exec.environment: {line!r} is not NAME=value", phase=Phase.HOOK)
        found[key] = value
    return found
