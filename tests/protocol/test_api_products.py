"""`/api/v2/products`, `/groups` and `/retrieval`: answers, refusals, rights, events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ecpds.model.account import Role
from ecpds.model.events import classic
from ecpds.store import history
from tests.protocol.api import Client, rig

PLACE = "/products/wave/06/steps/12/fc"
NOON, LATER = "2031-05-04T12:00:00Z", "2031-05-04T12:30:00Z"


async def report(client: Client, status: str, **more: Any) -> str:
    answer = await client.put(PLACE, {"status": status, **more})
    assert answer.status == 200, answer.text
    return str(answer.json["message"])


async def test_ex_5_of_the_command_line_page(tmp_path: Path) -> None:
    """Messages as in the original, and a PRS event for each report."""
    async with rig(tmp_path) as hub:
        client = hub.admin
        assert await report(client, "started") == "Product status not found (-at option required)"
        said = [
            await report(client, "expected", schedule=NOON, buffer="10m"),
            await report(client, "expected", schedule=NOON),
            await report(client, "expected", schedule=LATER),
            await report(client, "started"),
            await report(client, "started"),
            await report(client, "completed"),
            await report(client, "completed"),
            await report(client, "expected", schedule=LATER),
        ]
        assert said == [
            "Product status created as Expected (ProductId=1)",
            "Product status already expected (notification ignored)",
            "Product status updated to Expected (ProductId=2)",
            "Product status updated to Started (ProductId=3)",
            "Product status not expected (notification ignored)",
            "Product status updated to Completed (ProductId=4)",
            "Product status already completed (notification ignored)",
            "Product status already expected (notification ignored)",
        ]
        rows = await hub.node.store.read(history.events, limit=100, kind="PRS")
        lines = [classic(record) or "" for _, record in rows][::-1]
        assert len(lines) == 9
        assert lines[0].endswith(
            ";StatusCode=EXEC;DataStream=wave;TimeStep=12;TimeBase=-;Type=fc;ScheduleTime=-;"
            "LastUpdate=-;ErrorMessage=Product status not found (-at option required)"
        )
        assert "StatusCode=INIT" in lines[1]
        assert "ErrorMessage" not in lines[1]
        assert "StatusCode=DONE" in lines[7]
        assert lines[7].endswith(
            "ErrorMessage=Product status already completed (notification ignored)"
        )
        steps = (await client.get(PLACE)).items
        assert [one["status"] for one in steps] == ["completed", "started", "expected", "expected"]
        assert steps[0]["buffer"] == "PT10M"
        (only,) = (await client.get("/products")).items
        assert (only["completed"], only["expected"], only["late"]) == (1, 0, 0)


async def test_a_missing_schedule_can_be_an_error(tmp_path: Path) -> None:
    """`ignoreMissingScheduleTime=no`."""
    async with rig(tmp_path) as hub:
        core = hub.node.core
        scheduler = replace(core.settings.scheduler, ignore_missing_schedule=False)
        core.settings = replace(core.settings, scheduler=scheduler)
        answer = await hub.admin.put(PLACE, {"status": "completed"})
        assert (answer.status, answer.json["code"]) == (404, "not-found")


async def test_reset(tmp_path: Path) -> None:
    """One step, one product, all; history goes too."""
    async with rig(tmp_path) as hub:
        for step in (0, 6, 12):
            place = f"/products/wave/06/steps/{step}/-"
            assert (await hub.admin.put(place, {"schedule": NOON})).ok
        answer = await hub.admin.delete("/products/wave/06?step=6")
        assert answer.json == {"removed": 1, "message": "Product status reseted"}
        assert len((await hub.admin.get("/products/wave/06")).items) == 2
        answer = await hub.admin.delete("/products")
        assert answer.json == {"removed": 2, "message": "2 product(s) status reseted"}
        assert (await hub.admin.get("/products")).items == []


async def test_refusals_and_rights(tmp_path: Path) -> None:
    """Bad steps, unknown states, viewers."""
    async with rig(tmp_path) as hub:
        assert (await hub.admin.put("/products/w/06/steps/x/fc", {})).status == 400
        assert (await hub.admin.put(PLACE, {"status": "begun"})).status == 422
        assert (await hub.admin.put(f"/products/{'w' * 60}/06/steps/1/fc", {})).status == 422
        viewer = await hub.as_user("vera", Role.VIEWER)
        assert (await viewer.put(PLACE, {})).status == 403
        assert (await viewer.get("/products")).status == 200
        assert (await viewer.post("/retrieval/actions/stop", {})).status == 403
        assert (await hub.admin.get("/groups/nope")).status == 404


async def test_retrieval_is_stopped_and_tuned_for_good(tmp_path: Path) -> None:
    """The decision survives a restart."""
    async with rig(tmp_path, run=True) as hub:
        assert (await hub.admin.post("/retrieval/actions/stop", {})).json["stopped"]
        seen = (await hub.admin.get("/retrieval")).headers["ETag"]
        late = await hub.admin.patch("/retrieval", {"streams": 3}, match='"another"')
        assert late.status == 412
        change = {"streams": 3, "stream_timeout": "20s"}
        answer = await hub.admin.patch("/retrieval", change, match=seen)
        assert (answer.json["streams"], answer.json["stream_timeout"]) == (3, "PT20S")
        assert (await hub.admin.patch("/retrieval", {"streams": 0})).status == 422
    async with rig(tmp_path, run=True) as hub:
        found = (await hub.admin.get("/retrieval")).json
        assert (found["stopped"], found["streams"]) == (True, 3)
        assert not (await hub.admin.post("/retrieval/actions/start", {})).json["stopped"]
