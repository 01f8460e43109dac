"""A node with its portals on free ports, behind them the real gate, store and engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Pair

from ecpds.base.settings import FtpSettings, HttpsSettings, S3Settings, SftpSettings
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.host import Host, HostRole
from ecpds.model.secret import Secret
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Transfer
from ecpds.portals.ftp import FtpPortal
from ecpds.portals.https.app import HttpsPortal
from ecpds.portals.s3.service import PREFIX, S3Service
from ecpds.portals.ssh.server import SshPortal
from ecpds.store import transfers
from ecpds.vfs.desks import make_desks
from tests.node import SmallNode, small_node
from tests.protocol.ftprig import Client
from tests.protocol.ftprig import Tls as Certificates
from tests.protocol.https_site import Got, basic
from tests.protocol.sshrig import _rsa_host_key

S3_SECRET = "s3cret" * 4


def signed(
    method: str,
    url: str,
    *,
    user: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request that botocore signs for a user with `Site.s3_key`."""
    request = AWSRequest(method, url, headers=dict(headers or {}), data=body)
    S3SigV4Auth(Pair(f"KEY{user}", S3_SECRET), "s3", "us-east-1").add_auth(request)
    return dict(request.headers.items())


@dataclass(kw_only=True)
class Site:
    """A node with its three portals."""

    node: SmallNode
    ftp_port: int
    sftp_port: int
    url: str
    http: aiohttp.ClientSession
    certificates: Certificates
    out: Path
    clients: list[Client] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        user: str = "alice",
        body: bytes | None = None,
        password: str = "secret",
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        """Send one request and read the answer."""
        sent = dict(headers or {})
        if user:
            sent["Authorization"] = basic(user, password)
        async with self.http.request(
            method, self.url + path, data=body, headers=sent, allow_redirects=False
        ) as answer:
            return Got(answer.status, answer.headers, await answer.read(), {})

    async def s3_key(self, login: str) -> None:
        """Give a user a key pair; `s3` signs with it."""
        stored = await self.node.accounts.user(login)
        given = Credentials(s3_keys=[(f"KEY{login}", Secret(S3_SECRET))])
        await self.node.accounts.put_user(stored.user, given, SYSTEM)

    async def s3(self, method: str, target: str, *, user: str = "alice", body: bytes = b"") -> Got:
        """Send one signed request for something below `/s3`."""
        headers = signed(method, f"{self.url}/s3{target}", user=user, body=body)
        return await self.ask(method, f"/s3{target}", user="", body=body or None, headers=headers)

    @asynccontextmanager
    async def ftp(self, user: str = "alice", password: str = "secret") -> AsyncIterator[Client]:
        """Log in by FTP."""
        client = Client(self.certificates.client())
        await client.connect(self.ftp_port)
        try:
            await client.login(user, password)
            yield client
        finally:
            client.hang_up()

    @asynccontextmanager
    async def sftp(self, **options: Any) -> AsyncIterator[asyncssh.SFTPClient]:
        """Log in by SFTP."""
        given = {"username": "alice", "password": "secret", "known_hosts": None} | options
        given |= {"client_keys": None, "config": None, "agent_path": None}
        async with asyncssh.connect("127.0.0.1", self.sftp_port, **given) as connection:  # noqa: SIM117
            async with connection.start_sftp_client() as client:
                yield client

    async def transfers(self, destination: str = "NORTH") -> list[Transfer]:
        """Return the live transfers of a destination, oldest first."""
        found = await self.node.store.read(transfers.page, destination=destination, limit=1000)
        return found[::-1]

    async def wait(self, *expected: tuple[str, TransferStatus]) -> None:
        """Wait until NORTH has just these targets in these statuses."""
        async with asyncio.timeout(20):
            while {(one.target, one.status) for one in await self.transfers()} != set(expected):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def site(
    folder: Path,
    *,
    user: Mapping[str, Any] | None = None,
    security: Mapping[str, Any] | None = None,
    deliver: bool = False,
    **destination: Any,
) -> AsyncIterator[Site]:
    """Run a node with its portals; alice has NORTH and SOUTH, NORTH has these fields."""
    data = folder / "data"
    async with small_node(data, run=True, security=security) as node:
        core = node.core
        out = data / "out" / "north"
        if deliver:
            host = Host(
                name="north-out", role=HostRole.DISSEMINATION, method="genericFile", host="here",
                directory=f"{out}/$dataTransfer[target]",
            )  # fmt: skip
            await HostOperations(node.engine).put(host, SYSTEM)
            destination["hosts"] = ("north-out",)
        await node.destination("SOUTH")
        await node.destination("NORTH", **destination)
        await node.user("alice", **({"destinations": ("NORTH", "SOUTH")} | dict(user or {})))
        keys = folder / "ssh"
        keys.mkdir(exist_ok=True)
        (keys / "ssh_host_rsa_key").write_bytes(_rsa_host_key())
        certificates = Certificates(folder / "tls")
        ftp = FtpPortal(
            node.gate,
            FtpSettings(listen="127.0.0.1:0", passive_ports="0"),
            lambda: certificates.context,
            core.threads,
            core.clock,
            "m1",
        )
        sftp = SshPortal(
            node.gate, SftpSettings(listen="127.0.0.1:0"), keys, core.threads, core.clock, "m1"
        )
        https = HttpsPortal(
            node.gate,
            HttpsSettings(listen="127.0.0.1:0", tls=False),
            None,
            core.threads,
            core.clock,
            "m1",
            desks=make_desks(core, node.gate),
            doors=[S3Service(node.gate, S3Settings(), core.threads, core.clock, prefix=PREFIX)],
        )
        servers = (ftp, sftp, https)
        ports = [(await server.start())[0][1] for server in servers]
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout, auto_decompress=False
        ) as http:
            try:
                yield Site(
                    node=node,
                    ftp_port=ports[0],
                    sftp_port=ports[1],
                    url=f"http://127.0.0.1:{ports[2]}",
                    http=http,
                    certificates=certificates,
                    out=out,
                )
            finally:
                for server in servers:
                    await server.close()
        assert node.gate.sessions() == []
