"""S3 as boto3 sees it: buckets, objects, listings."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from ecpds.base.settings import S3Settings
from ecpds.model.account import Permission, Protocol, Service
from ecpds.model.errors import EcpdsError
from ecpds.portals.s3.codes import CODES, STATUS
from ecpds.portals.s3.subresources import EMPTY, NOT_CONFIGURED
from tests.protocol.s3_site import READ_ONLY, Site, add_key, site


async def test_an_object_comes_back_as_it_went(tmp_path: Path) -> None:
    """By both doors, with its metadata, type and MD5."""
    async with site(tmp_path) as s:
        for below in (False, True):
            s3 = s.boto(below=below)
            names = [b["Name"] for b in (await s.call(s3.list_buckets))["Buckets"]]
            assert names == ["NORTH"]
            content = b"hello" * 1000
            put = await s.call(
                s3.put_object, Bucket="NORTH", Key="a/b é+ ~.txt", Body=content,
                Metadata={"mtime": "1234.5", "a-very-long-name-of-a-metadata-value": "x" * 300},
                ContentType="text/x-own",
            )  # fmt: skip
            assert put["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
            got = await s.call(s3.get_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert await s.call(got["Body"].read) == content
            assert got["ContentType"] == "text/x-own"
            assert got["Metadata"]["mtime"] == "1234.5"
            assert got["ETag"] == put["ETag"]
            head = await s.call(s3.head_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert head["ContentLength"] == len(content)
            listed = await s.call(s3.list_objects_v2, Bucket="NORTH")
            assert [(one["Key"], one["ETag"]) for one in listed["Contents"]] == [
                ("a/b é+ ~.txt", put["ETag"])
            ]
            await s.call(s3.delete_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            assert await s.refused(s3.get_object, Bucket="NORTH", Key="a/b é+ ~.txt") == "NoSuchKey"
            await s.call(s3.delete_object, Bucket="NORTH", Key="a/b é+ ~.txt")
            s3.close()
        await s.idle()


KEYS = ["a/1", "a/2", "b"]


async def fill(s: Site, keys: Iterable[str], *, bucket: str = "NORTH") -> None:
    """Upload small objects whose content is their key."""
    async with await s.node.login("alice", protocol=Protocol.S3) as session:
        for key in keys:
            async with await session.open_write(f"/{bucket}/{key}") as writer:
                writer.write(key.encode())
                await writer.commit()


async def test_example_19_a_delimiter_rolls_up(tmp_path: Path) -> None:
    """portal.md Ex 19."""
    async with site(tmp_path) as s:
        await fill(s, KEYS)
        got = await s.ask("GET", "/NORTH?list-type=2&delimiter=%2F")
        assert got.texts("Contents/Key") == ["b"]
        assert got.texts("CommonPrefixes/Prefix") == ["a/"]
        assert got.texts("KeyCount") == ["2"]
        got = await s.ask("GET", "/NORTH?list-type=2&delimiter=%2F&max-keys=1")
        assert got.texts("CommonPrefixes/Prefix") == ["a/"]
        assert got.texts("IsTruncated") == ["true"]
        [token] = got.texts("NextContinuationToken")
        target = f"/NORTH?list-type=2&delimiter=%2F&max-keys=1&continuation-token={quote(token)}"
        got = await s.ask("GET", target)
        assert got.texts("Contents/Key") == ["b"]
        assert got.texts("IsTruncated") == ["false"]
        got = await s.ask("GET", "/NORTH?delimiter=%2F&max-keys=1")
        assert got.texts("NextMarker") == ["a/"]
        got = await s.ask("GET", "/NORTH?delimiter=%2F&marker=a%2F")
        assert got.texts("Contents/Key") == ["b"]


async def test_pages_are_those_of_a_model(tmp_path: Path) -> None:
    """Every prefix, delimiter and page size: the same lines as a sorted list rolled up by hand."""
    keys = ["a", "a-b", "a/", "a/1", "a/b/c", "a0", "b//".rstrip("/"), "é/ü", "z\U0001f600", "Z"]
    async with site(tmp_path) as s:
        await fill(s, [key for key in keys if not key.endswith("/")])
        await s.ask("PUT", "/NORTH/a/")
        for prefix in ("", "a", "a/", "é", "x"):
            for delimiter in ("", "/", "b", "-"):
                wanted = rolled(keys, prefix, delimiter)
                for size in (1, 2, 1000):
                    assert await pages(s, prefix, delimiter, size) == wanted


def rolled(keys: Iterable[str], prefix: str, delimiter: str) -> list[str]:
    """What a listing shows, by the book."""
    found = set()
    for key in keys:
        if key.startswith(prefix):
            place = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if place < 0 else key[: place + len(delimiter)])
    return sorted(found, key=str.encode)


async def pages(s: Site, prefix: str, delimiter: str, size: int) -> list[str]:
    """List by the second form, page by page."""
    found: list[str] = []
    token = ""
    while True:
        query = {"delimiter": delimiter, "list-type": "2", "max-keys": str(size), "prefix": prefix}
        if token:
            query["continuation-token"] = token
        text = "&".join(f"{n}={quote(v, safe='~')}" for n, v in sorted(query.items()))
        got = await s.ask("GET", f"/NORTH?{text}")
        page = got.texts("Contents/Key") + got.texts("CommonPrefixes/Prefix")
        assert got.texts("KeyCount") == [str(len(page))]
        assert len(page) <= size
        found += sorted(page, key=str.encode)
        if got.texts("IsTruncated") == ["false"]:
            return found
        [token] = got.texts("NextContinuationToken")


async def test_a_marker_pages_too(tmp_path: Path) -> None:
    """The first form goes on behind the last key; `start-after` of the second likewise."""
    async with site(tmp_path) as s:
        await fill(s, [f"k{number:03}" for number in range(7)])
        seen: list[str] = []
        marker = ""
        while True:
            got = await s.ask("GET", f"/NORTH?marker={marker}&max-keys=3")
            seen += got.texts("Contents/Key")
            if got.texts("IsTruncated") == ["false"]:
                break
            marker = seen[-1]
        assert seen == [f"k{number:03}" for number in range(7)]
        got = await s.ask("GET", "/NORTH?list-type=2&start-after=k004")
        assert got.texts("Contents/Key") == ["k005", "k006"]
        got = await s.ask("GET", "/NORTH?list-type=2&max-keys=0")
        assert (got.texts("KeyCount"), got.texts("IsTruncated")) == (["0"], ["false"])


async def test_buckets_of_names_that_need_quotes(tmp_path: Path) -> None:
    """Names that are HTML or SQL are names, in the answer too."""
    names = ["<script>alert(1)</script>", "'; DROP TABLE transfer; --", "a&b.txt", "50%.txt"]
    async with site(tmp_path) as s:
        for name in names:
            put = await s.ask("PUT", f"/NORTH/{quote(name)}", body=b"x")
            assert put.status == 200
        got = await s.ask("GET", "/NORTH")
        assert sorted(got.texts("Contents/Key")) == sorted(names)
        assert b"<script>" not in got.body
        got = await s.ask("GET", "/NORTH?encoding-type=url&prefix=%3Cs")
        assert got.texts("Contents/Key") == [quote(names[0], safe="/~")]
        for name in names:
            assert (await s.ask("GET", f"/NORTH/{quote(name)}")).body == b"x"


async def test_the_bucket_of_the_user_is_the_whole_tree(tmp_path: Path) -> None:
    """portal.md 2.1: destinations are the first part of its keys, in their order."""
    async with site(tmp_path, destinations=("A", "A-B", "C")) as s:
        for bucket in ("A", "A-B", "C"):
            await fill(s, ["x/1", "y"], bucket=bucket)
        got = await s.ask("GET", "/alice?list-type=2")
        whole = got.texts("Contents/Key")
        assert whole == sorted([f"{d}/{k}" for d in ("A", "A-B", "C") for k in ("x/1", "y")])
        got = await s.ask("GET", "/alice?delimiter=%2F&list-type=2")
        assert got.texts("CommonPrefixes/Prefix") == ["A-B/", "A/", "C/"]
        got = await s.ask("GET", "/alice?delimiter=%2F&list-type=2&prefix=C%2F")
        assert got.texts("Contents/Key") + got.texts("CommonPrefixes/Prefix") == ["C/y", "C/x/"]
        seen: list[str] = []
        token = ""
        while True:
            tail = f"&continuation-token={quote(token)}" if token else ""
            got = await s.ask("GET", f"/alice?list-type=2&max-keys=1{tail}")
            seen += got.texts("Contents/Key")
            if got.texts("IsTruncated") == ["false"]:
                break
            [token] = got.texts("NextContinuationToken")
        assert seen == whole
        assert (await s.ask("GET", "/alice/C/x/1")).body == b"x/1"


async def test_ranges_conditions_and_overrides(tmp_path: Path) -> None:
    """RFC 9110 as S3 has it."""
    async with site(tmp_path) as s:
        await fill(s, ["f"])
        whole = await s.ask("GET", "/NORTH/f")
        etag = whole.headers["ETag"]

        async def status(**fields: str) -> int:
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            return (await s.ask("GET", "/NORTH/f", headers=named)).status

        assert await status(range="bytes=0-0") == 206
        assert await status(range="bytes=5-") == 416
        assert await status(range="bytes=0-0,0-0") == 200
        assert await status(if_none_match=etag) == 304
        assert await status(if_match='"other"') == 412
        assert await status(if_match=etag) == 200
        assert await status(if_modified_since=whole.headers["Last-Modified"]) == 304
        assert await status(if_unmodified_since="Sat, 01 Jan 2000 00:00:00 GMT") == 412
        got = await s.ask("GET", "/NORTH/f?response-content-type=text%2Fx-y")
        assert got.headers["Content-Type"] == "text/x-y"
        got = await s.ask("GET", "/NORTH/f?response-content-type=a%0D%0Ab")
        assert (got.status, got.code) == (400, "InvalidArgument")


async def test_writes_have_conditions(tmp_path: Path) -> None:
    """If-None-Match and If-Match of PutObject, checked again when it is registered."""
    async with site(tmp_path) as s:

        async def put(body: bytes, **fields: str) -> tuple[int, str]:
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            got = await s.ask("PUT", "/NORTH/c", body=body, headers=named)
            return got.status, got.headers.get("ETag", "") or got.code

        assert await put(b"0", if_match='"x"') == (404, "NoSuchKey")
        status, etag = await put(b"1", if_none_match="*")
        assert status == 200
        assert await put(b"2", if_none_match="*") == (412, "PreconditionFailed")
        assert await put(b"3", if_match='"x"') == (412, "PreconditionFailed")
        status, newer = await put(b"4", if_match=etag)
        assert (status, newer != etag) == (200, True)
        assert (await s.ask("GET", "/NORTH/c")).body == b"4"


async def test_example_22_one_tree_through_every_door(tmp_path: Path) -> None:
    """portal.md Ex 22: written by SFTP, listed by S3, the same tag by HTTPS."""
    async with site(tmp_path) as s:
        async with (
            await s.node.login("alice") as session,
            await session.open_write("/DATA/NORTH/a/1") as writer,
        ):
            writer.write(b"content")
            node = await writer.commit()
        got = await s.ask("GET", "/NORTH?prefix=a%2F")
        assert got.texts("Contents/Key") == ["a/1"]
        assert got.texts("Contents/ETag") == [node.etag]
        head = await s.ask("HEAD", "/NORTH/a/1")
        assert head.headers["ETag"] == node.etag
        put = await s.ask("PUT", "/NORTH/a/2", body=b"two")
        async with await s.node.login("alice", protocol=Protocol.HTTPS) as session:
            assert (await session.stat("/NORTH/a/2")).etag == put.headers["ETag"]
            await session.delete("/NORTH/a/1")
        assert (await s.ask("HEAD", "/NORTH/a/1")).status == 404


async def test_example_21_rights_hold(tmp_path: Path) -> None:
    """portal.md Ex 21: without dir nothing is listed, what is known by name is read."""
    some = frozenset({Permission.GET, Permission.SIZE, Permission.MTIME})
    users = {"bob": {"destinations": ("NORTH",), "operations": some}}
    async with site(tmp_path, users=users) as s:
        await fill(s, KEYS)
        assert (await s.ask("GET", "/NORTH", user="bob")).code == "AccessDenied"
        assert (await s.ask("GET", "/", user="bob")).code == "AccessDenied"
        assert (await s.ask("GET", "/NORTH/b", user="bob")).body == b"b"
        assert (await s.ask("PUT", "/NORTH/c", body=b"", user="bob")).code == "AccessDenied"
        assert (await s.ask("DELETE", "/NORTH/b", user="bob")).code == "AccessDenied"
        assert (await s.ask("POST", "/NORTH/b?uploads=", user="bob")).code == "AccessDenied"
        copied = {"x-amz-copy-source": "/NORTH/b"}
        got = await s.ask("PUT", "/NORTH/c", headers=copied, user="bob")
        assert got.code == "AccessDenied"


async def test_example_24_open_access_needs_no_signature(tmp_path: Path) -> None:
    """portal.md Ex 24: unsigned, bucket = login; nobody writes without put."""
    users = {"pub": {"destinations": ("NORTH",), "operations": READ_ONLY, "service": Service.OPEN}}
    async with site(tmp_path, users=users) as s:
        await fill(s, KEYS)
        got = await s.ask("GET", "/pub/", user="", below=True)
        assert got.texts("Contents/Key") == ["NORTH/a/1", "NORTH/a/2", "NORTH/b"]
        assert (await s.ask("GET", "/pub/NORTH/b", user="", below=True)).body == b"b"
        got = await s.ask("PUT", "/pub/NORTH/b", body=b"x", user="", below=True)
        assert (got.status, got.code) == (403, "AccessDenied")
        for target in ("/", "/NORTH", "/alice/NORTH/b", "/nobody"):
            assert (await s.ask("GET", target, user="")).code == "AccessDenied"
        got = await s.ask("GET", "/pub/NORTH/b?response-content-type=a", user="")
        assert got.code == "InvalidRequest"


async def test_two_users_do_not_meet(tmp_path: Path) -> None:
    """What is another's is missing in the same words as what is not there."""
    users = {"alice": {"destinations": ("NORTH",)}, "eve": {"destinations": ("SOUTH",)}}
    async with site(tmp_path, users=users, destinations=("NORTH", "SOUTH")) as s:
        await fill(s, KEYS)
        for target in ("/NORTH", "/NORTH/b", "/NORTH?uploads=", "/NORTH?list-type=2"):
            got, none = (
                await s.ask("GET", target, user="eve"),
                await s.ask("GET", target.replace("NORTH", "NOWHERE"), user="eve"),
            )
            assert (got.status, got.code) == (none.status, none.code) == (404, "NoSuchBucket")
        copied = {"x-amz-copy-source": "/NORTH/b"}
        assert (await s.ask("PUT", "/SOUTH/x", headers=copied, user="eve")).code == "NoSuchBucket"
        for source in ("SOUTH/../NORTH/b", "SOUTH/%2e%2e/NORTH/b", "SOUTH/DataTransferId=1"):
            got = await s.ask("PUT", "/SOUTH/x", headers={"x-amz-copy-source": source}, user="eve")
            assert got.code == "NoSuchKey"


