"""The connection itself: broken grammar, slow and hasty clients, ends in the middle, stops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.base.settings import HttpsSettings
from tests.protocol.https_site import Site, basic, head, site

AUTH = f"Authorization: {basic('alice')}\r\n".encode()
GET = b"GET /ecpds/data/file/NORTH/a HTTP/1.1\r\nHost: x\r\n" + AUTH
PUT = b"PUT /ecpds/data/file/NORTH/new HTTP/1.1\r\nHost: x\r\n" + AUTH
LAST = b"Connection: close\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\x01\x02\x03\r\n\r\n", 501),
        (b"HELLO / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (PUT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n01234", 400),
        (PUT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (PUT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (PUT + b"Content-Length: -5\r\n\r\n", 400),
        (PUT + b"Content-Length: +5\r\n\r\n01234", 400),
        (PUT + b"Content-Length: 5x\r\n\r\n01234", 400),
        (PUT + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0123456789\r\n", 400),
        (PUT + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400),
        (GET + b"X: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (GET + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /" + b"x" * 50_000, 431),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"PATCH /ecpds/file/NORTH/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"GET /ecpds/file/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 401),
        (b"GET http://x/ecpds/file/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 401),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 204),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 405),
        (b"GET /ecpds/static/../login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /ecpds/static/portal.css HTTP/1.0\r\n\r\n", 200),
    ],
)  # fmt: skip
async def test_one_request(tmp_path: Path, request_: bytes, status: int) -> None:
    """One answer, then the end; nothing is stored and no session stays open."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"x")
        raw = await s.raw(request_)
        found, fields, _ = head(raw)
        assert found == status
        assert fields["connection"] == "close"
        assert raw.count(b"HTTP/1.1 ") == 1
        await s.idle()
        assert s.gate.uploads == []


async def test_a_smuggled_request_is_not_seen(tmp_path: Path) -> None:
    """What stands behind a broken head is not read as a request."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"x")
        inner = GET.replace(b"GET", b"DELETE") + LAST + b"\r\n"
        raw = await s.raw(
            PUT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
        )
        assert head(raw)[0] == 400
        raw = await s.raw(
            b"GET /ecpds/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + inner
        )
        assert raw.count(b"HTTP/1.1 ") == 1  # nothing after the last request
        raw = await s.raw(GET + b"Content-Length: %d\r\n" % len(inner) + LAST + b"\r\n" + inner)
        assert raw.count(b"HTTP/1.1 ") == 1  # the body of a GET is a body
        assert s.has("/NORTH/a")


async def test_requests_in_a_row(tmp_path: Path) -> None:
    """Pipelined requests are answered in their order, each byte of a body where it belongs."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"content")
        body = b"GET / HTTP/1.1\r\n\r\n" * 3  # a body that looks like requests
        put = PUT + b"Content-Length: %d\r\n\r\n" % len(body) + body
        chunked = (
            PUT.replace(b"new", b"two")
            + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
        )
        end = GET + LAST + b"\r\n"
        stream = put + GET + b"\r\n" + chunked + end
        whole = await s.raw(stream)
        assert [line.split()[1] for line in whole.split(b"HTTP/1.1 ")[1:]] != []
        assert [int(part[:3]) for part in whole.split(b"HTTP/1.1 ")[1:]] == [201, 200, 201, 200]
        assert s.content("/NORTH/new") == body
        assert s.content("/NORTH/two") == b"abc"
        pieces = await s.raw(*(stream[n : n + 7] for n in range(0, len(stream), 7)))
        assert [int(part[:3]) for part in pieces.split(b"HTTP/1.1 ")[1:]] == [204, 200, 204, 200]
        assert s.content("/NORTH/new") == body


async def test_too_many_requests_in_a_row(tmp_path: Path) -> None:
    """A flood in one go is cut off, not kept in memory."""
    async with site(tmp_path) as s:
        one = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        raw = await s.raw(one * 2000)
        assert 32 <= raw.count(b"HTTP/1.1 404 ") < 2000
        raw = await s.raw(
            *([one * 20] * 10), one.replace(b"Host: x", b"Host: x\r\nConnection: close")
        )
        assert raw.count(b"HTTP/1.1 404 ") == 201  # one by one they are all answered


