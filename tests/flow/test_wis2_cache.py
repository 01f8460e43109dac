"""Two nodes: one publishes, one takes, stores and tells again, so that the first may be down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.daemon import DaemonProcess
from tests.flow.test_mqtt import Node
from tests.flow.test_wis2 import NAME, fetched
from tests.protocol.mqttrig import Raw
from tests.wis2 import PASSWORD, TOPIC, official, site

CACHE = "xx-cache-test"
SETTINGS = {
    "ECPDS_MQTT__LISTEN": "127.0.0.1:0",
    "ECPDS_NODE__PUBLIC_HOST": "127.0.0.1",
    "ECPDS_PORTAL__HTTPS__TLS": "no",
}


@asynccontextmanager
async def started(folder: Path, document: dict[str, Any]) -> AsyncIterator[Node]:
    """Run a daemon with that site."""
    folder.mkdir()
    daemon = DaemonProcess(folder, environment=SETTINGS)
    daemon.config.write_text('[security]\negress_allow = ["127.0.0.0/8"]\n')
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


def cache_site(*origins: Node, **options: str) -> dict[str, Any]:
    """Return a Global Cache that listens to the brokers of these nodes."""
    first, *others = [one.daemon.port("mqtt") for one in origins]
    urls = [f"mqtt://everyone:{PASSWORD}@127.0.0.1:{port}" for port in others]
    feed = {
        "name": "feed",
        "role": "acquisition",
        "method": "genericMqtt",
        "host": "127.0.0.1",
        "login": "everyone",
        "password": PASSWORD,
        "directory": "[lifetime=1d]origin/a/wis2/+/data/core/#",
        "options": {
            "mqtt.scheme": "mqtt", "mqtt.port": str(first), "mqtt.preset": "wis2",
            "mqtt.brokers": ",".join(urls), **options,
        },
    }  # fmt: skip
    found = site()
    found["hosts"] = [feed]
    found["destinations"] = [
        {
            "name": "CACHE",
            "acquisition": True,
            "hosts": ["feed"],
            "options": {
                "wis2.publish": "yes", "wis2.channel": "cache", "wis2.centreId": CACHE,
            },
        }
    ]  # fmt: skip
    found["data_users"][0]["destinations"] = ["CACHE"]
    return found


async def client(node: Node) -> Raw:
    """Return a subscriber to what caches tell."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.daemon.port("mqtt"))
    raw = node.keep(Raw(reader, writer, 5))
    assert (await raw.enter("client", "everyone", PASSWORD, version=5))[1] == 0
    assert await raw.subscribe("cache/a/wis2/#") == [1]
    return raw


async def subscribed(node: Node, count: int = 1) -> None:
    """Wait until so many clients are connected to the broker of a node."""
    async with asyncio.timeout(30):
        while True:
            found = (await node.ask("GET", "/notify/clients"))["items"]
            if sum(bool(one["subscriptions"]) for one in found) >= count:
                return
            await asyncio.sleep(0.05)


async def test_a_cache_tells_again_what_it_has_taken(tmp_path: Path) -> None:
    """Fetched and verified, told with our link and our id; still there when the origin is down."""
    options = {"wis2.requireRecord": "no", "wis2.inline": "never"}
    async with (
        started(tmp_path / "a", site(**options)) as origin,
        started(tmp_path / "b", cache_site(origin)) as cache,
    ):
        await subscribed(origin)
        subscriber = await client(cache)
        content = bytes(range(256)) * 400
        number = await origin.put(NAME, content)
        topic, payload = await subscriber.message()
        told = official(payload, topic, content)
        assert topic == f"cache/{TOPIC}"
        assert told["properties"]["global-cache"] == CACHE
        port = cache.daemon.port("portal_https")
        assert told["links"][0]["href"].startswith(f"http://127.0.0.1:{port}/wis2/data/CACHE/")
        sent = (await origin.ask("GET", "/notify/publications"))["items"]
        original = json.loads(sent[0]["payload"])
        for key in ("pubtime", "data_id", "integrity", "datetime"):
            assert told["properties"][key] == original["properties"][key]
        assert told["id"] != original["id"]

        await origin.ask("POST", f"/transfers/{number}/actions/delete")
        _, payload = await subscriber.message()
        assert json.loads(payload)["links"][0]["rel"] == "deletion"
        await fetched(told["links"][0]["href"], 404)

        await origin.daemon.apply(site(**options, **{"wis2.cache": "no"}))
        await origin.put("A" + NAME, content)  # which caches may not copy
        topic, payload = await subscriber.message()
        told = official(payload, topic, content)
        assert (topic, told["properties"]["cache"]) == (f"cache/{TOPIC}", False)
        assert told["properties"]["global-cache"] == CACHE
        assert await fetched(told["links"][0]["href"]) == content
        assert f":{origin.daemon.port('portal_https')}/" in told["links"][0]["href"]
        page = await cache.ask("GET", "/transfers", params={"destination": "CACHE"})
        assert page["items"] == []  # it was not fetched
        await origin.daemon.apply(site(**options))

        await origin.put("B" + NAME, content)
        _, payload = await subscriber.message()
        link = json.loads(payload)["links"][0]["href"]
        await origin.daemon.stop()
        assert await fetched(link) == content


async def test_two_brokers_of_one_host_and_a_cache_that_answers_for_its_origin(
    tmp_path: Path,
) -> None:
    """Each datum is taken once; what was missed is asked for when the session is lost."""
    options = {"wis2.requireRecord": "no"}
    other = site(**options, **{"wis2.centreId": "xx-other-test", "wis2.metadataId": ""})
    async with (
        started(tmp_path / "a", site(**options)) as first,
        started(tmp_path / "c", other) as second,
    ):
        replay = f"{first.daemon.endpoints['portal_https']}/wis2/replay"
        document = cache_site(first, second, **{"mqtt.cleanStart": "yes", "mqtt.replayUrl": replay})
        async with started(tmp_path / "b", document) as cache:
            await subscribed(first)
            await subscribed(second)
            subscriber = await client(cache)
            await first.put("one", b"1")
            await second.put("two", b"2")
            topics = sorted([(await subscriber.message())[0] for _ in range(2)])
            assert topics == [f"cache/{TOPIC}", f"cache/{TOPIC}".replace("example", "other")]
            await cache.daemon.stop()
            await first.put("three", b"3")
            await cache.daemon.start()
            targets: set[str] = set()
            async with asyncio.timeout(30):
                while len(targets) < 3:
                    page = await cache.ask("GET", "/transfers", params={"destination": "CACHE"})
                    targets = {one["target"] for one in page["items"]}
                    await asyncio.sleep(0.05)
            assert targets == {"one", "two", "three"}
