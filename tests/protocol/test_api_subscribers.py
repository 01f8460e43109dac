"""Subscribers over the API and the command line."""

from __future__ import annotations

import json
from pathlib import Path

from ecpds.model.account import Service
from tests.daemon import DaemonProcess
from tests.protocol.api import rig


async def test_subscribers(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.user("feed", service=Service.SELF, destinations=("NORTH",))
        await hub.node.user("alice", destinations=("NORTH",))
        base = "/portal/users/feed/subscribers"
        assert (await hub.admin.get(base)).items == []
        made = await hub.admin.post(base, {"name": "Ann", "email": "Ann@Example.org"})
        assert made.status == 201, made.text
        assert (made.json["email"], made.json["active"]) == ("ann@example.org", True)
        async with await hub.node.login("feed", made.json["password"]):
            pass
        again = await hub.admin.post(base, {"name": "Ann", "email": "ann@example.org"})
        assert again.status == 409
        assert "password" not in (await hub.admin.get(base)).items[0]
        number = made.json["id"]
        off = await hub.admin.post(f"{base}/{number}/actions/deactivate", {})
        assert off.json["active"] is False
        on = await hub.admin.post(f"{base}/{number}/actions/activate", {})
        assert on.json["active"] is True
        assert (await hub.admin.post(base, {"name": "", "email": "x"})).status == 422
        assert (await hub.admin.get("/portal/users/alice/subscribers")).status == 409
        assert (await hub.admin.get("/portal/users/nobody/subscribers")).status == 404
        assert (await hub.admin.delete(f"{base}/{number}")).status == 204
        assert (await hub.admin.delete(f"{base}/{number}")).status == 404


async def test_commands(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    await daemon.start()
    try:
        await daemon.apply(
            {
                "destinations": [{"name": "NORTH"}],
                "data_users": [
                    {"login": "feed", "service": "self-service", "destinations": ["NORTH"]}
                ],
            }
        )
        assert daemon.endpoints["webdav"].endswith("/webdav/")
        out = await daemon.command(
            "subscriber", "add", "feed", "ann@example.org", "--name", "Ann", "--output", "json"
        )
        made = json.loads(out)
        assert made["password"]
        assert "ann@example.org" in await daemon.command("subscriber", "list", "feed")
        number = str(made["id"])
        await daemon.command("subscriber", "deactivate", "feed", number)
        await daemon.command("subscriber", "activate", "feed", number)
        await daemon.command("subscriber", "delete", "feed", number)
        assert await daemon.command("subscriber", "list", "feed", "--output", "id") == ""
        assert await daemon.command("session", "list") == ""
        await daemon.command("session", "end", "999", code=6)
    finally:
        await daemon.stop()
