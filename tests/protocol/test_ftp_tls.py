"""FTPS: explicit, implicit, required; what an eavesdropper or a cut must not achieve."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.settings import FtpSettings
from ecpds.base.threads import Threads
from ecpds.model.errors import ConfigError
from ecpds.portals.ftp import FtpPortal
from tests.protocol.diskgate import DiskGate
from tests.protocol.ftprig import Client, Rig, milliseconds, raw, running, until

KIB = 1024
MIB = 1024 * 1024


@asynccontextmanager
async def _secure(rig: Rig) -> AsyncIterator[Client]:
    async with rig.client(login=False) as c:
        await c.expect(220)
        await c.secure()
        assert (await c("USER alice"))[0] == 331
        assert (await c("PASS secret"))[0] == 230
        await c.protect()
        yield c


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 256 * KIB + 1, 5 * MIB + 3])
async def test_protected_transfers(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    async with running(tmp_path, tls="required") as rig, _secure(rig) as c:
        assert (await c(f"ALLO {size}"))[0] == 200
        assert (await c.put("STOR /NORTH/x", content))[0] == 226
        assert (rig.north / "x").read_bytes() == content
        assert await c.get("RETR /NORTH/x") == content
        assert (await c(f"REST {size // 2}"))[0] == 350
        assert await c.get("RETR /NORTH/x") == content[size // 2 :]
        assert await c.get("NLST") == b"NORTH\r\nSOUTH\r\n"
        assert (await c("QUIT"))[0] == 221
        assert await c.reader.read() == b""
    counts = rig.portal.counts
    assert counts.bytes_received == size
    assert counts.bytes_sent == 2 * size - size // 2


async def test_refusals_without_tls(tmp_path: Path) -> None:
    async with running(tmp_path, tls="required") as rig, rig.client(login=False) as c:
        await c.expect(220)
        assert (await c("USER alice"))[0] == 522
        assert (await c("PASS secret"))[0] == 503
        assert (await c("PBSZ 0"))[0] == 503
        assert (await c("AUTH SSL"))[0] == 504
        await c.secure()
        assert (await c("AUTH TLS"))[0] == 503
        assert (await c("PROT P"))[0] == 503
        assert (await c("USER alice"))[0] == 331
        assert (await c("PASS secret"))[0] == 230
        await c.passive()
        assert (await c("LIST"))[0] == 522  # PROT P has not come yet
        assert (await c("PBSZ x"))[0] == 501
        assert await c("PBSZ 4096") == (200, "PBSZ=0")
        assert (await c("PROT C"))[0] == 534
        assert (await c("PROT E"))[0] == 536
        assert (await c("PROT X"))[0] == 504
        await c.protect()
        assert (rig.gate.logins) == [("alice", True)]


async def test_clear_data_when_that_is_allowed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, _secure(rig) as c:
        assert (await c("PROT C"))[0] == 200
        c.protects = False
        assert (await c.put("STOR /NORTH/x", b"abc"))[0] == 226
        assert (await c("STAT"))[1].count("protected by TLS") == 1


async def test_tls_off(tmp_path: Path) -> None:
    async with running(tmp_path, tls="off") as rig, rig.client(login=False) as c:
        await c.expect(220)
        assert (await c("AUTH TLS"))[0] == 502
        assert "AUTH" not in (await c("FEAT"))[1]


async def test_implicit(tmp_path: Path) -> None:
    async with running(tmp_path, tls="implicit") as rig, rig.client(implicit=True) as c:
        assert (await c.put("STOR /NORTH/x", b"abc"))[0] == 226  # PROT P from the beginning
        assert await c.get("RETR /NORTH/x") == b"abc"
        async with rig.client(login=False) as plain:  # clear text on the TLS port
            plain.write("USER alice")
            assert b"220" not in await plain.reader.read()
        rig.gate.banned.add("127.0.0.1")
        async with rig.client(login=False, implicit=True) as banned:
            assert (await banned.reply())[0] == 421


async def test_commands_before_the_handshake_are_dropped(tmp_path: Path) -> None:
    """CVE-2011-0411 and its kin: what came in clear text is not obeyed under TLS."""
    async with running(tmp_path) as rig, rig.client(login=False) as c:
        await c.expect(220)
        c.writer.write(b"AUTH TLS\r\nUSER mallory\r\nPASS guess\r\nSTAT\r\nDEL")
        await c.expect(234)
        await c.writer.start_tls(c.context, server_hostname="127.0.0.1")
        assert (await c("NOOP"))[0] == 200
        assert (await c("PASS secret"))[0] == 503
        assert rig.gate.logins == []


async def test_a_failed_handshake_closes(tmp_path: Path) -> None:
    async with running(tmp_path, login_timeout=milliseconds(600)) as rig:
        async with rig.client(login=False) as c:
            await c.expect(220)
            assert (await c("AUTH TLS"))[0] == 234
            c.writer.write(b"USER alice\r\n" * 100)
            assert b"331" not in await c.reader.read()
        async with rig.client(login=False) as c:  # and one that never comes
            await c.expect(220)
            assert (await c("AUTH TLS"))[0] == 234
            assert await c.reader.read() == b""
        async with rig.client(login=False) as c:  # and one that is cut
            await c.expect(220)
            assert (await c("AUTH TLS"))[0] == 234
            c.hang_up()
            await until(lambda: rig.portal.connections == 0)


async def test_a_new_certificate_counts_from_the_next_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        serials = []
        for _ in range(2):
            async with _secure(rig) as c:
                found = c.writer.get_extra_info("ssl_object").getpeercert()
                serials.append(found["serialNumber"])
                assert (await c.put("STOR /NORTH/x", b"abc"))[0] == 226
            rig.tls.renew()
        assert serials[0] != serials[1]


async def test_an_upload_cut_without_close_notify_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, _secure(rig) as c:
        data = await c.begin("STOR /NORTH/x")
        await data.send(b"half of it", end=False)
        await until(lambda: any(p.stat().st_size for p in rig.gate.spool.iterdir()))
        with raw(data.writer) as sock:
            sock.shutdown(socket.SHUT_WR)  # FIN, as an attacker can send it
        code, words = await c.reply()
        assert code == 426
        assert "close_notify" in words
        assert rig.gate.uploads == []
        assert list(rig.gate.parked) == [("alice", "/NORTH/x")]
        assert (await c("REST 10"))[0] == 350
        assert (await c.put("STOR /NORTH/x", b", all"))[0] == 226
        assert (rig.north / "x").read_bytes() == b"half of it, all"


async def test_a_client_that_dies_in_a_protected_upload(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, _secure(rig) as c:
        data = await c.begin("STOR /NORTH/x")
        await data.send(bytes(MIB), end=False)
        c.hang_up()
        await until(lambda: rig.portal.connections == 0)
        assert rig.gate.uploads == []


async def test_close_notify_on_the_control_connection_is_its_end(tmp_path: Path) -> None:
    """The data ends in order, but the client said good-bye to the control connection before."""
    async with running(tmp_path) as rig:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        with sock:
            await loop.sock_connect(sock, ("127.0.0.1", rig.port))
            peer = _Peer(sock, rig.tls.client())
            await peer.until(b"220 ")
            await peer.send(b"AUTH TLS\r\n")
            await peer.until(b"234 ")
            await peer.secure()
            for line in (b"USER alice", b"PASS secret", b"EPSV"):
                await peer.send(line + b"\r\n")
            port = int((await peer.until(b"|)\r\n")).split(b"|")[3])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await peer.send(b"STOR /NORTH/x\r\n")
            await peer.until(b"150 ")
            writer.write(b"some")
            await writer.drain()
            await until(lambda: any(p.stat().st_size for p in rig.gate.spool.iterdir()))
            await peer.bye()
            writer.close()
            await until(lambda: rig.portal.connections == 0)
            assert await reader.read() == b""
        assert rig.gate.uploads == []


class _Peer:
    """A TLS client of which the test holds every record."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self._loop = asyncio.get_running_loop()
        self._is_secure = False

    async def _flush(self) -> None:
        await self._loop.sock_sendall(self._sock, self._out.read())

    async def secure(self) -> None:
        self._is_secure = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._in.write(await self._loop.sock_recv(self._sock, 65536))
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        if not self._is_secure:
            await self._loop.sock_sendall(self._sock, data)
            return
        self._tls.write(data)
        await self._flush()

    async def until(self, end: bytes) -> bytes:
        found = b""
        async with asyncio.timeout(5):
            while end not in found:
                if not self._is_secure:
                    found += await self._loop.sock_recv(self._sock, 65536)
                    continue
                try:
                    found += self._tls.read(65536)
                except ssl.SSLWantReadError:
                    self._in.write(await self._loop.sock_recv(self._sock, 65536))
        return found

    async def bye(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()


async def test_a_client_without_data_handshake(tmp_path: Path) -> None:
    async with running(tmp_path, data_timeout=milliseconds(300)) as rig, _secure(rig) as c:
        c.protects = False
        data = await c.begin("STOR /NORTH/x")
        await data.send(b"clear text, not a handshake" * 100, end=False)
        assert (await c.reply())[0] == 425
        data.reset()
        data = await c.begin("STOR /NORTH/x")
        assert (await c.reply())[0] == 425  # silence
        data.reset()
        assert rig.gate.uploads == []


async def test_many_small_protected_downloads_leave_no_connections(tmp_path: Path) -> None:
    async with running(tmp_path) as rig, _secure(rig) as c:
        (rig.north / "f").write_bytes(b"content")
        before = len(os.listdir("/proc/self/fd"))
        kept = []
        for _ in range(30):  # this client never closes its side
            data = await c.begin("RETR /NORTH/f")
            async with asyncio.timeout(5):
                assert await data.reader.readexactly(7) == b"content"
            await c.expect(226)
            kept.append(data)
        ours = len(os.listdir("/proc/self/fd")) - before - len(kept)
        assert ours <= 8


def test_tls_needs_a_certificate(tmp_path: Path) -> None:
    threads = Threads()
    for tls in ("required", "implicit"):
        settings = FtpSettings(listen="127.0.0.1:0", tls=tls)
        with pytest.raises(ConfigError):
            FtpPortal(DiskGate(tmp_path), settings, None, threads, SystemClock(), "node")
    threads.close()
