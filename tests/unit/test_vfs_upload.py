"""Uploads: all or nothing, and what becomes of them (portal.md 2.7, 2.8, Ex 10 to 15, 25)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import (
    BadState,
    Busy,
    ChecksumMismatch,
    Denied,
    EcpdsError,
    Exists,
    Incomplete,
    InputError,
    InvalidName,
    IsDirectory,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    TooManyPending,
    Unsupported,
)
from ecpds.model.status import TransferStatus
from ecpds.store import files
from ecpds.store.db import Connection
from ecpds.vfs import handles
from tests.clock import FakeClock
from tests.tree import Tree, tree

S = TransferStatus


def objects(t: Tree) -> list[Path]:
    """Return all objects, sealed or under way."""
    return [path for path in t.node.core.objects.volumes[0].path.rglob("*") if path.is_file()]


async def test_an_upload_is_one_file_with_history_and_event(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, protocol=Protocol.SFTP, country="no") as t:
        async with await t.session.open_write("/NORTH/a.grb", size=42) as writer:
            assert (writer.received, writer.limit) == (0, None)
            assert writer.write(b"x" * 40) == 40
            assert await t.names() == []
            await clock.advance(timedelta(seconds=2))
            os.pwrite(writer.descriptor, b"yy", writer.received)
            writer.advance(2)
            assert writer.received == 42
            node = await writer.commit(size=42)
        assert (node.path, node.size, node.mtime) == ("/NORTH/a.grb", 42, clock.now())
        assert node == await t.session.stat("/NORTH/a.grb")
        assert await t.get("/NORTH/a.grb") == b"x" * 40 + b"yy"
        (transfer,) = await t.transfers()
        assert (transfer.status, transfer.priority) == (S.WAIT, 99)
        assert transfer.expires_at == clock.now() + timedelta(days=2)
        step = (await t.steps(transfer.id))[0]
        assert step.comment == (
            "42 byte(s) uploaded by DataUser=alice from 198.51.100.7 using sftp on DataMover=m1 "
            "(0.00 Mbits/s)"
        )
        row = (await t.incoming())[0]
        assert (row.user, row.action, row.bytes, row.outcome) == ("alice", "upload", 42, "ok")
        assert (row.transfer, row.duration) == (transfer.id, timedelta(seconds=2))
        event = (await t.events("INH"))[0]
        assert (event["action"], event["bytes"], event["outcome"]) == ("upload", 42, "ok")
        assert (event["transfer_id"], event["file_id"]) == (node.transfer_id, node.file_id)
        assert event["duration_ms"] == 2000
        assert event["user"]["id"] == "alice"
        assert event["user"]["country"] == "fr"
        assert event["user"]["description"] == "Alice"
        assert event["net"] == {
            "protocol": "sftp", "client": "198.51.100.7", "server": "m1", "tls": None
        }  # fmt: skip
        assert event["destination"]["name"] == "NORTH"
        assert event["meta"]["base"] == "2031-05-04T10:00:02.000Z"


async def test_ex_16_the_etag_is_file_and_instance(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        first = await t.put("/NORTH/x")
        for _ in range(2):
            second = await t.put("/NORTH/x", b"again")
        assert first.file_id == second.file_id == 1
        assert first.etag == '"00000000-0000-0001-0000-000000000000"'
        assert second.etag == '"00000000-0000-0001-0000-000000000002"'


async def test_ex_14_a_second_upload_replaces_the_first(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        first = await t.put("/NORTH/x", b"one")
        reader = await t.session.open_read("/NORTH/x")
        second = await t.put("/NORTH/x", b"second")
        assert first.transfer_id == second.transfer_id
        (transfer,) = await t.transfers()
        assert (transfer.status, transfer.size) == (S.RETR, 6)
        stored = await t.node.store.read(files.get, first.file_id or 0)
        assert stored is not None
        assert stored.instance == 1
        assert await t.get("/NORTH/x") == b"second"
        await t.node.engine.retention.purge_bytes()
        assert reader.read(0, 10) == b"one"  # whoever opened it keeps it
        await reader.close()
        assert len(objects(t)) == 1


async def test_ex_13_delay_and_version(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    options = {"incoming.delay": "10m", "incoming.version": "$date-$target"}
    async with tree(tmp_path, clock=clock, options=options) as t:
        await t.put("/NORTH/x")
        (transfer,) = await t.transfers()
        assert transfer.scheduled_at == datetime(2031, 5, 4, 10, 10, tzinfo=UTC)
        assert transfer.unique_name == "20310504-x"


async def test_ex_15_metadata_come_from_the_name(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.metadata": "type=$target[0..2]"}) as t:
        await t.put("/NORTH/FC01", metadata={"colour": "blue"})
        node = await t.session.stat("/NORTH/FC01")
        assert node.metadata == {"type": "FC", "colour": "blue"}
        stored = await t.node.store.read(files.get, node.file_id or 0)
        assert stored is not None
        assert stored.meta_type == "FC"


@pytest.mark.parametrize("text", ["type=$target[0..9]", "$( js:1 )", "step=x$target"])
async def test_metadata_that_fail_refuse_or_are_left_out(tmp_path: Path, text: str) -> None:
    async with tree(tmp_path, options={"incoming.metadata": text}) as t:
        if not text.startswith("step"):
            assert (await t.put("/NORTH/FC")).metadata == {}
        strict = {"incoming.metadata": text, "incoming.failOnMetadataParsingError": "yes"}
        await t.node.destination("NORTH", options=strict)
        with pytest.raises(InputError):
            await t.put("/NORTH/FD")
        assert "FD" not in await t.names()
        assert len(objects(t)) == len(await t.names())


async def test_incoming_options_reach_the_transfer(tmp_path: Path) -> None:
    options = {
        "incoming.priority": "7", "incoming.lifetime": "3h", "incoming.event": "yes",
        "incoming.standby": "yes",
    }  # fmt: skip
    async with tree(tmp_path, options=options) as t:
        await t.put("/NORTH/a")
        (transfer,) = await t.transfers()
        assert (transfer.priority, transfer.status, transfer.event) == (7, S.HOLD, True)
        assert transfer.expires_at == t.clock.now() + timedelta(hours=3)


async def test_aliases_make_copies_and_a_new_version_renews_them(tmp_path: Path) -> None:
    async with tree(tmp_path, aliases={"SOUTH": "target=copy/$name,priority=5"}) as t:
        node = await t.put("/NORTH/a")
        (copy,) = await t.transfers("SOUTH")
        assert (copy.target, copy.priority, copy.data_file) == ("copy/a", 5, node.file_id)
        assert await t.get("/SOUTH/copy/a") == b"content"
        await t.put("/NORTH/a", b"new")
        assert await t.get("/SOUTH/copy/a") == b"new"
        assert len(await t.transfers("SOUTH")) == 1


async def test_by_date_the_directory_is_the_product_date(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 10, tzinfo=UTC))
    async with tree(tmp_path, clock=clock, group_by_date=True) as t:
        node = await t.put("/NORTH/20310501/f")
        stored = await t.node.store.read(files.get, node.file_id or 0)
        assert stored is not None
        assert stored.time_base == datetime(2031, 5, 1, tzinfo=UTC)
        assert node.path == "/NORTH/20310501/f"
        assert (await t.session.stat(node.path)).metadata == {"date": "2031050100"}
        again = await t.put("/NORTH/20310501/f", b"again")
        assert again.file_id == node.file_id
        today = await t.put("/NORTH/f")
        assert today.path == "/NORTH/20310504/f"
        assert today.file_id != node.file_id
        assert await t.get("/NORTH/20310501/f") == b"again"


# --- temporary names -------------------------------------------------------------------------


async def statuses(t: Tree) -> dict[str, TransferStatus]:
    """Return the status of each target."""
    return {one.target: one.status for one in await t.transfers()}


async def test_ex_10_and_11_temporary_names_are_held_until_renamed(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.tmpDetect": "yes"}) as t:
        await t.put("/NORTH/d/.f")
        assert await statuses(t) == {"d/.f": S.HOLD}
        await t.session.rename("/NORTH/d/.f", "/NORTH/d/f")
        assert await statuses(t) == {"d/f": S.WAIT}
        await t.put("/NORTH/f.TMP")
        await t.session.rename("/NORTH/f.TMP", "/NORTH/g.tmp")
        assert (await statuses(t))["g.tmp"] is S.HOLD
        await t.session.rename("/NORTH/g.tmp", "/NORTH/g")
        assert (await statuses(t))["g"] is S.WAIT
        await t.session.rename("/NORTH/g", "/NORTH/.g")
        assert (await statuses(t))[".g"] is S.HOLD


async def test_ex_12_the_pattern_of_temporary_names_can_be_chosen(tmp_path: Path) -> None:
    options = {"incoming.tmpDetect": "yes", "incoming.tmpPattern": r"(.*)\.part"}
    async with tree(tmp_path, options=options) as t:
        await t.put("/NORTH/.x")
        await t.put("/NORTH/y.part")
        assert await statuses(t) == {".x": S.WAIT, "y.part": S.HOLD}


@pytest.mark.parametrize("option", ["incoming.standby", "scheduler.standby"])
async def test_standby_outlasts_the_temporary_name(tmp_path: Path, option: str) -> None:
    async with tree(tmp_path, options={"incoming.tmpDetect": "yes", option: "yes"}) as t:
        await t.put("/NORTH/.x")
        await t.session.rename("/NORTH/.x", "/NORTH/x")
        assert await statuses(t) == {"x": S.HOLD}


async def test_without_detection_names_mean_nothing(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/.x")
        assert await statuses(t) == {".x": S.WAIT}


# --- nothing but a positive end --------------------------------------------------------------


async def test_an_upload_that_is_left_registers_nothing(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        async with await t.session.open_write("/NORTH/a") as writer:
            writer.write(b"half")
        assert await t.transfers() == []
        assert objects(t) == []
        row = (await t.incoming())[0]
        assert (row.outcome, row.bytes, row.file_name) == ("failed", 4, "a")
        await writer.close()
        with pytest.raises(BadState):
            await writer.commit()


@pytest.mark.parametrize(
    ("sent", "promise", "size"),
    [(b"12345", None, 6), (b"12345", None, 4), (b"12345", 6, None), (b"", 1, None)],
)
async def test_short_and_long_uploads_are_refused(
    tmp_path: Path, sent: bytes, promise: int | None, size: int | None
) -> None:
    async with tree(tmp_path) as t:
        with pytest.raises(Incomplete):
            await t.send("/NORTH/a", sent, size=promise, end={"size": size})
        assert await t.transfers() == []
        assert objects(t) == []


async def test_holes_are_refused_and_disorder_is_not(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        with pytest.raises(Incomplete, match="missing"):
            await t.send("/NORTH/a", (4, b"cc"), (0, b"aa"))
        await t.send("/NORTH/a", (4, b"cc"), (0, b"aa"), (2, b"bb"), end={"size": 6})
        assert await t.get("/NORTH/a") == b"aabbcc"


async def test_announced_digests_are_checked_and_remembered(tmp_path: Path) -> None:
    content = b"content"
    good = {
        "MD5": hashlib.md5(content).hexdigest().upper(),
        "adler32": f"{zlib.adler32(content):08x}",
    }
    async with tree(tmp_path) as t:
        with pytest.raises(ChecksumMismatch):
            await t.send("/NORTH/a", content, end={"digests": {"sha256": "00"}})
        assert objects(t) == []
        node = await t.send("/NORTH/a", content, end={"digests": good})
        known = await t.node.store.read(files.digests, node.file_id or 0, None)
        assert known["md5"] == good["MD5"].lower()


async def test_an_etag_of_s3_is_everybodys(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.S3) as t:
        async with await t.session.open_write("/NORTH/a") as writer:
            writer.write(b"x")
            node = await writer.commit(etag="0123456789abcdef0123456789abcdef-2")
        assert node.etag == '"0123456789abcdef0123456789abcdef-2"'
        async with await t.node.login() as other:
            assert (await other.stat("/NORTH/a")).etag == node.etag
        assert (await t.put("/NORTH/a")).etag == '"00000000-0000-0001-0000-000000000001"'


async def test_conditions(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        with pytest.raises(PreconditionFailed):
            await t.put("/NORTH/a", if_match=("*",))
        first = await t.put("/NORTH/a", exclusive=True)
        with pytest.raises(Exists):
            await t.put("/NORTH/a", exclusive=True)
        with pytest.raises(PreconditionFailed):
            await t.put("/NORTH/a", if_match=('"x"',))
        await t.put("/NORTH/a", if_match=('"x"', first.etag))
        with pytest.raises(PreconditionFailed):
            await t.put("/NORTH/a", if_match=(first.etag,))


async def test_a_condition_is_checked_again_at_the_end(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.version": "$timestamp"}) as t:
        async with await t.session.open_write("/NORTH/a", exclusive=True) as writer:
            await t.put("/NORTH/a")
            with pytest.raises(Exists):
                await writer.commit()
        assert len(objects(t)) == 1


async def test_one_name_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        async with await t.session.open_write("/NORTH/a") as writer:
            with pytest.raises(Busy, match="Already processed by alice"):
                await t.session.open_write("/NORTH/a")
            await t.put("/NORTH/b")
            await writer.commit()
            with pytest.raises(Busy):
                await t.session.open_write("/NORTH/a")
        await t.put("/NORTH/a")


async def test_a_refused_upload_leaves_no_lock(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/d/e")
        for _ in range(2):
            with pytest.raises(IsDirectory):
                await t.session.open_write("/NORTH/d")
        assert objects(t) != []


# --- places and limits -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/DATA", "/NORTH"])
async def test_files_live_in_destinations(tmp_path: Path, path: str) -> None:
    async with tree(tmp_path) as t:
        with pytest.raises((Denied, IsDirectory)):
            await t.session.open_write(path)


async def test_a_name_must_be_found_again(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        for path in ("/NORTH/a//b", "/NORTH/a\nb", "/NORTH/" + "/".join(["x" * 200] * 6)):
            with pytest.raises(InvalidName):
                await t.session.open_write(path)


async def test_a_missing_directory_needs_mkdir(tmp_path: Path) -> None:
    granted = {Permission.PUT, Permission.DIR}
    async with tree(tmp_path, operations=granted) as t:
        with pytest.raises(Denied):
            await t.session.open_write("/NORTH/new/a")
        await t.put("/NORTH/a")
        with pytest.raises(NotFound):
            await t.session.open_write("/NORTH/new/a", make_parents=False)
    async with tree(tmp_path / "2") as t:
        with pytest.raises(NotFound):
            await t.session.open_write("/NORTH/new/a", make_parents=False)
        await t.session.mkdir("/NORTH/new")
        await t.put("/NORTH/new/a", make_parents=False)


async def test_the_largest_file_is_enforced_byte_by_byte(tmp_path: Path) -> None:
    async with tree(tmp_path, max_file_size=10) as t:
        with pytest.raises(TooLarge):
            await t.session.open_write("/NORTH/a", size=11)
        async with await t.session.open_write("/NORTH/a") as writer:
            assert writer.limit == 10
            writer.write(b"x" * 10)
            with pytest.raises(TooLarge):
                writer.write(b"x")
            os.pwrite(writer.descriptor, b"x", 10)
            with pytest.raises(TooLarge):
                writer.advance(1)
        await t.put("/NORTH/a", b"x" * 10)
        assert len(await t.transfers()) == 1


async def test_a_full_queue_refuses_new_files_only(tmp_path: Path) -> None:
    async with tree(tmp_path, max_pending=2) as t:
        await t.put("/NORTH/a")
        await t.put("/NORTH/b")
        with pytest.raises(TooManyPending):
            await t.put("/NORTH/c")
        await t.put("/NORTH/a", b"new")


@pytest.mark.parametrize("whose", ["user", "destination"])
async def test_upload_quotas(tmp_path: Path, whose: str) -> None:
    prefix = {"user": "portal", "destination": "incoming"}[whose]
    given = {f"{prefix}.maxUploadBytes": "1KB", f"{prefix}.uploadPeriod": "1h"}
    options: dict[str, Any] = {"user": {"user_options": given}, "destination": {"options": given}}
    async with tree(tmp_path, **options[whose]) as t:
        await t.put("/NORTH/a", b"x" * 700)
        await t.put("/NORTH/b", b"x" * 700)
        with pytest.raises(QuotaExceeded) as caught:
            await t.put("/NORTH/c")
        middle = " for destination NORTH" if whose == "destination" else ""
        expected = f"Upload quota exceeded{middle} (1.4 KB of 1 KB in the last 1h)"
        assert caught.value.message == expected
        if whose == "destination":
            await t.put("/SOUTH/c")
        await t.clock.advance(timedelta(hours=1))
        with pytest.raises(QuotaExceeded):
            await t.put("/NORTH/huge", b"x" * 1025)
        await t.put("/NORTH/c")
        space = await t.session.space("/NORTH")
        assert space is not None
        assert (space.total, space.free) == (1024, 1024 - 7)


async def test_a_quota_that_is_nearly_used_up_is_told(tmp_path: Path) -> None:
    options = {"portal.maxUploadBytes": "1000B", "portal.uploadPeriod": "1h"}
    async with tree(tmp_path, user_options=options) as t:
        for size in (700, 99, 1, 100, 100):
            await t.put("/NORTH/a", b"x" * size)
        told = [(e["percent"], e["used"], e["holder"]) for e in await t.events("QTA")]
        assert told == [(80, 800, "user:alice"), (100, 1000, "user:alice")]


async def test_a_full_volume(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        space = await t.session.space("/")
        assert space is not None
        assert 0 < space.free <= space.total
        with pytest.raises(StorageFull):
            await t.session.open_write("/NORTH/a", size=2**60)
        await t.put("/NORTH/a")


@pytest.mark.parametrize("point", ["objects.synced:full", "objects.renamed:error"])
async def test_a_disk_that_fails_registers_nothing(tmp_path: Path, point: str) -> None:
    async with tree(tmp_path, failpoints=point) as t:
        with pytest.raises((EcpdsError, OSError)):
            await t.put("/NORTH/a")
        assert await t.transfers() == []
        assert objects(t) == []
        await t.put("/NORTH/a")


async def test_a_store_that_fails_leaves_no_object(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:

        def fill(db: Connection) -> None:
            db.execute(
                "CREATE TRIGGER full BEFORE INSERT ON transfer BEGIN SELECT RAISE(ABORT, 'x'); END"
            )

        await t.node.store.write(fill)
        with pytest.raises(Exception, match="x"):
            await t.put("/NORTH/a")
        assert objects(t) == []
        await t.node.store.write(lambda db: db.execute("DROP TRIGGER full"))
        await t.put("/NORTH/a")


async def test_a_client_that_goes_away_at_the_end_loses_nothing_registered(
    tmp_path: Path,
) -> None:
    async with tree(tmp_path) as t:
        writer = await t.session.open_write("/NORTH/a")
        writer.write(b"content")

        async def commit() -> None:
            async with writer:
                await writer.commit()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(commit())
            while not writer._is_registering:  # type: ignore[attr-defined] # the very moment
                await asyncio.sleep(0)
            task.cancel()
        while not await t.transfers():
            await asyncio.sleep(0.001)
        assert await t.get("/NORTH/a") == b"content"
        await t.put("/NORTH/a", b"the lock is gone")


# --- parked uploads --------------------------------------------------------------------------


async def park(t: Tree, path: str, content: bytes) -> None:
    """Break an upload off after `content`."""
    async with await t.session.open_write(path) as writer:
        writer.write(content)
        writer.park()


async def test_ex_25_a_broken_upload_is_gone_on_with(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        with pytest.raises(Incomplete):
            await t.send("/NORTH/a", b"0123456789", size=20, park=True)
        assert await t.transfers() == []
        assert await t.session.parked("/NORTH/a") == 10
        assert await t.session.parked("/NORTH/b") == 0
        async with await t.session.open_write("/NORTH/a", offset=10) as writer:
            assert writer.received == 10
            writer.write(b"abcdefghij")
            node = await writer.commit(size=20)
        assert node.size == 20
        assert len(await t.transfers()) == 1
        assert await t.get("/NORTH/a") == b"0123456789abcdefghij"
        assert await t.session.parked("/NORTH/a") == 0
        assert len(objects(t)) == 1
        assert node.checksum == f"{zlib.adler32(b'0123456789abcdefghij'):08x}"


async def test_a_parked_upload_survives_a_restart(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await park(t, "/NORTH/d/a", b"01234")
    async with tree(tmp_path) as t:
        assert await t.session.parked("/NORTH/d/a") == 5
        async with await t.session.open_write("/DATA/NORTH/d/a", offset=3) as writer:
            writer.write(b"xyz")
            await writer.commit()
        assert await t.get("/NORTH/d/a") == b"012xyz"


async def test_there_is_no_offset_without_something_parked(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        with pytest.raises(Unsupported, match="Offset not supported"):
            await t.session.open_write("/NORTH/a", offset=3)
        await park(t, "/NORTH/a", b"0123")
        with pytest.raises(Unsupported):
            await t.session.open_write("/NORTH/a", offset=5)
        for temporary in objects(t):
            if temporary.parent.name == "tmp":
                temporary.unlink()
        with pytest.raises(Unsupported):
            await t.session.open_write("/NORTH/a", offset=4)
        assert await t.session.parked("/NORTH/a") == 0
        await t.put("/NORTH/a", b"the lock is gone")


async def test_parked_bytes_belong_to_their_user(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await park(t, "/NORTH/a", b"0123")
        await t.node.user("bob", destinations=("NORTH",))
        async with await t.node.login("bob") as bob:
            assert await bob.parked("/NORTH/a") == 0
            with pytest.raises(Unsupported):
                await bob.open_write("/NORTH/a", offset=4)


async def test_a_resumed_upload_can_break_again_or_be_given_up(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await park(t, "/NORTH/a", b"0123")
        async with await t.session.open_write("/NORTH/a", offset=4) as writer:
            writer.write(b"45")
            writer.park()
        assert await t.session.parked("/NORTH/a") == 6
        async with await t.session.open_write("/NORTH/a", offset=6) as writer:
            writer.write(b"6")
        assert await t.session.parked("/NORTH/a") == 0
        assert objects(t) == []


async def test_a_whole_upload_makes_parked_bytes_useless(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await park(t, "/NORTH/a", b"0123")
        await park(t, "/NORTH/a", b"01")
        assert len(objects(t)) == 1
        assert await t.session.parked("/NORTH/a") == 2
        await t.put("/NORTH/a")
        assert await t.session.parked("/NORTH/a") == 0
        assert len(objects(t)) == 1


async def test_an_upload_that_is_withdrawn_at_the_last_moment_can_be_parked(
    tmp_path: Path,
) -> None:
    async def gone() -> None:
        raise Incomplete("the client is gone")

    async with tree(tmp_path) as t:
        with pytest.raises(Incomplete, match="gone"):
            await t.send("/NORTH/a", b"0123", end={"last_check": gone})
        assert objects(t) == []
        with pytest.raises(Incomplete, match="gone"):
            await t.send("/NORTH/a", b"0123", end={"last_check": gone}, park=True)
        assert await t.session.parked("/NORTH/a") == 4
        await t.send("/NORTH/a", b"45", offset=4)
        assert await t.get("/NORTH/a") == b"012345"


async def test_a_hole_is_not_parked(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        async with await t.session.open_write("/NORTH/a") as writer:
            writer.write(b"cc", 4)
            writer.write(b"aa", 0)
            writer.park()
        assert await t.session.parked("/NORTH/a") == 2


async def test_a_user_parks_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MOST_PARKED", 2)
    async with tree(tmp_path) as t:
        for name in ("a", "b", "c"):
            await park(t, f"/NORTH/{name}", b"0123")
            await t.clock.advance(timedelta(seconds=1))
        assert [await t.session.parked(f"/NORTH/{name}") for name in "abc"] == [0, 4, 4]


async def test_recording_can_be_switched_off(tmp_path: Path) -> None:
    cases = [
        ({"portal.recordHistory": "no"}, 0, 2),
        ({"portal.recordSplunk": "no"}, 2, 0),
        ({"portal.recordEvents": "no"}, 2, 0),
        ({"portal.triggerEvent": "no"}, 0, 0),
    ]
    for number, (options, rows, events) in enumerate(cases):
        async with tree(tmp_path / str(number), user_options=options) as t:
            await t.put("/NORTH/a")
            await t.get("/NORTH/a")
            assert len(await t.incoming()) == rows
            assert len(await t.events("INH")) == events


async def test_a_rate_cap_is_told_to_the_portal(tmp_path: Path) -> None:
    options = {
        "incoming.maxBytesPerSecForOutput": "1KB/s", "incoming.maxBytesPerSecForInput": "2KB/s"
    }  # fmt: skip
    async with tree(tmp_path, options=options) as t:
        async with await t.session.open_write("/NORTH/a") as writer:
            assert writer.rate == 1024
            assert writer.pause() == 0
            writer.write(b"x" * 10_240)
            assert 9 < writer.pause() <= 10
            await writer.commit()
        async with await t.session.open_read("/NORTH/a") as reader:
            assert reader.rate == 2048
            assert 4 < reader.pause(10_240) <= 5
        async with await t.session.open_write("/SOUTH/a") as writer:
            assert writer.rate is None


async def test_counters(tmp_path: Path) -> None:
    async with tree(tmp_path, protocol=Protocol.FTP) as t:
        await t.put("/NORTH/a")
        await t.get("/NORTH/a")
        text = t.node.core.metrics.text().decode()
        assert 'ecpds_portal_requests_total{protocol="ftp"} 2.0' in text
        assert 'ecpds_portal_bytes_total{direction="upload",protocol="ftp"} 7.0' in text
        assert 'ecpds_portal_bytes_total{direction="download",protocol="ftp"} 7.0' in text
        assert 'ecpds_portal_sessions{protocol="ftp"} 1.0' in text
        (info,) = t.node.gate.sessions()
        assert (info.uploads, info.downloads) == (1, 1)
