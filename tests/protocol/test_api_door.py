"""What every request passes: credentials, rights, rates, origins, limits, headers, errors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.settings import ApiSettings
from ecpds.model.account import Role
from ecpds.web import listener as listening
from ecpds.web.csrf import csrf_of
from ecpds.web.rights import OPEN, ROLES, SIGNED_IN, includes
from ecpds.web.routes import Route
from tests.protocol.api import PASSWORD, Client, Reply, Rig, rig


def address(route: Route) -> str:
    """Return an address of the route, with names that are not there."""
    names = {"transfer": "999999", "file": "999999", "session": "999999", "token": "999999"}
    tail = "?last=x" if route.answer == "events" else ""  # else it never ends
    return re.sub(r"{(\w+)[^}]*}", lambda found: names.get(found[1], "nothing"), route.path) + tail


# --- rights


async def test_every_route_refuses_strangers(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        stranger = hub.client()
        for route in hub.monitor.routes:
            if route.right == OPEN:
                continue
            answer = await stranger.call(route.method, "/_" + address(route))
            if route.kind == "page" and route.method == "GET":
                assert answer.status == 303, route.path
                assert answer.headers["Location"].startswith("/login")
            else:
                assert answer.status == 401, (route.method, route.path, answer.text)
                assert "WWW-Authenticate" in answer.headers or route.kind != "api"


async def test_scopes_by_routes(tmp_path: Path) -> None:
    """With a scope a route is open, with all others it is not: the whole matrix."""
    async with rig(tmp_path, api=ApiSettings(requests_per_minute=10**9)) as hub:
        routes = [one for one in hub.monitor.routes if one.kind == "api"]
        wanted = sorted({one.right for one in routes} - {OPEN, SIGNED_IN})
        clients = {right: hub.client(await hub.token(scopes=(right,))) for right in wanted}
        for route in routes:
            if route.right in {OPEN, SIGNED_IN}:
                continue
            for right, client in clients.items():
                body: Any = {} if route.method in {"POST", "PUT", "PATCH"} else None
                answer = await client.call(route.method, "/_" + address(route), body)
                if includes([right], route.right):
                    assert answer.status not in {401, 500}, (route.path, right, answer.text)
                else:
                    assert answer.status == 403, (route.method, route.path, right, answer.text)
                    assert answer.json["code"] == "denied"


async def test_roles_by_routes(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for role in (Role.VIEWER, Role.OPERATOR, Role.EDITOR):
            client = await hub.as_user(role.value, role)
            for route in hub.monitor.routes:
                if route.kind != "api" or route.right in {OPEN, SIGNED_IN}:
                    continue
                answer = await client.call(route.method, "/_" + address(route))
                if not includes(ROLES[role], route.right):
                    assert answer.status == 403, (role, route.path)


# --- credentials


async def test_basic_with_a_token_as_password(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        text = base64.b64encode(f"whoever:{hub.admin.token}".encode()).decode()
        answer = await hub.client().get("/whoami", headers={"Authorization": f"Basic {text}"})
        assert answer.json["name"] == "admin"


async def test_passwords_only_when_they_are_allowed(tmp_path: Path) -> None:
    text = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {text}"}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"admin:nope").decode()}
    async with rig(tmp_path / "off") as hub:
        assert (await hub.client().get("/whoami", headers=headers)).status == 401
    async with rig(tmp_path / "on", api=ApiSettings(password_login=True)) as hub:
        assert (await hub.client().get("/whoami", headers=headers)).json["name"] == "admin"
        assert (await hub.client().get("/whoami", headers=wrong)).status == 401
        made = await hub.client().post("/destinations", {"name": "N"}, headers=headers)
        assert made.status == 201  # no cookie, so no form token either


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer wrong", "Basic %%%", "Basic YQ==", "Digest x", "x" * 3000],
)
async def test_wrong_credentials_are_401(tmp_path: Path, header: str) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.client().get("/whoami", headers={"Authorization": header})
        assert (answer.status, answer.json["title"]) == (401, "Credentials needed")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_failures_ban_the_address(tmp_path: Path) -> None:
    """interface.md 8: failures at every listener count, API and dashboard included."""
    async with rig(tmp_path) as hub:
        stranger = hub.client("ddt_wrong")
        statuses = [(await stranger.get("/whoami")).status for _ in range(14)]
        assert set(statuses) == {401}
        assert await hub.node.gate.bans() == []
        form = {"name": "admin", "password": "wrong"}
        assert (await hub.client().post("/login", data=form)).status == 401
        assert [ban.address for ban in await hub.node.gate.bans()] == ["127.0.0.1"]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(hub.base.rpartition(":")[2])
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""  # not a word
        writer.close()


# --- browsers


async def log_in(hub: Rig, name: str = "admin", **more: str) -> tuple[Client, str]:
    """Return a client with a session cookie, and the cookie's text."""
    form = {"name": name, "password": PASSWORD, **more}
    answer = await hub.client().post("/login", data=form)
    assert answer.status == 303, answer.text
    cookie = answer.headers["Set-Cookie"]
    session = cookie.partition("=")[2].partition(";")[0]
    return hub.client(), session


