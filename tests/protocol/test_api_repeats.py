"""Idempotency-Key: a repeated POST does nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ecpds.model.account import Role
from tests.protocol.api import Rig, rig

KEY = {"Idempotency-Key": "job-17"}


async def push(hub: Rig, content: bytes, target: str = "a") -> tuple[int, bytes, bool]:
    form = {"destination": "NORTH", "target": target}
    answer = await hub.admin.upload(content, key="job-17", **form)
    return answer.status, answer.body, "Idempotency-Replayed" in answer.headers


async def test_a_repeated_upload_is_stored_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        first = await push(hub, b"x" * 3_000_000)
        again = await push(hub, b"x" * 3_000_000)
        assert first[0] == again[0] == 201
        assert first[1] == again[1]
        assert (first[2], again[2]) == (False, True)
        assert len((await hub.admin.get("/files")).items) == 1


async def test_failures_are_tried_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        assert (await push(hub, b"x"))[0] == 404
        await hub.node.destination("NORTH")
        assert (await push(hub, b"x"))[0] == 201


async def test_a_key_belongs_to_one_request_of_one_caller(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        first = await hub.admin.post("/destinations", {"name": "NORTH"}, headers=KEY)
        assert first.status == 201
        other = await hub.admin.post("/hosts", {"name": "h"}, headers=KEY)
        assert (other.status, other.json["code"]) == (422, "key-reused")
        editor = await hub.as_user("ed", Role.EDITOR)
        own = await editor.post("/destinations", {"name": "SOUTH"}, headers=KEY)
        assert own.json["name"] == "SOUTH"
        for odd in ("", "a b", "x" * 129):
            headers = {"Idempotency-Key": odd}
            assert (await hub.admin.post("/destinations", {}, headers=headers)).status == 400


async def test_secrets_are_not_kept(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        first = await hub.admin.post("/tokens", {"name": "t"}, headers=KEY)
        second = await hub.admin.post("/tokens", {"name": "t"}, headers=KEY)
        assert first.json["token"] != second.json["token"]


async def test_the_second_of_two_at_a_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("h", tmp_path)
        services = hub.monitor._services
        assert services is not None
        begun, go = asyncio.Event(), asyncio.Event()
        test = services.hosts.test

        async def slow(*args: object) -> object:
            begun.set()
            await go.wait()
            return await test(*args)  # type: ignore[arg-type] # passed on

        monkeypatch.setattr(services.hosts, "test", slow)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(hub.admin.post("/hosts/h/actions/test", headers=KEY))
            await begun.wait()
            second = await hub.admin.post("/hosts/h/actions/test", headers=KEY)
            assert (second.status, second.json["code"]) == (409, "busy")
            go.set()
        assert (await first).status == 200


async def test_events_changes_volumes_settings(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.admin.post("/destinations", {"name": "NORTH", "comment": "a"})
        await hub.admin.patch("/destinations/NORTH", {"comment": "b"}, match="*")
        found = (await hub.admin.get("/changes?kind=destination&name=NORTH")).items
        assert [one["action"] for one in found] == ["change", "create"]
        assert found[0]["difference"] == {"comment": ["a", "b"]}
        assert (found[0]["actor"], found[0]["peer"]) == ("admin", "127.0.0.1")
        own = await hub.admin.get("/destinations/NORTH/changes?limit=1")
        assert own.items == found[:1]
        assert own.json["next_cursor"]
        assert {one["type"] for one in (await hub.admin.get("/events?type=adm")).items} == {"ADM"}
        await hub.admin.upload(b"12345", destination="NORTH")
        volume = (await hub.admin.get("/volumes")).items[0]
        assert (volume["name"], volume["files"], volume["bytes"]) == ("default", 1, 5)
        settings = (await hub.admin.get("/config")).json
        assert settings["monitor"]["listen"] == "127.0.0.1:0"
        viewer = await hub.as_user("vi", Role.VIEWER, "SOUTH")
        assert (await viewer.get("/changes")).status == 403
        assert (await viewer.get("/config")).status == 403
        assert (await viewer.get("/destinations/NORTH/changes")).status == 404
