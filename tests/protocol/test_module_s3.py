"""The S3 module with real services: breaks, resumption, buckets, roles, digests."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.conformance.case import Case
from ecpds.conformance.faultproxy import Way, drop
from ecpds.conformance.site import KIB, MIB, Site, descriptor_of, pattern, site
from ecpds.model.entry import Kind
from ecpds.model.errors import RemoteAuth, RemoteConfig, RemoteName, RemoteTransient, RemoteVerify
from ecpds.modules.s3 import S3Buckets, S3Module
from ecpds.modules.s3_copy import Copier, Original
from ecpds.transfer.contract import Partial
from ecpds.transfer.source import ContentSource
from tests.peers.buckets import BucketPeer
from tests.peers.moto import moto, shared_moto
from tests.peers.seaweedfs import seaweedfs, shared_seaweed


@pytest.fixture(scope="module", autouse=True)
def _services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        shared_seaweed(tmp_path_factory.mktemp("seaweed")),
        shared_moto(tmp_path_factory.mktemp("moto")),
    ):
        yield


def options(peer: object) -> dict[str, object]:
    """Parts of 5 MiB, the least that services take."""
    assert isinstance(peer, BucketPeer)
    return {
        "s3.scheme": "http",
        "s3.port": peer.port,
        "s3.bucketName": peer.bucket,
        "s3.multipartSize": "5MB",
        "s3.partSize": "5MB",
    }


SEAWEED = Case(name="seaweed", module=S3Module, server=seaweedfs, options=options)
MOTO = Case(name="moto", module=S3Module, server=moto, options=options)


@asynccontextmanager
async def bucket(
    tmp_path: Path, case: Case = SEAWEED, *, proxied: bool = False
) -> AsyncIterator[tuple[Site, BucketPeer]]:
    """Give a new bucket."""
    async with site(case, tmp_path, proxied=proxied) as there:
        assert isinstance(there.peer, BucketPeer)
        yield there, there.peer


# ---- parts


async def test_a_cut_upload_costs_a_tenth_more(tmp_path: Path) -> None:
    """Cut at the half and gone on with, from what a restart keeps: at most 1.1 times the bytes."""
    content = pattern(120 * MIB)
    async with bucket(tmp_path, proxied=True) as (there, peer):
        proxy = there.proxy
        assert proxy is not None
        proxy.fault = drop(after=20 * MIB, way=Way.UP, times=None)
        access = there.access(s3__disableSdkRetries="yes")
        with pytest.raises(RemoteTransient):
            await there.deliver("big", content, access=access, version="1")
        assert peer.names() == []
        assert there.partial is not None
        first = proxy.passed[Way.UP]
        assert there.partial.offset > 0
        proxy.fault = None
        kept = Partial(**json.loads(json.dumps(asdict(there.partial))))
        delivered = await there.deliver("big", content, version="1", partial=kept)
        assert delivered.resumed_at >= kept.offset
        assert 20 * MIB <= first < len(content)
        assert proxy.passed[Way.UP] <= 1.1 * len(content)
        assert hashlib.sha256(peer.get("big")).digest() == hashlib.sha256(content).digest()
        assert peer.uploads() == []


async def test_a_part_that_breaks_is_sent_again_by_itself(tmp_path: Path) -> None:
    """The others go on; the attempt does not fail."""
    content = pattern(40 * MIB)
    async with bucket(tmp_path, proxied=True) as (there, peer):
        assert there.proxy is not None
        there.proxy.fault = drop(after=12 * MIB, way=Way.UP, times=2)
        await there.deliver("big", content, version="1")
        assert there.proxy.struck == 2
        assert there.proxy.passed[Way.UP] <= 1.3 * len(content)
        assert peer.get("big") == content


async def test_an_upload_nobody_goes_on_with_is_dropped(tmp_path: Path) -> None:
    """Of another version, and of a transfer that is given up."""
    async with bucket(tmp_path, proxied=True) as (there, peer):
        assert there.proxy is not None
        access = there.access(s3__disableSdkRetries="yes")
        there.proxy.fault = drop(after=8 * MIB, way=Way.UP, times=None)
        with pytest.raises(RemoteTransient):
            await there.deliver("f", pattern(30 * MIB), access=access, version="1")
        there.proxy.fault = None
        assert len(peer.uploads()) == 1
        left = there.partial
        delivered = await there.deliver("f", b"short", version="2", partial=left)
        assert delivered.resumed_at == 0
        assert peer.uploads() == []
        assert there.files() == {"f": b"short"}


async def test_old_broken_uploads_of_a_name_are_dropped(tmp_path: Path) -> None:
    """Those of a crash, whose id nobody knows, when the name is sent again."""
    async with bucket(tmp_path, MOTO) as (there, peer):
        for key in ("f", "f2"):
            peer.service.demand("POST", f"/{peer.bucket}/{key}", query={"uploads": ""})
        access = there.access(s3__staleUploads="1ms")
        await there.deliver("f", pattern(6 * MIB), access=access)
        assert peer.uploads() == ["f2"]


async def test_content_of_unknown_size_goes_in_parts(tmp_path: Path) -> None:
    """In bounded memory; nothing is seen before the end."""
    content = pattern(12 * MIB + 5)
    async with bucket(tmp_path) as (there, peer):
        with descriptor_of(content) as descriptor:
            source = ContentSource(descriptor, len(content), threads=there.around.threads)
            source.descriptor, source.size = None, -1
            flowing = Unsized(descriptor, len(content), there)
            delivered = await there.deliver("f", flowing, size=-1)
        assert delivered.sent == len(content)
        assert peer.get("f") == content


class Unsized(ContentSource):
    """Content whose size is not told."""

    def __init__(self, descriptor: int, size: int, there: Site) -> None:
        super().__init__(descriptor, size, threads=there.around.threads)
        self._file = descriptor
        self.size = -1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in super().__aiter__():
            yield block


# ---- downloads


async def test_ranges_side_by_side_give_the_same(tmp_path: Path) -> None:
    """Of every size, from every offset."""
    async with bucket(tmp_path) as (there, peer):
        access = there.access(s3__parallelRanges=3, s3__rangeSize="64KB")
        for size in (0, 1, 64 * KIB, 64 * KIB + 1, MIB - 3):
            content = pattern(size)
            peer.put("f", content)
            assert (await there.fetch("f", access=access))[0] == content
        found, _ = await there.fetch("f", access=access, offset=100 * KIB)
        assert found == content[100 * KIB :]


async def test_an_object_that_changes_meanwhile_is_no_mixture(tmp_path: Path) -> None:
    """Ranges of one download are of one version."""
    async with bucket(tmp_path) as (there, peer):
        peer.put("f", pattern(MIB))
        access = there.access(s3__parallelRanges=2, s3__rangeSize="64KB")
        async with there.session(access) as module:
            blocks = module.get("/f")
            await anext(blocks)
            peer.put("f", pattern(MIB, seed=7))
            with pytest.raises(RemoteVerify):
                async for _ in blocks:
                    pass


# ---- who we are, what there is


@pytest.mark.parametrize("act", ["stat", "put", "list"])
async def test_a_missing_bucket_is_an_error_of_the_host(tmp_path: Path, act: str) -> None:
    """No retry, whatever was asked."""
    async with bucket(tmp_path) as (there, _):
        there.extra["s3.bucketName"] = "no-such-bucket"
        with pytest.raises(RemoteConfig) as caught:
            await there.deliver("f", b"x") if act == "put" else await look(there, act)
        assert caught.value.remote_code == "NoSuchBucket"


async def look(there: Site, act: str) -> None:
    """List, or ask for a size."""
    async with there.session() as module:
        if act == "stat":
            await module.stat("/f")
        else:
            assert [entry async for entry in module.list("/")] == []


async def test_secrets_are_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor in any error."""
    caplog.set_level(logging.DEBUG)
    async with bucket(tmp_path) as (there, peer):
        access = there.access(password="geheimes-wort", ectrans__debug="yes")
        with pytest.raises(RemoteAuth) as caught:
            await there.deliver("f", b"x", access=access)
        await there.deliver("f", b"x")
        seen = f"{caplog.text}{caught.value}{caught.value.facts}{caught.value.remote_text}"
        for word in ("geheimes-wort", peer.password, "Signature="):
            assert word not in seen


