"""The WebDAV module: locks, tokens, listings that lie, and a server that sees what we do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.conformance.case import Case
from ecpds.conformance.site import pattern, site
from ecpds.model.entry import Kind
from ecpds.model.errors import (
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteName,
    RemoteSpace,
    RemoteTransient,
)
from ecpds.model.secret import Secret
from ecpds.modules.webdav import WebdavModule
from ecpds.modules.webdav_options import WebdavOptions
from ecpds.modules.webdav_xml import MultiStatus, path_of
from ecpds.transfer.contract import Target, Timeouts
from ecpds.transfer.source import BytesSource
from tests.peers.apache import apache
from tests.protocol.scripted_http import Request, ScriptedHttp, answer

APACHE = Case(
    name="apache",
    module=WebdavModule,
    server=apache,
    options=lambda peer: {"webdav.scheme": "http", "webdav.port": peer.port},
)


@asynccontextmanager
async def session(
    server: ScriptedHttp, *, login: str = "me", **options: Any
) -> AsyncIterator[WebdavModule]:
    """Give a session."""
    target = Target(
        host_name="scripted",
        host=server.host,
        login=login,
        password=Secret("geheim" if login else ""),
        timeouts=Timeouts(command=timedelta(seconds=2), connect=timedelta(seconds=2)),
    )
    given = WebdavOptions(**{"scheme": "http", "port": server.port, **options})
    async with WebdavModule.connect(target, given, server.around) as module:
        yield module


def response(href: str, properties: str, status: str = "HTTP/1.1 200 OK") -> str:
    """Return one part of a multi-status."""
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        f"<d:status>{status}</d:status></d:propstat></d:response>"
    )


def multistatus(*responses: str) -> bytes:
    """Return a whole answer."""
    return (
        '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">'
        f"{''.join(responses)}</d:multistatus>"
    ).encode()


FOLDER = response("/dav/d/", "<d:resourcetype><d:collection/></d:resourcetype>")


async def test_a_listing_is_read_whatever_form_its_addresses_have() -> None:
    """Absolute ones, encoded ones; properties that are not there do not count."""
    page = multistatus(
        FOLDER,
        response(
            "http://other.example/dav/d/two%20words",
            "<d:getcontentlength>12</d:getcontentlength><d:resourcetype/>"
            "<d:getlastmodified>Wed, 05 Mar 2025 10:00:00 GMT</d:getlastmodified>"
            '<d:getetag>"1"</d:getetag>'
            "<oc:checksums><oc:checksum>SHA1:AB MD5:CD</oc:checksum></oc:checksums>",
        ),
        response("/dav/d/sub/", "<d:resourcetype><d:collection/></d:resourcetype>"),
        response("/dav/d/odd", "<d:getcontentlength>7</d:getcontentlength>", "HTTP/1.1 404 x"),
    )
    async with ScriptedHttp() as server:
        server.routes["PROPFIND /dav/d/"] = answer(207, page)
        async with session(server, path="/dav") as module:
            found = {entry.name: entry async for entry in module.list("d")}
        assert set(found) == {"two words", "sub", "odd"}
        assert found["sub"].kind is Kind.DIRECTORY
        assert (found["two words"].size, found["odd"].size) == (12, None)
        assert found["two words"].mtime == datetime(2025, 3, 5, 10, tzinfo=UTC)
        assert server.requests[0].headers["depth"] == "1"


@pytest.mark.parametrize(
    "page",
    [
        b"<x>" * 100_000,
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        b"<x>" + b"y" * 200_000 + b"</x>",
        b"\xff\xfe" * 1_000_000,
        b"",
        FOLDER[:40].encode(),
    ],
)
async def test_rubbish_is_no_listing(page: bytes) -> None:
    """Levels, entities, texts without an end, no XML, half of it."""
    async with ScriptedHttp() as server:
        server.routes["PROPFIND /d/"] = answer(207, page)
        async with session(server) as module:
            with pytest.raises(RemoteTransient):
                assert [entry async for entry in module.list("d")] == []


async def test_a_listing_has_a_limit() -> None:
    """`listMaxFiles`."""
    page = multistatus(*(response(f"/d/{n}", "<d:resourcetype/>") for n in range(20)))
    async with ScriptedHttp() as server:
        server.routes["PROPFIND /d/"] = answer(207, page)
        async with session(server, list_files=10) as module:
            with pytest.raises(RemoteError, match="more than 10"):
                assert [entry async for entry in module.list("d")] == []


async def test_a_file_is_no_directory() -> None:
    """Neither listed nor removed as one; a directory is not deleted as a file."""
    async with ScriptedHttp() as server:
        a_file = multistatus(response("/d", "<d:resourcetype/>"))
        server.routes["PROPFIND /d/"] = answer(207, a_file)
        server.routes["PROPFIND /dir"] = answer(207, multistatus(FOLDER))
        async with session(server) as module:
            with pytest.raises(RemoteName):
                assert [entry async for entry in module.list("d")] == []
            with pytest.raises(RemoteName):
                await module.delete("dir")
        assert not [asked for asked in server.asked if asked.startswith("DELETE")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, RemoteAuth),
        (403, RemoteAuth),
        (404, RemoteName),
        (409, RemoteName),
        (423, RemoteTransient),
        (507, RemoteSpace),
        (503, RemoteTransient),
    ],
)
async def test_refused_uploads_are_told_by_their_class(
    status: int, kind: type[RemoteError]
) -> None:
    """A missing directory says 409, a locked file 423, a full disk 507."""
    async with ScriptedHttp() as server:
        server.routes["PUT /f"] = answer(status)
        async with session(server) as module:
            with pytest.raises(RemoteError) as caught:
                await module.put("f", BytesSource(b"x"))
        assert type(caught.value) is kind


async def test_a_name_that_is_locked_just_now_is_tried_again() -> None:
    """Else all of the file would be sent again."""
    async with ScriptedHttp() as server:
        answers = [answer(423), answer(423), answer(201)]

        async def move(request: Request, writer: asyncio.StreamWriter) -> None:
            await answers.pop(0)(request, writer)

        server.routes["MOVE /f.tmp"] = move
        async with session(server) as module:
            await module.rename("f.tmp", "f", replace=True)
            assert answers == []
            server.routes["MOVE /f.tmp"] = answer(403)
            with pytest.raises(RemoteAuth):
                await module.rename("f.tmp", "f", replace=True)


async def test_an_upload_under_a_lock_shows_its_token() -> None:
    """And the lock is given back, also after a failure."""
    async with ScriptedHttp() as server:
        server.routes["LOCK /f"] = answer(200, b"<x/>", Lock_Token="<opaquelocktoken:1-2>")
        server.routes["PUT /f"] = answer(201)
        server.routes["UNLOCK /f"] = answer(204)
        async with session(server, use_lock=True, lock_timeout=0, lock_owner="a<b") as module:
            assert await module.put("f", BytesSource(b"x")) == 1
            lock, put, unlock = server.requests
            assert lock.headers["timeout"] == "Infinite"
            assert b"<owner>a&lt;b</owner>" in lock.body
            assert put.headers["if"] == "(<opaquelocktoken:1-2>)"
            assert unlock.headers["lock-token"] == "<opaquelocktoken:1-2>"
            server.routes["PUT /f"] = answer(412)
            with pytest.raises(RemoteTransient, match="lost"):
                await module.put("f", BytesSource(b"x"))
            assert server.asked[-1] == "UNLOCK /f"
            server.routes["LOCK /f"] = answer(423)
            with pytest.raises(RemoteTransient):
                await module.put("f", BytesSource(b"x"))


async def test_the_login_is_the_hosts_or_a_token() -> None:
    """The options' own login only where the host has none."""
    async with ScriptedHttp() as server:
        server.routes["PROPFIND /f"] = answer(404)
        for login, options in (
            ("me", {"user_name": "other"}),
            ("", {"user_name": "other", "password": Secret("x")}),
            ("me", {"token": Secret("abc.def")}),
        ):
            async with session(server, login=login, **options) as module:
                with pytest.raises(RemoteMissing):
                    await module.stat("f")
        seen = [request.headers["authorization"] for request in server.requests]
        assert seen == ["Basic bWU6Z2VoZWlt", "Basic b3RoZXI6eA==", "Bearer abc.def"]
        with pytest.raises(RemoteConfig):
            async with session(server, token=Secret("a\nb")):
                pass


