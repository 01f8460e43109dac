"""Webhooks and the event stream: signed, in order, resumable, only what one may know."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ecpds.engine import webhooks as engine_webhooks
from ecpds.model.account import Role
from ecpds.web.eventstream import PER_CALLER
from ecpds.web.rights import by_session
from tests.protocol.api import Client, Rig, rig


@dataclass
class Receiver:
    """Takes POSTs and remembers them; `status` is what it answers."""

    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status == 200:
            self.got.append((dict(request.headers), body))
        return web.Response(status=self.status, headers={"Location": self.url})


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hub_with_receiver(folder: Path) -> AsyncIterator[tuple[Rig, Receiver]]:
    async with rig(folder) as hub, receiver() as there:
        core = hub.node.core
        security = replace(core.settings.security, egress_allow=("127.0.0.0/8",))
        core.settings = replace(core.settings, security=security)
        yield hub, there


async def until(true: Callable[[], Any]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not happen")


async def hook(hub: Rig, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await hub.admin.get(f"/webhooks/{name}")).json
    return found


async def test_events_arrive_in_order_and_signed(tmp_path: Path) -> None:
    async with hub_with_receiver(tmp_path) as (hub, there):
        made = await hub.admin.post("/webhooks", {"name": "w", "url": there.url, "types": ["ADM"]})
        assert made.status == 201, made.text
        secret = made.json["secret"]
        assert secret.startswith("whsec_")
        for number in range(5):
            assert (await hub.admin.post("/destinations", {"name": f"D{number}"})).ok
        await until(lambda: len(there.got) >= 6)
        names = [one["event"]["object"]["name"] for one in there.events]
        assert names == ["w", "D0", "D1", "D2", "D3", "D4"]
        numbers = [one["number"] for one in there.events]
        assert numbers == sorted(set(numbers))
        headers, body = there.got[0]
        text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        wanted = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        shown = await hook(hub, "w")
        assert (shown["secret"], shown["sent"], shown["error"]) == ("***", 6, None)
        assert (await hub.admin.delete("/webhooks/w", match="*")).status == 204


async def test_failures_are_tried_again_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_webhooks, "FIRST_PAUSE", timedelta(milliseconds=20))
    async with hub_with_receiver(tmp_path) as (hub, there):
        there.status = 503
        body = {"name": "w", "url": there.url, "types": ["ADM"]}
        assert (await hub.admin.post("/webhooks", body)).ok
        assert (await hub.admin.post("/destinations", {"name": "A"})).ok
        for _ in range(400):
            shown = await hook(hub, "w")
            if shown["tries"] >= 2:
                break
            await asyncio.sleep(0.02)
        assert (shown["error"], shown["active"]) == ("HTTP 503", True)
        assert shown["behind"] >= 2
        there.status = 200
        await until(lambda: len(there.got) >= 2)
        assert [one["event"]["object"]["name"] for one in there.events] == ["w", "A"]
        monkeypatch.setattr(engine_webhooks, "GIVE_UP", timedelta(0))
        there.status = 500
        assert (await hub.admin.post("/destinations", {"name": "B"})).ok
        for _ in range(400):
            shown = await hook(hub, "w")
            if shown["disabled"]:
                break
            await asyncio.sleep(0.02)
        assert (shown["disabled"], shown["active"]) == (True, False)
        there.status = 200
        monkeypatch.setattr(engine_webhooks, "GIVE_UP", timedelta(days=3))
        assert (await hub.admin.patch("/webhooks/w", {"active": True}, match="*")).ok
        await until(lambda: len(there.got) >= 3)  # goes on where it stopped
        assert there.events[2]["event"]["object"]["name"] == "B"


async def test_what_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for url in (
            "ftp://x", "http://example.org/", "https://127.0.0.1/", "https://10.0.0.1/x", "",
            "https://user:pw@example.org/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        ):  # fmt: skip
            answer = await hub.admin.post("/webhooks", {"name": "w", "url": url})
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/url"), url
        fine = {"name": "w", "url": "https://example.org/"}
        assert (await hub.admin.post("/webhooks?dry_run=yes", fine)).status == 200
        assert (await hub.admin.get("/webhooks")).items == []
        for odd in ({"types": ["upload"]}, {"name": "a b"}, {"nmae": "w"}):
            assert (await hub.admin.post("/webhooks", fine | odd)).status == 422
        editor = await hub.as_user("ed", Role.EDITOR)
        assert (await editor.get("/webhooks")).status == 403


async def test_a_name_of_a_private_address_is_not_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        body = {"name": "w", "url": "https://localhost:1/", "types": ["ADM"]}
        assert (await hub.admin.post("/webhooks", body)).ok
        for _ in range(400):
            shown = await hook(hub, "w")
            if shown["error"]:
                break
            await asyncio.sleep(0.02)
        assert "private address" in shown["error"]


# --- the stream ----------------------------------------------------------------------------------


async def told(client: Client, count: int, path: str = "", **headers: str) -> list[dict[str, Any]]:
    """Return the first events of a stream with their kind and id."""
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(20),
        client.streaming(f"/api/v2/events/stream{path}", **headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        one: dict[str, Any] = {}
        async for line in answer.content:
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key in {"id", "event", "data"}:
                one[key] = json.loads(value) if key == "data" else value
            elif not key and "data" in one:
                found.append(one)
                one = {}
                if len(found) == count:
                    return found
    raise AssertionError("the stream ended")


async def newest(hub: Rig) -> int:
    """Return the number of the latest event."""
    return int((await hub.admin.get("/events?limit=1")).items[0]["number"])


async def test_the_stream_is_resumable(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        last = await newest(hub)
        for name in ("A", "B"):
            assert (await hub.admin.post("/destinations", {"name": name})).ok
        every = await told(hub.admin, 2, f"?last={last}&type=adm")
        assert [one["data"]["object"]["name"] for one in every] == ["A", "B"]
        assert [one["event"] for one in every] == ["ADM", "ADM"]
        headers = {"Last-Event-ID": every[0]["id"]}
        assert await told(hub.admin, 1, **headers) == every[1:]
        async with asyncio.TaskGroup() as group:
            later = group.create_task(told(hub.admin, 1))
            await asyncio.sleep(0.2)
            assert (await hub.admin.post("/destinations", {"name": "C"})).ok
        assert later.result()[0]["data"]["object"]["name"] == "C"
        bad = await hub.admin.get("/events/stream?last=x")
        assert (bad.status, bad.json["code"]) == (400, "bad-parameter")


async def test_the_stream_tells_what_one_may_know(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("NORTH", "SOUTH"):
            await hub.node.destination(name)
            await hub.admin.upload(b"x", destination=name)
        viewer = await hub.as_user("vi", Role.VIEWER, "S*")
        found = await told(viewer, 1, "?last=0")
        assert (found[0]["event"], found[0]["data"]["destination"]["name"]) == ("INH", "SOUTH")
        assert (await viewer.get("/events/stream?destination=NORTH")).status == 404
        services = hub.monitor._services
        assert services is not None
        caller = by_session((await hub.node.accounts.web_user("vi")).user, "", "192.0.2.1")
        await until(lambda: not services.streams.open)
        with ExitStack() as several:
            for _ in range(PER_CALLER):
                several.enter_context(services.streams.opened(caller))
            assert (await viewer.get("/events/stream")).status == 429


async def test_a_gap_is_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("A", "B", "C"):
            assert (await hub.admin.post("/destinations", {"name": name})).ok
        last = await newest(hub) - 1

        def forget(db: Any) -> None:
            db.execute("DELETE FROM event WHERE id <= ?", (last,))

        await hub.node.core.store.write(forget)
        found = await told(hub.admin, 2, "?last=0")
        assert (found[0]["event"], found[0]["data"]) == ("gap", {"from": 1, "to": last})
        assert found[1]["data"]["object"]["name"] == "C"
