"""Listings for programs: JSON, CSV, names, pages."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ecpds.model.account import Permission
from ecpds.portals.https.head import http_date
from tests.protocol.diskgate import Account
from tests.protocol.https_site import MOMENT, Got, Site, site

NORTH = "/ecpds/data/list/NORTH/"


def fill(s: Site) -> None:
    """Two files and a directory."""
    s.put("/NORTH/b,1.txt", b"12345", mtime=MOMENT)
    s.put('/NORTH/a "x".txt', b"1", mtime=MOMENT + timedelta(hours=1))
    s.put("/NORTH/d/inner", b"")


@pytest.mark.parametrize("base", ["/ecpds/data/list/", "/ecpds/file/", "/ecpds/home/alice/"])
async def test_json(tmp_path: Path, base: str) -> None:
    async with site(tmp_path) as s:
        fill(s)
        got = await s.get(f"{base}NORTH", accept="application/json")
        assert (got.status, got.headers["Content-Type"]) == (200, "application/json")
        assert got.headers["Cache-Control"] == "no-cache"
        found = {one["name"]: one for one in json.loads(got.body)}
        node = s.gate.node("/NORTH/b,1.txt")
        assert found["b,1.txt"] == {
            "name": "b,1.txt",
            "size": 5,
            "time": "2031-05-04T10:00:00Z",
            "directory": False,
            "id": node.transfer_id,
            "etag": node.etag,
        }
        assert found["d"]["size"] is None
        assert found["d"]["directory"] is True
        assert list(found) == sorted(found)


async def test_csv(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        fill(s)
        got = await s.get(NORTH, accept="text/csv")
        assert got.headers["Content-Type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(got.text, newline="")))
        assert rows[0]["name"] == 'a "x".txt'
        assert rows[1] == {
            "name": "b,1.txt",
            "size": "5",
            "time": "2031-05-04T10:00:00Z",
            "directory": "false",
        }
        assert (rows[2]["size"], rows[2]["directory"]) == ("", "true")


async def test_names(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        fill(s)
        got = await s.get(NORTH, accept="text/plain")
        assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert got.text == 'a "x".txt\nb,1.txt\nd/\n'
        root = await s.get("/ecpds/data/list/", accept="text/plain")
        assert root.text == "NORTH/\nSOUTH/\n"
        assert (await s.get("/ecpds/data/list/SOUTH?format=json")).body == b"[]\n"
        assert (await s.get("/ecpds/data/list/SOUTH?format=text")).body == b""


@pytest.mark.parametrize(
    ("accept", "form", "kind"),
    [
        ("", "", "text/html"),
        ("*/*", "", "text/html"),
        ("text/html", "", "text/html"),
        ("text/csv;q=0.5, application/json", "", "application/json"),
        ("text/html", "csv", "text/csv"),
        ("image/png", "json", "application/json"),
        ("image/png", "", None),
        ("", "pdf", None),
    ],
)
async def test_which_form(tmp_path: Path, accept: str, form: str, kind: str | None) -> None:
    async with site(tmp_path) as s:
        query = f"?format={form}" if form else ""
        got = await s.ask("GET", NORTH + query, headers={"Accept": accept})
        if kind is None:
            assert got.status == (400 if form else 406)
        else:
            assert got.headers["Content-Type"].split(";")[0] == kind


async def test_simple_list(tmp_path: Path) -> None:
    """`portal.simpleList` gives names where others get the page; a form asked for is given."""
    accounts = {"alice": Account(options={"portal.simpleList": "yes"})}
    async with site(tmp_path, accounts=accounts) as s:
        fill(s)
        assert (await s.get("/ecpds/file/NORTH")).text.startswith('a "x".txt\n')
        got = await s.get("/ecpds/file/NORTH", accept="application/json")
        assert got.headers["Content-Type"] == "application/json"


def names(got: Got) -> list[str]:
    return [one["name"] for one in json.loads(got.body)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=target&order=desc", ["c", "b", "a"]),
        ("sort=name", ["a", "b", "c"]),
        ("sort=size", ["c", "a", "b"]),
        ("sort=size&order=desc", ["b", "a", "c"]),
        ("sort=time", ["b", "c", "a"]),
        ("search=a", ["a"]),
        ("search=%5Ba", []),
        ("search=%3F", ["a", "b", "c"]),
        ("limit=2&cursor=b", ["c"]),
    ],
)
async def test_sorting_and_searching(tmp_path: Path, query: str, expected: list[str]) -> None:
    async with site(tmp_path) as s:
        for number, (name, size) in enumerate((("b", 30), ("c", 10), ("a", 20))):
            s.put(f"/NORTH/{name}", b"x" * size, mtime=MOMENT + timedelta(seconds=number))
        assert names(await s.get(f"{NORTH}?format=json&{query}")) == expected


@pytest.mark.parametrize(
    "query",
    ["sort=color", "order=up", "limit=0", "limit=-1", "limit=x", "limit=1e9", "limit=\u0661",
     "&".join(f"a{n}=1" for n in range(60)), "cursor=%ff"],
)  # fmt: skip
async def test_wrong_queries_are_refused(tmp_path: Path, query: str) -> None:
    from urllib.parse import quote

    async with site(tmp_path) as s:
        assert (await s.get(f"{NORTH}?format=json&{quote(query, safe='=&%')}")).status == 400


async def test_pages_are_linked(tmp_path: Path) -> None:
    """Following rel=next gives every entry once."""
    async with site(tmp_path) as s:
        wanted = [f"é {n:02}" for n in range(7)]
        for name in wanted:
            s.put(f"/NORTH/{name}", b"")
        found, address = [], f"{NORTH}?format=json&limit=3&sort=target"
        pages = 0
        while address:
            got = await s.get(address)
            found += names(got)
            pages += 1
            link = got.headers.get("Link", "")
            assert link.endswith('; rel="next"') or not link
            address = link.removeprefix("<").partition(">")[0]
            assert urlsplit(address).netloc == ""
        assert (found, pages) == (wanted, 3)


async def test_a_long_listing_is_written_while_it_is_read(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        for number in range(2000):
            s.put(f"/NORTH/{number:04}-{'x' * 60}", b"")
        got = await s.get(f"{NORTH}?format=json")
        assert len(json.loads(got.body)) == 2000
        assert got.headers["Transfer-Encoding"] == "chunked"
        head = await s.ask("HEAD", f"{NORTH}?format=json")
        assert (head.status, head.body) == (200, b"")
        old = await s.raw(
            f"GET {NORTH}?format=text HTTP/1.0\r\nConnection: keep-alive\r\n"
            "Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n".encode()
        )
        assert old.count(b"\n") > 2000  # no chunks in HTTP/1.0: the end closes the connection
        assert b"chunked" not in old


async def test_newest_entry_dates_the_listing(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        fill(s)
        node = s.gate.node("/NORTH")
        assert node.mtime is not None
        got = await s.get(
            NORTH, accept="application/json", if_modified_since="Fri, 01 Jan 2100 00:00:00 GMT"
        )
        # a deletion would not make it newer: never 304
        assert (got.status, got.headers["Last-Modified"]) == (200, http_date(node.mtime))


async def test_what_is_no_directory(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        fill(s)
        for path in ("NORTH/b,1.txt", "NORTH/b,1.txt/", "NORTH/x", "NOWHERE"):
            assert (await s.get(f"/ecpds/data/list/{path}")).status == 404
        assert (await s.get("/ecpds/file/NORTH/b,1.txt/")).status == 404


async def test_rights(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=frozenset({Permission.GET}))}
    async with site(tmp_path, accounts=accounts) as s:
        fill(s)
        for form in ("html", "json", "csv", "text"):
            assert (await s.get(f"{NORTH}?format={form}")).status == 403
        assert (await s.get("/ecpds/file/NORTH/b,1.txt")).body == b"12345"
