"""Scripts at work: listings, targets, metadata of uploads, and the rules test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.acquisition_dry import Request, dry_run
from ecpds.model.errors import ScriptError
from ecpds.model.status import TransferStatus
from ecpds.store import files
from tests.flow.test_engine import bench, done, plain
from tests.node import small_node
from tests.protocol.api import rig

S = TransferStatus


async def test_a_listing_script_gives_the_lines(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.lay("00/a")
        made.lay("12/b")
        site = plain(made)
        site["hosts"][0]["directory"] = (
            f'$(python:"\\n".join("{made.feed}/%02d/{{.*}}" % h for h in (0, 12)))'
        )
        await made.apply(site)
        found = await made.wait(done(2))
        assert {one.target for one in found} == {"a", "b"}
        core = made.node.core
        for text, words in (
            ("$(js: nosuch)", "not defined"),
            ("$(python: 5)", "a number"),
            ("$(js: '$(js: 1)')", "returned a script"),
        ):
            with pytest.raises(ScriptError, match=words):
                await dry_run(core, Request(host="feed", directory=text))


async def test_a_target_script_gives_the_path(tmp_path: Path) -> None:
    """Tokens in quotes are values, a returned selector chooses, a broken script is a failure."""
    async with bench(tmp_path) as made:
        site = plain(made)
        site["hosts"][1]["directory"] = (
            f'$(js:"{made.out}/" + "$destination[name]".toLowerCase() + "/")'
        )
        await made.apply(site)
        await made.push("x/a.grib", metadata={"type": 'it\'s "odd"'})
        await made.wait(done(1))
        assert (made.out / "d" / "x" / "a.grib").read_bytes() == b"content"
        site["hosts"][1]["directory"] = (
            f"$(python:\nlines = ['($destination[name]==D) {made.out}/sel/']\nlines)"
        )
        await made.apply(site)
        await made.push("b")
        await made.wait(done(2))
        assert (made.out / "sel" / "b").exists()
        site["hosts"][1]["directory"] = "$(js:nosuch)"
        await made.apply(site)
        number = await made.push("c")
        await made.wait(lambda all_: all_[-1].status is S.RETR)
        failed = await made.get(number)
        assert failed.reason is not None
        assert (failed.reason.kind, "not defined" in failed.reason.text) == ("script", True)
        assert made.node.engine.breakers.open_reason("out", version=0) is None


async def test_metadata_of_an_upload_by_a_script(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        script = '$(python:"type=" + "$target[0..2]" + ",note=" + destination)'
        await node.destination("NORTH", options={"incoming.metadata": script})
        await node.user("alice", destinations=("NORTH",))
        async with await node.login("alice") as session:
            await put(session, "/NORTH/fc.grib")
            assert await node.store.read(files.metadata, 1) == {"type": "fc", "note": "NORTH"}
            bad = {
                "incoming.metadata": "$(js:nosuch)",
                "incoming.failOnMetadataParsingError": "yes",
            }
            await node.destination("NORTH", options=bad)
            with pytest.raises(ScriptError):
                await put(session, "/NORTH/b.grib")


async def put(session: Any, path: str) -> None:
    async with await session.open_write(path, size=1) as writer:
        writer.write(b"1")
        await writer.commit(size=1)


async def test_the_rules_test_and_the_bench(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("A")
        directory = '$(js:"/o/" + "$destination[name]" + "/")'
        body = {"destination": "A", "target": "a.grib", "directory": directory}
        found = (await hub.admin.post("/rules/test", body)).json
        assert found["hosts"][0]["path"] == "/o/A/a.grib"
        tried = {"language": "python", "code": "dataTransfer.target.upper()",
                 "destination": "A", "target": "a.grib"}  # fmt: skip
        found = (await hub.admin.post("/scripts/try", tried)).json
        assert (found["ok"], found["text"]) == (True, "A.GRIB")
        found = (await hub.admin.post("/scripts/try", tried | {"code": "1/0"})).json
        assert (found["ok"], found["error"][:17]) == (False, "ZeroDivisionError")
        plain_ = {"language": "javascript", "code": "x + 1", "variables": {"x": 41}}
        found = (await hub.admin.post("/scripts/try", plain_)).json
        assert (found["value"], found["text"], "a number" in found["error"]) == (42, None, True)
        text = {"code": "$(js:'$destination[name]')", "destination": "A", "target": "a"}
        found = (await hub.admin.post("/scripts/try", text)).json
        assert found["text"] == "A"


async def test_a_payload_script(tmp_path: Path) -> None:
    """Text, or an object whose topic wins; a broken one is told, not sent."""
    async with rig(tmp_path) as hub:

        async def shown(payload: str) -> Any:
            options = {"mqtt.publish": "yes", "mqtt.payload": payload, "mqtt.topic": "t/"}
            await hub.node.destination("A", options=options)
            return await hub.admin.post("/notify/preview", {"transfer": 1})

        await hub.node.destination("A")
        fields = {"destination": "A", "target": "a.grib", "metadata": "type=fc"}
        assert (await hub.admin.upload(b"12345", **fields)).status == 201
        found = (await shown("$(python: filename + ' ' + str(size) + metadata.type)")).json
        assert (found["topic"], found["payload"]) == ("t/a.grib", "a.grib 5fc")
        made = "$(js: ({mqtt: {payload: {name: '$filename'}, topic: 'x/y'}}))"
        found = (await shown(made)).json
        assert (found["topic"], found["payload"]) == ("x/y", '{"name": "a.grib"}')
        failed = await shown("$(js: nosuch)")
        assert failed.status == 422
        assert "not defined" in failed.text
        assert (await shown("$(js: ({a: 1}))")).status == 422


async def test_the_script_behind_the_options_of_a_destination(tmp_path: Path) -> None:
    """What it gives wins over the options; what it leaves out they decide."""
    async with rig(tmp_path) as hub:

        async def shown(script: str, **options: str) -> Any:
            given = {"mqtt.publish": "yes", "mqtt.payload": "{{ size }}", "mqtt.topic": "t/"}
            await hub.node.destination("A", options=given | options, script=script)
            return await hub.admin.post("/notify/preview", {"transfer": 1})

        await hub.node.destination("A")
        fields = {"destination": "A", "target": "a.grib", "metadata": "type=fc"}
        assert (await hub.admin.upload(b"12345", **fields)).status == 201
        found = (await shown('python: {"mqtt": {"payload": {"n": "$filename"}, "qos": 2}}')).json
        assert (found["topic"], found["payload"]) == ("t/a.grib", '{"n": "a.grib"}')
        assert found["qos"] == 2
        found = (
            await shown("var t = metadata.type;\nreturn {topic: t + '/x', retain: true};")
        ).json
        assert (found["topic"], found["payload"], found["retain"]) == ("fc/x", "5", True)
        found = (await shown("js: null")).json
        assert (found["topic"], found["payload"]) == ("t/a.grib", "5")
        for script, told in (
            ("nosuch()", "not defined"),
            ("({mqtt: {qos: 7}})", "qos"),
            ("({mqtt: {qqos: 1}})", "qqos"),
            ("({topic: 1})", "topic"),
        ):
            failed = await shown(script)
            assert (failed.status, told in failed.text) == (422, True), failed.text
