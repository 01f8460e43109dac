"""Listings that take more than one page, and what chooses their entries."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import RemoteConfig, RemoteError, RemoteTransient
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.http_pages import RECORD, XmlRecords
from ecpds.modules.http_paths import JsonRecords, first_at, values_at
from tests.protocol.scripted_http import Request, ScriptedHttp, answer


async def listed(server: ScriptedHttp, directory: str, **options: Any) -> list[Entry]:
    """Return a listing whose entries are not asked about unless the test wants it."""
    options = {"ask_each": False} | options
    async with server.session(**options) as module:
        return [entry async for entry in module.list(directory)]


def names(entries: Sequence[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def page(body: str, kind: str = "text/html", **headers: Any) -> Any:
    return answer(200, body.encode(), Content_Type=kind, **headers)


# --- paths ---------------------------------------------------------------------------------------

DOCUMENT = {
    "assets": {"a": {"href": "1"}, "b": {"href": "2"}},
    "links": [{"rel": "self", "href": "s"}, {"rel": "next", "href": "n"}],
    "file:size": 3,
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("assets.*.href", ["1", "2"]),
        ("links[rel=next].href", ["n"]),
        ("links[1].href", ["n"]),
        ("links[*].href", ["s", "n"]),
        ("links[9].href", []),
        ("file:size", [3]),
        ("nothing.here", []),
        ("", [DOCUMENT]),
    ],
)
def test_paths(path: str, values: list[object]) -> None:
    assert values_at(DOCUMENT, path) == values


def test_a_text_that_is_no_path() -> None:
    with pytest.raises(RemoteConfig):
        first_at({}, "a[b")


def test_a_record_with_several_addresses_is_several_files() -> None:
    items = [{"id": "x", "assets": {"a": {"href": "u1"}, "b": {"href": "u2"}}}]
    fields = RECORD | {"arrayPath": "items", "nameField": "", "urlField": "assets.*.href"}
    found = JsonRecords(fields, UTC).read(json.dumps({"items": items}))
    assert [one.reference for one in found] == ["u1", "u2"]


def test_addresses_by_template() -> None:
    fields = RECORD | {"urlTemplate": "/files/{name}?v=1"}
    (found,) = JsonRecords(fields, UTC).read('[{"name": "a b"}]')
    assert (found.reference, found.name) == ("/files/a%20b?v=1", "a b")


def test_the_listing_of_an_object_store() -> None:
    text = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <Name>b</Name><Contents><Key>d/a.nc</Key><LastModified>2025-03-04T05:06:00.000Z</LastModified>
    <Size>12</Size><ETag>"x"</ETag></Contents></ListBucketResult>"""
    (found,) = XmlRecords(RECORD, UTC).read(text)
    assert (found.reference, found.size, found.is_plain) == ("d/a.nc", 12, True)
    assert found.mtime == datetime(2025, 3, 4, 5, 6, tzinfo=UTC)


# --- HTML ----------------------------------------------------------------------------------------

TABLE = """<table><tr><td class="f"><a href="a.nc">A</a></td></tr>
<tr><td><a href="b.txt">B</a></td></tr></table><p class="f" data-url="c.nc">see c</p>"""


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"select": "td a[href$='.nc']"}, ["a.nc"]),
        ({"select": ".f", "attribute": "data-url"}, ["c.nc"]),
        ({"select": "td a", "attribute": ""}, ["A", "B"]),
    ],
)
async def test_elements_are_chosen(options: dict[str, str], wanted: list[str]) -> None:
    async with ScriptedHttp() as server:
        server.routes["GET /d/"] = page(TABLE)
        assert names(await listed(server, "/d/", **options)) == wanted
        with pytest.raises(RemoteConfig, match=r"http\.select"):
            await listed(server, "/d/", select="a[[")


async def test_without_selector_a_page_is_text() -> None:
    async with ScriptedHttp() as server:
        server.routes["GET /d/"] = page("a.nc\nb.nc\n")
        assert names(await listed(server, "/d/", select="")) == ["a.nc", "b.nc"]


async def test_compressed_pages_are_read_and_bounded() -> None:
    async with ScriptedHttp() as server:
        packed = gzip.compress(b'<a href="a.nc">a</a>')
        server.routes["GET /d/"] = answer(
            200, packed, Content_Type="text/html", Content_Encoding="gzip"
        )
        assert names(await listed(server, "/d/")) == ["a.nc"]
        bomb = gzip.compress(b" " * 20_000_000)
        server.routes["GET /d/"] = answer(
            200, bomb, Content_Type="text/html", Content_Encoding="gzip"
        )
        with pytest.raises(RemoteError, match="larger"):
            await listed(server, "/d/")
        server.routes["GET /d/"] = answer(
            200, b"nonsense", Content_Type="text/html", Content_Encoding="gzip"
        )
        with pytest.raises(RemoteTransient):
            await listed(server, "/d/")


# --- more than one page --------------------------------------------------------------------------


