"""Pages that list files, of every form, and what becomes of their links."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import RemoteConfig, RemoteError, RemoteMissing, RemoteTransient
from ecpds.model.secret import Secret
from ecpds.modules.http import HttpModule
from ecpds.modules.http_options import HttpOptions
from ecpds.modules.http_pages import (
    COLUMNS,
    RECORD,
    Found,
    HtmlPage,
    XmlRecords,
    csv_rows,
    moment,
)
from ecpds.modules.http_paths import JsonRecords
from ecpds.transfer.contract import Target
from tests.peers.nginx import nginx
from tests.protocol.scripted_http import ScriptedHttp, answer

MOMENT = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)

NGINX = """<html>
<head><title>Index of /d/</title></head>
<body>
<h1>Index of /d/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                          04-Mar-2025 05:06                   -
<a href="a%20b.grib">a b.grib</a>                04-Mar-2025 05:06                1234
<a href="x&amp;y.bin">x&amp;y.bin</a>            04-Mar-2025 05:06                   0
</pre><hr></body>
</html>
"""

APACHE_PRE = """<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a>
<a href="?C=M;O=A">Last modified</a> <a href="?C=S;O=A">Size</a><hr>
<img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/">Parent Directory</a>      -
<img src="/icons/f.gif" alt="[   ]"> <a href="a.nc">a.nc</a>   2025-03-04 05:06   12
<img src="/icons/f.gif" alt="[   ]"> <a href="b.nc">b.nc</a>   2025-03-04 05:06  1.2K
<img src="/icons/folder.gif" alt="[DIR]"> <a href="sub/">sub/</a>  2025-03-04 05:06    -
<hr></pre>
"""

APACHE_TABLE = """<table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td valign="top"><img src="/icons/f.gif"></td><td><a href="a.nc">a.nc</a></td>
<td align="right">2025-03-04 05:06  </td><td align="right"> 12 </td></tr>
<tr><td><a href="b.nc">b.nc</a></td><td align="right">2025-03-04 05:06  </td>
<td align="right">1.2K</td></tr></table>
"""


def found_in(page: str, cuts: Iterable[int] = ()) -> list[Found]:
    """Read HTML that comes in pieces."""
    html, edges = HtmlPage(), [0, *sorted(cuts), len(page)]
    pieces = (page[start:end] for start, end in pairwise(edges))
    found = [one for piece in pieces for one in html.feed(piece)]
    return found + list(html.close())


# ---- HTML


def test_nginx() -> None:
    """Names, exact sizes, times to the minute."""
    up, sub, file, odd = found_in(NGINX)
    assert up.reference == "../"
    assert (sub.kind, sub.reference, sub.mtime) == (Kind.DIRECTORY, "sub/", MOMENT)
    assert (file.kind, file.reference, file.size, file.mtime) == (
        Kind.FILE,
        "a%20b.grib",
        1234,
        MOMENT,
    )
    assert (odd.reference, odd.size) == ("x&y.bin", 0)


@pytest.mark.parametrize("page", [APACHE_PRE, APACHE_TABLE])
def test_apache(page: str) -> None:
    """Rounded sizes are none; links that sort the page are left out."""
    found = {one.reference: one for one in found_in(page)}
    assert not any("?" in reference for reference in found)
    assert (found["a.nc"].size, found["a.nc"].mtime) == (12, MOMENT)
    assert (found["b.nc"].size, found["b.nc"].mtime) == (None, MOMENT)


@pytest.mark.parametrize("page", [NGINX, APACHE_PRE, APACHE_TABLE])
def test_pages_do_not_depend_on_packets(page: str) -> None:
    """However they are cut."""
    whole = found_in(page)
    dice = random.Random(1)
    for _ in range(200):
        cuts = [dice.randrange(len(page)) for _ in range(dice.randrange(6))]
        assert found_in(page, cuts) == whole


def test_links_as_people_write_them() -> None:
    """Quotes of all kinds, other attributes, no quotes; comments and scripts are no links."""
    page = """<A class="x" HREF='one.bin' title="y">1</A><a href=two.bin>2</a>
    <!-- <a href="gone.bin">no</a> --><script>x='<a href="gone2.bin">'</script>
    <a href = "three.bin" >3</a><a name="mark">no</a><a data-href="no">no</a>
    <a href="mailto:me">no</a><a href="javascript:x()">no</a><a href="#top">no</a>
    <a href="">no</a><style><a href="gone3.bin"></style><a href="four.bin"><b>4</b></a>"""
    whole = [one.reference for one in found_in(page)]
    assert whole == ["one.bin", "two.bin", "three.bin", "four.bin"]
    for cut in range(len(page)):
        assert [one.reference for one in found_in(page, [cut])] == whole


def test_pages_without_end_cost_nothing() -> None:
    """Comments, scripts, tags and text that never close."""
    for piece in ("<!--", "<script>", "<a ", "<a href=", "x" * 60_000, "<" * 1000, "</a>"):
        page = HtmlPage()
        for _ in range(200):
            assert list(page.feed(piece)) == []
        assert len(page._rest) < 200_000


@given(st.text(max_size=200))
def test_no_text_breaks_the_page(text: str) -> None:
    """Links, or nothing."""
    for one in found_in(text):
        assert one.reference


# ---- records


def read_json(text: str, **fields: str) -> list[Found]:
    return JsonRecords(RECORD | fields, UTC).read(text)


def test_json() -> None:
    """A list at a dotted path, or the document itself."""
    rows = [
        {"name": "a", "url": "https://h/x", "time": "2025-03-04T05:06:00Z", "size": 12},
        {"name": "b", "time": 1741064760000, "size": "13", "etag": "e", "checksum": "c"},
        {"other": 1},
        "text",
    ]
    first, second = read_json(json.dumps(rows))
    assert (first.reference, first.name, first.size, first.mtime) == (
        "https://h/x",
        "a",
        12,
        MOMENT,
    )
    assert (second.reference, second.is_plain, second.mtime) == ("b", True, MOMENT)
    assert (second.size, second.etag, second.checksum) == (13, "e", "c")
    assert read_json(json.dumps({"items": rows}))[0] == first
    deep = {"data": {"products": [{"file": " a ", "links": {"get": "/x"}}]}}
    fields = {"arrayPath": "data.products", "nameField": "file", "urlField": "links.get"}
    (one,) = read_json(json.dumps(deep), **fields)
    assert (one.reference, one.name) == ("/x", " a ")
    for bad in ("", "{", "[" * 100_000):
        with pytest.raises(RemoteTransient):
            read_json(bad)
    for bad in ("1", '{"items": 5}', "{}"):
        with pytest.raises(RemoteConfig):
            read_json(bad)


def test_csv() -> None:
    """Columns by position; a row may be short."""
    text = 'name,time,url\r\n"a, b",2025-03-04T05:06:00,/x \r\nc\r\n\r\n'
    first, second = csv_rows(text, COLUMNS, UTC)
    assert (first.reference, first.name, first.mtime) == ("/x", "a, b", MOMENT)
    assert (second.reference, second.is_plain) == ("c", True)
    fields = COLUMNS | {"delimiter": ";", "header": "no", "urlCol": "", "sizeCol": "1"}
    (one,) = csv_rows("a;7\n", fields, UTC)
    assert (one.reference, one.size) == ("a", 7)
    for bad in ({"nameCol": "x"}, {"delimiter": "ab"}):
        with pytest.raises(RemoteConfig):
            list(csv_rows(text, COLUMNS | bad, UTC))


def test_xml() -> None:
    """Elements and attributes; nothing that expands or loads."""
    text = """<?xml version="1.0"?><feed xmlns="urn:x"><entry id="1"><name>a</name>
    <link><get>/x</get></link><time>2025-03-04T05:06:00Z</time></entry><entry/></feed>"""
    fields = RECORD | {"arrayPath": "feed.entry", "urlField": "link.get"}
    (one,) = XmlRecords(fields, UTC).read(text)
    assert (one.reference, one.name, one.mtime) == ("/x", "a", MOMENT)
    bomb = '<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><x>&c;</x>'
    for bad in (bomb, "<x>", "text", "<x>" * 200 + "</x>" * 200):
        with pytest.raises(RemoteTransient):
            XmlRecords(RECORD, UTC).read(bad)


@pytest.mark.parametrize("text", ["", "soon", "2025-13-01", "9" * 30, "Tue, 99 Mar 2025"])
def test_times_that_are_none(text: str) -> None:
    assert moment(text, UTC) is None


def test_parser_options_are_checked() -> None:
    """By name."""
    with pytest.raises(RemoteConfig, match="arrayPath"):
        HttpOptions(parser_options="arrayPth=x").fields(RECORD)
    assert (
        HttpOptions(parser_options="nameField = n ,sizeField=s").fields(RECORD)["nameField"] == "n"
    )


# ---- whole listings


async def listed(module: HttpModule, directory: str, filter_text: str = "") -> dict[str, Entry]:
    found = [entry async for entry in module.list(directory, filter_text=filter_text)]
    assert len({entry.name for entry in found}) == len(found)
    return {entry.name: entry for entry in found}


@pytest.mark.parametrize("form", ["html", "json", "xml"])
async def test_all_forms_of_nginx(tmp_path: Path, form: str) -> None:
    """Found out by themselves."""
    async with nginx(tmp_path, listing=form) as peer:
        for name in ("a b.grib", "50%20off", "ä.bin", "x&y", "q?z"):
            peer.put(f"d e/{name}", b"12345", mtime=MOMENT.timestamp())
        peer.mkdir("d e/sub")
        target = Target(
            host_name="n", host=peer.host, login=peer.login, password=Secret(peer.password)
        )
        async with (
            ScriptedHttp() as server,
            server.session(target=target, port=peer.port) as module,
        ):
            found = await listed(module, "/d e")
        assert set(found) == {"a b.grib", "50%20off", "ä.bin", "x&y", "q?z", "sub"}
        assert found["sub"].kind is Kind.DIRECTORY
        assert {found[name].size for name in found if name != "sub"} == {5}
        assert found["a b.grib"].mtime == MOMENT
        assert found["q?z"].url == f"http://127.0.0.1:{peer.port}/d%20e/q%3Fz"
        assert not [line for line in peer.log().splitlines() if '"HEAD ' in line]


async def test_what_links_become() -> None:
    """Plain names below the page, whole addresses elsewhere, nothing above it."""
    page = b"""<a href="plain.bin">x</a><a href="./dot.bin">x</a><a href="sub/deep.bin">x</a>
    <a href="/d/rooted.bin">x</a><a href="plain.bin">again</a>
    <a href="with.bin?v=1">x</a><a href="/elsewhere/f.bin">x</a>
    <a href="https://data.example/g.bin#part">x</a><a href="ftp://h/f">x</a>
    <a href="%ff.bin">x</a><a href="a%2Fb">x</a><a href="c%0Ad">x</a><a href="http://[bad/">x</a>
    <a href="..">x</a><a href="/">x</a><a href="/d/">x</a><a href="?sort=1">x</a>"""
    async with ScriptedHttp() as server, server.session(ask_each=False) as module:
        server.routes["GET /d/"] = answer(200, page, Content_Type="text/html")
        found = await listed(module, "/d")
        base = server.url
        errors = [entry for entry in found.values() if entry.error]
        assert len(errors) == 1
        assert {name for name, entry in found.items() if not entry.error} == {
            "plain.bin",
            "dot.bin",
            "sub/deep.bin",
            "rooted.bin",
            f"{base}/d/with.bin?v=1",
            f"{base}/elsewhere/f.bin",
            "https://data.example/g.bin",
            f"{base}/d/%FF.bin",
            f"{base}/d/a%2Fb",
            f"{base}/d/c%0Ad",
        }


async def test_names_of_pages_that_are_no_directories_are_addresses() -> None:
    """A query, an escape or a redirect: the line's own path says nothing of where files are."""
    async with ScriptedHttp() as server, server.session(ask_each=False) as module:
        page = answer(200, b'<a href="f.bin">x</a>')
        server.routes = {"GET /api": page, "GET /a%20b/": page, "GET /new/": page}
        server.routes["GET /old/"] = answer(302, Location="/new/")
        for directory, url in (
            ("/api?since=2025 03", f"{server.url}/f.bin"),
            ("/a%20b", f"{server.url}/a%20b/f.bin"),
            ("/old", f"{server.url}/new/f.bin"),
        ):
            assert list(await listed(module, directory)) == [url]
        assert "GET /api?since=2025%2003" in server.asked


