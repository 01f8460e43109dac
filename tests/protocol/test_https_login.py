"""Logins: Basic, the form and its cookie, open homes, host names, limits, bans."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.settings import HttpsSettings
from ecpds.model.account import DataUser, Permission, Protocol, Service
from ecpds.model.errors import NotStored, QuotaExceeded
from ecpds.vfs.contract import Resumed
from tests.clock import FakeClock
from tests.protocol.diskgate import Account, DiskGate, DiskSession
from tests.protocol.https_site import Site, basic, site

FILE = "/ecpds/data/file/NORTH/a"
BROWSER = {"portal_client": "browser"}
HTML = {"Accept": "text/html,*/*;q=0.8"}


async def log_in(s: Site, **form: str) -> Any:
    sent = {"username": "alice", "password": "secret", **form}
    return await s.ask("POST", "/ecpds/login", user="", body=sent, headers=HTML)


async def test_basic(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"x")
        assert (await s.get(FILE)).status == 200
        for user, password in (("", ""), ("alice", "wrong"), ("nobody", "secret"), ("alice", "")):
            got = await s.ask("GET", FILE, user=user, password=password)
            assert got.status == 401
            assert got.headers["WWW-Authenticate"] == 'Basic realm="ecpds", charset="UTF-8"'
            assert got.text == ("Login failed\n" if user else "Login required\n")
            assert got.cookies == {}
        assert s.gate.sessions == []


async def test_the_form_gives_a_cookie(tmp_path: Path) -> None:
    """Random, for HTTP only, for TLS only, and its use is a login with all other checks."""
    async with site(tmp_path, tls=True) as s:
        s.put("/NORTH/a", b"x")
        form = await s.ask("GET", "/ecpds/login", user="", headers=HTML)
        assert form.status == 200
        cookie = form.headers["Set-Cookie"]
        assert cookie.startswith("portal_client=browser; ")
        assert "Max-Age=31536000" in cookie
        got = await log_in(s, next="/ecpds/file/NORTH/")
        assert (got.status, got.headers["Location"]) == (303, "/ecpds/file/NORTH/")
        assert re.fullmatch(
            r"portal_session=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax; Secure",
            got.headers["Set-Cookie"],
        )
        other = await log_in(s)
        assert other.cookies["portal_session"] != got.cookies["portal_session"]
        seen = await s.ask("GET", FILE, user="", cookies=got.cookies)
        assert seen.status == 200
        # a lost right strikes at the next request
        s.gate.accounts["alice"].protocols = frozenset({Protocol.FTP})
        assert (await s.ask("GET", FILE, user="", cookies=got.cookies)).status == 403
        s.gate.accounts["alice"].protocols = frozenset(Protocol)
        s.gate.banned.add("127.0.0.1")
        # a banned address is not even heard on a new connection; on this one it is told
        assert (await s.ask("GET", FILE, user="", cookies=got.cookies)).status == 429


async def test_without_tls_the_cookie_is_not_secure(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        got = await log_in(s)
        assert "Secure" not in got.headers["Set-Cookie"]
        assert got.headers["Location"] == "/ecpds/file/"


@pytest.mark.parametrize(
    "next_", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x"]
)
async def test_a_login_leads_nowhere_else(tmp_path: Path, next_: str) -> None:
    async with site(tmp_path) as s:
        assert (await log_in(s, next=next_)).headers["Location"] == "/ecpds/file/"
        page = await s.ask("GET", f"/ecpds/login?next={next_}", user="")
        assert "evil" not in page.text


async def test_a_cookie_ends(tmp_path: Path) -> None:
    """By logout, and an hour after its last use."""
    clock = FakeClock()
    async with site(tmp_path, clock=clock) as s:
        s.put("/NORTH/a", b"x")
        cookies = (await log_in(s)).cookies
        for _ in range(3):
            await clock.advance(timedelta(minutes=59))
            assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 200
        await clock.advance(timedelta(minutes=60))
        assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 401
        cookies = (await log_in(s)).cookies
        assert (await s.ask("GET", "/ecpds/logout", user="", cookies=cookies)).status == 405
        forged = {"Origin": "https://evil.example"}
        got = await s.ask("POST", "/ecpds/logout", user="", cookies=cookies, headers=forged)
        assert got.status == 403
        assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 200
        got = await s.ask("POST", "/ecpds/logout", user="", cookies=cookies)
        assert (got.status, got.headers["Location"]) == (303, "/ecpds/login")
        assert "Max-Age=0" in got.headers["Set-Cookie"]
        assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 401


async def test_a_login_that_the_gate_takes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who is gone, or whose password was changed, loses the cookie."""
    async with site(tmp_path) as s:
        s.put("/NORTH/a", b"x")
        cookies = (await log_in(s)).cookies
        account = s.gate.accounts.pop("alice")
        assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 401
        s.gate.accounts["alice"] = account
        assert (await s.ask("GET", FILE, user="", cookies=cookies)).status == 401


