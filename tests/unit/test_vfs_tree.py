"""What a user sees: layouts, visibility, listings, views (portal.md 2.1 to 2.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    Denied,
    InputError,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotStored,
)
from ecpds.model.status import TransferStatus
from ecpds.store import transfers
from ecpds.store.db import Connection
from ecpds.vfs import listing as listings
from ecpds.vfs.contract import Listing
from tests.clock import FakeClock
from tests.tree import Tree, tree

# --- the upper levels ------------------------------------------------------------------------


async def test_ftp_and_ssh_show_the_domain_at_the_top(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.FTP) as t:
        assert await t.names("/") == ["DATA/"]
        assert await t.names("/DATA") == ["NORTH/", "SOUTH/"]
        await t.put("/DATA/NORTH/a")
        assert (await t.session.stat("/NORTH/a")).etag == (
            await t.session.stat("/DATA/NORTH/a")
        ).etag
        assert (await t.session.stat("/DATA/NORTH/a")).path == "/DATA/NORTH/a"
        assert (await t.session.stat("/")).is_directory
        assert (await t.session.stat("/DATA")).is_directory


async def test_https_shows_destinations_at_once(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        assert await t.names("/") == ["NORTH/", "SOUTH/"]
        assert await t.names("/DATA") == ["NORTH/", "SOUTH/"]


async def test_the_domain_option_moves_the_top(tmp_path: Path) -> None:
    options = {"portal.domain": "DATA"}
    async with tree(tmp_path, protocol=Protocol.SFTP, user_options=options) as t:
        assert await t.names("/") == ["NORTH/", "SOUTH/"]


async def test_the_destination_option_moves_the_top(tmp_path: Path) -> None:
    options = {"portal.destination": "NORTH"}
    async with tree(tmp_path, protocol=Protocol.SFTP, user_options=options) as t:
        node = await t.put("/a/b")
        assert node.path == "/a/b"
        assert await t.names("/") == ["a/"]
        assert await t.names("/DATA/a") == ["b"]
        assert (await t.transfers())[0].target == "a/b"
        with pytest.raises(NotFound):
            await t.session.stat("/SOUTH")


async def test_rights_always_see_the_whole_path(tmp_path: Path) -> None:
    options = {
        "portal.destination": "NORTH",
        "portal.putPathPermRegex": r"\[alice\]data:/NORTH/in/.*",
    }
    async with tree(tmp_path, user_options=options) as t:
        await t.put("/in/a")
        await t.put("/DATA/in/b")
        with pytest.raises(Denied):
            await t.put("/out/a")


async def test_rootdir_gives_another_top_name(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.rootdir": "Forecasts"}) as t:
        await t.put("/Forecasts/a")
        assert await t.names("/") == ["Forecasts/", "SOUTH/"]
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH")
        assert (await t.transfers())[0].destination == "NORTH"


async def test_s3_shows_buckets_by_a_name_of_their_own(tmp_path: Path) -> None:
    options = {"incoming.s3Bucket": "north.bucket"}
    async with tree(tmp_path, options=options, protocol=Protocol.S3) as t:
        await t.put("/north.bucket/a")
        assert await t.names("/") == ["SOUTH/", "north.bucket/"]
        async with await t.node.login(protocol=Protocol.WEBDAV) as other:
            assert (await other.stat("/NORTH/a")).size == 7


async def test_of_two_equal_top_names_the_second_keeps_its_own(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.rootdir": "SOUTH"}) as t:
        assert await t.names("/") == ["SOUTH/"]
        await t.put("/SOUTH/a")
        found = {one.destination for name in ("NORTH", "SOUTH") for one in await t.transfers(name)}
        assert len(found) == 1


async def test_unknown_inactive_and_foreign_destinations_look_alike(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.node.destination("FOREIGN")
        await t.node.destination("SOUTH", active=False)
        texts = set()
        for name in ("NOWHERE", "FOREIGN", "SOUTH"):
            for act in (t.session.stat, t.session.open_read, t.session.delete, t.session.mkdir):
                with pytest.raises(NotFound) as caught:
                    await act(f"/{name}/x")
                texts.add(caught.value.message.replace(name, ""))
            with pytest.raises(NotFound):
                await t.names(f"/{name}")
            assert not t.session.may(Permission.GET, f"/{name}/x")
        assert texts == {"//x is not there"}
        assert await t.names("/") == ["NORTH/"]


async def test_a_destination_tells_its_comment_and_newest_file(tmp_path: Path) -> None:
    async with tree(tmp_path, comment="for the north", country="NO") as t:
        await t.put("/NORTH/a")
        node = await t.session.stat("/NORTH")
        assert (node.comment, node.group, node.mtime) == ("for the north", "no", t.clock.now())
        (first, second) = [one async for one in t.session.list("/")]
        assert (first.comment, first.mtime, second.mtime) == (node.comment, node.mtime, None)
        assert await t.names("/", sort="time", order="desc") == ["NORTH/", "SOUTH/"]
        assert await t.names("/", order="desc", sort="target") == ["SOUTH/", "NORTH/"]
        assert await t.names("/", pattern="S*") == ["SOUTH/"]
        assert await t.names("/", limit=1) == ["NORTH/"]
        assert await t.names("/", cursor="NORTH") == ["SOUTH/"]


# --- by name ---------------------------------------------------------------------------------


async def test_ex_7_targets_imply_directories(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        for target in ("a/b/1", "a/2", "3"):
            await t.put(f"/NORTH/{target}")
        assert sorted(await t.names("/NORTH")) == ["3", "a/"]
        assert sorted(await t.names("/NORTH/a")) == ["2", "b/"]
        assert await t.names("/NORTH/a/b") == ["1"]
        with pytest.raises(NotDirectory):
            await t.names("/NORTH/3")
        with pytest.raises(NotFound):
            await t.names("/NORTH/c")
        with pytest.raises(IsDirectory):
            await t.session.open_read("/NORTH/a")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a/b/1/x")


async def test_names_that_tempt_the_order_of_bytes(tmp_path: Path) -> None:
    """`-` and `.` stand before `/`: a directory's place is that of its slash."""
    names = ["a", "a-b", "a.txt", "a0", "b/x", "b-c", "b.d/y", "b0", "é/z", "é", "\U0001f600"]
    async with tree(tmp_path, protocol=Protocol.S3) as t:
        for name in names:
            await t.put(f"/NORTH/{name}")
        await t.session.mkdir("/NORTH/b-d")
        expected = ["a", "a-b", "a.txt", "a0", "b-c", "b-d/", "b.d/", "b/", "b0", "é", "é/", "😀"]
        assert await t.names(sort="target") == expected
        assert await t.names(sort="target", order="desc") == expected[::-1]


