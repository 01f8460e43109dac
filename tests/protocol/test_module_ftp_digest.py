"""Digests of FTP servers: HASH, the older commands, and verification by them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import RemoteError, RemoteMissing, RemoteVerify, Unsupported
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.ftp import FtpModule
from ecpds.transfer.contract import Feature, Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import BytesSource
from tests.peers.proftpd import proftpd
from tests.peers.programs import peers_folder
from tests.protocol.ftprig import running
from tests.protocol.scripted_ftp import FEATURES, ScriptedFtp, Session

CONTENT = b"x" * 100_000
SHA = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@asynccontextmanager
async def session(port: int, login: str, password: str, **options: Any) -> AsyncIterator[Any]:
    """Log in; give the module and how it is used."""
    given = {"ftp.port": port} | {key.replace("__", "."): value for key, value in options.items()}
    host = Host(name="h", method="genericFtp", host="127.0.0.1", login=login, options=given,
                password=Secret(password))  # fmt: skip
    access = Registry([FtpModule]).access(host)
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    try:
        async with access.module.connect(access.target, access.options, around) as module:
            yield module, access
    finally:
        await asyncio.to_thread(threads.close)


async def put(module: FtpModule, access: Access, name: str, digests: dict[str, str]) -> None:
    source = BytesSource(CONTENT)
    await deliver(
        module, name, source, size=len(CONTENT), rules=access.delivery, clock=SystemClock(),
        digests=digests,
    )  # fmt: skip


@pytest.mark.peer
async def test_digests_of_proftpd(tmp_path: Path) -> None:
    """mod_digest: HASH and the X commands; a wrong digest leaves no file."""
    modules = peers_folder() / "usr/lib/proftpd"
    lines = [f"ModulePath {modules}", "LoadModule mod_digest.c"]
    async with (
        proftpd(tmp_path, options=lines) as peer,
        session(
            peer.port, peer.login, peer.password, ectrans__verify="hash", ectrans__checksum="sha256"
        ) as (module, access),
    ):
        assert Feature.CHECKSUM in module.features
        await put(module, access, "f", {"sha256": SHA})
        assert await module.checksum("f", "sha256") == SHA
        assert await module.checksum("f", "md5") == MD5
        assert await module.checksum("f", "sha3_256") is None
        with pytest.raises(RemoteMissing):
            await module.checksum("none", "sha256")
        with pytest.raises(RemoteVerify, match="sha256"):
            await put(module, access, "g", {"sha256": "0" * 64})
        assert [path.name for path in peer.root.iterdir()] == ["f"]


async def test_digests_of_our_own_portal(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, session(rig.port, "alice", "secret") as (module, _):
        await module.put("/NORTH/f", BytesSource(CONTENT))
        assert await module.checksum("/NORTH/f", "sha256") == SHA
        assert await module.checksum("/NORTH/f", "md5") == MD5


async def test_older_commands_and_servers_without() -> None:
    """XMD5 with the digest in any surroundings; without commands there is no such feature."""

    async def told(session: Session, name: str) -> None:
        session.say(f"250 {name} {MD5.upper()}")

    async with ScriptedFtp() as server:
        server.answers["FEAT"] = [FEATURES.replace("211 End", " XMD5\r\n211 End").encode()]
        server.answers["XMD5"] = [told, b"502 not really\r\n", b"451 busy\r\n"]
        async with server.session() as module:
            assert await module.checksum("0" * 32, "md5") == MD5
            assert await module.checksum("f", "md5") is None
            with pytest.raises(RemoteError):
                await module.checksum("f", "md5")
            assert await module.checksum("f", "sha256") is None
    async with ScriptedFtp() as server, server.session() as module:
        assert Feature.CHECKSUM not in module.features
        with pytest.raises(Unsupported):
            await module.checksum("f", "md5")


async def test_commands_around_new_directories() -> None:
    async with (
        ScriptedFtp() as server,
        server.session(
            mkdirs_index=2,
            pre_mkdirs="SITE PRE $dirname",
            post_mkdirs="SITE POST $dirname $uid",
        ) as module,
    ):
        server.answers["SITE"] = [b"200 done\r\n"]
        server.answers["MKD"] = [b"257 made\r\n"]
        for path in ("/a", "/a/b", "/a/b/c"):
            await module.mkdir(path)
        sites = [one for one in server.commands if one.startswith("SITE")]
        assert [one.partition("SITE ")[2].split()[:2] for one in sites] == [
            ["PRE", "/a"],
            ["POST", "/a"],
            ["PRE", "/a/b"],
            ["POST", "/a/b"],
        ]
        server.answers["SITE"] = [b"500 no\r\n"]
        with pytest.raises(RemoteError):
            await module.mkdir("/d")


async def test_old_files_go_first_when_that_is_said() -> None:
    async with ScriptedFtp() as server, server.session(ignore_delete=False) as module:
        await module.put("f", BytesSource(b"x"))
        commands = [one.partition(" ")[0] for one in server.commands]
        assert commands.index("DELE") < commands.index("STOR")
