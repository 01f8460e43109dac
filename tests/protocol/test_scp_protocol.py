"""The old SCP protocol line by line: what is refused, what goes on, what is kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.account import Permission, Protocol
from ecpds.portals.ssh.scp import ScpCommand, parse
from tests.protocol.diskgate import ALL, Account, DiskSession
from tests.protocol.sshrig import PATIENCE, Rig, running
from tests.waiting import until


class Scp:
    """The client's side of one command."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer = writer
        self.reader = reader

    def send(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)

    async def take(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        async with asyncio.timeout(PATIENCE):
            return bytes(await self.reader.readexactly(count))

    async def good(self) -> None:
        """Take a good answer."""
        found = await self.take(1)
        if found != b"\0":
            pytest.fail(f"{found!r} {await self.line()!r}")

    async def bad(self) -> str:
        """Take a refusal, return its text."""
        assert await self.take(1) == b"\x01"
        return await self.line()

    async def line(self) -> str:
        """Take a line."""
        async with asyncio.timeout(PATIENCE):
            return bytes(await self.reader.readline()).decode()[:-1]

    async def end(self) -> int | None:
        """Say that no more comes; return the exit status."""
        self.writer.write_eof()
        return await self.status()

    async def status(self) -> int | None:
        """Return the exit status."""
        async with asyncio.timeout(PATIENCE):
            await self.writer.channel.wait_closed()
        found: int | None = self.writer.channel.get_exit_status()
        return found


async def _open(connection: Any, command: str) -> Scp:
    writer, reader, _ = await connection.open_session(command, encoding=None)
    return Scp(writer, reader)


# --- the command


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scp -t /N", ScpCommand(sink=True, paths=("/N",))),
        ("/usr/bin/scp -f a 'b c'", ScpCommand(sink=False, paths=("a", "b c"))),
        ("scp -r -p -d -t -- -odd", ScpCommand(True, ("-odd",), True, True, True)),
        ("scp -vqrpt .", ScpCommand(True, (".",), recursive=True, times=True)),
        ("scp -f ~/x ~", ScpCommand(sink=False, paths=("x", "/"))),
    ],
)
def test_commands(text: str, expected: ScpCommand) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "scp", "scp -t", "scp /x", "scp -t a b", "scp -tf a", "scp -S prog -t a", "rm -t a", "'"],
)
def test_other_commands(text: str) -> None:
    assert parse(text) is None


# --- the client sends


async def test_a_file_is_registered_when_it_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Protocol] = []
    monkeypatch.setattr(DiskSession, "using", lambda _, protocol: seen.append(protocol))
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -pt /NORTH")
        assert seen == [Protocol.SCP]
        await scp.good()
        scp.send(b"T1900000000 0 1900000001 0\n")
        await scp.good()
        scp.send(b"C0644 5 f\n")
        await scp.good()
        scp.send(b"12345")
        scp.send(b"\0")
        await scp.good()
        assert (rig.north / "f").read_bytes() == b"12345"
        assert rig.gate.source_times["/NORTH/f"].timestamp() == 1_900_000_000
        scp.send(b"C0644 0 empty\n")
        await scp.good()
        scp.send(b"\0")
        await scp.good()
        assert await scp.end() == 0
        assert (rig.north / "empty").read_bytes() == b""
        assert "/NORTH/empty" not in rig.gate.source_times


