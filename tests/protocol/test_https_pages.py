"""The pages: what they show, that hostile names stay text, and what a site may change."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from ecpds.model.account import Permission
from tests.conftest import ROOT
from tests.protocol.diskgate import Account
from tests.protocol.https_site import MOMENT, Got, site

HOSTILE = [
    "<script>alert(1)<!--.txt",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "a&lt;b",
    "%3Cscript%3E",
    "#fragment?query=1",
    "é \u202egnp.exe",
]
EVENTS = re.compile(r"^on", re.IGNORECASE)


class Page(HTMLParser):
    """Collects tags, links and text; notes everything that could run."""

    def __init__(self, got: Got) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.dangers: list[str] = []
        self.text = ""
        self._href = ""
        self.feed(got.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "script" and not found.get("src", "").startswith("/ecpds/static/portal.js"):
            self.dangers.append(f"script {found}")
        for name, value in found.items():
            if EVENTS.match(name) or name == "style":
                self.dangers.append(f"{name}={value}")
            if name in ("href", "src", "action") and not re.match(r"[/#?]", value):
                self.dangers.append(f"{name}={value}")
            if name in ("href", "src", "action") and value.startswith("//"):
                self.dangers.append(f"{name}={value}")
        self._href = found.get("href", "") if tag == "a" else self._href

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._href = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._href and data.strip():
            self.links[data.strip()] = self._href

    def fields(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_a_directory(tmp_path: Path) -> None:
    """Path, parent, entries, form, formats, guide; every link works."""
    async with site(tmp_path) as s:
        s.endpoints |= {"ftp": "ftp://0.0.0.0:7021", "sftp": "sftp://0.0.0.0:7022"}
        s.put("/NORTH/d/é 1.txt", b"x" * 3000)
        s.put("/NORTH/d/sub/x", b"")
        got = await s.get("/ecpds/file/NORTH/d/")
        assert (got.status, got.headers["Cache-Control"]) == (200, "no-cache")
        assert "unsafe" not in got.headers["Content-Security-Policy"]
        page = Page(got)
        assert page.dangers == []
        assert page.links["Destinations"] == "/ecpds/file/"
        assert page.links["NORTH"] == page.links["Parent directory"] == "/ecpds/file/NORTH/"
        assert page.links["sub/"] == "/ecpds/file/NORTH/d/sub/"
        assert page.links["é 1.txt"] == "/ecpds/file/NORTH/d/%C3%A9%201.txt"
        assert "2031-05-04 10:00" in page.text
        assert "2.9 KB" in page.text
        for address in page.links.values():
            if not address.endswith("?format=zip"):  # test_archive.py, on a real tree
                assert (await s.ask("GET", address)).status in (200, 302), address
        [form] = [f for f in page.fields("form") if f.get("enctype")]
        assert form["action"] == "/ecpds/file/NORTH/d/"
        text = " ".join(page.text.split())
        assert f"curl -u alice -O http://127.0.0.1:{s.port}/ecpds/data/file/NORTH/d/FILE" in text
        assert "lftp -u alice ftp://127.0.0.1:7021/DATA/NORTH/d" in text
        assert "sftp -P 7022 alice@127.0.0.1:/DATA/NORTH/d" in text


async def test_the_data_addresses_link_to_each_other(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/d/a", b"x")
        page = Page(await s.get("/ecpds/data/list/NORTH"))
        assert page.links["d/"] == "/ecpds/data/list/NORTH/d/"
        page = Page(await s.get("/ecpds/data/list/NORTH/d/"))
        assert page.links["a"] == "/ecpds/data/file/NORTH/d/a"


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_text(tmp_path: Path, name: str) -> None:
    """In the list, in the path, in the details, in errors, in the guide."""
    async with site(tmp_path) as s:
        s.put(f"/NORTH/{name}", b"content")
        s.put(f"/SOUTH/{name}/inner", b"")
        page = Page(await s.get("/ecpds/file/NORTH/"))
        assert page.dangers == []
        assert name in page.text
        address = page.links[name]
        assert unquote(address) == f"/ecpds/file/NORTH/{name}"
        assert (await s.ask("GET", address)).body == b"content"
        for target in (f"/ecpds/file/SOUTH/{quote(name)}/", f"{address}?view=details"):
            page = Page(await s.get(target))
            assert page.dangers == []
            assert name in page.text
        for query in (f"search={quote(name)}", f"done={quote(name)}", f"cursor={quote(name)}"):
            assert Page(await s.get(f"/ecpds/file/NORTH/?{query}")).dangers == []
        html = {"Accept": "text/html"}
        for target in (f"/ecpds/file/{quote(name)}", f"/ecpds/file/?sort={quote(name)}"):
            got = await s.ask("GET", target, headers=html)
            assert got.status in (400, 404)
            assert Page(got).dangers == []
        got = await s.ask("GET", f"/ecpds/login?next={quote('/' + name)}", user="")
        assert Page(got).dangers == []


async def test_commands_of_the_guide_are_safe_to_paste(tmp_path: Path) -> None:
    import shlex

    name = "a'; rm -rf $HOME; `id` \"b"
    accounts = {"o'brien; id": Account()}
    async with site(tmp_path, accounts=accounts) as s:
        s.endpoints |= {"ftp": "ftp://0.0.0.0:7021", "sftp": "sftp://0.0.0.0:7022"}
        s.endpoints["webdav"] = "x"
        s.put(f"/NORTH/{name}/x", b"")
        got = await s.ask("GET", f"/ecpds/file/NORTH/{quote(name)}/", user="o'brien; id")
        commands = re.findall(r"<code>(.*?)</code>", got.text, re.DOTALL)
        assert len(commands) == 8
        import html

        for command in map(html.unescape, commands):
            words = shlex.split(command)
            assert any(quote(name) in word or name in word for word in words[1:])
            assert not {";", "rm", "id"} & set(words)


async def test_branding(tmp_path: Path) -> None:
    """Texts are texts; a colour is a colour or nothing."""
    evil = "<b onclick=x>hi</b>"
    options = {
        f"portal.{name}": f"{name} {evil}\\nsecond line"
        for name in ("footer", "warning", "msgTop", "msgDown")
    } | {"portal.title": evil, "portal.tab": "The tab", "portal.color": "#36a"}
    accounts = {
        "alice": Account(options=options),
        "plain": Account(options={"portal.accessGuide": "no", "portal.color": "red;}body{x:y"}),
    }
    async with site(tmp_path, accounts=accounts) as s:
        got = await s.get("/ecpds/file/NORTH/")
        page = Page(got)
        assert page.dangers == []
        assert "<title>NORTH · The tab</title>" in got.text
        for name in ("footer", "warning", "msgTop", "msgDown"):
            assert f"{name} {evil}" in page.text
        assert evil in page.text
        sheets = [link["href"] for link in page.fields("link") if "accent" in link["href"]]
        assert sheets == ["/ecpds/static/accent-3366aa.css"]
        sheet = await s.ask("GET", sheets[0], user="")
        assert sheet.text == ":root{--accent:#3366aa;--on-accent:#ffffff}\n"
        got = await s.ask("GET", "/ecpds/file/NORTH/", user="plain")
        assert "accent" not in got.text
        assert "Access from programs" not in got.text
        assert "Access from programs" in (await s.get("/ecpds/file/NORTH/")).text


@pytest.mark.parametrize(
    "name",
    [
        "accent-xyzxyz.css",
        "accent-3366aa.css.x",
        "../portal/list.html",
        "list.html",
        "",
        "%2e%2e/portal/list.html",
    ],
)
async def test_only_the_files_of_the_pages_are_served(tmp_path: Path, name: str) -> None:
    async with site(tmp_path) as s:
        raw = await s.raw(
            f"GET /ecpds/static/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert raw.startswith(b"HTTP/1.1 404 ")


async def test_static_files_are_kept_by_browsers(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        page = Page(await s.ask("GET", "/ecpds/login", user=""))
        names = [link["href"] for link in page.fields("link")] + [page.fields("script")[0]["src"]]
        for address in names:
            assert re.search(r"\?v=[0-9a-f]{12}$", address)
            got = await s.ask("GET", address, user="")
            assert (got.status, "immutable" in got.headers["Cache-Control"]) == (200, True)
        assert (await s.ask("GET", "/favicon.ico", user="")).headers[
            "Content-Type"
        ] == "image/svg+xml"


async def test_columns_sort_both_ways(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        for number, name in enumerate("abc"):
            s.put(f"/NORTH/{name}", b"x" * number, mtime=MOMENT + timedelta(hours=number))
        page = Page(await s.get("/ecpds/file/NORTH/?search=?"))
        assert page.links["Size"] == "/ecpds/file/NORTH/?search=%3F&sort=size&order=desc"
        page = Page(await s.get(page.links["Size"]))
        heads = [th for th in page.fields("th") if "aria-sort" in th]
        assert [(th["class"], th["aria-sort"]) for th in heads] == [("size", "descending")]
        assert [name for name in page.links if name in "abc"] == ["c", "b", "a"]
        page = Page(await s.get(page.links["Size"]))
        assert [name for name in page.links if name in "abc"] == ["a", "b", "c"]


async def test_pages_of_a_long_directory(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        for number in range(450):
            s.put(f"/NORTH/{number:03}", b"")
        seen: list[str] = []
        address = "/ecpds/file/NORTH/?sort=target"
        while address:
            page = Page(await s.get(address))
            seen += [name for name in page.links if re.fullmatch(r"\d{3}", name)]
            address = page.links.get("Next page", "")
        assert seen == [f"{number:03}" for number in range(450)]
        assert page.links["First page"] == "/ecpds/file/NORTH/?sort=target"


async def test_forms_follow_the_rights(tmp_path: Path) -> None:
    look = frozenset({Permission.DIR, Permission.GET})
    async with site(tmp_path, accounts={"alice": Account(), "look": Account(operations=look)}) as s:
        s.put("/NORTH/a", b"x")
        assert "enctype" not in (await s.get("/ecpds/file/")).text  # nothing is stored at the root
        assert "enctype" in (await s.get("/ecpds/file/NORTH/")).text
        assert "enctype" not in (await s.ask("GET", "/ecpds/file/NORTH/", user="look")).text
        for user, forms in (("alice", 2), ("look", 0)):
            got = await s.ask("GET", "/ecpds/file/NORTH/a?view=details", user=user)
            assert got.text.count('<form class="row" method="post"') == forms


async def test_details(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a.nc", b"x")
        got = await s.get("/ecpds/file/NORTH/a.nc?view=details&digest=sha256")
        assert "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" in got.text
        assert "application/x-netcdf" in got.text
        assert s.gate.node("/NORTH/a.nc").etag.strip('"') in got.text
        assert (await s.get("/ecpds/file/NORTH/a.nc?view=details&digest=evil")).status == 200
        assert (await s.get("/ecpds/file/NORTH/none?view=details")).status == 404
        assert (await s.get("/ecpds/data/file/NORTH?view=details")).status == 404
        assert "<table" in (await s.get("/ecpds/file/NORTH?view=details")).text


async def test_messages_after_an_act_are_ours(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        assert "Uploaded." in (await s.get("/ecpds/file/NORTH/?done=uploaded")).text
        assert 'role="status"' not in (await s.get("/ecpds/file/NORTH/?done=hacked")).text


async def test_previews(tmp_path: Path) -> None:
    """Texts, images and header tables; nothing of a file becomes markup."""
    product = ROOT / "config/demo/products/ifs_2t_2021080112_003.grib2"
    async with site(tmp_path) as s:
        s.put("/NORTH/a.txt", b"<script>alert(1)</script>\nline two\n" + b"x" * 9000)
        s.put("/NORTH/i.png", b"\x89PNG\r\n\x1a\n")
        s.put("/NORTH/g.grib2", product.read_bytes())
        s.put("/NORTH/b.bin", bytes(range(256)))
        s.put("/NORTH/empty", b"")
        got = await s.get("/ecpds/file/NORTH/a.txt?view=details")
        assert Page(got).dangers == []
        assert "&lt;script&gt;alert(1)" in got.text
        assert "Only the beginning" in got.text
        assert (
            'src="/ecpds/file/NORTH/i.png"'
            in (await s.get("/ecpds/file/NORTH/i.png?view=details")).text
        )
        got = await s.get("/ecpds/file/NORTH/g.grib2?view=details")
        assert "2021-08-01 12:00" in got.text
        for name in ("b.bin", "empty"):
            got = await s.get(f"/ecpds/file/NORTH/{name}?view=details")
            assert "Preview" not in got.text
        await s.idle()
        assert [one for one in s.gate.downloads if one.sent] == []  # looking is no download
