"""Uploads that go on where they broke off: by API, and by the command line over a bad network."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from ecpds.cli import resume
from ecpds.cli.access import Access, Retry
from ecpds.cli.client import Client as CommandClient
from ecpds.cli.client import Unreachable
from ecpds.cli.codes import CommandError
from ecpds.cli.resume import Resumed
from ecpds.model.account import Role
from tests.peers.faultproxy import FaultProxy, drop
from tests.peers.peer import Peer
from tests.protocol.api import Rig, rig
from tests.protocol.test_api_openapi import Checked

NAME = "a-large-file"
PLACE = "/uploads/{upload}"
MIB = 1024 * 1024


async def append(hub: Rig, offset: int, data: bytes, name: str = NAME) -> Any:
    kind = {"Content-Type": "application/octet-stream"}
    return await hub.admin.call(
        "PATCH", f"/uploads/{name}?offset={offset}", data=data, headers=kind
    )


async def test_bytes_first_then_what_becomes_of_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        check = Checked(hub, (await hub.admin.get("/openapi.json")).json)
        call = check.call
        await hub.node.destination("NORTH", max_file_size=100)
        body = {"destination": "NORTH"}
        begun = await call("PUT", f"/uploads/{NAME}", PLACE, body)
        assert (begun.status, begun.json["received"]) == (201, 0)
        assert (await call("PUT", f"/uploads/{NAME}", PLACE, body)).status == 200
        assert (await call("PUT", "/uploads/short", PLACE, body)).status == 422
        assert (await call("PUT", "/uploads/other-one", PLACE, {"destination": "X"})).status == 404

        for offset, data, status in ((0, b"123", 200), (0, b"123", 409), (3, b"45", 200)):
            answer = await append(hub, offset, data)
            check.check("PATCH", PLACE, answer)
            assert answer.status == status, answer.text
        assert (await append(hub, 0, b"")).json["received"] == 5  # what a 409 tells
        assert (await append(hub, 5, b"x" * 96)).status == 413
        assert (await call("GET", f"/uploads/{NAME}", PLACE)).json["received"] == 5
        assert (await call("GET", "/uploads", "/uploads")).items[0]["name"] == NAME

        submit = f"/uploads/{NAME}/actions/submit"
        template = PLACE + "/actions/submit"
        for wrong, status in (
            ({"target": "a", "size": 6}, 422), ({"target": "a", "sha256": "00"}, 422),
            ({}, 422), ({"target": "a", "destination": "SOUTH"}, 422), ({"no": 1}, 422),
        ):  # fmt: skip
            answer = await call("POST", submit, template, wrong)
            assert answer.status == status, (wrong, answer.text)
        sums = {
            "adler32": f"{zlib.adler32(b'12345'):08x}",
            "sha256": hashlib.sha256(b"12345").hexdigest(),
        }
        right = {"target": "a", "size": 5, "metadata": {"k": "v"}} | sums
        done = await call("POST", submit, template, right)
        assert (done.status, done.json["data_file"]["size"]) == (201, 5)
        assert (await hub.admin.get("/files/1/content")).body == b"12345"
        assert (await call("GET", f"/uploads/{NAME}", PLACE)).status == 404

        await call("PUT", f"/uploads/{NAME}", PLACE, body)
        await append(hub, 0, b"12345")
        twice = await call("POST", submit, template, right)
        assert (twice.status, twice.json["code"]) == (409, "duplicate")
        forced = await call("POST", submit, template, right | {"on_duplicate": "overwrite"})
        assert (forced.status, forced.json["updated"]) == (201, True)  # the bytes had stayed

        await call("PUT", f"/uploads/{NAME}", PLACE, body)
        olga = await hub.as_user("olga", Role.EDITOR, "NORTH")
        assert (await olga.get(f"/uploads/{NAME}")).status == 404  # not hers
        assert (await call("DELETE", f"/uploads/{NAME}", PLACE)).status == 204
        assert (await call("DELETE", f"/uploads/{NAME}", PLACE)).status == 404
        left = [list(one.temporary.iterdir()) for one in hub.node.core.objects.volumes]
        assert left == [[]]


async def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.admin.put(f"/uploads/{NAME}", {"destination": "NORTH"})
        await append(hub, 0, b"123")
    async with rig(tmp_path) as hub:
        from ecpds.engine import recovery

        await recovery.sweep(hub.node.core, hub.node.core.clock.now())
        assert (await append(hub, 3, b"45")).json["received"] == 5
        done = await hub.admin.post(f"/uploads/{NAME}/actions/submit", {"target": "a"})
        assert (
            await hub.admin.get(f"/files/{done.json['data_file']['id']}/content")
        ).body == b"12345"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHUNK", 2 * MIB)


@pytest.mark.usefixtures("hurried")
async def test_the_command_goes_on_over_a_network_that_breaks(tmp_path: Path) -> None:
    """Each connection is reset after 3 MiB: 8 MiB arrive all the same."""
    content = os.urandom(8 * MIB)
    file = tmp_path / "large"
    file.write_bytes(content)
    async with rig(tmp_path / "node") as hub:
        await hub.node.destination("NORTH")
        port = int(hub.base.rpartition(":")[2])
        peer = Peer(name="node", scheme="http", port=port, root=tmp_path)
        async with FaultProxy(peer, drop(3 * MIB, times=None)) as proxy:
            access = Access(server=f"http://127.0.0.1:{proxy.peer.port}", token=hub.admin.token)

            def push(retry: Retry) -> Any:
                with CommandClient(access) as client, file.open("rb") as source:
                    fields = {"destination": "NORTH", "target": "t"}
                    way = Resumed(client, source, fields, path=str(file), retry=retry)
                    answer = way.send()
                    assert answer["data_file"]["checksum"] == way.adler32
                    return answer

            proxy.refuse()
            with pytest.raises(Unreachable):
                await asyncio.to_thread(push, Retry(count=1, delay=0.01))
            proxy.accept()
            answer = await asyncio.to_thread(push, Retry(count=3, delay=0.01))
            assert proxy.struck >= 2
        number = answer["data_file"]["id"]
        assert (await hub.admin.get(f"/files/{number}/content")).body == content
        assert (await hub.admin.get("/uploads")).items == []

        def again() -> None:
            with CommandClient(access) as client, file.open("rb") as source:
                Resumed(
                    client, source, {"destination": "NOWHERE"}, path=str(file), retry=Retry()
                ).send()

        access = Access(server=hub.base, token=hub.admin.token)
        with pytest.raises(CommandError, match="NOWHERE"):
            await asyncio.to_thread(again)