async def test_digests_of_the_server_are_asked_for() -> None:
    """As ownCloud and Nextcloud tell them."""
    page = multistatus(
        response("/f", "<oc:checksums><oc:checksum>SHA1:AB MD5:CD</oc:checksum></oc:checksums>")
    )
    async with ScriptedHttp() as server:
        server.routes["PROPFIND /f"] = answer(207, page)
        async with session(server) as module:
            assert await module.checksum("f", "md5") == "cd"
            assert await module.checksum("f", "sha-1") == "ab"
            assert await module.checksum("f", "sha256") is None


async def test_apache_keeps_a_lock_for_us(tmp_path: Path) -> None:
    """Somebody else's lock holds us off; ours is gone after the upload."""
    async with site(APACHE, tmp_path) as there:
        there.peer.put("f", b"old")
        access = there.access(webdav__useLock="yes", webdav__usetmp="no")
        await there.deliver("f", pattern(300_000), access=access)
        await there.deliver("f", b"new", access=access)
        assert there.files() == {"f": b"new"}
        async with there.session(access) as module:
            assert isinstance(module, WebdavModule)
            token = await module._locked("f")
            plain = there.access(webdav__usetmp="no")
            with pytest.raises(RemoteTransient):
                await there.deliver("f", b"not now", access=plain)
            await module._unlock("f", token)
        assert there.files() == {"f": b"new"}


async def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    """WebDAV itself would delete what is in them."""
    async with site(APACHE, tmp_path) as there:
        there.peer.put("d/f", b"x")
        async with there.session() as module:
            with pytest.raises(RemoteName):
                await module.rmdir("/d")
            await module.delete("/d/f")
            await module.rmdir("/d")
            with pytest.raises(RemoteMissing):
                await module.rmdir("/d")
        assert there.files() == {}


def test_answers_may_come_in_any_pieces() -> None:
    """Byte by byte is the same as all at once."""
    page = multistatus(
        FOLDER, response("/a%2Fb/c%20d", "<d:getcontentlength>1</d:getcontentlength>")
    )
    parser, found = MultiStatus(), []
    for number in range(len(page)):
        found += list(parser.feed(page[number : number + 1]))
    found += list(parser.feed(b"", last=True))
    assert [(one.path, one.size, one.is_collection) for one in found] == [
        ("/dav/d", None, True),
        ("/a/b/c d", 1, False),
    ]
    assert path_of("http://x.example/") == path_of("/") == "/"
