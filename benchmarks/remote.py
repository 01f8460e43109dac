"""Our daemon with hosts of every kind: files leave its store for peers and come into it from them.

One daemon serves all rows.  A file counts as delivered when it stands under its final name in its
whole length and its transfer is DONE, as acquired when its content is stored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from benchmarks.clients import HttpSite, http_put_many
from benchmarks.errors import MeasurementFailed
from benchmarks.node import LOGIN, PASSWORD, Node
from tests.peers.peer import Peer

LIMIT: Final = 300.0
"""Seconds after which a run counts as failed."""

STEP: Final = 0.01

HOST = """\
[[hosts]]
name = "{name}"
role = "{role}"
method = "{method}"
host = "{host}"
login = "{login}"
password = "{password}"
directory = "{directory}"
acquisition_frequency = "1h"
retry_frequency = "100ms"
max_connections = {connections}
[hosts.options]
{options}

[[destinations]]
name = "{name}"
acquisition = {acquires}
max_connections = {connections}
max_pending = 0
keep_in_spool = "success"
hosts = ["{name}"]
"""

USER = """\
[[data_users]]
login = "{login}"
service = "standard-login"
password = "{password}"
active = true
operations = ["dir", "get", "put", "delete"]
destinations = [{destinations}]
options = {{ "portal.maxConnections" = 1000 }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A destination with its one host; both have the same name."""

    name: str
    method: str
    peer: Peer
    options: Mapping[str, object]
    folder: str = ""  # below the root of the peer
    acquires: bool = False
    connections: int = 1

    @property
    def disk(self) -> Path:
        """Where its files are on this machine's disk."""
        return self.peer.root / self.folder

    def site(self) -> str:
        """The part of the site file that makes this route."""
        directory = self.peer.remote(self.folder).rstrip("/") + "/"
        return HOST.format(
            name=self.name,
            role="acquisition" if self.acquires else "dissemination",
            method=self.method,
            host=self.peer.host,
            login=self.peer.login,
            password=self.peer.password,
            directory=directory + ("{.*}" if self.acquires else ""),
            connections=self.connections,
            acquires=str(self.acquires).lower(),
            options="\n".join(f'"{key}" = {_toml(value)}' for key, value in self.options.items()),
        )


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int) else f"'''{value}'''"


@dataclass(slots=True, kw_only=True)
class Sender:
    """The daemon and what was uploaded to it."""

    node: Node
    transfers: dict[tuple[str, str], int] = field(default_factory=dict)

    async def begin(self, routes: Sequence[Route]) -> None:
        """Start the daemon, make the routes, and a user who may upload to all."""
        await self.node.start()
        names = ", ".join(f'"{route.name}"' for route in routes if not route.acquires)
        user = USER.format(login=LOGIN, password=PASSWORD, destinations=names)
        await self.node.apply("\n".join([*(route.site() for route in routes), user]))

    async def store(self, route: Route, files: Mapping[str, Path]) -> None:
        """Upload files while the destination is stopped, so that all wait in the store."""
        await self.act(f"/destinations/{route.name}/actions/stop")
        await asyncio.to_thread(self._upload, route.name, files)

    def _upload(self, destination: str, files: Mapping[str, Path]) -> None:
        place = f"{self.node.endpoints['portal_https']}/ecpds/data/file/{destination}"
        site = HttpSite(read=place, write=place, login=LOGIN, password=PASSWORD)
        scratch = self.node.folder / "upload.curl"
        http_put_many(site, files, connections=4, scratch=scratch)

    async def send(self, route: Route, sizes: Mapping[str, int]) -> float:
        """Start the destination; return the seconds until all files stand whole at the peer."""
        began = time.monotonic()
        await self.act(f"/destinations/{route.name}/actions/start")
        await arrived(route.disk, sizes)
        seconds = time.monotonic() - began
        await self._settled(route, len(sizes))
        return seconds

    async def _settled(self, route: Route, count: int) -> None:
        """Raise MeasurementFailed unless the transfers are soon DONE; not measured."""
        for _ in range(400):
            state = await self.get(f"/destinations/{route.name}")
            if not state["queued"]:
                break
            await asyncio.sleep(0.05)
        path = f"/transfers?destination={route.name}&limit={min(count, 100)}"
        wrong = [one for one in (await self.get(path))["items"] if one["status"] != "done"]
        if wrong:
            raise MeasurementFailed(f"{route.name}: {wrong[0]['status']}: {wrong[0]['comment']}")

    async def acquire(self, route: Route, name: str, size: int) -> float:
        """Look for new files; return the seconds until the content of `name` is stored."""
        began = time.monotonic()
        await self.act(f"/hosts/{route.name}/actions/acquire")
        path = f"/transfers?destination={route.name}&target={quote(name)}&limit=1"
        while time.monotonic() - began < LIMIT:
            found = (await self.get(path))["items"]
            if found and found[0]["status"] in ("queued", "done", "standby"):
                if found[0]["size"] != size:
                    raise MeasurementFailed(f"{name}: {found[0]['size']} of {size} bytes")
                return time.monotonic() - began
            await asyncio.sleep(2 * STEP)
        raise MeasurementFailed(f"{name} not fetched in {LIMIT:.0f} s")

    async def act(self, path: str) -> Any:
        """POST."""
        return await asyncio.to_thread(self.node.api, "POST", path)

    async def get(self, path: str) -> Any:
        """GET."""
        return await asyncio.to_thread(self.node.api, "GET", path)


async def arrived(folder: Path, sizes: Mapping[str, int]) -> None:
    """Wait until all files stand under their final names in their whole length."""
    began = time.monotonic()
    pause = max(STEP, len(sizes) / 50_000)  # a look at 2,000 names costs some milliseconds
    while not await asyncio.to_thread(_complete, folder, sizes):
        if time.monotonic() - began > LIMIT:
            raise MeasurementFailed(f"{folder.name}: not all delivered in {LIMIT:.0f} s")
        await asyncio.sleep(pause)


def _complete(folder: Path, sizes: Mapping[str, int]) -> bool:
    if not folder.is_dir():
        return False
    there = set(os.listdir(folder))
    if not sizes.keys() <= there:
        return False
    for name, size in sizes.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise MeasurementFailed(f"{name}: {found} of {size} bytes under the final name")
    return True