@pytest.mark.parametrize(
    ("directory", "slash", "asked"),
    [
        ("/d", "auto", "/d/"),
        ("/d/", "auto", "/d/"),
        ("", "auto", "/"),
        ("/d?x=1", "auto", "/d?x=1"),
        ("/d/index.HTML", "auto", "/d/index.HTML"),
        ("/d", "no", "/d"),
        ("/d?x=1", "yes", "/d/?x=1"),
        ("/50%", "auto", "/50%25/"),
    ],
)
async def test_slashes(directory: str, slash: str, asked: str) -> None:
    """`urldir`."""
    async with ScriptedHttp() as server, server.session(slash=slash) as module:
        server.routes["GET *"] = answer(200, b"")
        assert await listed(module, directory) == {}
        assert server.asked == [f"GET {asked}"]


async def test_a_filter_and_a_base_directory() -> None:
    """The filter is appended; relative pages are below the directory of the host."""
    async with ScriptedHttp() as server, server.session(directory="/base/") as module:
        server.routes["GET *"] = answer(200, b"")
        await listed(module, "d", "*.grib")
        assert server.asked == ["GET /base/d/*.grib"]


async def test_what_the_page_does_not_tell_is_asked_for() -> None:
    """HEAD for each, ten at a time; failures are entries, links into our own network too."""
    page = b"".join(b'<a href="%d.bin">x</a>' % number for number in range(25))
    page += b'<a href="none.bin">x</a><a href="http://10.0.0.1/f">x</a><a href="sub/">x</a>'
    async with ScriptedHttp() as server, server.session() as module:
        server.routes["GET /d/"] = answer(200, page)
        head = answer(200, b"12345", Last_Modified="Tue, 04 Mar 2025 05:06:00 GMT", ETag='"7"')
        server.routes |= {f"HEAD /d/{number}.bin": head for number in range(25)}
        found = await listed(module, "/d")
        for number in range(25):
            entry = found[f"{number}.bin"]
            assert (entry.size, entry.mtime, entry.etag) == (5, MOMENT, '"7"')
        assert "not there" in found["none.bin"].error
        assert "private" in found["http://10.0.0.1/f"].error
        assert found["sub"].kind is Kind.DIRECTORY
        assert sum(asked.startswith("HEAD") for asked in server.asked) == 26
        assert server.connections <= 11
        async with server.session(ask_each=False) as other:
            found = await listed(other, "/d")
        assert found["1.bin"].size is None
        assert sum(asked.startswith("HEAD") for asked in server.asked) == 26


