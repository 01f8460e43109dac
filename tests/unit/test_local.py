"""`genericFile` stays below its roots, whatever links and names it meets."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.entry import Kind
from ecpds.model.errors import (
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    SourceBroke,
)
from ecpds.model.host import Host
from ecpds.modules.local import FileModule
from ecpds.transfer.contract import ByteSink, Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.fetch import fetch
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import BytesSource, ContentSource
from tests.clock import FakeClock
from tests.loopthreads import LoopThreads


class Disk:
    """A root with something secret beside it."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.root.mkdir()
        self.secret = base / "secret"
        self.secret.mkdir()
        (self.secret / "key").write_text("secret")
        self.around = Surroundings(threads=LoopThreads(), clock=FakeClock())

    def access(self, *roots: Path, **options: object) -> Access:
        given = {f"file.{key}": value for key, value in options.items()}
        host = Host(name="here", method="genericFile", options=given)
        return Registry([FileModule]).access(
            host, local_roots=tuple(map(str, roots or (self.root,)))
        )

    @asynccontextmanager
    async def session(self, access: Access | None = None) -> AsyncIterator[Any]:
        access = access or self.access()
        async with access.module.connect(access.target, access.options, self.around) as module:
            yield module

    async def deliver(self, path: Path | str, content: bytes, access: Access | None = None) -> None:
        access = access or self.access()
        async with self.session(access) as module:
            await deliver(
                module,
                str(path),
                BytesSource(content),
                size=len(content),
                rules=access.delivery,
                clock=self.around.clock,
            )


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


class Sink(ByteSink):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.content = b""

    async def write(self, block: bytes | memoryview) -> None:
        self.content += block


def outside(disk: Disk) -> list[str]:
    """Return paths that lead out of the root."""
    (disk.root / "link").symlink_to(disk.secret)
    (disk.root / "key").symlink_to(disk.secret / "key")
    (disk.root / "sub").mkdir()
    return [
        f"{disk.secret}/key",
        f"{disk.root}/../secret/key",
        f"{disk.root}/sub/../../secret/key",
        f"{disk.root}/link/key",
        f"{disk.root}x/key",
        "/etc/passwd",
        "relative/key",
    ]


async def test_no_act_leaves_the_root(disk: Disk) -> None:
    for path in outside(disk):
        async with disk.session() as module:
            for act in (
                module.stat(path),
                module.open_local(path),
                module.delete(path),
                module.rename(path, f"{disk.root}/new", replace=True),
                module.put(path, BytesSource(b"x")),
                module.mkdir(path),
                module.rmdir(path),
                module.checksum(path, "md5"),
            ):
                with pytest.raises((RemoteName, RemoteMissing)):
                    await act
    assert (disk.secret / "key").read_text() == "secret"
    assert sorted(os.listdir(disk.secret)) == ["key"]


async def test_a_link_as_the_last_part_is_read_only_within_the_root(disk: Disk) -> None:
    outside(disk)
    (disk.root / "inner").symlink_to("f")
    (disk.root / "f").write_text("content")
    async with disk.session() as module:
        assert (await module.stat(f"{disk.root}/inner")).size == 7
        for act in (module.stat(f"{disk.root}/key"), module.open_local(f"{disk.root}/key")):
            with pytest.raises(RemoteName):
                await act
        with pytest.raises(RemoteName):
            await module.put(f"{disk.root}/key", BytesSource(b"x"))
    assert (disk.secret / "key").read_text() == "secret"


async def test_a_delivery_replaces_a_link_and_not_what_it_leads_to(disk: Disk) -> None:
    outside(disk)
    await disk.deliver(disk.root / "key", b"new")
    assert (disk.root / "key").read_bytes() == b"new"
    assert not (disk.root / "key").is_symlink()
    assert (disk.secret / "key").read_text() == "secret"


async def test_linked_directories_within_the_root_are_fine(disk: Disk) -> None:
    (disk.root / "real").mkdir()
    (disk.root / "also").symlink_to("real")
    await disk.deliver(disk.root / "also/f", b"x")
    assert (disk.root / "real/f").read_bytes() == b"x"


