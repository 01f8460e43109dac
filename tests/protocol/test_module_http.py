"""The HTTP client request by request: against a server that answers as the test wants."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ecpds.model.entry import Kind
from ecpds.model.errors import (
    ConnectionLost,
    Phase,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    RemoteVerify,
    SourceBroke,
    Unsupported,
)
from ecpds.model.secret import Secret
from ecpds.modules.http import HttpModule, PlainHttp, UploadHttp
from ecpds.transfer.contract import Feature, Target, Timeouts
from ecpds.transfer.sockets import SocketTuning
from ecpds.transfer.source import BytesSource
from tests.protocol.scripted_http import Request, ScriptedHttp, answer

LOGIN = "Basic " + base64.b64encode(b"me:geheim").decode()
SHORT = Timeouts(
    connect=timedelta(seconds=2),
    command=timedelta(milliseconds=300),
    stall=timedelta(milliseconds=300),
)


class Unmeasured(BytesSource):
    """Content of unknown size."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.size = -1
        yield self._content

    def start_at(self, offset: int) -> None:
        super().start_at(offset)
        self.size = -1


class Once(BytesSource):
    """Content that can be read once only."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._is_used = False

    def start_at(self, offset: int) -> None:
        if hasattr(self, "_is_used"):
            raise Unsupported("once only")
        super().start_at(offset)


async def content_of(module: HttpModule, name: str, offset: int = 0) -> bytes:
    return b"".join([block async for block in module.get(name, offset=offset)])


# ---- uploads


async def test_a_put_with_and_without_length() -> None:
    """Known sizes are announced, unknown ones go in chunks; the login is sent at once."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["PUT *"] = answer(201)
        assert await module.put("/d/a b#é?.grib", BytesSource(b"content")) == 7
        assert await module.put("rel", Unmeasured(b"x" * 1000)) == 1000
        one, other = server.requests
        assert one.target == "/d/a%20b%23%C3%A9%3F.grib"
        assert (one.headers["content-length"], one.body) == ("7", b"content")
        assert one.headers["authorization"] == LOGIN
        assert one.headers["user-agent"] == "ecpds"
        assert other.target == "/rel"
        assert (other.headers["transfer-encoding"], len(other.body)) == ("chunked", 1000)
        assert server.connections == 1
        assert module.peer == "127.0.0.1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, RemoteError),
        (400, RemoteName),
        (401, RemoteAuth),
        (403, RemoteAuth),
        (404, RemoteName),
        (405, RemoteConfig),
        (408, RemoteTransient),
        (409, RemoteName),
        (413, RemoteSpace),
        (414, RemoteName),
        (423, RemoteTransient),
        (429, RemoteTransient),
        (500, RemoteTransient),
        (501, RemoteConfig),
        (503, RemoteTransient),
        (507, RemoteSpace),
    ],
)
async def test_refused_uploads_have_classes(status: int, kind: type[RemoteError]) -> None:
    """transfer-modules.md section 6."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["PUT *"] = answer(status, b"why", Retry_After="120")
        server.routes["HEAD *"] = answer(200)
        with pytest.raises(kind) as caught:
            await module.put("d/f", BytesSource(b"x"))
        assert type(caught.value) is kind
        assert caught.value.remote_code == str(status)
        assert caught.value.facts["retry_after"] == "120"
        assert "geheim" not in f"{caught.value} {caught.value.facts}"


async def test_a_refusal_ends_the_sending() -> None:
    """The rest of a large file is not sent for nothing."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["PUT *"] = answer(413, read=False)
        begun = time.monotonic()
        with pytest.raises((RemoteSpace, ConnectionLost)):
            await module.put("f", BytesSource(b"x" * 50_000_000))
        assert time.monotonic() - begun < 3


