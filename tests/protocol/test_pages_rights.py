"""Rights of pages and API: every role on every route, what is out of scope, forms that lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ecpds.base.settings import ApiSettings
from ecpds.base.totp import STEP, code_of
from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.actor import SYSTEM
from ecpds.model.account import DataUser, Grant, Permission, Policy, Role, Service, WebUser
from ecpds.model.secret import Secret
from ecpds.web.csrf import csrf_of
from ecpds.web.rights import OPEN, SIGNED_IN
from ecpds.web.routes import Route
from tests.protocol.api import PASSWORD, Client, Reply, Rig, rig

OFTEN: Final = ApiSettings(requests_per_minute=10**9)
HOSTILE: Final = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}"
# What each role may, written down once more on purpose: a slip in the code shows here.
LEAST: Final = {"read": Role.VIEWER, "operate": Role.OPERATOR, "write": Role.EDITOR,
                "admin": Role.ADMIN}  # fmt: skip
EXCEPTIONS: Final = {
    "tokens:write": Role.VIEWER,  # own ones
    "system:read": Role.OPERATOR,
    "system:operate": Role.ADMIN,
    "system:write": Role.ADMIN,
    "tokens:operate": Role.ADMIN,
    "secrets:read": Role.ADMIN,
}


def least_role(right: str) -> Role:
    """Return the first role that has a right."""
    return EXCEPTIONS.get(right) or LEAST[right.partition(":")[2]]


def address(route: Route) -> str:
    """Return an address of the route, with names that are not there."""
    numbers = {"id", "transfer", "file", "session", "token", "publication", "incident", "job"}

    def name(found: re.Match[str]) -> str:
        return "999999" if found[1] in numbers else "nothing"

    return re.sub(r"{(\w+)[^}]*}", name, route.path)


@dataclass
class Browser:
    """Somebody with a session."""

    hub: Rig
    session: str

    @property
    def csrf(self) -> str:
        return csrf_of(self.session)

    async def get(self, path: str) -> Reply:
        return await self.hub.client().get(f"/_{path}", headers=self._head())

    async def post(self, path: str, fields: dict[str, str] | None = None, **more: str) -> Reply:
        given = {"csrf": self.csrf, **(fields or {}), **more}
        return await self.hub.client().post(f"/_{path}", data=given, headers=self._head())

    def _head(self) -> dict[str, str]:
        return {"Cookie": f"ecpds_session={self.session}"}


async def browser(hub: Rig, name: str, role: Role, scope: str = "*", **more: bool) -> Browser:
    """Make a web user and log it in."""
    user = WebUser(name=name, grants=(Grant(role=role, scope=scope, **more),))
    credentials = Credentials(password=Secret(PASSWORD))
    await hub.node.accounts.put_web_user(user, credentials, SYSTEM)
    session, _ = await hub.node.accounts.log_in(name, Secret(PASSWORD), "127.0.0.1")
    return Browser(hub, session)


def checked(hub: Rig) -> Iterator[Route]:
    """Yield the routes that ask for a right."""
    for route in hub.monitor.routes:
        if route.kind in {"api", "page"} and route.right not in {OPEN, SIGNED_IN}:
            yield route


# --- the matrix ----------------------------------------------------------------------------------


async def test_every_route_by_role(tmp_path: Path) -> None:
    """Below the least role a route is refused, from it on it is reached; also when restricted."""
    async with rig(tmp_path, api=OFTEN, pages=True) as hub:
        for role in Role:
            assert await _refusals(hub, role) == []


async def _refusals(hub: Rig, role: Role) -> list[tuple[str, str, int, str]]:
    """Return the routes whose answer is not what the role may expect."""
    page = await browser(hub, f"{role}-page", role)
    narrow = await browser(hub, f"{role}-narrow", role, "ops_*", restricted=True)
    client = hub.client(await hub.token(f"{role}-page"))
    wrong: list[tuple[str, str, int, str]] = []
    for route in checked(hub):
        place = f"{route.method} {route.path}"
        for who in (page, narrow) if route.kind == "page" else (None,):
            if who is None:
                answer = await _asked(client, route)
            else:
                act = who.get if route.method == "GET" else who.post
                answer = await act(address(route))
            is_refused = answer.status == 403 and f"has no {route.right}" in answer.text
            if is_refused != (role.rank < least_role(route.right).rank):
                wrong.append((place, route.right, answer.status, answer.text[:200]))
            if answer.status >= 500:
                wrong.append((place, "broke", answer.status, answer.text[-300:]))
    return wrong


async def _asked(client: Client, route: Route) -> Reply:
    """Return the answer of the API; what streams without end is left after its head."""
    if route.method != "GET":
        return await client.call(route.method, f"/_{address(route)}")
    async with client.streaming(address(route)) as answer:
        body = await answer.read() if answer.status >= 400 else b""
        return Reply(answer.status, answer.headers, body)


async def test_what_is_outside_of_the_scope_is_not_there(tmp_path: Path) -> None:
    """An editor of ops_* cannot tell whether other users, policies and incidents exist."""
    async with rig(tmp_path, api=OFTEN, pages=True) as hub:
        for name in ("ops_north", "SOUTH"):
            await hub.node.destination(name)
            await hub.node.user(f"u-{name}", destinations=(name,))
            policy = Policy(name=f"p-{name}", destinations=(name,))
            await hub.node.accounts.put_policy(policy, SYSTEM)
        who = await browser(hub, "opal", Role.EDITOR, "ops_*")
        for path, own in (("/portal/users", "u-"), ("/portal/policies", "p-")):
            listed = (await who.get(path)).text
            assert f"{own}ops_north" in listed
            assert "SOUTH" not in listed
            assert (await who.get(f"{path}/{own}ops_north")).status == 200
            for tail in ("", "/edit", "/delete"):
                outside = await who.get(f"{path}/{own}SOUTH{tail}")
                nowhere = await who.get(f"{path}/nobody{tail}")
                assert (outside.status, nowhere.status) == (404, 404), (path, tail)
            assert (await who.post(f"{path}/{own}SOUTH/edit")).status == 404
            assert (await who.post(f"{path}/{own}SOUTH/delete", typed=f"{own}SOUTH")).status == 404
        assert (await who.post("/portal/users/u-SOUTH/actions/disable")).status == 404
        for path in ("/portal/bans", "/notify/clients", "/notify/retained", "/events", "/audit"):
            assert (await who.get(path)).status == 403, path
        gift = {"login": "thief", "destinations": "SOUTH", "operations": "get", "active": "yes"}
        answer = await who.post("/portal/users/new", gift)
        assert answer.status in {403, 422}
        assert (await hub.admin.get("/portal/users/thief")).status == 404


# --- forms that lie ------------------------------------------------------------------------------


async def test_a_token_of_another_session_is_refused(tmp_path: Path) -> None:
    """CSRF: no token, a wrong one, one of somebody else, and one's own after a new login."""
    async with rig(tmp_path, pages=True) as hub:
        await hub.node.user("alice", destinations=())
        admin = await browser(hub, "anna", Role.ADMIN)
        other = await browser(hub, "otto", Role.ADMIN)
        path = "/portal/users/alice/actions/disable"
        for token in ("", "x" * 64, other.csrf):
            assert (await admin.post(path, csrf=token)).status == 403, token
        old = admin.csrf
        session, _ = await hub.node.accounts.log_in("anna", Secret(PASSWORD), "127.0.0.1")
        again = Browser(hub, session)
        assert (await again.post(path, csrf=old)).status == 403
        assert (await hub.admin.get("/portal/users/alice")).json["active"] is True
        assert (await again.post(path)).status == 303
        assert (await hub.admin.get("/portal/users/alice")).json["active"] is False