async def test_names_that_would_change_are_refused(tmp_path: Path) -> None:
    """interface.md 8: InvalidArgument for a write, nothing there for a read."""
    async with site(tmp_path) as s:
        for key in ("a//b", "a/../b", "../../etc", "a/./b", "a%00b", "a%0Ab", "a%5Cb"):
            got = await s.ask("PUT", f"/NORTH/{key}", body=b"x")
            assert (got.status, got.code) == (400, "InvalidArgument"), key
            assert (await s.ask("GET", f"/NORTH/{key}")).code == "NoSuchKey", key
            assert (await s.ask("DELETE", f"/NORTH/{key}")).status == 204, key
        assert (await s.ask("PUT", "/NORTH/" + "k" * 1025, body=b"x")).code == "KeyTooLongError"
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == []


async def test_a_file_and_a_directory_may_share_a_name(tmp_path: Path) -> None:
    """interface.md 8: S3 may hold `a` and `a/b` together, and made directories are keys."""
    async with site(tmp_path) as s:
        for key in ("a", "a/b", "a/"):
            body = b"" if key.endswith("/") else b"x"
            assert (await s.ask("PUT", f"/NORTH/{key}", body=body)).status == 200
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == ["a", "a/", "a/b"]
        head = await s.ask("HEAD", "/NORTH/a/")
        assert (head.status, head.headers["Content-Length"]) == (200, "0")
        assert (await s.ask("DELETE", "/NORTH/a/")).status == 204
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == ["a", "a/b"]
        assert (await s.ask("PUT", "/NORTH/b/", body=b"x")).code == "InvalidArgument"


