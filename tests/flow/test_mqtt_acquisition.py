"""Files announced by another broker: taken once, verified, acknowledged after the commit."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import paho.mqtt.client as paho
import pytest
from aiohttp import web
from paho.mqtt.enums import CallbackAPIVersion

from tests.daemon import DaemonProcess
from tests.flow.test_mqtt import Node
from tests.peers.mosquitto import Mosquitto, mosquitto

TOPIC = "cache/a/wis2/xx-test/data/core/weather"
PATIENCE = 20.0
pytestmark = pytest.mark.needs("mosquitto")


def wnm(number: int, **properties: Any) -> dict[str, Any]:
    """Return a WIS2 notification message."""
    return {
        "id": f"0b6f3c1e-6d0a-4f5e-9a44-5d1f0e6b{number:04x}",
        "type": "Feature",
        "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
        "geometry": None,
        "properties": {
            "pubtime": f"2026-11-02T06:03:{number:02d}Z",
            "datetime": "2026-11-02T06:00:00Z",
            "data_id": f"xx-test/data/f{number}.bufr",
            **properties,
        },
        "links": [{"rel": "canonical", "type": "application/bufr", "href": ""}],
    }


def inline(content: bytes, encoding: str) -> dict[str, Any]:
    """Return the content member."""
    packed = gzip.compress(content) if encoding == "gzip" else content
    value = content.decode() if encoding == "utf-8" else base64.b64encode(packed).decode()
    return {"encoding": encoding, "value": value, "size": len(content)}


class Publisher:
    """A client that publishes to the broker."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def put(self, document: Any, topic: str = TOPIC) -> None:
        """Publish and wait for the acknowledgement."""
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self._client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Origin:
    """A web server with files that change."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Give a file."""
        name = request.path.rpartition("/")[2]
        self.asked.append(name)
        if name not in self.files:
            raise web.HTTPNotFound
        return web.Response(body=self.files[name])


@asynccontextmanager
async def origin() -> AsyncIterator[Origin]:
    """Run it on a free port."""
    made = Origin()
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(
    folder: Path, broker: Mosquitto, **host: Any
) -> AsyncIterator[tuple[DaemonProcess, Node]]:
    """Run a daemon that listens to the broker."""
    (folder / "node").mkdir()
    daemon = DaemonProcess(folder / "node")
    daemon.config.write_text('[security]\negress_allow = ["127.0.0.0/8"]\n')
    await daemon.command("init")
    options = {"mqtt.scheme": "mqtt", "mqtt.port": str(broker.port), "mqtt.preset": "wis2"}
    feed = {
        "name": "feed", "role": "acquisition", "method": "genericMqtt", "host": "127.0.0.1",
        "directory": "cache/a/wis2/+/data/core/#", **host,
    }  # fmt: skip
    feed["options"] = options | host.get("options", {})
    north = {"name": "NORTH", "acquisition": True, "hosts": ["feed"]}
    await daemon.apply({"hosts": [feed], "destinations": [north]})
    await daemon.start()
    async with aiohttp.ClientSession() as http:
        try:
            yield daemon, Node(daemon, http)
        finally:
            await daemon.stop()


