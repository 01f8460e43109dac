"""`/api/v2/files`: uploads that are whole or not there, content in ranges, digests, deletion."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ecpds.model.account import Role
from ecpds.model.host import HostRole
from tests.protocol.api import Rig, rig
from tests.waiting import until

CONTENT = b"GRIB" + bytes(range(256)) * 40


def objects(hub: Rig) -> list[Path]:
    """Return all files of the volume, temporary ones too."""
    found: list[Path] = []
    for volume in hub.node.core.objects.volumes:
        for folder, _, names in os.walk(volume.path):
            found += [Path(folder) / name for name in names]
    return found


async def test_upload_is_stored_and_queued(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("COPY")
        await hub.node.destination("NORTH", aliases={"COPY": ""})
        answer = await hub.admin.upload(
            CONTENT,
            name="local.grib",
            destination="NORTH",
            target="run/a.grib",
            original="/data/local.grib",
            metadata='{"type": "fc", "step": "12"}',
            priority="7",
            lifetime="3d",
            delay="PT1H",
            version="2",
            group="batch-1",
            identity="run-a",
            event="yes",
        )
        assert answer.status == 201, answer.text
        file, transfers = answer.json["data_file"], answer.json["transfers"]
        assert answer.headers["Location"] == f"/api/v2/files/{file['id']}"
        assert (file["name"], file["size"]) == ("/data/local.grib", len(CONTENT))
        assert file["checksum"] == f"{zlib.adler32(CONTENT):08x}"
        assert file["metadata"] == {"type": "fc", "step": "12"}
        assert (file["md5"], file["sha256"]) == (None, None)
        assert (file["stored"], file["group"], file["submitter"]) == (True, "batch-1", "admin")
        assert [one["destination"] for one in transfers] == ["NORTH", "COPY"]
        first = transfers[0]
        assert (first["target"], first["priority"], first["event"]) == ("run/a.grib", 7, True)
        assert first["identity"] == "run-a"
        assert first["status"] == "queued"
        assert first["scheduled"] > first["created"]
        assert len(objects(hub)) == 1


async def test_names_come_from_the_file_unless_given(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")

        async def target(name: str, **fields: str) -> str:
            answer = await hub.admin.upload(b"x", name=name, destination="NORTH", **fields)
            assert answer.status == 201, answer.text
            return str(answer.json["transfers"][0]["target"])

        assert await target("a b'\u00e9.grib") == "a b'\u00e9.grib"
        assert await target("c.grib", target="dir/") == "dir/c.grib"
        assert await target("C:\\temp\\d.grib") == "d.grib"
        assert await target("../../e.grib") == "e.grib"


async def test_duplicates(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")

        async def push(content: bytes, **fields: str) -> Any:
            return await hub.admin.upload(content, destination="NORTH", target="a", **fields)

        assert (await push(b"one")).status == 201
        refused = await push(b"two")
        assert (refused.status, refused.json["code"]) == (409, "duplicate")
        assert (refused.json["data_file"], refused.json["transfers"]) == (1, [1])
        skipped = await push(b"three", on_duplicate="skip")
        assert (skipped.status, skipped.json["skipped"]) == (200, True)
        assert (await hub.admin.get("/files/1/content")).body == b"one"
        updated = await push(b"four", on_duplicate="overwrite")
        assert (updated.status, updated.json["updated"]) == (201, True)
        assert updated.json["data_file"]["instance"] == 1
        assert (await hub.admin.get("/files/1/content")).body == b"four"
        assert (await push(b"five", version="2")).status == 201
        await hub.node.engine.retention.purge_bytes()
        assert len(objects(hub)) == 2  # refused and skipped content is gone


@pytest.mark.parametrize(
    ("fields", "status", "pointer"),
    [
        ({}, 422, "/destination"),
        ({"destination": "NORHT"}, 404, None),
        ({"destination": "NORTH", "targt": "a"}, 422, "/targt"),
        ({"destination": "NORTH", "priority": "100"}, 422, "/priority"),
        ({"destination": "NORTH", "lifetime": "5"}, 422, "/lifetime"),
        ({"destination": "NORTH", "at": "2031-01-01"}, 422, "/at"),
        ({"destination": "NORTH", "metadata": "{"}, 422, "/metadata"),
        ({"destination": "NORTH", "metadata": "a"}, 422, "/metadata"),
        ({"destination": "NORTH", "on_duplicate": "perhaps"}, 422, "/on_duplicate"),
        ({"destination": "NORTH", "target": "a//b"}, 422, "/target"),
        ({"destination": "NORTH", "target": "../x"}, 422, None),
        ({"destination": "NORTH", "target": "a/\x07b"}, 422, None),
        ({"destination": "SMALL"}, 413, None),
    ],
)
async def test_refused_uploads_leave_nothing(
    tmp_path: Path, fields: dict[str, str], status: int, pointer: str | None
) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.destination("SMALL", max_file_size=100)
        answer = await hub.admin.upload(CONTENT, **fields)
        assert answer.status == status, answer.text
        if pointer is not None:
            assert answer.json["errors"][0]["pointer"] == pointer
        assert (await hub.admin.get("/files")).items == []
        assert objects(hub) == []


async def test_fields_may_come_after_the_file(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        form = aiohttp.FormData()
        form.add_field("file", CONTENT, filename="a.grib")
        form.add_field("destination", "NORTH")
        assert (await hub.admin.post("/files", data=form)).status == 201


async def test_a_form_without_a_file_or_with_two(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        none = aiohttp.FormData({"destination": "NORTH"}, default_to_multipart=True)
        answer = await hub.admin.post("/files", data=none)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/file")
        two = aiohttp.FormData({"destination": "NORTH"})
        for name in ("a", "b"):
            two.add_field("file", b"x", filename=name)
        assert (await hub.admin.post("/files", data=two)).status == 400
        assert objects(hub) == []


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        answer = await hub.admin.upload(b"", destination="NORTH")
        assert (answer.status, answer.json["data_file"]["size"]) == (201, 0)
        assert (await hub.admin.get("/files/1/content")).body == b""
        ranged = await hub.admin.get("/files/1/content", headers={"Range": "bytes=0-"})
        assert ranged.status == 416


async def test_a_big_file_streams_through(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        content = os.urandom(24 * 1024 * 1024)
        answer = await hub.admin.upload(content, destination="NORTH")
        assert answer.json["data_file"]["checksum"] == f"{zlib.adler32(content):08x}"
        assert (await hub.admin.get("/files/1/content")).body == content


async def raw(hub: Rig, head: str, body: bytes, *, then: bytes | None = None) -> bytes:
    """Send bytes on a socket; close it, or send the rest and return the answer."""
    host, _, port = hub.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        if then is None:
            return b""
        writer.write(then)
        await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read(65536)
    finally:
        writer.close()


def head(hub: Rig, length: int) -> str:
    return (
        f"POST /api/v2/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin.token}\r\n"
        f"Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: {length}\r\n\r\n"
    )


FORM = (
    b'--xx\r\nContent-Disposition: form-data; name="destination"\r\n\r\nNORTH\r\n'
    b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
)


async def test_a_dropped_connection_registers_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        end = b"\r\n--xx--\r\n"
        whole = FORM + CONTENT + end
        for cut in (len(FORM) + 1, len(whole) - 5000, len(whole) - len(end), len(whole) - 3):
            await raw(hub, head(hub, len(whole)), whole[:cut])
        await until(lambda: not objects(hub), what="temporary files are gone")
        assert (await hub.admin.get("/files")).items == []


async def test_a_form_that_ends_early_registers_nothing(tmp_path: Path) -> None:
    """The body has the length it says, but the closing delimiter is missing."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        short = FORM + CONTENT
        answer = await raw(hub, head(hub, len(short)), short, then=b"")
        assert b" 422 " in answer.splitlines()[0]
        assert b"incomplete" in answer
        assert (await hub.admin.get("/files")).items == []
        assert objects(hub) == []


