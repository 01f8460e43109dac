"""The SFTP module against servers of all manners: options, old servers, new keys, lost sessions."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from ecpds.model.errors import (
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteName,
    RemotePin,
    RemoteSpace,
    RemoteTransient,
)
from ecpds.modules.sftp import SftpModule
from ecpds.transfer.contract import Feature
from tests.conformance.cases import CASES, Case, sftp_options
from tests.conformance.site import MIB, Site, pattern, site
from tests.peers.openssh import openssh
from tests.peers.peer import Account, Peer
from tests.waiting import until

BY_KEY = next(case for case in CASES if case.name == "sftp-openssh")


def case_with(**server: Any) -> Case:
    """Return the case of OpenSSH with other arguments for the server."""

    def start(folder: Path) -> Any:
        return openssh(folder, **server)

    return Case(name="sftp", module=SftpModule, server=start, options=sftp_options, is_by_key=True)


async def test_keys_are_exchanged_again_on_the_way(tmp_path: Path) -> None:
    """By the server after each MiB: the short way for content waits meanwhile."""
    async with site(case_with(options=["RekeyLimit 1M"]), tmp_path) as there:
        content = pattern(8 * MIB + 3)
        await there.deliver("f", content)
        assert there.files() == {"f": content}
        assert (await there.fetch("f"))[0] == content


@pytest.mark.parametrize(
    "options",
    [
        {"sftp__cipher": "aes256-ctr", "sftp__mac": "hmac-sha2-512"},
        {"sftp__cipher": "chacha20-poly1305@openssh.com"},
        {"sftp__cipher": "none", "sftp__kex": "default", "sftp__mac": "none"},
        {"sftp__compression": "zlib@openssh.com"},
        {"sftp__kex": "ecdh-sha2-nistp256", "sftp__clientVersion": "OurClient_1"},
        {"sftp__bulkRequestNumber": 1},
    ],
    ids=lambda options: next(iter(options.values())),
)
async def test_algorithms_can_be_chosen(tmp_path: Path, options: dict[str, object]) -> None:
    async with site(BY_KEY, tmp_path) as there:
        content = pattern(3 * MIB)
        await there.deliver("f", content, access=there.access(**options))
        assert (await there.fetch("f", access=there.access(**options)))[0] == content


async def test_without_a_pin_nothing_is_sent_and_the_key_is_told(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        before = logins(there)
        with pytest.raises(RemotePin, match=re.escape(there.peer.host_key)):
            await there.deliver("f", b"x", access=there.access(sftp__fingerPrint=""))
        two = f"SHA256:{'A' * 43},{there.peer.host_key}"
        await there.deliver("f", b"x", access=there.access(sftp__fingerPrint=two))
        assert logins(there) == before + 1


def logins(there: Site) -> int:
    """Return how many sessions the server has begun."""
    return there.peer.log().count("Starting session")


async def test_a_login_can_be_overridden(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        name = there.peer.login
        await there.deliver("f", b"x", access=there.access(login="other", sftp__login=name))
        with pytest.raises(RemoteAuth):
            await there.deliver("f", b"x", access=there.access(sftp__privateKey=""))
        assert there.files() == {"f": b"x"}


async def test_a_prompt_is_answered_with_the_password(tmp_path: Path) -> None:
    """Keyboard-interactive, as servers have it that ask PAM."""
    lines = ["KbdInteractiveAuthentication yes", "AuthenticationMethods keyboard-interactive"]

    def start(folder: Path) -> Any:
        return openssh(folder, options=lines)

    case = Case(
        name="sftp",
        module=SftpModule,
        server=start,
        options=lambda peer: {"sftp.port": peer.port, "sftp.fingerPrint": peer.host_key},
    )
    async with site(case, tmp_path) as there:
        await there.deliver("f", b"x")
        assert there.files() == {"f": b"x"}
        with pytest.raises(RemoteAuth):
            await there.deliver("g", b"x", access=there.access(password="wrong"))


async def test_a_working_directory_is_entered_and_made(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        access = there.access(sftp__cwd=f"{there.peer.directory}/in box/today")
        async with there.session(access) as module:
            from ecpds.transfer.source import BytesSource

            await module.put("f", BytesSource(b"x"))
            assert [entry.name async for entry in module.list("")] == ["f"]
        assert there.files() == {"in box/today/f": b"x"}
        lazy = there.access(sftp__cwd=f"{there.peer.directory}/none", sftp__mkdirs="no")
        with pytest.raises(RemoteName) as caught:
            async with there.session(lazy):
                pass
        assert caught.value.phase is Phase.CWD


async def test_modes_and_syncs(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        access = there.access(sftp__chmod="604", sftp__fsync="yes")
        await there.deliver("f", b"x", access=access)
        assert stat.S_IMODE((there.peer.root / "f").stat().st_mode) == 0o604


async def test_one_session_serves_many_files(tmp_path: Path) -> None:
    """And a session that the server ended is replaced by a new one."""
    async with site(BY_KEY, tmp_path) as there:
        access, before = there.access(sftp__keepAlive="1m"), logins(there)
        for number in range(5):
            await there.deliver(f"{number}", b"x", access=access)
        assert logins(there) == before + 1
        async with there.session(access) as module:
            assert isinstance(module, SftpModule)
            module._connection.abort()
        await until(lambda: idle_is_lost(there))
        await there.deliver("5", b"x", access=access)
        assert logins(there) == before + 2
        assert len(there.files()) == 6


async def test_a_listing_follows_links(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        there.peer.put("f", b"content")
        (there.peer.root / "link").symlink_to("f")
        (there.peer.root / "dead").symlink_to("nowhere")
        async with there.session() as module:
            found = {entry.name: entry async for entry in module.list(there.remote(""))}
        assert (found["link"].link, found["link"].size) == ("f", 7)
        assert found["dead"].error


async def test_what_the_kernel_knows_of_the_connection(tmp_path: Path) -> None:
    async with site(BY_KEY, tmp_path) as there:
        delivered = await there.deliver("f", pattern(2 * MIB))
        assert delivered.statistics["bytes_acked"] > 2 * MIB
        assert delivered.peer == "127.0.0.1"


# ---- a server of our own making


class PlainServer(asyncssh.SFTPServer):
    """Version 3 and nothing else: no extension, a rename that replaces nothing."""

    full = False

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        if self.full:
            raise asyncssh.SFTPFailure("something went wrong")
        return super().write(file_obj, offset, data)

    def statvfs(self, path: bytes) -> Any:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, blocks=1000)  # none of them free

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if os.path.exists(newpath):
            raise asyncssh.SFTPFailure("exists")
        return super().rename(oldpath, newpath)


class FullServer(PlainServer):
    """Fails as servers do whose disk is full: without a reason."""

    full = True


class Anybody(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def served(
    folder: Path,
    factory: type[asyncssh.SFTPServer],
    monkeypatch: pytest.MonkeyPatch | None,
    ciphers: tuple[str, ...] = (),
) -> AsyncIterator[Peer]:
    """Run a server with that behaviour; `monkeypatch` takes its extensions away."""
    root = folder / "root"
    root.mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519")
    if monkeypatch is not None:
        from asyncssh import sftp

        monkeypatch.setattr(sftp.SFTPServerHandler, "_extensions", [])
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        server_factory=Anybody,
        sftp_factory=factory,
        encryption_algs=ciphers,
    )
    account = Account(name="any", uid=os.getuid(), gid=os.getgid(), password="")
    try:
        yield Peer(
            name="asyncssh",
            scheme="sftp",
            port=server.get_port(),
            root=root,
            account=account,
            login="any",
            directory=str(root),
            host_key=key.get_fingerprint(),
        )
    finally:
        server.close()
        await server.wait_closed()


def plain_case(
    factory: type[asyncssh.SFTPServer],
    monkeypatch: pytest.MonkeyPatch | None = None,
    ciphers: tuple[str, ...] = (),
) -> Case:
    def start(folder: Path) -> Any:
        return served(folder, factory, monkeypatch, ciphers)

    return Case(
        name="plain",
        module=SftpModule,
        server=start,
        options=lambda peer: {"sftp.port": peer.port, "sftp.fingerPrint": peer.host_key},
    )


async def test_a_server_without_extensions_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 3 alone cannot rename over a name: the old file is deleted first."""
    async with site(plain_case(PlainServer, monkeypatch), tmp_path) as there:
        there.peer.put("d/f", b"old")
        await there.deliver("d/f", pattern(MIB))
        assert there.files() == {"d/f": pattern(MIB)}
        assert (await there.fetch("d/f"))[0] == pattern(MIB)
        async with there.session() as module:
            with pytest.raises(RemoteError):
                await module.rename(there.remote("none"), there.remote("d/f"), replace=True)
        assert there.files() == {"d/f": pattern(MIB)}


