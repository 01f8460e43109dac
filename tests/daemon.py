"""The daemon as a child process: started on free ports, waited for, stopped or killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import eventforms
from tests.peers.process import Child

ROOT = Path(__file__).parents[1]
READY_LIMIT = 30.0  # seconds; a loaded machine of two cores needs two
STEP = 0.02

LISTENERS = {
    "ECPDS_MONITOR__LISTEN": "127.0.0.1:0",
    "ECPDS_PORTAL__HTTPS__LISTEN": "127.0.0.1:0",
    "ECPDS_PORTAL__FTP__LISTEN": "127.0.0.1:0",
    "ECPDS_PORTAL__FTP__PASSIVE_PORTS": "0",
    "ECPDS_PORTAL__SFTP__LISTEN": "127.0.0.1:0",
    "ECPDS_MQTT__TLS_LISTEN": "",
}


class DaemonProcess:
    """One data directory, and the daemon that runs on it now."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "ecpds.toml"
        self.config.touch()
        self.environment = {
            **LISTENERS,
            "ECPDS_NODE__DATA_DIR": str(self.data),
            "ECPDS_SCHEDULER__HOUSEKEEPING_INTERVAL": "1s",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        self.child: Child | None = None
        self.endpoints: dict[str, str] = {}

    async def command(self, *arguments: str | Path, code: int = 0, stdin: bytes = b"") -> str:
        """Run `ecpds …` beside it; return its standard output, fail on another exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ecpds", *map(str, arguments), "--config", str(self.config),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
            cwd=self.folder,
        )  # fmt: skip
        out, error = await process.communicate(stdin)
        assert process.returncode == code, (
            f"exit {process.returncode}: {out.decode()}{error.decode()}"
        )
        return out.decode()

    async def apply(self, document: Mapping[str, Any]) -> None:
        """Apply a site document."""
        path = self.folder / "site.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        await self.command("apply", path)

    async def start(self, *, may_die: bool = False, **environment: str) -> None:
        """Start it and wait until every listener accepts; `may_die`: or until it has died."""
        (self.data / "endpoints.json").unlink(missing_ok=True)
        self.child = Child(
            "ecpds",
            [sys.executable, "-m", "ecpds", "serve", "--config", self.config],
            self.folder / "daemon.log",
            env={**self.environment, **environment},
            cwd=self.folder,
        )
        deadline = time.monotonic() + READY_LIMIT
        while not self._ready():
            if may_die and not self.is_alive:
                return
            assert self.is_alive, self.log()
            assert time.monotonic() < deadline, f"not ready\n{self.log()}"
            await asyncio.sleep(STEP)

    def _ready(self) -> bool:
        try:
            text = (self.data / "endpoints.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        self.endpoints = json.loads(text)
        return True

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.child is not None and self.child.process.poll() is None

    def kill(self) -> None:
        """`kill -9`."""
        if self.child is not None:
            pid = self.child.process.pid
            if self.is_alive:
                os.kill(pid, signal.SIGKILL)
            self.child.process.wait()

    async def stop(self) -> None:
        """Stop it gracefully; afterwards nothing of it runs."""
        if self.child is None:
            return
        if self.is_alive:
            self.child.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + READY_LIMIT
            while self.is_alive and time.monotonic() < deadline:
                await asyncio.sleep(STEP)
        self.kill()
        self.child = None
        eventforms.check_file(self.data / "log" / "events.jsonl")

    def port(self, name: str) -> int:
        """Return the port of an endpoint."""
        found = urlsplit(self.endpoints[name]).port
        assert found is not None
        return found

    def log(self) -> str:
        """Return the end of what it printed."""
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")[-4000:]

    @property
    def token(self) -> str:
        """Return the administrator's API token."""
        return (self.data / "admin.token").read_text(encoding="utf-8").strip()
