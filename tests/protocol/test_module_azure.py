"""`genericAzure`: who may ask, blocks side by side, what a break leaves, what is compared."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from aiohttp import web

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.conformance.faultproxy import FaultProxy, drop
from ecpds.conformance.peer import Peer
from ecpds.conformance.site import KIB, MIB, Flowing, descriptor_of, pattern
from ecpds.model.errors import (
    RemoteAuth,
    RemoteConfig,
    RemoteMissing,
    RemoteName,
    RemoteTransient,
    RemoteVerify,
)
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.azure import AzureModule
from ecpds.transfer.contract import ByteSource, Delivered, Partial, Surroundings, TransferModule
from ecpds.transfer.deliver import deliver
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import ContentSource
from tests.peers.azurite import ACCOUNT, KEY, AzuritePeer, account_url, azurite, service
from tests.protocol.api import rig as node

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module", autouse=True)
def _azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the emulator for this file."""
    with service(tmp_path_factory.mktemp("azurite")):
        yield


@dataclass
class Rig:
    """A container, and what talks to it."""

    peer: AzuritePeer
    around: Surroundings
    pool: Pool
    partials: list[Partial | None] = field(default_factory=list)

    def access(
        self, peer: Peer | None = None, *, login: str = ACCOUNT, password: str = KEY,
        **options: object,
    ) -> Access:  # fmt: skip
        """Return how the host is used."""
        given: dict[str, object] = {
            "url": account_url(peer or self.peer), "containerName": self.peer.container,
            "multipartSize": "1MB", "blockSize": "256KB", "numBuffers": 4, "disableRetries": "yes",
        } | options  # fmt: skip
        host = Host(
            name="h", method="genericAzure", host="account.example", login=login,
            password=Secret(password),
            options={f"azure.{key}": value for key, value in given.items()}
            | {"ectrans.retryCount": 0},
        )  # fmt: skip
        return Registry([AzureModule]).access(host)

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[TransferModule[Any]]:
        async with self.pool.session(self.access(**options)) as module:
            yield module

    async def put(
        self,
        content: bytes | ByteSource,
        access: Access | None = None,
        *,
        partial: Partial | None = None,
        digests: dict[str, str] | None = None,
    ) -> Delivered:
        """Deliver as `f`."""
        access = access or self.access()
        if isinstance(content, bytes):
            with descriptor_of(content) as file:
                source = ContentSource(file, len(content), threads=self.around.threads)
                return await self._put(source, access, len(content), partial, digests)
        return await self._put(content, access, content.size, partial, digests)

    async def _put(
        self,
        source: ByteSource,
        access: Access,
        size: int,
        partial: Partial | None,
        digests: dict[str, str] | None,
    ) -> Delivered:
        async with self.pool.session(access) as module:
            return await deliver(
                module, "f", source, size=size, rules=access.delivery, clock=self.around.clock,
                version="1", partial=partial, on_partial=self.partials.append, digests=digests,
            )  # fmt: skip


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    try:
        async with azurite(folder) as peer:
            assert isinstance(peer, AzuritePeer)
            made = Rig(peer, around, Pool(around))
            yield made
            await made.pool.close()
    finally:
        await asyncio.to_thread(threads.close)


def signature(container: str, *, ends: timedelta = timedelta(hours=1), may: str = "racwdl") -> str:
    """Return a service SAS for a container, by the rules of Microsoft's page."""
    end = f"{SystemClock().now() + ends:%Y-%m-%dT%H:%M:%SZ}"
    lines = [
        may, "", end, f"/blob/{ACCOUNT}/{container}", "", "", "", "2021-12-02", "c", "", "", "",
        "", "", "", "",
    ]  # fmt: skip
    digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    query = {"sv": "2021-12-02", "sr": "c", "sp": may, "se": end,
             "sig": base64.b64encode(digest).decode()}  # fmt: skip
    return urlencode(query)


async def test_a_shared_access_signature(tmp_path: Path) -> None:
    """Enough without login; read-only ones do not write; over ones are refused."""
    async with rig(tmp_path) as there:
        token = signature(there.peer.container)
        await there.put(pattern(2 * MIB), there.access(password="", sasToken="?" + token))
        assert there.peer.get("f") == pattern(2 * MIB)
        for bad in (
            signature(there.peer.container, may="rl"),
            signature(there.peer.container, ends=-timedelta(hours=1)),
            token.replace("sig=", "sig=AAAA"),
        ):
            with pytest.raises(RemoteAuth) as caught:
                await there.put(b"x", there.access(password="", sasToken=bad))
            assert "sig" not in f"{caught.value} {caught.value.facts}"