async def until(node: Node, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the transfers, by target, are as wished; return them."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                page = await node.ask("GET", "/transfers", params={"destination": "NORTH"})
                found = {one["target"]: one for one in page["items"]}
                if holds(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{found}\n{node.daemon.log()}") from None


async def content(node: Node, transfer: dict[str, Any]) -> bytes:
    """Return what is stored."""
    daemon = node.daemon
    url = f"{daemon.endpoints['monitor']}/api/v2/files/{transfer['data_file_id']}/content"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {daemon.token}"}) as http,
        http.get(url, ssl=False) as answer,
    ):
        return await answer.read()


def stored(*names: str) -> Callable[[dict[str, Any]], bool]:
    """Tell whether these files are queued, and no others."""
    return lambda found: (
        sorted(found) == sorted(names) and all(one["status"] == "queued" for one in found.values())
    )


async def test_wis2_messages_become_files(tmp_path: Path) -> None:
    """By link and in the message, verified, once each; updates and deletions are honoured."""
    async with (
        mosquitto(tmp_path / "broker") as broker,
        origin() as web_server,
        listening(tmp_path, broker) as (_, node),
    ):
        publisher = Publisher(broker.port)
        web_server.files = {"f1": b"one", "f2": b"two", "bad": b"other"}
        linked = wnm(1, integrity=integrity(b"one"))
        linked["links"][0] |= {"href": f"{web_server.url}/f1", "length": 3}
        publisher.put(linked)
        publisher.put(linked | {"type": "Feature"})  # again, from another broker
        publisher.put(linked | {"id": "another"})  # and round about, from a cache
        for number, encoding in ((3, "utf-8"), (4, "base64"), (5, "gzip")):
            publisher.put(wnm(number, content=inline(b"inline", encoding)))
        publisher.put(b"no json")
        publisher.put(wnm(6, content=inline(b"x", "utf-8"), integrity=integrity(b"y")))
        names = ["f1.bufr", "f3.bufr", "f4.bufr", "f5.bufr"]
        found = await until(node, stored(*names))
        assert [await content(node, found[name]) for name in names] == [b"one", *[b"inline"] * 3]
        assert web_server.asked.count("f1") == 1

        update = wnm(7, data_id="xx-test/data/f1.bufr", integrity=integrity(b"two"))
        update["links"][0] |= {"rel": "update", "href": f"{web_server.url}/f2"}
        publisher.put(update)
        withdrawn = wnm(8, data_id="xx-test/data/f3.bufr")
        withdrawn["links"][0] |= {"rel": "deletion", "href": "http://x.test/f3"}
        publisher.put(withdrawn)
        wrong = wnm(9, integrity=integrity(b"wanted"))
        wrong["links"][0] |= {"href": f"{web_server.url}/bad"}
        publisher.put(wrong)
        inward = wnm(10)
        inward["links"][0]["href"] = "http://169.254.169.254/latest/meta-data"
        publisher.put(inward)
        for name, reason in (("f9.bufr", "not the announced one"), ("f10.bufr", "egress_allow")):
            found = await until(
                node,
                lambda now: now.get(name, {}).get("status") in ("failed", "preset"),  # noqa: B023 - awaited here
            )
            assert reason in str(found[name]["reason"]), found[name]
        found = await until(
            node,
            lambda now: (
                "f3.bufr" not in now
                and now["f1.bufr"]["size"] == 3
                and now["f1.bufr"]["status"] in ("queued", "requeued")
            ),
        )
        assert await content(node, found["f1.bufr"]) == b"two"
        publisher.close()


def integrity(value: bytes) -> dict[str, str]:
    """Return the integrity member for a content."""
    digest = hashlib.sha512(value).digest()
    return {"method": "sha512", "value": base64.b64encode(digest).decode()}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_was_missed_comes_after_a_restart(tmp_path: Path, version: str) -> None:
    """The broker keeps messages while the node is down; a lost broker is found again."""
    options = {"mqtt.version": version}
    async with (
        mosquitto(tmp_path / "broker") as broker,
        listening(tmp_path, broker, options=options) as (daemon, node),
    ):
        publisher = Publisher(broker.port)
        publisher.put(wnm(1, content=inline(b"x", "utf-8")))
        await until(node, stored("f1.bufr"))
        daemon.kill()
        for number in range(2, 6):
            publisher.put(wnm(number, content=inline(b"x", "utf-8")))
        if version == "5":  # killed once more, stored and not acknowledged: not taken twice
            await daemon.start(may_die=True, ECPDS_FAILPOINTS="acquisition.registered:kill")
            async with asyncio.timeout(PATIENCE):
                while daemon.is_alive:
                    await asyncio.sleep(0.02)
            daemon.kill()
        await daemon.start()
        await until(node, stored(*(f"f{n}.bufr" for n in range(1, 6))))
        publisher.close()
        await broker.stop()
        await broker.start()
        publisher = Publisher(broker.port)
        publisher.put(wnm(6, content=inline(b"x", "utf-8")))
        await until(node, stored(*(f"f{n}.bufr" for n in range(1, 7))))
        publisher.close()


async def test_own_fields_say_where_files_are(tmp_path: Path) -> None:
    """Paths with alternatives, a filter, and options of the directory line."""
    options = {
        "mqtt.preset": "",
        "mqtt.map.href": "file.url || links[rel=data].href",
        "mqtt.map.name": "file.name",
        "mqtt.filter": "not name.endswith('.csv')",
    }
    async with (
        mosquitto(tmp_path / "broker") as broker,
        origin() as web_server,
        listening(
            tmp_path, broker, options=options, directory="[priority=7;target=in/$name]own/#"
        ) as (_, node),
    ):
        web_server.files = {"a": b"aa", "b": b"bb"}
        publisher = Publisher(broker.port)
        publisher.put({"file": {"url": f"{web_server.url}/a", "name": "a.dat"}}, "own/x")
        publisher.put({"file": {"url": f"{web_server.url}/a", "name": "a.csv"}}, "own/x")
        publisher.put({"links": [{"rel": "data", "href": f"{web_server.url}/b"}]}, "own/y")
        found = await until(node, stored("in/a.dat", "in/b"))
        assert found["in/b"]["priority"] == 7
        await _script_reads(node, publisher, web_server)
        publisher.close()


READER = """\
python:
import json
told = json.loads(mqttPayload)
if "skip" in told:
    return None
if "body" in told:
    return {"mqttBody": told["body"], "mqttAlternativeName": "inline"}
name = mqttTopic.rpartition("/")[2]
href = told["link"]
return {"http": {"mqttHref": href, "mqttSize": 2, "mqttTime": 0, "mqttAlternativeName": name}}
"""


async def _script_reads(node: Node, publisher: Publisher, web_server: Origin) -> None:
    """The script behind the options of the host reads the messages instead of `mqtt.map`."""
    change = {"script": READER}
    await node.ask("PATCH", "/hosts/feed", json=change, extra={"If-Match": "*"})
    for said in ({"skip": 1}, {"nothing": 1}, {"body": "aW5saW5l"}):
        publisher.put(said, "own/y")
    publisher.put({"link": f"{web_server.url}/b"}, "own/z/late")
    found = await until(node, stored("in/a.dat", "in/b", "in/inline", "in/late"))
    assert await content(node, found["in/inline"]) == b"inline"
    assert await content(node, found["in/late"]) == b"bb"
