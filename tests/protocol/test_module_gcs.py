"""`genericGcs` against a strict service of our own: logins, sessions, paging, refusals.

The emulator of the conformance suite checks no login, pages nothing and keeps every byte; this one
is as strict as Google's documents.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from crc32c import crc32c
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.conformance.site import KIB, Collected, Flowing, descriptor_of, pattern
from ecpds.model.errors import (
    ConnectionLost,
    RemoteAuth,
    RemoteConfig,
    RemoteError,
    RemoteName,
    RemoteTransient,
    RemoteVerify,
)
from ecpds.model.host import Host
from ecpds.modules.gcs import GcsModule
from ecpds.transfer.contract import ByteSource, Delivered, Partial, Surroundings, TransferModule
from ecpds.transfer.deliver import deliver
from ecpds.transfer.fetch import fetch
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import ContentSource

QUANTUM = 256 * KIB
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


@dataclass
class Store:
    """A bucket `b`, and what shall go wrong."""

    objects: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    puts: list[str] = field(default_factory=list)  # Content-Range of each chunk
    refuse: int = 0  # requests that get 503
    cut_at: int = -1  # the connection breaks when a session has so many bytes
    says_crc: str = ""
    revoked: bool = False

    def check(self, request: web.Request) -> None:
        """Refuse whoever has no token of ours; answer 503 as often as told."""
        if self.refuse:
            self.refuse -= 1
            raise web.HTTPServiceUnavailable
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if given not in self.tokens or self.revoked:
            raise web.HTTPUnauthorized(
                text=json.dumps({"error": {"message": "no", "errors": [{"reason": "authError"}]}})
            )

    async def token(self, request: web.Request) -> web.Response:
        """Give a token for a good assertion."""
        form = parse_qs(await request.text())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        head, body, signature = form["assertion"][0].split(".")
        KEY.public_key().verify(
            part(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        self.claims.append(json.loads(part(head)) | json.loads(part(body)))
        self.tokens.append(f"t{len(self.tokens)}")
        return web.json_response({"access_token": self.tokens[-1], "expires_in": 3600})

    def described(self, name: str) -> dict[str, str]:
        content = self.objects[name]
        crc = base64.b64encode(crc32c(content).to_bytes(4, "big")).decode()
        return {
            "name": name, "size": str(len(content)), "generation": "7",
            "updated": "2025-03-04T05:06:07.000Z", "crc32c": self.says_crc or crc,
        }  # fmt: skip

    async def page(self, request: web.Request) -> web.Response:
        """List two names at a time."""
        self.check(request)
        if request.match_info["bucket"] != "b":
            text = json.dumps({"error": {"message": "The specified bucket does not exist."}})
            return web.Response(status=404, text=text)
        names = sorted(n for n in self.objects if n.startswith(request.query.get("prefix", "")))
        start = int(request.query.get("pageToken", 0))
        answer: dict[str, Any] = {"items": [self.described(n) for n in names[start : start + 2]]}
        if start + 2 < len(names):
            answer["nextPageToken"] = str(start + 2)
        return web.json_response(answer)

    async def one(self, request: web.Request) -> web.StreamResponse:
        """Tell of one object, or give it."""
        self.check(request)
        name = request.match_info["name"]
        if name not in self.objects:
            return web.Response(status=404)
        if request.query.get("alt") != "media":
            return web.json_response(self.described(name))
        if request.query.get("ifGenerationMatch", "7") != "7":
            return web.Response(status=412)
        content = self.objects[name]
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        return web.Response(status=206 if start else 200, body=content[start:])

    async def begin(self, request: web.Request) -> web.Response:
        """Take a small object, or open a session."""
        self.check(request)
        name = request.query["name"]
        if request.query["uploadType"] == "media":
            self.objects[name] = await request.read()
            return web.json_response(self.described(name))
        number = str(len(self.sessions))
        self.sessions[number], self.names[number] = bytearray(), name
        # another host, as behind a load balancer: only the path counts
        where = f"http://elsewhere.invalid/upload/storage/v1/b/b/o?upload_id={number}"
        return web.Response(headers={"Location": where})

    async def chunk(self, request: web.Request) -> web.Response:
        """Take a chunk as Google does: in multiples of 256 KiB but for the last one."""
        number = request.query["upload_id"]
        kept = self.sessions.get(number)
        if kept is None:
            return web.Response(status=410)
        told, _, whole = request.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if told != "*":
            self.puts.append(f"{told}/{whole}")
            self.check(request)
            start, _, end = told.partition("-")
            assert int(start) == len(kept)
            assert whole != "*" or (int(end) + 1 - int(start)) % QUANTUM == 0
            await self.take(request, kept)
        if whole != "*" and len(kept) == int(whole):
            self.objects[self.names[number]] = bytes(self.sessions.pop(number))
            return web.json_response(self.described(self.names[number]))
        headers = {"Range": f"bytes=0-{len(kept) - 1}"} if kept else {}
        return web.Response(status=308, headers=headers)

    async def take(self, request: web.Request, kept: bytearray) -> None:
        whole = bytearray(kept)
        async for block in request.content.iter_any():
            whole += block
            if 0 <= self.cut_at <= len(whole):
                kept[:] = whole[: self.cut_at // QUANTUM * QUANTUM]
                self.cut_at = -1
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
        kept[:] = whole

    async def drop(self, request: web.Request) -> web.Response:
        """End a session."""
        gone = self.sessions.pop(request.query["upload_id"], None) is None
        return web.Response(status=410 if gone else 499)


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Rig:
    """The service, and what talks to it."""

    store: Store
    url: str
    around: Surroundings
    pool: Pool
    partials: list[Partial | None] = field(default_factory=list)

    def access(self, **options: object) -> Access:
        """Return how the host is used."""
        given: dict[str, object] = {
            "url": self.url, "bucketName": "b", "tokenUrl": f"{self.url}/token",
            "clientEmail": "feed@project.example", "privateKey": PEM, "privateKeyId": "k1",
            "multipartSize": "256KB", "chunkSize": "512KB", "disableRetries": "yes",
        } | options  # fmt: skip
        host = Host(
            name="h", method="genericGcs", host="storage.example",
            options={f"gcs.{key}": value for key, value in given.items()}
            | {"ectrans.retryCount": 0},
        )  # fmt: skip
        return Registry([GcsModule]).access(host)

    @asynccontextmanager
    async def session(self, **options: object) -> AsyncIterator[TransferModule[Any]]:
        async with self.pool.session(self.access(**options)) as module:
            yield module

    async def put(
        self, content: bytes | ByteSource, *, partial: Partial | None = None, **options: object
    ) -> Delivered:
        """Deliver as `f`."""
        access = self.access(**options)
        if isinstance(content, bytes):
            with descriptor_of(content) as file:
                source = ContentSource(file, len(content), threads=self.around.threads)
                return await self._put(access, source, len(content), partial)
        return await self._put(access, content, content.size, partial)

    async def _put(
        self, access: Access, source: ByteSource, size: int, partial: Partial | None
    ) -> Delivered:
        async with self.pool.session(access) as module:
            return await deliver(
                module, "f", source, size=size, rules=access.delivery, clock=self.around.clock,
                version="1", partial=partial, on_partial=self.partials.append,
            )  # fmt: skip


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """Start the service on a free port."""
    store, threads = Store(), Threads()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/token", store.token)
    app.router.add_get("/storage/v1/b/{bucket}/o", store.page)
    app.router.add_get("/storage/v1/b/b/o/{name:.+}", store.one)
    app.router.add_post("/upload/storage/v1/b/b/o", store.begin)
    app.router.add_put("/upload/storage/v1/b/b/o", store.chunk)
    app.router.add_delete("/upload/storage/v1/b/b/o", store.drop)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    around = Surroundings(threads=threads, clock=SystemClock())
    made = Rig(store, f"http://127.0.0.1:{runner.addresses[0][1]}", around, Pool(around))
    try:
        yield made
        await made.pool.close()
    finally:
        await runner.cleanup()
        await asyncio.to_thread(threads.close)


async def test_a_service_account_gets_a_token_once() -> None:
    """Signed by its key, for the token address; other sessions use the same token."""
    async with rig() as there:
        for _ in range(2):
            async with there.session(keepAlive="0s") as module:
                assert [entry async for entry in module.list("")] == []
        (claims,) = there.store.claims
        assert (claims["alg"], claims["kid"]) == ("RS256", "k1")
        assert claims["iss"] == "feed@project.example"
        assert claims["aud"] == f"{there.url}/token"
        assert claims["exp"] - claims["iat"] == 3600


async def test_a_key_file_says_all() -> None:
    """The JSON that Google's console gives."""
    async with rig() as there:
        text = json.dumps({"client_email": "x@y", "private_key": PEM, "private_key_id": "k2"})
        async with there.session(credentials=text, privateKey="", clientEmail="") as module:
            assert [entry async for entry in module.list("")] == []
        assert (there.store.claims[0]["iss"], there.store.claims[0]["kid"]) == ("x@y", "k2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"privateKey": ""}, "no service account"),
        ({"privateKey": "hush"}, "private key"),
        ({"credentials": "{}"}, "key file"),
        ({"url": "ftp://x"}, "gcs.url"),
        ({"url": "http://user:pass@x"}, "without a login"),
    ],
)
async def test_a_login_that_cannot_be(options: dict[str, object], said: str) -> None:
    """Told as an option, without the secret."""
    async with rig() as there:
        with pytest.raises(RemoteConfig, match=said) as caught:
            async with there.session(**options) as module:
                assert [entry async for entry in module.list("")] == []
        assert "hush" not in str(caught.value)


