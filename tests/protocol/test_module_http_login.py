"""Digest, tokens, and proxies of the HTTP module."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.errors import RemoteAuth, RemoteConfig, RemoteError, RemoteName, RemoteTransient
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.http_options import HttpOptions
from ecpds.transfer.contract import Surroundings, Target
from ecpds.transfer.proxies import parse_proxy
from ecpds.transfer.registry import Registry
from ecpds.transfer.source import BytesSource
from tests.conformance.cases import CASES, Case
from tests.peers.nginx import nginx
from tests.protocol.relay import Relay
from tests.protocol.scripted_http import Request, ScriptedHttp, answer

THROUGH = ("sftp-openssh", "ftp-vsftpd", "ftp-vsftpd-tls")
ALICE = Target(host_name="h", host="127.0.0.1", login="alice", password=Secret("s3cret"))


async def content(module: Any, name: str) -> bytes:
    """Return a whole file."""
    return b"".join([block async for block in module.get(name)])


def parts_of(header: str) -> Mapping[str, str]:
    """Return the fields of a Digest header."""
    found = re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', header)
    return {key: quoted or bare for key, quoted, bare in found}


class DigestServer:
    """Checks what RFC 7616 says, each count once."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.nonce = "n1"
        self.counts: list[str] = []

    def _hash(self, text: str) -> str:
        name = {"MD5": "md5", "SHA-256": "sha256"}[self.algorithm.removesuffix("-sess")]
        return hashlib.new(name, text.encode()).hexdigest()

    async def __call__(self, request: Request, writer: Any) -> None:
        await request.read()
        if self._is_good(request):
            await answer(200, b"content", read=False)(request, writer)
            return
        challenge = (
            f'Digest realm="a, \\"b\\"", nonce="{self.nonce}", qop="auth,auth-int", opaque="o",'
            f" algorithm={self.algorithm}"
        )
        await answer(401, read=False, WWW_Authenticate=challenge)(request, writer)

    def _is_good(self, request: Request) -> bool:
        given = parts_of(request.headers.get("authorization", ""))
        if given.get("nonce") != self.nonce or given.get("nc") in self.counts:
            return False
        first = self._hash('alice:a, "b":s3cret')
        if self.algorithm.endswith("-sess"):
            first = self._hash(f"{first}:{self.nonce}:{given['cnonce']}")
        second = self._hash(f"{request.method}:{request.target}")
        middle = f"{self.nonce}:{given['nc']}:{given['cnonce']}:auth"
        self.counts.append(given["nc"])
        return given["response"] == self._hash(f"{first}:{middle}:{second}")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "MD5-sess"])
async def test_digest(algorithm: str) -> None:
    """The challenge is answered once; later requests, uploads too, come with the answer."""
    async with ScriptedHttp() as server:
        check = DigestServer(algorithm)
        server.routes["GET *"] = server.routes["PUT *"] = check
        async with server.session(target=ALICE, auth_header=False, dav="no") as module:
            assert await content(module, "/f?x=1") == b"content"
            assert await content(module, "/g") == b"content"
            assert await module.put("/p", BytesSource(b"x" * 1000)) == 1000
            assert check.counts == ["00000001", "00000002", "00000003"]
            assert len(server.requests) == 4
            check.nonce, check.counts = "n2", []  # the server has forgotten the old one
            assert await module.put("/p", BytesSource(b"x" * 1000)) == 1000
        async with server.session(
            target=ALICE, password=Secret("wrong"), auth_header=False, dav="no"
        ) as module:
            with pytest.raises(RemoteAuth):
                await content(module, "/f")
        async with server.session(
            target=ALICE, auth_header=False, credentials=False, dav="no"
        ) as module:
            with pytest.raises(RemoteAuth):
                await content(module, "/f")


# --- tokens --------------------------------------------------------------------------------------


class Tokens:
    """An identity provider."""

    def __init__(self) -> None:
        self.given = 0
        self.valid = ""
        self.expires: object = 3600
        self.asked: list[tuple[Mapping[str, list[str]], Mapping[str, str]]] = []

    async def __call__(self, request: Request, writer: Any) -> None:
        body = await request.read()
        self.asked.append((parse_qs(body.decode()), request.headers))
        self.given += 1
        self.valid = f"t{self.given}"
        text = json.dumps({"data": {"access_token": self.valid, "expires_in": self.expires}})
        await answer(200, text.encode(), read=False)(request, writer)

    async def check(self, request: Request, writer: Any) -> None:
        """Answer only with the valid token."""
        good = request.headers.get("authorization") == f"Bearer {self.valid}"
        await answer(200 if good else 401, b"content")(request, writer)


def token_options(url: str, **options: Any) -> dict[str, Any]:
    return {
        "token_url": url,
        "oauth_client": "me",
        "oauth_secret": Secret("very secret"),
        "token_path": "data.access_token",
        "token_expiry": "data.expires_in",
        "dav": "no",
    } | options


async def test_a_token_is_fetched_kept_and_renewed() -> None:
    tokens = Tokens()
    async with ScriptedHttp() as idp, ScriptedHttp() as server:
        idp.routes["POST /token"] = tokens
        server.routes["GET *"] = tokens.check
        options = token_options(f"{idp.url}/token", oauth_scope="read")
        for _ in range(2):  # also by the next session of the same host
            async with server.session(**options) as module:
                assert await content(module, "/f") == b"content"
        assert tokens.given == 1
        form, _ = tokens.asked[0]
        assert form == {
            "grant_type": ["client_credentials"],
            "scope": ["read"],
            "client_id": ["me"],
            "client_secret": ["very secret"],
        }
        async with server.session(**options) as module:
            tokens.valid = "withdrawn"
            assert await content(module, "/f") == b"content"
        assert tokens.given == 2


