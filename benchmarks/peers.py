"""The servers beside us, started as the tests start them, with the settings of a site.

Protocol logs that only tests read are off. Every peer serves its own folder on the filesystem that
also holds our data directory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.clients import HttpSite, SftpSite
from benchmarks.errors import MeasurementFailed
from benchmarks.ftp_client import FtpSite
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.peer import Peer
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing
from tests.peers.pyftpd import pyftpdlib
from tests.peers.rclone import rclone
from tests.peers.vsftpd import vsftpd

DIRECT = ("--vfs-cache-mode", "off", "--dir-cache-time", "5m")
"""Files go where they are served from, not to a cache; directories are kept as by default."""

QUIET = {"log_ftp_protocol": "NO", "xferlog_enable": "NO"}


@asynccontextmanager
async def available(*names: str, folder: Path) -> AsyncIterator[dict[str, Peer]]:
    """Start peers by name (`nginx`, `vsftpd`, `pyftpdlib`, `openssh`, `rclone-<protocol>`).

    Raises:
        MeasurementFailed: one is not installed or does not start.
    """
    async with AsyncExitStack() as running:
        found = {}
        for name in names:
            place = folder / name
            place.mkdir(parents=True)
            try:
                found[name] = await running.enter_async_context(_server(name, place))
            except (ProgramMissing, PeerFailed) as error:
                raise MeasurementFailed(f"{name}: {error}") from error
        yield found


def _server(name: str, folder: Path) -> AbstractAsyncContextManager[Peer]:
    if name == "nginx":
        return nginx(folder, tls=True, options="access_log off;")
    if name == "vsftpd":
        return vsftpd(folder, options=QUIET)
    if name == "openssh":
        return openssh(folder, options=["LogLevel ERROR"])
    if name == "pyftpdlib":
        return pyftpdlib(folder)
    protocol = name.removeprefix("rclone-")
    return rclone(folder, protocol, tls=protocol == "webdav", options=DIRECT)


def http_site(peer: Peer) -> HttpSite:
    """Return where curl finds the files of a peer."""
    return HttpSite(read=peer.url, write=peer.url, login=peer.login, password=peer.password)


def ftp_site(peer: Peer) -> FtpSite:
    """Return where the FTP client finds the files of a peer."""
    folder = peer.directory.rstrip("/")
    return FtpSite(port=peer.port, login=peer.login, password=peer.password, folder=folder)


def sftp_site(peer: Peer) -> SftpSite:
    """Return where OpenSSH's sftp finds the files of a peer."""
    if peer.key is None:
        raise MeasurementFailed(f"{peer.name} offers no login by key")
    folder = peer.directory.rstrip("/")
    return SftpSite(port=peer.port, login=peer.login, key=peer.key, folder=folder)
