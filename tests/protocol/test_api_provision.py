"""Copies, single objects out and in, switches; storage, rates and statistics."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ecpds.model.account import Role
from tests.protocol.api import Rig, rig


async def finished(hub: Rig, number: int) -> None:
    for _ in range(200):
        if (await hub.admin.get(f"/jobs/{number}")).json["ended"]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"job {number} does not end")


async def test_clones(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        host = {"name": "h", "method": "genericSftp", "host": "x", "password": "geheim",
                "options": {"sftp.passPhrase": "tief"}}  # fmt: skip
        assert (await hub.admin.post("/hosts", host)).ok
        body = {"name": "NORTH", "hosts": ["h"], "comment": "a", "max_connections": 7}
        assert (await hub.admin.post("/destinations", body)).ok
        tried = await hub.admin.post("/destinations/NORTH/actions/clone?dry_run=yes", {"name": "S"})
        assert (tried.status, tried.json["name"]) == (200, "S")
        assert (await hub.admin.get("/destinations/S")).status == 404
        made = await hub.admin.post("/destinations/NORTH/actions/clone", {"name": "SOUTH"})
        assert made.status == 201, made.text
        assert (made.json["hosts"], made.json["max_connections"]) == (["h"], 7)
        assert made.headers["Location"] == "/api/v2/destinations/SOUTH"
        again = await hub.admin.post("/destinations/NORTH/actions/clone", {"name": "SOUTH"})
        assert again.status == 409
        bad = await hub.admin.post("/destinations/NORTH/actions/clone", {"nmae": "X"})
        assert bad.json["errors"][0]["nearest"] == "name"
        copy = await hub.admin.post("/hosts/h/actions/clone", {"name": "h2", "comment": "copy"})
        assert copy.status == 201, copy.text
        assert copy.json["options"]["sftp.passPhrase"] == "***"
        site = (await hub.admin.get("/hosts/h2/export?secrets=yes")).json["hosts"][0]
        assert (site["password"], site["options"]["sftp.passPhrase"]) == ("geheim", "tief")
        for verb, active in (("disable", False), ("enable", True)):
            changed = (await hub.admin.post(f"/hosts/h2/actions/{verb}", {})).json
            assert (changed["active"], changed["has_password"]) == (active, True)
        editor = await hub.as_user("ed", Role.EDITOR, "N*")
        refused = await editor.post("/destinations/NORTH/actions/clone", {"name": "EAST"})
        assert refused.status == 403
        assert (await editor.get("/hosts/h/export?secrets=yes")).status == 403


async def test_clean(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        services = hub.monitor._services
        assert services is not None
        await hub.node.destination("NORTH")
        for number in range(4):
            await hub.admin.upload(b"x", destination="NORTH", target=f"f{number}")
        await hub.admin.post("/transfers/1/actions/stop", {})
        path = "/destinations/NORTH/actions/clean"
        tried = await hub.admin.post(f"{path}?dry_run=yes", {"what": "finished"})
        assert (tried.status, tried.json["total"]) == (200, 1)
        job = await hub.admin.post(path, {"what": "finished"})
        assert job.status == 202, job.text
        await finished(hub, job.json["id"])
        assert len((await hub.admin.get("/transfers?destination=NORTH")).items) == 3
        job = await hub.admin.post(path, {"what": "all"})
        await finished(hub, job.json["id"])
        assert (await hub.admin.get("/transfers?destination=NORTH")).items == []
        assert (await hub.admin.post(path, {"what": "some"})).status == 422


async def test_one_object_out_and_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        await hub.node.destination("SOUTH")
        await hub.node.user("ann", destinations=("NORTH", "SOUTH"))
        found = (await hub.admin.get("/destinations/NORTH/export")).json
        assert {kind: len(several) for kind, several in found.items()} == {
            "hosts": 1, "destinations": 1, "data_users": 1,
        }  # fmt: skip
        place = "/destinations/import"
        assert (await hub.admin.post(place, {"data": found})).status == 409
        del found["data_users"]
        found["destinations"][0]["comment"] = "new"
        tried = await hub.admin.post(f"{place}?dry_run=yes", {"data": found, "mode": "update"})
        actions = {one["name"]: one["action"] for one in tried.json["changes"]}
        assert actions == {"NORTH": "change", "h": "unchanged"}
        assert (await hub.admin.get("/destinations/NORTH")).json["comment"] != "new"
        assert (await hub.admin.post(place, {"data": found, "mode": "update"})).ok
        assert (await hub.admin.get("/destinations/NORTH")).json["comment"] == "new"
        odd = await hub.admin.post(place, {"data": {"web_users": []}})
        assert (odd.status, odd.json["errors"][0]["pointer"]) == (422, "/data/web_users")
        who = (await hub.admin.get("/destinations/NORTH/users")).items
        assert (who[0]["login"], who[0]["origins"]) == ("ann", ["direct"])
        for verb, active in (("disable", False), ("enable", True)):
            changed = (await hub.admin.post(f"/portal/users/ann/actions/{verb}", {})).json
            assert (changed["active"], changed["has_password"]) == (active, True)


async def test_figures(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        out = tmp_path / "out"
        out.mkdir()
        await hub.host("h", out)
        await hub.node.destination("NORTH", hosts=("h",))
        await hub.node.destination("=EVIL".strip("="))
        await hub.admin.upload(b"12345", destination="NORTH")
        await hub.transfer(1, status="done")
        storage = (await hub.admin.get("/storage")).json
        assert (storage["files"], storage["bytes"], len(storage["volumes"])) == (1, 5, 1)
        for path in ("/rates", "/stats/rates?group_by=day", "/rates?group_by=destination,day"):
            row = (await hub.admin.get(path)).items[0]
            assert (row["files"], row["bytes"]) == (1, 5)
        table = await hub.admin.get("/rates?format=csv")
        assert table.text.splitlines()[1].startswith("NORTH,NORTH,,1,5")
        assert (await hub.admin.get("/rates?group_by=host")).status == 400
        counted = (await hub.admin.get("/statistics")).json
        assert (counted["transfers"], counted["hosts"]) == ({"done": 1}, 1)
        attempts = (await hub.admin.get("/transfers/1/stats")).items
        assert (attempts[0]["host"], attempts[0]["sent"]) == ("h", 5)
        assert (await hub.admin.get("/countries?q=iso=fr")).items[0]["name"] == "France"
        assert (await hub.admin.get("/types")).items[0]["name"] == "dissemination"
        assert (await hub.admin.get("/portal/history")).ok
        viewer = await hub.as_user("vi", Role.VIEWER, "E*")
        assert (await viewer.get("/rates")).items == []
        assert (await viewer.get("/statistics")).json["transfers"] == {}
        assert (await viewer.get("/storage")).status == 403


async def test_metrics_that_are_looked_up(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        out = tmp_path / "out"
        out.mkdir()
        await hub.host("h", out)
        await hub.node.destination("NORTH", hosts=("h",))
        await hub.admin.upload(b"12345", destination="NORTH")
        await hub.transfer(1, status="done")
        text = (await hub.client().get("/_/metrics")).text
        assert 'ecpds_destination_light{destination="NORTH",light="' in text
        assert 'ecpds_destination_state{destination="NORTH",state="' in text
        assert 'ecpds_destination_last_success_timestamp_seconds{destination="NORTH"}' in text
        for name in ("ecpds_db_seconds", "ecpds_jobs 0.0", "ecpds_certificate_expiry",
                     'ecpds_storage_bytes{volume="default"} 5.0'):  # fmt: skip
            assert name in text
