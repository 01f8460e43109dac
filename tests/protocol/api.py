"""A monitor on a small node, and a client that speaks to it as a program or as a browser."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from ecpds.base.settings import ApiSettings, MonitorSettings
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.account import Grant, Role, WebUser
from ecpds.model.host import Host, HostRole
from ecpds.model.secret import Secret
from ecpds.store.accounts import Token
from ecpds.web.app import Monitor
from tests.conftest import ROOT
from tests.node import SmallNode, small_node

PASSWORD = "correct horse"


@dataclass
class Reply:
    """An answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def items(self) -> list[Any]:
        return list(self.json["items"])


class Client:
    """Sends requests with one credential."""

    def __init__(self, session: aiohttp.ClientSession, base: str, token: str = "") -> None:
        self.session, self.base, self.token = session, base, token

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        match: str | None = None,
    ) -> Reply:
        """Send one request; `match` is If-Match."""
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if match is not None:
            given["If-Match"] = match
        if path.startswith("/") and not path.startswith(("/api", "/live", "/login", "/_")):
            path = "/api/v2" + path
        async with self.session.request(
            method,
            self.base + path.removeprefix("/_"),
            json=body,
            data=data,
            headers={**given, **(headers or {})},
            allow_redirects=False,
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.call("POST", path, body, **more)

    async def put(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.call("PUT", path, body, **more)

    async def patch(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.call("PATCH", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Reply:
        return await self.call("DELETE", path, **more)

    async def upload(
        self,
        content: bytes,
        name: str = "a.grib",
        key: str = "",
        **fields: str,
    ) -> Reply:
        """POST a file as a form; `key` is the Idempotency-Key."""
        headers = {"Idempotency-Key": key} if key else {}
        form = aiohttp.FormData(quote_fields=False)
        for key, value in fields.items():
            form.add_field(key, value)
        form.add_field("file", io.BytesIO(content), filename=name)
        return await self.post("/files", data=form, headers=headers)

    def streaming(self, path: str, **headers: str) -> Any:
        """GET and leave the body unread."""
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.session.get(self.base + path, headers={**given, **headers})


@dataclass
class Rig:
    """A running monitor."""

    node: SmallNode
    monitor: Monitor
    base: str
    admin: Client
    session: aiohttp.ClientSession
    checks: dict[str, dict[str, object]]

    def client(self, token: str = "") -> Client:
        return Client(self.session, self.base, token)

    async def token(self, owner: str = "admin", **fields: Any) -> str:
        """Make a token past the API."""
        return await self.node.accounts.new_token(
            Token(id=0, name="test", owner=owner, **fields), SYSTEM
        )

    async def web_user(
        self, name: str, role: Role = Role.VIEWER, scope: str = "*", *, password: str = PASSWORD
    ) -> None:
        """Create a web user."""
        user = WebUser(name=name, grants=(Grant(role=role, scope=scope),))
        await self.node.accounts.put_web_user(user, Credentials(password=Secret(password)), SYSTEM)

    async def transfer(self, number: int, *, status: str, limit: float = 30.0) -> Any:
        """Return a transfer once it has that status."""
        deadline = time.monotonic() + limit
        while True:
            one = (await self.admin.get(f"/transfers/{number}")).json
            if one["status"] == status:
                return one
            assert time.monotonic() < deadline, one
            await asyncio.sleep(0.02)

    async def as_user(self, name: str, role: Role, scope: str = "*") -> Client:
        """Return a client that may what a web user with that role may."""
        await self.web_user(name, role, scope)
        return self.client(await self.token(name))

    async def host(self, name: str, folder: Path, **fields: Any) -> None:
        """Create a host that delivers into a folder."""
        values: dict[str, Any] = {"method": "genericTest", "role": HostRole.DISSEMINATION}
        host = Host(name=name, directory=str(folder), **(values | fields))
        await HostOperations(self.node.engine).put(host, SYSTEM)


def small_templates(folder: Path) -> Path:
    """Return templates for what every monitor answers."""
    made = folder / "templates"
    made.mkdir(parents=True, exist_ok=True)
    (made / "login.html").write_text("<form><p>{{ error }}</p>{{ next }} {{ name }}</form>")
    (made / "error.html").write_text("<h1>{{ title }}</h1>{{ message }}")
    return made


@asynccontextmanager
async def rig(
    folder: Path,
    *,
    run: bool = False,
    pages: bool = False,
    api: ApiSettings | None = None,
    proxies: tuple[str, ...] = (),
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Start a small node with a monitor without TLS, an administrator and its token.

    `proxies` are trusted, `settings` are those of the monitor.  Only with `pages` it has the true
    templates, which take a while to compile.
    """
    security = {"trusted_proxies": proxies}
    async with small_node(folder / "node", run=run, security=security) as node:
        core = node.core
        monitor_settings = MonitorSettings(listen="127.0.0.1:0", tls=False, **settings)
        core.settings = replace(core.settings, monitor=monitor_settings, api=api or ApiSettings())
        checks: dict[str, dict[str, object]] = {"listeners": {"ok": True}}
        monitor = Monitor(
            node.engine,
            node.gate,
            tls=None,
            templates=ROOT / "templates" if pages else small_templates(folder),
            endpoints=dict,
            ready=lambda: dict(checks),
        )
        places = await monitor.start()
        base = f"http://127.0.0.1:{places[0][1]}"
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                admin = Client(session, base)
                made = Rig(node, monitor, base, admin, session, checks)
                await made.web_user("admin", Role.ADMIN)
                admin.token = await made.token()
                yield made
        finally:
            await monitor.drain()
            await monitor.close()
