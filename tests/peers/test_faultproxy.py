"""Faults strike where they say, nowhere else, and only as often as they say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.peers.clients import curl, lftp, sftp
from tests.peers.faultproxy import (
    Channel,
    Fault,
    FaultProxy,
    Way,
    corrupt,
    delay,
    drop,
    share,
    stall,
    truncate,
)
from tests.peers.nginx import nginx
from tests.peers.openssh import openssh
from tests.peers.proftpd import proftpd
from tests.peers.vsftpd import vsftpd

CONTENT = bytes(range(251)) * 4096  # about a megabyte


async def test_without_a_fault_everything_passes(tmp_path: Path) -> None:
    """Both ways, byte for byte, and counted."""
    async with openssh(tmp_path) as peer, FaultProxy(peer) as proxy:
        peer.put("a", CONTENT)
        known = tmp_path / "known"
        known.write_text((peer.known_hosts or known).read_text().replace(str(peer.port), "*"))
        commands = (f"get {peer.remote('a')} {tmp_path}/b", f"put {tmp_path}/b {peer.remote('c')}")
        (await sftp(replace(proxy.peer, known_hosts=known), *commands)).ok()
        assert peer.get("c") == CONTENT
        assert min(proxy.passed.values()) > len(CONTENT)


@pytest.mark.parametrize("percent", [1, 50, 99])
@pytest.mark.parametrize("tls", ["", "explicit"])
async def test_an_ftp_upload_is_dropped(tmp_path: Path, percent: int, tls: str) -> None:
    """Only the data connection, at the byte that was asked for; the next one passes."""
    local = tmp_path / "local"
    local.write_bytes(CONTENT)
    size = share(percent, len(CONTENT))
    async with vsftpd(tmp_path, tls=tls) as peer, FaultProxy(peer, drop(size)) as proxy:
        # curl 7.88 too leaves TLS 1.3 tickets unread, see test_peers
        upload = ("--tls-max", "1.2", "--upload-file", local, proxy.peer.url_of("a"))
        broken = await curl(proxy.peer, *upload)
        assert broken.code != 0
        assert proxy.struck == 1, broken.err
        assert len(peer.get("a")) <= size
        (await curl(proxy.peer, *upload)).ok()
        assert peer.get("a") == CONTENT


@pytest.mark.parametrize("way", ["--disable-epsv", "--epsv"])
async def test_an_ftp_download_is_truncated(tmp_path: Path, way: str) -> None:
    """The data connection ends early but properly; 227 and 229 both lead through the proxy."""
    size = share(50, len(CONTENT))
    async with proftpd(tmp_path) as peer, FaultProxy(peer, truncate(size)) as proxy:
        peer.put("a", CONTENT)
        outcome = await curl(proxy.peer, way, "--ftp-skip-pasv-ip", proxy.peer.url_of("a"))
        assert outcome.code != 0
        assert outcome.out == CONTENT[:size]


async def test_the_address_in_227_leads_through_the_proxy(tmp_path: Path) -> None:
    """A client that believes the address in the reply comes here too."""
    async with vsftpd(tmp_path) as peer, FaultProxy(peer, corrupt(0, way=Way.DOWN)) as proxy:
        peer.put("a", CONTENT)
        get = ("--disable-epsv", "--no-ftp-skip-pasv-ip", proxy.peer.url_of("a"))
        broken = (await curl(proxy.peer, *get)).ok().out
        assert (broken[0], broken[1:]) == (CONTENT[0] ^ 0xFF, CONTENT[1:])
        assert (await curl(proxy.peer, *get)).ok().out == CONTENT


@pytest.mark.parametrize(
    ("fault", "codes"),  # of curl: 7 no connection, 18 partial file, 28 timeout, 56 reset
    [
        (drop(0), {7, 56}),
        (drop(1000, way=Way.DOWN), {56}),
        (truncate(1000), {18}),
        (stall(1000, way=Way.DOWN), {28}),
        (delay(5.0), {28}),
    ],
)
async def test_http_faults(tmp_path: Path, fault: Fault, codes: set[int]) -> None:
    """Each fault is what its name says for a client that tells them apart."""
    async with nginx(tmp_path) as peer, FaultProxy(peer, fault) as proxy:
        peer.put("a", CONTENT)
        outcome = await curl(proxy.peer, "--max-time", "1", proxy.peer.url_of("a"))
        assert outcome.code in codes, outcome.err


async def test_a_stall_goes_on_when_released(tmp_path: Path) -> None:
    """Nothing is lost by the pause."""
    async with nginx(tmp_path) as peer, FaultProxy(peer, stall(5000, way=Way.DOWN)) as proxy:
        peer.put("a", CONTENT)
        async with asyncio.TaskGroup() as group:
            download = group.create_task(curl(proxy.peer, proxy.peer.url_of("a")))
            await proxy.wait_struck()
            assert proxy.passed[Way.DOWN] == 5000
            proxy.release()
        assert download.result().ok().out == CONTENT


async def test_refused_then_accepted(tmp_path: Path) -> None:
    """The address stays the same."""
    async with nginx(tmp_path) as peer, FaultProxy(peer) as proxy:
        peer.put("a", CONTENT)
        proxy.refuse()
        assert (await curl(proxy.peer, proxy.peer.url_of("a"))).code == 7  # could not connect
        proxy.accept()
        (await curl(proxy.peer, proxy.peer.url_of("a"))).ok()


async def test_the_control_connection_can_be_struck(tmp_path: Path) -> None:
    """When the fault says so."""
    fault = drop(200, way=Way.DOWN, channel=Channel.CONTROL, times=None)
    async with proftpd(tmp_path) as peer, FaultProxy(peer, fault) as proxy:
        assert (await lftp(proxy.peer, "set net:reconnect-interval-base 1", "ls")).code != 0
        assert proxy.struck >= 1