async def test_a_root_may_be_a_link_or_have_a_slash(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(disk.root)
    access = disk.access(tmp_path / "alias")
    await disk.deliver(tmp_path / "alias/f", b"1", access)
    access = Registry([FileModule]).access(
        Host(name="here", method="genericFile"), local_roots=(f"{disk.root}/",)
    )
    await disk.deliver(disk.root / "d/g", b"2", access)
    assert {p.name for p in disk.root.rglob("*")} == {"f", "d", "g"}


async def test_a_root_that_is_not_there_yet_is_made(disk: Disk, tmp_path: Path) -> None:
    root = tmp_path / "later" / "out"
    await disk.deliver(root / "a/f", b"x", disk.access(root))
    assert (root / "a/f").read_bytes() == b"x"
    with pytest.raises(RemoteError):
        await disk.deliver(tmp_path / "other" / "f", b"x", disk.access(root))
    assert not (tmp_path / "other").exists()


async def test_without_roots_nothing_works(disk: Disk) -> None:
    access = Registry([FileModule]).access(Host(name="here", method="genericFile"))
    with pytest.raises(RemoteConfig, match="file_roots"):
        async with disk.session(access):
            pass


async def test_a_listing_follows_links_only_within_the_root(disk: Disk) -> None:
    outside(disk)
    (disk.root / "f").write_text("content")
    (disk.root / "inner").symlink_to("f")
    (disk.root / "nowhere").symlink_to("gone")
    os.mkfifo(disk.root / "pipe")
    async with disk.session() as module:
        found = {entry.name: entry async for entry in module.list(str(disk.root))}
    assert found["f"].kind is Kind.FILE
    assert (found["inner"].kind, found["inner"].link, found["inner"].size) == (Kind.LINK, "f", 7)
    assert found["sub"].kind is Kind.DIRECTORY
    assert found["pipe"].kind is Kind.OTHER
    for name in ("link", "key", "nowhere"):
        assert found[name].error
        assert found[name].size is None


async def test_a_listing_can_be_narrowed(disk: Disk) -> None:
    for name in ("a.grib", "b.grib", "a.txt"):
        (disk.root / name).touch()
    async with disk.session() as module:
        found = [entry.name async for entry in module.list(str(disk.root), filter_text="/*.grib")]
    assert sorted(found) == ["a.grib", "b.grib"]


async def test_pipes_and_directories_are_no_files(disk: Disk) -> None:
    os.mkfifo(disk.root / "pipe")
    (disk.root / "d").mkdir()
    async with disk.session() as module:
        for name in ("pipe", "d"):
            with pytest.raises(RemoteName):
                await module.open_local(f"{disk.root}/{name}")
        with pytest.raises(RemoteName):
            await module.put(f"{disk.root}/d", BytesSource(b"x"))


async def test_the_mode_is_set_when_told(disk: Disk) -> None:
    await disk.deliver(disk.root / "f", b"x", disk.access(chmod="640"))
    assert stat.S_IMODE((disk.root / "f").stat().st_mode) == 0o640
    with pytest.raises(RemoteConfig, match="chmod"):
        await disk.deliver(disk.root / "f", b"x", disk.access(chmod="rw"))


async def test_room_that_is_reserved_stays_free(disk: Disk) -> None:
    with pytest.raises(RemoteSpace):
        await disk.deliver(disk.root / "f", b"x", disk.access(reserve="1EB"))
    assert list(disk.root.iterdir()) == []


@pytest.mark.parametrize("use_threads", ["yes", "no"])
@pytest.mark.parametrize("fsync", ["yes", "no"])
async def test_calls_may_all_be_made_in_threads(disk: Disk, use_threads: str, fsync: str) -> None:
    access = disk.access(useThreads=use_threads, fsync=fsync)
    await disk.deliver(disk.root / "d/f", b"content", access)
    sink = Sink()
    async with disk.session(access) as module:
        await fetch(module, f"{disk.root}/d/f", sink, around=disk.around, watch=access.fetching)
    assert sink.content == b"content"
    threads = disk.around.threads
    assert isinstance(threads, LoopThreads)
    assert (threads.visits > 4) is (use_threads == "yes") or fsync == "yes"


@pytest.mark.parametrize("size", [1000, 300_000])
async def test_a_copy_without_the_kernel_is_the_same(
    disk: Disk, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems cannot copy a range, or not from another one."""

    def refuse(*args: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    access = disk.access()
    descriptor = os.open(source, os.O_RDONLY)
    try:
        async with disk.session(access) as module:
            await deliver(
                module,
                f"{disk.root}/f",
                ContentSource(descriptor, size, threads=disk.around.threads),
                size=size,
                rules=access.delivery,
                clock=disk.around.clock,
            )
            with pytest.raises(SourceBroke):
                await deliver(
                    module,
                    f"{disk.root}/g",
                    ContentSource(descriptor, size + 1, threads=disk.around.threads),
                    size=size + 1,
                    rules=access.delivery,
                    clock=disk.around.clock,
                )
    finally:
        os.close(descriptor)
    assert (disk.root / "f").read_bytes() == source.read_bytes()
    assert os.listdir(disk.root) == ["f"]


async def test_no_descriptor_is_left(disk: Disk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in [*outside(disk), f"{disk.root}/f"]:
        async with disk.session() as module:
            for act in (module.stat(path), module.rename(path, path + "x", replace=False)):
                with pytest.raises(RemoteError):
                    await act
    assert len(os.listdir("/proc/self/fd")) == before
