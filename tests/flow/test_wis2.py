"""A WIS2 node through the whole daemon: records first, then data; valid, open, withdrawn."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.daemon import DaemonProcess
from tests.flow.test_mqtt import Node
from tests.protocol.mqttrig import Raw
from tests.wis2 import CENTRE, PASSWORD, RECORD, TOPIC, official, record, site

NAME = "A_S06700_202611020600.bufr"


@asynccontextmanager
async def running(folder: Path, document: dict[str, Any], **settings: str) -> AsyncIterator[Node]:
    """Run a daemon with that site."""
    environment = {
        "ECPDS_MQTT__LISTEN": "127.0.0.1:0", "ECPDS_NODE__PUBLIC_HOST": "127.0.0.1", **settings,
    }  # fmt: skip
    daemon = DaemonProcess(folder, environment=environment)
    await daemon.command("init")
    await daemon.apply(document)
    await daemon.start()
    async with aiohttp.ClientSession() as http:
        node = Node(daemon, http)
        try:
            yield node
        finally:
            node.hang_up()
            await daemon.stop()


async def broker(node: Node, client: str = "gb") -> Raw:
    """Return a Global Broker: a client that has subscribed to everything of the node."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.daemon.port("mqtt"))
    raw = node.keep(Raw(reader, writer, 5))
    _, reason = await raw.enter(client, "everyone", PASSWORD, version=5)
    assert reason == 0
    assert await raw.subscribe(f"origin/a/wis2/{CENTRE}/#") == [1]
    return raw


async def fetched(address: str, status: int = 200) -> bytes:
    """Fetch without a login."""
    async with aiohttp.ClientSession() as http, http.get(address, ssl=False) as answer:
        content = await answer.read()
        assert answer.status == status, content
        return content


async def states(node: Node) -> list[tuple[str, str]]:
    """Return event and state of all publications, oldest first."""
    found = await node.ask("GET", "/notify/publications")
    return [(one["event"], one["state"]) for one in reversed(found["items"])]


async def settled(node: Node, count: int) -> list[tuple[str, str]]:
    """Wait until so many publications have ended."""
    async with asyncio.timeout(20):
        while True:
            found = await states(node)
            if len(found) >= count and all(state != "waiting" for _, state in found):
                return found
            await asyncio.sleep(0.05)


async def test_data_follow_their_record_and_are_valid_open_and_withdrawn(tmp_path: Path) -> None:
    """Refused before the record; then canonical, update, nothing for the same, deletion."""
    async with running(tmp_path, site()) as node:
        gb = await broker(node)
        number = await node.put(NAME, b"BUFR\x00one7777")
        assert await settled(node, 1) == [("available", "failed")]
        await node.ask("POST", "/wis2/records", json=record())
        topic, payload = await gb.message()
        told = official(payload, topic)
        assert topic == f"origin/a/wis2/{CENTRE}/metadata"
        assert told["properties"]["metadata_id"] == RECORD
        served = await fetched(told["links"][0]["href"])
        assert json.loads(served) == record()

        topic, payload = await gb.message()  # what was refused comes by itself
        told = official(payload, topic, b"BUFR\x00one7777")
        assert topic == f"origin/{TOPIC}"
        assert told["geometry"] == {"type": "Point", "coordinates": [6.15, 46.22, 420.0]}
        inner, link = told["properties"], told["links"][0]
        assert inner["datetime"] == "2026-11-02T06:00:00Z"
        assert inner["data_id"] == f"{TOPIC.removeprefix('a/')}/{NAME}"
        assert inner["content"]["encoding"] == "base64"
        assert base64.b64decode(inner["content"]["value"]) == b"BUFR\x00one7777"
        assert (link["rel"], link["type"]) == ("canonical", "application/bufr")
        assert await fetched(link["href"]) == b"BUFR\x00one7777"

        await node.put(NAME, b"BUFR\x00two7777", on_duplicate="overwrite")
        topic, payload = await gb.message()
        update = official(payload, topic, b"BUFR\x00two7777")
        assert update["links"][0]["rel"] == "update"
        assert update["properties"]["data_id"] == inner["data_id"]
        assert update["id"] != told["id"]
        await node.put(NAME, b"BUFR\x00two7777", on_duplicate="overwrite")
        assert (await settled(node, 4))[-1] == ("updated", "dropped")

        await node.ask("POST", f"/transfers/{number}/actions/delete")
        topic, payload = await gb.message()
        gone = official(payload, topic)
        assert gone["links"] == [{"rel": "deletion", "href": link["href"]}]
        assert gone["properties"]["data_id"] == inner["data_id"]
        await fetched(link["href"], 404)
        assert (await node.ask("GET", "/notify/retained"))["items"] == []


