"""Data users, policies, web users, tokens, sessions and bans over the API."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.account import Protocol, Role
from ecpds.model.errors import Incomplete, Unauthenticated
from tests.protocol.api import rig

USER = {
    "login": "alice",
    "password": "s3cret-one-long",
    "destinations": ["NORTH"],
    "operations": ["dir", "get"],
    "ssh_keys": [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPeh0r0sMZ1tcG1Hd0c0fKe0bkNf0t6kP5e3xkFvGq1A a"
    ],
    "options": {"portal.sort": "time"},
    "comment": "c",
}


async def test_data_users(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        made = await hub.admin.post("/portal/users", USER)
        assert made.status == 201, made.text
        assert made.headers["Location"] == "/api/v2/portal/users/alice"
        assert (made.json["has_password"], made.json["password"]) == (True, "***")
        async with await hub.node.login("alice", "s3cret-one-long"):
            pass
        again = await hub.admin.post("/portal/users", USER)
        assert (again.status, again.json["code"]) == (409, "conflict")

        seen = await hub.admin.get("/portal/users/alice")
        back = await hub.admin.put("/portal/users/alice", seen.json, match=seen.headers["ETag"])
        assert back.status == 200, back.text
        async with await hub.node.login("alice", "s3cret-one-long"):
            pass  # stars keep the password
        changed = await hub.admin.patch(
            "/portal/users/alice", {"password": "s3cret-two-long", "operations": ["dir"]}, match="*"
        )
        assert changed.json["operations"] == ["dir"]
        assert changed.json["comment"] == "c"
        with pytest.raises(Unauthenticated):
            await hub.node.login("alice", "s3cret-one-long")
        async with await hub.node.login("alice", "s3cret-two-long"):
            pass
        assert [one["login"] for one in (await hub.admin.get("/portal/users")).items] == ["alice"]
        assert "s3cret" not in (await hub.admin.get("/portal/users")).text
        assert (await hub.admin.delete("/portal/users/alice", match='"0"')).status == 412
        assert (await hub.admin.delete("/portal/users/alice", match="*")).status == 204
        assert (await hub.admin.get("/portal/users/alice")).status == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"login": "a b"}, "/login"),
        ({"destinations": ["NOTRH"]}, "/destinations/0"),
        ({"policies": ["public"]}, "/policies/0"),
        ({"operations": ["dri"]}, "/operations/0"),
        ({"service": "open"}, "/service"),
        ({"options": {"portal.srot": "time"}}, "/options/portal.srot"),
        ({"options": {"sftp.port": "22"}}, "/options/sftp.port"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_mistakes_of_users(tmp_path: Path, change: dict[str, Any], pointer: str) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        answer = await hub.admin.post("/portal/users", USER | change)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
        tried = await hub.admin.post("/portal/users?dry_run=true", USER | change)
        assert tried.status == 422
        assert (await hub.admin.get("/portal/users")).items == []


async def test_generated_credentials_are_shown_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        assert (await hub.admin.post("/portal/users?dry_run=true", USER)).status == 200
        assert (await hub.admin.get("/portal/users/alice")).status == 404
        assert (await hub.admin.post("/portal/users", USER)).status == 201
        password = (await hub.admin.post("/portal/users/alice/actions/reset_password")).json
        async with await hub.node.login("alice", password["password"]):
            pass
        first = (await hub.admin.post("/portal/users/alice/s3_keys")).json
        second = (await hub.admin.post("/portal/users/alice/s3_keys")).json
        seen = await hub.admin.get("/portal/users/alice")
        assert [pair["access_key"] for pair in seen.json["s3_keys"]] == sorted(
            [first["access_key"], second["access_key"]]
        )
        for secret in (password["password"], first["secret"], second["secret"]):
            assert secret not in seen.text
        # stars keep the pairs, a list replaces them
        await hub.admin.put("/portal/users/alice", seen.json, match="*")
        assert len((await hub.admin.get("/portal/users/alice")).json["s3_keys"]) == 2
        pairs = [{"access_key": "AK", "secret": "s"}]
        await hub.admin.patch("/portal/users/alice", {"s3_keys": pairs}, match="*")
        assert len((await hub.admin.get("/portal/users/alice")).json["s3_keys"]) == 1


async def test_policies(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        body = {"name": "public", "destinations": ["NORTH"], "operations": ["get", "dir"]}
        made = await hub.admin.post("/portal/policies", body)
        assert (made.status, made.json["operations"]) == (201, ["dir", "get"])
        assert (await hub.admin.post("/portal/policies", body)).status == 409
        tag = made.headers["ETag"]
        changed = await hub.admin.patch("/portal/policies/public", {"comment": "x"}, match=tag)
        assert changed.json["comment"] == "x"
        assert (await hub.admin.put("/portal/policies/public", body, match=tag)).status == 412
        assert (await hub.admin.put("/portal/policies/public", body)).status == 428
        user = {"login": "bob", "policies": ["public"], "password": "long enough pass"}
        assert (await hub.admin.post("/portal/users", user)).status == 201
        of_north = await hub.admin.get("/portal/users?destination=NORTH")
        assert [one["login"] for one in of_north.items] == ["bob"]
        assert (await hub.admin.delete("/portal/policies/public", match="*")).status == 204
        assert (await hub.admin.get("/portal/policies/public")).status == 404


async def test_users_belong_to_the_scopes_of_their_destinations(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("NORTH", "SOUTH"):
            await hub.node.destination(name)
        await hub.node.policy("south", destinations=("SOUTH",))
        for login, names in (("n", ("NORTH",)), ("s", ("SOUTH",)), ("b", ("NORTH", "SOUTH"))):
            await hub.node.user(login, destinations=names)
        await hub.node.user("none")
        editor = await hub.as_user("ed", Role.EDITOR, "NORTH")
        seen = [one["login"] for one in (await editor.get("/portal/users")).items]
        assert seen == ["b", "n"]
        assert (await editor.get("/portal/users/s")).status == 404
        assert (await editor.get("/portal/users/none")).status == 404
        assert (await editor.patch("/portal/users/n", {"comment": "x"}, match="*")).status == 200
        assert (await editor.patch("/portal/users/b", {"comment": "x"}, match="*")).status == 403
        assert (await editor.patch("/portal/users/s", {}, match="*")).status == 404
        # nobody gets more than the editor has
        more = {"destinations": ["NORTH", "SOUTH"]}
        assert (await editor.patch("/portal/users/n", more, match="*")).status == 403
        via = {"policies": ["south"]}
        assert (await editor.patch("/portal/users/n", via, match="*")).status == 403
        assert (await editor.post("/portal/users", {"login": "nina"})).status == 403
        fine = {"login": "nina", "destinations": ["NORTH"]}
        assert (await editor.post("/portal/users", fine)).status == 201
        assert (await editor.get("/portal/policies")).items == []
        assert (await editor.get("/portal/policies/south")).status == 404
        wide = {"name": "p", "destinations": ["SOUTH"]}
        assert (await editor.post("/portal/policies", wide)).status == 403
        assert (await editor.get("/portal/sessions")).status == 403


async def test_sessions_and_bans(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.user("alice", destinations=("NORTH",))
        async with await hub.node.login("alice") as session:
            found = (await hub.admin.get("/portal/sessions?user=alice")).items
            assert [(one["user"], one["protocol"]) for one in found] == [("alice", "sftp")]
            gone = await hub.admin.delete(f"/portal/sessions/{found[0]['id']}")
            assert gone.status == 204
            assert session.closing
        assert (await hub.admin.delete("/portal/sessions/999")).status == 404
        for _ in range(8):
            await hub.node.gate.failed_elsewhere("2001:db8::7", "x", is_known=False)
        ban = (await hub.admin.get("/portal/bans")).items[0]
        assert ban["address"] == "2001:db8::/64"
        path = "/portal/bans/2001:db8::%2F64"
        assert (await hub.admin.delete(path)).status == 204
        assert (await hub.admin.delete(path)).status == 404
        assert (await hub.admin.get("/portal/bans")).items == []


# --- web users and tokens


async def test_web_users(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        body = {
            "name": "olga",
            "password": "s3cret and long",
            "roles": [{"role": "operator", "scope": "NORTH*"}],
        }
        made = await hub.admin.post("/web_users", body)
        assert made.status == 201, made.text
        assert made.json["roles"] == [{"role": "operator", "scope": "NORTH*", "restricted": False}]
        assert "s3cret" not in (await hub.admin.get("/web_users")).text
        seen = await hub.admin.get("/web_users/olga")
        put = await hub.admin.put("/web_users/olga", seen.json, match=seen.headers["ETag"])
        assert (put.status, put.json["has_password"]) == (200, True)
        wrong = await hub.admin.patch("/web_users/olga", {"roles": [{"role": "boss"}]}, match="*")
        assert wrong.json["errors"][0]["pointer"] == "/roles/0/role"
        assert (await hub.admin.delete("/web_users/olga", match="*")).status == 204
        for name in ("viewer", "operator", "editor"):
            client = await hub.as_user(name, Role(name))
            assert (await client.get("/web_users")).status == 403
            assert (await client.post("/web_users", body)).status == 403


async def test_the_last_administrator_stays(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        refused = await hub.admin.delete("/web_users/admin", match="*")
        assert (refused.status, refused.json["detail"]) == (409, "admin is the last administrator")
        for change in ({"active": False}, {"roles": [{"role": "admin", "scope": "NORTH"}]}):
            assert (await hub.admin.patch("/web_users/admin", change, match="*")).status == 409
        await hub.web_user("root", Role.ADMIN)
        assert (await hub.admin.delete("/web_users/admin", match="*")).status == 204
        assert (await hub.admin.get("/whoami")).status == 401  # its tokens end with it


async def test_tokens(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        body = {"name": "ci", "scopes": ["transfers:read"], "objects": ["NORTH*"]}
        made = await hub.admin.post("/tokens", body)
        assert made.status == 201
        secret = made.json["token"]
        assert secret.startswith("ddt_")
        assert secret not in (await hub.admin.get("/tokens")).text
        assert secret not in (await hub.admin.get(f"/tokens/{made.json['id']}")).text
        client = hub.client(secret)
        assert (await client.get("/transfers")).status == 200
        assert (await client.get("/destinations")).status == 403
        who = (await client.get("/whoami")).json
        assert (who["name"], who["kind"]) == ("admin", "token")
        assert who["limits"] == {"scopes": ["transfers:read"], "objects": ["NORTH*"]}
        seen = (await hub.admin.get(f"/tokens/{made.json['id']}")).json
        assert seen["last_address"] == "127.0.0.1"
        assert seen["last_used"]
        assert (await hub.admin.get("/tokens/ci")).json["id"] == made.json["id"]
        assert (await hub.admin.delete("/tokens/ci")).status == 204
        assert (await client.get("/transfers")).status == 401
        assert (await hub.admin.delete("/tokens/ci")).status == 404


async def test_a_token_without_scopes_may_only_look(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        made = await hub.admin.post("/tokens", {"name": "look"})
        assert made.json["scopes"] == ["*:read"]
        client = hub.client(made.json["token"])
        assert (await client.get("/destinations")).status == 200
        assert (await client.post("/destinations", {"name": "N"})).status == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "a", "scopes": ["transfer:read"]}, "/scopes/0"),
        ({"name": "a", "networks": ["nowhere"]}, "/networks/0"),
        ({"name": "a", "expires": "2020-01-01T00:00:00Z"}, "/expires"),
        ({"name": "a", "scope": ["*:*"]}, "/scope"),
    ],
)
async def test_mistakes_of_tokens(tmp_path: Path, body: dict[str, Any], pointer: str) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.admin.post("/tokens", body)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)


async def test_tokens_expire_and_know_their_network(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        now = hub.node.core.clock.now()
        over = hub.client(await hub.token(expires_at=now - timedelta(seconds=1)))
        assert (await over.get("/whoami")).status == 401
        elsewhere = hub.client(await hub.token(networks=("192.0.2.0/24",)))
        assert (await elsewhere.get("/whoami")).status == 401
        here = hub.client(await hub.token(networks=("192.0.2.0/24", "127.0.0.0/8")))
        assert (await here.get("/whoami")).status == 200


async def test_nobody_makes_a_token_that_may_more(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        viewer = await hub.as_user("vi", Role.VIEWER, "NORTH")
        wide = await viewer.post("/tokens", {"name": "wide", "scopes": ["*:*"]})
        assert wide.status == 201  # bounded by its owner at every use
        client = hub.client(wide.json["token"])
        assert (await client.post("/destinations", {"name": "N"})).status == 403
        assert (await client.get("/web_users")).status == 403
        for_admin = await viewer.post("/tokens", {"name": "x", "owner": "admin"})
        assert for_admin.status == 403
        narrow = hub.client(
            await hub.token(scopes=("tokens:write", "files:read"), objects=("NORTH",))
        )
        for body in (
            {"name": "x", "scopes": ["files:write"]},
            {"name": "x", "scopes": ["files:read"]},
            {"name": "x", "scopes": ["files:read"], "objects": ["*"]},
        ):
            assert (await narrow.post("/tokens", body)).status == 403
        same = {"name": "x", "scopes": ["files:read"], "objects": ["NORTH"]}
        assert (await narrow.post("/tokens", same)).status == 201
        # own ones only, unless administrator
        assert {one["owner"] for one in (await viewer.get("/tokens")).items} == {"vi"}
        assert {one["owner"] for one in (await hub.admin.get("/tokens")).items} == {"vi", "admin"}
        admins = (await hub.admin.get("/tokens?limit=1")).items[0]
        assert (await viewer.delete(f"/tokens/{admins['id']}")).status == 404


async def test_key_pairs_have_a_scope_and_an_end(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.admin.post("/portal/users", USER)
        wish = {"prefix": "NORTH/in/", "read_only": True, "expires": "2999-01-01T00:00:00Z"}
        made = await hub.admin.post("/portal/users/alice/s3_keys", wish)
        assert made.status == 201
        await hub.admin.post("/portal/users/alice/s3_keys")
        seen = (await hub.admin.get("/portal/users/alice/s3_keys")).items
        assert len(seen) == 2
        [narrow] = [one for one in seen if one["read_only"]]
        assert narrow == {key: text for key, text in made.json.items() if key != "secret"}
        assert narrow["prefix"] == "NORTH/in/"
        for bad in (
            {"prefix": "NOWHERE/"},
            {"expires": "2000-01-01T00:00:00Z"},
            {"colour": "red"},
        ):
            assert (await hub.admin.post("/portal/users/alice/s3_keys", bad)).status == 422, bad
        assert (
            await hub.admin.post("/portal/users/alice/s3_keys", {"subscriber": 7})
        ).status == 404
        # a list in the user's document takes away what it does not name, and no scope
        keep = [{"access_key": narrow["access_key"], "secret": "other"}]
        await hub.admin.patch("/portal/users/alice", {"s3_keys": keep}, match="*")
        [left] = (await hub.admin.get("/portal/users/alice/s3_keys")).items
        assert (left["access_key"], left["read_only"]) == (narrow["access_key"], True)
        target = f"/portal/users/alice/s3_keys/{left['access_key']}"
        assert (await hub.admin.delete(target)).status == 204
        assert (await hub.admin.delete(target)).status == 404


async def test_traffic_is_summed_by_user_protocol_and_direction(tmp_path: Path) -> None:
    """Over all, by steps, of one user; failed ones are told apart."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        for login in ("alice", "bob"):
            await hub.node.user(login, destinations=("NORTH",))
        for login, protocol, size in (
            ("alice", Protocol.SFTP, 5), ("alice", Protocol.S3, 7), ("bob", Protocol.FTP, 11),
        ):  # fmt: skip
            async with await hub.node.login(login, protocol=protocol) as session:
                path = f"/NORTH/{login}{size}"
                async with await session.open_write(path) as writer:
                    writer.write(b"x" * size, 0)
                    await writer.commit(size=size)
                if protocol is Protocol.SFTP:
                    reader = await session.open_read(path)
                    reader.count(3)
                    await reader.close(Incomplete("the client is gone"))
        found = (await hub.admin.get("/portal/traffic")).items
        shown = [
            (one["user"], one["protocol"], one["direction"], one["files"], one["bytes"],
             one["failed"])
            for one in found
        ]  # fmt: skip
        assert shown == [
            ("alice", "s3", "upload", 1, 7, 0),
            ("alice", "sftp", "download", 1, 3, 1),
            ("alice", "sftp", "upload", 1, 5, 0),
            ("bob", "ftp", "upload", 1, 11, 0),
        ]
        steps = (await hub.admin.get("/portal/traffic?step=1d&since=P2D&user=bob")).items
        assert sum(one["bytes"] for one in steps) == 11
        assert {one["start"][10:] for one in steps} == {"T00:00:00Z"}
        assert (await hub.admin.get("/portal/traffic?since=P400D")).status == 400
        assert (await hub.admin.get("/portal/traffic?step=1s")).status == 400
        assert (await hub.admin.get("/portal/traffic?step=often")).status == 400
