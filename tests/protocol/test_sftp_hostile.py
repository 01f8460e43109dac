"""Clients that break the protocol, ask for too much, or do not listen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from ecpds.portals.ssh import sftp, wire
from tests.protocol.diskgate import DiskReader, DiskSession, DiskWriter
from tests.protocol.sshrig import Wire, running, text
from tests.waiting import until

WRITE = wire.F_WRITE | wire.F_CREATE


async def _ends(client: Wire) -> None:
    """Wait for the channel to end with status 1."""
    async with asyncio.timeout(5):
        await client.writer.channel.wait_closed()
    assert client.writer.channel.get_exit_status() == 1


# --- packets that cannot be


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x04\x00\x01\x01rest",  # a length beyond the limit
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",  # an empty packet
        wire.string(bytes([wire.STAT]) + wire.u32(1) + text("/")),  # no INIT before
        wire.string(bytes([wire.INIT])),
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
async def test_a_channel_that_does_not_begin_well_ends(tmp_path: Path, first: bytes) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        client = await Wire.open(connection)
        client.writer.write(first)
        await _ends(client)
        other = await Wire.open(connection)  # the connection goes on
        await other.greet()


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00\x04\x00\x01\x03",
        b"\x00\x00\x00\x00",
        wire.string(bytes([wire.INIT]) + wire.u32(3)),  # twice
        wire.string(bytes([wire.STAT])),  # without a number
        wire.string(bytes([wire.READ, 0, 0])),
    ],
)
async def test_a_packet_out_of_bounds_ends_the_channel(tmp_path: Path, packet: bytes) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        (await client.write(handle, 0, b"1")).ok()
        client.writer.write(packet)
        await _ends(client)
        assert not (rig.north / "f").exists()


async def test_every_request_cut_short_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        whole = {
            wire.OPEN: text("/NORTH/x") + wire.u32(WRITE),
            wire.CLOSE: wire.string(b"abcd")[:-1],
            wire.READ: wire.string(handle) + wire.u64(0),
            wire.WRITE: wire.string(handle) + wire.u64(0) + wire.u32(10) + b"short",
            wire.STAT: wire.u32(100) + b"/NORTH",
            wire.LSTAT: b"",
            wire.FSTAT: b"\x00",
            wire.SETSTAT: text("/NORTH") + wire.u32(wire.A_SIZE) + b"\x00",
            wire.FSETSTAT: wire.string(handle) + wire.u32(wire.A_TIMES),
            wire.OPENDIR: b"\xff\xff\xff\xff",
            wire.READDIR: b"\x00\x00\x00\x04abc",
            wire.REMOVE: b"",
            wire.MKDIR: b"\x00\x00\x00\x02a",
            wire.RMDIR: b"",
            wire.REALPATH: wire.string(b"\xff\xfe"),
            wire.RENAME: text("/NORTH/a"),
            wire.EXTENDED: b"",
        }
        for kind, fields in whole.items():
            answer = await client(kind, fields if kind != wire.OPEN else fields[:-1])
            assert answer.code == wire.BAD_MESSAGE, kind
        for name in (
            "posix-rename@openssh.com",
            "statvfs@openssh.com",
            "fstatvfs@openssh.com",
            "fsync@openssh.com",
            "lsetstat@openssh.com",
            "expand-path@openssh.com",
            "copy-data",
            "check-file",
            "check-file-name",
            "check-file-handle",
        ):
            answer = await client.extended(name, b"\x00\x00")
            assert answer.code == wire.BAD_MESSAGE, name
        (await client.close(handle)).ok()


async def test_a_block_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = await client.create("/NORTH/f")
        answer = await client(
            wire.WRITE, wire.string(handle), wire.u64(0), wire.u32(2), b"more than two"
        )
        assert answer.code == wire.BAD_MESSAGE
        (await client.close(handle)).ok()
        assert (rig.north / "f").read_bytes() == b""


async def test_all_numbers_of_requests_are_answered(tmp_path: Path) -> None:
    """Known or not, each type of request gets an answer with its own number."""
    known = {wire.INIT}
    async with running(tmp_path) as rig, rig.wire() as client:
        for kind in set(range(256)) - known:
            answer = await client(kind, text("/NORTH"), wire.u32(0))
            assert answer.kind in (wire.STATUS, wire.ATTRS, wire.HANDLE, wire.NAME)


async def test_packets_in_pieces(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        client = await Wire.open(connection)
        for byte in wire.string(bytes([wire.INIT]) + wire.u32(3)):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.packet())[0] == wire.VERSION_REPLY
        request = wire.string(bytes([wire.STAT]) + wire.u32(7) + text("/NORTH"))
        for byte in request * 3:
            client.writer.write(bytes([byte]))
        for _ in range(3):
            assert (await client.packet())[0] == wire.ATTRS


@pytest.mark.parametrize("version", [0, 1, 2, 4, 6, 0xFFFFFFFF])
async def test_every_version_comes_down_to_three(tmp_path: Path, version: int) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        client = await Wire.open(connection)
        assert await client.greet(version) == 3


# --- handles


@pytest.mark.parametrize("name", [b"", b"abcd", b"\x00" * 4, b"x" * 300])
async def test_handles_that_are_not_open(tmp_path: Path, name: bytes) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        handle = wire.string(name)
        for answer in (
            await client.read(name, 0, 1),
            await client.write(name, 0, b"1"),
            await client.close(name),
            await client(wire.FSTAT, handle),
            await client(wire.FSETSTAT, handle, wire.u32(0)),
            await client(wire.READDIR, handle),
        ):
            assert answer.code in (wire.FAILURE, wire.BAD_MESSAGE)


async def test_a_handle_is_used_for_what_it_was_opened_for(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.wire() as client:
        await client.put("/NORTH/f", b"1")
        reading = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        writing = await client.create("/NORTH/g")
        listing = (await client(wire.OPENDIR, text("/NORTH"))).handle
        for answer in (
            await client.write(reading, 0, b"x"),
            await client.read(writing, 0, 1),
            await client.read(listing, 0, 1),
            await client.write(listing, 0, b"x"),
            await client(wire.FSTAT, wire.string(listing)),
        ):
            assert answer.code == wire.FAILURE
        (await client.close(writing)).ok()
        assert (await client.write(writing, 0, b"late")).code == wire.FAILURE
        assert (await client.close(writing)).code == wire.FAILURE


async def test_a_handle_of_another_channel_is_none_of_ours(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        one, other = await Wire.open(connection), await Wire.open(connection)
        await one.greet()
        await other.greet()
        handle = await one.create("/NORTH/f")
        assert (await other.write(handle, 0, b"1")).code == wire.FAILURE


async def test_open_files_are_counted_over_all_channels(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        (rig.north / "f").write_bytes(b"1")
        one, other = await Wire.open(connection), await Wire.open(connection)
        await one.greet()
        await other.greet()
        opening = [
            one.ask(wire.OPEN, text("/NORTH/f"), wire.u32(wire.F_READ), wire.u32(0))
            for _ in range(300)
        ]
        answers = [await one.answer(request) for request in opening]
        opened = [answer.handle for answer in answers if answer.kind == wire.HANDLE]
        assert len(opened) == 256
        refused = next(answer for answer in answers if answer.kind == wire.STATUS)
        assert refused.code == wire.FAILURE
        assert "256 open files" in refused.message
        assert (await other(wire.OPENDIR, text("/NORTH"))).code == wire.FAILURE
        assert (await one.open_file("/NORTH/no", wire.F_READ)).code == wire.FAILURE
        (await one.close(opened[0])).ok()
        (await other.close((await other(wire.OPENDIR, text("/NORTH"))).handle)).ok()
        for _ in range(300):  # failed ones take no place
            assert (await one.open_file("/NORTH/no", wire.F_READ)).code == wire.NO_SUCH_FILE
    await until(lambda: len(rig.gate.downloads) == 256)


# --- clients that do not listen


async def test_answers_that_nobody_takes_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client asks for gigabytes, with a window for all of it, and reads nothing."""
    asked = 0
    read = DiskReader.read

    def counted(self: DiskReader, offset: int, length: int) -> bytes:
        nonlocal asked
        found = read(self, offset, length)
        asked += len(found)
        return found

    monkeypatch.setattr(DiskReader, "read", counted)
    async with running(tmp_path) as rig:
        (rig.north / "f").write_bytes(b"x" * 1_000_000)
        async with rig.connect() as connection:
            writer, reader, _ = await connection.open_session(
                subsystem="sftp", encoding=None, window=1 << 31
            )
            client = Wire(connection, writer, reader, None)
            await client.greet()
            handle = (await client.open_file("/NORTH/f", wire.F_READ)).handle
            transport = connection._transport
            transport.pause_reading()
            for _ in range(8000):
                client.ask(wire.READ, wire.string(handle), wire.u64(0), wire.u32(261120))
            before = -1
            while before != asked:  # until nothing moves any more
                before = asked
                await asyncio.sleep(0.3)
            assert asked < 64 << 20  # of 2 GB; most of it in the kernel's buffers
            transport.resume_reading()
            await until(lambda: asked > before)
            connection.abort()
        await until(lambda: not rig.gate.sessions)