async def test_buckets_are_directories_without_one_of_its_own(tmp_path: Path) -> None:
    """Listed, made, used and removed."""
    async with bucket(tmp_path) as (there, peer):
        there.extra["s3.bucketName"] = ""
        name = f"{peer.bucket}-new"
        async with there.session() as module:
            assert type(module) is S3Buckets
            await module.mkdir(f"/{name}")
            await module.mkdir(f"/{name}")
            await module.mkdir(f"/{name}/sub")
            with pytest.raises(RemoteName):
                await module.mkdir(f"/{name}-none/sub")
            found = {entry.name: entry.kind async for entry in module.list("/")}
            assert found[name] is Kind.DIRECTORY
        await there.deliver(f"{name}/d/f", b"content")
        async with there.session() as module:
            assert [entry.name async for entry in module.list(f"/{name}")] == ["d"]
            assert (await module.stat(f"/{name}/d/f")).size == 7
            await module.delete(f"/{name}/d/f")
            await module.rmdir(f"/{name}")
            assert name not in [entry.name async for entry in module.list("/")]


async def test_a_missing_bucket_is_made_when_told(tmp_path: Path) -> None:
    """`mkBucket`, with a fixed bucket and without."""
    async with bucket(tmp_path) as (there, peer):
        there.extra |= {"s3.bucketName": f"{peer.bucket}-a", "s3.mkBucket": "yes"}
        await there.deliver("f", b"x")
        other = replace(peer, bucket=f"{peer.bucket}-a")
        assert other.get("f") == b"x"
        there.extra["s3.bucketName"] = ""
        await there.deliver(f"{peer.bucket}-b/d/f", b"y")
        assert replace(peer, bucket=f"{peer.bucket}-b").get("d/f") == b"y"
        for letter in "ab":
            peer.service.ask("DELETE", f"/{peer.bucket}-{letter}")