async def test_an_offered_upgrade_is_passed_over(tmp_path: Path) -> None:
    """As some clients offer HTTP/2 with their first request, also with an upload."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"content")
        offer = (
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        )
        status, fields, body = head(await s.raw(GET + offer + b"\r\n"))
        assert (status, body, fields["connection"]) == (200, b"content", "close")
        status, _, _ = head(await s.raw(PUT + offer + b"Content-Length: 5\r\n\r\n01", b"234"))
        assert (status, s.content("/NORTH/new")) == (201, b"01234")
        chunked = offer + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        status, _, _ = head(await s.raw(PUT.replace(b"new", b"two") + chunked))
        assert status in (201, 400)
        assert not s.has("/NORTH/two") or s.content("/NORTH/two") == b"abc"


async def test_old_clients(tmp_path: Path) -> None:
    """HTTP/1.0 closes, unless it asks for more."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"content")
        old = b"GET /ecpds/data/file/NORTH/a HTTP/1.0\r\n" + AUTH
        status, fields, body = head(await s.raw(old + b"\r\n"))
        assert (status, fields["connection"], body) == (200, "close", b"content")
        raw = await s.raw(old + b"Connection: keep-alive\r\n\r\n" + old + b"\r\n")
        assert raw.count(b"content") == 2
        assert head(raw)[1]["connection"] == "keep-alive"


QUICK = HttpsSettings(
    idle_timeout=timedelta(milliseconds=300), data_timeout=timedelta(milliseconds=300)
)


@pytest.mark.parametrize(
    "first", [b"", b"GET / HT", GET, GET + b"\r\n", PUT + b"Content-Length: 5\r\n\r\n012"]
)
@pytest.mark.parametrize("tls", [False, True])
async def test_silence_ends_a_connection(tmp_path: Path, first: bytes, *, tls: bool) -> None:
    async with site(tmp_path, tls=tls, settings=QUICK) as s:
        s.put("/NORTH/a", b"x")
        raw = await s.raw(first)
        assert raw.startswith(b"HTTP/1.1 " if first.endswith((b"\r\n\r\n", b"012")) else b"")
        await s.idle()


async def test_a_byte_now_and_then_does_not_prolong_a_head(tmp_path: Path) -> None:
    async with site(tmp_path, settings=QUICK) as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(ConnectionError):
            for byte in GET * 3:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
                if reader.at_eof():
                    break
        assert loop.time() - began < 5
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_takes_nothing(tmp_path: Path) -> None:
    """Is hung up on; the download is on record as broken."""
    async with site(tmp_path, settings=QUICK) as s:
        s.put("/NORTH/a", b"x" * 30_000_000)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", s.port))
        await loop.sock_sendall(sock, GET + b"\r\n")
        async with asyncio.timeout(10):
            while not s.gate.downloads:
                await asyncio.sleep(0.01)
        sock.close()
        [download] = s.gate.downloads
        assert isinstance(download.error, TimeoutError)
        assert 0 < download.sent < 30_000_000


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_that_goes_away(tmp_path: Path, *, tls: bool) -> None:
    async with site(tmp_path, tls=tls) as s:
        s.put("/NORTH/a", b"x" * 30_000_000)
        context = ssl.create_default_context(cafile=s.ca) if s.ca else None
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port, ssl=context)
        writer.write(GET + b"\r\n")
        await reader.readexactly(100_000)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not s.gate.downloads:
                await asyncio.sleep(0.01)
        [download] = s.gate.downloads
        assert isinstance(download.error, ConnectionError)
        assert 0 < download.sent < 30_000_000
        await s.idle()


