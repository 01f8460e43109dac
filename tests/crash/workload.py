"""Files that arrive by every door at once, each remembered from its acknowledgement on."""

from __future__ import annotations

import asyncio
import ftplib
import hashlib
import io
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh

from tests.daemon import DaemonProcess

USER, PASSWORD = "feeder", "correct horse battery staple"
LOGIN = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
LIMIT = 20.0  # seconds for one upload


def content_of(name: str) -> bytes:
    """Return the content that belongs to a name: between 0 and 300 KiB, the same each time."""
    seed = hashlib.sha256(name.encode()).digest()
    size = int.from_bytes(seed[:3], "big") % (300 * 1024) if seed[3] > 40 else seed[4]
    return random.Random(seed).randbytes(size)


def site(folder: Path) -> dict[str, Any]:
    """Return two destinations that deliver to directories: one gets uploads, one acquires."""
    out, feed = folder / "data" / "out", folder / "data" / "feeds" / "in"
    sender = {"method": "genericFile", "max_connections": 8}
    return {
        "hosts": [
            {"name": "out-in", "directory": f"{out}/IN/", **sender},
            {"name": "out-feed", "directory": f"{out}/FEED/", **sender},
            {
                "name": "feed",
                "role": "acquisition",
                "method": "genericFile",
                "directory": f"{feed}/{{[^.].*}}",
                "acquisition_frequency": "200ms",
            },
        ],
        "destinations": [
            {"name": "IN", "hosts": ["out-in"], "max_connections": 8, "max_pending": 0},
            {
                "name": "FEED",
                "hosts": ["feed", "out-feed"],
                "acquisition": True,
                "max_connections": 8,
                "max_pending": 0,
            },
        ],
        "data_users": [
            {
                "login": USER,
                "password": PASSWORD,
                "operations": ["dir", "get", "put", "delete", "mkdir", "rename", "size", "mtime"],
                "destinations": ["IN"],
                "options": {"portal.maxConnections": 0},
            }
        ],
    }


class Workload:
    """Uploads by HTTPS, SFTP and FTP and a feed directory, until the daemon dies or all is sent."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.acknowledged: set[str] = set()
        self.fed: set[str] = set()
        self._round = 0

    async def run(self, files: int) -> None:
        """Send `files` files by each door at the same time; stop at the first broken connection."""
        self._round += 1
        doors: list[tuple[str, Callable[[list[str]], Awaitable[None]]]] = [
            ("https", self._https),
            ("sftp", self._sftp),
            ("ftp", self._ftp),
            ("feed", self._feed),
        ]
        async with asyncio.TaskGroup() as group:
            for door, act in doors:
                names = [f"{door}-{self._round:04d}-{number:03d}.grib" for number in range(files)]
                group.create_task(self._until_broken(act, names))

    async def _until_broken(
        self, act: Callable[[list[str]], Awaitable[None]], names: list[str]
    ) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                await act(names)
        except (OSError, EOFError, TimeoutError, ftplib.Error) as error:
            del error  # the daemon died, as it should
        except (aiohttp.ClientError, asyncssh.Error, asyncssh.SFTPError):
            pass

    async def _https(self, names: list[str]) -> None:
        context = ssl.create_default_context(cafile=str(self.daemon.data / "tls/certificate.pem"))
        base = self.daemon.endpoints["portal_https"]
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(headers=LOGIN, connector=connector) as session:
            for name in names:
                url = f"{base}/ecpds/data/file/IN/{name}"
                async with session.put(url, data=content_of(name)) as answer:
                    if answer.status in {200, 201, 204}:
                        self.acknowledged.add(name)

    async def _sftp(self, names: list[str]) -> None:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                self.daemon.port("sftp"),
                username=USER,
                password=PASSWORD,
                known_hosts=None,
                client_keys=None,
                config=None,
            ) as connection,
            connection.start_sftp_client() as client,
        ):
            for name in names:
                async with client.open(f"/IN/{name}", "wb") as file:
                    await file.write(content_of(name))
                # asyncssh returns from a close on a lost connection as if it had been answered
                await client.stat(f"/IN/{name}")
                self.acknowledged.add(name)

    async def _ftp(self, names: list[str]) -> None:
        await asyncio.to_thread(self._ftp_here, names)

    def _ftp_here(self, names: list[str]) -> None:
        with ftplib.FTP(timeout=LIMIT) as client:
            client.connect("127.0.0.1", self.daemon.port("ftp"))
            client.login(USER, PASSWORD)
            for name in names:
                answer = client.storbinary(f"STOR /IN/{name}", io.BytesIO(content_of(name)))
                if answer.startswith("226"):
                    self.acknowledged.add(name)

    async def _feed(self, names: list[str]) -> None:
        folder = self.daemon.data / "feeds" / "in"
        for name in names:
            await asyncio.to_thread(self._lay, folder, name)
            await asyncio.sleep(0)
            if not self.daemon.is_alive:
                return

    def _lay(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}"
        temporary.write_bytes(content_of(name))
        temporary.rename(folder / name)
        self.fed.add(name)