async def test_a_changed_record_is_told_again_and_a_deleted_one_withdrawn(tmp_path: Path) -> None:
    """Update, deletion; a wrong one is refused with all that is wrong."""
    async with running(tmp_path, site()) as node:
        gb = await broker(node)
        await node.ask("POST", "/wis2/records", json=record())
        relations = [json.loads((await gb.message())[1])["links"][0]["rel"]]
        await settled(node, 1)
        changed = record(title="Another title")
        await node.ask("PUT", f"/wis2/records/{RECORD}", json=changed, extra={"If-Match": "*"})
        topic, payload = await gb.message()
        relations.append(official(payload, topic)["links"][0]["rel"])
        await settled(node, 2)
        await node.ask("DELETE", f"/wis2/records/{RECORD}", extra={"If-Match": "*"})
        topic, payload = await gb.message()
        gone = official(payload, topic)
        relations.append(gone["links"][0]["rel"])
        assert relations == ["canonical", "update", "deletion"]
        assert gone["properties"]["metadata_id"] == RECORD
        bad = record() | {"id": "urn:wmo:md:other:x"}
        with_policy = {**bad, "properties": bad["properties"] | {"wmo:dataPolicy": "free"}}
        text = await node.refused("POST", "/wis2/records", json=with_policy)
        assert "data_policy" in text
        assert "identifier" in text


async def test_small_texts_are_in_the_message_large_ones_are_not(tmp_path: Path) -> None:
    """utf-8, base64 and gzip within 4096 characters; the whole message within 8192 bytes."""
    contents = {
        "t.txt": (b"TTAA00 EXMP\r\n", "utf-8"),
        "r.bin": (bytes(range(256)) * 12, "base64"),
        "z.bin": (b"\x00" * 4096, "gzip"),
        "n.bin": (b"\x00" * 4097, ""),
        "u.txt": ("\u2603".encode() * 1300, "utf-8"),
    }
    options = {"wis2.requireRecord": "no", "wis2.datetime": "none", "wis2.geometry": "null"}
    async with running(tmp_path, site(**options)) as node:
        gb = await broker(node)
        for name, (content, encoding) in contents.items():
            await node.put(name, content)
            topic, payload = await gb.message()
            told = official(payload, topic, content)
            assert told["geometry"] is None
            assert told["properties"]["datetime"] is None
            found = told["properties"].get("content", {})
            assert found.get("encoding", "") == encoding, name
            assert found.get("size", len(content)) == len(content)
            assert await fetched(told["links"][0]["href"]) == content


async def test_the_self_test_tells_what_is_wrong(tmp_path: Path) -> None:
    """A healthy node passes; a missing record and a wrong password are told."""
    async with running(tmp_path, site()) as node:
        await node.put(NAME, b"x")
        await settled(node, 1)
        report = await node.ask("POST", "/wis2/selftest", json={})
        assert not report["valid"]
        assert any("no discovery record" in one["text"] for one in report["findings"])
        gb = await broker(node)
        await node.ask("POST", "/wis2/records", json=record())
        await gb.message()
        await gb.message()
        report = await node.ask("POST", "/wis2/selftest", json={})
        assert report["valid"], report
        wanted = {"record", "login", "subscribe", "message_size", "links", "topic", "download"}
        assert wanted <= {one["requirement"] for one in report["findings"]}
        report = await node.ask("POST", "/wis2/selftest", json={"password": "wrong"})
        assert [one["requirement"] for one in report["findings"] if one["severity"] == "error"] == [
            "login"
        ]


async def test_previews_checks_and_replays(tmp_path: Path) -> None:
    """The preview is what will be sent; messages of others can be checked; what was can be had."""
    async with running(tmp_path, site(**{"wis2.requireRecord": "no"})) as node:
        gb = await broker(node)
        first = await node.put(NAME, b"one")
        topic, payload = await gb.message()
        shown = await node.ask("POST", "/notify/preview", json={"transfer": first})
        assert (shown["topic"], shown["retain"]) == (topic, False)
        report = await node.ask(
            "POST", "/wis2/validate", json={"message": json.loads(payload), "topic": topic}
        )
        assert report["valid"]
        report = await node.ask("POST", "/wis2/validate", json={"message": {}, "topic": "a/b"})
        assert not report["valid"]
        await settled(node, 1)
        base = node.daemon.endpoints["portal_https"]
        found = json.loads(await fetched(f"{base}/wis2/replay?since=2020-01-01T00:00:00Z"))
        assert [(one["topic"], one["message"]) for one in found["items"]] == [
            (topic, json.loads(payload))
        ]
        none = f"{base}/wis2/replay?since=2020-01-01T00:00:00Z&topic=cache/%23"
        assert json.loads(await fetched(none))["items"] == []
        metrics = await fetched(f"{node.daemon.endpoints['monitor']}/metrics")
        assert b'ecpds_wis2_messages_total{direction="out"} 1.0' in metrics