async def test_a_signature_from_an_address(tmp_path: Path) -> None:
    """Asked for by the subscription key, once until shortly before its end."""
    asked: list[str] = []

    async def give(request: web.Request) -> web.Response:
        asked.append(request.headers["Ocp-Apim-Subscription-Key"])
        return web.json_response({"token": signature(request.query["container"])})

    async with rig(tmp_path) as there, serving(give) as url:
        access = there.access(
            password="", sasUrl=f"{url}?container={there.peer.container}",
            sasSubscriptionKey="hush",
        )  # fmt: skip
        for content in (b"one", b"two"):
            await there.put(content, access)
            assert there.peer.get("f") == content
        assert asked == ["hush"]


async def test_a_managed_identity_sends_a_bearer_token(tmp_path: Path) -> None:
    """Got from the machine's own address."""
    seen: list[dict[str, str]] = []

    async def give(request: web.Request) -> web.Response:
        if request.path == "/token":
            assert request.headers["Metadata"] == "true"
            seen.append(dict(parse_qsl(request.query_string)))
            return web.json_response({"access_token": "abc", "expires_in": "3600"})
        seen.append({"authorization": request.headers["Authorization"]})
        return web.Response(status=403, headers={"x-ms-error-code": "AuthenticationFailed"})

    async with rig(tmp_path) as there, serving(give) as url:
        access = there.access(
            password="", url=url, userAssignedClientId="id1", identityUrl=f"{url}/token"
        )
        with pytest.raises(RemoteAuth, match="AuthenticationFailed"):
            await there.put(b"x", access)
        assert seen[0]["client_id"] == "id1"
        assert seen[0]["resource"] == "https://storage.azure.com/"
        assert seen[1] == {"authorization": "Bearer abc"}


@asynccontextmanager
async def serving(handle: Any) -> AsyncIterator[str]:
    """Answer every request by `handle`; gives the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_blocks_go_side_by_side(tmp_path: Path) -> None:
    """From a file and from content that comes in order; whatever is no multiple is right too."""
    async with rig(tmp_path) as there:
        content = os.urandom(5 * MIB + 123)
        assert (await there.put(content)).sent == len(content)
        assert there.peer.get("f") == content
        again = os.urandom(3 * MIB + 1)
        await there.put(Flowing(again, announced=-1))
        assert there.peer.get("f") == again


async def test_a_broken_upload_goes_on_in_another_process(tmp_path: Path) -> None:
    """The blocks that the service has are not sent again; on the wire it is hardly more than once.

    The state that is told before the first byte is enough, as after kill -9.
    """
    async with rig(tmp_path) as there:
        content = os.urandom(8 * MIB)
        fault = drop(after=4 * MIB)
        async with FaultProxy(there.peer, fault) as proxy:
            access = there.access(proxy.peer, numBuffers=1)
            with pytest.raises(RemoteTransient):
                await there.put(content, access)
            assert there.peer.names() == []
            told = there.partials[1]
            assert told is not None
            assert told.offset == 0
            again = Rig(there.peer, there.around, there.pool)
            done = await again.put(content, access, partial=told)
            assert 3 * MIB <= done.resumed_at < 4 * MIB
            assert there.peer.get("f") == content
            assert sum(proxy.passed.values()) < 1.1 * len(content)


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Blocks of a file are read while they are sent."""
    async with rig(tmp_path) as there:
        access = there.access(blockSize="16MB", multipartSize="1MB")
        with (tmp_path / "big").open("wb") as file:
            file.truncate(64 * MIB)
        descriptor = os.open(tmp_path / "big", os.O_RDONLY)
        try:
            source = ContentSource(descriptor, 64 * MIB, threads=there.around.threads)
            tracemalloc.start()
            await there.put(source, access)
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()
            os.close(descriptor)


