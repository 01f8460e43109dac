"""The `ecpds` command as a process, beside a daemon that lives as long as a test file."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon import DaemonProcess

STEP = 0.01  # seconds between two looks
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


def interrupted(cli: CommandLine, words: list[str]) -> tuple[int, str]:
    """Interrupt a command once it has read the begin of its standard input; return its end."""
    with subprocess.Popen(
        cli.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=cli.folder, env=cli.variables(), bufsize=0,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b"begin")
        while waiting_in(child.stdin.fileno()):
            assert child.poll() is None, child.stderr.read()
            time.sleep(STEP)
        child.send_signal(signal.SIGINT)
        error = child.stderr.read().decode()
        return child.wait(LIMIT), error


def waiting_in(pipe: int) -> int:
    """Return how many bytes of a pipe nobody has read yet."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def on_terminal(cli: CommandLine, *words: object, answer: bytes = b"") -> tuple[int, str]:
    """Run a command on a terminal, type an answer; return its exit code and what it showed."""
    control, terminal = os.openpty()
    try:
        child = subprocess.Popen(
            cli.command(*words), stdin=terminal, stdout=terminal, stderr=terminal,
            cwd=cli.folder, env=cli.variables({"TERM": "xterm", "COLUMNS": "100"}),
            start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        os.write(control, answer)
        shown = b""
        try:
            while block := os.read(control, 65536):
                shown += block
        except OSError:  # the last one who had the terminal has closed it
            pass
        return child.wait(LIMIT), shown.decode()
    finally:
        os.close(control)
