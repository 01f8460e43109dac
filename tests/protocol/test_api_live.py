"""Server-sent events: rows that change, who may hear of them, catching up, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ecpds.model.account import Role
from ecpds.web import system
from ecpds.web.live import BACKLOG, PER_USER, RING
from tests.protocol.api import Client, Rig, rig
from tests.waiting import until


@dataclass
class Told:
    """One event as a browser sees it."""

    event: str
    data: Any
    id: str


class Page:
    """An open stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.id = ""
        self.comments = 0

    async def next(self, *events: str, limit: float = 15.0) -> Told:
        """Return the next event, of these kinds if any are named."""
        async with asyncio.timeout(limit):
            while True:
                told = await self._read()
                if not events or told.event in events:
                    return told

    async def row(self, kind: str, name: Any, **fields: Any) -> dict[str, Any]:
        """Return the next row of that object with these values."""
        while True:
            told = await self.next("row")
            data: dict[str, Any] = told.data
            if (data["t"], data["id"]) == (kind, name) and fields.items() <= data.items():
                return data

    async def _read(self) -> Told:
        event, text = "message", ""
        while True:
            line = (await self.answer.content.readline()).decode()
            if not line:
                raise EOFError
            line = line.rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("id: "):
                self.id = line[4:]
            elif line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                text = line[6:]
            elif not line and text:
                return Told(event, json.loads(text), self.id)


