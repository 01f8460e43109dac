"""Commands of this machine that move content in place of a module (`getHandler`, `putHandler`).

The module still connects, names, verifies and renames; only the content goes another way.  A
command is a program below `transfer.file_roots`, started without a shell, with a bare environment
that holds the login of the host, in a process group of its own that ends with the transfer.
`$source` and `$target` in its arguments are a descriptor (`/dev/fd/7`) and the remote name, or the
other way round.

Spec: transfer-modules.md 4.11.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ecpds.model.errors import Phase, RemoteConfig, RemoteError, SourceBroke, Unsupported
from ecpds.transfer.contract import ByteSource, Feature, Target, TransferModule
from ecpds.transfer.options import EctransOptions

TOLD: Final = 2000
"""Characters of the output that are kept, its last ones."""

BLOCK: Final = 256 * 1024
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s?%")


def handlers_of(target: Target, options: EctransOptions) -> Callable[[TransferModule[Any]], None]:
    """Return what lets the commands of a Host take over in a session.

    Raises RemoteConfig for a command that may not be started.
    """
    put = get = None
    if options.put_handler:
        put = _Command(options.put_command, "putHandlerCmd", target)
        put.judge_by(options.put_code, options.put_ack)
    if options.get_handler:
        get = _Command(options.get_command, "getHandlerCmd", target)
        get.judge_by(options.get_code, options.get_ack)

    def take_over(module: TransferModule[Any]) -> None:
        features = module.features
        if put is not None:
            setattr(module, "put", put.put)  # noqa: B010 - of this session only
            features &= ~Feature.RESUME_PUT
        if get is not None:
            setattr(module, "get", get.get)  # noqa: B010
            setattr(module, "open_local", _nothing_local)  # noqa: B010
            features &= ~Feature.RESUME_GET
        if put is not None or get is not None:
            module.small = None
        module.features = features  # type: ignore[misc]

    return take_over


async def _nothing_local(name: str) -> int | None:
    return None


class _Command:
    """A command with its judgement."""

    def __init__(self, text: str, option: str, target: Target) -> None:
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            raise RemoteConfig(f"ectrans.{option}: {error}", phase=Phase.HOOK) from None
        if not self._words:
            raise RemoteConfig(f"ectrans.{option} is empty", phase=Phase.HOOK)
        program = os.path.realpath(self._words[0])
        roots = [os.path.realpath(root) for root in target.local_roots]
        if not any(Path(program).is_relative_to(root) for root in roots):
            raise RemoteConfig(
                f"ectrans.{option}: {self._words[0]!r} is not below transfer.file_roots",
                phase=Phase.HOOK,
            )
        self._target = target
        self._code = 0
        self._ack = ""

    def judge_by(self, code: int, ack: str) -> None:
        """Tell what success is: the exit code, and a text in the last line of the output."""
        self._code, self._ack = code, ack

    async def put(self, name: str, source: ByteSource, *, offset: int = 0) -> int:
        """Send a plain file."""
        if offset or source.descriptor is None:
            raise Unsupported("a command sends whole files as they are", file=name, offset=offset)
        counted = 0

        def moved(percent: float) -> None:
            nonlocal counted
            now = int(source.size * min(percent, 100.0) / 100)
            if now > counted:
                source.count(now - counted)
                counted = now

        running = await self._start(
            {"source": f"/dev/fd/{source.descriptor}", "target": name}, source.descriptor, moved
        )
        try:
            await running.finish(name, self._code, self._ack)
        finally:
            await running.close()
        source.count(source.size - counted)
        return source.size

    async def get(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield what the command writes to `$target`."""
        if offset:
            raise Unsupported("a command fetches whole files", file=name, offset=offset)
        reading, writing = os.pipe()
        running: _Running | None = None
        try:
            values = {"source": name, "target": f"/dev/fd/{writing}"}
            running = await self._start(values, writing, lambda percent: None)
            os.close(writing)
            writing = -1
            os.set_blocking(reading, False)
            while block := await _read(reading):
                yield block
            await running.finish(name, self._code, self._ack)
        finally:
            for descriptor in (reading, writing):
                if descriptor >= 0:
                    os.close(descriptor)
            if running is not None:
                await running.close()

    async def _start(
        self, values: Mapping[str, str], descriptor: int, moved: Callable[[float], None]
    ) -> _Running:
        words = [
            re.sub(r"\$(source|target)", lambda match: values[match[1]], word)
            for word in self._words
        ]
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(descriptor,),
                start_new_session=True,
                env=self._environment(),
            )
        except OSError as error:
            os.close(reading)
            raise RemoteConfig(f"{words[0]!r}: {error.strerror}", phase=Phase.HOOK) from None
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return _Running(process, reading, moved)

    def _environment(self) -> dict[str, str]:
        target = self._target
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "ECPDS_HOST": target.host,
            "ECPDS_LOGIN": target.login,
            "ECPDS_PASSWORD": target.password.reveal(),
        }


class _Running:
    """A command under way, and the end of its output."""

    def __init__(
        self, process: asyncio.subprocess.Process, output: int, moved: Callable[[float], None]
    ) -> None:
        self._process = process
        self._output = output
        self._moved = moved
        self._told = b""
        self._error: Exception | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(output, False)
        self._loop.add_reader(output, self._listen)

    def _listen(self) -> None:
        """Take output as it comes: a command that nobody listens to would stop."""
        try:
            block = os.read(self._output, 64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._stop_listening()
            return
        self._told = (self._told + block)[-4 * TOLD :]
        found = _PERCENT.findall(block.decode(errors="replace"))
        if found:
            try:
                self._moved(float(found[-1]))
            except Exception as error:  # noqa: BLE001 - a stop by hand, raised where it is awaited
                self._error = error
                self._stop_listening()

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._output)
        self._ended.set()

    async def finish(self, name: str, code: int, ack: str) -> None:
        """Wait for the end; raises RemoteError when it is no success."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        ended = await self._process.wait()
        lines = [line.strip() for line in self._text().splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        if ended == code and (not ack or ack in last):
            return
        why = f"ended with {ended}" if ended != code else f"did not say {ack!r}"
        raise RemoteError(
            f"the command for {name!r} {why}: {self._text()[-TOLD:]}".rstrip(": \n"),
            phase=Phase.HOOK,
            remote_code=str(ended),
            remote_text=last[:500],
        )

    def _text(self) -> str:
        return self._told.decode(errors="replace")

    async def close(self) -> None:
        """End the whole process group, if it still runs."""
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


async def _read(descriptor: int) -> bytes:
    """Return the next bytes of a pipe, empty at its end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(descriptor, BLOCK)
        except BlockingIOError:
            pass
        except OSError as error:
            raise SourceBroke(f"the pipe of a command broke: {error.strerror}") from error
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, lambda ready=ready: ready.done() or ready.set_result(None))  # type: ignore[misc]
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