def with_cookie(session: str, **more: str) -> dict[str, str]:
    return {"Cookie": f"ecpds_session={session}", **more}


async def test_login_session_logout(tmp_path: Path) -> None:
    async with rig(tmp_path, pages=True) as hub:
        form = {"name": "admin", "password": PASSWORD, "next": "/transfers?q=a"}
        answer = await hub.client().post("/login", data=form)
        assert (answer.status, answer.headers["Location"]) == (303, "/transfers?q=a")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("ecpds_session=")
        for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
            assert part in cookie
        assert "Secure" not in cookie  # this listener has no TLS
        session = cookie.partition("=")[2].partition(";")[0]
        client = hub.client()
        me = await client.get("/whoami", headers=with_cookie(session))
        assert (me.json["name"], me.json["kind"]) == ("admin", "web")
        page = await client.get("/_/destinations", headers=with_cookie(session))
        assert page.status == 200
        again = await client.get("/login?next=/hosts", headers=with_cookie(session))
        assert (again.status, again.headers["Location"]) == (303, "/hosts")
        form = {"csrf": csrf_of(session)}
        out = await client.post("/_/logout", data=form, headers=with_cookie(session))
        assert (out.status, out.headers["Location"]) == (303, "/login")
        assert (await client.get("/whoami", headers=with_cookie(session))).status == 401


