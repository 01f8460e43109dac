"""Downloads: what is recorded, and digests (portal.md 2.9; events.md Ex 4, 6 and 7)."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.model.errors import Denied, IsDirectory, NotFound, QuotaExceeded, Unsupported
from ecpds.model.events import classic
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import entity_tag
from ecpds.objects import digests
from ecpds.store import files
from tests.clock import FakeClock
from tests.tree import tree

S = TransferStatus


async def test_events_ex_4_a_download_is_told(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2031, 5, 4, 9, tzinfo=UTC))
    async with tree(
        tmp_path, clock=clock, protocol=Protocol.SFTP, type="Gold",
        options={"incoming.metadata": "stream=WAVE,step=12,date=20310504,time=00"},
    ) as t:  # fmt: skip
        await t.put("/NORTH/a.grb", b"x" * 42)
        await clock.advance(timedelta(hours=1))
        async with await t.session.open_read("/NORTH/a.grb") as reader:
            reader.count(42)
            await clock.advance(timedelta(milliseconds=7))
        event = (await t.events("INH"))[-1]
        line, _, last = (classic(event) or "").partition(";FileSystem=")
        assert last.endswith(";Action=download")
        assert line == (
            "INH;Monitored=true;TimeStamp=2031-05-04 10:00:00.007;DataTransferId=1;"
            "DestinationName=NORTH;DestinationType=Gold;FileName=a.grb;FileSize=42;"
            "ScheduledTime=2031-05-04 09:00:00.0;StartTime=2031-05-04 10:00:00.0;MetaStream=WAVE;"
            "MetaType=-;MetaTime=00;TimeBase=2031-05-04 00:00:00.0;TimeStep=12;Duration=7;"
            "UserId=alice;CountryCode=fr;UserDescription=Alice;BytesSent=42;TransferProtocol=sftp;"
            "TransferServer=m1;HostAddress=198.51.100.7;Caller=-;"
            "ExpiryTime=2031-05-06 09:00:00.0"
        )
        step = (await t.steps(1))[-1]
        assert (step.status, step.sent, step.error, step.user) == (S.DONE, 42, False, "alice")
        assert (await t.transfer(1)).status is S.WAIT  # other statuses stay
        row = (await t.incoming())[-1]
        assert (row.action, row.bytes, row.outcome, row.peer) == (
            "download", 42, "ok", "198.51.100.7",
        )  # fmt: skip


async def test_a_broken_download_is_told_too(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        reader = await t.session.open_read("/NORTH/a")
        reader.count(3)
        await reader.close(ConnectionResetError("gone"))
        await reader.close()
        other = await t.session.open_read("/NORTH/a")
        await other.close(asyncio.CancelledError())
        first, second = (await t.events("INH"))[1:]
        assert (first["outcome"], first["bytes"]) == ("failed", 3)
        assert (second["error"]["code"], second["bytes"]) == ("cancelled", 0)
        step = (await t.steps(1))[-2]
        assert (step.status, step.error, step.sent) == (S.STOP, True, 3)
        assert (await t.transfer(1)).status is S.WAIT


async def test_what_was_only_opened_is_not_told(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        async with await t.session.open_read("/NORTH/a") as reader:
            assert reader.read(0, 100) == b"content"
            assert reader.read(3, 2) == b"te"
            assert reader.read(7, 5) == b""
            assert reader.node.etag == f'"{entity_tag(1, None)}"'
        assert len(await t.incoming()) == 1


async def test_an_empty_file_can_be_downloaded(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.standby": "yes"}) as t:
        await t.put("/NORTH/a", b"")
        assert await t.get("/NORTH/a") == b""
        assert (await t.transfer(1)).status is S.DONE


@pytest.mark.parametrize(
    ("parts", "is_done"),
    [
        ([(0, 7)], True),
        ([(3, 4), (0, 3)], True),
        ([(0, 5), (3, 4)], True),
        ([(0, 6)], False),
        ([(1, 6)], False),
        ([(0, 3), (4, 3)], False),
    ],
)
async def test_a_held_file_is_done_once_it_was_fetched_as_a_whole(
    tmp_path: Path, parts: list[tuple[int, int]], is_done: bool
) -> None:
    async with tree(tmp_path, options={"incoming.standby": "yes"}) as t:
        await t.put("/NORTH/a")
        async with await t.session.open_read("/NORTH/a") as reader:
            for offset, sent in parts:
                reader.count(sent, offset=offset, last=(offset, sent) == parts[-1])
        transfer = await t.transfer(1)
        assert transfer.status is (S.DONE if is_done else S.HOLD)
        if is_done:
            assert transfer.sent == sum(sent for _, sent in parts)
            assert transfer.first_finish_at == t.clock.now()


async def test_a_broken_download_leaves_a_held_file_held(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.standby": "yes"}) as t:
        await t.put("/NORTH/a")
        reader = await t.session.open_read("/NORTH/a")
        reader.count(7)
        await reader.close(OSError("the last ack never came"))
        assert (await t.transfer(1)).status is S.HOLD


async def test_delete_on_success_holds_for_downloads(tmp_path: Path) -> None:
    async with tree(tmp_path, options={"incoming.standby": "yes"}, keep_in_spool="success") as t:
        await t.put("/NORTH/a")
        assert await t.get("/NORTH/a") == b"content"
        assert await t.names() == []
        stored = await t.node.store.read(files.get, 1)
        assert stored is not None
        assert stored.deleted


@pytest.mark.parametrize(("option", "count"), [("yes", 1), ("no", 3)])
async def test_events_ex_6_parts_are_told_together(tmp_path: Path, option: str, count: int) -> None:
    async with tree(tmp_path, user_options={"portal.triggerLastRangeOnly": option}) as t:
        await t.put("/NORTH/a")
        async with await t.session.open_read("/NORTH/a") as reader:
            for offset in (0, 2, 4):
                reader.count(2, offset=offset, last=offset == 4)
        told = (await t.events("INH"))[1:]
        assert len(told) == count
        assert sum(event["bytes"] for event in told) == 6
        assert len(await t.incoming()) == 2


async def test_very_many_parts_are_summed_up(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        async with await t.session.open_read("/NORTH/a") as reader:
            for _ in range(5000):
                reader.count(1, offset=0, last=False)
        assert (await t.incoming())[-1].bytes == 5000


async def test_ex_5_download_quotas_hold_for_each_file(tmp_path: Path) -> None:
    options = {"portal.maxDownloadBytes": "1KB", "portal.downloadPeriod": "1h"}
    async with tree(tmp_path, user_options=options) as t:
        await t.put("/NORTH/a", b"x" * 700)
        await t.get("/NORTH/a")
        await t.clock.advance(timedelta(minutes=10))
        await t.get("/NORTH/a")
        with pytest.raises(QuotaExceeded, match="Download quota exceeded"):
            await t.session.open_read("/NORTH/a")
        with pytest.raises(QuotaExceeded):
            await t.node.login()
        await t.clock.advance(timedelta(minutes=50))
        await t.get("/NORTH/a")


async def test_a_failed_download_does_not_count(tmp_path: Path) -> None:
    options = {"incoming.maxDownloadBytes": "5B", "incoming.downloadPeriod": "1h"}
    async with tree(tmp_path, options=options) as t:
        await t.put("/NORTH/a")
        reader = await t.session.open_read("/NORTH/a")
        reader.count(7)
        await reader.close(OSError("broken"))
        await t.get("/NORTH/a")
        with pytest.raises(QuotaExceeded, match="for destination NORTH"):
            await t.get("/NORTH/a")
    async with tree(tmp_path, options=options) as t:
        with pytest.raises(QuotaExceeded, match="for destination NORTH"):
            await t.get("/NORTH/a")


async def test_the_recorder_writes_soon_and_at_the_end(tmp_path: Path) -> None:
    async with tree(tmp_path, run=True) as t:
        await t.put("/NORTH/a")
        for _ in range(50):
            await t.get("/NORTH/a")
        await t.node.gate.close()
        assert len(await t.incoming()) == 51


async def test_digests_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[list[str]] = []
    real = digests.digests_of

    def counted(descriptor: int, algorithms: list[str]) -> dict[str, str]:
        computed.append(algorithms)
        return real(descriptor, algorithms)

    monkeypatch.setattr("ecpds.vfs.digests.digests_of", counted)
    async with tree(tmp_path) as t:
        node = await t.put("/NORTH/a")
        expected = hashlib.md5(b"content").hexdigest()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(t.session.digest("/NORTH/a", "MD5")) for _ in range(5)]
        assert {task.result() for task in tasks} == {expected}
        assert computed == [["md5"]]
        assert await t.session.digest("/NORTH/a", "adler32") == node.checksum
        assert await t.session.digest("/NORTH/a", "crc32c")
        assert computed == [["md5"], ["crc32c"]]
        await t.put("/NORTH/a", b"new")
        assert await t.session.digest("/NORTH/a", "md5") == hashlib.md5(b"new").hexdigest()
        with pytest.raises(Unsupported):
            await t.session.digest("/NORTH/a", "md4")
        with pytest.raises(Unsupported):
            await t.session.digest("/NORTH/a", "etag")
        with pytest.raises(NotFound):
            await t.session.digest("/NORTH/b", "md5")
        with pytest.raises(IsDirectory):
            await t.session.digest("/NORTH", "md5")


async def test_a_digest_needs_get(tmp_path: Path) -> None:
    async with tree(tmp_path, operations={Permission.PUT, Permission.DIR}) as t:
        await t.put("/NORTH/a")
        with pytest.raises(Denied):
            await t.session.digest("/NORTH/a", "md5")
        with pytest.raises(Denied):
            await t.session.open_read("/NORTH/a")


async def test_content_that_is_lost_is_not_found(tmp_path: Path) -> None:
    async with tree(tmp_path) as t:
        await t.put("/NORTH/a")
        stored = await t.node.store.read(files.get, 1)
        assert stored is not None
        t.node.core.objects.path(stored.volume, stored.object_key).unlink()
        with pytest.raises(NotFound):
            await t.session.open_read("/NORTH/a")
