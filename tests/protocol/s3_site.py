"""A small node behind the real S3 portal, and clients for it: boto3 in threads, signed requests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import io
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from xml.etree import ElementTree

import aiohttp
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from yarl import URL

from ecpds.base.clock import SystemClock
from ecpds.base.settings import HttpsSettings, S3Settings
from ecpds.model.account import Permission
from ecpds.model.secret import Secret
from ecpds.portals.https.app import HttpsPortal
from ecpds.portals.s3.portal import S3Portal
from ecpds.portals.s3.service import PREFIX, S3Service
from ecpds.store import accesskeys
from ecpds.store.accesskeys import StoredKey
from tests.node import ALL, SmallNode, small_node
from tests.peers.certificates import Authority

REGION = "us-east-1"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """A key pair in clear."""

    access: str
    secret: str


@dataclass(frozen=True, slots=True)
class Got:
    """An answer read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", self.body))

    @property
    def code(self) -> str:
        """The code of an error."""
        return self.xml.findtext("Code") or ""

    def texts(self, path: str) -> list[str]:
        return [one.text or "" for one in self.xml.findall(path)]


@dataclass(slots=True, kw_only=True)
class Site:
    """A running portal."""

    node: SmallNode
    port: int
    https_port: int
    client: aiohttp.ClientSession
    pairs: dict[str, Pair]
    folder: Path
    ca: Path | None = None
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return "https" if self.ca else "http"

    @property
    def url(self) -> str:
        """The listener with S3 at its root."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def below(self) -> str:
        """S3 on the HTTPS portal."""
        return f"{self.scheme}://127.0.0.1:{self.https_port}{PREFIX}"

    def boto(self, user: str = "alice", *, below: bool = False, **config: Any) -> Any:
        """Return a client of boto3; each of its calls goes through `call`."""
        pair = self.pairs[user]
        return boto3.client(
            "s3",
            endpoint_url=self.below if below else self.url,
            aws_access_key_id=pair.access,
            aws_secret_access_key=pair.secret,
            region_name=REGION,
            verify=str(self.ca) if self.ca else None,
            config=Config(
                retries={"max_attempts": 1},
                s3={"addressing_style": "path"},
                max_pool_connections=20,
                **config,
            ),
        )

    async def call(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a blocking client."""
        return await asyncio.to_thread(act, *args, **kwargs)

    async def refused(self, act: Callable[..., Any], **kwargs: Any) -> str:
        """Run a blocking client and return the code of its error."""
        try:
            await self.call(act, **kwargs)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        raise AssertionError("it was not refused")

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        user: str = "alice",
        below: bool = False,
        **signing: Any,
    ) -> Got:
        """Send one request, signed for `user`; an empty one signs nothing."""
        base = self.below if below else self.url
        sent = dict(headers or {})
        if user:
            content = body if isinstance(body, bytes) else b""
            sent |= sign(self.pairs[user], method, base + target, sent, content, **signing)
        if isinstance(body, bytes) and len(body) > 1 << 20:
            body = io.BytesIO(body)  # aiohttp warns of blocking the loop
        async with self.client.request(
            method, URL(base + target, encoded=True), data=body, headers=sent,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            return Got(answer.status, answer.headers, await answer.read())

    async def idle(self) -> None:
        """Wait until every session is closed."""
        async with asyncio.timeout(10):
            while self.node.gate.sessions():
                await asyncio.sleep(0.005)


def canonical(method: str, url: str, headers: Mapping[str, str], payload: str) -> tuple[str, str]:
    """Return the canonical request and the names of the signed fields."""
    parts = URL(url, encoded=True)
    pairs = []
    for part in filter(None, parts.raw_query_string.split("&")):
        name, _, value = part.partition("=")
        pairs.append((name, value))
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    named = {name.lower(): value.strip() for name, value in headers.items()}
    names = ";".join(sorted(named))
    fields = "".join(f"{name}:{named[name]}\n" for name in sorted(named))
    return f"{method}\n{parts.raw_path or '/'}\n{query}\n{fields}\n{names}\n{payload}", names


def signing_key(secret: str, scope: str) -> bytes:
    """Derive the key of a scope."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(
    pair: Pair,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    payload: str | None = None,
    moment: datetime | None = None,
    region: str = REGION,
) -> dict[str, str]:
    """Return the fields that sign a request."""
    stamp = f"{moment or SystemClock().now():%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    payload = hashlib.sha256(body).hexdigest() if payload is None else payload
    own = {"x-amz-date": stamp, "x-amz-content-sha256": payload}
    signed = {name: text for name, text in headers.items() if name.lower().startswith("x-amz-")}
    host = headers.get("Host", URL(url).raw_authority)
    text, names = canonical(method, url, {**signed, **own, "host": host}, payload)
    digest = hashlib.sha256(text.encode()).hexdigest()
    wanted = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    signature = hmac.digest(signing_key(pair.secret, scope), wanted.encode(), "sha256").hex()
    return own | {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={pair.access}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    }


def presign(
    pair: Pair,
    method: str,
    url: str,
    *,
    expires: int = 60,
    moment: datetime | None = None,
    signed_path: str | None = None,
) -> str:
    """Return an address that is signed itself; `signed_path` is signed instead of its path."""
    stamp = f"{moment or SystemClock().now():%Y%m%dT%H%M%SZ}"
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    own = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{pair.access}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={quote(text, safe='~')}" for name, text in own.items())
    mark = "&" if "?" in url else "?"
    full = f"{url}{mark}{query}"
    over = full
    if signed_path is not None:
        over = full.replace(URL(url, encoded=True).raw_path, signed_path, 1)
    host = URL(url).raw_authority
    text, _ = canonical(method, over, {"host": host}, "UNSIGNED-PAYLOAD")
    digest = hashlib.sha256(text.encode()).hexdigest()
    wanted = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    signature = hmac.digest(signing_key(pair.secret, scope), wanted.encode(), "sha256").hex()
    return f"{full}&X-Amz-Signature={signature}"


async def add_key(
    node: SmallNode, login: str, *, access: str = "", secret: str = "", **facts: Any
) -> Pair:
    """Give a user one more key pair."""
    pair = Pair(access or f"AK{login.upper()}", secret or f"secret-of-{login}-0123456789")
    stored = StoredKey(
        access_key=pair.access, login=login, created_at=node.core.clock.now(),
        secret=node.core.vault.seal(Secret(pair.secret)), **facts,
    )  # fmt: skip
    await node.store.write(accesskeys.put, stored)
    node.core.bus.tell("account", login)
    return pair


@asynccontextmanager
async def site(
    folder: Path,
    *,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    destinations: Iterable[str] = ("NORTH",),
    tls: bool = False,
    settings: S3Settings | None = None,
    hosts: tuple[str, ...] = ("localhost",),
    **node_options: Any,
) -> AsyncIterator[Site]:
    """Run a node with S3 on both doors; each user gets a key pair.  `alice` may do everything."""
    given = replace(settings or S3Settings(), listen="127.0.0.1:0", tls=tls)
    known: dict[str, Mapping[str, Any]] = {"alice": {"destinations": tuple(destinations)}}
    known |= users or {}
    async with small_node(folder, **node_options) as node, contextlib.AsyncExitStack() as stack:
        for name in destinations:
            if name not in node.core.snapshot.destinations:
                await node.destination(name, max_pending=0)
        pairs = {}
        for login, facts in known.items():
            options = {"portal.maxConnections": 100, **facts.get("options", {})}
            await node.user(login, **{**facts, "options": options})
            pairs[login] = await _pair(node, login)
        core = node.core
        ca, context = None, None
        if tls:
            authority = Authority(folder / "ca")
            issued = authority.issue("portal")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(issued.certificate, issued.key)
            ca = authority.ca
        secured = (lambda: context) if context else None
        portal = S3Portal(node.gate, given, secured, core.threads, core.clock, hosts=hosts)
        door = S3Service(node.gate, given, core.threads, core.clock, prefix=PREFIX)
        https = HttpsPortal(
            node.gate, replace(HttpsSettings(), listen="127.0.0.1:0", tls=tls), secured,
            core.threads, core.clock, "test-node", doors=[door],
        )  # fmt: skip
        [(_, port)] = await portal.start()
        stack.push_async_callback(portal.close)
        [(_, https_port)] = await https.start()
        stack.push_async_callback(https.close)
        trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca) if ca else True
        client = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted),
                timeout=aiohttp.ClientTimeout(total=30),
                auto_decompress=False,
                skip_auto_headers=["Content-Type"],
            )
        )
        yield Site(
            node=node, port=port, https_port=https_port, client=client, pairs=pairs,
            folder=folder, ca=ca,
        )  # fmt: skip


async def _pair(node: SmallNode, login: str) -> Pair:
    """Return the key pair of a user, a new one unless it has one from before a restart."""
    found = await node.store.read(accesskeys.of_user, login)
    if found:
        return Pair(found[0].access_key, node.core.vault.open(found[0].secret).reveal())
    return await add_key(node, login)


READ_ONLY = frozenset({Permission.DIR, Permission.GET, Permission.SIZE, Permission.MTIME})
__all__ = ["ALL", "READ_ONLY", "Got", "Pair", "Site", "add_key", "presign", "sign", "site"]