async def test_content_is_asked_for_only_when_it_is_wanted(tmp_path: Path) -> None:
    """With Expect: 100-continue a refused upload is not sent at all."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        body = FORM + CONTENT + b"\r\n--xx--\r\n"
        asking = head(hub, len(body)).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
        refused = await raw(hub, asking.replace(hub.admin.token, "ddt_wrong"), b"", then=b"")
        assert refused.startswith(b"HTTP/1.1 401 ")
        host, _, port = hub.base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(asking.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()


async def test_a_full_volume_refuses_uploads(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        volume = hub.node.core.objects.volumes[0]
        volume.reserve = 2**62
        answer = await hub.admin.upload(b"x", destination="NORTH")
        assert (answer.status, answer.json["code"]) == (507, "storage-full")
        assert answer.headers["Retry-After"]
        volume.reserve = 0
        assert (await hub.admin.upload(b"x", destination="NORTH")).status == 201


async def test_max_pending(tmp_path: Path) -> None:
    """interface.md 8: n are accepted, the next is refused."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH", max_pending=2)
        statuses = [
            (await hub.admin.upload(b"x", destination="NORTH", target=f"t{n}")).status
            for n in range(3)
        ]
        assert statuses == [201, 201, 409]
        assert len(objects(hub)) == 2