async def test_what_the_service_compares(tmp_path: Path) -> None:
    """A known MD5 goes with the content and is kept; another one is a failed transfer."""
    async with rig(tmp_path) as there:
        content = pattern(300 * KIB)
        right = hashlib.md5(content, usedforsecurity=False).hexdigest()
        await there.put(content, digests={"md5": right})
        async with there.session() as module:
            assert await module.checksum("f", "md5") == right
            assert await module.checksum("f", "sha256") is None
        with pytest.raises(RemoteVerify, match="Md5Mismatch"):
            await there.put(content, digests={"md5": "0" * 32})
        large = pattern(2 * MIB)
        await there.put(large, there.access(useMD5="yes"))
        async with there.session() as module:
            expected = hashlib.md5(large, usedforsecurity=False).hexdigest()
            assert await module.checksum("f", "md5") == expected


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_blobs_that_may_not_be_replaced(tmp_path: Path, size: int) -> None:
    """`azure.overwrite = no`."""
    async with rig(tmp_path) as there:
        there.peer.put("f", b"old")
        with pytest.raises(RemoteName, match="BlobAlreadyExists"):
            await there.put(pattern(size), there.access(overwrite="no"))
        assert there.peer.get("f") == b"old"


async def test_containers(tmp_path: Path) -> None:
    """A missing one is an option's fault where it is one, made when told, else part of the name."""
    async with rig(tmp_path) as there:
        with pytest.raises(RemoteConfig, match="ContainerNotFound"):
            await there.put(b"x", there.access(containerName="none"))
        made = f"{there.peer.container}x"
        await there.put(b"x", there.access(containerName=made, mkContainer="yes"))
        async with there.session(containerName="") as module:
            assert (await module.stat(f"/{made}/f")).size == 1
            with pytest.raises(RemoteMissing):
                await module.stat("/none/f")
            with pytest.raises(RemoteName):
                await module.stat("/")
        async with there.session(containerName=made, prefix="a/b") as module:
            assert [entry async for entry in module.list("")] == []


async def test_a_listing_has_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it takes, each entry once, folders among them."""
    monkeypatch.setattr("ecpds.modules.azure.LISTED", 2)
    async with rig(tmp_path) as there:
        for name in ("a", "b", "c", "d/x", "d/y", "e"):
            there.peer.put(name, b"x")
        async with there.session() as module:
            found = [entry.name async for entry in module.list("")]
        assert sorted(found) == ["a", "b", "c", "d", "e"]


async def test_an_account_that_nobody_named(tmp_path: Path) -> None:
    """The host's name is the account's address when there is no `azure.url`."""
    async with rig(tmp_path) as there:
        target = there.access(url="").target
        assert AzureModule.address(target, there.access(url="").options) == (  # type: ignore[arg-type]
            "account.example",
            443,
        )
        with pytest.raises(RemoteConfig, match=r"azure\.url"):
            await there.put(b"x", there.access(url="account.example"))


async def test_a_node_delivers_and_acquires(tmp_path: Path) -> None:
    """From an upload to the container, and from there into another destination."""
    async with azurite(tmp_path) as peer, node(tmp_path, run=True) as hub:
        assert isinstance(peer, AzuritePeer)
        options = {
            "azure.url": account_url(peer), "azure.containerName": peer.container,
            "azure.multipartSize": "1MB", "azure.blockSize": "256KB",
        }  # fmt: skip
        common = {"method": "genericAzure", "login": ACCOUNT, "password": KEY, "options": options}
        out = {"name": "out", "role": "dissemination", "directory": "feed/", **common}
        into = {"name": "into", "role": "acquisition", "directory": "/feed/{.*}", **common}
        for body in (out, into):
            made = await hub.admin.post("/hosts", body)
            assert made.ok, made.text
            told = (await hub.admin.post(f"/hosts/{body['name']}/actions/test")).json
            assert told["ok"], told
        await hub.node.destination("OUT", hosts=("out",))
        content = os.urandom(3 * MIB)
        sent = await hub.admin.upload(content, destination="OUT", target="a b.grib")
        await hub.transfer(sent.json["transfers"][0]["id"], status="done")
        assert peer.names() == ["feed/a b.grib"]
        assert peer.get("feed/a b.grib") == content
        await hub.node.destination("IN", hosts=("into",), acquisition=True)
        deadline = asyncio.get_running_loop().time() + 30
        while not (found := (await hub.admin.get("/transfers?destination=IN")).items) or (
            found[0]["status"] in ("arriving", "fetching", "preset")
        ):
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.05)
        got = await hub.admin.get(f"/files/{found[0]['data_file_id']}/content")
        assert got.body == content
