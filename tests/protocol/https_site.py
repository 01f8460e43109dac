"""The HTTPS portal over a plain directory, and clients for it: aiohttp, raw sockets, curl."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from ecpds.base.clock import Clock, SystemClock
from ecpds.base.settings import HttpsSettings
from ecpds.base.threads import Threads
from ecpds.portals.https.app import HttpsPortal
from tests.peers.certificates import Authority
from tests.protocol.diskgate import Account, DiskGate

MOMENT = datetime(2031, 5, 4, 10, 0, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Got:
    """An answer read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True, kw_only=True)
class Site:
    """A running portal and its gate."""

    gate: DiskGate
    portal: HttpsPortal
    port: int
    client: aiohttp.ClientSession
    ca: Path | None
    folder: Path
    scheme: str = "http"
    endpoints: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def put(self, path: str, content: bytes, *, mtime: datetime = MOMENT) -> Path:
        """Write a file behind the portal's back."""
        place = self.gate.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (mtime.timestamp(), mtime.timestamp()))
        return place

    def content(self, path: str) -> bytes:
        return self.gate.place(path).read_bytes()

    def has(self, path: str) -> bool:
        return self.gate.place(path).exists()

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: object = None,
        user: str = "alice",
        password: str = "secret",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        expect100: bool = False,
    ) -> Got:
        """Send one request; redirects are not followed.  An empty `user` sends no credentials."""
        sent = dict(headers or {})
        if user:
            sent["Authorization"] = basic(user, password)
        if cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        async with self.client.request(
            method,
            self.url + target,
            data=body,
            headers=sent,
            allow_redirects=False,
            expect100=expect100,
        ) as answer:
            content = await answer.read()
            given = {name: morsel.value for name, morsel in answer.cookies.items()}
            return Got(answer.status, answer.headers, content, given)

    async def get(self, target: str, **fields: str) -> Got:
        """GET as alice; keyword `if_match` is the field If-Match."""
        return await self.ask("GET", target, headers=_named(fields))

    async def raw(self, *pieces: bytes, end: bool = False) -> bytes:
        """Send bytes over a connection of their own and return all that comes back."""
        context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end and writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def curl(self, *words: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        """Run curl as alice; return exit code, output, and what it says of errors."""
        options = ["--silent", "--show-error", "--max-time", "30", "--user", "alice:secret"]
        if self.ca:
            options += ["--cacert", str(self.ca)]
        child = await asyncio.create_subprocess_exec(
            "curl",
            *options,
            *words,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
        )
        output, error = await child.communicate(stdin)
        return child.returncode or 0, output.decode("utf-8", "replace"), error.decode()

    async def idle(self) -> None:
        """Wait until every session is closed: the server may still be tidying up."""
        async with asyncio.timeout(10):
            while self.gate.sessions or self.gate.writing:
                await asyncio.sleep(0.005)


def basic(user: str, password: str = "secret") -> str:
    """Return the value of Authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _named(fields: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


def head(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Split a raw answer into status, fields (lower case) and the rest."""
    top, _, rest = raw.partition(b"\r\n\r\n")
    line, *fields = top.decode("latin-1").split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d{3})", line)
    pairs = (one.split(":", 1) for one in fields)
    return int(found[1]) if found else 0, {n.lower(): v.strip() for n, v in pairs}, rest


@asynccontextmanager
async def site(
    folder: Path,
    *,
    accounts: Mapping[str, Account] | None = None,
    tls: bool = False,
    clock: Clock | None = None,
    settings: HttpsSettings | None = None,
    trusted_proxies: tuple[str, ...] = (),
    session_lifetime: timedelta = timedelta(hours=1),
) -> AsyncIterator[Site]:
    """Run a portal on a free port."""
    gate = DiskGate(folder, accounts)
    ca, context = None, None
    if tls:
        authority = Authority(folder / "ca")
        issued = authority.issue("portal")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        ca = authority.ca
    threads = Threads()
    endpoints: dict[str, str] = {}
    portal = HttpsPortal(
        gate,
        replace(settings or HttpsSettings(), listen="127.0.0.1:0", tls=tls),
        (lambda: context) if context else None,
        threads,
        clock or SystemClock(),
        "test-node",
        endpoints=lambda: endpoints,
        session_lifetime=session_lifetime,
        trusted_proxies=trusted_proxies,
    )
    [(_, port)] = await portal.start()
    secured: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca) if ca else True
    connector = aiohttp.TCPConnector(ssl=secured)
    client = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=30),
        auto_decompress=False,
    )
    try:
        yield Site(
            gate=gate,
            portal=portal,
            port=port,
            client=client,
            ca=ca,
            folder=folder,
            scheme="https" if tls else "http",
            endpoints=endpoints,
        )
    finally:
        await client.close()
        await portal.close()
        await asyncio.to_thread(threads.close)
        assert gate.sessions == [], "a session was left open"