async def test_only_s3_holds_a_file_and_a_directory_of_one_name(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.S3) as t:
        await t.put("/NORTH/a")
        await t.put("/NORTH/a/b")
        assert await t.names(sort="target") == ["a", "a/"]
        assert await t.names("/NORTH/a") == ["b"]
        async with await t.node.login(protocol=Protocol.FTP) as ftp:
            other = Tree(t.node, ftp, t.clock)
            assert await other.names() == ["a"]
            assert (await ftp.stat("/NORTH/a")).kind == "file"
            assert await other.get("/NORTH/a/b") == b"content"
            for path in ("/NORTH/a/c", "/NORTH/a/b/d"):
                with pytest.raises(NotDirectory):
                    await ftp.open_write(path)
            await other.put("/NORTH/d/e")
            with pytest.raises(IsDirectory):
                await ftp.open_write("/NORTH/d")


async def test_the_newest_version_of_a_name_is_shown(tmp_path: Path) -> None:
    """Versions are thinned out before anything is sorted: sort=size never shows an old one."""
    async with tree(tmp_path, options={"incoming.version": "$timestamp"}) as t:
        await t.put("/NORTH/x", b"long old content")
        await t.clock.advance(timedelta(seconds=1))
        newer = await t.put("/NORTH/x", b"new")
        await t.put("/NORTH/y", b"medium")
        assert len(await t.transfers()) == 3
        assert (await t.session.stat("/NORTH/x")).transfer_id == newer.transfer_id
        assert await t.names(sort="size", order="desc") == ["y", "x"]
        assert await t.names(sort="size") == ["x", "y"]
        assert await t.get("/NORTH/x") == b"new"