async def test_a_hasty_success_is_none() -> None:
    """The server has not seen it all."""

    async def hasty(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.reader.readexactly(1000)
        await answer(201, read=False)(request, writer)

    async with ScriptedHttp() as server, server.session() as module:
        server.routes["PUT *"] = hasty
        with pytest.raises(ConnectionLost):
            await module.put("f", BytesSource(b"x" * 50_000_000))


async def test_an_answer_that_does_not_come() -> None:
    """The clock for it starts when the body is out."""

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await request.read()
        await asyncio.sleep(30)

    class Slow(BytesSource):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(5):
                await asyncio.sleep(0.1)
                yield b"x"

    async with ScriptedHttp() as server, server.session(timeouts=SHORT) as module:
        server.routes["PUT *"] = silent
        with pytest.raises(RemoteTimeout):
            await module.put("f", Slow(b"xxxxx"))
        assert server.requests[0].body == b"xxxxx"


async def test_a_broken_source_is_told_as_such() -> None:
    """And the server never sees a whole request."""

    class Broken(BytesSource):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x" * 1000
            raise SourceBroke("gone")

    async with ScriptedHttp() as server, server.session() as module:
        server.routes["PUT *"] = answer(201)
        with pytest.raises(SourceBroke, match="gone"):
            await module.put("f", Broken(b"x" * 2000))
        short = BytesSource(b"x" * 1000)
        short.size = 2000
        with pytest.raises(SourceBroke):
            await module.put("f", short)
        assert all(len(request.body) < 2000 for request in server.requests)
        with pytest.raises(Unsupported):
            await module.put("f", BytesSource(b"x"), offset=1)


@pytest.mark.parametrize("known", [True, False])
async def test_a_form(known: bool) -> None:
    """multipart/form-data, streamed; quotes and line ends in names cannot break out."""
    async with ScriptedHttp() as server:
        server.routes["POST /in"] = answer(303, Location="/thanks")
        options: dict[str, Any] = {"use_post": True, "use_multipart": True}
        async with server.session(upload_end_point="/in", **options) as module:
            assert isinstance(module, UploadHttp)
            source = BytesSource(b"content") if known else Unmeasured(b"content")
            assert await module.put('d/a "é".grib', source) == 7
        (request,) = server.requests
        boundary = re.fullmatch(
            r"multipart/form-data; boundary=(\S+)", request.headers["content-type"]
        )
        assert boundary is not None
        assert (
            request.body
            == (
                f"--{boundary[1]}\r\n"
                'Content-Disposition: form-data; name="filename"; filename="a %22é%22.grib"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
                f"content\r\n--{boundary[1]}--\r\n"
            ).encode()
        )
        assert ("content-length" in request.headers) is known


async def test_what_was_posted_has_no_address() -> None:
    """So that it is neither compared nor renamed nor deleted."""
    async with ScriptedHttp() as server, server.session(use_post=True) as module:
        server.routes["POST /d/f"] = answer(202)
        assert await module.put("d/f", BytesSource(b"x")) == 1
        missing = Feature.SIZE | Feature.DELETE | Feature.RENAME | Feature.MKDIR
        assert not missing & module.features
        for act in (
            module.stat("d/f"),
            module.delete("d/f"),
            module.rename("d/f", "g", replace=True),
            module.mkdir("d"),
        ):
            with pytest.raises(Unsupported):
                await act


# ---- redirects and where we may go


async def test_the_login_stays_at_home() -> None:
    """Another origin gets neither login nor further headers, and only if it may be reached."""
    async with ScriptedHttp() as home, ScriptedHttp("127.0.0.2") as other:
        home.routes["GET /f"] = answer(302, Location=f"{other.url}/g")
        home.routes["GET /same"] = answer(302, Location="/here")
        home.routes["GET /here"] = answer(200, b"here")
        other.routes["GET /g"] = answer(200, b"content")
        headers = Secret("X-Token: abc\nUser-Agent: feed\n")
        async with home.session(headers=headers) as module:
            with pytest.raises(RemoteName) as caught:
                await content_of(module, "/f")
            assert "egress_allow" in caught.value.message
            assert other.connections == 0
            assert await content_of(module, "/same") == b"here"
        home.around = replace(home.around, egress_allow=("127.0.0.2/32",))
        async with home.session(headers=headers) as module:
            assert await content_of(module, "/f") == b"content"
        asked = home.requests[-1].headers
        assert (asked["x-token"], asked["user-agent"]) == ("abc", "feed")
        assert asked["authorization"] == LOGIN
        stranger = other.requests[0].headers
        assert not {"x-token", "authorization"} & set(stranger)
        assert stranger["user-agent"] == "ecpds"


async def test_another_port_is_another_origin() -> None:
    """Also on the same address."""
    async with ScriptedHttp() as home, ScriptedHttp() as other:
        home.routes["GET /f"] = answer(302, Location=f"{other.url}/f")
        async with home.session() as module:
            with pytest.raises(RemoteName):
                await content_of(module, "/f")
        assert other.connections == 0


@pytest.mark.parametrize(
    "where",
    [
        "http://localhost:{port}/f",  # a name that means a private address
        "http://[::1]:{port}/f",
        "http://[::ffff:127.0.0.1]:{port}/f",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "ftp://127.0.0.1/f",
        "file:///etc/passwd",
        "http://user:pass@127.0.0.1:{port}/f",
    ],
)
async def test_redirects_to_private_places_are_refused(where: str) -> None:
    """By address or by name, nothing is connected."""
    async with ScriptedHttp() as home, ScriptedHttp() as other:
        home.routes["GET /f"] = answer(302, Location=where.format(port=other.port))
        async with home.session() as module:
            with pytest.raises(RemoteName):
                await content_of(module, "/f")
        assert other.connections == 0


async def test_redirects_have_an_end() -> None:
    """`http.maxRedirects`; a circle ends at once."""
    async with ScriptedHttp() as server:
        for number in range(4):
            server.routes[f"GET /{number}"] = answer(302, Location=f"/{number + 1}")
        server.routes["GET /f"] = answer(302, Location="/f")
        async with server.session(max_redirects=2) as module:
            with pytest.raises(RemoteConfig, match="more than 2"):
                await content_of(module, "/0")
            assert server.asked == ["GET /0", "GET /1", "GET /2"]
            with pytest.raises(RemoteConfig, match="circle"):
                await content_of(module, "/f")
        assert server.asked[3:] == ["GET /f"]


async def test_an_upload_follows_what_keeps_its_method() -> None:
    """307 and 308; content that can be read once only needs `expectContinue`."""

    async def ask_first(request: Request, writer: asyncio.StreamWriter) -> None:
        assert request.headers["expect"] == "100-continue"
        if request.path == "/f":
            await answer(307, read=False, Location="/g")(request, writer)
            return
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await answer(201)(request, writer)

    async with ScriptedHttp() as server:
        server.routes["PUT /f"] = answer(307, Location="/g")
        server.routes["PUT /g"] = answer(201)
        server.routes["PUT /moved"] = answer(302, Location="/g")
        async with server.session() as module:
            assert await module.put("/f", BytesSource(b"content")) == 7
            assert server.requests[-1].body == b"content"
            with pytest.raises(RemoteConfig, match="expectContinue"):
                await module.put("/f", Once(b"content"))
            with pytest.raises(RemoteError):
                await module.put("/moved", BytesSource(b"content"))
        server.routes = {"PUT *": ask_first}
        async with server.session(expect_continue=True) as module:
            assert await module.put("/f", Once(b"content")) == 7
        assert server.requests[-1].target == "/g"
        assert server.requests[-1].body == b"content"


async def test_a_proxy_is_asked_instead() -> None:
    """With its own login, by address or in the older form; it may be private."""
    async with ScriptedHttp() as proxy:
        proxy.routes["GET *"] = answer(200, b"content")
        target = Target(host_name="far", host="far.example")
        for text in (f"http://a:b@127.0.0.1:{proxy.port}", f"host=127.0.0.1,port={proxy.port}"):
            async with proxy.session(target=target, proxy=Secret(text)) as module:
                assert await content_of(module, "/f") == b"content"
        assert proxy.asked == [f"GET http://far.example:{proxy.port}/f"] * 2
        token = base64.b64encode(b"a:b").decode()
        assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {token}"
        assert "proxy-authorization" not in proxy.requests[1].headers
    for bad in ("ftp://h:1", "nonsense", "http://"):
        with pytest.raises(RemoteConfig):
            async with proxy.session(proxy=Secret(bad)):
                pass


async def test_sockets_are_tuned() -> None:
    """The local address, for one."""
    async with ScriptedHttp() as server:
        server.routes["GET /f"] = answer(200, b"x")
        tuning = SocketTuning(local_address="127.0.0.5", keep_alive=True)
        target = Target(host_name="h", host="127.0.0.1", sockets=tuning)
        async with server.session(target=target) as module:
            await content_of(module, "/f")
        assert server.requests[0].peer == "127.0.0.5"


# ---- downloads and questions


async def test_stat_asks_in_the_cheapest_way_that_works() -> None:
    """HEAD; a GET of one byte where HEAD is refused or tells no size."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["HEAD /f"] = answer(
            200, b"x" * 12, ETag='"1"', Last_Modified="Tue, 04 Mar 2025 05:06:07 GMT"
        )
        entry = await module.stat("/f")
        assert (entry.size, entry.etag, entry.kind) == (12, '"1"', Kind.FILE)
        assert entry.mtime is not None
        assert entry.mtime.isoformat() == "2025-03-04T05:06:07+00:00"
        part = answer(206, b"x", Content_Range="bytes 0-0/99")
        server.routes |= {"HEAD /g": answer(405), "GET /g": part}
        assert (await module.stat("/g")).size == 99
        server.routes |= {"HEAD /h": answer(200, Content_Length=""), "GET /h": part}
        assert (await module.stat("/h")).size == 99
        server.routes |= {"HEAD /e": answer(405)}
        server.routes |= {"GET /e": answer(416, Content_Range="bytes */0")}
        assert (await module.stat("/e")).size == 0
        server.routes |= {"HEAD /d": answer(301, Location="/d/"), "HEAD /d/": answer(200)}
        assert (await module.stat("/d")).kind is Kind.DIRECTORY
        with pytest.raises(RemoteMissing):
            await module.stat("/none")
        assert server.requests[1].method == "HEAD"
        async with server.session(use_head=False) as other:
            assert (await other.stat("/g")).size == 99
        assert server.asked[-1] == "GET /g"
        assert server.requests[-1].headers["range"] == "bytes=0-0"


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        ('"1"', "Tue, 04 Mar 2025 05:06:07 GMT", '"1"'),
        ('W/"1"', "Tue, 04 Mar 2025 05:06:07 GMT", "Tue, 04 Mar 2025 05:06:07 GMT"),
        ("", "", ""),
    ],
)
async def test_a_part_is_asked_for_with_a_condition(
    etag: str, modified: str, validator: str
) -> None:
    """A strong tag, else the date: the rest of another file is never taken."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["HEAD /f"] = answer(200, b"x" * 7, ETag=etag, Last_Modified=modified)
        server.routes["GET /f"] = answer(206, b"tent", Content_Range="bytes 3-6/7")
        assert await content_of(module, "/f", offset=3) == b"tent"
        headers = server.requests[-1].headers
        assert headers["range"] == "bytes=3-"
        assert headers.get("if-range", "") == validator
        assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "given",
    [
        answer(200, b"content"),
        answer(206, b"content", Content_Range="bytes 0-6/7"),
        answer(206, b"tent"),
        answer(416, Content_Range="bytes */2"),
    ],
)
async def test_what_is_no_part_is_not_taken_for_one(given: Any) -> None:
    """OpenECPDS took a whole body for the rest, and corrupted files so."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes |= {"HEAD /f": answer(200, b"x" * 7), "GET /f": given}
        with pytest.raises((RemoteVerify, RemoteError)):
            await content_of(module, "/f", offset=3)


async def test_nothing_is_left_to_get() -> None:
    """416 with our own offset as the size."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes |= {"HEAD /f": answer(200, b"x" * 7)}
        server.routes |= {"GET /f": answer(416, Content_Range="bytes */7")}
        assert await content_of(module, "/f", offset=7) == b""


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n", RemoteTransient),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", RemoteTransient),
        (b"", ConnectionLost),
    ],
)
async def test_broken_answers(raw: bytes, kind: type[RemoteError]) -> None:
    """Nothing half is taken for whole, nothing endless is read."""

    async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()

    async with ScriptedHttp() as server, server.session() as module:
        server.routes["GET /f"] = broken
        with pytest.raises(kind):
            await content_of(module, "/f")


