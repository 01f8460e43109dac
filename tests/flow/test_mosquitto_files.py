"""A Mosquitto that carries our publications and knows our users: it loads what the node writes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow.test_mqtt import PASSWORD, Node, running
from tests.peers import ports
from tests.peers.mosquitto import Mosquitto
from tests.protocol.mqttrig import Raw
from tests.waiting import until

PUBLISHER = "node:p%40ss"
FAILED = "/notify/publications?state=failed"


def user(login: str, permission: str, **fields: Any) -> dict[str, Any]:
    """Return a data user of the site."""
    return {
        "login": login,
        "password": PASSWORD,
        "operations": ["dir", "get"],
        "destinations": ["NORTH"],
        "options": {"portal.mqttPermission": permission},
        **fields,
    }


def site(*users: dict[str, Any]) -> dict[str, Any]:
    """Return a site whose destination publishes retained messages."""
    options = {"mqtt.publish": "yes", "mqtt.topic": "ops/", "mqtt.retain": "yes"}
    alone = options | {"mqtt.clientId": "alice"}
    destinations = [{"name": "NORTH", "options": options}, {"name": "ONE", "options": alone}]
    return {"destinations": destinations, "data_users": list(users)}


async def came(
    node: Node, port: int, login: str, password: str, wanted: str = "ops/#"
) -> tuple[Raw, int]:
    """Log in at the other broker and subscribe; return the client and the reason code."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = node.keep(Raw(reader, writer, 5))
    _, reason = await raw.enter(login, login, password, version=5)
    if reason == 0:
        assert await raw.subscribe(wanted) == [1]
    return raw, reason


@pytest.mark.needs("mosquitto")
async def test_a_mosquitto_takes_over_users_and_their_rights(tmp_path: Path) -> None:
    """Who may gets it, who may not gets nothing, and changes hold without anybody's help."""
    files, pid = tmp_path / "files", tmp_path / "pid"
    document = site(
        user("alice", "ops/#"), user("bob", "ops/bob/#,other/#"), user("nobody", ""),
        user("carol", "ops/#", totp="JBSWY3DPEHPK3PXP"), user("dave", "ops/#"),
    )  # fmt: skip
    document["data_users"][-1]["options"]["portal.networks"] = "192.0.2.0/24"
    with ports.reserved() as free:
        port = free[0]
        settings = {
            "ECPDS_MQTT__DRIVER": "external",
            "ECPDS_MQTT__URL": f"mqtt://{PUBLISHER}@127.0.0.1:{port}",
            "ECPDS_MQTT__MOSQUITTO_FILES": str(files),
            "ECPDS_MQTT__MOSQUITTO_PID": str(pid),
            "ECPDS_MQTT__PASSWORD_ROUNDS": "2000",
        }
        async with running(tmp_path, document, **settings) as node:
            await until(lambda: (files / "passwords").exists(), what="no file was written")
            extra = f"password_file {files}/passwords\nacl_file {files}/acl\npid_file {pid}\n"
            broker = Mosquitto(tmp_path, port, extra)
            await broker.start()
            try:
                await _check(node, port, files)
            finally:
                node.hang_up()
                await broker.stop()


async def _check(node: Node, port: int, files: Path) -> None:
    alice, _ = await came(node, port, "alice", PASSWORD)
    bob, _ = await came(node, port, "bob", PASSWORD)
    for login, password in (("alice", "wrong"), ("carol", PASSWORD), ("nobody", PASSWORD)):
        assert (await came(node, port, login, password))[1] == 0x87
    await node.put("alone", destination="ONE")
    async with asyncio.timeout(20):
        while not (found := (await node.ask("GET", FAILED))["items"]):
            await asyncio.sleep(0.05)
    assert "one client" in found[0]["error"]
    for target in ("a", "bob/b"):
        await node.put(target)
    assert [(await alice.message())[0] for _ in range(2)] == ["ops/a", "ops/bob/b"]
    assert (await bob.message())[0] == "ops/bob/b"  # and what came before it did not reach him
    late, _ = await came(node, port, "bob", PASSWORD)  # retained messages neither
    assert (await late.message())[0] == "ops/bob/b"

    found = await node.ask("GET", "/notify/mosquitto")
    assert found["users"] == ["alice", "bob"]
    assert [one["login"] for one in found["left_out"]] == ["carol", "dave"]
    told = await node.daemon.command("broker", "files", files, "--output", "json")
    assert json.loads(told)["users"] == ["alice", "bob"]
    assert PASSWORD not in (files / "passwords").read_text()
    assert (files / "passwords").stat().st_mode & 0o007 == 0

    changed = site(user("alice", "ops/#", active=False), user("bob", "ops/#"))
    changed["data_users"][1]["password"] = "another long password"
    await node.daemon.apply(changed)
    async with asyncio.timeout(20):
        while (await came(node, port, "bob", "another long password"))[1]:
            await asyncio.sleep(0.05)
    assert (await came(node, port, "bob", PASSWORD))[1] == 0x87
    assert (await came(node, port, "alice", PASSWORD))[1] == 0x87
    await node.put("c")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await alice.message()
