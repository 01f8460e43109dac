"""Options of data users that no other test shows at a door (portal.md 1.4 and 4.1)."""

from __future__ import annotations

from pathlib import Path

from ecpds.model.account import Permission, Service
from ecpds.store import history
from tests.portalsite import site


async def test_private_addresses_can_be_denied(tmp_path: Path) -> None:
    """`portal.geoPrivate`: refused like a wrong password, and told to operators."""
    async with site(tmp_path, user={"options": {"portal.geoPrivate": "deny"}}) as s:
        assert (await s.ask("GET", "/ecpds/data/list/NORTH")).status == 401
        await s.node.gate.close()
        [(_, told), *_] = await s.node.store.read(history.events, limit=9, kind="DEA")
        assert told["error"]["message"] == "Geolocation restriction"


async def test_the_last_login_is_kept_unless_that_is_off(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        off = {"portal.updateLastLoginInformation": "no"}
        await s.node.user("bob", destinations=("NORTH",), options=off)
        for user, is_kept in (("alice", True), ("bob", False)):
            assert (await s.ask("GET", "/ecpds/data/list/NORTH", user=user)).status == 200
            stored = (await s.node.accounts.user(user)).user
            assert (stored.last_login_at is not None) is is_kept, user
            assert (stored.last_login_from == "127.0.0.1") is is_kept, user


async def test_the_login_button_can_be_hidden(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        for options, is_shown in (({}, True), ({"portal.loginButton": "no"}, False)):
            await s.node.user(
                "pub", destinations=("NORTH",), service=Service.OPEN, password=None,
                operations={Permission.DIR, Permission.GET}, options=options,
            )  # fmt: skip
            page = await s.ask("GET", "/ecpds/home/pub/", user="", headers={"Accept": "text/html"})
            assert page.status == 200
            assert ("Log in</a>" in page.text) is is_shown