async def test_small_and_long_contents_and_listings(tmp_path: Path) -> None:
    """Of a first block more is asked for than there is; a listing comes in many answers."""
    sizes = (0, 1, 16 * 1024, 255 * 1024, 255 * 1024 + 1)
    for case in (BY_KEY, plain_case(PlainServer)):
        (tmp_path / case.name).mkdir()
        async with site(case, tmp_path / case.name) as there:
            for size in sizes:
                there.peer.put(f"d/{size}", pattern(size))
            for number in range(400):
                there.peer.put(f"many/{number}", b"")
            async with there.session() as module:
                for size in sizes:
                    for offset in {0, size // 2, size}:
                        found = module.get(there.remote(f"d/{size}"), offset=offset)
                        content = b"".join([block async for block in found])
                        assert content == pattern(size)[offset:], (case.name, size, offset)
                names = [one.name async for one in module.list(there.remote("many"))]
                assert sorted(map(int, names)) == list(range(400)), case.name
                assert [
                    one async for one in module.list(there.remote("many"), filter_text="x*")
                ] == []


async def test_no_common_algorithm_is_a_matter_of_configuration(tmp_path: Path) -> None:
    async with site(plain_case(PlainServer, ciphers=("aes256-ctr",)), tmp_path) as there:
        access = there.access(sftp__cipher="aes128-gcm@openssh.com")
        with pytest.raises(RemoteConfig) as caught:
            await there.deliver("f", b"x", access=access)
        assert caught.value.phase is Phase.TLS
        with pytest.raises(RemoteConfig, match="unknown-cipher"):
            await there.deliver("f", b"x", access=there.access(sftp__cipher="unknown-cipher"))


async def test_a_failure_without_a_reason_on_a_full_disk_is_a_full_disk(tmp_path: Path) -> None:
    async with site(plain_case(FullServer), tmp_path) as there:
        with pytest.raises(RemoteSpace):
            await there.deliver("f", pattern(MIB), version="1")
        assert there.files() == {}
        assert there.partial is None


async def test_a_server_that_offers_no_sftp(tmp_path: Path) -> None:
    case = case_with(subsystem="/bin/true")
    async with site(case, tmp_path) as there:
        with pytest.raises(RemoteTransient, match="SFTP") as caught:
            await there.deliver("f", b"x")
        assert caught.value.phase is Phase.CONNECT


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0" * 5000])
async def test_a_server_that_speaks_something_else(tmp_path: Path, text: bytes) -> None:
    """A web server, one that hangs up, and noise: errors, soon."""
    handled = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        handled.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with site(BY_KEY, tmp_path) as there:
        with pytest.raises(RemoteError) as caught:
            await there.deliver("f", b"x", access=there.access(sftp__port=port))
        assert caught.value.phase in (Phase.CONNECT, Phase.TLS, Phase.AUTH)
    await handled.wait()
    server.close()
    await server.wait_closed()


async def test_keep_alive_probes_find_a_dead_server(tmp_path: Path) -> None:
    """An idle session whose server is silent is not lent again."""
    from tests.peers.faultproxy import Way, stall

    async with site(BY_KEY, tmp_path, proxied=True) as there:
        access = there.access(
            sftp__keepAlive="1m", sftp__serverAliveInterval="50ms", sftp__serverAliveCountMax=1
        )
        await there.deliver("1", b"x", access=access)
        proxy = there.proxy
        assert proxy is not None
        proxy.fault = stall(after=proxy.passed[Way.DOWN], way=Way.DOWN)
        await until(lambda: idle_is_lost(there))
        proxy.fault = None
        await there.deliver("2", b"x", access=access)
        assert len(there.files()) == 2


def idle_is_lost(there: Site) -> bool:
    """Tell whether the one idle session has noticed that its server is gone."""
    (lane,) = there.pool._lanes.values()
    module = lane.idle[0].module
    assert isinstance(module, SftpModule)
    return module._link.lost


def test_the_module_declares_what_it_can() -> None:
    assert Feature.REPLACE in SftpModule.features
    assert Feature.CHECKSUM not in SftpModule.features