async def test_a_stale_form_changes_nothing_and_says_so(tmp_path: Path) -> None:
    """What somebody else stored meanwhile stays until the form is sent once more."""
    async with rig(tmp_path, pages=True) as hub:
        await hub.node.user("alice", destinations=())
        admin = await browser(hub, "anna", Role.ADMIN)
        form = {"service": "standard-login", "active": "yes", "comment": "mine", "version": "1",
                "operations": "get"}  # fmt: skip
        await hub.admin.patch("/portal/users/alice", {"comment": "theirs"}, match="*")
        answer = await admin.post("/portal/users/alice/edit", form)
        assert answer.status == 412
        assert "Somebody changed alice while you typed" in answer.text
        assert (await hub.admin.get("/portal/users/alice")).json["comment"] == "theirs"
        version = re.search(r'name="version" value="(\d+)"', answer.text)
        assert version is not None
        assert (await admin.post("/portal/users/alice/edit", form, version=version[1])).ok is False
        assert (await hub.admin.get("/portal/users/alice")).json["comment"] == "mine"
        stale = {"name": "anna", "role": "admin", "scope": "*", "active": "yes", "version": "77"}
        assert (await admin.post("/system/web-users/anna/edit", stale)).status == 412


BAD: Final[tuple[tuple[str, dict[str, str], str], ...]] = (
    ("/portal/users/new", {"login": ""}, "login"),
    ("/portal/users/new", {"login": "a/b"}, "login"),
    ("/portal/users/new", {"login": "bob", "password": "short"}, "at least 12"),
    ("/portal/users/new", {"login": "bob", "service": "magic"}, "service"),
    ("/portal/users/new", {"login": "bob", "destinations": "NOWHERE"}, "NOWHERE"),
    ("/portal/users/new", {"login": "bob", "operations": "fly"}, "fly"),
    ("/portal/users/new", {"login": "bob", "ssh_keys": "rubbish"}, "OpenSSH key line"),
    ("/portal/users/new", {"login": "bob", "options": 'portal.srot = "x"'}, "portal.srot"),
    ("/portal/policies/new", {"name": "p", "destinations": "NOWHERE"}, "NOWHERE"),
    ("/portal/policies/new", {"name": ""}, "name"),
    ("/system/web-users/new", {"name": "bob", "password": "short"}, "at least 12"),
    ("/system/web-users/new", {"name": "bob", "role": "king", "scope": "*"}, "viewer"),
    ("/system/tokens", {"name": "", "scopes": "*:read"}, "printable"),
    ("/system/tokens", {"name": "t", "scopes": "everything"}, "area:verb"),
    ("/system/tokens", {"name": "t", "networks": "not-a-net"}, "no network"),
    ("/system/tokens", {"name": "t", "days": "0"}, "number from 1"),
    ("/system/tokens", {"name": "t", "owner": "nobody"}, "nobody"),
    ("/system/certificates/actions/csr", {"names": "bad name_!"}, "no host name"),
)  # fmt: skip


