"""Links for people without an account: to read, and to upload."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ecpds.model.account import Permission
from tests.peers import clients
from tests.portalsite import Site, site
from tests.protocol.https_site import Got, basic


class Lent:
    """A site, its user alice who makes links, and people who use them."""

    def __init__(self, s: Site) -> None:
        self.site = s

    async def make(self, path: str, *, status: int = 201, **wanted: str) -> str:
        """Make a link; return its path on the server."""
        body = json.dumps({"path": path} | wanted).encode()
        kind = {"Content-Type": "application/json"}
        got = await self.site.ask("POST", "/ecpds/data/links", body=body, headers=kind)
        assert got.status == status, got.text
        return urlsplit(json.loads(got.body)["url"]).path if status == 201 else got.text

    async def put(self, path: str, content: bytes = b"0123456789") -> None:
        got = await self.site.ask("PUT", f"/ecpds/data/file/{path}", body=content)
        assert got.status in {201, 204}

    async def __call__(
        self, method: str, path: str, body: bytes | None = None, **fields: str
    ) -> Got:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return await self.site.ask(method, path, body=body, user="", headers=headers)


@asynccontextmanager
async def lent(folder: Path, **options: Any) -> AsyncIterator[Lent]:
    async with site(folder, **options) as s:
        yield Lent(s)


async def test_a_file_is_shared(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/d/f.txt")
        await ask.put("NORTH/d/other")
        link = await ask.make("/NORTH/d/f.txt")
        got = await ask("GET", link)
        assert (got.status, got.headers["Location"]) == (302, f"{link}f.txt")
        got = await ask("GET", f"{link}f.txt", Range="bytes=2-4")
        assert (got.status, got.body) == (206, b"234")
        assert (await ask("HEAD", f"{link}f.txt")).headers["Content-Length"] == "10"
        for path in ("other", "../other", "%2e%2e/other", "d/f.txt", "NORTH/d/other"):
            assert (await ask("GET", link + path)).status == 404, path
        for method in ("PUT", "DELETE", "POST"):
            assert (await ask(method, f"{link}f.txt", b"x")).status == 405
        await asyncio.to_thread((tmp_path / "work").mkdir)
        url = ask.site.url + link
        (await clients.run("curl", "-sSfOJL", url, cwd=tmp_path / "work")).ok()
        assert (tmp_path / "work" / "f.txt").read_bytes() == b"0123456789"


async def test_a_directory_is_shared(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        for name in ("d/a", "d/e/b", "secret"):
            await ask.put(f"NORTH/{name}")
        link = await ask.make("/NORTH/d")
        got = await ask("GET", f"{link}?format=json")
        assert {one["name"] for one in json.loads(got.body)} == {"a", "e"}
        assert (await ask("GET", f"{link}e/b")).body == b"0123456789"
        assert (await ask("GET", f"{link}e/", Accept="text/plain")).text == "b\n"
        page = (await ask("GET", link, Accept="text/html")).text
        assert "alice" not in page
        assert "NORTH" not in page
        assert f'href="{link}e/"' in page
        assert (await ask("GET", f"{link}../secret")).status == 404
        details = await ask("GET", f"{link}a?view=details", Accept="text/html")
        assert (details.status, "NORTH" in details.text) == (200, False)


async def test_a_password_and_a_number_of_uses(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/f")
        link = await ask.make("/NORTH/f", password="s3cret", uses="2")
        got = await ask("GET", f"{link}f")
        assert (got.status, got.headers["WWW-Authenticate"][:18]) == (401, 'Basic realm="link"')
        wrong = await ask("GET", f"{link}f", Authorization=basic("x", "wrong"))
        assert wrong.status == 401
        url = f"{ask.site.url}{link}f"
        for _ in range(2):
            assert (await clients.run("curl", "-sSf", "-u", ":s3cret", url)).ok().out
        good = await ask("GET", f"{link}f", Authorization=basic("x", "s3cret"))
        assert good.status == 404
        got = await ask.site.ask("GET", "/ecpds/data/links")
        [one] = json.loads(got.body)
        assert (one["uses"], one["most_uses"], one["password"]) == (2, 2, True)
        assert "s3cret" not in got.text


async def test_files_are_asked_for(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/in/old")
        link = await ask.make("/NORTH/in", kind="request", bytes="1KB", comment="the <b>data")
        page = (await ask("GET", link, Accept="text/html")).text
        assert "the &lt;b&gt;data" in page
        assert (await ask("PUT", f"{link}new", b"content")).status == 201
        assert (await ask("PUT", f"{link}old", b"x")).status == 409  # nothing is replaced
        assert (await ask("GET", f"{link}old")).status == 405
        assert (await ask("PUT", f"{link}x/y", b"x")).status == 400
        assert (await ask("PUT", f"{link}../up", b"x")).status == 404
        assert (await ask("DELETE", f"{link}old")).status == 405
        assert (await ask("PUT", f"{link}large", b"x" * 1020)).status == 413
        (tmp_path / "curled").write_bytes(b"by curl")
        (await clients.run("curl", "-sSf", "-T", "curled", ask.site.url + link, cwd=tmp_path)).ok()
        kind = "multipart/form-data; boundary=b"
        named = b'Content-Disposition: form-data; name="file"; filename="f"'
        form = b"--b\r\n" + named + b"\r\n\r\nx\r\n--b--\r\n"
        assert (await ask("POST", link, form, Content_Type=kind)).status == 200
        names = {one.target for one in await ask.site.transfers()}
        assert names == {"in/old", "in/new", "in/curled", "in/f"}
        [one] = json.loads((await ask.site.ask("GET", "/ecpds/data/links")).body)
        assert (one["uses"], one["bytes"]) == (3, 15)


async def test_a_link_is_no_more_than_its_user(tmp_path: Path) -> None:
    """What the user may not do, or may no more, nobody may through his link."""
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/f")
        link = await ask.make("/NORTH/f")
        user = ask.site.node.user
        await user("alice", destinations=("NORTH",), operations=[Permission.DIR])
        assert (await ask("GET", f"{link}f")).status == 403
        await ask.make("/NORTH/f", status=403)
        await ask.make("/NORTH", kind="request", status=403)
        await user("alice", destinations=("NORTH",), active=False)
        assert (await ask("GET", f"{link}f")).status == 401
        await user("alice", destinations=("SOUTH",))
        assert (await ask("GET", f"{link}f")).status == 404


async def test_links_are_listed_and_removed_by_their_user_only(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/f")
        await ask.site.node.user("bob", destinations=("NORTH",))
        link = await ask.make("/NORTH/f")
        assert json.loads((await ask.site.ask("GET", "/ecpds/data/links", user="bob")).body) == []
        gone = await ask.site.ask("DELETE", "/ecpds/data/links/1", user="bob")
        assert gone.status == 404
        assert (await ask.site.ask("DELETE", "/ecpds/data/links/1")).status == 204
        assert (await ask("GET", f"{link}f")).status == 404
        assert (await ask("GET", "/ecpds/data/links")).status == 401


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"path": ""}, 400), ({"path": "/NORTH/none"}, 404), ({"path": "/"}, 403),
        ({"kind": "give"}, 400), ({"expires": "60d"}, 400), ({"expires": "1s"}, 400),
        ({"uses": "0"}, 400), ({"bytes": "x"}, 400), ({"kind": "request"}, 400),
    ],
)  # fmt: skip
async def test_what_is_no_link(wanted: dict[str, str], status: int, tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/f")
        given = {"path": "/NORTH/f"} | wanted
        await ask.make(given.pop("path"), status=status, **given)


async def test_links_can_be_forbidden(tmp_path: Path) -> None:
    async with lent(tmp_path, user={"options": {"portal.links": "request"}}) as ask:
        await ask.put("NORTH/f")
        await ask.make("/NORTH/f", status=403)
        await ask.make("/NORTH", kind="request")


async def test_guessing_bans(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        for _ in range(8):
            assert (await ask("GET", f"/ecpds/link/{'x' * 43}/")).status == 404
        assert (await ask("GET", f"/ecpds/link/{'x' * 43}/")).status == 429
        assert (await ask.site.ask("GET", "/ecpds/file/")).status == 429


async def test_a_form_makes_a_link(tmp_path: Path) -> None:
    async with lent(tmp_path) as ask:
        await ask.put("NORTH/f")
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
        body = b"kind=share&path=%2FNORTH%2Ff&expires=1d&password="
        got = await ask.site.ask("POST", "/ecpds/data/links", body=body, headers=kind)
        assert (got.status, "/ecpds/link/" in got.text) == (200, True)
