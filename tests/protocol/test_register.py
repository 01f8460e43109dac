"""Self-service: registration, approval, lost passwords, and what ends a session."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.passwords import token_hash
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.subscribers import Person, SubscriberOperations
from ecpds.model.account import Service
from ecpds.model.errors import Conflict, Exists, InputError, NotFound
from ecpds.store import accounts
from tests.portalsite import Site, site
from tests.protocol.https_site import Got

AUTO = {"portal.registrationAutoApprove": "yes", "portal.registrationEmailExtraAccess": "Enjoy!"}


class People:
    """A site with the self-service user `feed`, and its mailbox."""

    def __init__(self, s: Site, folder: Path) -> None:
        self.site = s
        self.mailbox = folder / "data" / "mail"
        self._read = 0

    async def mail(self) -> tuple[str, str, str]:
        """Return receiver, subject and text of the next mail."""
        async with asyncio.timeout(10):
            while len(found := sorted(self.mailbox.glob("*.eml"))) <= self._read:
                await asyncio.sleep(0.01)
        message = message_from_bytes(found[self._read].read_bytes(), policy=policy.default)
        self._read += 1
        return message["To"], message["Subject"], message.get_content()

    @property
    def mails(self) -> int:
        return len(list(self.mailbox.glob("*.eml"))) - self._read

    async def post(self, path: str, **fields: str) -> Got:
        headers = {"Content-Type": "application/json"}
        body = json.dumps(fields).encode()
        return await self.site.ask("POST", f"/ecpds/{path}", user="", body=body, headers=headers)

    async def register(self, email: str = "ann@example.org", **fields: str) -> Got:
        given = {"user": "feed", "name": "Ann", "email": email, "iso": "fr"} | fields
        return await self.post("register", **given)

    async def follow(self, text: str) -> str:
        """Open the link in a mail; return the state that the browser is sent to."""
        link = re.search(r"https?://\S+?(/ecpds/verify\?token=\S+)", text)
        assert link is not None, text
        got = await self.site.ask("GET", link[1], user="")
        assert got.status == 303
        return got.headers["Location"].partition("state=")[2]

    async def password(self) -> str:
        _, subject, text = await self.mail()
        assert subject == "Your access to feed"
        found = re.search(r"Password: +(\S+)", text)
        assert found is not None
        return found[1]


@asynccontextmanager
async def people(folder: Path, options: Mapping[str, Any] | None = None) -> AsyncIterator[People]:
    async with site(folder) as s:
        await s.node.user(
            "feed", password="never", service=Service.SELF, destinations=("NORTH",),
            options=AUTO if options is None else options,
        )  # fmt: skip
        yield People(s, folder)


async def test_ex_23_register_verify_log_in_and_be_deactivated(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        s = p.site
        got = await p.register()
        assert (got.status, json.loads(got.body)) == (200, {"status": "pending"})
        assert (await s.ask("GET", "/ecpds/file/", user="feed", password="never")).status == 401
        to, subject, text = await p.mail()
        assert (to, subject) == ("ann@example.org", "Please confirm your registration for feed")
        assert await p.follow(text) == "activated"
        assert await p.follow(text) == "invalid"
        password = await p.password()
        assert (await s.ask("GET", "/ecpds/file/", user="feed", password=password)).status == 200
        async with s.ftp("feed", password), s.sftp(username="feed", password=password) as sftp:
            assert "NORTH" in await sftp.listdir("/DATA")
        form = f"username=feed&password={password}".encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        got = await s.ask("POST", "/ecpds/login", user="", body=form, headers=kind)
        cookie = got.headers.getall("Set-Cookie")  # type: ignore[attr-defined] # a multidict
        session = next(one.partition(";")[0] for one in cookie if "portal_session" in one)
        browser = {"Cookie": f"{session}; portal_client=browser", "Accept": "text/html"}
        assert (await s.ask("GET", "/ecpds/file/", user="", headers=browser)).status == 200
        operations = SubscriberOperations(s.node.core)
        [one] = await operations.of("feed")
        assert (one.email, one.name, one.country, one.active) == (
            "ann@example.org", "Ann", "FR", True
        )  # fmt: skip
        await operations.deactivate("feed", one.id, SYSTEM)
        got = await s.ask("GET", "/ecpds/file/", user="", headers=browser)
        assert (got.status, got.headers["Location"][:12]) == (302, "/ecpds/login")
        assert (await s.ask("GET", "/ecpds/file/", user="feed", password=password)).status == 401


async def test_a_deactivated_person_is_hung_up_on(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.register()
        await p.follow((await p.mail())[2])
        password = await p.password()
        operations = SubscriberOperations(p.site.node.core)
        async with p.site.ftp("feed", password) as ftp:
            [one] = await operations.of("feed")
            await operations.deactivate("feed", one.id, SYSTEM)
            async with asyncio.timeout(10):
                while p.site.node.gate.sessions():
                    await asyncio.sleep(0.01)
            del ftp


async def test_an_administrator_approves(tmp_path: Path) -> None:
    options = {"portal.registrationAdminEmail": "boss@example.org"}
    async with people(tmp_path, options) as p:
        await p.register()
        text = (await p.mail())[2]
        assert (await p.mail())[0] == "boss@example.org"
        assert await p.follow(text) == "verified"
        to, _, notice = await p.mail()
        assert to == "boss@example.org"
        assert "ecpds subscriber activate feed 1" in notice
        assert p.mails == 0  # no password before the approval
        operations = SubscriberOperations(p.site.node.core)
        await p.register()  # again: no new link, only a note to the person
        assert (await p.mail())[1] == "You have access to feed already"
        assert (await operations.activate("feed", 1, SYSTEM)).active
        password = await p.password()
        ask = p.site.ask
        assert (await ask("GET", "/ecpds/file/", user="feed", password=password)).status == 200
        await operations.activate("feed", 1, SYSTEM)  # a new password; the old one is void
        assert (await ask("GET", "/ecpds/file/", user="feed", password=password)).status == 401


async def test_nobody_learns_who_is_registered(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        first = await p.register()
        await p.follow((await p.mail())[2])
        await p.password()
        second = await p.register("ANN@example.org")
        assert (first.status, first.body) == (second.status, second.body)
        assert (await p.mail())[1] == "You have access to feed already"
        known = await p.post("reset", user="feed", email="ann@example.org")
        unknown = await p.post("reset", user="feed", email="bob@example.org")
        assert (known.status, known.body) == (unknown.status, unknown.body) == (
            200, b'{"status": "sent"}'
        )  # fmt: skip


async def test_a_lost_password_is_replaced(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.register()
        await p.follow((await p.mail())[2])
        old = await p.password()
        await p.post("reset", user="feed", email="ann@example.org")
        _, subject, text = await p.mail()
        assert subject == "A new password for feed"
        link = re.search(r"/ecpds/reset\?token=(\S+)", text)
        assert link is not None
        page = await p.site.ask("GET", link[0], user="", headers={"Accept": "text/html"})
        assert b"Send a new password" in page.body  # opening it changes nothing
        ask = p.site.ask
        assert (await ask("GET", "/ecpds/file/", user="feed", password=old)).status == 200
        assert json.loads((await p.post("reset", token=link[1])).body) == {"status": "renewed"}
        assert json.loads((await p.post("reset", token=link[1])).body) == {"status": "invalid"}
        new = await p.password()
        assert (await ask("GET", "/ecpds/file/", user="feed", password=old)).status == 401
        assert (await ask("GET", "/ecpds/file/", user="feed", password=new)).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "x" * 101}, {"email": ""}, {"email": "nonsense"},
        {"email": "a@b\r\nBcc: x@y.z"}, {"iso": "france"}, {"user": ""}, {"user": "alice"},
        {"user": "nobody"}, {"user": "asleep"},
    ],
)  # fmt: skip
async def test_what_cannot_be_registered(fields: dict[str, str], tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.site.node.user("asleep", service=Service.SELF, active=False)
        got = await p.register(**fields)
        assert got.status == 400
        assert set(json.loads(got.body)) == {"message"}
        assert p.mails == 0
        assert (await p.site.ask("GET", "/ecpds/register?user=alice", user="")).status == 404


async def test_registrations_have_limits(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        for _ in range(5):
            assert (await p.register()).status == 200
        assert p.mails == 3  # a mailbox of somebody is not flooded
        got = await p.register("other@example.org")
        assert (got.status, got.headers["Retry-After"]) == (429, "3600")


async def test_forms_work_without_scripts(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        html = {"Accept": "text/html"}
        form = await p.site.ask("GET", "/ecpds/register?user=feed", user="", headers=html)
        assert b'action="/ecpds/register"' in form.body
        kind = html | {"Content-Type": "application/x-www-form-urlencoded"}
        body = b"user=feed&name=%3Cb%3EAnn&email=ann%40example.org&iso="
        got = await p.site.ask("POST", "/ecpds/register", user="", body=body, headers=kind)
        assert (got.status, got.headers["Location"]) == (303, "/ecpds/register?state=pending")
        body = b"user=%3Cscript%3E&name=Ann&email=x"
        got = await p.site.ask("POST", "/ecpds/register", user="", body=body, headers=kind)
        assert (got.status, b"<script>" in got.body) == (400, False)
        for state in ("pending", "activated", "verified", "invalid"):
            got = await p.site.ask("GET", f"/ecpds/register?state={state}", user="", headers=html)
            assert (got.status, b"notice" in got.body) == (200, True)


async def test_a_link_ends_after_a_day_and_with_its_user(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        await p.register()
        text = (await p.mail())[2]
        await p.site.node.user("feed", service=Service.STANDARD, destinations=("NORTH",))
        assert await p.follow(text) == "invalid"
        got = await p.site.ask("GET", "/ecpds/verify?token=" + "x" * 5000, user="")
        assert got.headers["Location"].endswith("state=invalid")
        assert (await p.site.ask("HEAD", "/ecpds/verify?token=x", user="")).status == 405


async def test_administrators_add_and_remove_people(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        operations = SubscriberOperations(p.site.node.core)
        person = Person.checked("Bob", "bob@example.org", "")
        made, password = await operations.create("feed", person, SYSTEM)
        assert await p.password() == password
        ask = p.site.ask
        assert (await ask("GET", "/ecpds/file/", user="feed", password=password)).status == 200
        with pytest.raises(Exists):
            await operations.create("feed", person, SYSTEM)
        with pytest.raises(Conflict):
            await operations.create("alice", person, SYSTEM)
        with pytest.raises(NotFound):
            await operations.get("alice", made.id)
        await operations.delete("feed", made.id, SYSTEM)
        assert (await ask("GET", "/ecpds/file/", user="feed", password=password)).status == 401
        found = await p.site.node.store.read(accounts.subscriber, "feed", token_hash(password))
        assert found is None
        with pytest.raises(InputError):
            await operations.options("alice")