async def test_many_are_deleted_at_once(tmp_path: Path) -> None:
    """DeleteObjects: absent ones are deleted too, Quiet tells errors only."""
    async with site(tmp_path) as s:
        await fill(s, KEYS)
        body = b"<Delete><Object><Key>a/1</Key></Object><Object><Key>no</Key></Object></Delete>"
        got = await s.ask("POST", "/NORTH?delete=", body=body)
        assert got.texts("Deleted/Key") == ["a/1", "no"]
        body = (
            b"<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object>"
            b"<Object><Key>a/2</Key><VersionId>7</VersionId></Object></Delete>"
        )
        got = await s.ask("POST", "/NORTH?delete=", body=body)
        assert got.texts("Deleted/Key") == []
        assert got.texts("Error/Code") == ["NoSuchVersion"]
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == ["a/2"]
        many = b"".join(b"<Object><Key>%d</Key></Object>" % n for n in range(1001))
        got = await s.ask("POST", "/NORTH?delete=", body=b"<Delete>" + many + b"</Delete>")
        assert got.code == "MalformedXML"


async def test_a_key_may_be_narrower_than_its_user(tmp_path: Path) -> None:
    """Prefix, read-only, expiry, an inactive user."""
    async with site(tmp_path) as s:
        await fill(s, ["in/1", "in/sub/2", "out/3"])
        s.pairs["narrow"] = await add_key(
            s.node, "alice", access="AKNARROW", prefix="NORTH/in/", read_only=True
        )
        got = await s.ask("GET", "/NORTH?list-type=2&prefix=in%2F", user="narrow")
        assert got.texts("Contents/Key") == ["in/1", "in/sub/2"]
        got = await s.ask("GET", "/NORTH?list-type=2", user="narrow")
        assert got.texts("Contents/Key") == ["in/1", "in/sub/2"]
        got = await s.ask("GET", "/NORTH?list-type=2&delimiter=%2F", user="narrow")
        assert got.texts("CommonPrefixes/Prefix") == ["in/"]
        assert (await s.ask("GET", "/NORTH/in/1", user="narrow")).status == 200
        assert (await s.ask("GET", "/NORTH/out/3", user="narrow")).status == 403
        assert (await s.ask("HEAD", "/NORTH/out/3", user="narrow")).status == 404
        assert (await s.ask("PUT", "/NORTH/in/9", body=b"", user="narrow")).status == 403
        assert (await s.ask("DELETE", "/NORTH/in/1", user="narrow")).status == 403
        past = s.node.core.clock.now() - timedelta(seconds=1)
        s.pairs["old"] = await add_key(s.node, "alice", access="AKOLD", expires_at=past)
        assert (await s.ask("GET", "/", user="old")).code == "InvalidAccessKeyId"
        await s.node.user("alice", destinations=("NORTH",), active=False)
        assert (await s.ask("GET", "/")).code == "AccessDenied"