async def test_what_is_known_of_the_content_is_kept_with_it(tmp_path: Path) -> None:
    """Digests as metadata instead of a sidecar; storage class, tags and type as told."""
    async with bucket(tmp_path, MOTO) as (there, peer):
        access = there.access(
            ectrans__createChecksum="yes",
            s3__storageClass="STANDARD_IA",
            s3__tags="feed=radar,kind=a b",
            s3__contentType="application/x-grib2",
        )
        assert access.sidecars("f", {"md5": "x"}) == []
        digest = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
        await there.deliver("f", b"content", access=access, digests={"md5": digest})
        headers: dict[str, str] = {}
        peer.service.ask("HEAD", f"/{peer.bucket}/f", told=headers)
        assert headers["x-amz-meta-md5"] == digest
        assert headers["x-amz-storage-class"] == "STANDARD_IA"
        assert headers["content-type"] == "application/x-grib2"
        tags = peer.service.demand("GET", f"/{peer.bucket}/f", query={"tagging": ""})
        assert b"<Value>a b</Value>" in tags
        assert peer.names() == ["f"]


async def test_an_existing_object_stays_when_told(tmp_path: Path) -> None:
    """`overwrite = no`."""
    async with bucket(tmp_path) as (there, peer):
        access = there.access(s3__overwrite="no")
        await there.deliver("f", b"one", access=access)
        with pytest.raises(RemoteName) as caught:
            await there.deliver("f", b"two", access=access)
        assert caught.value.remote_code == "PreconditionFailed"
        assert peer.get("f") == b"one"


async def test_checksums_go_along_and_come_back(tmp_path: Path) -> None:
    """CRC-32C of small objects and of parts, compared by the service and by us."""
    async with bucket(tmp_path, MOTO) as (there, peer):
        access = there.access(
            s3__requestChecksumCalculation="WHEN_SUPPORTED",
            s3__responseChecksumValidation="WHEN_SUPPORTED",
        )
        await there.deliver("small", b"content", access=access)
        assert (await there.fetch("small", access=access))[0] == b"content"
        async with there.session(access) as module:
            assert await module.checksum("/small", "crc32c") is not None
            md5 = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
            assert await module.checksum("/small", "md5") == md5
        content = pattern(11 * MIB)
        await there.deliver("big", content, access=access)
        assert peer.get("big") == content


async def test_a_role_is_assumed_once_for_all_sessions(tmp_path: Path) -> None:
    """Temporary keys sign; they are asked for again only when they are old."""
    async with bucket(tmp_path, MOTO, proxied=True) as (there, peer):
        there.extra |= {
            "s3.roleArn": "arn:aws:iam::123456789012:role/feed",
            "s3.externalId": "secret-id",
            "s3.stsUrl": f"http://127.0.0.1:{peer.port}",
        }
        access = there.access()
        for number in range(3):
            await there.deliver(f"{number}", b"x", access=access)
        assert peer.names() == ["0", "1", "2"]
        facts = there.around.memory._facts
        kept = [text for (module, _, _), text in facts.items() if module == "s3" and "{" in text]
        assert len(kept) == 1
        assert json.loads(kept[0])["SessionToken"]


async def test_keys_of_the_machine_need_permission(tmp_path: Path) -> None:
    """Whoever edits a host could else use what the machine may do."""
    async with bucket(tmp_path) as (there, _):
        there.extra["s3.credentials"] = "instance"
        with pytest.raises(RemoteConfig, match="egress_allow"):
            await there.deliver("f", b"x")


async def test_a_large_copy_is_made_in_parts(tmp_path: Path) -> None:
    """By the service: where one request does not copy so much."""
    content = pattern(11 * MIB)
    async with bucket(tmp_path) as (there, peer):
        peer.put("d/f g", content)
        async with there.session() as module:
            assert isinstance(module, S3Module)
            entry = await module.stat("/d/f g")
            original = Original(bucket=peer.bucket, key="d/f g", size=11 * MIB, tag=entry.etag)
            limit = timedelta(seconds=20)
            copier = Copier(module._client, module._putter, limit, largest=5 * MIB)
            await copier.copy(original, peer.bucket, "copy", {})
        assert peer.get("copy") == content


async def test_listings_are_flat_when_told(tmp_path: Path) -> None:
    """All levels or so many; a pattern is asked for by its beginning."""
    async with bucket(tmp_path) as (there, peer):
        for name in ("d/a.grib", "d/b.txt", "d/x/c.grib", "d/x/y/e.grib"):
            peer.put(name, b"x")

        async def listed(wildcard: str = "", **given: object) -> list[str]:
            async with there.session(there.access(**given)) as module:
                found = [e.name async for e in module.list("/d", filter_text=wildcard)]
            return sorted(found)

        assert await listed() == ["a.grib", "b.txt", "x"]
        assert await listed("a*") == ["a.grib"]
        everything = ["a.grib", "b.txt", "x/c.grib", "x/y/e.grib"]
        assert await listed(s3__recursiveLevel=0) == everything
        assert await listed(s3__recursiveLevel=2) == everything[:3]