async def test_the_cookie_never_carries_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    real = DiskGate.login

    async def login(self: DiskGate, user: str, credential: Any, **facts: Any) -> Any:
        seen.append(credential)
        return await real(self, user, credential, **facts)

    monkeypatch.setattr(DiskGate, "login", login)
    clock = FakeClock()
    async with site(tmp_path, clock=clock) as s:
        cookies = (await log_in(s)).cookies
        since = clock.now()
        await clock.advance(timedelta(minutes=5))
        await s.ask("GET", FILE, user="", cookies=cookies)
        assert seen[1:] == [Resumed(since)]


async def test_wrong_logins_in_the_form(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        got = await log_in(s, username="<b>", password="wrong")
        assert got.status == 401
        assert not got.headers["WWW-Authenticate"].startswith("Basic")
        assert "Login failed" in got.text
        assert "&lt;b&gt;" in got.text
        assert "<b>" not in got.text
        assert "portal_session" not in got.cookies
        program = await s.ask("POST", "/ecpds/login", user="", body={"username": "alice"})
        assert (program.status, program.text) == (401, "Login failed\n")
        long = await log_in(s, password="x" * 5000)
        assert long.status == 401
        forged = await s.ask(
            "POST", "/ecpds/login", user="", body={"username": "alice", "password": "secret"},
            headers={"Sec-Fetch-Site": "cross-site"},
        )  # fmt: skip
        assert forged.status == 403
        assert (await s.ask("DELETE", "/ecpds/login", user="")).status == 405


async def test_browsers_are_sent_to_the_form(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        got = await s.ask(
            "GET", "/ecpds/file/NORTH/?sort=size", user="", cookies=BROWSER, headers=HTML
        )
        assert got.status == 302
        assert (
            got.headers["Location"] == "/ecpds/login?next=%2Fecpds%2Ffile%2FNORTH%2F%3Fsort%3Dsize"
        )
        got = await s.ask("PUT", FILE, user="", cookies=BROWSER, body=b"x")
        assert (got.status, got.headers["WWW-Authenticate"]) == (401, 'Form realm="ecpds"')
        got = await s.ask("GET", FILE, cookies=BROWSER)  # 404, for a browser
        assert (got.status, got.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        for headers, where in ((HTML, "/ecpds/login"), ({}, "/ecpds/file/")):
            got = await s.ask("GET", "/", user="", headers=headers)
            assert (got.status, got.headers["Location"]) == (302, where)


async def test_a_one_time_code_is_followed_by_a_cookie(tmp_path: Path) -> None:
    accounts = {"alice": Account(password="123456"), "bob": Account()}
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/a", b"x")
        got = await s.ask("GET", FILE, password="123456")
        assert (await s.ask("GET", FILE, user="", cookies=got.cookies)).status == 200
        assert (await s.ask("GET", FILE, user="bob")).cookies == {}
        got = await log_in(s, password="", otp=" 123456 ")
        assert got.status == 303


def open_user(self: DiskSession, gate: DiskGate, login: str, protocol: Protocol, peer: str) -> None:
    """Make sessions of open accounts look open."""
    _init(self, gate, login, protocol, peer)
    if self.account.open_access:
        from dataclasses import replace

        user = DataUser(login=login, service=Service.OPEN)
        self.profile = replace(self.profile, user=user)


_init = DiskSession.__init__


async def test_example_24(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open home needs no credentials, and gives no right that its user has not."""
    monkeypatch.setattr(DiskSession, "__init__", open_user)
    look = frozenset({Permission.DIR, Permission.GET})
    accounts = {"pub": Account(open_access=True, operations=look), "alice": Account()}
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/a", b"x")
        got = await s.ask("GET", "/ecpds/home/pub/", user="")
        assert got.status == 200
        assert 'href="/ecpds/home/pub/NORTH/"' in got.text
        assert "portal_session" not in got.cookies
        assert (await s.ask("GET", "/ecpds/home/pub/NORTH/a", user="")).body == b"x"
        assert (await s.ask("GET", "/ecpds/home/pub/NORTH/a", user="alice")).body == b"x"
        assert (await s.ask("PUT", "/ecpds/home/pub/NORTH/b", user="", body=b"x")).status == 403
        assert (await s.ask("GET", "/ecpds/home/alice/", user="")).status == 401
        assert (await s.ask("GET", "/ecpds/home/nobody/", user="")).status == 401
        assert (await s.ask("GET", "/ecpds/file/", user="")).status == 401
        # the form shows where the open files are, and gives no cookie
        got = await log_in(s, username="pub", password="anything")
        assert (got.status, "portal_session" in got.cookies) == (200, False)
        assert "/ecpds/home/pub/" in got.text


async def test_host_names_lead_home(tmp_path: Path) -> None:
    """Inside: no redirect; X-Forwarded-Host only from a trusted proxy."""
    accounts = {"data.example": Account(open_access=True), "alice": Account()}
    settings = HttpsSettings(hosts={"Data.Example": "files"})
    for proxies, status in (((), 404), (("127.0.0.1",), 200)):
        folder = tmp_path / str(status)
        async with site(folder, accounts=accounts, settings=settings, trusted_proxies=proxies) as s:
            s.put("/NORTH/a b", b"x")
            got = await s.ask(
                "GET", "/files/NORTH/a%20b", user="", headers={"Host": "data.example:7443"}
            )
            assert (got.status, got.body) == (200, b"x")
            got = await s.ask("GET", "/files/NORTH/", user="", headers={"Host": "data.example"})
            assert 'href="/files/NORTH/a%20b"' in got.text
            forwarded = {"X-Forwarded-Host": "data.example", "X-Forwarded-For": "192.0.2.9"}
            got = await s.ask("GET", "/files/NORTH/a%20b", user="", headers=forwarded)
            assert got.status == status


async def test_the_address_behind_a_trusted_proxy_counts(tmp_path: Path) -> None:
    async with site(tmp_path, trusted_proxies=("127.0.0.0/8",)) as s:
        s.gate.banned.add("192.0.2.9")
        assert (await s.get("/ecpds/file/", x_forwarded_for="192.0.2.9")).status == 429
        assert (await s.get("/ecpds/file/", x_forwarded_for="192.0.2.8")).status == 200
        assert (await s.get("/ecpds/file/", x_forwarded_for="192.0.2.8, 127.0.0.1")).status == 200
        assert (await s.get("/ecpds/file/", x_forwarded_for="192.0.2.8, 192.0.2.9")).status == 429


async def test_a_banned_address_is_not_heard(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.gate.banned.add("127.0.0.1")
        assert await s.raw(b"") == b""  # closed before it could say a word


async def test_example_27(tmp_path: Path) -> None:
    """One connection: a second request is told to wait, and works after the first."""
    async with site(tmp_path, accounts={"alice": Account(max_connections=1)}) as s:
        s.put("/NORTH/a", b"x")
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"x"
            await go_on.wait()

        async with asyncio.TaskGroup() as group:
            first = group.create_task(s.ask("PUT", "/ecpds/data/file/NORTH/b", body=slow()))
            async with asyncio.timeout(10):
                while not s.gate.writing:
                    await asyncio.sleep(0.005)
            got = await s.get(FILE)
            assert got.status == 429
            assert int(got.headers["Retry-After"]) > 0
            go_on.set()
        assert first.result().status == 201
        await s.idle()
        assert (await s.get(FILE)).status == 200


async def test_quota_and_missing_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(tmp_path) as s:

        async def open_read(self: DiskSession, path: str) -> Any:
            if path.endswith("quota"):
                raise QuotaExceeded("Download quota exceeded", retry_after=123)
            raise NotStored("not yet")

        monkeypatch.setattr(DiskSession, "open_read", open_read)
        got = await s.get("/ecpds/data/file/NORTH/quota")
        assert (got.status, got.headers["Retry-After"]) == (429, "123")
        got = await s.get("/ecpds/data/file/NORTH/later")
        assert (got.status, got.headers["Retry-After"]) == (503, "10")


async def test_a_stopping_node(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.gate.stopping = True
        got = await s.get(FILE)
        assert (got.status, "Retry-After" in got.headers) == (503, True)


async def test_problems_for_programs(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        got = await s.get(FILE, accept="application/json")
        assert (got.status, got.headers["Content-Type"]) == (404, "application/problem+json")


async def test_cross_origin(tmp_path: Path) -> None:
    accounts = {
        "alice": Account(),
        "bob": Account(options={"portal.corsAllowOrigin": "*"}),
        "pub": Account(open_access=True, options={"portal.corsAllowOrigin": "https://p.example"}),
    }
    settings = HttpsSettings(cors_allow_origin="https://a.example")
    allow = "Access-Control-Allow-Origin"
    async with site(tmp_path, accounts=accounts, settings=settings) as s:
        s.put("/NORTH/a", b"x")
        got = await s.get(FILE, origin="https://a.example")
        assert (got.headers[allow], got.headers["Vary"]) == ("https://a.example", "Origin")
        assert "ETag" in got.headers["Access-Control-Expose-Headers"]
        assert allow not in (await s.get(FILE, origin="https://b.example")).headers
        assert allow not in (await s.get(FILE)).headers
        got = await s.ask("GET", FILE, user="bob", headers={"Origin": "https://b.example"})
        assert got.headers[allow] == "*"
        got = await s.get("/ecpds/data/file/NORTH/x", origin="https://a.example")
        assert (got.status, got.headers[allow]) == (404, "https://a.example")
        preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        got = await s.ask("OPTIONS", FILE, user="", headers=preflight)
        assert (got.status, got.headers["Access-Control-Max-Age"]) == (204, "86400")
        assert got.headers["Access-Control-Allow-Headers"] == "Range, Content-Type, Authorization"
        home = {**preflight, "Origin": "https://p.example"}
        got = await s.ask("OPTIONS", "/ecpds/home/pub/NORTH/a", user="", headers=home)
        assert got.headers[allow] == "https://p.example"
        got = await s.ask("OPTIONS", "/ecpds/home/alice/NORTH/a", user="", headers=home)
        assert allow not in got.headers


def test_the_header_of_the_tests() -> None:
    assert basic("alice") == "Basic YWxpY2U6c2VjcmV0"


async def test_settings_change_at_once(tmp_path: Path) -> None:
    accounts = {"data.example": Account(open_access=True), "alice": Account()}
    async with site(tmp_path, accounts=accounts) as s:
        s.put("/NORTH/a", b"x")
        asked = {"Host": "data.example", "Origin": "https://a.example"}
        assert (await s.ask("GET", "/files/NORTH/a", user="", headers=asked)).status == 404
        s.portal.take(HttpsSettings(hosts={"data.example": "files"}, cors_allow_origin="*"))
        got = await s.ask("GET", "/files/NORTH/a", user="", headers=asked)
        assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (200, "*")
