"""Every server of this package does what a client that we did not write asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.peers.clients import curl, lftp, run, sftp, ssh_by_password, ssh_options
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.peer import Peer
from tests.peers.proftpd import proftpd
from tests.peers.pyftpd import pyftpdlib
from tests.peers.rclone import rclone
from tests.peers.vsftpd import vsftpd

CONTENT = bytes(range(256)) * 1024
Server = Callable[[Path], AbstractAsyncContextManager[Peer]]
TLS = ("", "explicit", "implicit")


async def _round_trip_by_lftp(peer: Peer, folder: Path) -> None:
    """Upload, list, download and delete in one session, looked at on the disk in between."""
    local, back = folder / "local", folder / "back"
    local.write_bytes(CONTENT)
    # lftp 4.9 closes data connections with a TLS 1.3 ticket unread, so the kernel resets them and
    # vsftpd 3.0.3 answers 426 with a part of the file
    old_tls = "set ssl:priority NORMAL:-VERS-TLS1.3"
    (await lftp(peer, old_tls, f"put {local} -o {peer.remote('up.grib')}")).ok()
    assert peer.get("up.grib") == CONTENT
    peer.put("sub/down é.grib", CONTENT)
    outcome = await lftp(
        peer,
        f"cls -1 {peer.remote('sub')}",
        f"get '{peer.remote('sub/down é.grib')}' -o {back}",
        f"rm {peer.remote('up.grib')}",
    )
    assert "down é.grib" in outcome.ok().text
    assert back.read_bytes() == CONTENT
    assert peer.names() == ["sub/down é.grib"]


async def _round_trip_by_sftp(peer: Peer, folder: Path) -> None:
    """Upload, list, download and delete by OpenSSH's client."""
    local, back = folder / "local", folder / "back"
    local.write_bytes(CONTENT)
    peer.put("sub/down é.grib", CONTENT)
    outcome = await sftp(
        peer,
        f'put "{local}" "{peer.remote("up.grib")}"',
        f'ls -1 "{peer.remote("sub")}"',
        f'get "{peer.remote("sub/down é.grib")}" "{back}"',
    )
    assert "down é.grib" in outcome.ok().text
    assert peer.get("up.grib") == back.read_bytes() == CONTENT
    (await sftp(peer, f'rm "{peer.remote("up.grib")}"')).ok()
    assert peer.names() == ["sub/down é.grib"]


async def _round_trip_by_webdav(peer: Peer, folder: Path) -> None:
    """Upload, make a directory, list, download and delete by curl."""
    local = folder / "local"
    local.write_bytes(CONTENT)
    (await curl(peer, "--request", "MKCOL", peer.url_of("new/"))).ok()
    (await curl(peer, "--upload-file", local, peer.url_of("new/up é.grib"))).ok()
    assert peer.get("new/up é.grib") == CONTENT
    assert (await curl(peer, peer.url_of("new/up é.grib"))).ok().out == CONTENT
    depth = ("--request", "PROPFIND", "--header", "Depth: 1")
    assert "up%20%C3%A9.grib" in (await curl(peer, *depth, peer.url_of("new/"))).ok().text
    (await curl(peer, "--request", "DELETE", peer.url_of("new/up é.grib"))).ok()
    assert peer.names() == []


async def test_openssh_serves_keys_and_passwords(tmp_path: Path) -> None:
    """Both logins work, a wrong password does not, and sessions run unprivileged."""
    async with openssh(tmp_path) as peer:
        await _round_trip_by_sftp(peer, tmp_path)
        if not peer.password:
            return
        options = ssh_by_password(peer)
        command = ("-e", "ssh", *options, peer.host, "id -un")
        right = await run("sshpass", *command, env={"SSHPASS": peer.password})
        assert right.ok().text.strip() == peer.account.name
        wrong = await run("sshpass", *command, env={"SSHPASS": "not it"})
        assert b"Permission denied" in wrong.err


async def test_openssh_scp_copies(tmp_path: Path) -> None:
    """The old SCP protocol and the new one, both ways."""
    async with openssh(tmp_path, host_key="rsa") as peer:
        peer.put("a.grib", CONTENT)
        there = f"{peer.host}:{peer.directory}"
        for flags in (["-O"], ["-s"]):
            options = [*flags, *ssh_options(peer)]
            (await run("scp", *options, f"{there}/a.grib", tmp_path / "back")).ok()
            (await run("scp", *options, tmp_path / "back", f"{there}/b.grib")).ok()
            assert peer.get("b.grib") == CONTENT


@pytest.mark.parametrize("tls", TLS)
async def test_vsftpd_serves(tmp_path: Path, tls: str) -> None:
    """Plain, AUTH TLS and implicit TLS, with session reuse required."""
    async with vsftpd(tmp_path, tls=tls) as peer:
        await _round_trip_by_lftp(peer, tmp_path)


@pytest.mark.parametrize("tls", TLS)
async def test_proftpd_serves(tmp_path: Path, tls: str) -> None:
    """Plain, AUTH TLS and implicit TLS."""
    async with proftpd(tmp_path, tls=tls) as peer:
        await _round_trip_by_lftp(peer, tmp_path)


async def test_pyftpdlib_serves(tmp_path: Path) -> None:
    """A peer of the benchmarks."""
    async with pyftpdlib(tmp_path) as peer:
        await _round_trip_by_lftp(peer, tmp_path)


@pytest.mark.parametrize("serve", [vsftpd, proftpd])
async def test_a_wrong_ftp_password_is_refused(tmp_path: Path, serve: Server) -> None:
    """Curl's exit 67 is a login denied."""
    async with serve(tmp_path) as peer:
        wrong = ("--user", f"{peer.login}:not it", peer.url_of(""))
        assert (await curl(peer, *wrong)).code == 67


@pytest.mark.parametrize("tls", [False, True])
async def test_nginx_serves_webdav(tmp_path: Path, tls: bool) -> None:
    """Write and read, plain and TLS."""
    async with nginx(tmp_path, tls=tls) as peer:
        await _round_trip_by_webdav(peer, tmp_path)


@pytest.mark.parametrize(
    ("listing", "expected"), [("json", '"name":"a.grib"'), ("html", "<a href")]
)
async def test_nginx_lists(tmp_path: Path, listing: str, expected: str) -> None:
    """A directory is a page or a document."""
    async with nginx(tmp_path, listing=listing, auth=False) as peer:
        peer.put("in/a.grib", CONTENT)
        assert expected in (await curl(peer, peer.url_of("in/"))).ok().text.replace('": "', '":"')


@pytest.mark.parametrize("protocol", ["sftp", "ftp", "http", "webdav"])
async def test_rclone_serves(tmp_path: Path, protocol: str) -> None:
    """Every protocol that it has."""
    async with rclone(tmp_path, protocol) as peer:
        if protocol == "sftp":
            await _round_trip_by_sftp(peer, tmp_path)
        elif protocol == "ftp":
            await _round_trip_by_lftp(peer, tmp_path)
        elif protocol == "webdav":
            await _round_trip_by_webdav(peer, tmp_path)
        else:
            peer.put("a.grib", CONTENT)
            assert (await curl(peer, peer.url_of("a.grib"))).ok().out == CONTENT