async def test_quota_and_size_limits(tmp_path: Path) -> None:
    """interface.md 8: 403 QuotaExceeded; a destination's maximum is EntityTooLarge."""
    options = {"portal.maxUploadBytes": "1KB", "portal.uploadPeriod": "1h"}
    users = {"bob": {"destinations": ("NORTH",), "options": options}}
    async with site(tmp_path, users=users) as s:
        assert (await s.ask("PUT", "/NORTH/1", body=b"x" * 1024, user="bob")).status == 200
        got = await s.ask("PUT", "/NORTH/2", body=b"x", user="bob")
        assert (got.status, got.code) == (403, "QuotaExceeded")
        await s.node.destination("NORTH", max_file_size=10)
        got = await s.ask("PUT", "/NORTH/3", body=b"x" * 11)
        assert (got.status, got.code) == (400, "EntityTooLarge")


async def test_an_embargo_hides_and_what_is_by_date_is_listed(tmp_path: Path) -> None:
    """portal.md 2.2 and 2.3."""
    async with site(tmp_path) as s:
        await s.node.destination("NORTH", options={"incoming.delay": "1h"}, max_pending=0)
        assert (await s.ask("PUT", "/NORTH/late", body=b"x")).status == 200
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == []
        assert (await s.ask("HEAD", "/NORTH/late")).status == 404
        await s.node.destination("NORTH", group_by_date=True, max_pending=0)
        for key in ("20310504/x", "20310504/y", "20310505/x"):
            assert (await s.ask("PUT", f"/NORTH/{key}", body=b"x")).status == 200, key
        got = await s.ask("GET", "/NORTH?list-type=2&delimiter=%2F")
        assert got.texts("CommonPrefixes/Prefix") == ["20310504/", "20310505/"]
        got = await s.ask("GET", "/NORTH?list-type=2&prefix=20310504%2F&max-keys=1")
        assert got.texts("Contents/Key") == ["20310504/x"]