async def test_a_download_may_be_left() -> None:
    """The connection is not used again, the session is."""
    async with ScriptedHttp() as server, server.session() as module:
        server.routes |= {"GET /f": answer(200, b"x" * 5_000_000), "GET /g": answer(200, b"g")}
        blocks = module.get("/f")
        assert await anext(blocks)
        await blocks.aclose()  # type: ignore[attr-defined]  # generators have it
        assert await content_of(module, "/g") == b"g"
        assert server.connections == 2


async def test_names_with_line_ends_are_never_sent() -> None:
    """In no request."""
    bad = "a\r\nX: y"
    async with ScriptedHttp() as server, server.session(dav="yes") as module:
        for act in (
            module.put(bad, BytesSource(b"x")),
            module.stat(bad),
            module.rename(bad, "c", replace=True),
            module.rename("f", bad, replace=True),
            module.delete(bad),
            module.mkdir(bad),
        ):
            with pytest.raises(RemoteName):
                await act
        with pytest.raises(RemoteName):
            await content_of(module, bad)
        with pytest.raises(RemoteName):
            assert [entry async for entry in module.list(bad)] == []
        assert server.asked == []


@pytest.mark.parametrize("headers", ["no colon", "bad name: x", ": x"])
async def test_bad_header_lines_are_named(headers: str) -> None:
    """Before anything is sent."""
    async with ScriptedHttp() as server:
        with pytest.raises(RemoteConfig):
            async with server.session(headers=Secret(headers)):
                pass