# --- content


async def stored(hub: Rig, content: bytes = CONTENT) -> None:
    await hub.node.destination("NORTH")
    assert (await hub.admin.upload(content, name="f.grib", destination="NORTH")).status == 201


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=5-99999999", 5, None),
    ],
)
async def test_one_range(tmp_path: Path, asked: str, start: int, end: int | None) -> None:
    async with rig(tmp_path) as hub:
        await stored(hub)
        answer = await hub.admin.get("/files/1/content", headers={"Range": asked})
        assert answer.status == 206
        assert answer.body == CONTENT[start:end]
        first = start % len(CONTENT)
        last = first + len(answer.body) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "items=0-1", "bytes=5-2", "bytes=-", "0-5"])
async def test_other_ranges_give_everything(tmp_path: Path, asked: str) -> None:
    async with rig(tmp_path) as hub:
        await stored(hub)
        answer = await hub.admin.get("/files/1/content", headers={"Range": asked})
        assert (answer.status, answer.body) == (200, CONTENT)


async def test_conditions_on_content(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await stored(hub)
        path = "/transfers/1/content"
        whole = await hub.admin.get(path)
        tag = whole.headers["ETag"]
        assert tag == f'"{(await hub.admin.get("/files/1")).json["etag"]}"'
        assert whole.headers["Content-Disposition"].startswith('attachment; filename="f.grib"')
        assert whole.headers["Content-Type"] == "application/octet-stream"
        assert (await hub.admin.get(path, headers={"If-None-Match": tag})).status == 304
        ranged = {"Range": "bytes=0-3"}
        assert (await hub.admin.get(path, headers=ranged | {"If-Range": tag})).status == 206
        assert (await hub.admin.get(path, headers=ranged | {"If-Range": '"old"'})).status == 200
        beyond = await hub.admin.get(path, headers={"Range": "bytes=999999999-"})
        assert beyond.status == 416
        assert beyond.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        looked = await hub.admin.call("HEAD", path)
        assert (looked.status, looked.body) == (200, b"")
        assert looked.headers["Content-Length"] == str(len(CONTENT))


async def test_digests_are_computed_once_and_remembered(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await stored(hub)
        before = (await hub.admin.get("/files/1")).json
        assert (before["md5"], before["sha256"]) == (None, None)
        answers = [hub.admin.get("/files/1?digests=md5,sha256") for _ in range(4)]
        found = [(await one).json for one in answers]
        for one in found:
            assert one["md5"] == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
            assert one["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        hub.node.core.objects.path("default", _key(hub)).write_bytes(b"nobody reads me again")
        after = (await hub.admin.get("/files/1")).json
        assert after["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        wrong = await hub.admin.get("/files/1?digests=sha257")
        assert wrong.status == 404
        assert "did you mean" in wrong.json["detail"]


def _key(hub: Rig) -> str:
    volume = hub.node.core.objects.volumes[0]
    return objects(hub)[0].relative_to(volume.path).as_posix()


async def test_a_file_is_deleted_with_its_transfers(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("COPY")
        await hub.node.destination("NORTH", aliases={"COPY": ""})
        assert (await hub.admin.upload(b"x", destination="NORTH")).status == 201
        assert (await hub.admin.delete("/files/1")).status == 428
        assert (await hub.admin.delete("/files/1", match="*")).status == 204
        assert (await hub.admin.get("/transfers")).items == []
        assert (await hub.admin.get("/files")).items == []
        assert (await hub.admin.get("/files/1/content")).status == 404
        assert (await hub.admin.delete("/files/1", match="*")).status == 409
        await hub.node.engine.retention.purge_bytes()
        assert objects(hub) == []


async def test_expired_content_is_gone_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        answer = await hub.admin.upload(b"x", destination="NORTH", lifetime="1s")
        assert answer.status == 201

        async def status() -> int:
            return (await hub.admin.get("/files/1/content")).status

        assert await status() == 200
        for _ in range(200):
            if await status() == 404:
                break
            await asyncio.sleep(0.02)
        assert await status() == 404
        assert (await hub.admin.get("/transfers/1/content")).status == 404


async def test_files_belong_to_the_scopes_of_their_destinations(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("SOUTH")
        await hub.node.destination("NORTH", aliases={"SOUTH": ""})
        await hub.admin.upload(b"both", destination="NORTH", target="both")
        await hub.admin.upload(b"south", destination="SOUTH", target="south")
        editor = await hub.as_user("ed", Role.EDITOR, "NORTH")
        assert [one["id"] for one in (await editor.get("/files")).items] == [1]
        assert (await editor.get("/files/1/content")).body == b"both"
        assert [one["destination"] for one in (await editor.get("/files/1")).json["transfers"]] == [
            "NORTH"
        ]
        for path in ("/files/2", "/files/2/content"):
            assert (await editor.get(path)).status == 404
        assert (await editor.delete("/files/1", match="*")).status == 403
        assert (await editor.upload(b"x", destination="SOUTH")).status == 404
        assert (await editor.upload(b"x", destination="NORTH")).status == 201
        viewer = await hub.as_user("vi", Role.VIEWER, "NORTH")
        assert (await viewer.upload(b"x", destination="NORTH", target="v")).status == 403
        writer = hub.client(await hub.token(scopes=("files:write",), objects=("NORTH",)))
        assert (await writer.upload(b"x", destination="NORTH", target="w")).status == 201
        assert (await writer.upload(b"x", destination="SOUTH", target="w")).status == 404
        assert (await writer.get("/files")).status == 403


# --- to be fetched


async def test_a_source_is_registered_to_be_fetched(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("src", tmp_path, role=HostRole.SOURCE)
        await hub.node.destination("NORTH", source_host="src")
        await hub.node.destination("SOUTH")
        body = {"source": "/data/a.grib", "destination": "NORTH", "metadata": {"k": "v"}}
        one = await hub.admin.post("/files", body)
        assert one.status == 201, one.text
        assert one.json["transfers"][0]["status"] == "preset"
        assert (one.json["data_file"]["stored"], one.json["data_file"]["size"]) == (False, None)
        assert (await hub.admin.get("/files/1/content")).json["code"] == "not-stored"
        many = {"source": "/b", "destinations": ["NORTH", "SOUTH"], "host": "src"}
        assert len((await hub.admin.post("/files", many)).items) == 2
        nowhere = await hub.admin.post("/files", {"source": "/c", "destination": "SOUTH"})
        assert (nowhere.status, nowhere.json["errors"][0]["pointer"]) == (422, "/host")
        for lacking in ({"source": "/c"}, {"destination": "NORTH"}):
            assert (await hub.admin.post("/files", lacking)).status == 422


async def test_a_body_of_another_type(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.admin.post(
            "/files", data=json.dumps({"a": 1}), headers={"Content-Type": "text/csv"}
        )
        assert (answer.status, answer.json["code"]) == (415, "media-type")


async def test_files_and_transfers_are_searched_ordered_and_counted(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.destination("SOUTH")
        for number, (name, size) in enumerate((("b.grib", 30), ("a.grib", 10), ("c.txt", 20))):
            place = "SOUTH" if number == 2 else "NORTH"
            await hub.admin.upload(bytes(size), name, destination=place, priority=str(50 - number))
        for query, wanted in (
            ("q=*.grib&sort=name", ["a.grib", "b.grib"]),
            ("sort=-size", ["b.grib", "c.txt", "a.grib"]),
            ("q=size>=20", ["c.txt", "b.grib"]),
            ("q=name!=a*", ["c.txt", "b.grib"]),
        ):
            answer = await hub.admin.get(f"/files?{query}&count=true")
            assert [one["name"] for one in answer.items] == wanted, query
            assert answer.json["total"] == len(wanted)
        walked, cursor = [], ""
        while True:
            page = (await hub.admin.get(f"/files?sort=size&limit=1{cursor}")).json
            walked += [one["size"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert walked == [10, 20, 30]
        first = (await hub.admin.get("/transfers?sort=priority,-id&limit=2")).json
        assert [one["priority"] for one in first["items"]] == [48, 49]
        rest = await hub.admin.get(
            f"/transfers?sort=priority,-id&limit=2&cursor={first['next_cursor']}"
        )
        assert [one["target"] for one in rest.items] == ["b.grib"]
        assert (await hub.admin.get("/transfers?sort=colour")).status == 400
        for path in ("/files?q=colour=1", "/files?sort=-", "/transfers?sort=id&cursor=MQ"):
            assert (await hub.admin.get(path)).status == 400, path
        south = await hub.as_user("sue", Role.VIEWER, "SOUTH")
        assert (await south.get("/files?count=true&sort=name")).json["total"] == 1
        assert [one["target"] for one in (await south.get("/transfers?sort=id")).items] == ["c.txt"]
