"""Site files over the API: applied all or nothing, exported so that applying changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecpds.model.account import Role
from tests.protocol.api import rig

SITE: dict[str, Any] = {
    "hosts": [
        {"name": "h", "method": "genericSftp", "host": "x", "password": "s3cret-host",
         "options": {"sftp.port": 22}},
    ],
    "destinations": [
        {"name": "NORTH", "hosts": ["h"], "aliases": [{"to": "COPY"}]},
        {"name": "COPY", "options": {"scheduler.delay": "10m"}},
    ],
    "policies": [{"name": "public", "destinations": ["NORTH"], "operations": ["dir"]}],
    "data_users": [{"login": "alice", "password": "s3cret-user", "policies": ["public"]}],
    "web_users": [{"name": "olga", "roles": [{"role": "operator", "scope": "NORTH*"}]}],
}  # fmt: skip


async def test_apply_export_apply(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        tried = await hub.admin.post("/site", {"data": SITE, "file": "s.toml", "dry_run": True})
        assert tried.status == 200, tried.text
        assert (await hub.admin.get("/destinations")).items == []
        first = await hub.admin.post("/site", {"data": SITE, "file": "s.toml"})
        assert [(one["action"], one["kind"], one["name"]) for one in first.json["changes"]] == [
            ("create", "host", "h"),
            ("create", "destination", "NORTH"),
            ("create", "destination", "COPY"),
            ("create", "policy", "public"),
            ("create", "user", "alice"),
            ("create", "web_user", "olga"),
        ]
        assert first.json["changes"][0]["line"] == "create host h"
        again = await hub.admin.post("/site", {"data": SITE, "file": "s.toml"})
        assert {one["action"] for one in again.json["changes"]} == {"unchanged"}
        masked = await hub.admin.get("/site")
        assert "s3cret" not in masked.text
        clear = await hub.admin.get("/site?secrets=true")
        assert clear.json["hosts"][0]["password"] == "s3cret-host"
        for document in (masked.json, clear.json):
            back = await hub.admin.post("/site", {"data": document, "file": "other.toml"})
            assert back.status == 200, back.text
            assert {one["action"] for one in back.json["changes"]} == {"unchanged"}


async def test_prune_removes_what_the_file_made(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("OTHER")
        await hub.admin.post("/site", {"data": SITE, "file": "s.toml"})
        fewer = {"destinations": [{"name": "NORTH"}]}
        kept = await hub.admin.post("/site", {"data": fewer, "file": "s.toml"})
        assert kept.status == 200
        assert (await hub.admin.get("/hosts/h")).status == 200
        await hub.admin.post("/site", {"data": SITE, "file": "s.toml"})
        pruned = await hub.admin.post("/site", {"data": fewer, "file": "s.toml", "prune": True})
        assert pruned.status == 200, pruned.text
        names = [one["name"] for one in (await hub.admin.get("/destinations")).items]
        assert names == ["NORTH", "OTHER"]
        assert (await hub.admin.get("/hosts/h")).status == 404


async def test_a_mistake_names_file_and_line_and_changes_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        wrong = {"destinations": [{"name": "A"}, {"name": "B", "hosts": ["nowhere"]}]}
        body = {
            "data": wrong,
            "file": "site.toml",
            "lines": [[["destinations", 1, "hosts"], 12], [["destinations", 1], 9]],
        }
        answer = await hub.admin.post("/site", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid-config")
        error = answer.json["errors"][0]
        assert (error["file"], error["line"]) == ("site.toml", 12)
        assert error["pointer"] == "/destinations/1/hosts/0"
        assert "site.toml:12" in answer.json["detail"]
        assert (await hub.admin.get("/destinations")).items == []
        mistakes: list[dict[str, Any]] = [
            {"data": {"hoosts": []}},
            {"data": {"hosts": {}}},
            {"data": {}, "lines": [3]},
            {"data": []},
            {"fiel": ""},
        ]
        for broken in mistakes:
            assert (await hub.admin.post("/site", broken)).status == 422, broken


async def test_only_administrators(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        editor = await hub.as_user("ed", Role.EDITOR)
        assert (await editor.get("/site")).status == 403
        assert (await editor.post("/site", {"data": SITE})).status == 403
        local = await hub.as_user("local", Role.ADMIN, "NORTH*")
        assert (await local.get("/site")).status == 403
        plain = hub.client(await hub.token(scopes=("system:admin",)))
        assert (await plain.get("/site")).status == 200
        assert (await plain.get("/site?secrets=true")).status == 403
