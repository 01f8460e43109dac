"""Our daemon as a contender: a child process, set up by a site file as any site would do it."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clients import HttpSite, SftpSite
from benchmarks.errors import MeasurementFailed
from benchmarks.ftp_client import FtpSite
from benchmarks.machine import Memory, memory
from tests.peers.openssh import make_key
from tests.peers.process import Child

LOGIN = "bench"
PASSWORD = "only-for-measuring-1"
DESTINATION = "BENCH"
START_LIMIT = 120.0
STOP_LIMIT = 60.0
_STEP = 0.002

CONFIG = """\
[node]
name = "bench"
data_dir = "{data}"
[monitor]
listen = "127.0.0.1:0"
[portal.https]
listen = "127.0.0.1:0"
[portal.ftp]
listen = "127.0.0.1:0"
passive_ports = "{passive}"
[portal.sftp]
listen = "127.0.0.1:0"
[mqtt]
tls_listen = ""
[security]
allow = ["127.0.0.0/8"]
[log]
level = "warning"
"""

SITE = """\
[[destinations]]
name = "{destination}"
type = "dissemination"
active = true
max_pending = 100000000
[destinations.options]
"incoming.standby" = "yes"

[[data_users]]
login = "{login}"
service = "standard-login"
password = "{password}"
active = true
operations = ["dir", "get", "put", "delete", "mkdir", "rmdir", "rename", "size", "mtime"]
destinations = ["{destination}"]
ssh_keys = ["{key}"]
options = {{ "portal.maxConnections" = 1000 }}
"""


@dataclass(slots=True, kw_only=True)
class Node:
    """A daemon with its own data directory below `folder`; it may be stopped and started again."""

    folder: Path
    endpoints: dict[str, str] = field(default_factory=dict)
    child: Child | None = None

    @classmethod
    def create(cls, folder: Path, *, passive: str = "7100-7199") -> Node:
        """Write the configuration and the client's key; nothing is started."""
        folder.mkdir(parents=True, exist_ok=True)
        node = cls(folder=folder)
        node.config.write_text(CONFIG.format(data=node.data, passive=passive), encoding="utf-8")
        make_key(node.key)
        return node

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "ecpds.toml"

    @property
    def key(self) -> Path:
        """The private SSH key of the client; the public one ends in `.pub`."""
        return self.folder / "client"

    @property
    def pid(self) -> int:
        """The process id of the running daemon."""
        if self.child is None:
            raise MeasurementFailed("the daemon is not running")
        return self.child.pid

    async def start(self) -> float:
        """Start the daemon and return the seconds until it is ready.

        Ready means that `endpoints.json` is there: every listener accepts connections.
        """
        ready = self.data / "endpoints.json"
        ready.unlink(missing_ok=True)
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "ecpds",
            "serve",
            "--config",
            self.config,
        ]
        began = time.monotonic()
        # an installed program has its bytecode beside it, whatever this shell says
        compiled = {"PYTHONDONTWRITEBYTECODE": ""}
        self.child = Child("ecpds", command, self.folder / "output", env=compiled)
        while not ready.exists():
            if self.child.process.poll() is not None:
                raise MeasurementFailed(self._tail("ended before it was ready"))
            if time.monotonic() - began > START_LIMIT:
                raise MeasurementFailed(self._tail(f"not ready after {START_LIMIT:.0f} s"))
            await asyncio.sleep(_STEP)
        seconds = time.monotonic() - began
        self.endpoints = json.loads(ready.read_text(encoding="utf-8"))
        return seconds

    async def stop(self) -> None:
        """End the daemon by SIGTERM, after STOP_LIMIT seconds by SIGKILL; may be called twice."""
        if self.child is not None:
            child, self.child = self.child, None
            await child.stop(STOP_LIMIT)

    def memory(self) -> Memory:
        """Return the memory of the daemon and its children."""
        return memory(self.pid)

    async def apply(self, site: str) -> None:
        """Create the objects of a site file."""
        path = self.folder / "site.toml"
        path.write_text(site, encoding="utf-8")
        await asyncio.to_thread(self.command, "apply", str(path))

    def command(self, *words: str) -> str:
        """Run `ecpds WORDS… --config …` and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "ecpds", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise MeasurementFailed(
                f"ecpds {words[0]}: exit {done.returncode}: {done.stderr[-300:]}"
            )
        return done.stdout

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call `/api/v2` with the administrator's token."""
        token = (self.data / "admin.token").read_text(encoding="utf-8").strip()
        request = urllib.request.Request(
            f"{self.endpoints['monitor']}/api/v2{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=_any_certificate()) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise MeasurementFailed(
                f"{method} {path}: {error.code} {error.read()[:300]!r}"
            ) from error
        except OSError as error:
            raise MeasurementFailed(f"{method} {path}: {error}") from error
        return json.loads(content) if content else None

    def http(self) -> HttpSite:
        """Return where curl finds the files of the benchmark's destination."""
        place = f"{self.endpoints['portal_https']}/ecpds/data/file/{DESTINATION}"
        return HttpSite(read=place, write=place, login=LOGIN, password=PASSWORD)

    def ftp(self) -> FtpSite:
        """Return where the FTP client finds them."""
        port = _port(self.endpoints["ftp"])
        return FtpSite(port=port, login=LOGIN, password=PASSWORD, folder=f"/{DESTINATION}")

    def sftp(self) -> SftpSite:
        """Return where OpenSSH's sftp finds them."""
        port = _port(self.endpoints["sftp"])
        return SftpSite(port=port, login=LOGIN, key=self.key, folder=f"/{DESTINATION}")

    def _tail(self, what: str) -> str:
        output = self.child.output().strip()[-500:] if self.child else ""
        return f"ecpds {what}: {output}"


@asynccontextmanager
async def portal(folder: Path, sources: Sequence[Path] = ()) -> AsyncIterator[Node]:
    """Run a node with one destination, one data user and `sources` stored in that destination."""
    node = Node.create(folder)
    try:
        await node.start()
        public = node.key.with_name(node.key.name + ".pub").read_text().strip()
        await node.apply(
            SITE.format(destination=DESTINATION, login=LOGIN, password=PASSWORD, key=public)
        )
        if sources:
            await asyncio.to_thread(_upload, node, sources)
        yield node
    finally:
        await node.stop()


def _upload(node: Node, sources: Sequence[Path]) -> None:
    from benchmarks.clients import http_put_many

    files = {path.name: path for path in sources}
    http_put_many(node.http(), files, connections=8, scratch=node.folder / "upload.curl")


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise MeasurementFailed(f"no port in {url}")
    return port


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