async def test_tags_travel_with_the_object(tmp_path: Path) -> None:
    """portal.md 3.6: at most ten tags, also seen as metadata `tag.<k>`."""
    async with site(tmp_path) as s:
        put = await s.ask("PUT", "/NORTH/t", body=b"x", headers={"x-amz-tagging": "a=1&b=2"})
        assert put.status == 200
        assert (await s.ask("HEAD", "/NORTH/t")).headers["x-amz-tagging-count"] == "2"
        async with await s.node.login("alice") as session:
            node = await session.stat("/DATA/NORTH/t")
            assert node.metadata == {"tag.a": "1", "tag.b": "2"}
        await s.ask("PUT", "/NORTH/c", headers={"x-amz-copy-source": "NORTH/t"})
        assert (await s.ask("GET", "/NORTH/c?tagging=")).texts("TagSet/Tag/Key") == ["a", "b"]
        body = b"<Tagging><TagSet><Tag><Key>n</Key><Value>w</Value></Tag></TagSet></Tagging>"
        assert (await s.ask("PUT", "/NORTH/t?tagging=", body=body)).status == 200
        assert (await s.ask("GET", "/NORTH/t?tagging=")).texts("TagSet/Tag/Value") == ["w"]
        assert (await s.ask("DELETE", "/NORTH/t?tagging=")).status == 204
        many = "&".join(f"k{n}=v" for n in range(11))
        got = await s.ask("PUT", "/NORTH/u", body=b"", headers={"x-amz-tagging": many})
        assert got.code == "InvalidTag"


