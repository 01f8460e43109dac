"""Why a transfer waits: each cause as the schedulers act upon it, through API and command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.model.account import Role
from ecpds.model.host import Host, HostRole
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import Reason
from ecpds.store import transfers
from tests.protocol.api import PASSWORD, Rig, rig
from tests.protocol.test_api_transfers import push

AUTH = Reason(kind="auth", code="530", text="login refused")


async def explained(hub: Rig, number: int = 1) -> Any:
    answer = await hub.admin.get(f"/transfers/{number}/explain")
    assert answer.status == 200, answer.text
    return answer.json


async def codes(hub: Rig, number: int = 1) -> list[str]:
    return [cause["code"] for cause in (await explained(hub, number))["reasons"]]


async def ready(hub: Rig, folder: Path, **fields: Any) -> None:
    """Create destination D with a host that works."""
    folder.mkdir()
    await hub.host("out", folder)
    values: dict[str, Any] = {"hosts": ("out",), "max_connections": 4}
    await hub.node.destination("D", **(values | fields))


async def test_the_next_of_its_queue(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        await push(hub.admin, "D", "a")
        found = await explained(hub)
        assert found["status"] == "queued"
        assert [cause["code"] for cause in found["reasons"]] == ["due"]
        assert found["step"] == "attempt"
        assert found["next"] is not None


async def test_those_that_go_first_are_counted(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        for name in "abc":
            await push(hub.admin, "D", name, priority="10")
        await push(hub.admin, "D", "late")
        found = await explained(hub, 4)
        assert found["reasons"][0]["code"] == "queue"
        assert "3 other transfers go first" in found["summary"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"active": False}, "disabled"),
        ({"hosts": ()}, "no-hosts"),
        ({"max_connections": 0}, "destination-blocked"),
    ],
    ids=lambda one: str(one),
)
async def test_a_destination_that_cannot(
    tmp_path: Path, fields: Mapping[str, Any], code: str
) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out", **fields)
        await push(hub.admin, "D", "a")
        found = await explained(hub)
        assert found["reasons"][0] | {"text": ""} == {
            "code": code, "text": "", "until": None, "subject": "destination D", "blocks": True,
        }  # fmt: skip
        assert (found["next"], found["step"]) == (None, "nothing")


async def test_schedule_window_and_stop_in_their_order(tmp_path: Path) -> None:
    """The order is that of the scheduler; the latest end counts, a stop has none."""
    async with rig(tmp_path) as hub:
        now = hub.node.core.clock.now()
        soon = (now + timedelta(hours=2)).strftime("%H:%M")
        later = (now + timedelta(hours=3)).strftime("%H:%M")
        window = {"scheduler.activeTimeRange": f"{soon}-{later}"}
        await ready(hub, tmp_path / "out", options=window)
        await push(hub.admin, "D", "a", delay="1h")
        found = await explained(hub)
        assert [cause["code"] for cause in found["reasons"]] == ["schedule", "window"]
        assert found["next"] == found["reasons"][1]["until"]
        assert found["reasons"][1]["until"] > found["reasons"][0]["until"]
        await hub.node.destinations.stop("D", SYSTEM)
        found = await explained(hub)
        assert [c["code"] for c in found["reasons"]] == [
            "destination-stopped",
            "schedule",
            "window",
        ]
        assert found["next"] is None


async def test_back_off_and_delay_tell_the_last_error(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        await push(hub.admin, "D", "a")
        await change(hub, status=TransferStatus.RETR, reason=AUTH, start_count=1)
        found = await explained(hub)
        assert found["reasons"][0]["code"] == "back-off"
        assert "login refused" in found["summary"]
        await change(hub, start_count=0, requeue_count=2)
        found = await explained(hub)
        assert found["reasons"][0]["code"] == "delayed"
        assert "2nd time" in found["summary"]
        assert found["next"] == found["reasons"][0]["until"]


async def change(hub: Rig, **fields: Any) -> None:
    """Change transfer 1 in the store, due in an hour."""
    now = hub.node.core.clock.now()

    def run(db: Any) -> None:
        one = transfers.get(db, 1)
        assert one is not None
        transfers.save(db, replace(one, due_at=now + timedelta(hours=1), **fields), now=now)

    await hub.node.store.write(run)


async def test_breakers_block_when_no_host_is_left(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        (tmp_path / "two").mkdir()
        await hub.host("two", tmp_path / "two")
        await hub.node.destination("D", hosts=("out", "two"))
        await push(hub.admin, "D", "a")
        breakers, now = hub.node.engine.breakers, hub.node.core.clock.now()
        breakers.failed("out", AUTH, now=now, version=1)
        found = await explained(hub)
        cause = found["reasons"][0]
        assert (cause["code"], cause["blocks"], cause["subject"]) == ("breaker", False, "host out")
        assert found["next"] is not None
        breakers.failed("two", AUTH, now=now, version=1)
        found = await explained(hub)
        assert [c["blocks"] for c in found["reasons"] if c["code"] == "breaker"] == [True, True]
        assert "login refused" in found["summary"]
        assert found["next"] == max(c["until"] for c in found["reasons"] if c["code"] == "breaker")


async def test_limits_of_host_destination_and_node(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        await push(hub.admin, "D", "a")
        slots = hub.node.engine.slots
        slots.take("out")
        assert (await codes(hub))[0] == "host-limit"
        slots.limit = 1
        assert (await codes(hub))[0] == "node-limit"
        await hub.host("out", tmp_path / "out", max_connections=0)
        assert (await codes(hub))[0] == "host-blocked"


async def test_what_ended_is_told_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        await push(hub.admin, "D", "a", standby="yes")
        assert await codes(hub) == ["standby"]
        operations = TransferOperations(hub.node.engine)
        await operations.stop(1, SYSTEM)
        assert await codes(hub) == ["stopped"]
        await change(hub, status=TransferStatus.FAIL, reason=AUTH)
        assert await codes(hub) == ["auth", "gave-up"]
        await operations.delete(1, SYSTEM)
        assert await codes(hub) == ["deleted"]


async def test_content_that_has_to_be_fetched(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        source = Host(name="src", method="genericTest", role=HostRole.SOURCE)
        await HostOperations(hub.node.engine).put(source, SYSTEM)
        await hub.node.destination("D", hosts=("out",), source_host="src")
        answer = await hub.admin.post(
            "/files", {"destination": "D", "target": "a", "source": "/x/a", "group": "G"}
        )
        assert answer.status == 201, answer.text
        found = await explained(hub)
        assert [c["code"] for c in found["reasons"]] == ["retrieval"]
        assert (found["step"], found["next"] is not None) == ("retrieval", True)
        await HostOperations(hub.node.engine).put(replace(source, active=False), SYSTEM)
        found = await explained(hub)
        assert [c["code"] for c in found["reasons"]] == ["source-disabled", "retrieval"]
        assert (found["step"], found["next"]) == ("nothing", None)


async def test_scopes_hold(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        await push(hub.admin, "D", "a")
        other = await hub.as_user("olga", Role.VIEWER, "NORTH*")
        assert (await other.get("/transfers/1/explain")).status == 404
        assert (await hub.admin.get("/transfers/99/explain")).status == 404


async def test_the_page_tells_the_causes(tmp_path: Path) -> None:
    async with rig(tmp_path, pages=True) as hub:
        await hub.node.destination("D")
        await push(hub.admin, "D", "a")
        login = await hub.client().post(
            "/login", data={"name": "admin", "password": PASSWORD}, headers={"Origin": hub.base}
        )
        cookie = login.headers["Set-Cookie"].partition(";")[0]
        page = await hub.client().get("/_/transfers/1", headers={"Cookie": cookie})
        assert page.status == 200
        assert 'data-code="no-hosts"' in page.text


async def test_short_room_stopped_retrieval_and_proxies(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await ready(hub, tmp_path / "out")
        source = Host(name="src", method="genericTest", role=HostRole.SOURCE)
        await HostOperations(hub.node.engine).put(source, SYSTEM)
        await hub.node.destination("D", hosts=("out",), source_host="src")
        body = {"destination": "D", "target": "a", "source": "/x/a", "group": "G"}
        assert (await hub.admin.post("/files", body)).status == 201
        engine = hub.node.engine
        engine.watches.guard.cutoff = 10
        assert await codes(hub) == ["storage-short", "retrieval"]
        engine.watches.guard.cutoff = 99
        engine.retrieval_slots.control = replace(engine.retrieval_slots.control, stopped=True)
        assert await codes(hub) == ["retrieval-stopped", "retrieval"]
        await hub.host("far", tmp_path / "out", role=HostRole.PROXY)
        await hub.node.destination("P", hosts=("out", "far"), force_proxy=True)
        await push(hub.admin, "P", "a")
        assert (await codes(hub, 2))[0] == "proxy"
