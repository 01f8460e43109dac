"""`/rules`: the worked examples of aliases, force and targets, tried without storing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.account import Role
from ecpds.model.host import Host, HostRole
from tests.protocol.api import Rig, rig
from tests.protocol.test_api_transfers import push


async def ask(hub: Rig, **fields: Any) -> Any:
    answer = await hub.admin.post("/rules/test", fields)
    assert answer.status == 200, answer.text
    return answer.json


async def test_a_hand_written_name_through_aliases_force_and_hosts(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("C")
        await hub.node.destination("B", aliases={"C": "pattern=.*2"})
        await hub.host("out", tmp_path, method="genericTest")
        host = Host(
            name="north",
            method="genericTest",
            directory=(
                "/def/\n($destination[name]==A; $metadata[stream]==oper) /p/$metadata[stream]/"
            ),
        )
        await HostOperations(hub.node.engine).put(host, SYSTEM)
        await hub.node.destination(
            "A",
            hosts=("north",),
            aliases={"B": r"pattern=.*\.grib2,priority=20,recursive=yes"},
            options={"scheduler.force": "(=. .tmp) standby=yes\n(.= E1) delay=2h"},
        )
        found = await ask(hub, destination="A", target="E1/x.grib2", metadata={"stream": "oper"})
        assert found["key"] == {"destination": "A", "target": "E1/x.grib2", "version": ""}
        assert (found["force"]["line"], found["force"]["applies"]) == (2, True)
        copies = {one["destination"]: one for one in found["transfers"]}
        assert set(copies) == {"A", "B", "C"}
        assert [copies[name]["priority"] for name in "ABC"] == [99, 20, 99]
        assert [(one["from"], one["to"], one["applies"]) for one in found["aliases"]] == [
            ("A", "B", True), ("B", "C", True),
        ]  # fmt: skip
        (path,) = found["hosts"]
        assert path["path"] == "/p/oper/E1/x.grib2"
        assert (path["line"], path["score"], path["default"]) == (2, 2, False)
        assert path["tokens"] == {"$metadata[stream]": "oper"}
        assert path["appended"]
        other = await ask(hub, destination="A", target="x.txt")
        assert [one["destination"] for one in other["transfers"]] == ["A"]
        assert other["aliases"][0]["why"] == "its pattern or ignore disagrees"
        assert other["hosts"][0]["path"] == "/def/x.txt"
        assert other["force"]["why"] == "no line holds"


async def test_texts_that_are_not_saved(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("B")
        await hub.node.destination("A")
        found = await ask(
            hub, destination="A", target="E1.tmp", directory="/o/$dataTransfer[name|upper]",
            force="(=. .tmp) standby=yes", alias_to="B", alias_rule="target=m/$name",
        )  # fmt: skip
        assert found["hosts"][0]["path"] == "/o/E1.TMP"
        assert found["transfers"][0]["standby"] is True
        assert found["transfers"][1]["target"] == "m/E1.tmp"
        assert found["problems"] == []
        bad = await ask(
            hub, destination="A", target="a", directory="/o/$dataTransfer[nam]",
            force="(=. .tmp standby=yes", alias_to="B", alias_rule="targt=x",
        )  # fmt: skip
        fields = {one["field"] for one in bad["problems"] if one["error"]}
        assert fields == {"directory", "force", "alias"}
        assert "did you mean" in str(bad["problems"])
        stored = hub.node.core.snapshot.destination("A").destination
        assert (stored.aliases, stored.options) == ((), {})


async def test_legacy_texts_keep_their_meaning(tmp_path: Path) -> None:
    """The documented layout with the default last always gives the default there."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("STD")
        text = "($destination[name]==STD) /p/\n/def/"
        new = await ask(hub, destination="STD", target="a.grib", directory=text)
        old = await ask(hub, destination="STD", target="a.grib", directory=text, legacy=True)
        assert (new["hosts"][0]["path"], old["hosts"][0]["path"]) == ("/p/a.grib", "/def/a.grib")
        force = await ask(
            hub, destination="STD", target="E1.dat", force="(=. .tmp) standby=yes\n(.= E1) delay=2",
            legacy=True,
        )  # fmt: skip
        assert force["force"]["line"] == 2


