"""`/api/v2/transfers`: lists, filters, changes, actions, scopes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.account import Role
from tests.protocol.api import Client, Rig, rig

FIELDS = {
    "id", "destination", "target", "status", "priority", "size", "sent", "attempts", "requeues",
    "scheduled", "queue_time", "expires", "started", "finished", "host", "data_file_id",
    "standby", "asap", "event", "reason",
}  # fmt: skip


async def push(client: Client, destination: str, target: str, **fields: str) -> Any:
    """Upload a small file; return its first transfer."""
    answer = await client.upload(b"12345", destination=destination, target=target, **fields)
    assert answer.status == 201, answer.text
    return answer.json["transfers"][0]


async def filled(hub: Rig) -> None:
    """Create two destinations with five transfers."""
    for name in ("NORTH", "SOUTH"):
        await hub.node.destination(name)
    for number in range(3):
        await push(hub.admin, "NORTH", f"run/{number}.grib", priority=str(number))
    await push(hub.admin, "SOUTH", "a.bufr", standby="yes")
    await push(hub.admin, "SOUTH", "b.bufr")


async def ids(client: Client, query: str = "") -> list[int]:
    answer = await client.get(f"/transfers{query}")
    assert answer.status == 200, answer.text
    return [item["id"] for item in answer.items]


async def test_fields_of_interface_7(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        one = (await hub.admin.get("/transfers/1")).json
        assert set(one) >= FIELDS
        assert (one["status"], one["standby"], one["size"]) == ("queued", False, 5)
        held = (await hub.admin.get("/transfers/4")).json
        assert (held["status"], held["standby"]) == ("standby", True)


async def test_filters(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        assert await ids(hub.admin) == [5, 4, 3, 2, 1]
        assert await ids(hub.admin, "?destination=SOUTH") == [5, 4]
        assert await ids(hub.admin, "?status=standby") == [4]
        assert await ids(hub.admin, "?status=standby,queued&destination=SOUTH") == [5, 4]
        assert await ids(hub.admin, "?status=StandBy") == [4]
        assert await ids(hub.admin, "?target=run/*") == [3, 2, 1]
        assert await ids(hub.admin, "?target=run/[12].grib") == [3, 2]
        assert await ids(hub.admin, "?host=nowhere") == []
        assert await ids(hub.admin, "?since=PT1H") == [5, 4, 3, 2, 1]
        assert await ids(hub.admin, "?until=PT1H") == []
        assert await ids(hub.admin, "?since=2031-01-01T00:00:00Z") == []
        assert await ids(hub.admin, "?since=2020-01-01T00:00:00%2B02:00") == [5, 4, 3, 2, 1]
        assert (await hub.admin.get("/transfers?destination=EAST")).status == 404
        for wrong in ("status=stnadby", "since=yesterday", "until=2031-01-01T00:00:00", "x=1"):
            assert (await hub.admin.get(f"/transfers?{wrong}")).status == 400, wrong
        near = await hub.admin.get("/transfers?status=stnadby")
        assert "did you mean 'standby'" in near.json["detail"]


async def test_a_cursor_is_stable_while_rows_come_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        first = await hub.admin.get("/transfers?limit=2&fields=id")
        assert first.items == [{"id": 5}, {"id": 4}]
        await push(hub.admin, "NORTH", "new")
        second = await hub.admin.get(
            f"/transfers?limit=2&fields=id&cursor={first.json['next_cursor']}"
        )
        assert second.items == [{"id": 3}, {"id": 2}]
        last = await hub.admin.get(
            f"/transfers?limit=2&fields=id&cursor={second.json['next_cursor']}"
        )
        assert last.json == {"items": [{"id": 1}], "next_cursor": None}
        assert (await hub.admin.get("/transfers?cursor=YWJj")).status == 400


async def test_a_scoped_caller_sees_full_pages_of_its_own(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        for number in range(12):
            await push(hub.admin, "SOUTH", f"more/{number}")
        viewer = await hub.as_user("vi", Role.VIEWER, "NORTH")
        assert await ids(viewer, "?limit=2") == [3, 2]
        assert (await viewer.get("/transfers?destination=SOUTH")).status == 404
        assert (await viewer.get("/transfers/4")).status == 404
        assert (await viewer.get("/transfers/4/history")).status == 404
        assert (await viewer.get("/transfers/4/content")).status == 404
        assert (await viewer.get("/transfers/1")).status == 200
        assert (await viewer.post("/transfers/1/actions/stop")).status == 403
        operator = await hub.as_user("op", Role.OPERATOR, "NORTH")
        assert (await operator.post("/transfers/1/actions/stop")).status == 200
        assert (await operator.post("/transfers/4/actions/release")).status == 404
        assert (await operator.patch("/transfers/1", {"priority": 1}, match="*")).status == 403
        assert (await operator.delete("/transfers/1", match="*")).status == 403


@pytest.mark.parametrize("number", ["0", "999", "x", "-1", "1.5", "9" * 30])
async def test_unknown_ids(tmp_path: Path, number: str) -> None:
    async with rig(tmp_path) as hub:
        for tail in ("", "/history", "/content"):
            answer = await hub.admin.get(f"/transfers/{number}{tail}")
            assert (answer.status, answer.json["code"]) == (404, "not-found")


async def test_change(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        seen = await hub.admin.get("/transfers/1")
        tag = seen.headers["ETag"]
        assert (await hub.admin.patch("/transfers/1", {"priority": 3})).status == 428
        later = hub.node.core.clock.now() + timedelta(hours=5)
        body = {"priority": 3, "scheduled": later.isoformat()}
        changed = await hub.admin.patch("/transfers/1", body, match=tag)
        assert changed.json["priority"] == 3
        assert changed.json["scheduled"].startswith(f"{later:%Y-%m-%dT%H:%M:%S}")
        assert changed.json["queue_time"] == changed.json["scheduled"]
        assert (await hub.admin.patch("/transfers/1", body, match=tag)).status == 412
        for wrong, pointer in (
            ({"priority": 100}, "/priority"),
            ({"prioriti": 1}, "/prioriti"),
            ({"scheduled": "tomorrow"}, "/scheduled"),
            ({"scheduled": "2031-01-01T00:00:00"}, "/scheduled"),
            ({"expires": "2020-01-01T00:00:00Z"}, "/expires"),
            ({"expires": hub.node.core.clock.now().isoformat()}, "/expires"),
        ):
            refused = await hub.admin.patch("/transfers/1", wrong, match="*")
            assert refused.status == 422, (wrong, refused.text)
            assert refused.json["errors"][0]["pointer"] == pointer
        assert (await hub.admin.post("/transfers/1/actions/stop")).status == 200
        refused = await hub.admin.patch("/transfers/1", {"scheduled": later.isoformat()}, match="*")
        assert (refused.status, refused.json["code"]) == (409, "bad-state")


async def test_actions(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)

        async def act(verb: str, body: Any = None, *, number: int = 1) -> Any:
            answer = await hub.admin.post(f"/transfers/{number}/actions/{verb}", body)
            return answer.json if answer.ok else (answer.status, answer.json["code"])

        assert (await act("hold"))["status"] == "standby"
        assert await act("hold") == (409, "bad-state")
        assert (await act("release"))["status"] == "queued"
        assert (await act("prioritise", {"priority": 7}))["priority"] == 7
        assert await act("prioritise", {"priority": 700}) == (422, "invalid-input")
        before = (await hub.admin.get("/transfers/1")).json["expires"]
        assert (await act("extend"))["expires"] > before
        stopped = await act("stop")
        assert (stopped["status"], stopped["reason"]["class"]) == ("stopped", "stopped")
        assert stopped["status_by"] == "admin"
        assert await act("stop") == (409, "bad-state")
        assert await act("requeue") == (409, "bad-state")  # no host
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        requeued = await act("requeue")
        assert (requeued["status"], requeued["attempts"]) == ("requeued", 0)
        assert await act("requeue") == (409, "bad-state")
        assert await act("explode") == (404, "not-found")
        assert await act("stop", {"why": "x"}) == (422, "invalid-input")
        gone = await act("delete")
        assert (gone["deleted"], gone["status"]) == (True, "stopped")
        rows = (await hub.admin.get("/transfers/1/history")).items
        assert [row["status"] for row in rows][:3] == ["queued", "standby", "queued"]
        assert rows[1]["user"] == "admin"


async def test_a_state_that_forbids_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        refused = await hub.admin.post("/transfers/1/actions/requeue")
        assert refused.status == 409
        problem = refused.json
        assert (problem["code"], problem["title"]) == ("bad-state", "Conflict")
        assert "queued" in problem["detail"]


async def test_schedule_now(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        one = await push(hub.admin, "NORTH", "a", delay="2h")
        assert one["scheduled"] > one["created"]
        now = await hub.admin.post(f"/transfers/{one['id']}/actions/schedule_now")
        assert now.json["scheduled"] < one["scheduled"]


async def test_delete(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub)
        assert (await hub.admin.delete("/transfers/1")).status == 428
        assert (await hub.admin.delete("/transfers/1", match='"other"')).status == 412
        assert (await hub.admin.delete("/transfers/1", match="*")).status == 204
        assert (await hub.admin.delete("/transfers/1", match="*")).status == 404
        assert 1 not in await ids(hub.admin)
        assert 1 in await ids(hub.admin, "?deleted=true")
        assert (await hub.admin.get("/transfers/1/content")).status == 404


async def test_a_restricted_viewer_sees_plans_without_sizes(tmp_path: Path) -> None:
    from ecpds.engine.operations.accountrows import Credentials
    from ecpds.engine.operations.actor import SYSTEM
    from ecpds.model.account import Grant, WebUser

    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await push(hub.admin, "NORTH", "a", delay="2h")
        member = WebUser(name="m", grants=(Grant(role=Role.VIEWER, restricted=True),))
        await hub.node.accounts.put_web_user(member, Credentials(), SYSTEM)
        client = hub.client(await hub.token("m"))
        one = (await client.get("/transfers/1")).json
        assert (one["status"], one["size"]) == ("planned", None)