# ---- WebDAV

DAV = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND"


async def test_webdav_is_looked_for_once() -> None:
    """In the life of the process, not of the session."""
    async with ScriptedHttp() as server:
        server.routes["OPTIONS /d/"] = answer(200, Allow=DAV)
        for _ in range(2):
            async with server.session(dav="auto", directory="/d") as module:
                assert type(module) is HttpModule
        assert server.asked == ["OPTIONS /d/"]


@pytest.mark.parametrize(
    ("given", "login", "kind"),
    [
        (answer(200, Allow="GET, HEAD, PUT"), "me", PlainHttp),
        (answer(405, Allow=DAV), "me", PlainHttp),
        (answer(500), "me", PlainHttp),
        (answer(401), "", PlainHttp),
        (answer(401), "me", RemoteAuth),
    ],
)
async def test_servers_without_webdav(given: Any, login: str, kind: type) -> None:
    """They get the final name at once; a refused login is told when connecting."""
    async with ScriptedHttp() as server:
        server.routes["OPTIONS *"] = given
        if kind is RemoteAuth:
            with pytest.raises(RemoteAuth) as caught:
                async with server.session(dav="auto", login=login):
                    pass
            assert caught.value.phase is Phase.AUTH
            return
        async with server.session(dav="auto", login=login) as module:
            assert type(module) is kind
            assert Feature.ATOMIC_PUT in module.features
            with pytest.raises(Unsupported):
                await module.rename("a", "b", replace=True)