async def test_requests_wait_while_many_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    running_now = highest = 0

    async def slow(self: DiskSession, path: str) -> object:
        nonlocal running_now, highest
        running_now += 1
        highest = max(highest, running_now)
        await gate.wait()
        running_now -= 1
        return self.gate.node(path)

    monkeypatch.setattr(DiskSession, "stat", slow)
    async with running(tmp_path) as rig, rig.wire() as client:
        asked = [client.ask(wire.STAT, text("/NORTH")) for _ in range(1000)]
        await until(lambda: running_now == sftp.MAX_JOBS)
        gate.set()
        for request in asked:
            assert (await client.answer(request)).attributes.size == 0
        assert highest == sftp.MAX_JOBS


# --- failures of the hub


async def test_a_broken_disk_is_a_failure_with_a_neutral_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error", "/objects/secret/place")

    monkeypatch.setattr(DiskReader, "read", broken)
    monkeypatch.setattr(DiskWriter, "write", broken)
    monkeypatch.setattr(DiskSession, "delete", broken)
    async with running(tmp_path) as rig, rig.wire() as client:
        (rig.north / "f").write_bytes(b"1")
        reading = (await client.open_file("/NORTH/f", wire.F_READ)).handle
        writing = await client.create("/NORTH/g")
        for answer in (
            await client.read(reading, 0, 1),
            await client.write(writing, 0, b"1"),
            await client(wire.REMOVE, text("/NORTH/f")),
        ):
            assert answer.code == wire.FAILURE
            assert answer.message == "input or output error"
        assert (await client.close(writing)).code == wire.FAILURE
        assert not (rig.north / "g").exists()


