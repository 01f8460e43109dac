"""SFTP beside the files themselves: jump hosts, commands, trees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import Phase, RemoteAuth, RemoteConfig, RemoteError, RemotePin
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.sftp import SftpModule
from ecpds.modules.sftp_exec import filled
from ecpds.transfer.contract import Sidecar, Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import BytesSource
from tests.conformance.cases import sftp_options
from tests.peers.openssh import openssh
from tests.peers.peer import Peer

pytestmark = pytest.mark.peer


@asynccontextmanager
async def session(peer: Peer, **options: Any) -> AsyncIterator[tuple[SftpModule, Access]]:
    """Log in with further options of the `sftp` family."""
    given = dict(sftp_options(peer)) | {f"sftp.{key}": value for key, value in options.items()}
    host = Host(
        name="h", method="genericSftp", host=peer.host, login=peer.login, options=given,
        password=Secret(peer.password),
    )  # fmt: skip
    access = Registry([SftpModule]).access(host)
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    try:
        async with access.module.connect(access.target, access.options, around) as module:
            assert isinstance(module, SftpModule)
            yield module, access
    finally:
        await asyncio.to_thread(threads.close)


async def put(module: SftpModule, access: Access, name: str, sidecars: Any = ()) -> None:
    """Deliver a small file."""
    source = BytesSource(b"content")
    await deliver(
        module, name, source, size=7, rules=access.delivery, clock=SystemClock(), sidecars=sidecars
    )


# --- jump hosts ----------------------------------------------------------------------------------


async def test_through_a_jump_host(tmp_path: Path) -> None:
    """The key of the host itself is checked end to end; both servers see a login."""
    async with openssh(tmp_path / "far") as far, openssh(tmp_path / "jump") as jump:
        assert jump.key is not None
        options = {
            "jumpHost": f"{jump.login}@{jump.host}:{jump.port}",
            "jumpFingerPrint": jump.host_key,
            "jumpPrivateKey": jump.key.read_text(),
        }
        async with session(far, **options) as (module, access):
            await put(module, access, far.remote("a.grib"))
            found = b"".join([block async for block in module.get(far.remote("a.grib"))])
            assert found == b"content"
        assert (far.root / "a.grib").read_bytes() == b"content"
        assert "Accepted publickey" in jump.log()

        for wrong, kind in (
            ({"jumpFingerPrint": far.host_key}, RemotePin),
            ({"fingerPrint": jump.host_key}, RemotePin),
            ({"jumpPrivateKey": "", "privateKey": "", "jumpPassword": "no"}, RemoteAuth),
            ({"jumpHost": "a@:1"}, RemoteConfig),
        ):
            with pytest.raises(kind):
                async with session(far, **{**options, **wrong}):
                    pass


# --- commands ------------------------------------------------------------------------------------


async def test_a_command_after_each_file(tmp_path: Path) -> None:
    """Once a file, not for its sidecar; with the final name, whatever characters it has."""
    async with openssh(tmp_path) as peer:
        log = peer.root / "log"
        name = peer.remote("a b'$(id).grib")
        async with session(peer, execCmd=f"echo $filename >> {log}") as (module, access):
            await put(module, access, name, [Sidecar(extension=".md5", content=b"x")])
            assert log.read_text() == f"{name}\n"
            async for _ in module.get(name):
                pass
            assert log.read_text() == f"{name}\n" * 2


async def test_a_command_that_fails_fails_the_transfer(tmp_path: Path) -> None:
    async with openssh(tmp_path) as peer:
        async with session(peer, execCmd="echo $filename is bad; exit 3") as (module, access):
            with pytest.raises(RemoteError, match=r"ended with 3, not 0: .* is bad") as caught:
                await put(module, access, peer.remote("f"))
            assert caught.value.phase is Phase.HOOK
        async with session(peer, execCmd="exit 3", execCode=3) as (module, access):
            await put(module, access, peer.remote("f"))


@pytest.mark.parametrize(
    ("index", "made"), [(0, []), (1, []), (-1, ["d/e/f"]), (-2, ["d/e", "d/e/f"])]
)
async def test_commands_around_new_directories(index: int, made: list[str], tmp_path: Path) -> None:
    """For the levels that the index says, counted from the root or from the end."""
    async with openssh(tmp_path) as peer:
        log = peer.root / "log"
        options = {"mkdirsCmdIndex": index, "postMkdirsCmd": f"ls -d $dirname >> {log}"}
        async with session(peer, **options) as (module, access):
            await put(module, access, peer.remote("d/e/f/a"))
        told = log.read_text().splitlines() if log.exists() else []
        assert told == [peer.remote(one) for one in made]


async def test_such_a_command_may_fail_when_that_is_said(tmp_path: Path) -> None:
    async with openssh(tmp_path) as peer:
        options: dict[str, Any] = {"mkdirsCmdIndex": -1, "preMkdirsCmd": "exit 1"}
        async with session(peer, **options) as (module, access):
            with pytest.raises(RemoteError):
                await put(module, access, peer.remote("d/a"))
        async with session(peer, **options, ignoreMkdirsCmdErrors="yes") as (module, access):
            await put(module, access, peer.remote("d/a"))


def test_names_are_quoted() -> None:
    values = {"file": "x", "filename": "a b;rm -rf /"}
    assert filled("do $filename $file", values) == "do 'a b;rm -rf /' x"


# --- trees ---------------------------------------------------------------------------------------


def _lay(peer: Peer) -> set[str]:
    names = {f"d{n % 7}/e{n % 3}/f{n}.nc" for n in range(200)} | {"top.nc", "d1/x.txt"}
    for name in names:
        place = peer.root / "tree" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"1234")
    return names


async def test_a_tree_is_listed_in_parallel(tmp_path: Path) -> None:
    async with openssh(tmp_path) as peer:
        names = _lay(peer)
        for threads in (1, 5):
            async with session(peer, listRecursive="yes", listMaxThreads=threads) as (module, _):
                found = [entry async for entry in module.list(peer.remote("tree"))]
                assert {entry.name for entry in found} == names
                assert len(found) == len(names)
                assert {entry.size for entry in found} == {4}
                some = [one async for one in module.list(peer.remote("tree"), filter_text="*.txt")]
                assert [entry.name for entry in some] == ["d1/x.txt"]
        async with session(peer, listRecursive="yes", listMaxDepth=1) as (module, _):
            found = [entry async for entry in module.list(peer.remote("tree"))]
            assert {entry.name for entry in found} == {"top.nc", "d1/x.txt"}
        async with session(peer, listRecursive="yes", listMaxDirs=5) as (module, _):
            with pytest.raises(RemoteError, match="too many directories"):
                async for _ in module.list(peer.remote("tree")):
                    pass


async def test_a_directory_of_a_tree_that_may_not_be_read(tmp_path: Path) -> None:
    async with openssh(tmp_path) as peer:
        names = _lay(peer)
        (peer.root / "tree/d1").chmod(0)
        async with session(peer, listRecursive="yes") as (module, _):
            found = [entry async for entry in module.list(peer.remote("tree"))]
            assert [entry.name for entry in found if entry.error] == ["d1"]
            wanted = {name for name in names if not name.startswith("d1/")}
            assert {entry.name for entry in found if not entry.error} == wanted
        (peer.root / "tree/d1").chmod(0o755)