async def test_a_real_transfer(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("A", options={"scheduler.version": "$date"})
        await push(hub.admin, "A", "a.grib", metadata="type=fc")
        found = await ask(hub, transfer=1, directory="/$metadata[type]/$dataTransfer[id]")
        assert found["hosts"][0]["path"] == "/fc/1"
        assert found["duplicates"] == [{"id": 1, "destination": "A", "status": "queued"}]
        assert len(found["key"]["version"]) == 8
        other = await ask(hub, transfer=1, target="b.grib")
        assert other["target"] == "b.grib"


async def test_what_would_be_refused_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("A", max_file_size=10)
        found = await ask(hub, destination="A", target="a", size=11)
        assert found["refused"]["code"] == "too-large"
        assert found["transfers"] == []
        found = await ask(hub, destination="A", target="../a")
        assert found["refused"]["code"] == "invalid-name"
        for body in ({}, {"destination": "A"}, {"destination": "A", "target": "a",
                                                "alias_rule": ""}):  # fmt: skip
            assert (await hub.admin.post("/rules/test", body)).status == 422
        unknown = {"destination": "Z", "target": "a"}
        assert (await hub.admin.post("/rules/test", unknown)).status == 404


async def test_scopes_hide_copies_and_destinations(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("SOUTH")
        await hub.node.destination("NORTH", aliases={"SOUTH": ""})
        olga = await hub.as_user("olga", Role.VIEWER, "NORTH*")
        body = {"destination": "NORTH", "target": "a"}
        found = (await olga.post("/rules/test", body)).json
        assert [one["destination"] for one in found["transfers"]] == ["NORTH"]
        assert found["aliases"] == []
        assert (await olga.post("/rules/test", body | {"destination": "SOUTH"})).status == 404


async def test_texts_are_checked_with_their_place(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:

        async def check(kind: str, text: str) -> Any:
            answer = await hub.admin.post("/rules/check", {"kind": kind, "text": text})
            assert answer.status == 200, answer.text
            return answer.json

        assert (await check("directory", "/o/"))["ok"]
        lint = await check("directory", "/out")
        assert lint["ok"]
        assert "append the target" in lint["problems"][0]["text"]
        bad = await check("listing", "/in/\n[filesize>>1KB]/in/")
        assert (bad["ok"], bad["problems"][0]["line"]) == (False, 2)
        assert not (await check("force", "standby=perhaps"))["ok"]
        assert not (await check("alias", "priority=100"))["ok"]
        assert (await check("requeueon", "$size2 > $size1 and $time2 >= $time1"))["ok"]
        assert not (await check("requeueon", "__import__('os')"))["ok"]
        tie = await check("directory", "($destination[name]==A) /p/\n($host[name]==1) /q/")
        assert tie["ok"]
        assert not tie["problems"][0]["error"]


async def test_a_dry_discovery_and_a_look_through_the_api(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        folder = hub.node.core.settings.file_roots[0]
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "a.nc").write_bytes(b"12345")
        host = Host(
            name="feed", method="genericFile", role=HostRole.ACQUISITION, directory=f"{folder}/"
        )
        await HostOperations(hub.node.engine).put(host, SYSTEM)
        dry = "/hosts/feed/actions/acquire?dry_run=true"
        assert (await hub.admin.post(dry, {})).status == 409  # nobody uses it
        await hub.node.destination("A", hosts=("feed",))
        found = (await hub.admin.post(dry, {})).json
        assert (found["listed"], found["selected"], found["outcomes"]) == (1, 1, {"selected": 1})
        (one,) = found["entries"]
        assert (one["target"], one["size"], one["destinations"]) == ("a.nc", 5, ["A"])
        pasted = {"listing": "a.nc\t1\nb.txt", "names_only": True, "directory": "/x/{.*nc}"}
        found = (await hub.admin.post(dry, pasted)).json
        assert [one["outcome"] for one in found["entries"]] == ["selected", "wrong pattern"]
        seen = (await hub.admin.post("/hosts/feed/actions/list", {"path": str(folder)})).json
        assert [one["name"] for one in seen["entries"]] == ["a.nc"]
        stopped = await hub.admin.post("/hosts/feed/actions/interrupt", {})
        assert stopped.json == {"host": "feed", "destinations": []}
        assert (await hub.admin.get("/transfers")).items == []
        viewer = await hub.as_user("vera", Role.VIEWER)
        assert (await viewer.post(dry, {})).status == 403