async def test_a_mistake_of_ours_ends_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(*_: object, **__: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(DiskSession, "delete", mistaken)
    async with running(tmp_path) as rig, rig.wire() as client:
        answer = await client(wire.REMOVE, text("/NORTH/f"))
        assert (answer.code, answer.message) == (wire.FAILURE, "internal error")
        await client.put("/NORTH/g", b"1")


async def test_a_connection_may_be_cut_at_any_byte(tmp_path: Path) -> None:
    """Whatever arrived: no file, no session, no task, no descriptor is left."""
    async with running(tmp_path) as rig:
        for cut in range(0, 6000, 397):
            await _talk(rig.port, cut)
        await until(lambda: not rig.gate.sessions and not rig.portal.connections)
        assert list(rig.north.iterdir()) == []


async def _talk(port: int, cut: int) -> None:
    """Upload through a relay that drops the connection after `cut` bytes of the client."""
    done = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        async def back() -> None:
            try:
                while data := await server_reader.read(65536):
                    writer.write(data)
            except OSError:
                pass

        async with asyncio.TaskGroup() as group:
            answering = group.create_task(back())
            left = cut
            while left > 0 and (data := await reader.read(min(left, 65536))):
                server_writer.write(data)
                left -= len(data)
            await server_writer.drain()
            server_writer.close()
            await answering
        writer.close()
        done.set()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        place = server.sockets[0].getsockname()[1]
        try:
            async with (
                asyncio.timeout(10),
                asyncssh.connect(
                    "127.0.0.1",
                    place,
                    username="alice",
                    password="secret",
                    client_keys=None,
                    known_hosts=None,
                    config=None,
                ) as connection,
            ):
                client = await Wire.open(connection)
                await client.greet()
                handle = await client.create("/NORTH/f")
                for number in range(100):
                    await client.write(handle, number * 1000, b"x" * 1000)
        except (asyncssh.Error, OSError, EOFError):
            pass
        async with asyncio.timeout(10):
            await done.wait()
