"""Publications through the whole daemon: what is stored is told, in order, and again if need be."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.daemon import DaemonProcess
from tests.protocol.mqttrig import Raw

PASSWORD = "a long password"


def site(**options: Any) -> dict[str, Any]:
    """Return a site with one destination that publishes."""
    published = {"mqtt.publish": "yes", "mqtt.topic": "ops/{destination}/", **options}
    return {
        "destinations": [{"name": "NORTH", "options": published}, {"name": "QUIET"}],
        "data_users": [
            {
                "login": "alice",
                "password": PASSWORD,
                "operations": ["dir", "get", "size", "mtime"],
                "destinations": ["NORTH"],
                "options": {"portal.mqttPermission": "ops/#"},
            }
        ],
    }


class Node:
    """A daemon with its API and its broker."""

    def __init__(self, daemon: DaemonProcess, http: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self._http = http
        self._raws: list[Raw] = []

    async def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API; return its JSON, fail on an error."""
        status, text = await self._asked(method, path, **arguments)
        assert status < 400, f"{status} {text}"
        return json.loads(text) if text else None

    async def refused(self, method: str, path: str, **arguments: Any) -> str:
        """Call the API in vain; return what it says."""
        status, text = await self._asked(method, path, **arguments)
        assert 400 <= status < 500, f"{status} {text}"
        return text

    async def _asked(
        self, method: str, path: str, *, extra: dict[str, str] | None = None, **arguments: Any
    ) -> tuple[int, str]:
        url = f"{self.daemon.endpoints['monitor']}/api/v2{path}"
        headers = {"Authorization": f"Bearer {self.daemon.token}", **(extra or {})}
        async with self._http.request(
            method, url, headers=headers, ssl=False, **arguments
        ) as answer:
            return answer.status, await answer.text()

    async def put(self, target: str, content: bytes = b"x", **fields: str) -> int:
        """Submit a file; return its transfer."""
        form = aiohttp.FormData({"destination": "NORTH", "target": target, **fields})
        form.add_field("file", content, filename="f")
        made = await self.ask("POST", "/files", data=form)
        return int(made["transfers"][0]["id"])

    async def subscriber(self, client: str = "one", *, version: int = 5, **options: Any) -> Raw:
        """Return a client that has subscribed to everything it may."""
        port = self.daemon.port("mqtt")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = Raw(reader, writer, version)
        self._raws.append(raw)
        present, reason = await raw.enter(client, "alice", PASSWORD, version=version, **options)
        assert reason == 0
        if not present:
            assert await raw.subscribe("ops/#") == [1]
        return raw

    def keep(self, raw: Raw) -> Raw:
        """Hang up on that client too in the end."""
        self._raws.append(raw)
        return raw

    def hang_up(self) -> None:
        """Close all clients."""
        for raw in self._raws:
            raw.writer.transport.abort()


@asynccontextmanager
async def running(folder: Path, document: dict[str, Any], **settings: str) -> AsyncIterator[Node]:
    """Run a daemon with that site."""
    environment = {"ECPDS_MQTT__LISTEN": "127.0.0.1:0", **settings}
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


async def test_what_is_stored_is_told_with_a_link_that_works(tmp_path: Path) -> None:
    """The default message: event, names, size, checksum, and where to fetch it."""
    async with running(tmp_path, site()) as node:
        raw = await node.subscriber()
        number = await node.put("a/ü 1.grib2", b"content")
        topic, payload = await raw.message()
        told = json.loads(payload)
        assert topic == "ops/NORTH/a/ü 1.grib2"
        assert {key: told[key] for key in ("event", "destination", "target", "size")} == {
            "event": "available", "destination": "NORTH", "target": "a/ü 1.grib2", "size": 7,
        }  # fmt: skip
        href = told["links"][0]["href"].replace("localhost", "127.0.0.1")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host = href.split("/ecpds/")[0].split("//")[1].rpartition(":")[0]
        href = href.replace(host, "127.0.0.1")
        async with aiohttp.ClientSession() as http:
            login = {"Authorization": aiohttp.encode_basic_auth("alice", PASSWORD)}
            async with http.get(href, headers=login, ssl=context) as answer:
                assert await answer.read() == b"content"
        found = await node.ask("GET", "/notify/publications")
        assert [(one["transfer"], one["state"]) for one in found["items"]] == [(number, "sent")]


async def test_events_follow_what_happens_to_a_file(tmp_path: Path) -> None:
    """Available, updated, deleted; the retained message goes with the file."""
    options = {"mqtt.events": "available,updated,deleted", "mqtt.retain": "yes"}
    async with running(tmp_path, site(**options)) as node:
        raw = await node.subscriber()
        number = await node.put("x.txt")
        await node.put("x.txt", b"new", on_duplicate="overwrite")
        seen = [json.loads((await raw.message())[1]) for _ in range(2)]
        assert [one["event"] for one in seen] == ["available", "updated"]
        kept = await node.ask("GET", "/notify/retained")
        assert [one["topic"] for one in kept["items"]] == ["ops/NORTH/x.txt"]
        await node.ask("POST", f"/transfers/{number}/actions/delete")
        assert json.loads((await raw.message())[1])["event"] == "deleted"
        assert (await node.ask("GET", "/notify/retained"))["items"] == []


async def test_a_destination_that_publishes_nothing_has_no_rows(tmp_path: Path) -> None:
    """Nothing is noted for it."""
    async with running(tmp_path, site()) as node:
        await node.put("x", destination="QUIET")
        assert (await node.ask("GET", "/notify/publications"))["items"] == []


async def test_own_payloads_are_templates(tmp_path: Path) -> None:
    """Old `$name` and new `{{ name }}` forms; values are never read as templates."""
    payload = '{"f": {{ filename | tojson }}, "n": "$filesize", "m": "$metadata[type]$nothing"}'
    async with running(tmp_path, site(**{"mqtt.payload": payload})) as node:
        raw = await node.subscriber()
        number = await node.put("{{ 7*7 }}", metadata="type=fc")
        topic, text = await raw.message()
        assert topic == "ops/NORTH/{{ 7*7 }}"
        assert json.loads(text) == {"f": "{{ 7*7 }}", "n": "1", "m": "fc"}
        shown = await node.ask("POST", "/notify/preview", json={"transfer": number})
        assert json.loads(shown["payload"]) == json.loads(text)
        assert {key: shown[key] for key in ("topic", "qos", "retain")} == {
            "topic": topic, "qos": 1, "retain": False,
        }  # fmt: skip


async def test_a_durable_session_gets_what_it_missed_after_a_restart(tmp_path: Path) -> None:
    """Messages wait for it, in their order, and survive a kill."""
    async with running(tmp_path, site()) as node:
        durable: dict[str, Any] = {"clean": False, "found": {0x11: 600}}
        raw = await node.subscriber(**durable)
        raw.writer.transport.abort()
        for number in range(3):
            await node.put(f"f{number}")
        await until_sent(node, 3)
        node.daemon.kill()
        await node.daemon.start()
        raw = await node.subscriber(**durable)
        assert [(await raw.message())[0] for _ in range(3)] == [f"ops/NORTH/f{n}" for n in range(3)]


async def until_sent(node: Node, count: int) -> None:
    """Wait until so many publications were accepted."""
    async with asyncio.timeout(20):
        while True:
            found = await node.ask("GET", "/notify/publications", params={"state": "sent"})
            if len(found["items"]) >= count:
                return
            await asyncio.sleep(0.05)