async def test_a_refused_token_is_not_used_again() -> None:
    """The next session asks for another one."""
    async with rig() as there:
        there.store.revoked = True
        with pytest.raises(RemoteAuth):
            async with there.session() as module:
                await module.stat("f")
        there.store.revoked = False
        async with there.session() as module:
            assert [entry async for entry in module.list("")] == []
        assert len(there.store.claims) == 2


async def test_a_listing_in_pages() -> None:
    """All names, each once, with size, time and folder-free names."""
    async with rig() as there:
        there.store.objects = {f"d/{n}": b"x" * n for n in range(7)}
        async with there.session() as module:
            found = {entry.name: entry.size async for entry in module.list("d")}
        assert found == {str(n): n for n in range(7)}
        with pytest.raises(RemoteConfig, match="bucket does not exist"):
            async with there.session(bucketName="none") as module:
                assert [entry async for entry in module.list("")] == []


@pytest.mark.parametrize("size", [0, 1, QUANTUM, 2 * QUANTUM, 2 * QUANTUM + 1, 5 * QUANTUM + 7])
@pytest.mark.parametrize("is_flow", [False, True])
async def test_chunks_are_as_the_service_wants_them(size: int, is_flow: bool) -> None:
    """Multiples of 256 KiB, the last one with the size of the whole."""
    async with rig() as there:
        content = pattern(size)
        source = Flowing(content, announced=-1) if is_flow else content
        done = await there.put(source, multipartSize="0B")
        assert done.sent == size
        assert there.store.objects == {"f": content}
        assert there.store.sessions == {}
        assert len(there.store.puts) == -(-size // (2 * QUANTUM))


async def test_a_broken_upload_goes_on_in_another_process() -> None:
    """What the service keeps is not sent again; the state is told before the first byte."""
    async with rig() as there:
        content = os.urandom(8 * QUANTUM)
        there.store.cut_at = 5 * QUANTUM + 1000
        with pytest.raises(ConnectionLost):
            await there.put(content)
        told = there.partials[1]
        assert told is not None
        assert "upload_id=0" in told.state
        async with there.session() as module:  # another one: nothing is known in it
            assert await module.uploaded("f", told.state) == 5 * QUANTUM
        there.store.puts.clear()
        # what was stored before the first byte is enough, as after kill -9
        done = await there.put(content, partial=told)
        assert (done.resumed_at, done.sent) == (5 * QUANTUM, 3 * QUANTUM)
        assert there.store.puts[0].startswith(f"{5 * QUANTUM}-")
        assert there.store.objects == {"f": content}


async def test_a_broken_chunk_goes_on_inside_the_attempt() -> None:
    """Unless retries are switched off."""
    async with rig() as there:
        content = os.urandom(8 * QUANTUM)
        there.store.cut_at = 5 * QUANTUM + 1000
        done = await there.put(content, disableRetries="no")
        assert done.sent == len(content)
        assert there.store.objects == {"f": content}


async def test_a_session_that_is_gone() -> None:
    """Begun anew."""
    async with rig() as there:
        left = Partial(name="f", offset=QUANTUM, version="1", state=f"{there.url}/upload/storage/v1/b/b/o?upload_id=9")  # fmt: skip  # noqa: E501
        content = os.urandom(3 * QUANTUM)
        assert (await there.put(content, partial=left)).resumed_at == 0
        assert there.store.objects == {"f": content}


async def test_another_content_than_was_sent() -> None:
    """The CRC-32C and the MD5 that the service tells are compared."""
    async with rig() as there:
        there.store.says_crc = "AAAAAA=="
        with pytest.raises(RemoteVerify, match="CRC-32C"):
            await there.put(os.urandom(3 * QUANTUM))


async def test_a_busy_service_is_asked_again() -> None:
    """And given up after some tries."""
    async with rig() as there:
        there.store.refuse = 2
        async with there.session(disableRetries="no") as module:
            assert [entry async for entry in module.list("")] == []
        there.store.refuse = 100
        with pytest.raises(RemoteTransient):
            async with there.session() as module:
                await module.stat("f")


async def test_an_object_that_changes_under_a_download() -> None:
    """Two generations are never mixed."""
    async with rig() as there:
        there.store.objects["f"] = pattern(QUANTUM)
        access = there.access()
        async with there.pool.session(access) as module:
            await module.stat("f")
            sink = Collected()
            await fetch(module, "f", sink, around=there.around, watch=access.fetching, offset=1000)
            assert bytes(sink.content) == pattern(QUANTUM)[1000:]
            assert isinstance(module, GcsModule)
            module._tags["f"] = "6"
            with pytest.raises(RemoteVerify):
                await fetch(module, "f", sink, around=there.around, watch=access.fetching, offset=9)


async def test_names_without_bucket_or_object() -> None:
    """Are refused before anything is asked."""
    async with rig() as there:
        async with there.session(bucketName="") as module:
            for name in ("/", "b", "b/"):
                with pytest.raises(RemoteName):
                    await module.stat(name)
        with pytest.raises(RemoteError):
            async with there.session() as module:
                await module.stat("none")


async def test_a_token_of_the_machine(tmp_path: Path) -> None:
    """`gcs.metadataUrl`."""
    async with rig() as there:

        async def given(request: web.Request) -> web.Response:
            assert request.headers["Metadata-Flavor"] == "Google"
            there.store.tokens.append("machine")
            return web.json_response({"access_token": "machine", "expires_in": 60})

        app = web.Application()
        app.router.add_get("/token", given)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
            async with there.session(metadataUrl=url, privateKey="") as module:
                assert [entry async for entry in module.list("")] == []
        finally:
            await runner.cleanup()