# --- by date ---------------------------------------------------------------------------------


async def test_ex_8_by_date(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, group_by_date=True) as t:
        node = await t.put("/NORTH/y")
        assert node.path == "/NORTH/20310504/y"
        await t.put("/NORTH/20310503/y", b"yesterday")
        await t.put("/NORTH/20310503/z")
        assert await t.names() == ["20310503/", "20310504/"]
        assert sorted(await t.names("/NORTH/20310503")) == ["y", "z"]
        assert await t.names("/NORTH/20310504") == ["y"]
        assert await t.get("/NORTH/20310503/y") == b"yesterday"
        assert await t.get("/NORTH/20310504/y") == b"content"
        assert await t.get("/NORTH/@latest/y") == b"content"
        with pytest.raises(InvalidName, match="Invalid date"):
            await t.session.open_write("/NORTH/oops/y")
        with pytest.raises(Denied):
            await t.session.open_write("/NORTH/20310504/deeper/y")
        for act in (t.session.mkdir, t.session.rmdir):
            with pytest.raises(Denied):
                await act("/NORTH/20310506")
        for path in ("/NORTH/20310505", "/NORTH/oops", "/NORTH/20310504/q", "/NORTH/20310504/y/z"):
            with pytest.raises(NotFound):
                await t.session.stat(path)
        with pytest.raises(NotFound):
            await t.names("/NORTH/20310505")
        with pytest.raises(NotDirectory):
            await t.names("/NORTH/20310504/y")


async def test_by_date_files_of_other_doors_show_their_base_name(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 6, tzinfo=UTC))
    async with tree(tmp_path, clock=clock) as t:
        node = await t.put("/NORTH/x/y", mtime=datetime(2031, 5, 4, 3, tzinfo=UTC))

        def set_base(db: Connection) -> None:
            db.execute(
                "UPDATE data_file SET time_base = ? WHERE id = ?",
                (int(datetime(2031, 5, 4, 3, tzinfo=UTC).timestamp()) * 1_000_000, node.file_id),
            )

        await t.node.store.write(set_base)
        await t.node.destination("NORTH", group_by_date=True)
        assert await t.names() == ["20310504/"]
        assert await t.names("/NORTH/20310504") == ["y"]
        found = await t.session.stat("/NORTH/20310504/y")
        assert (found.transfer_id, found.name) == (node.transfer_id, "y")
        assert (await t.session.stat(f"/NORTH/20310504/{node.transfer_id}")).size == 7
        await t.session.delete("/NORTH/20310504/y")
        assert await t.names() == []


