"""`/api/v2/destinations` and `/api/v2/hosts`: documents, versions, links, scopes, actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecpds.model.account import Role
from tests.protocol.api import rig
from tests.waiting import until


async def test_create_look_change_delete(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        made = await hub.admin.post(
            "/destinations",
            {"name": "NORTH", "comment": "x", "reset_frequency": "15m", "max_file_size": "10MB"},
        )
        assert made.status == 201
        assert made.headers["Location"] == "/api/v2/destinations/NORTH"
        assert made.json["reset_frequency"] == "PT15M"
        assert made.json["max_file_size"] == 10 * 1024 * 1024
        assert {"status", "light", "queued", "outstanding"} <= set(made.json)

        seen = await hub.admin.get("/destinations/NORTH")
        assert seen.json == made.json
        tag = seen.headers["ETag"]
        same = await hub.admin.get("/destinations/NORTH", headers={"If-None-Match": tag})
        assert (same.status, same.body) == (304, b"")

        changed = await hub.admin.patch("/destinations/NORTH", {"comment": "y"}, match=tag)
        assert (changed.status, changed.json["comment"]) == (200, "y")
        assert changed.json["reset_frequency"] == "PT15M"
        assert changed.headers["ETag"] != tag

        replaced = await hub.admin.put("/destinations/NORTH", {"type": "gold"}, match="*")
        assert (replaced.json["type"], replaced.json["comment"]) == ("gold", "")

        gone = await hub.admin.delete("/destinations/NORTH", match="*")
        assert (gone.status, gone.body) == (204, b"")
        assert (await hub.admin.get("/destinations/NORTH")).status == 404


async def test_an_answer_can_be_sent_back(tmp_path: Path) -> None:
    """What GET gives, PUT takes; runtime fields are passed over."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH", comment="x", options={"scheduler.delay": "10m"})
        seen = await hub.admin.get("/destinations/NORTH")
        put = await hub.admin.put("/destinations/NORTH", seen.json, match=seen.headers["ETag"])
        assert put.status == 200
        ignored = {"light", "status"}
        assert {k: v for k, v in put.json.items() if k not in ignored} == {
            k: v for k, v in seen.json.items() if k not in ignored
        }