async def test_the_address_itself_is_the_file() -> None:
    """`dodir = no`, `urlIsFile`, `urlIsFileName`."""
    async with ScriptedHttp() as server:
        server.routes["HEAD /x/a b.nc"] = server.routes["HEAD /x/a%20b.nc"] = answer(200, b"123")
        server.routes["HEAD /get"] = answer(200, b"1234")
        async with server.session(is_directory=False) as module:
            (entry,) = (await listed(module, "/x/a b.nc")).values()
            assert (entry.name, entry.size) == ("/x/a b.nc", 3)
        async with server.session(url_is_file=True, file_name="b.nc") as module:
            (entry,) = (await listed(module, "/get?id=1")).values()
            assert entry.name == f"{server.url}/get?id=1"
            assert (entry.link, entry.size) == ("b.nc", 4)


@pytest.mark.parametrize(
    ("given", "options", "kind"),
    [
        (answer(404), {}, RemoteMissing),
        (answer(204), {}, RemoteError),
        (answer(200, b"x" * 3000), {"max_size": 2000}, RemoteError),
        (answer(200, b"{", Content_Type="application/json"), {}, RemoteTransient),
        (answer(200, b"\x1f\x8b", Content_Encoding="gzip"), {}, RemoteTransient),
        (answer(200, b"x", Content_Type="text/csv"), {"parser_options": "no=1"}, RemoteConfig),
        (
            answer(200, b"".join(b'<a href="%d">' % n for n in range(20))),
            {"list_files": 10, "ask_each": False},
            RemoteError,
        ),
    ],
)
async def test_pages_that_cannot_be_read(
    given: Any, options: dict[str, Any], kind: type[RemoteError]
) -> None:
    """Each with its class; limits hold while reading."""
    async with ScriptedHttp() as server, server.session(**options) as module:
        server.routes["GET /d/"] = given
        with pytest.raises(kind):
            await listed(module, "/d")


