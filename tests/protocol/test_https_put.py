"""PUT, POST and DELETE: what is stored, what is refused and when, and what never is."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from ecpds.base.settings import HttpsSettings
from ecpds.model.account import Permission
from ecpds.model.errors import StorageFull
from tests.protocol.diskgate import Account, DiskGate, DiskWriter
from tests.protocol.https_site import MOMENT, Site, head, site

FILE = "/ecpds/data/file/NORTH/d/a.bin"
AUTH = b"Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
CONTENT = bytes(range(256)) * 1200  # more than one buffer


def nothing(s: Site) -> bool:
    """Whether nothing was registered and nothing left behind."""
    return not s.gate.uploads and not list(s.gate.spool.iterdir())


@pytest.mark.parametrize(
    "address", [FILE, "/ecpds/file/NORTH/d/a.bin", "/ecpds/home/alice/NORTH/d/a.bin"]
)
@pytest.mark.parametrize("tls", [False, True])
async def test_put(tmp_path: Path, address: str, *, tls: bool) -> None:
    """201 the first time, 204 after that."""
    async with site(tmp_path, tls=tls) as s:
        got = await s.ask("PUT", address, body=CONTENT)
        node = s.gate.node("/NORTH/d/a.bin")
        assert (got.status, s.content(node.path)) == (201, CONTENT)
        assert got.text == f"Upload complete (id: {node.transfer_id}, ETag: {node.etag})\n"
        assert got.headers["ETag"] == node.etag
        assert got.headers["Location"] == address
        got = await s.ask("PUT", address, body=b"new")
        assert (got.status, got.body, s.content(node.path)) == (204, b"", b"new")
        assert got.headers["ETag"] == s.gate.node(node.path).etag != node.etag


async def test_post(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        octets = {"Content-Type": "application/octet-stream"}
        for content in (CONTENT, b""):
            got = await s.ask("POST", FILE, body=content, headers=octets)
            node = s.gate.node("/NORTH/d/a.bin")
            assert got.status == 200
            assert got.text == f"Upload complete (id: {node.transfer_id}, ETag: {node.etag})\n"
            assert s.content(node.path) == content


async def test_a_body_in_chunks(tmp_path: Path) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 1000):
            yield CONTENT[start : start + 1000]

    async with site(tmp_path, tls=True) as s:
        got = await s.ask("PUT", FILE, body=blocks())
        assert (got.status, s.content("/NORTH/d/a.bin")) == (201, CONTENT)


@pytest.mark.parametrize(
    "end",
    [
        b"Content-Length: 20\r\n\r\n0123456789",
        b"Content-Length: 20\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("half", [False, True])
async def test_a_body_that_ends_early_is_not_registered(
    tmp_path: Path, end: bytes, *, half: bool
) -> None:
    """Neither by a closed connection nor by one that is only shut for writing."""
    async with site(tmp_path) as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        writer.write(b"PUT " + FILE.encode() + b" HTTP/1.1\r\nHost: x\r\n" + AUTH + end)
        await writer.drain()
        async with asyncio.timeout(10):
            while not s.gate.writing:
                await asyncio.sleep(0.005)
        if half:
            writer.write_eof()
            status, _, _ = head(await reader.read())
            assert status == 400
        writer.close()
        await s.idle()
        assert nothing(s)


async def test_a_stalled_body_is_not_registered(tmp_path: Path) -> None:
    quick = HttpsSettings(data_timeout=timedelta(milliseconds=300))
    async with site(tmp_path, settings=quick) as s:
        raw = await s.raw(
            b"PUT "
            + FILE.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n"
            + AUTH
            + b"\r\n0123"
        )
        status, fields, _ = head(raw)
        assert (status, fields["connection"]) == (408, "close")
        assert nothing(s)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-None-Match": "*"}, 412),
        ({"If-None-Match": "TAG"}, 412),
        ({"If-None-Match": '"x"'}, 204),
        ({"If-Match": "TAG"}, 204),
        ({"If-Match": "*"}, 204),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": "W/TAG"}, 412),
        ({"If-Unmodified-Since": "Sun, 04 May 2031 10:00:00 GMT"}, 204),
        ({"If-Unmodified-Since": "Sun, 04 May 2031 09:59:59 GMT"}, 412),
    ],
)
async def test_conditions_on_a_present_file(
    tmp_path: Path, fields: dict[str, str], status: int
) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/d/a.bin", b"old", mtime=MOMENT)
        etag = s.gate.node("/NORTH/d/a.bin").etag
        sent = {name: value.replace("TAG", etag) for name, value in fields.items()}
        got = await s.ask("PUT", FILE, body=b"new", headers=sent)
        assert got.status == status
        assert s.content("/NORTH/d/a.bin") == (b"new" if status == 204 else b"old")


async def test_conditions_on_a_missing_file(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        assert (await s.ask("PUT", FILE, body=b"x", headers={"If-Match": "*"})).status == 412
        assert nothing(s)
        assert (await s.ask("PUT", FILE, body=b"x", headers={"If-None-Match": "*"})).status == 201
        again = await s.ask("PUT", FILE, body=b"y", headers={"If-None-Match": "*"})
        assert (again.status, s.content("/NORTH/d/a.bin")) == (412, b"x")


async def test_of_two_exclusive_uploads_one_wins(tmp_path: Path) -> None:
    """Also when both began before either ended."""
    async with site(tmp_path) as s:
        waiting = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"first"
            await waiting.wait()

        async def first() -> int:
            return (await s.ask("PUT", FILE, body=slow(), headers={"If-None-Match": "*"})).status

        async with asyncio.TaskGroup() as group:
            task = group.create_task(first())
            async with asyncio.timeout(10):
                while not s.gate.writing:
                    await asyncio.sleep(0.005)
            s.put("/NORTH/d/a.bin", b"other")
            waiting.set()
        assert task.result() == 412
        assert s.content("/NORTH/d/a.bin") == b"other"


def b64(algorithm: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("Content-MD5", b64("md5", CONTENT), 201),
        ("Content-MD5", b64("md5", b"other"), 400),
        ("Content-MD5", "nonsense", 400),
        ("Content-MD5", b64("sha256", CONTENT), 400),
        ("Repr-Digest", f"sha-256=:{b64('sha256', CONTENT)}:", 201),
        (
            "Repr-Digest",
            f"sha-512=:{b64('sha512', CONTENT)}:, sha-256=:{b64('sha256', CONTENT)}:",
            201,
        ),
        ("Repr-Digest", f"sha-512=:{b64('sha512', CONTENT)}:, sha-256=:{b64('sha256', b'')}:", 400),
        ("Content-Digest", f"sha-256=:{b64('sha256', b'other')}:", 400),
        ("Repr-Digest", "unixsum=:AAAA:", 201),  # unknown: passed over
        ("Repr-Digest", "sha-256=AAAA", 400),
        ("Repr-Digest", "sha-256=:AAAA:", 400),
    ],
)
async def test_digests(tmp_path: Path, field: str, value: str, status: int) -> None:
    async with site(tmp_path) as s:
        got = await s.ask("PUT", FILE, body=CONTENT, headers={field: value})
        assert got.status == status
        await s.idle()
        assert nothing(s) == (status != 201)


Refusal = tuple[int, str, bytes, int, Callable[[DiskGate], None]]


def refusal(
    status: int,
    *,
    path: str = "data/file/NORTH/new",
    fields: bytes = b"",
    length: int = 5,
    arrange: Callable[[DiskGate], None] = lambda gate: None,
) -> Refusal:
    return status, f"/ecpds/{path}", fields, length, arrange


def set_full(gate: DiskGate) -> None:
    gate.full = True


def set_quota(gate: DiskGate) -> None:
    gate.quota = 4


REFUSALS = {
    "login": refusal(401, fields=b"Authorization: Basic YWxpY2U6d3Jvbmc=\r\n"),
    "denied": refusal(403, path="data/file/SOUTH/a"),
    "large": refusal(413, length=101),
    "quota": refusal(429, arrange=set_quota),
    "full": refusal(507, arrange=set_full),
    "exists": refusal(412, path="data/file/NORTH/there", fields=b"If-None-Match: *\r\n"),
    "match": refusal(412, path="data/file/NORTH/there", fields=b'If-Match: "x"\r\n'),
    "missing": refusal(404, path="data/file/NOWHERE/a"),
    "directory": refusal(409, path="data/file/NORTH"),
    "name": refusal(400, path="data/file/NORTH/a%01b"),
    "coding": refusal(415, fields=b"Content-Encoding: gzip\r\n"),
    "range": refusal(400, fields=b"Content-Range: bytes 0-4/5\r\n"),
    "digest": refusal(400, fields=b"Content-MD5: x\r\n"),
    "expect": refusal(417, fields=b"Expect: more\r\n"),
    "elsewhere": refusal(403, fields=b"Sec-Fetch-Site: cross-site\r\n"),
    "list": refusal(405, path="data/list/NORTH/a"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_is_refused_before_the_body(tmp_path: Path, case: Refusal) -> None:
    """The client is never told to go on, and nothing is opened."""
    wanted, path, fields, length, arrange = case
    accounts = {"alice": Account(denied=frozenset({(Permission.PUT, "/SOUTH")}))}
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/there", b"x")
        s.gate.max_file_size = 100
        arrange(s.gate)
        raw = await s.raw(
            b"PUT %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" % path.encode(),
            b"" if fields.startswith(b"Authorization") else AUTH,
            fields,
            b"Content-Length: %d\r\n\r\n" % length,
        )
        status, answer, _ = head(raw)
        assert (status, answer["connection"]) == (wanted, "close")
        assert b"100 Continue" not in raw
        await s.idle()
        assert nothing(s)


async def test_a_client_that_waits_is_told_to_go_on(tmp_path: Path) -> None:
    """And its connection goes on after the answer."""
    async with site(tmp_path) as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.port)
        request = (
            b"PUT %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n%b\r\n"
        )
        async with asyncio.timeout(10):
            writer.write(request % (FILE.encode(), AUTH))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"01234")
            status, fields, _ = head(await reader.readuntil(b"\r\n\r\n"))
            assert status == 201
            await reader.readexactly(int(fields["content-length"]))
            writer.write(b"DELETE %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (FILE.encode(), AUTH))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        writer.close()


@pytest.mark.parametrize("limit", ["size", "quota", "full"])
async def test_a_limit_that_is_passed_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """A chunked body has no length: the limit strikes at the byte, and the answer still arrives."""
    async with site(tmp_path) as s:
        if limit == "size":
            s.gate.max_file_size = 100_000
        elif limit == "quota":
            s.gate.quota = 100_000
        else:
            real = DiskWriter.write

            def write(self: DiskWriter, data: bytes, offset: int | None = None) -> int:
                if self.received + len(data) > 100_000:
                    raise StorageFull("no volume has room")
                return real(self, data, offset)

            monkeypatch.setattr(DiskWriter, "write", write)

        async def blocks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 50_000

        got = await s.ask("PUT", FILE, body=blocks())
        assert got.status == {"size": 413, "quota": 429, "full": 507}[limit]
        assert ("Retry-After" in got.headers) == (limit == "quota")
        await s.idle()
        assert nothing(s)


async def test_an_upload_says_its_length(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        raw = await s.raw(
            b"PUT "
            + FILE.encode()
            + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            + AUTH
            + b"\r\n"
        )
        assert head(raw)[0] == 411
        raw = await s.raw(
            b"PUT %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n%b\r\n"
            % (FILE.encode(), AUTH)
        )
        assert (head(raw)[0], s.content("/NORTH/d/a.bin")) == (201, b"")


async def test_names_of_directories_are_no_names_of_files(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/d/x", b"")
        for path, status in (("NORTH/d/", 400), ("NORTH/d", 409), ("NORTH/d/x/y", 409), ("", 400)):
            got = await s.ask("PUT", f"/ecpds/data/file/{path}", body=b"x")
            assert got.status == status, path


async def test_a_missing_directory_needs_a_right(tmp_path: Path) -> None:
    accounts = {"alice": Account(operations=frozenset({Permission.PUT, Permission.DIR}))}
    async with site(tmp_path, accounts=accounts) as s:
        assert (await s.ask("PUT", FILE, body=b"x")).status == 403
        assert (await s.ask("PUT", "/ecpds/data/file/NORTH/a", body=b"x")).status == 201


def form(*files: tuple[str, bytes], field: str = "file") -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    data.add_field("note", "hello")
    for name, content in files:
        data.add_field(field, content, filename=name, content_type="application/octet-stream")
    return data


async def test_an_upload_form(tmp_path: Path) -> None:
    """Several files at once; programs get a text, browsers go back to the directory."""
    async with site(tmp_path) as s:
        where = "/ecpds/data/file/NORTH/d/"
        got = await s.ask("POST", where, body=form(("a.bin", CONTENT), ("é b.txt", b"")))
        assert got.status == 200
        nodes = [s.gate.node(f"/NORTH/d/{name}") for name in ("a.bin", "é b.txt")]
        assert got.text == "".join(
            f"Upload complete (id: {n.transfer_id}, ETag: {n.etag})\n" for n in nodes
        )
        assert s.content("/NORTH/d/a.bin") == CONTENT
        html = {"Accept": "text/html"}
        got = await s.ask("POST", where, body=form(("c", b"c")), headers=html)
        assert (got.status, got.headers["Location"]) == (
            303,
            "/ecpds/data/list/NORTH/d/?done=uploaded",
        )
        got = await s.ask("POST", "/ecpds/file/NORTH/d/", body=form(("c", b"c")), headers=html)
        assert got.headers["Location"] == "/ecpds/file/NORTH/d/?done=uploaded"


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../x", "/NORTH/d/x"),
        ("/etc/x", "/NORTH/d/x"),
        ("C:\\x", "/NORTH/d/x"),
        ("..", None),
        (".", None),
        ("a\x01b", None),
        ("x" * 256, None),
    ],
)
async def test_names_of_uploaded_files_stay_in_the_directory(
    tmp_path: Path, name: str, stored: str | None
) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/d/keep", b"")
        body = (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="'
            + name.encode()
            + b'"\r\n\r\nevil\r\n--B--\r\n'
        )
        kind = {"Content-Type": "multipart/form-data; boundary=B"}
        got = await s.ask("POST", "/ecpds/data/file/NORTH/d/", body=body, headers=kind)
        assert got.status == (200 if stored else 400 if name not in ("..", ".") else got.status)
        assert s.gate.uploads == ([stored] if stored else [])
        if not stored:
            assert got.status in (400, 403, 409)


async def test_one_broken_file_of_a_form_stores_none(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.gate.max_file_size = 1000
        where = "/ecpds/data/file/NORTH/d/"
        assert (await s.ask("POST", where, body=form(("a", b"a"), ("b", CONTENT)))).status == 413
        assert (await s.ask("POST", where, body=form(("a", b"a"), ("a", b"b")))).status == 409
        assert (await s.ask("POST", where, body=form())).status == 400
        assert (await s.ask("POST", where, body=form(("a", b"a"), field="other"))).status == 400
        await s.idle()
        assert nothing(s)


async def test_a_form_that_ends_early_stores_nothing(tmp_path: Path) -> None:
    """Not even the files that came whole."""
    async with site(tmp_path) as s:
        body = (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nA\r\n--B\r\n'
        )
        request = (
            b"POST /ecpds/data/file/NORTH/d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + AUTH
            + b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: %d\r\n\r\n"
        )  # fmt: skip
        assert head(await s.raw(request % len(body) + body))[0] == 400
        assert head(await s.raw(request % 5000 + body, end=True))[0] == 400
        await s.idle()
        assert nothing(s)


async def test_an_urlencoded_post_stores_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        got = await s.ask("POST", FILE, body={"a": "b"})
        assert got.status == 415
        assert "octet-stream" in got.text


async def test_delete(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/d/a.bin", b"x")
        etag = s.gate.node("/NORTH/d/a.bin").etag
        assert (await s.ask("DELETE", FILE, headers={"If-Match": '"x"'})).status == 412
        assert (await s.ask("DELETE", "/ecpds/data/file/NORTH/d")).status == 409  # not empty
        assert (await s.ask("DELETE", FILE + "/")).status == 409
        assert (await s.ask("DELETE", FILE, headers={"If-Match": etag})).status == 204
        assert not s.has("/NORTH/d/a.bin")
        assert (await s.ask("DELETE", FILE)).status == 404
        assert (await s.ask("DELETE", "/ecpds/data/file/NORTH/d/")).status == 204
        assert not s.has("/NORTH/d")
        assert (await s.ask("DELETE", "/ecpds/data/file/NORTH/")).status == 403


async def test_forms_of_the_details_page(tmp_path: Path) -> None:
    """Rename and delete without JavaScript; forged ones are refused."""
    async with site(tmp_path) as s:
        s.put("/NORTH/d/a.bin", b"x")
        address = "/ecpds/file/NORTH/d/a.bin"
        forged = {"Origin": "https://evil.example"}
        assert (
            await s.ask("POST", f"{address}?action=delete", body={}, headers=forged)
        ).status == 403
        got = await s.ask("POST", f"{address}?action=rename", body={"to": "b c.bin"})
        assert (got.status, got.headers["Location"]) == (303, "/ecpds/file/NORTH/d/?done=renamed")
        assert s.content("/NORTH/d/b c.bin") == b"x"
        s.put("/NORTH/d/taken", b"y")
        address = "/ecpds/file/NORTH/d/b%20c.bin"
        for body, status in (
            ({"to": "taken"}, 409),
            ({"to": ""}, 400),
            ({"to": "../../SOUTH/x"}, 501),
        ):
            assert (await s.ask("POST", f"{address}?action=rename", body=body)).status == status
        assert (await s.ask("POST", f"{address}?action=format", body={})).status == 400
        got = await s.ask("POST", f"{address}?action=delete", body={"sure": "yes"})
        assert (got.status, s.has("/NORTH/d/b c.bin")) == (303, False)