async def test_one_neutral_text_for_every_failure(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.web_user("off")
        off = (await hub.admin.get("/web_users/off")).json
        await hub.admin.put("/web_users/off", off | {"active": False}, match="*")
        texts = set()
        for name, password in (("admin", "x"), ("nobody", "x"), ("off", PASSWORD), ("", "")):
            answer = await hub.client().post("/login", data={"name": name, "password": password})
            assert answer.status == 401
            assert "Set-Cookie" not in answer.headers
            texts |= set(re.findall(r"name or password[^<]*", answer.text))
        assert texts == {"name or password is wrong"}


async def test_a_login_of_another_site_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        form = {"name": "admin", "password": PASSWORD}
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert (await hub.client().post("/login", data=form, headers=headers)).status == 403
        own = {"Origin": hub.base, "Sec-Fetch-Site": "same-origin"}
        assert (await hub.client().post("/login", data=form, headers=own)).status == 303


async def test_changes_with_a_cookie_need_the_form_token(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        client, session = await log_in(hub)
        token = csrf_of(session)
        body = {"name": "NORTH"}
        for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": csrf_of("other")}):
            given = with_cookie(session, **headers)
            assert (await client.post("/destinations", body, headers=given)).status == 403
        foreign = with_cookie(session, **{"X-CSRF-Token": token, "Origin": "https://evil.example"})
        assert (await client.post("/destinations", body, headers=foreign)).status == 403
        good = with_cookie(session, **{"X-CSRF-Token": token})
        assert (await client.post("/destinations", body, headers=good)).status == 201
        path = "/_/destinations/NORTH/actions/stop"
        bare = await client.post(path, data={"x": "y"}, headers=with_cookie(session))
        assert bare.status == 403
        form = {"csrf": token}
        done = await client.post(path, data=form, headers=with_cookie(session))
        assert done.status == 303, done.text


async def test_a_token_is_no_way_into_pages(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.admin.get("/_/destinations")
        assert (answer.status, answer.headers["Location"]) == (303, "/login?next=/destinations")


async def test_a_new_password_ends_sessions(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.web_user("olga", Role.VIEWER)
        client, session = await log_in(hub, "olga")
        assert (await client.get("/whoami", headers=with_cookie(session))).status == 200
        await hub.admin.patch("/web_users/olga", {"password": "another one, longer"}, match="*")
        assert (await client.get("/whoami", headers=with_cookie(session))).status == 401


# --- limits


async def test_too_many_requests(tmp_path: Path) -> None:
    async with rig(tmp_path, api=ApiSettings(requests_per_minute=100)) as hub:
        statuses = [(await hub.admin.get("/whoami")).status for _ in range(12)]
        assert statuses[:10] == [200] * 10
        refused = await hub.admin.get("/whoami")
        assert (refused.status, refused.json["code"]) == (429, "rate")
        assert int(refused.headers["Retry-After"]) >= 1
        other = hub.client(await hub.token())
        assert (await other.get("/whoami")).status == 200


async def test_bodies_have_limits(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        headers = {"Content-Type": "application/json"}
        big = io.BytesIO(b'{"comment": "' + b"x" * 1024 * 1024 + b'"}')
        answer = await hub.admin.post("/destinations", data=big, headers=headers)
        assert (answer.status, answer.json["code"]) == (413, "too-large")

        async def chunks() -> Any:
            for _ in range(40):
                yield b" " * 64 * 1024

        chunked = await hub.admin.post("/destinations", data=chunks(), headers=headers)
        assert chunked.status == 413
        form = {"name": "x" * 300_000, "password": "y"}
        assert (await hub.client().post("/login", data=form)).status == 413


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b'"x"', 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b'{"name": NaN}', 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"a":' * 50_000, 400, "malformed"),
        (b"", 422, "invalid-input"),
    ],
)
async def test_malformed_json(tmp_path: Path, body: bytes, status: int, code: str) -> None:
    async with rig(tmp_path) as hub:
        headers = {"Content-Type": "application/json"}
        answer = await hub.admin.post("/destinations", data=body, headers=headers)
        assert (answer.status, answer.json["code"]) == (status, code)


async def test_other_types_and_methods(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        xml = await hub.admin.post(
            "/destinations", data=b"<a/>", headers={"Content-Type": "text/xml"}
        )
        assert (xml.status, xml.json["code"]) == (415, "media-type")
        method = await hub.admin.call("PATCH", "/destinations")
        assert (method.status, method.json["code"]) == (405, "method")
        assert method.headers["Allow"] == "GET, HEAD, POST"
        gone = await hub.admin.get("/nothing")
        assert (gone.status, gone.json["code"]) == (404, "not-found")


async def test_a_client_that_never_asks_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    monkeypatch.setattr(listening, "IDLE", 0.2)
    monkeypatch.setattr(listening, "SWEEP", timedelta(seconds=0.05))
    async with rig(tmp_path) as hub:
        port = int(hub.base.rpartition(":")[2])
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nX-A: ", b"GET /healthz HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(10):
                await reader.read()  # to the end
            writer.close()


# --- answers


def assert_dressed(answer: Reply) -> None:
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "default-src" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Server"] == "ecpds"


async def test_every_answer_has_its_headers(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.admin.upload(b"x", destination="NORTH")
        paths = ("/whoami", "/nothing", "/files/1/content", "/_/healthz", "/login", "/_/nothing")
        for path in paths:
            assert_dressed(await hub.admin.get(path))
        sandboxed = await hub.admin.get("/files/1/content")
        assert "sandbox" in sandboxed.headers["Content-Security-Policy"]
        assert sandboxed.headers["Cache-Control"] == "private, no-cache"
        assert (await hub.admin.get("/whoami")).headers["Cache-Control"] == "no-store"


async def test_request_ids(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        own = await hub.admin.get("/nothing", headers={"X-Request-Id": "abc-1"})
        assert own.headers["X-Request-Id"] == "abc-1"
        assert own.json["request_id"] == "abc-1"
        odd = await hub.admin.get("/nothing", headers={"X-Request-Id": "a b"})
        assert odd.headers["X-Request-Id"] != "a b"


async def test_a_bug_is_told_with_its_request_id_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(tmp_path) as hub:

        def broken() -> Any:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(hub.node.engine.core.catalogue, "entries", broken)
        answer = await hub.admin.get("/options")
        assert (answer.status, answer.json["code"]) == (500, "internal")
        assert "secret" not in answer.text


async def test_proxies_are_believed_when_they_are_trusted(tmp_path: Path) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Forwarded-Proto": "https"}
    form = {"name": "admin", "password": PASSWORD}
    async with rig(tmp_path / "untrusted") as hub:
        await hub.admin.get("/whoami", headers=forwarded)
        seen = (await hub.admin.get("/tokens")).items[0]
        assert seen["last_address"] == "127.0.0.1"
        answer = await hub.client().post("/login", data=form, headers=forwarded)
        assert "Secure" not in answer.headers["Set-Cookie"]
    async with rig(tmp_path / "trusted", proxies=("127.0.0.0/8", "192.0.2.0/24")) as hub:
        await hub.admin.get("/whoami", headers=forwarded)
        seen = (await hub.admin.get("/tokens")).items[0]
        assert seen["last_address"] == "203.0.113.9"
        answer = await hub.client().post("/login", data=form, headers=forwarded)
        assert "Secure" in answer.headers["Set-Cookie"]
        for _ in range(8):
            await hub.node.gate.failed_elsewhere("203.0.113.9", "x", is_known=False)
        assert (await hub.admin.get("/whoami", headers=forwarded)).status == 403
        assert (await hub.admin.get("/whoami")).status == 200


# --- health


async def test_health_and_readiness(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        stranger = hub.client()
        alive = await stranger.get("/_/healthz")
        assert (alive.status, alive.text) == (200, "ok\n")
        ready = await stranger.get("/_/readyz")
        assert (ready.status, ready.json["ready"]) == (200, True)
        assert ready.json["checks"]["store"]["ok"] is True
        hub.checks["volume_default"] = {"ok": False, "room": 0}
        failing = await stranger.get("/_/readyz")
        assert (failing.status, failing.json["ready"]) == (503, False)
        assert failing.json["checks"]["volume_default"]["ok"] is False
        head = await stranger.call("HEAD", "/_/healthz")
        assert (head.status, head.body) == (200, b"")


async def test_metrics_by_network_or_token(tmp_path: Path) -> None:
    async with rig(tmp_path / "open") as hub:
        text = (await hub.client().get("/_/metrics")).text
        assert "ecpds_build_info" in text
        assert "ecpds_event_loop_lag_seconds" in text
    async with rig(tmp_path / "closed", metrics_allow=("192.0.2.0/24",)) as hub:
        assert (await hub.client().get("/_/metrics")).status == 401
        assert (await hub.admin.get("/_/metrics")).status == 200
        other = hub.client(await hub.token(scopes=("files:read",)))
        assert (await other.get("/_/metrics")).status == 403


async def test_static_files(tmp_path: Path) -> None:
    async with rig(tmp_path, pages=True) as hub:
        page = (await hub.client().get("/login")).text
        found = re.findall(r'"(/static/[^"]+)"', page)
        assert found
        for path in found:
            answer = await hub.client().get("/_" + path)
            assert answer.status == 200, path
            assert "immutable" in answer.headers["Cache-Control"]
            tag = {"If-None-Match": answer.headers["ETag"]}
            assert (await hub.client().get("/_" + path, headers=tag)).status == 304
            bare = await hub.client().get("/_" + path.partition("?")[0])
            assert bare.headers["Cache-Control"] == "no-cache"
        for path in ("/static/nothing.js", "/static/../base.html", "/static/%2e%2e/base.html"):
            assert (await hub.client().get("/_" + path)).status == 404


async def test_the_catalogue_of_options(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        every = (await hub.admin.get("/options")).items
        hosts = (await hub.admin.get("/options?scope=host")).items
        assert {"key", "type", "default", "help", "secret", "scopes"} <= set(every[0])
        assert 0 < len(hosts) < len(every)
        assert all("host" in one["scopes"] for one in hosts)
        assert (await hub.admin.get("/options?scope=hots")).status == 400
        assert "genericSftp" in [one["name"] for one in (await hub.admin.get("/methods")).items]
        assert {"name": "done", "code": "DONE", "label": "Done"} in (
            await hub.admin.get("/statuses")
        ).items


async def test_versions_are_open(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.client().get("/api")
        assert answer.json["versions"][0]["path"] == "/api/v2"
        assert json.loads(answer.body)["release"]


async def test_pages_of_other_origins_need_to_be_allowed(tmp_path: Path) -> None:
    origin = "https://ops.example.org"
    asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    async with rig(tmp_path / "off") as hub:
        assert (await hub.client().call("OPTIONS", "/hosts", headers=asked)).status == 405
        answer = await hub.admin.get("/hosts", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
    async with rig(tmp_path / "on", api=ApiSettings(cors_allow_origin=(origin,))) as hub:
        before = await hub.client().call("OPTIONS", "/hosts", headers=asked)
        assert (before.status, before.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert "PATCH" in before.headers["Access-Control-Allow-Methods"]
        assert "If-Match" in before.headers["Access-Control-Allow-Headers"]
        answer = await hub.admin.get("/hosts", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Vary"] == "Origin"
        refused = await hub.client().get("/hosts", headers={"Origin": origin})
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, origin)
        other = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
        assert (await hub.client().call("OPTIONS", "/hosts", headers=other)).status == 405
        answer = await hub.admin.get("/hosts", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers
        page = await hub.client().get("/login", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in page.headers