@asynccontextmanager
async def listening(client: Client, topics: str, last: str = "") -> AsyncIterator[Page]:
    headers = {"Last-Event-ID": last} if last else {}
    async with client.streaming(f"/live?topics={topics}", **headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        page = Page(answer)
        if not last:
            while not page.id:
                line = (await answer.content.readline()).decode()
                if line.startswith("id: "):
                    page.id = line[4:].strip()
        yield page


async def test_a_delivery_is_seen_as_it_happens(tmp_path: Path) -> None:
    async with rig(tmp_path, run=True) as hub:
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        async with listening(hub.admin, "dest:*,transfers:NORTH") as page:
            await hub.admin.upload(b"12345", destination="NORTH", target="a")
            row = await page.row("transfer", 1, status="done")
            assert (row["sent"], row["size"], row["host"]) == (5, 5, "h")
            assert (row["label"], row["destination"]) == ("Done", "NORTH")
            row = await page.row("dest", "NORTH", queued=0)
            assert row["light"] in {"green", "blue"}
            number = int(page.id)
            await hub.admin.post("/destinations/NORTH/actions/stop")
            row = await page.row("dest", "NORTH", status="stopped")
            assert row["label"] == "Stopped"
            assert int(page.id) > number


async def test_one_row_a_second_for_each_object(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        async with listening(hub.admin, "dest:NORTH") as page:
            for _ in range(200):
                hub.node.core.bus.tell("destination", "NORTH", destination="NORTH")
                await asyncio.sleep(0)
            await page.row("dest", "NORTH")
            with pytest.raises(TimeoutError):
                await page.next("row", limit=0.8)


async def test_deleted_objects_are_gone(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.admin.upload(b"x", destination="NORTH")
        async with listening(hub.admin, "dest:*,transfer:*") as page:
            await hub.admin.delete("/transfers/1", match="*")
            told = await page.next("gone")
            assert told.data == {"t": "transfer", "id": 1}


async def test_everybody_hears_only_of_its_own(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("NORTH", "SOUTH"):
            await hub.host(f"h-{name}", tmp_path)
            await hub.node.destination(name, hosts=(f"h-{name}",))
        viewer = await hub.as_user("vi", Role.VIEWER, "NORTH")
        blind = hub.client(await hub.token(scopes=("files:read",)))
        async with (
            listening(viewer, "dest:*,host:*") as page,
            listening(blind, "dest:*,host:*,counter:*") as nothing,
        ):
            for name in ("SOUTH", "NORTH"):
                hub.node.core.bus.tell("destination", name, destination=name)
                hub.node.core.bus.tell("host", f"h-{name}", destination=name)
            seen = {(await page.next("row")).data["id"] for _ in range(2)}
            assert seen == {"NORTH", "h-NORTH"}
            with pytest.raises(TimeoutError):
                await nothing.next(limit=0.5)


async def test_many_changes_are_one_refresh(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for number in range(60):
            await hub.node.destination(f"D{number}")
        async with (
            listening(hub.admin, "dest:*") as every,
            listening(hub.admin, "dest:D7") as one,
        ):
            await hub.node.engine.reload()
            assert (await every.next()).event == "refresh"
            assert (await one.next("row")).data["id"] == "D7"


async def test_coming_back_catches_up(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("NORTH", "SOUTH"):
            await hub.node.destination(name)
        bus = hub.node.core.bus
        async with listening(hub.admin, "dest:*") as other:  # somebody keeps watching
            async with listening(hub.admin, "dest:NORTH") as page:
                bus.tell("destination", "NORTH", destination="NORTH")
                await page.row("dest", "NORTH")
                left = page.id
            await other.row("dest", "NORTH")
            await hub.admin.patch("/destinations/NORTH", {"comment": "c"}, match="*")
            await other.row("dest", "NORTH")
            async with listening(hub.admin, "dest:NORTH", left) as page:
                assert (await page.next()).data["id"] == "NORTH"
                assert int(page.id) > int(left)
            async with listening(hub.admin, "dest:NORTH", "17") as page:
                assert (await page.next()).event == "refresh"
        await until(lambda: not _streams(hub))
        bus.tell("destination", "NORTH", destination="NORTH")
        await until(lambda: _number(hub) > int(other.id), what="the hint was seen")
        async with listening(hub.admin, "dest:NORTH", other.id) as page:
            assert (await page.next()).event == "refresh"  # nobody watched meanwhile


async def test_what_nobody_watched_is_a_refresh_for_those_who_come_back(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for name in ("NORTH", "SOUTH"):
            await hub.node.destination(name)
        async with listening(hub.admin, "dest:SOUTH") as south:
            left = south.id
            hub.node.core.bus.tell("destination", "NORTH", destination="NORTH")
            hub.node.core.bus.tell("destination", "SOUTH", destination="SOUTH")
            await south.row("dest", "SOUTH")
            async with listening(hub.admin, "dest:NORTH", left) as north:
                assert (await north.next()).event == "refresh"


def _streams(hub: Rig) -> int:
    services = hub.monitor._services
    assert services is not None
    return len(services.live._streams)


def _number(hub: Rig) -> int:
    services = hub.monitor._services
    assert services is not None
    return services.live.number


async def test_limits_of_streams(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub, contextlib_stack() as stack:
        for _ in range(PER_USER):
            await stack.enter_async_context(listening(hub.admin, "dest:*"))
        refused = await hub.admin.get("/live?topics=dest:*")
        assert refused.status == 429
        other = await hub.as_user("vi", Role.VIEWER)
        await stack.enter_async_context(listening(other, "dest:*"))
        for wrong in ("", "?topics=", "?topics=dset:*", f"?topics={'dest:a,' * 51}"):
            assert (await hub.admin.get(f"/live{wrong}")).status == 400
        assert (await hub.client().get("/live?topics=dest:*")).status == 401


@asynccontextmanager
async def contextlib_stack() -> AsyncIterator[Any]:
    import contextlib

    async with contextlib.AsyncExitStack() as stack:
        yield stack


async def test_keep_alive_and_the_end_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "KEEP_ALIVE", 0.1)
    async with rig(tmp_path) as hub:
        viewer = await hub.as_user("vi", Role.VIEWER)
        await hub.node.destination("NORTH")
        async with listening(viewer, "dest:*") as page:
            with pytest.raises(TimeoutError):
                await page.next(limit=0.5)
            assert page.comments >= 2
            await hub.admin.delete("/web_users/vi", match="*")
            assert (await page.next("bye")).data == {"reason": "session ended"}
            with pytest.raises(EOFError):
                await page.next()


async def test_rights_that_are_lost_are_lost_while_a_page_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "KEEP_ALIVE", 0.1)
    async with rig(tmp_path) as hub:
        viewer = await hub.as_user("vi", Role.VIEWER)
        await hub.node.destination("NORTH")
        async with listening(viewer, "dest:*") as page:
            hub.node.core.bus.tell("destination", "NORTH", destination="NORTH")
            await page.row("dest", "NORTH")
            roles = {"roles": [{"role": "viewer", "scope": "SOUTH"}]}
            await hub.admin.patch("/web_users/vi", roles, match="*")
            before = page.comments
            with pytest.raises(TimeoutError):
                await page.next(limit=0.4)
            assert page.comments > before
            hub.node.core.bus.tell("destination", "NORTH", destination="NORTH")
            with pytest.raises(TimeoutError):
                await page.next(limit=1.5)


async def test_a_slow_reader_is_dropped(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        async with listening(hub.admin, "dest:*"):
            services = hub.monitor._services
            assert services is not None
            stream = next(iter(services.live._streams))
            stream.put(b"x" * (BACKLOG + 1))
            assert stream.closed
            await until(lambda: not _streams(hub), what="the stream has ended")


async def test_the_ring_is_bounded(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        services = hub.monitor._services
        assert services is not None
        assert services.live._ring.maxlen == RING


async def test_a_drain_ends_streams(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub, listening(hub.admin, "dest:*") as page:
        async with asyncio.timeout(10):
            await hub.monitor.drain()
        with pytest.raises(EOFError):
            await page.next()
