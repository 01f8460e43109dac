"""Hostile input, slow peers, half-closed sockets, draining and closing."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.settings import FtpSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import ConfigError
from ecpds.portals.ftp import FtpPortal
from ecpds.portals.ftp.setups import PassivePorts
from ecpds.portals.ftp.site import MAX_STRANGERS
from tests.clock import FakeClock
from tests.protocol.diskgate import DiskGate
from tests.protocol.ftprig import milliseconds, running, until

MIB = 1024 * 1024


async def test_lines_that_are_none(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        for line in (
            b"CWD a\0b",
            b"CWD a\x07",
            b"CWD \xc3\x28",
            b"CWD a\rb",
            b"CWD \xc2\x85",
            b"\0",
        ):
            c.writer.write(line + b"\r\n")
            assert (await c.reply())[0] == 500, line
        c.writer.write(b"STOR " + b"x" * 4091 + b"\r\n")  # one byte too long
        assert await c.reply() == (500, "a command line has at most 4096 bytes")
        c.writer.write(b"STOR " + b"x" * 200_000 + b"\r\nNOOP\r\n")
        assert (await c.reply())[0] == 500
        assert (await c.reply())[0] == 200
        c.writer.write(b"\xff\xfb\x01\xff\xfd\x03NOOP\r\n\xff\xf1NOOP\n")  # Telnet options
        assert (await c.reply())[0] == 200
        assert (await c.reply())[0] == 200
        assert (await c(" NOOP"))[0] == 500
        c.writer.write(b"\r\n\r\n")
        assert (await c.reply())[0] == 500
        assert (await c.reply())[0] == 500
        assert (await c("PWD"))[0] == 257


async def test_noise_harms_nobody(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with running(tmp_path) as rig, rig.client() as other:
        for _ in range(20):
            async with rig.client(login=False) as c:
                c.writer.write(dice.randbytes(dice.randrange(20_000)) + b"\r\nQUIT\r\n")
                async with asyncio.timeout(5):
                    await c.reader.read()
        assert (await other("NOOP"))[0] == 200
        assert list(rig.north.iterdir()) == []


async def test_strange_commands_before_login_are_few(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client(login=False) as c:
        await c.expect(220)
        for _ in range(50):
            assert (await c("NOOP"))[0] == 200
        assert (await c("NOOP"))[0] == 421
        assert await c.reader.read() == b""


async def test_no_login_in_time(tmp_path: Path) -> None:
    async with (
        running(tmp_path, login_timeout=milliseconds(300)) as rig,
        rig.client(login=False) as c,
    ):
        await c.expect(220)
        for _ in range(5):  # drops of a line do not buy time
            c.writer.write(b"N")
            await asyncio.sleep(0.02)
        assert (await c.reply())[0] == 421
        assert await c.reader.read() == b""


async def test_idle_after_login(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout=milliseconds(200)) as rig, rig.client() as c:
        assert (await c.reply())[0] == 421
        assert await c.reader.read() == b""
        assert rig.gate.sessions == []


async def test_a_half_closed_control_connection(tmp_path: Path) -> None:
    """Commands that came before the end are obeyed, as in `printf ... | nc`."""
    async with running(tmp_path) as rig, rig.client(login=False) as c:
        c.writer.write(b"USER alice\r\nPASS secret\r\nMKD /NORTH/d\r\nQUIT\r\n")
        c.writer.write_eof()
        async with asyncio.timeout(5):
            answer = await c.reader.read()
        assert [line[:3] for line in answer.split(b"\r\n")] == [
            b"220", b"331", b"230", b"257", b"221", b"",
        ]  # fmt: skip
        assert (rig.north / "d").is_dir()


async def test_half_closed_during_an_upload(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        data = await c.begin("STOR /NORTH/x")
        c.writer.write_eof()
        await data.send(b"some")
        await until(lambda: rig.portal.connections == 0)
        assert rig.gate.uploads == []


async def test_a_client_that_reads_slowly_gets_everything(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    async with running(tmp_path) as rig, rig.client() as c:
        (rig.north / "f").write_bytes(content)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        with sock:
            loop = asyncio.get_running_loop()
            port = int((await c("EPSV"))[1].split("|")[3])
            await loop.sock_connect(sock, ("127.0.0.1", port))
            c.write("RETR /NORTH/f")
            await c.expect(150)
            found = b""
            while piece := await loop.sock_recv(sock, 50_000):
                found += piece
                await asyncio.sleep(0)
            assert found == content
            await c.expect(226)


async def test_a_client_that_sends_slowly(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        data = await c.begin("STOR /NORTH/f")
        for number in range(50):
            await data.send(bytes([number]) * 1000, end=False)
            await asyncio.sleep(0.001)
        await data.close()
        assert (await c.reply())[0] == 226
        assert (rig.north / "f").read_bytes() == b"".join(bytes([n]) * 1000 for n in range(50))


async def test_slow_clients_hold_no_threads(tmp_path: Path) -> None:
    """More stalled big downloads than there are threads, and another client is still served."""
    async with running(tmp_path) as rig, rig.client() as other:
        with (rig.north / "big").open("wb") as file:
            file.truncate(64 * MIB)
        (rig.north / "small").write_bytes(bytes(MIB))
        clients = [rig.client() for _ in range(20)]
        for manager in clients:
            c = await manager.__aenter__()
            (await c.begin("RETR /NORTH/big")).reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            assert len(await other.get("RETR /NORTH/small")) == MIB
            assert (await other.put("STOR /NORTH/up", bytes(4 * MIB)))[0] == 226
        assert rig.portal.counts.transfers == 20
        for manager in clients:
            await manager.__aexit__(None, None, None)
        await until(lambda: rig.portal.counts.transfers == 0)


async def test_caps(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as rig:
        async with rig.client() as a, rig.client(), rig.client(login=False) as third:
            assert await third.reply() == (421, "Too many connections")
            assert await third.reader.read() == b""
            assert (await a("NOOP"))[0] == 200
        await until(lambda: rig.portal.connections == 0)
        async with rig.client():
            pass


async def test_strangers_of_one_address_are_few(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        opened = [
            await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(MAX_STRANGERS)
        ]
        await until(lambda: rig.portal.connections == MAX_STRANGERS + 1)
        async with rig.client(login=False) as late:
            assert (await late.reply())[0] == 421
        assert (await c("NOOP"))[0] == 200
        for _, writer in opened:
            writer.transport.abort()
        await until(lambda: rig.portal.connections == 1)
        async with rig.client():
            pass


async def test_an_ended_session_is_hung_up_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock=clock) as rig, rig.client() as idle, rig.client() as busy:
        data = await busy.begin("STOR /NORTH/x")
        await data.send(b"some", end=False)
        await until(lambda: any(p.stat().st_size for p in rig.gate.spool.iterdir()))
        for session in rig.gate.sessions:
            session.kicked = True
        await clock.advance(milliseconds(2000))
        assert await idle.reply() == (421, "Your session was ended")
        assert await idle.reader.read() == b""
        assert await busy.reply() == (421, "Your session was ended")
        assert await busy.reader.read() == b""
        await until(lambda: rig.gate.sessions == [])
        assert rig.gate.uploads == []


async def test_unused_passive_ports_are_taken_back(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        running(tmp_path, clock=clock, data_timeout=milliseconds(100)) as rig,
        rig.client() as c,
    ):
        port = int((await c("EPSV"))[1].split("|")[3])
        await asyncio.sleep(0.15)
        await clock.advance(milliseconds(2000))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await c("LIST"))[0] == 425


async def test_drain_lets_transfers_finish(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, rig.client() as idle, rig.client() as busy:
        data = await busy.begin("STOR /NORTH/x")
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(rig.portal.drain())
            assert (await idle.reply())[0] == 421
            assert await idle.reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", rig.port)
            assert not drained.done()
            assert not rig.portal.ready
            await data.send(b"content")
            assert (await busy.reply())[0] == 226
            assert (await busy.reply())[0] == 421
        assert (rig.north / "x").read_bytes() == b"content"


@pytest.mark.parametrize("command", ["STOR /NORTH/x", "RETR /NORTH/big"])
async def test_close_ends_transfers_and_parks(tmp_path: Path, command: str) -> None:
    async with running(tmp_path) as rig, rig.client() as c:
        with (rig.north / "big").open("wb") as file:
            file.truncate(64 * MIB)
        data = await c.begin(command)
        await data.send(b"some", end=False)
        if command.startswith("STOR"):
            await until(lambda: any(p.stat().st_size for p in rig.gate.spool.iterdir()))
        await rig.portal.close()
        await rig.portal.close()
        assert (await c.reply())[0] == 421
        assert rig.portal.connections == 0
        assert rig.gate.sessions == []
        assert bool(rig.gate.parked) == command.startswith("STOR")


async def test_settings_that_cannot_work(tmp_path: Path) -> None:
    threads, gate = Threads(), DiskGate(tmp_path)

    def portal(**settings: str) -> FtpPortal:
        return FtpPortal(gate, FtpSettings(**settings), None, threads, SystemClock(), "node")  # type: ignore[arg-type]

    assert await portal(listen="").start() == []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for listen in (
            f"127.0.0.1:{taken.getsockname()[1]}", "nonsense", "127.0.0.1:x", "::1:21",
            "127.0.0.1:70000", "no.such.host.invalid:0", "192.0.2.1:0",
        ):  # fmt: skip
            with pytest.raises(ConfigError):
                await portal(listen=listen).start()
    with pytest.raises(ConfigError):
        await portal(listen="127.0.0.1:0", public_address="no.such.host.invalid").start()
    for ports in ("x", "7199-7100", "0-5", "1-70000", "7100-", "-5"):
        with pytest.raises(ConfigError):
            PassivePorts(ports)
    for ports in ("", "0", "7100", " 7100 - 7199 "):
        PassivePorts(ports)
    threads.close()
