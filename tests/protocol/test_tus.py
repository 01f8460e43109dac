"""Resumable uploads: the tus protocol request by request, over breaks and restarts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.peers import clients
from tests.peers.programs import find_file, peers_folder
from tests.portalsite import Site, site
from tests.protocol.https_site import Got, basic

TYPE = "application/offset+octet-stream"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Tus:
    """A client."""

    def __init__(self, s: Site) -> None:
        self.site = s

    async def __call__(
        self, method: str, path: str, body: bytes | None = None, **fields: str
    ) -> Got:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers.setdefault("Tus-Resumable", "1.0.0")
        user = headers.pop("user", "alice")
        path = urlsplit(path).path if path.startswith("http") else path
        return await self.site.ask(method, path, body=body, headers=headers, user=user)

    async def create(self, size: int | None, path: str = "NORTH/d/f.bin", **fields: str) -> str:
        length = {"Upload_Defer_Length": "1"} if size is None else {"Upload_Length": str(size)}
        got = await self("POST", f"/ecpds/tus/files/{path}", None, **(length | fields))
        assert got.status == 201, got.text
        return got.headers["Location"]

    async def patch(self, place: str, offset: int, body: bytes, **fields: str) -> Got:
        given = {"Content_Type": TYPE, "Upload_Offset": str(offset)} | fields
        return await self("PATCH", place, body, **given)

    async def offset(self, place: str) -> int:
        got = await self("HEAD", place)
        assert got.status == 200
        return int(got.headers["Upload-Offset"])


@asynccontextmanager
async def tus(folder: Path, **options: Any) -> AsyncIterator[Tus]:
    async with site(folder, **options) as s:
        yield Tus(s)


async def test_what_the_server_can(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        got = await ask("OPTIONS", "/ecpds/tus/files/", user="")
        assert (got.status, got.headers["Tus-Version"]) == (204, "1.0.0")
        for one in ("creation", "termination", "checksum", "expiration", "creation-defer-length"):
            assert one in got.headers["Tus-Extension"].split(",")
        got = await ask("POST", "/ecpds/tus/files/NORTH/f", Tus_Resumable="0.2.2")
        assert (got.status, got.headers["Tus-Version"]) == (412, "1.0.0")
        assert (await ask("POST", "/ecpds/tus/files/NORTH/f", user="")).status == 401


async def test_an_upload_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    async with tus(tmp_path) as ask:
        place = await ask.create(len(content), Upload_Metadata=f"filename {encoded('x')}")
        assert await ask.offset(place) == 0
        got = await ask.patch(place, 0, content[:100_000])
        assert (got.status, got.headers["Upload-Offset"]) == (204, "100000")
        assert "Upload-Expires" in got.headers
        assert await ask.site.transfers() == []
        assert (await ask.patch(place, 0, b"again")).status == 409
        got = await ask("HEAD", place)
        assert got.headers["Upload-Length"] == "300000"
        assert got.headers["Upload-Metadata"] == f"filename {encoded('x')}"
        assert got.headers["Cache-Control"] == "no-store"
        got = await ask.patch(place, 100_000, content[100_000:])
        assert (got.status, got.headers["Upload-Offset"]) == (204, "300000")
        assert (await ask.site.ask("GET", "/ecpds/data/file/NORTH/d/f.bin")).body == content
        assert await ask.offset(place) == 300_000  # known a day more
        assert (await ask.patch(place, 300_000, b"")).status == 409
        assert len(await ask.site.transfers()) == 1


async def test_names_come_from_the_address_or_the_metadata(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        metadata = f"filetype {encoded('a/b')},filename {encoded('é x.nc')}"
        place = await ask.create(1, "NORTH/", Upload_Metadata=metadata)
        assert (await ask.patch(place, 0, b"1")).status == 204
        assert [one.target for one in await ask.site.transfers()] == ["é x.nc"]
        for bad in (f"filename {encoded('../../x')}", f"filename {encoded('..')}", "filename %%"):
            given = {"Upload_Length": "1", "Upload_Metadata": bad}
            got = await ask("POST", "/ecpds/tus/files/NORTH/", None, **given)
            assert got.status in {201, 400, 404}, bad
        names = {one.target for one in await ask.site.transfers()}
        assert names == {"é x.nc"}
        assert (await ask("POST", "/ecpds/tus/files/NORTH/", Upload_Length="1")).status == 400


async def test_creation_with_upload_and_late_length(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        got = await ask(
            "POST", "/ecpds/tus/files/NORTH/a", b"12345", Upload_Length="5", Content_Type=TYPE
        )
        assert (got.status, got.headers["Upload-Offset"]) == (201, "5")
        got = await ask("POST", "/ecpds/tus/files/NORTH/empty", Upload_Length="0")
        assert got.status == 201
        place = await ask.create(None, "NORTH/b")
        assert (await ask("HEAD", place)).headers["Upload-Defer-Length"] == "1"
        assert (await ask.patch(place, 0, b"123")).status == 204
        assert (await ask.patch(place, 3, b"45", Upload_Length="5")).status == 204
        targets = sorted(one.target for one in await ask.site.transfers())
        assert targets == ["a", "b", "empty"]


async def test_a_broken_request_keeps_what_came(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    async with tus(tmp_path) as ask:
        place = await ask.create(len(content))
        parts = urlsplit(ask.site.url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = (
            f"PATCH {urlsplit(place).path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: {basic('alice')}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Type: {TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content[:120_000])
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while await ask.offset(place) != 120_000:
                await asyncio.sleep(0.01)
        assert (await ask.patch(place, 120_000, content[120_000:])).status == 204
        assert (await ask.site.ask("GET", "/ecpds/data/file/NORTH/d/f.bin")).body == content


async def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        place = urlsplit(await ask.create(10)).path
        assert (await ask.patch(place, 0, b"01234")).status == 204
    async with tus(tmp_path) as ask:
        assert await ask.offset(place) == 5
        assert (await ask.patch(place, 5, b"56789")).status == 204
        assert (await ask.site.ask("GET", "/ecpds/data/file/NORTH/d/f.bin")).body == b"0123456789"


async def test_checksums(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        place = await ask.create(10)
        good = base64.b64encode(hashlib.sha1(b"01234", usedforsecurity=False).digest()).decode()
        assert (await ask.patch(place, 0, b"01234", Upload_Checksum=f"sha1 {good}")).status == 204
        got = await ask.patch(place, 5, b"xxxxx", Upload_Checksum=f"sha1 {good}")
        assert got.status == 460
        assert await ask.offset(place) == 5
        assert (await ask.patch(place, 5, b"56789", Upload_Checksum="crc8 eA==")).status == 400
        assert (await ask.patch(place, 5, b"56789")).status == 204
        assert (await ask.site.ask("GET", "/ecpds/data/file/NORTH/d/f.bin")).body == b"0123456789"


async def test_termination_and_strangers(tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        await ask.site.node.user("bob", destinations=("NORTH",))
        place = await ask.create(10)
        await ask.patch(place, 0, b"01234")
        for method in ("HEAD", "PATCH", "DELETE"):
            got = await ask(method, place, b"", user="bob", Upload_Offset="5", Content_Type=TYPE)
            assert got.status == 404
        assert (await ask("DELETE", place)).status == 204
        assert (await ask("HEAD", place)).status == 404
        assert await ask.site.transfers() == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Upload_Offset": "x"}, 400),
        ({"Upload_Offset": ""}, 400),
        ({"Upload_Offset": "1"}, 409),
        ({"Upload_Length": "7"}, 400),
    ],
)
async def test_mistakes_of_patch(fields: dict[str, str], status: int, tmp_path: Path) -> None:
    async with tus(tmp_path) as ask:
        place = await ask.create(10)
        assert (await ask.patch(place, 0, b"12345", **fields)).status == status
        assert (await ask.patch(place, 0, b"x" * 11)).status == 413
        assert await ask.offset(place) == 0


async def test_rights_and_limits_hold_at_creation(tmp_path: Path) -> None:
    options = {"portal.putPathPermRegex": "(?!.*no).*"}
    async with tus(tmp_path, user={"options": options}, max_file_size=100) as ask:
        for path, size, status in (
            ("NORTH/no", "1", 403), ("NORTH/f", "101", 413), ("EAST/f", "1", 404),
            ("NORTH/f", "-1", 400), ("f", "1", 404), ("NORTH/f", "", 400),
        ):  # fmt: skip
            got = await ask("POST", f"/ecpds/tus/files/{path}", Upload_Length=size)
            assert got.status == status, (path, size, got.text)
        place = await ask.create(None, "NORTH/f")
        assert (await ask.patch(place, 0, b"x" * 101)).status == 413


SCRIPT = """
const tus = require(process.argv[2]);
const fs = require("fs");
const [, , , url, file, header] = process.argv;
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint: url, chunkSize: 256 * 1024, retryDelays: [0, 50],
  uploadSize: fs.statSync(file).size,
  metadata: { filename: "from node.bin" }, headers: { Authorization: header },
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => process.exit(0),
});
upload.start();
"""


async def test_tus_js_client(tmp_path: Path) -> None:
    """The client that browsers and Node use, in pieces of 256 KiB."""
    library = find_file(peers_folder() / "node_modules" / "tus-js-client").absolute()
    (tmp_path / "send.js").write_text(SCRIPT)
    content = os.urandom(1_000_000)
    (tmp_path / "content").write_bytes(content)
    async with tus(tmp_path) as ask:
        url = f"{ask.site.url}/ecpds/tus/files/NORTH/"
        words = ("send.js", library, url, "content", basic("alice"))
        (await clients.run("node", *words, cwd=tmp_path)).ok()
        got = await ask.site.ask("GET", "/ecpds/data/file/NORTH/from%20node.bin")
        assert got.body == content