async def test_pages_that_follow_each_other() -> None:
    """By a field of the document, as STAC has it, and by a Link header."""
    async with ScriptedHttp() as server:

        def stac(name: str, following: str) -> str:
            links = [{"rel": "next", "href": following}] if following else []
            item = {
                "id": name,
                "assets": {"data": {"href": f"/f/{name}.nc", "file:size": 7}},
                "properties": {"start_datetime": "2025-03-04T05:06:00Z"},
            }
            return json.dumps({"features": [item], "links": links})

        server.routes["GET /search"] = page(stac("a", "/page2?token=x"), "application/geo+json")
        server.routes["GET /page2"] = page(stac("b", ""), "application/geo+json")
        found = await listed(server, "/search", slash="no")
        assert [(one.link, one.size) for one in found] == [("a", 7), ("b", 7)]
        assert found[0].mtime == datetime(2025, 3, 4, 5, 6, tzinfo=UTC)

        async def endless(request: Request, writer: Any) -> None:
            link = f'<{request.target}x>; rel="next"'
            await page('[{"name": "a"}]', "application/json", Link=link)(request, writer)

        server.routes["GET /q"] = endless
        with pytest.raises(RemoteError, match="more pages"):
            await listed(server, "/q?p=x", slash="no", list_pages=3)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("<NextContinuationToken>a+/b=</NextContinuationToken>", "continuation-token=a%2B/b%3D"),
        ("<NextMarker>a.nc</NextMarker>", "marker=a.nc"),
        ("", "marker=a.nc"),  # the first form of the listing names the last key
    ],
)
async def test_pages_of_an_object_store_follow_each_other(told: str, wanted: str) -> None:
    """What was asked stays in the query."""
    async with ScriptedHttp() as server:
        queries = []

        async def bucket(request: Request, writer: asyncio.StreamWriter) -> None:
            query = request.target.partition("?")[2]
            queries.append(query)
            is_first = len(queries) == 1
            more = f"<IsTruncated>true</IsTruncated>{told}" if is_first else ""
            key = "a.nc" if is_first else "b.nc"
            text = f"<ListBucketResult>{more}<Contents><Key>{key}</Key><Size>1</Size></Contents>"
            text += "</ListBucketResult>"
            await page(text, "application/xml")(request, writer)

        server.routes["GET /"] = bucket
        found = await listed(server, "/?list-type=2&prefix=d", parser="xml")
        assert [entry.url.rpartition("/")[2] for entry in found] == ["a.nc", "b.nc"]
        assert queries == ["list-type=2&prefix=d", f"list-type=2&prefix=d&{wanted}"]


async def test_directories_below_are_listed_when_asked() -> None:
    async with ScriptedHttp() as server:
        server.routes["GET /d/"] = page('<a href="s/">s/</a> <a href="a.nc">a</a>')
        server.routes["GET /d/s/"] = page('<a href="t/">t/</a><a href="b c.nc">b</a><a href="../">')
        server.routes["GET /d/s/t/"] = page('<a href="e.nc">e</a> <a href="/other/">o</a>')
        for path in ("a.nc", "s/b%20c.nc", "s/t/e.nc"):
            server.routes[f"HEAD /d/{path}"] = answer(200, b"1234")
        found = await listed(server, "/d/", list_recursive=True, ask_each=True)
        assert [(one.name, one.size) for one in found] == [
            ("a.nc", 4),
            ("s/b c.nc", 4),
            ("s/t/e.nc", 4),
        ]
        assert "GET /other/" not in server.asked
        server.routes["GET /d/"] = page('<a href="s/">s</a><a href="u/">u</a>')
        with pytest.raises(RemoteError, match="directories"):
            await listed(server, "/d/", list_recursive=True, ask_each=True, list_dirs=1)


async def test_a_page_that_has_not_changed_is_not_read_again() -> None:
    async with ScriptedHttp() as server:

        async def told(request: Request, writer: Any) -> None:
            if request.headers.get("if-none-match") == '"1"':
                await answer(304)(request, writer)
            else:
                await page('<a href="a.nc">a</a>', ETag='"1"')(request, writer)

        server.routes["GET /d/"] = told
        assert names(await listed(server, "/d/", conditional=True)) == ["a.nc"]
        assert await listed(server, "/d/", conditional=True) == []
        assert names(await listed(server, "/d/")) == ["a.nc"]


# --- links ---------------------------------------------------------------------------------------


async def test_files_without_length_are_named_by_the_server() -> None:
    async with ScriptedHttp() as server:

        async def endless(request: Request, writer: Any) -> None:
            writer.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                b'Content-Disposition: attachment; filename="real.nc"\r\n\r\n0\r\n\r\n'
            )

        server.routes["GET /d/"] = page('<a href="get?id=1">x</a>')
        server.routes["GET /d/get"] = endless
        (found,) = await listed(server, "/d/", ask_each=True, use_head=False)
        assert (found.link, found.kind) == ("real.nc", Kind.FILE)
        (found,) = await listed(server, "/d/", ask_each=True, use_head=False, is_symlink="no")
        assert found.link == ""

        server.routes["GET /d/get"] = answer(200, b"", Content_Length="", keep=False)
        (found,) = await listed(
            server, "/d/", ask_each=True, use_head=False, fail_on_empty_symlink=True
        )
        assert found.error


def test_old_texts_are_read() -> None:
    given = HttpOptions.read({"http.listMaxWaiting": "50", "http.listMaxThreads": "5"})
    assert given.list_threads == 5
