"""Uploads in parts: durable part by part, over restarts, for their owner only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from ecpds.engine import recovery
from ecpds.store import files, multipart
from ecpds.vfs.s3parts import joined_adler
from tests.protocol.s3_site import Site, site

MIB = 1024 * 1024
FIVE = 5 * MIB


async def begin(s: Site, key: str = "big", **headers: str) -> str:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    got = await s.ask("POST", f"/NORTH/{key}?uploads=", headers=named)
    assert got.status == 200, got.text
    return got.texts("UploadId")[0]


async def put(s: Site, upload: str, number: int, content: bytes, key: str = "big") -> str:
    target = f"/NORTH/{key}?partNumber={number}&uploadId={upload}"
    got = await s.ask("PUT", target, body=content, payload="UNSIGNED-PAYLOAD")
    assert got.status == 200, got.text
    return got.headers["ETag"]


def document(parts: list[tuple[int, str]]) -> bytes:
    lines = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()


async def finish(s: Site, upload: str, parts: list[tuple[int, str]], key: str = "big") -> str:
    """Complete; return the tag, or the code of the error."""
    got = await s.ask("POST", f"/NORTH/{key}?uploadId={upload}", body=document(parts))
    return got.texts("ETag")[0] if got.status == 200 else got.code


def temporaries(s: Site) -> list[Path]:
    return list((s.folder / "objects/tmp").iterdir())


async def test_example_18_two_parts(tmp_path: Path) -> None:
    """portal.md Ex 18: 5 MiB and one byte; the tag ends with -2."""
    first = os.urandom(FIVE)
    async with site(tmp_path) as s:
        upload = await begin(s, Content_Type="a/b", x_amz_meta_m="v")
        tags = [(1, await put(s, upload, 1, first)), (2, await put(s, upload, 2, b"x"))]
        assert (await s.ask("HEAD", "/NORTH/big")).status == 404
        etag = await finish(s, upload, tags)
        md5s = hashlib.md5(first).digest() + hashlib.md5(b"x").digest()
        assert etag == f'"{hashlib.md5(md5s).hexdigest()}-2"'
        head = await s.ask("HEAD", "/NORTH/big")
        assert (head.headers["Content-Length"], head.headers["ETag"]) == ("5242881", etag)
        assert (head.headers["Content-Type"], head.headers["x-amz-meta-m"]) == ("a/b", "v")
        assert (await s.ask("GET", "/NORTH/big")).body == first + b"x"
        part = await s.ask("GET", "/NORTH/big?partNumber=2")
        assert (part.status, part.body, part.headers["x-amz-mp-parts-count"]) == (206, b"x", "2")
        assert temporaries(s) == []  # put together without a copy, and nothing is left
        assert await finish(s, upload, tags) == etag  # the first answer may have been lost
        async with await s.node.login("alice") as session:
            node = await session.stat("/DATA/NORTH/big")
            assert node.checksum == await session.digest("/DATA/NORTH/big", "adler32")
            found = await session.digest("/DATA/NORTH/big", "md5")
            assert found == hashlib.md5(first + b"x").hexdigest()


async def test_parts_come_in_any_order_and_twice(tmp_path: Path) -> None:
    """The last comes first, one is replaced, one is longer, numbers have gaps."""
    blocks = {3: os.urandom(FIVE), 7: os.urandom(FIVE + 5), 9: os.urandom(100)}
    async with site(tmp_path) as s:
        upload = await begin(s)
        tags = {9: await put(s, upload, 9, blocks[9])}
        await put(s, upload, 3, os.urandom(FIVE))
        tags[7] = await put(s, upload, 7, blocks[7])
        tags[3] = await put(s, upload, 3, blocks[3])
        await put(s, upload, 5, b"never named")
        got = await s.ask("GET", f"/NORTH/big?max-parts=2&uploadId={upload}")
        assert got.texts("Part/PartNumber") == ["3", "5"]
        assert got.texts("IsTruncated") == ["true"]
        target = f"/NORTH/big?max-parts=2&part-number-marker=5&uploadId={upload}"
        assert (await s.ask("GET", target)).texts("Part/PartNumber") == ["7", "9"]
        assert (await finish(s, upload, sorted(tags.items()))).endswith('-3"')
        assert (await s.ask("GET", "/NORTH/big")).body == blocks[3] + blocks[7] + blocks[9]
        assert temporaries(s) == []


async def test_parts_of_one_upload_come_side_by_side(tmp_path: Path) -> None:
    """Eight at once, all into one file."""
    blocks = [os.urandom(FIVE) for _ in range(7)] + [os.urandom(3)]
    async with site(tmp_path) as s:
        upload = await begin(s)
        tags: dict[int, str] = {}

        async def one(number: int, content: bytes) -> None:
            tags[number] = await put(s, upload, number, content)

        async with asyncio.TaskGroup() as group:
            for number, content in enumerate(blocks, 1):
                group.create_task(one(number, content))
        assert (await finish(s, upload, sorted(tags.items()))).endswith('-8"')
        assert (await s.ask("GET", "/NORTH/big")).body == b"".join(blocks)


async def test_what_is_wrong_with_a_list_is_told(tmp_path: Path) -> None:
    """Order, tags, sizes, unknown uploads; the upload goes on afterwards."""
    async with site(tmp_path) as s:
        upload = await begin(s)
        one, two = await put(s, upload, 1, b"small"), await put(s, upload, 2, b"last")
        assert await finish(s, upload, [(2, two), (1, one)]) == "InvalidPartOrder"
        assert await finish(s, upload, [(1, one), (1, one)]) == "InvalidPartOrder"
        assert await finish(s, upload, [(1, two)]) == "InvalidPart"
        assert await finish(s, upload, [(1, "zz")]) == "InvalidPart"
        assert await finish(s, upload, [(3, one)]) == "InvalidPart"
        assert await finish(s, upload, [(1, one), (2, two)]) == "EntityTooSmall"
        assert await finish(s, upload, []) == "MalformedXML"
        assert await finish(s, "nonsense", [(1, one)]) == "NoSuchUpload"
        assert await finish(s, upload, [(1, one)], key="other") == "NoSuchUpload"
        for number in ("0", "10001", "x"):
            target = f"/NORTH/big?partNumber={number}&uploadId={upload}"
            assert (await s.ask("PUT", target, body=b"x")).code == "InvalidArgument"
        assert (await finish(s, upload, [(1, one)])).endswith('-1"')
        target = f"/NORTH/big?partNumber=1&uploadId={upload}"
        assert (await s.ask("PUT", target, body=b"x")).code == "NoSuchUpload"


async def test_a_broken_part_leaves_the_stored_one(tmp_path: Path) -> None:
    """A digest that does not hold, a connection that ends: the part stays what it was."""
    content = os.urandom(FIVE)
    async with site(tmp_path) as s:
        upload = await begin(s)
        tag = await put(s, upload, 1, content)
        target = f"/NORTH/big?partNumber=1&uploadId={upload}"
        headers = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        got = await s.ask("PUT", target, body=os.urandom(FIVE), headers=headers,
                          payload="UNSIGNED-PAYLOAD")  # fmt: skip
        assert got.code == "BadDigest"
        target = f"/NORTH/big?partNumber=2&uploadId={upload}"
        got = await s.ask("PUT", target, body=os.urandom(FIVE), headers=headers,
                          payload="UNSIGNED-PAYLOAD")  # fmt: skip
        assert got.code == "BadDigest"
        assert await finish(s, upload, [(1, tag)]) == f'"{etag_of(content)}-1"'
        assert (await s.ask("GET", "/NORTH/big")).body == content


def etag_of(*parts: bytes) -> str:
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return hashlib.md5(digests).hexdigest()


async def test_an_upload_belongs_to_its_user(tmp_path: Path) -> None:
    """Nobody else sees, feeds, lists, completes or aborts it."""
    users = {"bob": {"destinations": ("NORTH",)}}
    async with site(tmp_path, users=users) as s:
        upload = await begin(s)
        tag = await put(s, upload, 1, b"mine")
        part = f"/NORTH/big?partNumber=1&uploadId={upload}"
        assert (await s.ask("PUT", part, body=b"x", user="bob")).code == "NoSuchUpload"
        for method in ("GET", "DELETE"):
            got = await s.ask(method, f"/NORTH/big?uploadId={upload}", user="bob")
            assert got.code == "NoSuchUpload"
        got = await s.ask("POST", f"/NORTH/big?uploadId={upload}", body=document([(1, tag)]),
                          user="bob")  # fmt: skip
        assert got.code == "NoSuchUpload"
        assert (await s.ask("GET", "/NORTH?uploads=", user="bob")).texts("Upload/Key") == []
        assert (await s.ask("GET", "/NORTH?uploads=")).texts("Upload/Key") == ["big"]
        assert (await s.ask("DELETE", f"/NORTH/big?uploadId={upload}")).status == 204
        assert (await s.ask("DELETE", f"/NORTH/big?uploadId={upload}")).code == "NoSuchUpload"
        assert temporaries(s) == []


async def test_uploads_are_listed_in_pages(tmp_path: Path) -> None:
    """By key and id, with prefix and delimiter."""
    async with site(tmp_path) as s:
        for key in ("a/1", "a/2", "b", "b"):
            await begin(s, key)
        got = await s.ask("GET", "/NORTH?delimiter=%2F&uploads=")
        assert got.texts("Upload/Key") == ["b", "b"]
        assert got.texts("CommonPrefixes/Prefix") == ["a/"]
        seen: list[str] = []
        key = number = ""
        while True:
            got = await s.ask(
                "GET",
                f"/NORTH?key-marker={quote(key, safe='')}&max-uploads=1"
                f"&upload-id-marker={number}&uploads=",
            )
            seen += got.texts("Upload/Key")
            if got.texts("IsTruncated") == ["false"]:
                break
            [key], [number] = got.texts("NextKeyMarker"), got.texts("NextUploadIdMarker")
        assert sorted(seen) == ["a/1", "a/2", "b", "b"]


async def test_parts_can_be_copied(tmp_path: Path) -> None:
    """UploadPartCopy with ranges, and its conditions."""
    content = os.urandom(FIVE + 100)
    async with site(tmp_path) as s:
        await s.ask("PUT", "/NORTH/src", body=content, payload="UNSIGNED-PAYLOAD")
        upload = await begin(s, x_amz_checksum_algorithm="SHA256")

        async def copy(number: int, span: str, **fields: str) -> str:
            headers = {"x-amz-copy-source": "NORTH/src", "x-amz-copy-source-range": span}
            headers |= {name.replace("_", "-"): text for name, text in fields.items()}
            target = f"/NORTH/big?partNumber={number}&uploadId={upload}"
            got = await s.ask("PUT", target, headers=headers)
            return got.texts("ETag")[0] if got.status == 200 else got.code

        one = await copy(1, f"bytes=0-{FIVE - 1}")
        two = await copy(2, f"bytes={FIVE}-{FIVE + 99}")
        assert await copy(3, "bytes=0-9999999") == "InvalidRange"
        assert await copy(3, "0-1") == "InvalidArgument"
        assert await copy(3, "bytes=0-1", x_amz_copy_source_if_match='"x"') == "PreconditionFailed"
        assert (await finish(s, upload, [(1, one), (2, two)])).endswith('-2"')
        assert (await s.ask("GET", "/NORTH/big")).body == content
        headers = {"x-amz-checksum-mode": "ENABLED"}
        shown = (await s.ask("HEAD", "/NORTH/big", headers=headers)).headers
        assert shown["x-amz-checksum-sha256"].endswith("-2")
        assert shown["x-amz-checksum-type"] == "COMPOSITE"


async def test_parts_outlive_a_restart(tmp_path: Path) -> None:
    """The node ends between the parts; its sweep leaves them alone."""
    blocks = [os.urandom(FIVE), os.urandom(17)]
    async with site(tmp_path) as s:
        upload = await begin(s)
        tags = [(1, await put(s, upload, 1, blocks[0]))]
        await put(s, await begin(s, "other"), 1, b"x", key="other")
    async with site(tmp_path) as s:
        await recovery.sweep(s.node.core, s.node.core.clock.now() + timedelta(seconds=5))
        tags.append((2, await put(s, upload, 2, blocks[1])))
        assert (await finish(s, upload, tags)) == f'"{etag_of(*blocks)}-2"'
        assert (await s.ask("GET", "/NORTH/big")).body == b"".join(blocks)


async def test_uploads_expire_with_their_bytes(tmp_path: Path) -> None:
    """Seven days; finished ones are forgotten too."""
    async with site(tmp_path) as s:
        upload = await begin(s)
        await put(s, upload, 1, os.urandom(FIVE))
        store, now = s.node.store, s.node.core.clock.now()
        assert await store.read(files.parked_names)
        await store.write(multipart.drop_old, before=now + timedelta(seconds=1), limit=10)
        assert await store.read(files.parked_names) == []
        assert await finish(s, upload, [(1, "x")]) == "NoSuchUpload"
        await recovery.sweep(s.node.core, now + timedelta(seconds=5))
        assert temporaries(s) == []


async def test_limits_hold_for_the_whole(tmp_path: Path) -> None:
    """The destination's maximum counts all parts; conditions are checked at the end."""
    async with site(tmp_path) as s:
        await s.node.destination("NORTH", max_file_size=FIVE + 10, max_pending=0)
        upload = await begin(s)
        one = await put(s, upload, 1, os.urandom(FIVE))
        target = f"/NORTH/big?partNumber=2&uploadId={upload}"
        assert (await s.ask("PUT", target, body=b"x" * 11)).code == "EntityTooLarge"
        await s.ask("PUT", "/NORTH/big", body=b"there")
        got = await s.ask("POST", f"/NORTH/big?uploadId={upload}", body=document([(1, one)]),
                          headers={"If-None-Match": "*"})  # fmt: skip
        assert got.code == "PreconditionFailed"
        assert (await finish(s, upload, [(1, one)])).endswith('-1"')


async def test_joined_sums_are_those_of_the_whole() -> None:
    """Adler-32 of two pieces."""
    for sizes in ((0, 0), (1, 0), (5, 70_000), (70_000, 65_521), (3, 1)):
        one, two = (os.urandom(size) for size in sizes)
        found = joined_adler(zlib.adler32(one), zlib.adler32(two), len(two))
        assert found == zlib.adler32(one + two)
