"""Operations by path, and what of the portal's texts is refused at save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecpds.base.totp import STEP, code_of
from ecpds.engine.portaltexts import check_portal_texts
from ecpds.model.account import Permission, Protocol
from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError, Denied, NotFound, RuleError, Unauthenticated
from ecpds.model.pathrights import parse_path_rights, rights_at
from ecpds.model.secret import Secret
from tests.clock import FakeClock
from tests.node import small_node
from tests.tree import tree

P = Permission


def test_the_longest_prefix_wins() -> None:
    rules = parse_path_rights("/MET: dir,get\n/MET/in/ : put, MKDIR; # a comment\n/MET/in/x:")
    assert rights_at(rules, "/MET/in/f") == frozenset({P.PUT, P.MKDIR})
    assert rights_at(rules, "/MET/inx") == frozenset({P.DIR, P.GET})
    assert rights_at(rules, "/MET/in/x/y") == frozenset()
    assert rights_at(rules, "/OTHER") is None


@pytest.mark.parametrize("text", ["MET: get", "/MET", "/MET: fly", "/a: get; /a/: put", "x"])
def test_rules_that_cannot_be_read(text: str) -> None:
    with pytest.raises(RuleError):
        parse_path_rights(text)


async def test_paths_have_operations_of_their_own(tmp_path: Path) -> None:
    options = {"portal.pathPermissions": "/NORTH/in: put,mkdir; /NORTH: dir,get"}
    async with tree(tmp_path, user_options=options) as t:
        await t.put("/NORTH/in/f")
        with pytest.raises(Denied):
            await t.put("/NORTH/f")
        with pytest.raises(Denied):
            await t.get("/NORTH/in/f")
        with pytest.raises(NotFound):
            await t.session.stat("/NORTH/in/f")
        assert await t.names("/NORTH") == ["in/"]
        await t.put("/SOUTH/f")  # no rule reaches: the user's own operations count


async def test_rules_by_path_are_permissions_too(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("NORTH")
        await node.user("bob", operations=(), destinations=("NORTH",))
        with pytest.raises(Unauthenticated):
            await node.login("bob")
        options = {"portal.pathPermissions": "/NORTH: dir"}
        await node.user("bob", operations=(), destinations=("NORTH",), options=options)
        async with await node.login("bob"):
            pass


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("portal.maxConnectionsSchedule", "25:00-26:00=1"),
        ("portal.headerRegistry", "nonsense"),
        ("portal.pathPermissions", "nonsense"),
        ("portal.excludeProtocols", "gopher"),
        ("portal.registrationAdminEmail", "nobody"),
        ("portal.getPathPermRegex", "(["),
    ],
)
def test_texts_are_checked_when_they_are_saved(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=key):
        check_portal_texts({key: text}, Where(path=("options",)))


def test_good_texts_pass() -> None:
    options = {
        "portal.maxConnectionsSchedule": "22:00-24:00=5", "portal.excludeProtocols": "scp, s3",
        "portal.registrationAdminEmail": "a@b; c@d", "portal.getPathPermRegex": "",
        "portal.putPathPermRegex": ".*", "portal.title": "([",
    }  # fmt: skip
    check_portal_texts(options, Where())


@pytest.mark.parametrize("protocol", [Protocol.FTP, Protocol.SFTP, Protocol.HTTPS])
async def test_renames_may_replace(protocol: Protocol, tmp_path: Path) -> None:
    """By option, and only where clients cannot say themselves what they want."""
    options: dict[str, Any] = {"portal.renameReplace": "yes"}
    async with tree(tmp_path, user_options=options, protocol=protocol) as t:
        await t.put("/NORTH/a", b"new")
        await t.put("/NORTH/b", b"old")
        if protocol is Protocol.HTTPS:
            with pytest.raises(Exception, match="exists"):
                await t.session.rename("/NORTH/a", "/NORTH/b")
            return
        await t.session.rename("/NORTH/a", "/NORTH/b")
        assert await t.get("/NORTH/b") == b"new"
        assert await t.names("/NORTH") == ["b"]


async def test_a_code_is_not_used_again_after_a_restart(tmp_path: Path) -> None:
    clock, secret = FakeClock(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    code = code_of(Secret(secret), int(clock.now().timestamp()) // STEP)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("NORTH")
        await node.user("bob", totp=secret, destinations=("NORTH",))
        async with await node.login("bob", code):
            pass
    async with small_node(tmp_path, clock=clock) as node:
        with pytest.raises(Unauthenticated):
            await node.login("bob", code)