async def test_what_is_not_configured_says_so(tmp_path: Path) -> None:
    """Sub-resources: their own codes for GET, 501 for PUT."""
    async with site(tmp_path) as s:
        for name, (code, _) in NOT_CONFIGURED.items():
            got = await s.ask("GET", f"/NORTH?{name}=")
            assert got.code == code, name
            assert (await s.ask("PUT", f"/NORTH?{name}=", body=b"<x/>")).code == "NotImplemented"
        for name in EMPTY:
            assert (await s.ask("GET", f"/NORTH?{name}=")).status == 200
        assert (await s.ask("GET", "/NORTH?versions=")).texts("Name") == ["NORTH"]
        await fill(s, ["x"])
        assert (await s.ask("GET", "/NORTH/x?torrent=")).code == "NotImplemented"
        assert (await s.ask("POST", "/NORTH/x?restore=")).code == "NotImplemented"
        assert (await s.ask("PATCH", "/NORTH/x")).code == "MethodNotAllowed"


async def test_every_error_of_ours_has_a_code() -> None:
    """The whole tree against the table, and the table against the statuses."""

    def walk(kind: type[EcpdsError]) -> None:
        if kind.__module__ == "ecpds.model.errors":
            assert any(one in CODES for one in kind.__mro__), kind
        for child in kind.__subclasses__():
            walk(child)

    walk(EcpdsError)
    assert {code for code in CODES.values() if code not in STATUS} == set()


