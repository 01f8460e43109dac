"""Uploads and downloads: what is registered, what is parked, what is interrupted."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from pathlib import Path

import pytest

from tests.protocol.ftprig import Client, Rig, milliseconds, raw, running, until, urgent

KIB = 1024
MIB = 1024 * 1024
SIZES = [0, 1, 16 * KIB, 256 * KIB, 256 * KIB + 1, 5 * MIB + 3]


def _nothing_there(rig: Rig) -> bool:
    return list(rig.north.iterdir()) == [] and rig.gate.uploads == []


def _parked(rig: Rig) -> dict[str, bytes]:
    return {path: spool.read_bytes() for (_, path), spool in rig.gate.parked.items()}


@pytest.mark.parametrize("size", SIZES)
async def test_what_goes_in_comes_out(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("TYPE A"))[0] == 200  # bytes are not changed nevertheless
        assert (await c(f"ALLO {size}"))[0] == 200
        assert (await c.put("STOR /NORTH/a b é", content))[0] == 226
        assert (rig.north / "a b é").read_bytes() == content
        assert await c("SIZE /NORTH/a b é") == (213, str(size))
        assert await c.get("RETR /NORTH/a b é") == content
        assert (await c(f"REST {size // 2}"))[0] == 350
        assert await c.get("RETR /NORTH/a b é") == content[size // 2 :]
        assert await c.get("RETR /NORTH/a b é") == content  # REST was for one transfer
        await until(lambda: len(rig.gate.downloads) == 3)
        assert [(d.sent, d.offset, d.error) for d in rig.gate.downloads] == [
            (size, 0, None),
            (size - size // 2, size // 2, None),
            (size, 0, None),
        ]
    counts = rig.portal.counts
    assert (counts.uploads, counts.downloads, counts.failed_transfers) == (1, 3, 0)
    assert counts.bytes_received == size
    assert counts.bytes_sent == 3 * size - size // 2


async def test_refused_downloads(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        (rig.north / "f").write_bytes(b"12345")
        assert (await c("RETR /NORTH/f"))[0] == 425
        await c.passive()
        assert (await c("RETR /NORTH/none"))[0] == 550
        assert (await c("RETR /NORTH"))[0] == 550
        assert (await c("REST 6"))[0] == 350
        assert (await c("RETR /NORTH/f"))[0] == 554
        assert (await c("REST 5"))[0] == 350
        assert await c.get("RETR /NORTH/f") == b""


async def test_a_short_upload_can_be_resumed(tmp_path: Path) -> None:
    """Ex 25: 10 of 20 announced bytes register nothing and are kept for REST 10."""
    async with running(tmp_path) as rig:
        async with rig.client() as c:
            assert (await c("ALLO 20"))[0] == 200
            code, words = await c.put("STOR /NORTH/x", b"0123456789")
            assert code == 451
            assert words.startswith("10 of 20 bytes came")
            assert _nothing_there(rig)
            assert (await c("SIZE /NORTH/x"))[0] == 550
        async with rig.client() as c:
            assert (await c("REST 10"))[0] == 350
            assert (await c.put("STOR /NORTH/x", b"abcdefghij"))[0] == 226
    assert (rig.north / "x").read_bytes() == b"0123456789abcdefghij"
    assert rig.gate.uploads == ["/NORTH/x"]


@pytest.mark.parametrize("announced", [10, 20])
async def test_allo_of_a_resumed_upload_means_the_rest_or_all(
    tmp_path: Path, announced: int
) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("ALLO 20"))[0] == 200
        assert (await c.put("STOR /NORTH/x", b"0123456789"))[0] == 451
        assert (await c(f"ALLO {announced}"))[0] == 200
        assert (await c("REST 10"))[0] == 350
        assert (await c.put("STOR /NORTH/x", b"abcdefghij"))[0] == 226
        assert (rig.north / "x").stat().st_size == 20


async def test_more_than_announced_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("ALLO 5"))[0] == 200
        assert (await c.put("STOR /NORTH/x", b"0123456789"))[0] == 552
        assert _nothing_there(rig)
        assert rig.gate.parked == {}
        assert (await c.put("STOR /NORTH/x", b"0123456789"))[0] == 226  # ALLO was for one


async def test_append_goes_on_with_a_parked_upload_only(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("ALLO 6"))[0] == 200
        assert (await c.put("APPE /NORTH/x", b"abc"))[0] == 451
        assert (await c.put("APPE /NORTH/x", b"def"))[0] == 226
        assert (rig.north / "x").read_bytes() == b"abcdef"
        await c.passive()
        assert (await c("APPE /NORTH/x"))[0] == 550
        assert (await c("REST 3"))[0] == 350
        assert (await c("STOR /NORTH/x"))[0] == 504  # nothing is parked
        assert (rig.north / "x").read_bytes() == b"abcdef"


async def test_unique_names(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("CWD NORTH"))[0] == 250
        names = set()
        for command in ("STOU", "STOU", "STOU obs"):
            reader, writer = await c.passive()
            c.write(command)
            first = await c.expect(150)
            writer.close()
            match = re.fullmatch(r"FILE: ((?:upload|obs)\.[0-9a-f]{12})", first)
            assert match
            assert (await c.expect(226)).endswith(first)
            names.add(match[1])
            assert await reader.read() == b""
        assert {p.name for p in rig.north.iterdir()} == names
        assert len(names) == 3


@pytest.mark.parametrize("size", [100 * KIB, 8 * MIB])
async def test_a_reset_data_connection_registers_nothing(tmp_path: Path, size: int) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        data = await c.begin("STOR /NORTH/x")
        await data.send(bytes(size), end=False)
        await until(lambda: sum(len(b) for b in _spooled(rig)) == size)
        data.reset()
        assert (await c.reply())[0] == 426
        assert _nothing_there(rig)
        assert _parked(rig) == {"/NORTH/x": bytes(size)}


def _spooled(rig: Rig) -> list[bytes]:
    return [path.read_bytes() for path in rig.gate.spool.iterdir()]


@pytest.mark.parametrize("size", [100 * KIB, 8 * MIB])
async def test_a_lost_control_connection_registers_nothing(tmp_path: Path, size: int) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        data = await c.begin("STOR /NORTH/x")
        await data.send(bytes(size), end=False)
        await until(lambda: sum(len(b) for b in _spooled(rig)) == size)
        c.writer.close()
        await until(lambda: rig.portal.connections == 0)
        assert _nothing_there(rig)
        assert _parked(rig) == {"/NORTH/x": bytes(size)}


@pytest.mark.parametrize("first", ["control", "data"])
async def test_a_client_that_dies_registers_nothing(tmp_path: Path, first: str) -> None:
    """Both connections end in the same moment, as when the process is killed."""
    async with running(tmp_path) as rig:
        for number in range(10):
            async with rig.client() as c:
                data = await c.begin(f"STOR /NORTH/x{number}")
                await data.send(b"half of it", end=False)
                with raw(c.writer) as control, raw(data.writer) as other:
                    for sock in (control, other) if first == "control" else (other, control):
                        sock.shutdown(socket.SHUT_RDWR)
                await until(lambda: rig.portal.connections == 0)
        assert _nothing_there(rig)


async def test_abort_of_an_upload(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        data = await c.begin("STOR /NORTH/x")
        await data.send(b"some", end=False)
        await until(lambda: _spooled(rig) == [b"some"])
        urgent(c, b"\xff\xf4\xff")  # as the classic ftp program does
        c.writer.write(b"\xf2ABOR\r\n")
        assert (await c.reply())[0] == 426
        assert (await c.reply())[0] == 226
        assert _nothing_there(rig)
        assert _parked(rig) == {"/NORTH/x": b"some"}
        assert (await c("NOOP"))[0] == 200


@pytest.mark.parametrize("size", [200 * KIB, 64 * MIB])
async def test_abort_of_a_download(tmp_path: Path, size: int) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        with (rig.north / "big").open("wb") as file:
            file.truncate(size)
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setblocking(False)
        with narrow:
            assert (await c("EPSV ALL"))[0] == 200
            port = (await c("EPSV"))[1].split("|")[3]
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", int(port)))
            c.write("RETR /NORTH/big")
            if size > MIB:  # else it fits into the buffers, and both replies come at once
                await c.expect(150)
                assert await asyncio.get_running_loop().sock_recv(narrow, 1) == b"\0"
                assert (await c("ABOR"))[0] == 426
                assert (await c.reply())[0] == 226
                await until(lambda: rig.gate.downloads)
                [record] = rig.gate.downloads
                assert record.error is not None
                assert 0 < record.sent < size
            else:
                await c.expect(150)
                await c.expect(226)
                assert (await c("ABOR"))[0] == 226


async def test_abort_while_waiting_for_the_client(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("EPSV"))[0] == 229
        c.write("STOR /NORTH/x")
        c.write("ABOR")
        assert (await c.reply())[0] == 426
        assert (await c.reply())[0] == 226
        assert _nothing_there(rig)


async def test_a_download_that_the_client_breaks_off(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        with (rig.north / "big").open("wb") as file:
            file.truncate(64 * MIB)
        data = await c.begin("RETR /NORTH/big")
        await data.reader.readexactly(100_000)
        data.reset()
        assert (await c.reply())[0] == 426
        [record] = rig.gate.downloads
        assert record.error is not None
        assert record.sent < 64 * MIB
        assert (await c("NOOP"))[0] == 200


@pytest.mark.parametrize("command", ["RETR /NORTH/big", "STOR /NORTH/x", "LIST"])
async def test_a_data_connection_that_stalls_times_out(tmp_path: Path, command: str) -> None:
    async with running(tmp_path, data_timeout=milliseconds(200)) as rig, rig.client() as c:
        with (rig.north / "big").open("wb") as file:
            file.truncate(64 * MIB)
        if command == "LIST":  # and one that never comes
            assert (await c("EPSV"))[0] == 229
            assert await c("LIST") == (425, "nothing moved for 0.2 s")
            return
        data = await c.begin(command)
        await data.send(b"some", end=False)
        assert await c.reply() == (426, "nothing moved for 0.2 s")
        assert (await c("NOOP"))[0] == 200
        assert _parked(rig) == ({"/NORTH/x": b"some"} if "STOR" in command else {})


@pytest.mark.parametrize(
    ("limit", "code"), [("max_file_size", 552), ("quota", 552), ("full", 552), ("stopping", 421)]
)
async def test_limits(tmp_path: Path, limit: str, code: int) -> None:
    async with running(tmp_path) as rig:
        for size in (10 * KIB, 3 * MIB):
            async with rig.client() as c:
                setattr(rig.gate, limit, 5000 if "_" in limit or limit == "quota" else True)
                _, writer = await c.passive()
                c.write("STOR /NORTH/x")
                found, _ = await c.reply()
                if found == 150:
                    try:
                        writer.write(bytes(size))
                        await writer.drain()
                        writer.close()
                    except ConnectionError:
                        assert size > MIB
                    found, _ = await c.reply()
                assert found == code
                assert _nothing_there(rig)
                assert rig.gate.parked == {}
                setattr(rig.gate, limit, None if limit in ("max_file_size", "quota") else False)
        async with rig.client() as c:
            rig.gate.max_file_size = 5000
            assert (await c("ALLO 5001"))[0] == 200
            await c.passive()
            assert (await c("STOR /NORTH/x"))[0] == 552  # before a byte is sent


async def test_limit_of_a_big_upload_holds_while_the_kernel_copies(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        rig.gate.max_file_size = 10 * MIB
        data = await c.begin("STOR /NORTH/x")
        with pytest.raises(ConnectionError):
            await data.send(bytes(64 * MIB), end=False)
        assert (await c.reply())[0] == 552
        assert _nothing_there(rig)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_rate_cap_holds_both_ways(tmp_path: Path, secure: bool) -> None:
    content = os.urandom(MIB)
    async with (
        running(tmp_path, tls="implicit" if secure else "off") as rig,
        rig.client(implicit=secure) as c,
    ):
        rig.gate.rate = 4 * MIB
        began = time.monotonic()
        assert (await c.put("STOR /NORTH/x", content))[0] == 226
        middle = time.monotonic()
        assert await c.get("RETR /NORTH/x") == content
        end = time.monotonic()
        assert middle - began > 0.1  # 0.25 s, less the last block
        assert end - middle > 0.1
        rig.gate.rate = 1000  # the next block would come in four seconds
        data = await c.begin("RETR /NORTH/x")
        assert await data.reader.readexactly(100) == content[:100]
        assert (await c("ABOR"))[0] == 426
        assert (await c.reply())[0] == 226
        data.reset()


async def test_two_uploads_of_one_name(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as a, rig.client() as b:
        data = await a.begin("STOR /NORTH/x")
        await b.passive()
        assert (await b("STOR /NORTH/x"))[0] == 450
        await data.send(b"first")
        assert (await a.reply())[0] == 226
        assert (rig.north / "x").read_bytes() == b"first"


async def test_pipelined_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client(login=False) as c:
        (rig.north / "f").write_bytes(b"content")
        c.writer.write(
            b"USER alice\r\nPASS secret\r\nCWD NORTH\nSIZE f\r\nEPSV\r\nRETR f\r\nNOOP\r\n"
        )
        for code in (220, 331, 230, 250, 213):
            await c.expect(code)
        port = (await c.expect(229)).split("|")[3]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        assert await reader.read() == b"content"
        writer.close()
        for code in (150, 226, 200):
            await c.expect(code)


async def test_a_client_that_pipelines_for_ever_waits(tmp_path: Path) -> None:
    """Who sends commands and reads no replies is stopped by back-pressure and then cut."""
    async with running(tmp_path, data_timeout=milliseconds(500)) as rig, rig.client() as c:
        with raw(c.writer) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.reader._transport.pause_reading()  # type: ignore[attr-defined]
        try:
            for _ in range(10_000):
                c.writer.write(b"HELP\r\n" * 1000)
                async with asyncio.timeout(5):
                    await c.writer.drain()
        except ConnectionError:
            pass
        await until(lambda: rig.portal.connections == 0)
        assert rig.portal.counts.commands < 1_000_000


async def _passive(c: Client) -> tuple[str, int]:
    numbers = re.findall(r"\d+", (await c("PASV"))[1])
    return ".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])


async def test_passive_and_extended_passive(tmp_path: Path) -> None:
    async with running(tmp_path, public_address="192.0.2.7") as rig, rig.client() as c:
        host, port = await _passive(c)
        assert host == "127.0.0.1"  # a loopback client cannot reach the public address
        assert (await c("EPSV 1"))[0] == 229
        with pytest.raises(ConnectionRefusedError):  # the earlier port is given back
            await asyncio.open_connection(host, port)
        assert await c("EPSV 2") == (522, "Network protocol not supported, use (1)")
        assert (await c("EPSV x"))[0] == 522
        assert (await c("EPSV ALL"))[0] == 200
        for command in ("PASV", "PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|51201|"):
            assert (await c(command))[0] == 503
        assert (await c("EPSV"))[0] == 229


async def test_passive_ports_come_from_their_range(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(tmp_path, passive_ports=f"{port}") as rig, rig.client() as c:
            assert await c("EPSV") == (425, "no passive port is free")
            taken.close()
            for _ in range(5):  # the port is free again at once after each transfer
                assert f"|||{port}|" in (await c("EPSV"))[1]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                c.write("NLST")
                await c.expect(150)
                assert await reader.read() == b"NORTH\r\nSOUTH\r\n"
                writer.close()
                await c.expect(226)


async def test_strangers_cannot_take_a_data_connection(tmp_path: Path) -> None:
    async with running(tmp_path, listen="0.0.0.0:0") as rig, rig.client() as c:
        (rig.north / "f").write_bytes(b"content")
        port = int((await c("EPSV"))[1].split("|")[3])
        stranger, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        own, own_writer = await asyncio.open_connection("127.0.0.1", port)
        c.write("RETR /NORTH/f")
        await c.expect(150)
        assert await own.read() == b"content"
        await c.expect(226)
        assert await stranger.read() == b""
        writer.close()
        own_writer.close()


async def test_active_mode(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        assert (await c("PORT 127,0,0,1,200,1"))[0] == 502
        assert (await c("EPRT |1|127.0.0.1|51201|"))[0] == 502
    async with running(tmp_path / "active", active=True) as rig, rig.client() as c:
        assert "\n EPRT\n" in (await c("FEAT"))[1]
        expected = {
            "PORT 127,0,0,2,200,1": 504, "PORT 127,0,0,1,0,22": 504, "PORT 1,2,3": 501,
            "PORT 256,0,0,1,200,1": 501, "EPRT |1|192.0.2.1|51201|": 504, "EPRT x": 501,
            "EPRT |3|x|1|": 522, "EPRT |2|127.0.0.1|51201|": 501, "EPRT |1|127.0.0.1|70000|": 501,
        }  # fmt: skip
        for command, code in expected.items():
            assert (await c(command))[0] == code, command
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            high, low = divmod(listening.getsockname()[1], 256)
            for command in (
                f"PORT 127,0,0,1,{high},{low}",
                f"EPRT |1|127.0.0.1|{high * 256 + low}|",
            ):
                assert (await c(command))[0] == 200
                c.write("NLST")
                sock, _ = await asyncio.get_running_loop().sock_accept(listening)
                reader, writer = await asyncio.open_connection(sock=sock)
                assert await reader.read() == b"NORTH\r\nSOUTH\r\n"
                writer.close()
                await c.expect(150)
                await c.expect(226)
        assert (await c(f"PORT 127,0,0,1,{high},{low}"))[0] == 200
        assert await c("NLST") == (425, "cannot connect to you: ECONNREFUSED")


async def test_ipv6(tmp_path: Path) -> None:
    async with running(tmp_path, listen="[::1]:0", active=True) as rig:
        (rig.north / "f").write_bytes(b"content")
        c = Client(rig.tls.client())
        c.port = rig.port
        c.reader, c.writer = await asyncio.open_connection("::1", rig.port)
        await c.login()
        assert (await c("PASV"))[0] == 425
        assert await c("EPSV 1") == (522, "Network protocol not supported, use (2)")
        port = int((await c("EPSV 2"))[1].split("|")[3])
        reader, writer = await asyncio.open_connection("::1", port)
        c.write("RETR /NORTH/f")
        await c.expect(150)
        assert await reader.read() == b"content"
        await c.expect(226)
        writer.close()
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            listening.setblocking(False)
            assert (await c(f"EPRT |2|::1|{listening.getsockname()[1]}|"))[0] == 200
            c.write("RETR /NORTH/f")
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            reader, writer = await asyncio.open_connection(sock=sock)
            assert await reader.read() == b"content"
            writer.close()
        c.hang_up()


async def test_a_long_listing_in_bounded_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        for number in range(3000):
            (rig.north / f"{number:0200d}").touch()
        data = await c.begin("NLST /NORTH")
        await asyncio.sleep(0)
        names = (await data.all()).decode().split("\r\n")
        assert names[:-1] == [f"/NORTH/{number:0200d}" for number in range(3000)]
        assert (await c.reply())[0] == 226
        code, words = await c("STAT /NORTH")
        assert (code, len(words.split("\n"))) == (213, 1002)


async def test_listings_sent_ahead_as_filezilla_does(tmp_path: Path) -> None:
    """CWD, PWD, TYPE, EPSV and MLSD without waiting; the data connection comes at its own time."""
    async with running(tmp_path) as rig, rig.client() as c:
        for name in ("a", "b"):
            (rig.north / name).mkdir()
            (rig.north / name / f"in-{name}").write_bytes(name.encode())
        for name in ("a", "b"):
            c.writer.write(f"CWD /NORTH/{name}\r\nPWD\r\nTYPE I\r\nEPSV\r\nMLSD\r\n".encode())
            for code in (250, 257, 200):
                await c.expect(code)
            port = (await c.expect(229)).split("|")[3]
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            lines = (await reader.read()).decode().splitlines()
            writer.close()
            assert [line.partition("; ")[2] for line in lines] == [f"in-{name}"]
            c.writer.write(b"NOOP\r\n")
            for code in (150, 226, 200):
                await c.expect(code)