async def test_a_token_without_end_is_fetched_each_time() -> None:
    tokens = Tokens()
    tokens.expires = None
    async with ScriptedHttp() as idp, ScriptedHttp() as server:
        idp.routes["POST /token"] = tokens
        server.routes["GET *"] = tokens.check
        options = token_options(
            f"{idp.url}/token", oauth_grant="password", oauth_client_auth="basic"
        )
        async with server.session(target=ALICE, **options) as module:
            await content(module, "/f")
            await content(module, "/f")
        form, headers = tokens.asked[0]
        assert tokens.given == 2
        assert form["username"] == ["alice"]
        assert headers["authorization"].startswith("Basic ")


async def test_no_token_is_an_error_without_secrets() -> None:
    async with ScriptedHttp() as idp, ScriptedHttp() as server:
        for handler, kind in (
            (answer(401, b"no"), RemoteAuth),
            (answer(500), RemoteConfig),
            (answer(200, b"{"), RemoteConfig),
            (answer(200, b'{"data": {"access_token": "a\\nb"}}'), RemoteConfig),
        ):
            idp.routes["POST /token"] = handler
            async with server.session(**token_options(f"{idp.url}/token")) as module:
                with pytest.raises(kind) as caught:
                    await content(module, "/f")
                assert "very secret" not in str(caught.value)


# --- proxies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_socks(tls: bool, tmp_path: Path) -> None:
    """With TLS inside, checked against the name of the host; links to private places stay out."""
    async with nginx(tmp_path, tls=tls) as peer, Relay(login="a", password="b:c") as relay:
        (peer.root / "f").write_bytes(b"content")
        proxy = Secret(f"socks5://a:b%3Ac@127.0.0.1:{relay.port}")
        async with ScriptedHttp() as other:
            target = Target(
                host_name="h", host="localhost", login=peer.login, password=Secret(peer.password)
            )
            options: dict[str, Any] = {"scheme": peer.scheme, "port": peer.port, "proxy": proxy}
            if tls:
                options["ssl_validation"] = False
            async with other.session(target=target, **options) as module:
                assert await content(module, peer.remote("f")) == b"content"
                assert await module.put(peer.remote("g"), BytesSource(b"y" * 100_000)) == 100_000
                with pytest.raises(RemoteName):
                    await content(module, f"{other.url}/f")
            assert {port for _, port in relay.asked} == {peer.port}
            assert (peer.root / "g").read_bytes() == b"y" * 100_000


@pytest.mark.parametrize(
    ("relay", "login", "kind", "text"),
    [
        (Relay(login="a", password="b"), "a:x@", RemoteAuth, "login"),
        (Relay(refuse=True), "", RemoteTransient, "not allowed"),
    ],
)
async def test_a_proxy_that_refuses(
    relay: Relay, login: str, kind: type[RemoteError], text: str
) -> None:
    async with ScriptedHttp() as server, relay:
        proxy = Secret(f"socks5://{login}127.0.0.1:{relay.port}")
        async with server.session(proxy=proxy, dav="no") as module:
            with pytest.raises(kind, match=text):
                await content(module, "/f")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("case", [one for one in CASES if one.name in THROUGH], ids=str)
async def test_ftp_and_sftp_go_through_proxies(case: Case, scheme: str, tmp_path: Path) -> None:
    """`ectrans.proxy`: control, data and SSH connections alike."""
    async with case.server(tmp_path) as peer, Relay(login="a", password="b") as relay:
        options = dict(case.options(peer))
        options["ectrans.proxy"] = f"{scheme}://a:b@127.0.0.1:{relay.port}"
        method = f"generic{case.module.name.capitalize()}"
        host = Host(name="h", method=method, host=peer.host, login=peer.login, options=options)
        access = Registry([case.module]).access(replace(host, password=Secret(peer.password)))
        threads = Threads()
        around = Surroundings(threads=threads, clock=SystemClock())
        try:
            async with access.module.connect(access.target, access.options, around) as module:
                await module.put(peer.remote("f"), BytesSource(b"x" * 300_000))
                assert await content(module, peer.remote("f")) == b"x" * 300_000
        finally:
            await asyncio.to_thread(threads.close)
        assert len(relay.asked) == (1 if case.module.name == "sftp" else 3)
        assert (peer.root / "f").read_bytes() == b"x" * 300_000


def test_proxy_texts() -> None:
    proxy = parse_proxy("socks5://u%40:p%3A@proxy.example", "x")
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.login) == ("proxy.example", 1080, "u@")
    assert proxy.password.reveal() == "p:"
    old = parse_proxy("host=h,protocol=http,port=3128", "x")
    assert old is not None
    assert (old.scheme, old.port) == ("http", 3128)
    assert parse_proxy(" ", "x") is None
    for bad in ("h:1", "ftp://h", "http://", "http://h:99999999"):
        with pytest.raises(RemoteConfig):
            parse_proxy(bad, "x")


async def test_redirects_in_a_circle() -> None:
    async with ScriptedHttp() as server:
        server.routes["GET /a"] = answer(302, Location="/b")
        server.routes["GET /b"] = answer(302, Location="/a")
        async with server.session(dav="no") as module:
            with pytest.raises(RemoteConfig, match="circle"):
                await content(module, "/a")
        assert len(server.asked) == 2
        async with server.session(dav="no", circular_redirects=True) as module:
            with pytest.raises(RemoteConfig, match="more than 5"):
                await content(module, "/a")


def test_the_least_version_of_older_set_ups() -> None:
    assert HttpOptions.read({"http.supportedProtocols": "TLSv1,TLSv1.2"}).least_tls == "TLS"
    assert HttpOptions.read({"http.supportedProtocols": "TLSv1.3"}).least_tls == "TLSv1.3"