async def test_webdav_acts() -> None:
    """Destination is a whole address; partial failures are failures."""
    async with ScriptedHttp() as server, server.session(dav="yes") as module:
        server.routes["MOVE *"] = answer(201)
        await module.rename("/a b", "/c#d", replace=True)
        headers = server.requests[-1].headers
        assert headers["destination"] == f"{server.url}/c%23d"
        assert headers["overwrite"] == "T"
        await module.rename("/a", "/b", replace=False)
        assert server.requests[-1].headers["overwrite"] == "F"
        server.routes["MOVE *"] = answer(412)
        with pytest.raises(RemoteName):
            await module.rename("/a", "/b", replace=False)
        server.routes |= {"MOVE *": answer(207), "DELETE *": answer(207)}
        for act in (module.rename("/a", "/b", replace=True), module.delete("/a")):
            with pytest.raises(RemoteName):
                await act
        server.routes["MKCOL /d/"] = answer(405)
        with pytest.raises(RemoteName):
            await module.mkdir("/d")
        server.routes["PROPFIND /d/"] = answer(207, b"<D:multistatus><D:collection/>")
        await module.mkdir("/d")
        server.routes["PROPFIND /d/"] = answer(207, b"<D:resourcetype/>")
        with pytest.raises(RemoteName):
            await module.mkdir("/d")


async def test_many_sessions_one_server() -> None:
    """Connections are kept within a session, and closed with it."""
    async with ScriptedHttp() as server:
        server.routes["GET *"] = answer(200, b"x")
        async with AsyncExitStack() as stack:
            modules = [await stack.enter_async_context(server.session()) for _ in range(3)]
            for _ in range(3):
                for module in modules:
                    assert await content_of(module, "/f") == b"x"
        assert server.connections == 3
