"""The `ecpds` command as a process, beside a daemon that lives as long as a test file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon import DaemonProcess

LIMIT = 60.0  # seconds for one command on a loaded machine


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        """Return the standard output as text."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """Return the only document that was printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Return all documents that were printed, one a line."""
        return [json.loads(line) for line in self.text.splitlines()]


class CommandLine:
    """Runs `ecpds` in a folder of its own."""

    def __init__(self, folder: Path, daemon: DaemonProcess | None = None) -> None:
        self.folder = folder
        self.daemon = daemon
        self.environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(folder)}

    def variables(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command; nothing of it comes from whoever runs the tests."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ECPDS_")}
        return clean | self.environment | dict(given or {})

    def command(self, *words: object) -> list[str]:
        """Return the words of the process."""
        return [sys.executable, "-m", "ecpds", *map(str, words)]

    def __call__(
        self,
        *words: object,
        code: int = 0,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run `ecpds …`; fail on another exit code."""
        ended = subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
            env=self.variables(environment),
            cwd=self.folder,
            check=False,
        )
        done = Done(ended.returncode, ended.stdout, ended.stderr.decode())
        assert done.code == code, f"exit {done.code}: {done.text}{done.error}"
        return done


@contextmanager
def command_line(folder: Path) -> Iterator[CommandLine]:
    """Run a daemon, and give the command beside it: `./ecpds.toml` names its data directory."""
    daemon = DaemonProcess(folder)
    daemon.config.write_text(f'[node]\ndata_dir = "{daemon.data}"\n', encoding="utf-8")
    try:
        asyncio.run(daemon.start())
        yield CommandLine(folder, daemon)
    finally:
        asyncio.run(daemon.stop())


def interrupted(cli: CommandLine, words: list[str], ready: Callable[[], object]) -> tuple[int, str]:
    """Start a command with an open standard input, interrupt it once it reads, return its end."""
    with subprocess.Popen(
        cli.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=cli.folder, env=cli.variables(),
    ) as child:  # fmt: skip
        assert child.stdin is not None
        while not waits_for_input(child.pid):
            assert child.poll() is None
        ready()
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        error = child.stderr.read().decode()
        return child.wait(LIMIT), error


def waits_for_input(pid: int) -> bool:
    """Tell whether a process sleeps in a read of its standard input."""
    number = {"x86_64": "0", "aarch64": "63"}[os.uname().machine]
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[:2] == [number, "0x0"]