async def test_directories_are_entered_and_left(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        (rig.north / "there").mkdir()
        scp = await _open(connection, "scp -rt /NORTH")
        for line in (b"D0755 0 there\n", b"D0755 0 below\n", b"C0644 1 f\n"):
            await scp.good()
            scp.send(line)
        await scp.good()
        scp.send(b"1\0")
        for line in (b"E\n", b"E\n"):
            await scp.good()
            scp.send(line)
        await scp.good()
        assert await scp.end() == 0
        assert (rig.north / "there/below/f").read_bytes() == b"1"


async def test_a_refused_file_does_not_stop_the_next(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        rig.gate.max_file_size = 10
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(b"C0644 11 big\n")
        assert "10 bytes" in await scp.bad()
        scp.send(b"C0644 2 small\n")
        await scp.good()
        scp.send(b"12\0")
        await scp.good()
        assert await scp.end() == 1
        assert [p.name for p in rig.north.iterdir()] == ["small"]


async def test_a_failure_in_the_middle_is_told_after_the_content(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -t /NORTH/f")
        await scp.good()
        scp.send(b"C0644 1000000 f\n")
        await scp.good()
        rig.gate.full = True
        scp.send(b"x" * 1_000_000 + b"\0")
        assert "room" in await scp.bad()
        rig.gate.full = False
        scp.send(b"C0644 1 g\n")
        await scp.good()
        scp.send(b"1\0")
        await scp.good()
        assert await scp.end() == 1
        assert (rig.north / "f").read_bytes() == b"1"  # the target is a file's name


async def test_a_client_that_cannot_read_its_file_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(b"C0644 5 f\n")
        await scp.good()
        scp.send(b"\0\0\0\0\0\x01scp: f: Input/output error\n")
        assert "could not read" in await scp.bad()
        scp.send(b"\x01scp: g: No such file\n")
        assert await scp.end() == 1
        assert rig.gate.uploads == []


async def test_a_lost_client_parks(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        async with rig.connect() as connection:
            scp = await _open(connection, "scp -t /NORTH")
            await scp.good()
            scp.send(b"C0644 10 f\n")
            await scp.good()
            scp.send(b"12345")
            await until(lambda: any(p.stat().st_size for p in rig.gate.spool.iterdir()))
            connection.abort()
        await until(lambda: not rig.gate.sessions)
        [parked] = rig.gate.parked.values()
        assert parked.read_bytes() == b"12345"
        assert list(rig.north.iterdir()) == []


async def test_an_end_in_the_middle_of_a_file_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(b"C0644 10 f\n")
        await scp.good()
        scp.send(b"12345")
        assert await scp.end() == 1
        assert rig.gate.uploads == []


@pytest.mark.parametrize(
    "line",
    [
        b"C0644 1 ../f\n",
        b"C0644 1 a/b\n",
        b"C0644 1 ..\n",
        b"C0644 1 .\n",
        b"C0644 1 \n",
        b"C0644 -1 f\n",
        b"C0644 1e3 f\n",
        b"C0999 1 f\n",
        b"C0644 \xff f\n",
        b"C0644\n",
        b"D0755 0 d\n",  # without -r
        b"T1 2\n" + b"E\n",
        b"Tx 0 0 0\n",
        b"T99999999999999999999 0 0 0\n",
        b"E\n",
        b"X\n",
        b"\x02the client gives up\n",
        b"x" * 5000,
        b"C0644 1 " + b"n" * 300 + b"\n",
    ],
)
async def test_lines_that_cannot_be(tmp_path: Path, line: bytes) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(line)
        assert await scp.end() == 1
        assert rig.gate.uploads == []
        assert rig.gate.spooled <= 1


async def test_directories_have_a_depth(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -rt /NORTH")
        for _ in range(64):
            await scp.good()
            scp.send(b"D0755 0 d\n")
        await scp.good()
        scp.send(b"D0755 0 d\n")
        assert "not expected" in await scp.bad()
        assert await scp.status() == 1


async def test_a_directory_that_is_wanted_must_be_one(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        scp = await _open(connection, "scp -d -t /NORTH/no")
        assert "not a directory" in await scp.bad()
        assert await scp.status() == 1


async def test_rights(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=ALL - {Permission.PUT, Permission.GET})}
    async with running(tmp_path, accounts=accounts) as rig, rig.connect() as connection:
        (rig.north / "f").write_bytes(b"1")
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(b"C0644 1 g\n")
        assert "put" in await scp.bad()
        assert await scp.end() == 1
        scp = await _open(connection, "scp -f /NORTH/f")
        scp.send(b"\0")
        assert "get" in await scp.bad()
        assert await scp.status() == 1


async def test_rates_hold_both_ways(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        rig.gate.rate = 100_000
        began = time.monotonic()
        scp = await _open(connection, "scp -t /NORTH")
        await scp.good()
        scp.send(b"C0644 50000 f\n")
        await scp.good()
        scp.send(b"x" * 50_000 + b"\0")
        await scp.good()
        assert await scp.end() == 0
        assert 0.4 < time.monotonic() - began < 5
        began = time.monotonic()
        scp = await _open(connection, "scp -f /NORTH/f")
        scp.send(b"\0")
        await scp.line()
        scp.send(b"\0")
        assert await scp.take(50_001) == b"x" * 50_000 + b"\0"
        assert 0.4 < time.monotonic() - began < 5
        scp.send(b"\0")
        assert await scp.end() == 0


# --- the client fetches


async def test_a_file_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        (rig.north / "f").write_bytes(b"12345")
        scp = await _open(connection, "scp -pf /NORTH/f")
        scp.send(b"\0")
        assert (await scp.line()).startswith("T")
        scp.send(b"\0")
        assert await scp.line() == "C0644 5 f"
        scp.send(b"\0")
        assert await scp.take(6) == b"12345\0"
        scp.send(b"\0")
        assert await scp.end() == 0
        [download] = rig.gate.downloads
        assert (download.sent, download.error) == (5, None)


@pytest.mark.parametrize("answer", [b"\x01no\n", b"\x02stop\n"])
async def test_a_client_may_refuse(tmp_path: Path, answer: bytes) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        (rig.north / "f").write_bytes(b"12345")
        scp = await _open(connection, "scp -f /NORTH/f")
        scp.send(b"\0")
        assert await scp.line() == "C0644 5 f"
        scp.send(answer)
        assert await scp.end() == 1
        [download] = rig.gate.downloads
        assert download.sent == 0
        assert download.error is not None


async def test_a_client_that_stops_reading_holds_little(tmp_path: Path) -> None:
    """The window of the channel bounds what is on its way, the session ends with the client."""
    async with running(tmp_path) as rig:
        (rig.north / "f").write_bytes(bytes(20_000_000))
        async with rig.connect() as connection:
            scp = await _open(connection, "scp -f /NORTH/f")
            scp.send(b"\0")
            await scp.line()
            scp.writer.channel.pause_reading()
            scp.send(b"\0")
            await until(lambda: scp.writer.channel._recv_buf)
            connection.abort()
        await until(lambda: rig.gate.downloads)
        [download] = rig.gate.downloads
        assert download.sent < 10_000_000
        assert download.error is not None


async def test_what_is_missing_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.connect() as connection:
        (rig.north / "f").write_bytes(b"1")
        (rig.north / "d").mkdir()
        scp = await _open(connection, "scp -f /NORTH/no /NORTH/d /NORTH/f")
        scp.send(b"\0")
        assert "not there" in await scp.bad()
        assert "is a directory" in await scp.bad()
        assert await scp.line() == "C0644 1 f"
        scp.send(b"\0")
        assert await scp.take(2) == b"1\0"
        scp.send(b"\0")
        assert await scp.status() == 1


async def _silent(rig: Rig) -> None:
    async with rig.connect() as connection:
        scp = await _open(connection, "scp -f /NORTH/f")
        assert await scp.end() == 1


async def test_a_client_that_says_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        (rig.north / "f").write_bytes(b"1")
        await _silent(rig)
        assert rig.gate.downloads == []
