"""What was published can be had again over HTTP, by the rights of who asks, in bounded pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from ecpds.base.clock import SystemClock
from tests.flow.test_mqtt import PASSWORD, Node, running, site, until_sent
from tests.protocol.https_site import basic

PAYLOAD = """{{ filename }}{% if filename == "long" %}{% for _ in range(900) %}
0123456789012345678901234{% endfor %}{% endif %}"""
EVER = "2020-01-01T00:00:00Z"


async def replay(node: Node, user: str = "alice", **query: Any) -> tuple[int, Any]:
    """Ask the portal; return status and document."""
    url = f"{node.daemon.endpoints['portal_https']}/ecpds/data/replay"
    headers = {"Accept": "application/json"}
    if user:
        headers["Authorization"] = basic(user, PASSWORD)
    async with aiohttp.ClientSession(headers=headers) as http:
        text = "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
        async with http.get(f"{url}?{text}", ssl=False) as answer:
            body = await answer.text()
            return answer.status, json.loads(body) if answer.status == 200 else body


def names(document: Any) -> list[str]:
    """Return the topics of a page."""
    return [one["topic"].removeprefix("ops/NORTH/") for one in document["items"]]


async def test_a_replay_gives_what_the_user_may_have_and_no_more(tmp_path: Path) -> None:
    """Page by page, by topic, from a time or a cursor on; what is long is named, not sent."""
    document = site(**{"mqtt.payload": PAYLOAD})
    alone = {
        "mqtt.publish": "yes",
        "mqtt.topic": "ops/",
        "mqtt.clientId": "it",
        "mqtt.retain": "yes",
    }
    document["destinations"].append({"name": "ONE", "options": alone})
    alice = document["data_users"][0]
    bob = {**alice, "login": "bob", "options": {"portal.mqttPermission": "ops/+/b/#"}}
    none = {**alice, "login": "none", "options": {}}
    other = {**alice, "login": "other", "options": alice["options"] | {
        "portal.excludeProtocols": "mqtts"}}  # fmt: skip
    document["data_users"] += [bob, none, other]
    async with running(tmp_path, document) as node:
        for target in ("a", "b/1", "b/2"):
            await node.put(target)
        await until_sent(node, 3)
        status, found = await replay(node, since=EVER)
        assert (status, names(found), found["next"]) == (200, ["a", "b/1", "b/2"], None)
        assert found["items"][0] | {"time": 0, "expires": 0} == {
            "topic": "ops/NORTH/a", "time": 0, "event": "available", "destination": "NORTH",
            "payload": "a", "size": None, "qos": 1, "retain": False, "content_type": "text/plain",
            "expires": 0,
        }  # fmt: skip

        assert names((await replay(node, "bob", since=EVER))[1]) == ["b/1", "b/2"]
        assert names((await replay(node, since=EVER, topic="ops/+/b/1"))[1]) == ["b/1"]
        for user, expected in (("none", 403), ("other", 403), ("", 401)):
            assert (await replay(node, user, since=EVER))[0] == expected
        for query in (
            {}, {"since": "soon"}, {"since": EVER, "limit": "x"}, {"since": EVER, "topic": "a/#/b"},
            {"after": "1-x"}, {"after": "9" * 30},
        ):  # fmt: skip
            assert (await replay(node, **query))[0] == 400, query

        page = (await replay(node, since=EVER, limit=2))[1]
        assert names(page) == ["a", "b/1"]
        page = (await replay(node, after=page["next"]))[1]
        assert (names(page), page["next"]) == (["b/2"], None)
        now = SystemClock().now().isoformat()
        assert names((await replay(node, since=now))[1]) == []

        chosen = await node.subscriber("it")
        await node.put("alone", destination="ONE")
        assert (await chosen.message())[0] == "ops/alone"
        late = await node.subscriber("other")  # no message for one client is retained
        late.send(b"\xc0\x00")
        assert (await late.take())[0] == 0xD0

        await node.put("long")
        await until_sent(node, 5)
        found = (await replay(node, after=page["cursor"]))[1]
        assert found == (await replay(node, since=now))[1]
        assert names(found) == ["long"]
        assert (found["items"][0]["payload"], found["items"][0]["size"]) == (None, 4 + 900 * 26)
