"""Make, remove, rename (portal.md 2.6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    LimitError,
    NotDirectory,
    NotEmpty,
    NotFound,
    Unsupported,
)
from ecpds.model.status import TransferStatus
from ecpds.store import files, transfers
from ecpds.vfs import changes
from tests.clock import FakeClock
from tests.tree import Tree, tree

S = TransferStatus


# --- directories -----------------------------------------------------------------------------


async def test_a_made_directory_is_there_and_never_disseminated(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.session.mkdir("/NORTH/a")
        await t.session.mkdir("/NORTH/b/c")
        assert await t.names(sort="target") == ["a/", "b/"]
        assert await t.names("/NORTH/a") == []
        assert await t.names("/NORTH/b") == ["c/"]
        node = await t.session.stat("/NORTH/b")
        assert (node.is_directory, node.mtime, node.size) == (True, t.clock.now(), 0)
        assert await t.transfers() == []


async def test_a_directory_is_not_made_twice_nor_over_a_file(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a/f")
        await t.session.mkdir("/NORTH/b")
        for path in ("/NORTH/a", "/NORTH/a/f", "/NORTH/b"):
            with pytest.raises(Exists):
                await t.session.mkdir(path)
        with pytest.raises(NotDirectory):
            await t.session.mkdir("/NORTH/a/f/g")
        with pytest.raises(InvalidName):
            await t.session.mkdir("/NORTH/c//d")
        for path in ("/", "/DATA", "/NORTH"):
            with pytest.raises(Denied):
                await t.session.mkdir(path)
        with pytest.raises(NotFound):
            await t.session.mkdir("/NEW")


async def test_only_an_empty_directory_is_removed(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.session.mkdir("/NORTH/a/b")
        await t.put("/NORTH/f")
        with pytest.raises(NotEmpty):
            await t.session.rmdir("/NORTH/a")
        with pytest.raises(NotDirectory):
            await t.session.rmdir("/NORTH/f")
        with pytest.raises(NotFound):
            await t.session.rmdir("/NORTH/c")
        for path in ("/", "/DATA/NORTH", "/NORTH"):
            with pytest.raises(Denied):
                await t.session.rmdir(path)
        await t.session.rmdir("/NORTH/a/b")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a")  # it was there only for its member


async def test_a_directory_with_members_is_removed_when_asked(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.WEBDAV) as t:
        for name in ("a/1", "a/2", "a/b/3", "ab"):
            await t.put(f"/NORTH/{name}")
        await t.session.mkdir("/NORTH/a/c/d")
        await t.session.rmdir("/NORTH/a", recursive=True)
        assert await t.names() == ["ab"]
        assert [one.target for one in await t.transfers()] == ["ab"]
        steps = await t.steps(1)
        assert steps[-1].comment == "Deleted by DataUser=alice via webdav"


async def test_members_are_removed_only_with_the_right_to_delete_each(tmp_path: Path) -> None:
    options = {"portal.deletePathPermRegex": r"(.*):/NORTH/a/1"}
    async with tree(tmp_path, user_options=options) as t:
        await t.put("/NORTH/a/1")
        await t.put("/NORTH/a/2")
        with pytest.raises(Denied):
            await t.session.rmdir("/NORTH/a", recursive=True)
        assert sorted(await t.names("/NORTH/a")) == ["1", "2"]


async def test_a_directory_too_large_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_REMOVED", 2)
    monkeypatch.setattr(changes, "BATCH", 1)
    async with tree(tmp_path) as t:
        for name in ("1", "2", "3"):
            await t.put(f"/NORTH/a/{name}")
        with pytest.raises(LimitError):
            await t.session.rmdir("/NORTH/a", recursive=True)
        await t.session.delete("/NORTH/a/3")
        await t.session.rmdir("/NORTH/a", recursive=True)
        assert await t.names() == []


# --- delete ----------------------------------------------------------------------------------


async def test_a_delete_takes_the_file_of_this_destination_only(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.FTP, aliases={"SOUTH": ""}) as t:
        node = await t.put("/NORTH/a")
        await t.session.delete("/NORTH/a")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a")
        assert await t.get("/SOUTH/a") == b"content"
        gone = await t.transfer(node.transfer_id or 0)
        assert (gone.deleted, gone.status) == (True, S.STOP)
        step = (await t.steps(gone.id))[-1]
        assert (step.comment, step.user) == ("Deleted by DataUser=alice via ftp", "alice")
        assert (await t.events("DEL"))[0]["transfer_id"] == gone.id
        stored = await t.node.store.read(files.get, node.file_id or 0)
        assert stored is not None
        assert not stored.deleted
        await t.session.delete("/SOUTH/a")
        stored = await t.node.store.read(files.get, node.file_id or 0)
        assert stored is not None
        assert stored.deleted


async def test_a_cascade_takes_the_copies_too(tmp_path: Path) -> None:
    options = {"incoming.deleteCascade": "yes"}
    async with tree(tmp_path, options=options, aliases={"SOUTH": ""}) as t:
        await t.put("/NORTH/a")
        await t.session.delete("/NORTH/a")
        assert await t.transfers("SOUTH") == []


async def test_no_older_version_comes_back(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.version": "$timestamp"}) as t:
        for _ in range(3):
            await t.put("/NORTH/a")
            await t.clock.advance(timedelta(seconds=1))
        await t.session.delete("/NORTH/a")
        assert await t.names() == []
        assert await t.transfers() == []


async def test_what_cannot_be_deleted(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a/b")
        for path in ("/NORTH/a", "/NORTH", "/", "/DATA"):
            with pytest.raises(IsDirectory):
                await t.session.delete(path)
        with pytest.raises(NotFound):
            await t.session.delete("/NORTH/c")
        await t.session.delete("/NORTH/a/b")
        with pytest.raises(NotFound):
            await t.session.delete("/NORTH/a/b")


async def test_an_upload_under_embargo_can_be_deleted_when_its_time_has_come(
    tmp_path: Path,
) -> None:
    async with tree(tmp_path, options={"incoming.delay": "1h"}) as t:
        await t.put("/NORTH/a")
        with pytest.raises(NotFound):
            await t.session.delete("/NORTH/a")
        await t.clock.advance(timedelta(hours=1))
        await t.session.delete("/NORTH/a")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a")


# --- rename ----------------------------------------------------------------------------------


async def test_a_rename_takes_the_unique_key_along(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        first = await t.put("/NORTH/a", b"first")
        await t.session.rename("/NORTH/a", "/NORTH/d/b")
        renamed = await t.session.stat("/NORTH/d/b")
        assert (renamed.transfer_id, renamed.etag) == (first.transfer_id, first.etag)
        assert await t.names() == ["d/"]
        second = await t.put("/NORTH/a", b"second")
        assert second.file_id != first.file_id  # the old name is a new file
        assert await t.get("/NORTH/d/b") == b"first"
        third = await t.put("/NORTH/d/b", b"third")
        assert third.transfer_id == first.transfer_id
        step = (await t.steps(first.transfer_id or 0))[1]
        assert (step.comment, step.user) == ("Renamed from a to d/b", "alice")
        assert (await t.transfer(first.transfer_id or 0)).identity == "d/b"


async def test_an_existing_name_is_replaced_only_when_asked(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a", b"a")
        await t.put("/NORTH/b", b"b")
        await t.put("/NORTH/d/e")
        with pytest.raises(Exists):
            await t.session.rename("/NORTH/a", "/NORTH/b")
        for replace in (False, True):
            with pytest.raises(Exists):
                await t.session.rename("/NORTH/a", "/NORTH/d", replace=replace)
        with pytest.raises(NotDirectory):
            await t.session.rename("/NORTH/a", "/NORTH/b/c")
        await t.session.rename("/NORTH/a", "/NORTH/b", replace=True)
        assert await t.get("/NORTH/b") == b"a"
        assert sorted(one.target for one in await t.transfers()) == ["b", "d/e"]
        await t.session.rename("/NORTH/b", "/NORTH/b", replace=True)
        assert await t.get("/NORTH/b") == b"a"


async def test_a_rename_stays_in_its_destination(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        for path in ("/SOUTH/a", "/a", "/NORTH", "/"):
            with pytest.raises((Unsupported, NotFound)):
                await t.session.rename("/NORTH/a", path)
        with pytest.raises(Denied):
            await t.session.rename("/NORTH", "/NORTH/b")
        with pytest.raises(NotFound):
            await t.session.rename("/NORTH/x", "/NORTH/y")


async def test_a_rename_is_checked_on_both_names(tmp_path: Path) -> None:
    options = {"portal.renamePathPermRegex": r"(.*):/NORTH/in/.*"}
    async with tree(tmp_path, user_options=options) as t:
        await t.put("/NORTH/in/a")
        await t.put("/NORTH/out/a")
        await t.session.rename("/NORTH/in/a", "/NORTH/in/b")
        for old, new in (("in/b", "out/b"), ("out/a", "in/a")):
            with pytest.raises(Denied):
                await t.session.rename(f"/NORTH/{old}", f"/NORTH/{new}")


async def test_aliases_follow_the_new_name(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": "target=copy/$name"}) as t:
        await t.put("/NORTH/a")
        await t.session.rename("/NORTH/a", "/NORTH/b")
        assert await t.names("/SOUTH/copy") == ["b"]
        await t.put("/NORTH/b", b"again")  # finds the original and its copy by the key
        assert await t.get("/SOUTH/copy/b") == b"again"
        assert len(await t.transfers("SOUTH")) == 1


async def test_a_copy_that_the_rules_no_longer_make_keeps_its_name(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": r"pattern=a.*"}) as t:
        await t.put("/NORTH/a")
        await t.session.rename("/NORTH/a", "/NORTH/b")
        assert await t.names("/SOUTH") == ["a"]


async def test_renaming_a_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": ""}) as t:
        await t.put("/NORTH/a")
        await t.session.rename("/SOUTH/a", "/SOUTH/b")
        assert (await t.names("/NORTH"), await t.names("/SOUTH")) == (["a"], ["b"])
        await t.put("/NORTH/a", b"again")
        assert await t.get("/NORTH/a") == b"again"
        assert len(await t.transfers("SOUTH")) == 1


async def test_one_that_is_being_sent_is_sent_again_under_its_new_name(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        await t.node.store.write(transfers.set_status, 1, S.EXEC, now=t.clock.now())
        await t.session.rename("/NORTH/a", "/NORTH/b")
        assert (await t.transfer(1)).status is S.RETR
        await t.node.store.write(transfers.set_status, 1, S.DONE, now=t.clock.now())
        await t.session.rename("/NORTH/b", "/NORTH/c")
        assert (await t.transfer(1)).status is S.DONE


async def test_all_versions_move_together(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.version": "$timestamp"}) as t:
        for content in (b"one", b"two"):
            await t.put("/NORTH/a", content)
            await t.clock.advance(timedelta(seconds=1))
        await t.session.rename("/NORTH/a", "/NORTH/b")
        assert await t.names() == ["b"]
        assert await t.get("/NORTH/b") == b"two"


async def test_a_directory_is_renamed_with_everything_below(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": ""}) as t:
        for name in ("a/1", "a/b/2", "ab"):
            await t.put(f"/NORTH/{name}")
        await t.session.mkdir("/NORTH/a/c/é")
        await t.session.rename("/NORTH/a", "/NORTH/x/y")
        assert sorted(await t.names()) == ["ab", "x/"]
        assert sorted(await t.names("/NORTH/x/y")) == ["1", "b/", "c/"]
        assert await t.names("/NORTH/x/y/c") == ["é/"]
        assert sorted(await t.names("/SOUTH/x/y")) == ["1", "b/"]
        again = await t.put("/NORTH/x/y/1", b"again")
        assert again.transfer_id == 1 or len(await t.transfers()) == 3
        for new in ("/NORTH/ab", "/NORTH/ab/c", "/NORTH/x/y/z"):
            with pytest.raises((Exists, NotDirectory, Unsupported)):
                await t.session.rename("/NORTH/x", new)
        await t.session.mkdir("/NORTH/there")
        with pytest.raises(Exists):
            await t.session.rename("/NORTH/x", "/NORTH/there", replace=True)


async def test_a_directory_is_renamed_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_RENAMED", 2)
    options = {"portal.renamePathPermRegex": r"(.*):/NORTH/(.(/1)?|e.*)"}
    async with tree(tmp_path, user_options=options) as t:
        for name in ("a/1", "a/2", "e/1", "e/2", "e/3"):
            await t.put(f"/NORTH/{name}")
        with pytest.raises(Denied):
            await t.session.rename("/NORTH/a", "/NORTH/b")
        with pytest.raises(LimitError):
            await t.session.rename("/NORTH/e", "/NORTH/ee")
        assert sorted(await t.names()) == ["a/", "e/"]
        assert sorted(await t.names("/NORTH/a")) == ["1", "2"]


async def test_a_name_held_by_something_hidden_is_not_taken(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        await t.node.destination("NORTH", options={"incoming.delay": "1h"})
        await t.put("/NORTH/hidden")
        with pytest.raises(Exists):
            await t.session.rename("/NORTH/a", "/NORTH/hidden", replace=True)


async def test_by_date_a_file_stays_in_its_date(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, group_by_date=True) as t:
        await t.put("/NORTH/20310503/a")
        await t.session.rename("/NORTH/20310503/a", "/NORTH/20310503/b")
        assert await t.names("/NORTH/20310503") == ["b"]
        for new in ("20310504/b", "b", "20310503/c/d"):
            with pytest.raises(Unsupported):
                await t.session.rename("/NORTH/20310503/b", f"/NORTH/{new}")
        with pytest.raises(Denied):
            await t.session.rename("/NORTH/20310503", "/NORTH/20310504")
        await t.put("/NORTH/20310503/c")
        with pytest.raises(Exists):
            await t.session.rename("/NORTH/20310503/b", "/NORTH/20310503/c")
        await t.session.rename("/NORTH/20310503/b", "/NORTH/20310503/c", replace=True)
        assert await t.names("/NORTH/20310503") == ["c"]
        await t.session.delete("/NORTH/20310503/c")
        assert await t.names() == []


# --- times -----------------------------------------------------------------------------------


async def test_a_time_is_kept_as_that_of_the_source(tmp_path: Path) -> None:
    moment = datetime(2029, 1, 1, tzinfo=UTC)
    async with tree(tmp_path, user_options={"portal.listTime": "source"}) as t:
        await t.put("/NORTH/d/a")
        await t.session.set_mtime("/NORTH/d/a", moment)
        assert (await t.session.stat("/NORTH/d/a")).mtime == moment
        await t.session.set_mtime("/NORTH/d", moment)  # succeeds without effect
        await t.session.set_mtime("/NORTH", moment)
        with pytest.raises(NotFound):
            await t.session.set_mtime("/NORTH/b", moment)


async def test_who_may_write_may_set_the_time(tmp_path: Path) -> None:
    moment = datetime(2029, 1, 1, tzinfo=UTC)
    options = {"incoming.delay": "1h"}
    async with tree(tmp_path, operations={Permission.PUT}, options=options) as t:
        await t.put("/NORTH/a")
        await t.session.set_mtime("/NORTH/a", moment)  # under embargo, by its uploader
        stored = await t.node.store.read(files.get, 1)
        assert stored is not None
        assert stored.file_time == moment
    async with tree(tmp_path / "2", operations={Permission.GET}) as t:
        with pytest.raises(Denied):
            await t.session.set_mtime("/NORTH/a", moment)


async def test_read_your_writes_across_sessions(tmp_path: Path) -> None:
    async with (
        tree(tmp_path, protocol=Protocol.SFTP) as t,
        await t.node.login(protocol=Protocol.HTTPS) as session,
    ):
        other = Tree(t.node, session, t.clock)
        await t.put("/DATA/NORTH/a/1")
        assert await other.names("/NORTH/a") == ["1"]
        ours, theirs = await t.session.stat("/NORTH/a/1"), await session.stat("/NORTH/a/1")
        assert (ours.size, ours.mtime, ours.etag) == (theirs.size, theirs.mtime, theirs.etag)
        await session.delete("/NORTH/a/1")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a/1")
