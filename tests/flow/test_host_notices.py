"""Deliveries told to the broker of the Host that got them, by a Mosquitto with logins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from ecpds.engine.operations.hosts import HostOperations
from ecpds.model.secret import Secret
from ecpds.model.status import TransferStatus
from ecpds.store import outbox
from ecpds.store.outbox import Publication
from ecpds.transfer.mqttlink import LinkOptions, MqttLink
from tests.flow.test_engine import Bench, bench
from tests.peers import ports
from tests.peers.certificates import Authority
from tests.peers.mosquitto import Mosquitto
from tests.peers.programs import find
from tests.waiting import until

COUNT = 30  # more than a Mosquitto takes at once
LOGIN, PASSWORD = "hub", "pass;word"
PUBLISH = (
    'topic=arrived/$destination/;payload={"file": {{ filename | tojson }}};'
    "metadata=size=$filesize,from=$metadata[centre],list=a\\,b;lifetime=60000"
)


def site(folder: Path, *ports_of_brokers: int, ca: Path | None = None) -> dict[str, Any]:
    """Return a site with a Host whose broker listens on one of these ports."""
    places = "|".join(f"127.0.0.1:{port}" for port in ports_of_brokers)
    escaped = PASSWORD.replace(";", "\\;")
    auth = f"url={'mqtts' if ca else 'mqtt'}://{places};name={LOGIN};password={escaped}"
    options = {"ectrans.notifyAuth": auth, "ectrans.notifyPublish": PUBLISH}
    options |= {"ectrans.tlsCa": str(ca)} if ca else {}
    host = {
        "name": "out", "method": "genericFile", "directory": f"{folder}/", "options": options,
        "retry_frequency": "20ms",
    }  # fmt: skip
    return {"hosts": [host], "destinations": [{"name": "D", "hosts": ["out"]}]}


async def rows(made: Bench) -> list[Publication]:
    """Return the outbox."""
    return await made.node.core.store.read(outbox.page, limit=100)


@asynccontextmanager
async def broker(folder: Path, port: int, extra: str = "") -> AsyncIterator[Mosquitto]:
    """Run a Mosquitto that lets only LOGIN in."""
    folder.mkdir()
    passwords = folder / "passwords"
    made_by = await asyncio.create_subprocess_exec(
        find("mosquitto_passwd"), "-c", "-b", passwords, LOGIN, PASSWORD
    )
    assert await made_by.wait() == 0
    made = Mosquitto(folder, port, f"password_file {passwords}\n{extra}")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def hearing(port: int) -> AsyncIterator[list[paho.MQTTMessage]]:
    """Return what arrives at the broker."""
    found: list[paho.MQTTMessage] = []

    def take(message: paho.MQTTMessage) -> None:
        found.append(message)
        link.acknowledge(message)

    options = LinkOptions(
        host="127.0.0.1", port=port, scheme="mqtt", login=LOGIN, password=Secret(PASSWORD),
        client_id="listener",
    )  # fmt: skip
    link = MqttLink(options, received=take)
    await link.open()
    try:
        await link.subscribe(["#"], 2)
        yield found
    finally:
        await link.close()


def properties(message: paho.MQTTMessage) -> dict[str, str]:
    """Return the user properties."""
    return dict(vars(message.properties)["UserProperty"])


@pytest.mark.needs("mosquitto", "mosquitto_passwd")
async def test_each_delivery_is_told_with_its_properties(tmp_path: Path) -> None:
    """One of two brokers answers; the password is shown to nobody and sealed on the disk."""
    with ports.reserved() as free:
        dead, port = free[:2]
        async with (
            broker(tmp_path / "broker", port),
            hearing(port) as heard,
            bench(tmp_path, {"hosts": [], "destinations": []}) as made,
        ):
            await made.apply(site(made.out, dead, port))
            for number in range(COUNT):
                await made.push(f"a{number}.txt", b"12345")
            await made.wait(lambda found: {one.status for one in found} == {TransferStatus.DONE})
            made.node.engine.outbox.open()
            await until(lambda: len(heard) == COUNT, what="all messages")
            shown = await HostOperations(made.node.engine).view("out")
            assert shown.host.options["ectrans.notifyAuth"] == "***"
            stored = list((tmp_path / "data").glob("ecpds.db*"))
            assert stored
            assert all(b"pass\\;word" not in one.read_bytes() for one in stored)
            async with asyncio.timeout(15):
                while {one.state for one in await rows(made)} != {"sent"}:
                    await asyncio.sleep(0.01)
            assert {one.kind for one in await rows(made)} == {"host:out"}
    assert sorted(one.payload for one in heard) == sorted(
        f'{{"file": "a{number}.txt"}}'.encode() for number in range(COUNT)
    )
    assert {one.topic for one in heard} == {"arrived/D/"}
    assert properties(heard[0]) == {"size": "5", "from": "", "list": "a,b"}
    assert heard[0].qos == 2
    assert 0 < vars(heard[0].properties)["MessageExpiryInterval"] <= 60


@pytest.mark.needs("mosquitto", "mosquitto_passwd")
async def test_a_broker_that_is_down_fails_no_transfer(tmp_path: Path) -> None:
    """The file is delivered at once, its message follows when there is a broker; with TLS."""
    authority = Authority(tmp_path / "ca")
    issued = authority.issue()
    with ports.reserved() as free:
        port, tls = free[:2]
        extra = f"listener {tls} 127.0.0.1\ncertfile {issued.bundle}\nkeyfile {issued.key}\n"
        async with bench(tmp_path, {"hosts": [], "destinations": []}) as made:
            await made.apply(site(made.out, tls, ca=authority.ca))
            engine, store = made.node.engine, made.node.core.store
            engine.outbox.open()
            sent = await made.push("x.txt")
            await made.wait(lambda found: found and found[0].status is TransferStatus.DONE)
            async with asyncio.timeout(15):
                while not (row := (await rows(made))[0]).tries:
                    await asyncio.sleep(0.01)
            assert (row.state, row.kind, row.transfer) == ("waiting", "host:out", sent)
            assert "cannot be reached" in row.error
            async with broker(tmp_path / "broker", port, extra), hearing(port) as heard:
                await store.write(outbox.again, row.id, now=made.node.core.clock.now())
                engine.outbox.poke()
                await until(lambda: heard, what="the message")
            assert heard[0].payload == b'{"file": "x.txt"}'
            # a file that goes is no delivery
            await store.write(outbox.add_deleted, sent, expires_at=None, now=row.created_at)
            assert len(await rows(made)) == 1
