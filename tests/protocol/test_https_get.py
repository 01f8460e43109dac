"""GET and HEAD of files: the tables of portal.md 3.4."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from ecpds.model.account import Permission
from ecpds.portals.https.head import http_date
from tests.protocol.diskgate import Account
from tests.protocol.https_site import MOMENT, Site, site

HUNDRED = bytes(range(100))
FILE = "/ecpds/data/file/NORTH/a.bin"
ADDRESSES = (FILE, "/ecpds/file/NORTH/a.bin", "/ecpds/home/alice/NORTH/a.bin")


def last_download(s: Site) -> tuple[int, bool]:
    found = s.gate.downloads[-1]
    return found.sent, found.error is None


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_file(tmp_path: Path, address: str) -> None:
    """Content and description are the same at every address."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        etag = s.gate.node("/NORTH/a.bin").etag
        got = await s.get(address)
        assert (got.status, got.body) == (200, HUNDRED)
        assert got.headers["ETag"] == etag
        assert got.headers["Last-Modified"] == http_date(MOMENT)
        assert got.headers["Accept-Ranges"] == "bytes"
        assert got.headers["Content-Length"] == "100"
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["Content-Disposition"] == 'attachment; filename="a.bin"'
        assert got.headers["Content-Security-Policy"].startswith("sandbox")
        assert last_download(s) == (100, True)
        head = await s.ask("HEAD", address)
        assert (head.status, head.body) == (200, b"")
        described = set(got.headers) - {"Date"}
        assert {n: head.headers[n] for n in described} == {n: got.headers[n] for n in described}
        assert len(s.gate.downloads) == 1  # a look is no download


async def test_no_bytes_and_many(tmp_path: Path) -> None:
    async with site(tmp_path, tls=True) as s:
        s.put("/NORTH/none", b"")
        big = bytes(range(256)) * 8192 + b"end"  # 2 MiB and a little
        s.put("/NORTH/big", big)
        got = await s.get("/ecpds/data/file/NORTH/none")
        assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
        assert last_download(s) == (0, True)
        got = await s.get("/ecpds/data/file/NORTH/big")
        assert got.body == big
        assert last_download(s) == (len(big), True)


@pytest.mark.parametrize(
    ("field", "expected", "first", "last"),
    [
        ("bytes=0-9", 206, 0, 9),
        ("bytes=90-", 206, 90, 99),
        ("bytes=-10", 206, 90, 99),
        ("bytes=95-200", 206, 95, 99),
        ("bytes=-200", 206, 0, 99),
        ("items=0-1", 200, 0, 99),
        ("bytes=5-2", 200, 0, 99),
    ],
)
async def test_one_range(tmp_path: Path, field: str, expected: int, first: int, last: int) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        got = await s.get(FILE, range=field)
        assert (got.status, got.body) == (expected, HUNDRED[first : last + 1])
        wanted = f"bytes {first}-{last}/100" if expected == 206 else None
        assert got.headers.get("Content-Range") == wanted
        assert got.headers["Content-Length"] == str(last - first + 1)
        assert last_download(s) == (last - first + 1, True)
        head = await s.ask("HEAD", FILE, headers={"Range": field})
        assert (head.status, head.headers["Content-Length"]) == (200, "100")


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=100-,200-300", "bytes=-0"])
async def test_no_byte_of_the_range_exists(tmp_path: Path, field: str) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        got = await s.get(FILE, range=field)
        assert (got.status, got.headers["Content-Range"]) == (416, "bytes */100")
        assert s.gate.downloads == []


