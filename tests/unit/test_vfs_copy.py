"""Copies inside the hub, and the walk over all files that object stores list by."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    Denied,
    Exists,
    IsDirectory,
    NotDirectory,
    NotFound,
    QuotaExceeded,
    TooLarge,
    Unsupported,
)
from ecpds.objects.directory import ObjectDirectory
from ecpds.vfs import listing as listings
from ecpds.vfs.contract import Session
from tests.clock import FakeClock
from tests.protocol.diskgate import DiskGate, DiskSession
from tests.tree import Tree, tree


def inodes(t: Tree) -> list[int]:
    """Return the inode of each object."""
    volume = t.node.core.objects.volumes[0].path
    return [path.stat().st_ino for path in volume.rglob("*") if path.is_file()]


async def test_a_copy_shares_its_content(tmp_path: Path) -> None:
    source_time = datetime(2029, 1, 1, tzinfo=UTC)
    async with tree(tmp_path, protocol=Protocol.WEBDAV) as t:
        first = await t.put("/NORTH/a", metadata={"colour": "blue"}, mtime=source_time)
        node = await t.session.copy("/NORTH/a", "/SOUTH/d/b")
        assert (node.path, node.size, node.checksum) == ("/SOUTH/d/b", 7, first.checksum)
        assert (await t.session.stat("/SOUTH/d/b")).metadata == {"colour": "blue"}
        assert await t.get("/SOUTH/d/b") == b"content"
        assert len(inodes(t)) == 2
        assert len(set(inodes(t))) == 1
        await t.session.delete("/NORTH/a")
        await t.node.engine.retention.purge_bytes()
        assert await t.get("/SOUTH/d/b") == b"content"
        await t.put("/SOUTH/d/b", b"new")
        await t.node.engine.retention.purge_bytes()
        assert len(inodes(t)) == 1


async def test_a_file_system_without_links_copies_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(_self: ObjectDirectory, _volume: str, _key: str) -> None:
        raise OSError(31, "Too many links")

    content = os.urandom(100_000)
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a", content)
        monkeypatch.setattr(ObjectDirectory, "link", no_link)
        await t.session.copy("/NORTH/a", "/NORTH/b")
        assert await t.get("/NORTH/b") == content
        assert len(set(inodes(t))) == 2
        with monkeypatch.context() as broken:
            broken.setattr("ecpds.vfs.uploads.os.copy_file_range", lambda *_: 0)
            with pytest.raises(NotFound):
                await t.session.copy("/NORTH/a", "/NORTH/c")
        assert len(inodes(t)) == 2
        await t.put("/NORTH/c", b"the lock is gone")


async def test_a_copy_onto_itself_gives_new_metadata(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.S3) as t:
        await t.send("/NORTH/a", b"content", end={"etag": "abc"}, metadata={"old": "1"})
        node = await t.session.copy("/NORTH/a", "/NORTH/a", metadata={"new": "2"})
        assert node.etag == '"abc"'
        assert (await t.session.stat("/NORTH/a")).metadata == {"new": "2"}
        await t.node.engine.retention.purge_bytes()
        assert await t.get("/NORTH/a") == b"content"


async def test_a_copy_is_bound_by_rights_and_limits(tmp_path: Path) -> None:
    options = {
        "portal.getPathPermRegex": "(.*)/(ok|big)", "portal.maxUploadBytes": "2KB",
        "portal.uploadPeriod": "1h",
    }  # fmt: skip
    granted = {Permission.GET, Permission.PUT, Permission.DIR}
    async with tree(tmp_path, user_options=options, operations=granted) as t:
        await t.put("/NORTH/ok")
        await t.put("/NORTH/secret")
        await t.put("/NORTH/big", b"x" * 1500)
        with pytest.raises(Denied):
            await t.session.copy("/NORTH/secret", "/NORTH/b")
        with pytest.raises(Denied):
            await t.session.copy("/NORTH/ok", "/NORTH/new/b")  # no mkdir
        with pytest.raises(Exists):
            await t.session.copy("/NORTH/ok", "/NORTH/secret", replace=False)
        for path in ("/", "/NORTH"):
            with pytest.raises((IsDirectory, Denied)):
                await t.session.copy(path, "/NORTH/b")
        with pytest.raises(NotFound):
            await t.session.copy("/NORTH/none/ok", "/NORTH/b")
        await t.node.destination("SOUTH", max_file_size=1000)
        with pytest.raises(TooLarge):
            await t.session.copy("/NORTH/big", "/SOUTH/b")
        await t.session.copy("/NORTH/big", "/NORTH/c")
        with pytest.raises(QuotaExceeded):
            await t.session.copy("/NORTH/ok", "/NORTH/d")


async def test_a_number_is_no_way_around_rights_for_copies(tmp_path: Path) -> None:
    options = {"portal.getPathPermRegex": r"(.*):/NORTH/(in/.*|DataTransferId=\d+)"}
    async with tree(tmp_path, user_options=options) as t:
        hidden = await t.put("/NORTH/out/a")
        for act in (
            t.session.copy(f"/NORTH/DataTransferId={hidden.transfer_id}", "/NORTH/in/b"),
            t.session.digest(f"/NORTH/DataTransferId={hidden.transfer_id}", "md5"),
        ):
            with pytest.raises(Denied):
                await act


async def test_lost_content_cannot_be_copied(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        for path in t.node.core.objects.volumes[0].path.rglob("*"):
            if path.is_file():
                path.unlink()
        with pytest.raises(NotFound):
            await t.session.copy("/NORTH/a", "/NORTH/b")
        await t.put("/NORTH/b")


# --- walk ------------------------------------------------------------------------------------


async def walked(t: Tree, path: str = "/NORTH", **wanted: object) -> list[str]:
    """Return the paths below a directory."""
    found = t.session.walk(path, **wanted)  # type: ignore[arg-type] # as the test says
    return [node.path.removeprefix(f"{path}/") async for node in found]


async def test_a_walk_is_in_the_order_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE", 3)
    keys = ["a", "a-b", "a.txt", "a/1", "a/b/2", "a0", "b/x", "é", "\U0001f600"]
    options = {"incoming.version": "$timestamp"}
    async with tree(tmp_path, protocol=Protocol.S3, options=options) as t:
        for _ in range(4):
            for key in reversed(keys):
                await t.put(f"/NORTH/{key}", b"again")
            await t.clock.advance(timedelta(seconds=1))
        newest = await t.session.stat("/NORTH/a/1")
        assert await walked(t) == keys
        assert [node async for node in t.session.walk("/NORTH/a", limit=1)] == [newest]
        assert await walked(t, limit=4) == keys[:4]
        assert await walked(t, limit=0) == []
        assert await walked(t, after="a/1") == keys[4:]
        assert await walked(t, prefix="a") == keys[:6]
        assert await walked(t, prefix="a/", after="a/1") == ["a/b/2"]
        assert await walked(t, prefix="b", after="a") == ["b/x"]
        assert await walked(t, "/NORTH/a") == ["1", "b/2"]
        assert await walked(t, "/DATA/NORTH/a", after="1") == ["b/2"]


async def test_a_walk_through_dates(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, group_by_date=True) as t:
        for key in ("20310504/b", "20310504/a", "20310503/c"):
            await t.put(f"/NORTH/{key}")
        assert await walked(t) == ["20310503/c", "20310504/a", "20310504/b"]
        assert await walked(t, after="20310504/a") == ["20310504/b"]
        assert await walked(t, prefix="20310503", limit=1) == ["20310503/c"]
        assert await walked(t, "/NORTH/20310504") == ["a", "b"]
        assert await walked(t, "/NORTH/@latest", after="a") == ["b"]


async def test_what_cannot_be_walked(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        with pytest.raises(NotDirectory):
            await walked(t, "/NORTH/a")
        for path in ("/", "/DATA", "/NORTH/b"):
            with pytest.raises(NotFound):
                await walked(t, path)
    async with tree(tmp_path / "2", operations={Permission.GET}) as t:
        with pytest.raises(Denied):
            await walked(t)


async def test_a_walk_from_a_moved_top(tmp_path: Path) -> None:
    async with tree(tmp_path, user_options={"portal.destination": "NORTH"}) as t:
        await t.put("/a/b")
        assert [node.path async for node in t.session.walk("/")] == ["/a/b"]


async def test_other_sessions_need_not_copy_or_walk(tmp_path: Path) -> None:
    gate = DiskGate(tmp_path)
    session: Session = DiskSession(gate, "alice", Protocol.FTP, "192.0.2.1")
    with pytest.raises(Unsupported):
        await session.copy("/NORTH/a", "/NORTH/b")
    with pytest.raises(Unsupported):
        session.walk("/NORTH")
    session.using(Protocol.SCP)