async def test_by_date_in_other_formats(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 12, 31, 23, 30, tzinfo=UTC))
    for number, (pattern, name, size) in enumerate(
        [("yyyy-MM", "2031-12", 1), ("yyyy", "2031", 1), ("yyyyMMddHH", "2031123123", 1),
         ("yyyyDDD", "2031365", 1), ("HH", "20311231", 1), ("'x", "20311231", 1)]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        async with tree(folder, clock=clock, group_by_date=True, date_format=pattern) as t:
            await t.put("/NORTH/f")
            assert await t.names() == [f"{name}/"], pattern
            assert len(await t.names(f"/NORTH/{name}")) == size
            assert await t.get(f"/NORTH/{name}/f") == b"content"
            await t.put(f"/NORTH/{name}/g")
            assert await t.names() == [f"{name}/"], pattern


async def test_by_date_listings_are_sorted_and_paged(tmp_path: Path) -> None:
    async with tree(tmp_path, group_by_date=True) as t:
        for name, size in (("b", 3), ("a", 2), ("c", 1)):
            await t.put(f"/NORTH/20310504/{name}", b"x" * size)
        path = "/NORTH/20310504"
        assert await t.names(path) == ["c", "a", "b"]
        assert await t.names(path, sort="target") == ["a", "b", "c"]
        assert await t.names(path, sort="target", order="desc", limit=2) == ["c", "b"]
        assert await t.names(path, sort="size", cursor="c", limit=1) == ["a"]
        assert await t.names(path, pattern="[ab]", sort="target") == ["a", "b"]


# --- visibility ------------------------------------------------------------------------------


async def test_ex_9_an_embargo_hides_a_file_but_from_its_uploader(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.delay": "1h"}) as t:
        node = await t.put("/NORTH/a/b")
        assert (await t.session.stat("/NORTH/a/b")).transfer_id == node.transfer_id
        assert await t.names("/NORTH") == []
        with pytest.raises(NotFound):
            await t.session.open_read("/NORTH/a/b")
        async with await t.node.login() as other:
            with pytest.raises(NotFound):
                await other.stat("/NORTH/a/b")
            await t.clock.advance(timedelta(hours=1))
            assert (await other.stat("/NORTH/a/b")).size == 7
        assert await t.names("/NORTH") == ["a/"]


async def test_a_delay_after_failures_hides_nothing(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        node = await t.put("/NORTH/a")

        def delay(db: Connection) -> None:
            db.execute(
                "UPDATE transfer SET queue_at = queue_at + 600000000 WHERE id = ?",
                (node.transfer_id,),
            )

        await t.node.store.write(delay)
        assert await t.names() == ["a"]


async def test_expired_and_deleted_files_are_gone_at_once(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.lifetime": "1h"}) as t:
        await t.put("/NORTH/a/b")
        await t.clock.advance(timedelta(minutes=59))
        assert await t.names("/NORTH/a") == ["b"]
        await t.clock.advance(timedelta(minutes=1))
        assert await t.names("/NORTH") == []
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/a/b")


@pytest.mark.parametrize("status", TransferStatus)
async def test_visibility_by_status(tmp_path: Path, status: TransferStatus) -> None:
    async with tree(tmp_path) as t:
        node = await t.put("/NORTH/a")
        assert node.transfer_id is not None
        await t.node.store.write(transfers.set_status, node.transfer_id, status, now=t.clock.now())
        hidden = {TransferStatus.INIT, TransferStatus.SCHE, TransferStatus.FETC}
        assert await t.names() == ([] if status in hidden else ["a"])
        if status in hidden:
            with pytest.raises(NotStored):
                await t.session.open_read("/NORTH/a")


# --- listings --------------------------------------------------------------------------------


async def some_files(t: Tree) -> None:
    """Lay files whose orders by id, name, size and time all differ, and two directories."""
    for name, size in (("d", 2), ("b", 4), ("c", 1), ("e", 3)):
        await t.put(f"/NORTH/{name}", b"x" * size)
        await t.clock.advance(timedelta(seconds=1))
    await t.put("/NORTH/z/inner")
    await t.session.mkdir("/NORTH/a")


async def test_listings_are_sorted(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await some_files(t)
        assert await t.names() == ["e", "c", "b", "d", "a/", "z/"]  # newest first
        assert await t.names(order="asc") == ["d", "b", "c", "e", "a/", "z/"]
        assert await t.names(sort="target") == ["a/", "b", "c", "d", "e", "z/"]
        assert await t.names(sort="target", order="desc") == ["z/", "e", "d", "c", "b", "a/"]
        assert await t.names(sort="size") == ["c", "d", "e", "b", "a/", "z/"]  # no size: last
        assert await t.names(sort="size", order="desc") == ["b", "e", "d", "c", "a/", "z/"]
        assert await t.names(sort="time") == ["d", "b", "c", "e", "a/", "z/"]
        assert await t.names(sort="time", order="desc") == ["a/", "z/", "e", "c", "b", "d"]


async def test_the_destinations_order_beats_the_users(tmp_path: Path) -> None:
    given = {"incoming.sort": "name", "incoming.order": "desc"}
    async with tree(tmp_path, options=given, user_options={"portal.sort": "size"}) as t:
        await some_files(t)
        assert await t.names() == ["z/", "e", "d", "c", "b", "a/"]
        assert await t.names(sort="size") == ["c", "d", "e", "b", "a/", "z/"]
        await t.put("/SOUTH/2", b"xx")
        await t.put("/SOUTH/1", b"x")
        await t.put("/SOUTH/3", b"xxx")
        assert await t.names("/SOUTH") == ["1", "2", "3"]


@pytest.mark.parametrize("sort", [None, "size", "time", "target"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_put_together_are_the_whole(tmp_path: Path, sort: str, order: str) -> None:
    async with tree(tmp_path) as t:
        await some_files(t)
        whole = await t.names(sort=sort, order=order)
        pages, cursor = [], None
        while page := await t.names(sort=sort, order=order, limit=2, cursor=cursor):
            pages += page
            cursor = page[-1].rstrip("/")
        assert pages == whole


async def test_a_cursor_may_name_what_is_gone(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await some_files(t)
        assert await t.names(sort="target", cursor="bb") == ["c", "d", "e", "z/"]
        assert await t.names(sort="target", cursor="a/") == ["b", "c", "d", "e", "z/"]
        with pytest.raises(InputError, match="gone"):
            await t.names(sort="size", cursor="bb")


async def test_patterns(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        for name in ("x1.grib", "x2.grib", "x2.txt", "y.grib", "[a]"):
            await t.put(f"/NORTH/{name}")
        assert await t.names(sort="target", pattern="x*.grib") == ["x1.grib", "x2.grib"]
        assert await t.names(sort="target", pattern="x?.txt") == ["x2.txt"]
        assert await t.names(sort="target", pattern="[[]a]") == ["[a]"]
        assert await t.names(sort="size", pattern="y*") == ["y.grib"]
        assert await t.names(pattern="") == []
        assert await t.names(pattern="*", limit=0) == []
        desc = await t.names(sort="target", order="desc", pattern="x*")
        assert desc == ["x2.txt", "x2.grib", "x1.grib"]


async def test_long_listings_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "PAGE", 3)
    monkeypatch.setattr(listings, "HELD", 2)
    monkeypatch.setattr(listings, "SCAN", 4)
    async with tree(tmp_path) as t:
        names = [f"f{number:02d}" for number in range(11)]
        for name in names:
            await t.put(f"/NORTH/{name}")
        for name in ("f01x", "g"):
            await t.put(f"/NORTH/{name}/inner")
        whole = sorted([*names, "f01x/", "g/"])
        assert await t.names(sort="target") == whole
        assert await t.names(sort="target", order="desc") == whole[::-1]
        assert await t.names(sort="target", pattern="*9") == ["f09"]
        assert await t.names(sort="target", limit=5) == whole[:5]
        assert (await t.names())[:11] == names[::-1]
        assert await t.names(sort="size", order="desc") == [*names, "f01x/", "g/"]


async def test_a_huge_directory_is_listed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "MOST_SORTED", 3)
    async with tree(tmp_path) as t:
        for name in ("b", "d", "a", "c"):
            await t.put(f"/NORTH/{name}")
        assert await t.names(sort="size") == ["a", "b", "c", "d"]
        assert await t.names() == ["d", "c", "b", "a"]


async def test_a_file_that_goes_while_being_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE", 1)
    monkeypatch.setattr(listings, "HELD", 0)
    async with tree(tmp_path) as t:
        for name in ("a", "b", "c"):
            await t.put(f"/NORTH/{name}")
        found = t.session.list("/NORTH", Listing(sort="size"))
        seen = [(await anext(found)).name]
        await t.session.delete("/NORTH/b")
        seen += [node.name async for node in found]
        assert seen == ["a", "c"]


async def test_the_time_of_a_file_is_what_the_user_wants(tmp_path: Path) -> None:
    source = datetime(2029, 1, 1, tzinfo=UTC)
    async with tree(tmp_path, options={"incoming.delay": "1m"}) as t:
        await t.put("/NORTH/a", mtime=source)
        arrived = t.clock.now()
        await t.clock.advance(timedelta(minutes=2))
        expected = {
            "arrival": arrived, "scheduled": arrived + timedelta(minutes=1), "product": arrived,
            "source": source,
        }  # fmt: skip
        for shown, moment in expected.items():
            await t.node.user(
                "alice", destinations=("NORTH",), password=None,
                options={"portal.listTime": shown},
            )  # fmt: skip
            async with await t.node.login() as session:
                assert (await session.stat("/NORTH/a")).mtime == moment


# --- rights ----------------------------------------------------------------------------------


async def test_ex_2_the_whole_path_must_match(tmp_path: Path) -> None:
    options = {"portal.putPathPermRegex": "(.*):/MET/in/(.*)"}
    async with tree(tmp_path, user_options=options, destinations=("MET",)) as t:
        await t.put("/MET/in/a")
        await t.put("/DATA/MET/in/b")
        for path in ("/MET/inx/a", "/MET/in"):
            assert not t.session.may(Permission.PUT, path)
            with pytest.raises(Denied):
                await t.session.open_write(path)
        told = [event["error"]["message"] for event in await t.events("DEA")]
        assert told == ["Permission denied for put"] * 2


async def test_ex_3_a_bad_expression_denies(tmp_path: Path) -> None:
    def damage(db: Connection) -> None:
        db.execute("""UPDATE data_user SET options = '{"portal.getPathPermRegex": "(["}'""")

    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        await t.node.store.write(damage)
        t.node.core.bus.tell("account", "alice")
        async with await t.node.login() as session:
            with pytest.raises(Denied):
                await session.open_read("/NORTH/a")
            assert (await session.stat("/NORTH/a")).size == 7


async def test_ex_21_known_paths_without_dir(tmp_path: Path) -> None:
    granted = {Permission.GET, Permission.SIZE, Permission.MTIME, Permission.PUT}
    async with tree(tmp_path, operations=granted) as t:
        await t.put("/NORTH/a")
        with pytest.raises(Denied):
            await t.names()
        with pytest.raises(Denied):
            await t.names("/")
        assert await t.get("/NORTH/a") == b"content"
        assert (await t.session.stat("/NORTH/a")).size == 7


async def test_a_stat_needs_some_right_to_look(tmp_path: Path) -> None:
    async with tree(tmp_path, operations={Permission.PUT}) as t:
        await t.put("/NORTH/a")
        for path in ("/NORTH/a", "/NORTH", "/"):
            with pytest.raises(NotFound):
                await t.session.stat(path)
    for number, right in enumerate((Permission.SIZE, Permission.MTIME, Permission.DIR)):
        async with tree(tmp_path / str(number), operations={Permission.PUT, right}) as t:
            await t.put("/NORTH/a")
            assert (await t.session.stat("/NORTH/a")).size == 7


async def test_refusals_are_told_but_not_without_end(tmp_path: Path) -> None:
    async with tree(tmp_path, operations={Permission.GET}) as t:
        for _ in range(130):
            with pytest.raises(Denied):
                await t.session.delete("/NORTH/a")
        assert len(await t.events("DEA")) == 100


# --- one transfer by its number --------------------------------------------------------------


async def test_ex_26_a_number_reaches_only_the_own_destination(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.version": "$timestamp"}) as t:
        old = await t.put("/NORTH/a", b"old")
        await t.clock.advance(timedelta(seconds=1))
        await t.put("/NORTH/a", b"newer")
        foreign = await t.put("/SOUTH/a")
        assert await t.get(f"/NORTH/DataTransferId={old.transfer_id}") == b"old"
        texts = set()
        for name in (f"DataTransferId={foreign.transfer_id}", "DataTransferId=999", "missing"):
            with pytest.raises(NotFound) as caught:
                await t.session.open_read(f"/NORTH/{name}")
            texts.add(caught.value.message.replace(name, "*"))
        assert texts == {"/NORTH/* is not there"}
        await t.session.delete(f"/NORTH/DataTransferId={old.transfer_id}")
        assert await t.get("/NORTH/a") == b"newer"


async def test_a_number_is_no_way_around_path_rights(tmp_path: Path) -> None:
    options = {
        "portal.getPathPermRegex": r"(.*):/NORTH/(in/.*|DataTransferId=\d+)",
        "portal.dirPathPermRegex": r"(.*):/NORTH/in.*",
    }
    granted = {Permission.GET, Permission.DIR, Permission.PUT, Permission.MKDIR}
    async with tree(tmp_path, user_options=options, operations=granted) as t:
        seen, hidden = await t.put("/NORTH/in/a"), await t.put("/NORTH/out/a")
        assert await t.get(f"/NORTH/DataTransferId={seen.transfer_id}") == b"content"
        with pytest.raises(Denied):
            await t.session.open_read(f"/NORTH/DataTransferId={hidden.transfer_id}")
        with pytest.raises(NotFound):
            await t.session.stat(f"/NORTH/DataTransferId={hidden.transfer_id}")