async def test_several_ranges(tmp_path: Path) -> None:
    """Boundary, part heads and length are exact."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a.txt", HUNDRED)
        got = await s.get("/ecpds/data/file/NORTH/a.txt", range="bytes=50-51,0-1,98-")
        assert got.status == 206
        assert "Content-Range" not in got.headers
        kind = re.fullmatch(r"multipart/byteranges; boundary=(\w{32})", got.headers["Content-Type"])
        assert kind is not None
        assert len(got.body) == int(got.headers["Content-Length"])
        parts = got.body.split(b"--" + kind[1].encode())
        assert parts[0] == b""
        assert parts[-1] == b"--\r\n"
        for part, (first, last) in zip(parts[1:-1], [(50, 51), (0, 1), (98, 99)], strict=True):
            head, _, content = part.partition(b"\r\n\r\n")
            assert f"Content-Range: bytes {first}-{last}/100".encode() in head
            assert b"Content-Type: text/plain; charset=utf-8" in head
            assert content == HUNDRED[first : last + 1] + b"\r\n"
        other = await s.get("/ecpds/data/file/NORTH/a.txt", range="bytes=0-1,5-6")
        assert kind[1] not in other.headers["Content-Type"]
        assert last_download(s) == (4, True)


async def test_overlapping_ranges_become_one(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        got = await s.get(FILE, range="bytes=0-9,5-19,20-29")
        assert (got.status, got.headers["Content-Range"]) == (206, "bytes 0-29/100")


async def test_too_many_ranges(tmp_path: Path) -> None:
    """100 unless the option says otherwise; 0 is no limit."""
    many = "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 202, 2))
    accounts = {
        "alice": Account(),
        "few": Account(options={"portal.maxRangesAllowed": "1"}),
        "all": Account(options={"portal.maxRangesAllowed": "0"}),
    }
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/a.bin", HUNDRED * 3)
        assert (await s.get(FILE, range=many)).status == 429
        two = {"Range": "bytes=0-1,5-6"}
        assert (await s.ask("GET", FILE, user="few", headers=two)).status == 429
        assert (await s.ask("GET", FILE, user="few", headers={"Range": "bytes=0-1"})).status == 206
        assert (await s.ask("GET", FILE, user="all", headers={"Range": many})).status == 206


SAME = http_date(MOMENT)
BEFORE = http_date(MOMENT - timedelta(seconds=1))
AFTER = http_date(MOMENT + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("If-None-Match", "TAG", 304),
        ("If-None-Match", '"x", TAG', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"x"', 200),
        ("If-Match", "TAG", 200),
        ("If-Match", "*", 200),
        ("If-Match", '"x"', 412),
        ("If-Modified-Since", SAME, 304),
        ("If-Modified-Since", AFTER, 304),
        ("If-Modified-Since", BEFORE, 200),
        ("If-Unmodified-Since", SAME, 200),
        ("If-Unmodified-Since", BEFORE, 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_conditions(tmp_path: Path, method: str, field: str, value: str, status: int) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        etag = s.gate.node("/NORTH/a.bin").etag
        got = await s.ask(method, FILE, headers={field: value.replace("TAG", etag)})
        assert got.status == status
        if status == 304:
            assert got.body == b""
            assert (got.headers["ETag"], got.headers["Last-Modified"]) == (etag, SAME)
            assert "Content-Length" not in got.headers
        assert len(s.gate.downloads) == (method == "GET" and status == 200)


@pytest.mark.parametrize(
    ("value", "status"),
    [("TAG", 206), ('"x"', 200), ("W/TAG", 200), (SAME, 206), (AFTER, 200), ("a.bin", 200)],
)
async def test_if_range(tmp_path: Path, value: str, status: int) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        etag = s.gate.node("/NORTH/a.bin").etag
        got = await s.get(FILE, range="bytes=0-9", if_range=value.replace("TAG", etag))
        assert (got.status, len(got.body)) == (status, 10 if status == 206 else 100)
        beyond = await s.get(FILE, range="bytes=200-", if_range=value.replace("TAG", etag))
        assert beyond.status == (416 if status == 206 else 200)


async def test_what_is_not_there(tmp_path: Path) -> None:
    """Missing, hidden, directory and outside read the same."""
    async with site(tmp_path) as s:
        s.put("/NORTH/d/a.bin", HUNDRED)
        bodies = set()
        paths = ["NORTH/x", "NORTH/d", "NORTH/d/", "NORTH/d/a.bin/", "NORTH/d/a.bin/y", "NO/x"]
        for path in [*paths, "../x", "NORTH/%2e%2e/%2e%2e/x"]:
            got = await s.get(f"/ecpds/data/file/{path}")
            assert got.status == 404, path
            bodies.add(got.body)
        assert len(bodies) == 1


async def test_rights(tmp_path: Path) -> None:
    """HEAD needs any right to look, GET the right to read."""
    accounts = {"alice": Account(operations=frozenset({Permission.SIZE}))}
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        assert (await s.get(FILE)).status == 403
        assert (await s.get(FILE, range="bytes=0-1")).status == 403
        assert (await s.ask("HEAD", FILE)).status == 200
    accounts = {"alice": Account(operations=frozenset({Permission.PUT}))}
    async with site(tmp_path / "2", accounts=accounts) as s:
        s.put("/NORTH/a.bin", HUNDRED)
        assert (await s.ask("HEAD", FILE)).status == 404


async def test_example_17(tmp_path: Path) -> None:
    """The header registry gives type and fields; a wrong text gives none and breaks nothing."""
    rules = (
        "(=. .nc) Content-Type=application/x-netcdf;X-Kind=grid\n"
        "(.= NORTH/d) Cache-Control=max-age=60"
    )
    accounts = {
        "alice": Account(options={"portal.headerRegistry": rules}),
        "bob": Account(options={"portal.headerRegistry": "(nonsense"}),
    }
    async with site(tmp_path, accounts=accounts) as s:
        for path in ("/NORTH/a.nc", "/NORTH/d/x"):
            s.put(path, HUNDRED)
        for _ in range(2):  # the second from what was kept ready
            got = await s.get("/ecpds/data/file/NORTH/a.nc")
            assert got.headers["Content-Type"] == "application/x-netcdf"
            assert got.headers["X-Kind"] == "grid"
        got = await s.get("/ecpds/data/file/NORTH/d/x")
        assert got.headers["Cache-Control"] == "max-age=60"
        got = await s.ask("GET", "/ecpds/data/file/NORTH/a.nc", user="bob")
        assert (got.status, "X-Kind" in got.headers) == (200, False)


@pytest.mark.parametrize(
    "name",
    [
        "a b'c\"d.txt",
        "é日本.nc",
        ".hidden",
        "100%.csv",
        "a+b&c=d;e.txt",
        "#a?b",
        "<script>.html",
        "a\u202etxt.exe",
        "x" * 255,
    ],
)
async def test_odd_names(tmp_path: Path, name: str) -> None:
    async with site(tmp_path) as s:
        s.put(f"/NORTH/{name}", HUNDRED)
        got = await s.raw(
            f"GET /ecpds/data/file/NORTH/{quote(name)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            "Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n".encode()
        )
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.endswith(b"\r\n\r\n" + HUNDRED)
        assert got.partition(b"\r\n\r\n")[0].isascii()


@pytest.mark.parametrize("name", ["a%00b", "a%0d%0aX:y", "%ff%fe", "x" * 256, "a%01"])
async def test_names_that_nobody_may_have(tmp_path: Path, name: str) -> None:
    async with site(tmp_path) as s:
        got = await s.raw(
            f"GET /ecpds/data/file/NORTH/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            "Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n".encode()
        )
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"X:y" not in got


async def test_an_upload_into_another_format_is_shown_harmlessly(tmp_path: Path) -> None:
    """A page that somebody uploaded gets no script and no origin of ours."""
    async with site(tmp_path) as s:
        s.put("/NORTH/evil.html", b"<script>alert(1)</script>")
        got = await s.get("/ecpds/file/NORTH/evil.html", accept="text/html")
        assert got.headers["Content-Disposition"].startswith("inline")
        assert got.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert got.headers["X-Content-Type-Options"] == "nosniff"