async def test_bad_input_is_told_beside_the_form(tmp_path: Path) -> None:
    """Nothing is stored, what was typed is kept, the answer says what is wrong."""
    async with rig(tmp_path, pages=True) as hub:
        admin = await browser(hub, "anna", Role.ADMIN)
        before = (await hub.admin.get("/changes")).items
        for path, fields, text in BAD:
            answer = await admin.post(path, fields)
            assert answer.status == 422, (path, fields, answer.text[-500:])
            assert text in answer.text, (path, fields)
            assert 'role="alert"' in answer.text
            assert (await admin.post(path, {"filler": "x" * 300_000})).status == 413
        assert (await hub.admin.get("/changes")).items == before


# --- one-time codes ------------------------------------------------------------------------------


async def test_a_code_is_needed_and_good_once(tmp_path: Path) -> None:
    """Enrolled on the page; then the password alone, a wrong and a used code are all the same."""
    async with rig(tmp_path, pages=True) as hub:
        admin = await browser(hub, "anna", Role.ADMIN)
        olga = await browser(hub, "olga", Role.OPERATOR)
        shown = (await admin.post("/system/web-users/olga/actions/totp")).text
        found = re.search(r'name="secret" value="([A-Z2-7]+)"', shown)
        assert found is not None
        secret = Secret(found[1])
        now = int(hub.node.core.clock.now().timestamp())
        path = "/system/web-users/olga/actions/totp_confirm"
        wrong = await admin.post(path, {"secret": found[1], "code": "000000"})
        assert wrong.status == 422
        code = code_of(secret, now // STEP)
        assert (await admin.post(path, {"secret": found[1], "code": code})).status == 303
        assert (await olga.get("/transfers")).status == 303  # sessions have ended
        client = hub.client()
        form = {"name": "olga", "password": PASSWORD}
        texts = set()
        for otp in ("", "12345", "abcdef", code_of(secret, now // STEP + 90)):
            refused = await client.post("/login", data={**form, "otp": otp})
            assert refused.status == 401
            texts.add(refused.text)
        assert len(texts) == 1
        assert (await client.post("/login", data={**form, "otp": code})).status == 303
        assert (await client.post("/login", data={**form, "otp": code})).status == 401
        stored = (await hub.admin.get("/web_users/olga")).json
        assert (stored["has_totp"], stored["totp"]) == (True, "***")
        assert found[1] not in (await hub.admin.get("/changes")).text


async def test_sessions_are_listed_and_ended(tmp_path: Path) -> None:
    """Of one browser and of all; a hash that opens nothing names them."""
    async with rig(tmp_path, pages=True) as hub:
        admin = await browser(hub, "anna", Role.ADMIN)
        olga = await browser(hub, "olga", Role.OPERATOR)
        listed = (await admin.get("/system/web-users")).text
        numbers = re.findall(r"/system/web-users/sessions/([0-9a-f]{16})/actions/end", listed)
        assert len(numbers) == 2
        assert olga.session not in listed
        sessions = await hub.node.accounts.web_sessions()
        [own] = [one.id for one in sessions if one.name == "olga"]
        assert (await admin.post(f"/system/web-users/sessions/{own}/actions/end")).status == 303
        assert (await olga.get("/transfers")).status == 303
        assert (await admin.post("/system/web-users/anna/actions/end_sessions")).status == 303
        assert (await admin.get("/transfers")).status == 303


# --- markup --------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Collects what a browser would do something with."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        handlers = [name for name, _ in attrs if name.startswith("on")]
        source = dict(attrs).get("src") or ""
        if handlers or (tag == "script" and not source.startswith("/static/")) or source == "x":
            self.bad.append(f"{tag} {attrs}")


async def test_markup_in_every_field_is_text(tmp_path: Path) -> None:
    """Whatever people and programs store comes out as text, on every page."""
    async with rig(tmp_path, api=OFTEN, pages=True) as hub:
        node = hub.node
        await node.destination("NORTH")
        user = DataUser(
            login="alice", service=Service.SELF, comment=HOSTILE, country=HOSTILE,
            destinations=("NORTH",), policies=("public",), ssh_keys=(f"ssh-ed25519 {HOSTILE}",),
            operations=frozenset(Permission),
        )  # fmt: skip
        policy = Policy(name="public", comment=HOSTILE, destinations=("NORTH",))
        await node.accounts.put_policy(policy, SYSTEM)
        await node.accounts.put_user(user, Credentials(), SYSTEM)
        admin = await browser(hub, "anna", Role.ADMIN)
        web = WebUser(
            name="olga", comment=HOSTILE, grants=(Grant(role=Role.VIEWER, scope=HOSTILE),)
        )
        await node.accounts.put_web_user(web, Credentials(), SYSTEM)
        await hub.token("olga", objects=(HOSTILE,), networks=(HOSTILE,))
        person = {"name": HOSTILE, "email": "a@b.cd", "country": ""}
        await admin.post("/portal/users/alice/actions/subscriber", person)
        await admin.post("/portal/users/alice/actions/s3_key", {"comment": HOSTILE})
        await node.gate.failed_elsewhere("198.51.100.7", HOSTILE, is_known=False)
        for address in OF_ADMIN:
            answer = await admin.get(address)
            assert answer.status in {200, 422}, (address, answer.status)
            _assert_harmless(address, answer.text)
        for path in ("/portal/users/new", "/portal/policies/new", "/system/web-users/new",
                     "/system/tokens", "/system/certificates/actions/import"):  # fmt: skip
            keys = ("login", "name", "comment", "country", "destinations", "policies", "options",
                    "operations", "ssh_keys", "scope", "role", "scopes", "objects", "networks",
                    "owner", "days", "certificate", "key", "names")  # fmt: skip
            answer = await admin.post(path, dict.fromkeys(keys, HOSTILE))
            assert answer.status == 422, path
            _assert_harmless(path, answer.text)


def _assert_harmless(place: str, text: str) -> None:
    parser = Elements()
    parser.feed(text)
    assert parser.bad == [], place
    assert "{{7*7}}49" not in text


OF_ADMIN: Final = (
    "/portal/users", "/portal/users?q=" + quote(HOSTILE), "/portal/users/alice",
    "/portal/users/alice/edit", "/portal/users/alice/delete", "/portal/users/new",
    "/portal/policies", "/portal/policies/public", "/portal/policies/public/edit",
    "/portal/sessions", "/portal/bans", "/portal/subscribers", "/portal/history", "/notify",
    "/notify?state=" + quote(HOSTILE), "/notify/clients", "/notify/try?transfer=" + quote(HOSTILE),
    "/notify/retained?filter=" + quote(HOSTILE), "/events", "/events?q=" + quote(HOSTILE),
    "/audit", "/audit?name=" + quote(HOSTILE), "/incidents", "/incidents?state=resolved",
    "/system/web-users", "/system/web-users/olga/edit", "/system/web-users/new", "/system/roles",
    "/system/tokens", "/system/certificates", "/system/mail", "/system/tasks", "/system/config",
)  # fmt: skip


# --- pages about a host --------------------------------------------------------------------------


async def test_the_network_and_the_leftovers_of_a_host(tmp_path: Path) -> None:
    """An open port answers three times, a closed one never; nothing is left to be removed."""
    async with rig(tmp_path, api=OFTEN, pages=True) as hub:
        page = await browser(hub, "olga", Role.OPERATOR)
        open_port = str(hub.client().base.rpartition(":")[2].partition("/")[0])
        for name, port in (("web", open_port), ("shut", "1")):
            await hub.host(name, tmp_path, method="genericHttp", host="127.0.0.1",
                           options={"http.port": port})  # fmt: skip
            assert "Ask the network" in (await page.get(f"/hosts/{name}/network")).text
        answer = await page.post("/hosts/web/network")
        assert answer.status == 200
        assert "answers" in answer.text
        assert "3 of 3" in answer.text
        answer = await page.post("/hosts/shut/network")
        assert "does not answer" in answer.text
        assert "0 of 3" in answer.text
        assert (await page.post("/hosts/web/leftovers")).status == 303
        assert (await page.post("/hosts/web/network", csrf="wrong")).status == 403
        shown = await page.get("/hosts?view=map")
        assert "No host says where it is." in shown.text
        table = await page.get("/stats/portal?format=csv&by=day")
        assert table.text.splitlines() == [
            "name,files,uploaded,downloaded,seconds,bytes_per_second"
        ]