async def test_a_file_that_shrinks_under_way(tmp_path: Path) -> None:
    """The connection breaks: the client sees that bytes are missing."""
    async with site(tmp_path) as s:
        place = s.put("/NORTH/a", b"x" * 30_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(GET + b"\r\n")
        await reader.readexactly(1000)
        with place.open("r+b") as file:
            file.truncate(1000)
        received = 1000
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while block := await reader.read(1 << 20):
                    received += len(block)
        assert received < 30_000_000
        writer.close()
        await s.idle()
        assert s.gate.downloads[0].error is not None


async def test_plain_http_on_the_tls_port(tmp_path: Path) -> None:
    """Is sent to HTTPS; silence and the end before the first byte do no harm."""
    async with site(tmp_path, tls=True) as s:

        async def plain(request: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
            writer.write(request)
            async with asyncio.timeout(10):
                raw = await reader.read()
            writer.close()
            return raw

        status, fields, _ = head(
            await plain(b"GET /ecpds/file/?a=b HTTP/1.1\r\nHost: n:7443\r\n\r\n")
        )
        assert (status, fields["location"]) == (308, "https://n:7443/ecpds/file/?a=b")
        assert head(await plain(b"nonsense\r\n\r\n"))[0] == 400
        _, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.close()
        _, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(b"\x16\x03\x01 this is no handshake")
        writer.close()
        assert (await s.get("/ecpds/file/")).status == 200


async def test_more_connections_than_allowed(tmp_path: Path) -> None:
    settings = HttpsSettings(max_connections=2)
    async with site(tmp_path, settings=settings) as s:
        opened = [await asyncio.open_connection("127.0.0.1", s.port) for _ in range(2)]
        async with asyncio.timeout(10):
            while s.portal.connections < 2:
                await asyncio.sleep(0.005)
        status, fields, _ = head(await s.raw(b""))
        assert (status, "retry-after" in fields) == (503, True)
        opened[0][1].close()
        async with asyncio.timeout(10):
            while s.portal.connections == 2:
                await asyncio.sleep(0.005)
        assert (await s.get("/ecpds/file/")).status == 200
        opened[1][1].close()


async def test_draining_ends_what_is_idle_and_waits_for_the_rest(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", s.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(PUT + b"Content-Length: 5\r\n\r\n01")
        async with asyncio.timeout(10):
            while not s.gate.writing:
                await asyncio.sleep(0.005)
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(s.portal.drain())
            assert await idle_reader.read() == b""
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", s.port)
            assert not draining.done()
            writer.write(b"234")
            status, fields, _ = head(await reader.read())
            assert (status, fields["connection"]) == (201, "close")
        assert s.content("/NORTH/new") == b"01234"
        idle_writer.close()
        writer.close()


async def test_draining_does_not_wait_for_a_handshake(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s:
        silent = [await asyncio.open_connection("127.0.0.1", s.port) for _ in range(2)]
        silent[1][1].write(b"\x16\x03\x01\x02\x00")  # the beginning of a handshake
        async with asyncio.timeout(10):
            while s.portal.connections < 2:
                await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            await s.portal.drain()
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_closing_ends_everything_at_once(tmp_path: Path, *, tls: bool) -> None:
    async with site(tmp_path, tls=tls) as s:
        s.put("/NORTH/a", b"x" * 30_000_000)
        context = ssl.create_default_context(cafile=s.ca) if s.ca else None
        ends = []
        for first in (b"", GET + b"\r\n", PUT + b"Content-Length: 5\r\n\r\n01"):
            _, writer = await asyncio.open_connection("127.0.0.1", s.port, ssl=context)
            writer.write(first)
            ends.append(writer)
        async with asyncio.timeout(10):
            while not s.gate.writing or s.portal.connections < 3:
                await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            await s.portal.close()
            await s.portal.close()
        assert s.gate.sessions == []
        assert s.gate.uploads == []
        for writer in ends:
            writer.transport.abort()


async def broken(s: Site, name: str) -> tuple[int, bytes]:
    got = await s.get(f"/ecpds/data/file/NORTH/{name}")
    return got.status, got.body


async def test_a_fault_of_our_own_is_told_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.protocol.diskgate import DiskSession

    async def open_read(self: DiskSession, path: str) -> object:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(DiskSession, "open_read", open_read)
    async with site(tmp_path) as s:
        assert await broken(s, "a") == (500, b"Internal error\n")
        assert "secret detail" in caplog.text
        assert (await s.get("/ecpds/file/")).status == 200


async def test_rates_are_kept_both_ways(tmp_path: Path) -> None:
    """300 KB at 1 MB/s take a third of a second; a second request finds its own rate."""
    async with site(tmp_path) as s:
        content = b"x" * 300_000
        s.put("/NORTH/a", content)
        s.gate.rate = 1_000_000
        loop = asyncio.get_running_loop()
        for work in (
            s.get("/ecpds/data/file/NORTH/a"),
            s.ask("PUT", "/ecpds/data/file/NORTH/new", body=content),
            s.get("/ecpds/data/file/NORTH/a", range="bytes=0-149999,150001-299999"),
        ):
            began = loop.time()
            assert (await work).status in (200, 201, 206)
            assert 0.1 < loop.time() - began < 5
        assert s.content("/NORTH/new") == content


@pytest.mark.parametrize("way", ["down", "up"])
async def test_an_operator_ends_a_session(tmp_path: Path, way: str) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"x" * 30_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(GET + b"\r\n" if way == "down" else PUT + b"Content-Length: 5\r\n\r\n01")
        async with asyncio.timeout(10):
            while not s.gate.sessions or (way == "up" and not s.gate.writing):
                await asyncio.sleep(0.005)
            s.gate.sessions[0].kicked = True
            writer.write(b"" if way == "down" else b"2")
            raw = b""
            with contextlib.suppress(ConnectionError):
                raw = await reader.read()
        assert len(raw) < 30_000_000
        assert raw.startswith(b"HTTP/1.1 200 " if way == "down" else b"HTTP/1.1 503 ")
        await s.idle()
        assert s.gate.uploads == []
        writer.close()
