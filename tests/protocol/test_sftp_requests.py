"""Every SFTP request, packet by packet, against the session it ends in."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecpds.model.account import Permission
from ecpds.portals.ssh import wire
from ecpds.vfs.contract import Space
from tests.protocol.diskgate import ALL, Account, DiskSession
from tests.protocol.sshrig import Rig, Wire, running, text
from tests.waiting import until

WHEN = datetime(2031, 5, 4, 10, 20, 30, tzinfo=UTC)
TIMES = wire.u32(wire.A_TIMES) + wire.u32(1) + wire.u32(int(WHEN.timestamp()))
WRITE = wire.F_WRITE | wire.F_CREATE


# --- reading


async def test_a_file_is_read_in_any_order(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(bytes(range(256)) * 16)
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        assert (await client.read(handle, 4000, 500)).data == (bytes(range(256)) * 16)[4000:]
        assert (await client.read(handle, 0, 3)).data == b"\x00\x01\x02"
        assert (await client.read(handle, 4096, 1)).code == wire.EOF
        assert (await client.read(handle, 1 << 60, 10)).code == wire.EOF
        (await client.close(handle)).ok()
        [download] = rig.gate.downloads
        assert (download.sent, download.offset, download.error) == (99, 0, None)


async def test_a_long_read_is_answered_with_what_fits(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"x" * 1_000_000)
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        assert len((await client.read(handle, 0, 0xFFFFFFFF)).data) == wire.MAX_DATA


async def test_the_open_content_outlives_its_name(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"old")
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        await client.put("/NORTH/f", b"newer")
        assert (await client.read(handle, 0, 10)).data == b"old"
        found = await client(wire.FSTAT, wire.string(handle))
        assert found.attributes.size == 3


async def test_a_directory_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        assert (await client.open_file("/NORTH", wire.F_READ)).code == wire.FAILURE


async def test_a_missing_file_has_the_code_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        assert (await client.open_file("/NORTH/no", wire.F_READ)).code == wire.NO_SUCH_FILE
        assert (await client.stat("/NOWHERE")).code == wire.NO_SUCH_FILE


async def test_a_download_that_breaks_is_recorded_as_broken(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        (rig.north / "f").write_bytes(b"0123456789")
        async with rig.wire() as client:
            handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
            assert (await client.read(handle, 2, 4)).data == b"2345"
        await until(lambda: rig.gate.downloads)
        [download] = rig.gate.downloads
        assert (download.sent, download.offset) == (4, 2)
        assert download.error is not None


# --- writing


async def test_a_file_is_there_when_close_was_answered_and_not_before(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"abc")).ok()
        assert (await client.stat("/NORTH/f")).code == wire.NO_SUCH_FILE
        (await client.close(handle)).ok()
        assert (rig.north / "f").read_bytes() == b"abc"
        assert (await client.stat("/NORTH/f")).attributes.size == 3


async def test_blocks_come_in_any_order(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        places = list(range(0, len(content), 1000))
        for place in places[1::2] + places[::2]:
            (await client.write(handle, place, content[place : place + 1000])).ok()
        (await client.close(handle)).ok()
        assert (rig.north / "f").read_bytes() == content


async def test_a_hole_fails_at_close_and_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"abc")).ok()
        (await client.write(handle, 4, b"e")).ok()
        closed = await client.close(handle)
        assert closed.code == wire.FAILURE
        assert "missing" in closed.message
        assert (await client.stat("/NORTH/f")).code == wire.NO_SUCH_FILE
        assert not rig.gate.parked
        assert list(rig.gate.spool.iterdir()) == []


async def test_an_empty_file(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/empty", b"")
        assert (rig.north / "empty").read_bytes() == b""
        handle = (await client.open_file("/NORTH/empty", wire.F_READ)).handle
        assert (await client.read(handle, 0, 1)).code == wire.EOF


async def test_writing_again_makes_a_new_version(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"a longer first content")
        await client.put("/NORTH/f", b"second")
        assert (rig.north / "f").read_bytes() == b"second"


async def test_without_truncate_it_is_a_new_version_too(tmp_path: Path) -> None:
    """Overwriting in place is no operation here; bytes that were not sent are a hole."""
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"0123456789")
        handle = await client.create("/NORTH/f", WRITE)
        (await client.write(handle, 5, b"x")).ok()
        assert (await client.close(handle)).code == wire.FAILURE
        assert (rig.north / "f").read_bytes() == b"0123456789"


async def test_exclusive_refuses_what_exists(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        flags = WRITE | wire.F_EXCLUSIVE
        handle = await client.create("/NORTH/f", flags)
        (await client.close(handle)).ok()
        refused = await client.open_file("/NORTH/f", flags)
        assert refused.code == wire.FAILURE
        assert "exists" in refused.message


async def test_without_create_the_file_must_exist(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        flags = wire.F_WRITE | wire.F_TRUNCATE
        assert (await client.open_file("/NORTH/f", flags)).code == wire.NO_SUCH_FILE
        await client.put("/NORTH/f", b"1")
        handle = await client.create("/NORTH/f", flags)
        (await client.write(handle, 0, b"22")).ok()
        (await client.close(handle)).ok()
        assert (rig.north / "f").read_bytes() == b"22"


@pytest.mark.parametrize(
    "flags",
    [
        0,
        wire.F_CREATE,
        wire.F_READ | wire.F_WRITE,
        wire.F_READ | wire.F_APPEND,
        WRITE | wire.F_APPEND,
        WRITE | wire.F_READ | wire.F_TRUNCATE,
    ],
)
async def test_append_and_read_write_are_unsupported(tmp_path: Path, flags: int) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        assert (await client.open_file("/NORTH/f", flags)).code == wire.OP_UNSUPPORTED
        assert rig.portal.connections == 1


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/a/b/f", b"1")
        assert (rig.north / "a/b/f").read_bytes() == b"1"


async def test_times_are_kept_as_source_time(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/open", attributes=TIMES)
        (await client.close(handle)).ok()
        handle = await client.create("/NORTH/handle")
        (await client(wire.FSETSTAT, wire.string(handle), TIMES)).ok()
        (await client.close(handle)).ok()
        await client.put("/NORTH/path", b"1")
        (await client(wire.SETSTAT, text("/NORTH/path"), TIMES)).ok()
        (await client.extended("lsetstat@openssh.com", text("/NORTH/path"), TIMES)).ok()
        paths = ("/NORTH/open", "/NORTH/handle", "/NORTH/path")
        assert rig.gate.source_times == dict.fromkeys(paths, WHEN)


async def test_other_attributes_are_tolerated(tmp_path: Path) -> None:
    flags = wire.A_OWNER | wire.A_MODE | wire.A_EXTENDED
    wanted = b"".join(
        (
            wire.u32(flags),
            wire.u32(5) * 2,
            wire.u32(0o600),
            wire.u32(1),
            text("name@example.org"),
            text("value"),
        )
    )
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        (await client(wire.SETSTAT, text("/NORTH/f"), wanted)).ok()
        (await client(wire.SETSTAT, text("/NORTH"), TIMES)).ok()
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        (await client(wire.FSETSTAT, wire.string(handle), wanted)).ok()
        missing = await client(wire.SETSTAT, text("/NORTH/no"), wanted)
        assert missing.code == wire.NO_SUCH_FILE


async def test_times_without_the_right_do_not_fail_an_upload(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=ALL - {Permission.MTIME})}
    async with running(tmp_path, accounts=accounts) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client(wire.FSETSTAT, wire.string(handle), TIMES)).ok()
        (await client.close(handle)).ok()
        (await client(wire.SETSTAT, text("/NORTH/f"), TIMES)).ok()
        assert rig.gate.source_times == {}


async def test_a_size_may_be_promised_but_not_cut(tmp_path: Path) -> None:
    def size(count: int) -> bytes:
        return wire.u32(wire.A_SIZE) + wire.u64(count)

    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client(wire.FSETSTAT, wire.string(handle), size(10))).ok()
        (await client.write(handle, 0, b"12345")).ok()
        cut = await client(wire.FSETSTAT, wire.string(handle), size(3))
        assert cut.code == wire.OP_UNSUPPORTED
        assert (await client.close(handle)).code == wire.FAILURE
        assert not (rig.north / "f").exists()
        await client.put("/NORTH/f", b"12345")
        (await client(wire.SETSTAT, text("/NORTH/f"), size(5))).ok()
        cut = await client(wire.SETSTAT, text("/NORTH/f"), size(0))
        assert cut.code == wire.OP_UNSUPPORTED
        assert (rig.north / "f").read_bytes() == b"12345"


async def test_the_size_of_an_open_upload_is_what_came(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"12345")).ok()
        found = (await client(wire.FSTAT, wire.string(handle))).attributes
        assert found.size == 5
        assert found.mode == wire.FILE_MODE


# --- limits while writing


async def test_too_much_fails_at_the_block_and_at_close(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        rig.gate.max_file_size = 10
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"0123456789")).ok()
        refused = await client.write(handle, 10, b"x")
        assert refused.code == wire.FAILURE
        assert "10 bytes" in refused.message
        assert (await client.write(handle, 10, b"x")).code == wire.FAILURE
        closed = await client.close(handle)
        assert closed.code == wire.FAILURE
        assert "10 bytes" in closed.message
        assert not (rig.north / "f").exists()
        assert not rig.gate.parked
        await client.put("/NORTH/g", b"fits")  # the connection goes on


async def test_a_full_volume_and_a_quota_have_a_text(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        rig.gate.full = True
        assert "room" in (await client.write(handle, 0, b"x")).message
        rig.gate.full = False
        assert (await client.close(handle)).code == wire.FAILURE
        rig.gate.quota = 1
        handle = await client.create("/NORTH/g")
        refused = await client.write(handle, 0, b"xx")
        assert (refused.code, refused.message) == (wire.FAILURE, "Upload quota exceeded")
        assert rig.gate.uploads == []


async def test_rates_hold_both_ways_and_only_for_the_file(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"x" * 60_000)
        (rig.north / "fast").write_bytes(b"y" * 100)
        fast = (await client.open_file("/NORTH/fast", wire.F_READ)).handle
        rig.gate.rate = 100_000
        began = time.monotonic()
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        place, asked = 0, []
        while place < 60_000:
            asked.append(
                client.ask(wire.READ, wire.string(handle), wire.u64(place), wire.u32(6000))
            )
            place += 6000
        assert (await client.read(fast, 0, 100)).data == b"y" * 100
        assert time.monotonic() - began < 0.4
        assert b"".join([(await client.answer(one)).data for one in asked]) == b"x" * 60_000
        assert 0.5 < time.monotonic() - began < 5
        assert (await client.read(handle, 60_000, 1)).code == wire.EOF
        began = time.monotonic()
        handle = await client.create("/NORTH/g")
        for place in range(0, 60_000, 6000):
            (await client.write(handle, place, b"z" * 6000)).ok()
        assert 0.5 < time.monotonic() - began < 5
        (await client.close(handle)).ok()
        assert (rig.north / "g").read_bytes() == b"z" * 60_000


# --- uploads that break, and their resumption


async def _broken_upload(rig: Rig, *blocks: tuple[int, bytes]) -> None:
    async with rig.connect() as connection:
        client = await Wire.open(connection)
        await client.greet()
        handle = await client.create("/NORTH/f")
        for offset, data in blocks:
            (await client.write(handle, offset, data)).ok()
        connection.abort()
    await until(lambda: not rig.gate.sessions)


async def test_a_lost_connection_registers_nothing_and_parks(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"0123"), (4, b"45"))
        assert not (rig.north / "f").exists()
        [parked] = rig.gate.parked.values()
        assert parked.read_bytes() == b"012345"
        async with rig.wire() as client:
            assert (await client.stat("/NORTH/f")).code == wire.NO_SUCH_FILE


async def test_an_end_of_input_without_close_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"0123")).ok()
        client.writer.write_eof()
        await client.writer.channel.wait_closed()
        assert client.writer.channel.get_exit_status() == 0
        assert not (rig.north / "f").exists()
        assert len(rig.gate.parked) == 1


async def test_blocks_out_of_order_are_not_parked(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (4, b"45"), (0, b"0123"))
        assert not rig.gate.parked
        assert list(rig.gate.spool.iterdir()) == []


async def test_the_first_block_tells_whether_a_broken_upload_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"012345"))
        async with rig.wire() as client:
            handle = await client.create("/NORTH/f", WRITE)
            assert (await client(wire.FSTAT, wire.string(handle))).attributes.size == 6
            (await client.write(handle, 6, b"67")).ok()
            (await client.write(handle, 8, b"89")).ok()
            (await client.close(handle)).ok()
            assert (rig.north / "f").read_bytes() == b"0123456789"


async def test_blocks_sent_ahead_wait_for_the_first(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"012345"))
        async with rig.wire() as client:
            handle = await client.create("/NORTH/f", WRITE)
            asked = [
                client.ask(wire.WRITE, wire.string(handle), wire.u64(place), text(data))
                for place, data in ((4, "ab"), (6, "cd"), (8, "ef"))
            ]
            closing = client.ask(wire.CLOSE, wire.string(handle))
            for request in (*asked, closing):
                (await client.answer(request)).ok()
            assert (rig.north / "f").read_bytes() == b"0123abcdef"


async def test_append_goes_on_with_a_broken_upload(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"012345"))
        async with rig.wire() as client:
            handle = await client.create("/NORTH/f", WRITE | wire.F_APPEND)
            (await client.write(handle, 0, b"67")).ok()  # the offset means nothing
            (await client.write(handle, 0, b"89")).ok()
            (await client.close(handle)).ok()
            assert (rig.north / "f").read_bytes() == b"0123456789"


async def test_an_upload_from_the_start_forgets_the_broken_one(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"012345"))
        async with rig.wire() as client:
            handle = await client.create("/NORTH/f", WRITE)
            (await client.write(handle, 0, b"new")).ok()
            (await client.close(handle)).ok()
            assert (rig.north / "f").read_bytes() == b"new"


async def test_a_place_behind_the_broken_end_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await _broken_upload(rig, (0, b"012345"))
        async with rig.wire() as client:
            handle = await client.create("/NORTH/f", WRITE)
            assert (await client.write(handle, 7, b"x")).code == wire.OP_UNSUPPORTED
            assert (await client.close(handle)).code == wire.FAILURE
            assert not (rig.north / "f").exists()


# --- names and directories


async def test_the_root_and_its_members(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"123")
        for asked, answered in (
            (".", "/"),
            ("", "/"),
            ("/NORTH/../NORTH/./x//", "/NORTH/x"),
            ("/DATA/NORTH", "/NORTH"),
            ("NORTH", "/NORTH"),
        ):
            [(name, _, _)] = (await client(wire.REALPATH, text(asked))).names
            assert name == answered
        handle = (await client(wire.OPENDIR, text("/"))).handle
        names = (await client(wire.READDIR, wire.string(handle))).names
        assert [name for name, _, _ in names] == ["NORTH", "SOUTH"]
        assert (await client(wire.READDIR, wire.string(handle))).code == wire.EOF
        assert (await client(wire.READDIR, wire.string(handle))).code == wire.EOF
        (await client.close(handle)).ok()
        found = (await client.stat("/NORTH")).attributes
        assert (found.size, found.mode) == (0, wire.DIRECTORY_MODE)


async def test_a_long_listing_comes_in_small_packets(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        expected = {f"{number:04}-{'n' * 200}" for number in range(500)}
        for name in expected:
            (rig.north / name).touch()
        handle = (await client(wire.OPENDIR, text("/NORTH"))).handle
        ahead = [client.ask(wire.READDIR, wire.string(handle)) for _ in range(20)]
        found: list[str] = []
        ends = 0
        for request in ahead:
            answer = await client.answer(request)
            assert len(answer.body) < 33_000
            if answer.kind == wire.STATUS:
                assert answer.code == wire.EOF
                ends += 1
            else:
                assert not ends, "answers to one handle come in order"
                found += [name for name, _, _ in answer.names]
        assert sorted(found) == sorted(expected)
        assert ends


async def test_listing_what_is_no_directory(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        assert (await client(wire.OPENDIR, text("/NORTH/f"))).code == wire.FAILURE
        assert (await client(wire.OPENDIR, text("/NORTH/no"))).code == wire.NO_SUCH_FILE
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        refused = await client(wire.READDIR, wire.string(handle))
        assert refused.code == wire.OP_UNSUPPORTED


async def test_mkdir_rmdir_remove(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (await client(wire.MKDIR, text("/NORTH/d"), wire.u32(0))).ok()
        assert (await client(wire.MKDIR, text("/NORTH/d"), wire.u32(0))).code == wire.FAILURE
        await client.put("/NORTH/d/f", b"1")
        assert (await client(wire.RMDIR, text("/NORTH/d"))).code == wire.FAILURE
        assert (await client(wire.REMOVE, text("/NORTH/d"))).code == wire.FAILURE
        assert (await client(wire.RMDIR, text("/NORTH/d/f"))).code == wire.FAILURE
        (await client(wire.REMOVE, text("/NORTH/d/f"))).ok()
        (await client(wire.RMDIR, text("/NORTH/d"))).ok()
        assert (await client(wire.REMOVE, text("/NORTH/d/f"))).code == wire.NO_SUCH_FILE
        assert list(rig.north.iterdir()) == []


async def test_rename_and_posix_rename(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/a", b"1")
        (await client(wire.RENAME, text("/NORTH/a"), text("/NORTH/b"))).ok()
        await client.put("/NORTH/c", b"2")
        taken = await client(wire.RENAME, text("/NORTH/c"), text("/NORTH/b"))
        assert taken.code == wire.FAILURE
        (await client.extended("posix-rename@openssh.com", text("/NORTH/c"), text("/NORTH/b"))).ok()
        assert {p.name: p.read_bytes() for p in rig.north.iterdir()} == {"b": b"2"}
        elsewhere = await client(wire.RENAME, text("/NORTH/b"), text("/SOUTH/b"))
        assert elsewhere.code == wire.OP_UNSUPPORTED
        missing = await client(wire.RENAME, text("/NORTH/no"), text("/NORTH/x"))
        assert missing.code == wire.NO_SUCH_FILE


async def test_links_do_not_exist(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        two = (text("/NORTH/f"), text("/NORTH/g"))
        for answer in (
            await client(wire.SYMLINK, *two),
            await client(wire.READLINK, two[0]),
            await client.extended("hardlink@openssh.com", *two),
            await client.extended("no-such-thing@example.org"),
            await client(99),
        ):
            assert answer.code == wire.OP_UNSUPPORTED
        assert (await client(wire.LSTAT, two[0])).attributes.size == 1


async def test_rights_are_asked_for_each_act(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=frozenset({Permission.DIR}))}
    async with running(tmp_path, accounts=accounts) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"1")
        f, g = text("/NORTH/f"), text("/NORTH/g")
        for answer in (
            await client.open_file("/NORTH/f", wire.F_READ),
            await client.open_file("/NORTH/g", WRITE),
            await client(wire.REMOVE, f),
            await client(wire.RENAME, f, g),
            await client(wire.MKDIR, g, wire.u32(0)),
            await client(wire.RMDIR, text("/NORTH")),
            await client.extended("check-file-name", f, text("md5"), wire.u64(0) * 2, wire.u32(0)),
        ):
            assert answer.code == wire.PERMISSION_DENIED
        assert (await client.stat("/NORTH/f")).attributes.size == 1


@pytest.mark.parametrize("path", ["/NORTH/a\nb", "/NORTH/a\x00b", "/NORTH/" + "n" * 256])
async def test_bad_names_are_refused(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        assert (await client.open_file(path, WRITE)).code == wire.FAILURE
        assert (await client.stat(path)).code == wire.FAILURE
        assert rig.gate.spooled == 0


async def test_a_path_cannot_leave_the_tree(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (tmp_path / "secret").write_bytes(b"1")
        for path in ("/../secret", "/NORTH/../../secret", "..\\..\\secret"):
            assert (await client.open_file(path, wire.F_READ)).code == wire.NO_SUCH_FILE


# --- extensions


async def test_what_is_announced(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        assert client.extensions[b"posix-rename@openssh.com"] == b"1"
        assert client.extensions[b"statvfs@openssh.com"] == b"2"
        assert {b"copy-data", b"check-file-name", b"limits@openssh.com"} <= set(client.extensions)
        found = await client.extended("limits@openssh.com")
        fields = wire.Fields(found.body)
        assert [fields.u64() for _ in range(4)] == [262144, 261120, 261120, 256]


async def test_copy_data(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(content)
        source = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        target = await client.create("/NORTH/g")
        copied = await client.extended(
            "copy-data",
            wire.string(source),
            wire.u64(1),
            wire.u64(2_000_000),
            wire.string(target),
            wire.u64(0),
        )
        copied.ok()
        (
            await client.extended(
                "copy-data",
                wire.string(source),
                wire.u64(2_000_001),
                wire.u64(0),
                wire.string(target),
                wire.u64(2_000_000),
            )
        ).ok()
        (await client.close(target)).ok()
        assert (rig.north / "g").read_bytes() == content[1:]
        wrong = await client.extended(
            "copy-data",
            wire.string(source),
            wire.u64(0) * 2,
            wire.string(source),
            wire.u64(0),
        )
        assert wrong.code == wire.FAILURE


async def test_fsync(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"1")).ok()
        (await client.extended("fsync@openssh.com", wire.string(handle))).ok()
        (await client.close(handle)).ok()
        gone = await client.extended("fsync@openssh.com", wire.string(handle))
        assert gone.code == wire.FAILURE


async def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        unknown = await client.extended("statvfs@openssh.com", text("/NORTH"))
        assert unknown.code == wire.OP_UNSUPPORTED

        async def space(self: DiskSession, path: str) -> Space:
            return Space(total=1 << 30, free=1 << 20)

        monkeypatch.setattr(DiskSession, "space", space)
        handle = await client.create("/NORTH/f")
        for answer in (
            await client.extended("statvfs@openssh.com", text("/NORTH")),
            await client.extended("fstatvfs@openssh.com", wire.string(handle)),
        ):
            fields = wire.Fields(answer.body)
            values = [fields.u64() for _ in range(11)]
            assert values[:5] == [4096, 4096, 1 << 18, 1 << 8, 1 << 8]
            assert values[10] == 255


async def test_the_home_directory_is_the_root(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        for asked, answered in (("~", "/"), ("~/NORTH", "/NORTH"), ("~alice/x", "/x")):
            [(name, _, _)] = (await client.extended("expand-path@openssh.com", text(asked))).names
            assert name == answered
        other = await client.extended("expand-path@openssh.com", text("~bob/x"))
        assert other.code == wire.NO_SUCH_FILE


def _digest(name: str, data: bytes) -> bytes:
    if name == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return hashlib.new(name, data).digest()


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512", "crc32"])
async def test_check_file(tmp_path: Path, name: str) -> None:
    content = bytes(range(256)) * 5000
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(content)
        handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        for start, length, block in ((0, 0, 0), (5, 1000, 0), (0, 0, 300_000), (7, 5000, 256)):
            data = content[start : start + length] if length else content[start:]
            step = block or len(data)
            expected = b"".join(
                _digest(name, data[place : place + step]) for place in range(0, len(data), step)
            )
            asked = (text(f"whirlpool,{name}"), wire.u64(start), wire.u64(length), wire.u32(block))
            by_name = await client.extended("check-file-name", text("/NORTH/f"), *asked)
            assert by_name.body == text(name) + expected
            by_handle = await client.extended("check-file-handle", wire.string(handle), *asked)
            assert by_handle.body == text(name) + expected
            as_paramiko = await client.extended("check-file", wire.string(handle), *asked)
            assert as_paramiko.body == text("check-file") + text(name) + expected


async def test_check_file_refusals(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"x" * 1_000_000)
        handle = await client.create("/NORTH/g")

        async def check(what: str, algorithms: str, start: int, block: int) -> int:
            name = wire.string(handle) if what == "handle" else text("/NORTH/f")
            numbers = (wire.u64(start), wire.u64(0), wire.u32(block))
            return (
                await client.extended(f"check-file-{what}", name, text(algorithms), *numbers)
            ).code

        assert await check("name", "whirlpool", 0, 0) == wire.OP_UNSUPPORTED
        assert await check("name", "md5", 0, 255) == wire.FAILURE
        assert await check("name", "md5", 0, 256) == wire.FAILURE  # thousands of digests
        assert await check("name", "md5", 1_000_001, 0) == wire.FAILURE
        assert await check("handle", "md5", 0, 0) == wire.FAILURE


# --- order


async def test_requests_about_one_file_keep_their_order(tmp_path: Path) -> None:
    """Sent ahead without waiting, they end as if each had been waited for."""
    async with (
        running(
            tmp_path,
        ) as rig,
        rig.wire() as client,
    ):
        rig.gate.durable = True
        handle = await client.create("/NORTH/d/f")
        asked = [
            client.ask(wire.WRITE, wire.string(handle), wire.u64(0), text("abc")),
            client.ask(wire.CLOSE, wire.string(handle)),
            client.ask(wire.RENAME, text("/NORTH/d/f"), text("/NORTH/d/g")),
            client.ask(wire.RENAME, text("/NORTH/d"), text("/NORTH/e")),
        ]
        size = client.ask(wire.STAT, text("/NORTH/e/g"))
        removing = client.ask(wire.REMOVE, text("/NORTH/e/g"))
        gone = client.ask(wire.STAT, text("/NORTH/e/g"))
        for request in asked:
            (await client.answer(request)).ok()
        assert (await client.answer(size)).attributes.size == 3
        (await client.answer(removing)).ok()
        assert (await client.answer(gone)).code == wire.NO_SUCH_FILE


async def test_many_files_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        rig.gate.durable = True
        opening = [
            client.ask(
                wire.OPEN,
                text(f"/NORTH/{number}"),
                wire.u32(WRITE | wire.F_TRUNCATE),
                wire.u32(0),
            )
            for number in range(200)
        ]
        handles = [(await client.answer(request)).handle for request in opening]
        closing = []
        for number, handle in enumerate(handles):
            client.ask(wire.WRITE, wire.string(handle), wire.u64(0), text(str(number)))
            closing.append(client.ask(wire.CLOSE, wire.string(handle)))
        for request in closing:
            (await client.answer(request)).ok()
        assert {p.name: p.read_text() for p in rig.north.iterdir()} == {
            str(number): str(number) for number in range(200)
        }


async def test_several_channels_share_one_session(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        clients = [await Wire.open(connection) for _ in range(3)]
        for number, client in enumerate(clients):
            await client.greet()
            await client.put(f"/NORTH/{number}", b"1")
        assert len(rig.gate.sessions) == 1
        clients[0].writer.close()
        assert (await clients[1].stat("/NORTH/0")).attributes.size == 1
    async with asyncio.timeout(5):
        await until(lambda: not rig.gate.sessions)