async def test_text_pages() -> None:
    """FTP-like lines, or one reference in each line."""
    text = (
        b"total 4\n-rw-r--r-- 1 o g 12 2025-03-04 05:06 a b.nc\n"
        b"drwxr-xr-x 2 o g 0 2025-03-04 05:06 sub\n"
        b"bare.nc\nhttps://data.example/x.nc\n"
    )
    async with ScriptedHttp() as server, server.session(ask_each=False) as module:
        server.routes["GET /ls.txt"] = answer(200, text, Content_Type="text/plain")
        found = await listed(module, "/ls.txt")
        base = server.url
        assert found[f"{base}/a%20b.nc"].size == 12
        assert found[f"{base}/sub/"].kind is Kind.DIRECTORY
        assert {f"{base}/bare.nc", "https://data.example/x.nc"} <= set(found)


async def test_other_encodings_of_pages() -> None:
    """By the charset that the server tells; an unknown one is read as UTF-8."""
    async with ScriptedHttp() as server, server.session(ask_each=False) as module:
        for charset, body in (("latin-1", b"\xe9"), ("utf-8", b"\xc3\xa9"), ("odd", b"\xc3\xa9")):
            page = answer(
                200, b'<a href="' + body + b'">', Content_Type=f"text/html; charset={charset}"
            )
            server.routes["GET /d/"] = page
            assert list(await listed(module, "/d")) == ["é"]


async def test_large_records_are_read_in_a_thread() -> None:
    """The loop goes on meanwhile."""
    rows = [{"name": f"{number:06d}", "size": 1, "time": 0} for number in range(20_000)]
    async with ScriptedHttp() as server, server.session() as module:
        body = json.dumps(rows).encode()
        server.routes["GET /d/"] = answer(200, body, Content_Type="application/json")
        assert len(await listed(module, "/d")) == 20_000