async def test_writers_of_one_key_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """As in S3: each content is whole, the one that was registered last is there."""
    contents = [bytes([65 + number]) * 300_000 for number in range(6)]
    async with site(tmp_path) as s:
        statuses = []

        async def put(content: bytes) -> None:
            statuses.append((await s.ask("PUT", "/NORTH/one", body=content)).status)

        async with asyncio.TaskGroup() as group:
            for content in contents:
                group.create_task(put(content))
        assert statuses == [200] * 6
        assert (await s.ask("GET", "/NORTH/one")).body in contents
        assert (await s.ask("GET", "/NORTH")).texts("Contents/Key") == ["one"]


async def test_pages_of_other_sites_may_ask_when_that_is_set(tmp_path: Path) -> None:
    """Preflight, signed requests and errors; `portal.corsAllowOrigin` is the user's own list."""
    own = {"portal.corsAllowOrigin": "https://own.example"}
    users = {"bob": {"destinations": ("NORTH",), "options": own}}
    settings = S3Settings(cors_allow_origin="https://maps.example, https://b.example")
    maps = {"Origin": "https://maps.example"}
    async with site(tmp_path, settings=settings, users=users) as s:
        wanted = maps | {
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,x-amz-date, x-amz-content-sha256",
        }
        for below in (False, True):
            got = await s.ask("OPTIONS", "/NORTH/a", headers=wanted, user="", below=below)
            assert got.status == 204
            assert got.headers["Access-Control-Allow-Origin"] == "https://maps.example"
            assert got.headers["Vary"] == "Origin"
            assert "PUT" in got.headers["Access-Control-Allow-Methods"]
            allowed = got.headers["Access-Control-Allow-Headers"]
            assert allowed == wanted["Access-Control-Request-Headers"]
        put = await s.ask("PUT", "/NORTH/a", body=b"1", headers=maps)
        assert put.status == 200
        assert "ETag" in put.headers["Access-Control-Expose-Headers"]
        missing = await s.ask("GET", "/NORTH/b", headers=maps)
        assert missing.status == 404
        assert missing.headers["Access-Control-Allow-Origin"] == "https://maps.example"
        other = {"Origin": "https://evil.example"}
        for method in ("OPTIONS", "GET"):
            got = await s.ask(method, "/NORTH/a", headers=other)
            assert "Access-Control-Allow-Origin" not in got.headers
        got = await s.ask("GET", "/NORTH/a", headers={"Origin": "https://own.example"}, user="bob")
        assert got.headers["Access-Control-Allow-Origin"] == "https://own.example"
        got = await s.ask("GET", "/NORTH/a", headers=maps, user="bob")
        assert "Access-Control-Allow-Origin" not in got.headers
        evil = wanted | {"Access-Control-Request-Headers": "x\u00e9, <b>"}
        got = await s.ask("OPTIONS", "/NORTH/a", headers=evil, user="")
        assert "Access-Control-Allow-Headers" not in got.headers