async def test_versions(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        created = await hub.admin.put("/destinations/NORTH", {"comment": "new"})
        assert created.status == 201
        tag = created.headers["ETag"]
        for method in ("PUT", "PATCH"):
            missing = await hub.admin.call(method, "/destinations/NORTH", {"comment": "z"})
            assert (missing.status, missing.json["code"]) == (428, "if-match-needed")
        assert (await hub.admin.delete("/destinations/NORTH")).status == 428
        assert (await hub.admin.patch("/destinations/NORTH", {"comment": "a"}, match=tag)).ok
        for method in ("PUT", "PATCH", "DELETE"):
            stale = await hub.admin.call(method, "/destinations/NORTH", {}, match=tag)
            assert stale.status == 412, method
        only_new = {"If-None-Match": "*"}
        again = await hub.admin.put("/destinations/NORTH", {}, headers=only_new)
        assert (again.status, again.json["code"]) == (409, "conflict")
        assert (await hub.admin.post("/destinations", {"name": "NORTH"})).status == 409


async def test_of_two_changes_of_one_version_one_wins(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        tag = (await hub.admin.get("/destinations/NORTH")).headers["ETag"]
        statuses = [
            (await hub.admin.patch("/destinations/NORTH", {"comment": word}, match=tag)).status
            for word in ("one", "two")
        ]
        assert statuses == [200, 412]


@pytest.mark.parametrize(
    ("body", "pointer", "told"),
    [
        ({"name": "N", "coment": ""}, "/coment", "unknown key"),
        ({"name": "N", "max_connections": "many"}, "/max_connections", "no whole number"),
        ({"name": "N", "reset_frequency": 5}, "/reset_frequency", "has no unit"),
        ({"name": "N", "on_host_failure": "stai"}, "/on_host_failure", "none of"),
        (
            {"name": "N", "options": {"scheduler.dealy": "1m"}},
            "/options/scheduler.dealy",
            "unknown",
        ),
        ({"name": "N", "options": {"scheduler.delay": "x"}}, "/options/scheduler.delay", "'x'"),
        (
            {"name": "N", "options": {"sftp.port": 22}},
            "/options/sftp.port",
            "not for a destination",
        ),
        ({"name": "N", "hosts": ["nowhere"]}, "/hosts/0", "no host"),
        ({"name": "N", "aliases": [{"to": "X"}]}, "/aliases/0/to", "no destination"),
        ({"name": "N", "aliases": [{"to": "N", "rule": "pattern=("}]}, "/aliases/0/rule", ""),
        ({"name": "a b"}, "/name", "no destination name"),
        ({"comment": "x"}, "/name", "no destination name"),
    ],
)
async def test_mistakes_are_named(
    tmp_path: Path, body: dict[str, Any], pointer: str, told: str
) -> None:
    async with rig(tmp_path) as hub:
        answer = await hub.admin.post("/destinations", body)
        assert answer.status == 422
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        error = answer.json["errors"][0]
        assert error["pointer"] == pointer
        assert told in error["message"]
        assert (await hub.admin.get("/destinations")).items == []


async def test_nearest_name_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        body = {"name": "N", "options": {"scheduler.dealy": "1m"}}
        answer = await hub.admin.post("/destinations", body)
        assert answer.json["errors"][0]["nearest"] == "scheduler.delay"
        assert answer.json["type"] == "urn:problem:invalid-option"


async def test_dry_run_stores_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        tried = await hub.admin.post("/destinations?dry_run=true", {"name": "N", "comment": "c"})
        assert (tried.status, tried.json["comment"]) == (200, "c")
        assert (await hub.admin.get("/destinations/N")).status == 404
        assert (await hub.admin.post("/destinations?dry_run=1", {"name": "a b"})).status == 422
        await hub.node.destination("N")
        assert (await hub.admin.post("/destinations?dry_run=1", {"name": "N"})).status == 409
        assert (await hub.admin.delete("/destinations/N?dry_run=1", match="*")).status == 204
        assert (await hub.admin.get("/destinations/N")).status == 200


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for number in range(7):
            await hub.node.destination(f"D{number}")
        found: list[str] = []
        path = "/destinations?limit=3&fields=name,status"
        for _ in range(3):
            page = await hub.admin.get(path)
            found += [item["name"] for item in page.items]
            assert all(set(item) == {"name", "status"} for item in page.items)
            if page.json["next_cursor"] is None:
                assert "Link" not in page.headers
                break
            if len(found) == 3:  # rows that come in between neither repeat nor hide others
                await hub.node.destination("D2a")
                await hub.node.destination("AA")
            path = page.headers["Link"].removeprefix("<").partition(">")[0]
            assert 'rel="next"' in page.headers["Link"]
        assert found == ["D0", "D1", "D2", "D2a", "D3", "D4", "D5", "D6"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "cursor=%25", "cursor=_w", "fields=nome", "lmit=3"],
)
async def test_wrong_queries_are_400(tmp_path: Path, query: str) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("D")
        answer = await hub.admin.get(f"/destinations?{query}")
        assert answer.status == 400, answer.text
        if query == "lmit=3":
            assert "did you mean 'limit'" in answer.json["detail"]


async def test_delete_names_dependents(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("COPY")
        await hub.node.destination("NORTH", aliases={"COPY": ""})
        assert (await hub.admin.upload(b"x", destination="NORTH")).status == 201
        refused = await hub.admin.delete("/destinations/COPY", match="*")
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert refused.json["dependents"] == ["1 transfers", "alias from NORTH"]
        assert (await hub.admin.delete("/destinations/COPY?cascade=true", match="*")).status == 204
        assert (await hub.admin.get("/destinations/NORTH")).json["aliases"] == []


async def test_hosts_and_aliases_as_lists(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("COPY")
        await hub.node.destination("NORTH")
        for name in ("one", "two"):
            await hub.host(name, tmp_path)
        put = await hub.admin.put("/destinations/NORTH/hosts", ["two", {"host": "one"}])
        assert put.json["hosts"] == ["two", "one"]
        links = await hub.admin.get("/destinations/NORTH/hosts")
        assert links.json == [
            {"host": "two", "role": "dissemination", "priority": 0},
            {"host": "one", "role": "dissemination", "priority": 1},
        ]
        again = await hub.admin.put("/destinations/NORTH/hosts", links.json[::-1])
        assert again.json["hosts"] == ["one", "two"]

        alias = {"to": "COPY", "rule": "pattern=.*\\.grib", "comment": "c"}
        assert (await hub.admin.put("/destinations/NORTH/aliases", [alias])).status == 200
        assert (await hub.admin.get("/destinations/NORTH/aliases")).json == [
            alias | {"legacy": False}
        ]
        to = await hub.admin.get("/destinations/COPY/aliases?direction=to")
        assert to.json == [{"from": "NORTH"} | alias | {"legacy": False}]
        assert (await hub.admin.put("/destinations/NORTH/aliases", {"to": "x"})).status == 400
        stale = await hub.admin.put("/destinations/NORTH/aliases", [], match='"1"')
        assert stale.status == 412
        assert (await hub.admin.delete("/destinations/NORTH/aliases/COPY")).status == 204
        assert (await hub.admin.delete("/destinations/NORTH/aliases/COPY")).status == 404


async def test_actions(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        await hub.node.destination("NORTH")

        async def act(verb: str, body: Any = None) -> Any:
            answer = await hub.admin.post(f"/destinations/NORTH/actions/{verb}", body)
            assert answer.status == 200, answer.text
            return answer.json

        assert (await act("stop"))["status"] == "stopped"
        assert (await act("start"))["status"] == "idle"
        held = await act("hold", {"reason": "maintenance", "mode": "immediate"})
        assert (held["status"], held["state_by"]) == ("stopped", "admin")
        assert held["state_reason"] == "maintenance"
        assert (await act("release"))["state_reason"] is None
        again = await hub.admin.post("/destinations/NORTH/actions/release")
        assert (again.status, again.json["code"]) == (409, "bad-state")
        assert (await act("restart", {"mode": "graceful"}))["status"] == "idle"
        odd = await hub.admin.post("/destinations/NORTH/actions/stop", {"mode": "quickly"})
        assert odd.status == 422
        assert (await hub.admin.post("/destinations/NORTH/actions/explode")).status == 404
        state = await hub.admin.get("/destinations/NORTH/status")
        assert (state.json["name"], state.json["status"]) == ("NORTH", "idle")


# --- hosts


async def test_hosts_never_tell_secrets(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        body = {
            "name": "h",
            "method": "genericSftp",
            "host": "sftp.example.org",
            "login": "feed",
            "password": "s3cret-password",
            "options": {"sftp.passPhrase": "s3cret-phrase", "sftp.port": 2222},
        }
        made = await hub.admin.post("/hosts", body)
        assert made.status == 201, made.text
        assert (made.json["password"], made.json["has_password"]) == ("***", True)
        assert made.json["options"] == {"sftp.passPhrase": "***", "sftp.port": "2222"}
        for path in ("/hosts", "/hosts/h", "/site"):
            assert "s3cret" not in (await hub.admin.get(path)).text
        tried = await hub.admin.put("/hosts/h?dry_run=1", body, match="*")
        assert "s3cret" not in tried.text

        # stars come back and mean: as it is
        seen = await hub.admin.get("/hosts/h")
        put = await hub.admin.put(
            "/hosts/h", seen.json | {"comment": "c"}, match=seen.headers["ETag"]
        )
        assert put.json["comment"] == "c"
        kept = hub.node.core.snapshot.host("h").host
        assert kept.password.reveal() == "s3cret-password"
        assert kept.options["sftp.passPhrase"] == "s3cret-phrase"

        cleared = await hub.admin.patch("/hosts/h", {"password": ""}, match="*")
        assert (cleared.json["password"], cleared.json["has_password"]) == ("", False)


async def test_single_options_of_a_host(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("h", tmp_path, method="genericSftp", host="x", options={"sftp.port": 22})
        put = await hub.admin.put("/hosts/h/options/sftp.port", {"value": "2022"})
        assert put.json["options"]["sftp.port"] == "2022"
        wrong = await hub.admin.put("/hosts/h/options/sftp.prot", {"value": "1"})
        assert (wrong.status, wrong.json["errors"][0]["nearest"]) == (422, "sftp.port")
        assert (await hub.admin.delete("/hosts/h/options/sftp.port")).status == 204
        assert (await hub.admin.delete("/hosts/h/options/sftp.port")).status == 404
        assert (await hub.admin.get("/hosts/h")).json["options"] == {}


@pytest.mark.parametrize(
    ("change", "pointer", "told"),
    [
        ({"method": "genericSfpt"}, "/method", "genericSftp"),
        ({"directory": "$dataTransfer[targt]"}, "/directory", ""),
        ({"latitude": 91}, "/latitude", "more than 90"),
        ({"role": "sender"}, "/role", "none of"),
        ({"options": {"sftp.port": "seventy"}}, "/options/sftp.port", "number"),
    ],
)
async def test_mistakes_of_hosts_are_named(
    tmp_path: Path, change: dict[str, Any], pointer: str, told: str
) -> None:
    async with rig(tmp_path) as hub:
        body = {"name": "h", "method": "genericSftp", "host": "x"} | change
        answer = await hub.admin.post("/hosts", body)
        assert answer.status == 422, answer.text
        assert answer.json["errors"][0]["pointer"] == pointer
        assert told in answer.text


async def test_a_used_host_stays(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        refused = await hub.admin.delete("/hosts/h", match="*")
        assert (refused.status, refused.json["dependents"]) == (409, ["NORTH"])


async def test_host_actions(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        await hub.host("h", tmp_path)
        good = await hub.admin.post("/hosts/h/actions/test")
        assert good.json["ok"] is True, good.text
        assert (await hub.admin.get("/hosts/h")).json["valid"] is True
        refused = await hub.admin.post("/hosts/h/actions/acquire")
        assert (refused.status, refused.json["code"]) == (409, "bad-state")


async def test_hosts_belong_to_the_scopes_of_their_destinations(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("both", "north", "south", "unused"):
            await hub.host(name, tmp_path)
        await hub.node.destination("NORTH", hosts=("both", "north"))
        await hub.node.destination("SOUTH", hosts=("both", "south"))
        editor = await hub.as_user("ed", Role.EDITOR, "NORTH*")
        assert [one["name"] for one in (await editor.get("/hosts")).items] == ["both", "north"]
        assert (await editor.get("/hosts/both")).status == 200
        assert (await editor.get("/hosts/south")).status == 404
        assert (await editor.get("/hosts/unused")).status == 404
        assert (await editor.patch("/hosts/north", {"comment": "x"}, match="*")).status == 200
        assert (await editor.patch("/hosts/both", {"comment": "x"}, match="*")).status == 403
        assert (await editor.post("/hosts", {"name": "new"})).status == 403
        # a destination in scope is no way to hosts and destinations outside of it
        put = await editor.put("/destinations/NORTH/hosts", ["north", "south"])
        assert put.status == 404
        alias = await editor.put("/destinations/NORTH/aliases", [{"to": "SOUTH"}])
        assert alias.status == 404


async def test_destinations_outside_of_the_scope_are_not_there(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.destination("SOUTH")
        editor = await hub.as_user("ed", Role.EDITOR, "NORTH*")
        assert [d["name"] for d in (await editor.get("/destinations")).items] == ["NORTH"]
        for path in ("", "/hosts", "/aliases", "/status"):
            assert (await editor.get(f"/destinations/SOUTH{path}")).status == 404
        assert (await editor.put("/destinations/SOUTH", {}, match="*")).status == 404
        assert (await editor.post("/destinations", {"name": "EAST"})).status == 403
        assert (await editor.post("/destinations", {"name": "NORTH2"})).status == 201
        operator = await hub.as_user("op", Role.OPERATOR, "NORTH")
        assert (await operator.post("/destinations/NORTH/actions/stop")).status == 200
        assert (await operator.post("/destinations/SOUTH/actions/stop")).status == 404
        assert (await operator.patch("/destinations/NORTH", {}, match="*")).status == 403


async def test_a_whole_delivery_is_seen_through_the_api(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        sent = await hub.admin.upload(b"x" * 1000, destination="NORTH", target="a")
        number = sent.json["transfers"][0]["id"]
        one = await hub.transfer(number, status="done")
        assert (one["sent"], one["attempts"], one["host"]) == (1000, 1, "h")
        state = (await hub.admin.get("/destinations/NORTH")).json
        assert (state["last_done_id"], state["counts"]) == (number, {"done": 1})
        history = (await hub.admin.get(f"/transfers/{number}/history")).items
        assert [row["status"] for row in history] == ["queued", "transferring", "done"]
        assert history[-1]["rate"] > 0
        await until(lambda: not hub.node.engine.attempts.running)
