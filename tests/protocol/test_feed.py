"""What is new, as a JSON feed and as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ecpds.base.clock import SystemClock
from ecpds.model.account import Permission
from tests.portalsite import Site, site
from tests.protocol.https_site import basic


class News:
    """A site, and short words."""

    def __init__(self, s: Site) -> None:
        self.site = s

    async def put(self, *names: str, body: bytes = b"1") -> None:
        for name in names:
            got = await self.site.ask("PUT", f"/ecpds/data/file/{name}", body=body)
            assert got.status in {201, 204}

    async def feed(self, path: str = "", query: str = "", user: str = "alice") -> Any:
        got = await self.site.ask("GET", f"/ecpds/data/feed/{path}{query}", user=user)
        assert got.status == 200, got.text
        return json.loads(got.body)

    async def titles(self, path: str = "", query: str = "") -> list[str]:
        return [one["content_text"] for one in (await self.feed(path, query))["items"]]

    @asynccontextmanager
    async def stream(
        self, path: str = "", query: str = "", **headers: str
    ) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """Open a stream; iterate over id and document of its events."""
        given = {"Accept": "text/event-stream", "Authorization": basic("alice")}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.site.url}/ecpds/data/feed/{path}{query}"
        async with aiohttp.ClientSession() as client, client.get(url, headers=given) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            yield self._events(answer)

    async def _events(self, answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
        found: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif "data" in found:
                yield found["id"], json.loads(found["data"])
                found = {}


@asynccontextmanager
async def newsroom(folder: Path, **options: Any) -> AsyncIterator[News]:
    async with site(folder, **options) as s:
        yield News(s)


async def test_the_newest_come_first(tmp_path: Path) -> None:
    async with newsroom(tmp_path) as n:
        await n.put("NORTH/a", "NORTH/d/b", "SOUTH/c")
        found = await n.feed()
        assert found["version"] == "https://jsonfeed.org/version/1.1"
        assert [one["content_text"] for one in found["items"]] == [
            "/SOUTH/c", "/NORTH/d/b", "/NORTH/a"
        ]  # fmt: skip
        first = found["items"][0]
        assert first["url"] == f"{n.site.url}/ecpds/data/file/SOUTH/c"
        assert first["_ecpds"]["size"] == 1
        assert await n.titles("NORTH") == ["/NORTH/d/b", "/NORTH/a"]
        assert await n.titles("NORTH/d/") == ["/NORTH/d/b"]
        assert await n.titles("", "?limit=1") == ["/SOUTH/c"]


async def test_what_came_since(tmp_path: Path) -> None:
    async with newsroom(tmp_path) as n:
        start = (await n.feed())["_ecpds"]["since"]
        await n.put("NORTH/a", "NORTH/b", "NORTH/c")
        assert await n.titles("", f"?since={start}") == ["/NORTH/a", "/NORTH/b", "/NORTH/c"]
        page = await n.feed("", f"?since={start}&limit=2")
        assert (len(page["items"]), page["_ecpds"]["more"]) == (2, True)
        assert page["next_url"].endswith(page["_ecpds"]["since"])
        page = await n.feed("", f"?since={page['_ecpds']['since']}&limit=2")
        assert [one["title"] for one in page["items"]] == ["c"]
        end = page["_ecpds"]["since"]
        assert await n.titles("", f"?since={end}") == []
        await n.put("NORTH/a", body=b"22")  # a new version is news
        assert await n.titles("", f"?since={end}") == ["/NORTH/a"]
        ago = (SystemClock().now() - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        assert len(await n.titles("", f"?since={ago}")) == 3
        ahead = (SystemClock().now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert await n.titles("", f"?since={ahead}") == []


async def test_rights_hold(tmp_path: Path) -> None:
    options = {"portal.dirPathPermRegex": "(?!.*secret).*"}
    async with newsroom(tmp_path, user={"options": options}) as n:
        await n.put("NORTH/a", "NORTH/secret/b")
        await n.site.node.user("bob", destinations=("SOUTH",))
        assert await n.titles() == ["/NORTH/a"]
        assert (await n.feed(user="bob"))["items"] == []
        ask = n.site.ask
        assert (await ask("GET", "/ecpds/data/feed/NORTH", user="bob")).status == 404
        assert (await ask("GET", "/ecpds/data/feed/", user="")).status == 401
        await n.site.node.user("eve", destinations=("NORTH",), operations=[Permission.GET])
        assert (await ask("GET", "/ecpds/data/feed/", user="eve")).status == 403
        for query in ("?since=yesterday", "?limit=0", "?limit=x"):
            assert (await ask("GET", f"/ecpds/data/feed/{query}")).status == 400
        assert (await ask("POST", "/ecpds/data/feed/")).status == 405


async def test_an_embargo_is_kept_and_its_end_is_news(tmp_path: Path) -> None:
    async with newsroom(tmp_path, options={"incoming.delay": "1s"}) as n:
        start = (await n.feed())["_ecpds"]["since"]
        async with n.stream("", f"?since={start}") as events:
            await n.put("NORTH/late")
            assert await n.titles() == []
            await n.put("SOUTH/now")
            async with asyncio.timeout(20):
                assert (await anext(events))[1]["title"] == "now"
                assert (await anext(events))[1]["title"] == "late"


async def test_a_stream_tells_at_once_and_can_be_gone_on_with(tmp_path: Path) -> None:
    async with newsroom(tmp_path) as n:
        await n.put("NORTH/before")
        async with n.stream() as events:
            await n.put("NORTH/a")
            async with asyncio.timeout(10):
                place, document = await anext(events)
            assert document["content_text"] == "/NORTH/a"
        await n.put("NORTH/b", "NORTH/c")
        async with n.stream(Last_Event_ID=place) as events, asyncio.timeout(10):
            assert [(await anext(events))[1]["title"] for _ in range(2)] == ["b", "c"]


async def test_a_stream_ends_with_its_user(tmp_path: Path) -> None:
    async with newsroom(tmp_path) as n, n.stream() as events:
        await n.site.node.user("alice", active=False)
        with pytest.raises(StopAsyncIteration):
            async with asyncio.timeout(15):
                await anext(events)
