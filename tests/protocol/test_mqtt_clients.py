"""Real clients against the broker: paho, aiomqtt, gmqtt, mosquitto_sub, MQTT.js; 3.1.1 and 5."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt
import gmqtt  # type: ignore[import-untyped]
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311  # type: ignore[import-untyped]
from paho.mqtt.client import MQTTMessage

from ecpds.base.clock import SystemClock
from ecpds.base.settings import HttpsSettings
from ecpds.base.threads import Threads
from ecpds.base.tls import Certificates, make_self_signed
from ecpds.model.message import Message
from ecpds.model.secret import Secret
from ecpds.portals.https.app import HttpsPortal
from ecpds.portals.mqtt.websocket import MqttDoor
from ecpds.transfer.mqttlink import LinkOptions, MqttLink
from tests.peers.programs import find_file, peers_folder
from tests.protocol.mqttrig import Rig, connect, mqtt_rig, subscribe
from tests.waiting import until

COUNT = 50
PATIENCE = 15.0


async def publish(rig: Rig) -> None:
    """Publish numbered messages."""
    made = [Message(topic=f"t/{n % 3}", payload=b"%d" % n) for n in range(COUNT)]
    await rig.portal.publish(made)


async def subscribed(rig: Rig, count: int = 1) -> None:
    """Wait for a subscription."""
    await until(lambda: sum(len(one.subscriptions) for one in rig.portal.clients()) >= count)


WANTED = [b"%d" % n for n in range(COUNT)]


@pytest.mark.parametrize("version", [4, 5])
async def test_paho(tmp_path: Path, version: int) -> None:
    """Manual acknowledgement: the window is kept, what is not acknowledged comes again."""
    async with mqtt_rig(tmp_path) as rig:
        options = LinkOptions(
            host="127.0.0.1", port=rig.port, scheme="mqtt", login="alice",
            password=Secret("secret"), client_id="p", version=version, clean=False,
            session_expiry=600, receive_maximum=5, timeout=PATIENCE,
        )  # fmt: skip
        got: list[Any] = []
        link = MqttLink(options, received=got.append)
        assert not await link.open()
        await link.subscribe(["t/#"], 1)
        await publish(rig)
        window = 5 if version == 5 else 20
        await until(lambda: len(got) == window)
        for message in got[:3]:
            link.acknowledge(message)
        await until(lambda: len(got) == window + 3)
        await link.close()
        again: list[Any] = []

        def keep(message: MQTTMessage) -> None:
            again.append(message)
            link.acknowledge(message)

        link = MqttLink(options, received=keep)
        assert await link.open()
        await until(lambda: len(again) == COUNT - 3)
        assert [one.payload for one in again] == WANTED[3:]
        await link.close()


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_aiomqtt(tmp_path: Path, version: aiomqtt.ProtocolVersion) -> None:
    """Messages come in their order."""
    async with mqtt_rig(tmp_path) as rig:
        client = aiomqtt.Client(
            "127.0.0.1", rig.port, username="alice", password="secret", protocol=version
        )
        async with asyncio.timeout(PATIENCE), client:
            await client.subscribe("t/#", qos=1)
            await publish(rig)
            got = []
            async for message in client.messages:
                got.append(message.payload)
                if len(got) == COUNT:
                    break
        assert got == WANTED


@pytest.mark.parametrize("version", [MQTTv311, MQTTv50])
async def test_gmqtt(tmp_path: Path, version: int) -> None:
    """Messages come in their order."""
    async with mqtt_rig(tmp_path) as rig:
        client, got = gmqtt.Client("g"), []

        async def take(client: Any, topic: str, payload: bytes, qos: int, found: Any) -> int:
            got.append(payload)
            return 0

        client.on_message = take
        client.set_auth_credentials("alice", "secret")
        await client.connect("127.0.0.1", rig.port, version=version)
        client.subscribe("t/#", qos=1)
        await subscribed(rig)
        await publish(rig)
        await until(lambda: len(got) == COUNT)
        assert got == WANTED
        await client.disconnect()


@pytest.mark.needs("mosquitto_sub")
@pytest.mark.parametrize("version", ["311", "5"])
async def test_mosquitto_sub(tmp_path: Path, version: str) -> None:
    """Over TLS, with the certificate checked."""
    paths = make_self_signed(tmp_path / "tls", "localhost", datetime(2026, 1, 1, tzinfo=UTC))
    certificates = Certificates(*paths)
    async with mqtt_rig(tmp_path, tls=certificates.context) as rig:
        command = [
            "mosquitto_sub", "-h", "localhost", "-p", str(rig.tls_port), "-V", version,
            "--cafile", str(paths[0]), "-u", "alice", "-P", "secret", "-t", "t/#", "-q", "1",
            "-C", str(COUNT),
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        await subscribed(rig)
        await publish(rig)
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
        assert out.split() == WANTED


@asynccontextmanager
async def https(rig: Rig) -> AsyncIterator[int]:
    """Run the HTTPS portal with the door to the broker; give its port."""
    threads = Threads()
    portal = HttpsPortal(
        rig.gate, HttpsSettings(listen="127.0.0.1:0"), None, threads, SystemClock(), "m1",
        doors=[MqttDoor(rig.portal)],
    )  # fmt: skip
    places = await portal.start()
    try:
        yield places[0][1]
    finally:
        await portal.close()
        threads.close()


async def test_websocket_with_paho(tmp_path: Path) -> None:
    """Its own framing and masks."""
    async with mqtt_rig(tmp_path) as rig, https(rig) as port:
        got: list[Any] = []
        options = LinkOptions(
            host="127.0.0.1", port=port, scheme="ws", login="alice", password=Secret("secret"),
            client_id="w", timeout=PATIENCE,
        )  # fmt: skip

        def keep(message: MQTTMessage) -> None:
            got.append(message)
            link.acknowledge(message)

        link = MqttLink(options, received=keep)
        await link.open()
        await link.subscribe(["t/#"], 1)
        await publish(rig)
        await until(lambda: len(got) == COUNT)
        assert [one.payload for one in got] == WANTED
        await link.close()


SCRIPT = """
const mqtt = require(process.argv[1]);
const [url, version, count] = process.argv.slice(2);
const client = mqtt.connect(url, {
  username: "alice", password: "secret", clientId: "js", protocolVersion: Number(version),
  reconnectPeriod: 0,
});
client.on("error", (error) => { console.error(error.message); process.exit(1); });
client.on("connect", () => client.subscribe("t/#", { qos: 1 }, (error, granted) => {
  if (error || granted[0].qos !== 1) process.exit(2);
}));
let got = [];
client.on("message", (topic, payload) => {
  got.push(payload.toString());
  if (got.length === Number(count)) {
    console.log(got.join(" "));
    client.end(false, {}, () => process.exit(0));
  }
});
"""


@pytest.mark.needs("node")
@pytest.mark.parametrize("version", [4, 5])
async def test_websocket_with_mqtt_js(tmp_path: Path, version: int) -> None:
    """The client inside of MQTTX and of browsers."""
    library = find_file(peers_folder() / "node_modules" / "mqtt").absolute()
    async with mqtt_rig(tmp_path) as rig, https(rig) as port:
        url = f"ws://127.0.0.1:{port}/mqtt"
        process = await asyncio.create_subprocess_exec(
            "node", "-e", SCRIPT, str(library), url, str(version), str(COUNT),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            await subscribed(rig)
            await publish(rig)
            async with asyncio.timeout(PATIENCE):
                out, error = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert (process.returncode, error) == (0, b"")
        assert out.split() == WANTED


async def test_websocket_cut_anyhow(tmp_path: Path) -> None:
    """One byte a frame, fragments, pings between; a close is answered."""
    async with (
        mqtt_rig(tmp_path) as rig,
        https(rig) as port,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/mqtt", protocols=["mqtt"]) as ws,
    ):
        assert ws.protocol == "mqtt"
        for byte in connect("c") + subscribe("t/#"):
            await ws.send_bytes(bytes((byte,)))
        await subscribed(rig)
        await ws.ping(b"x")
        await publish(rig)
        got = b""
        async with asyncio.timeout(PATIENCE):
            while b"\x00\x03t/0" not in got:
                got += await ws.receive_bytes()
        assert got.startswith(b"\x20\x02\x00\x00\x90\x03\x00\x01\x01")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x82\x01x", 1002),  # not masked
        (b"\x81\x81\x00\x00\x00\x00x", 1003),  # text
        (b"\xc2\x81\x00\x00\x00\x00x", 1002),  # an extension's bit
        (b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff", 1009),  # 2 GiB
        (b"\x80\x81\x00\x00\x00\x00x", 1002),  # goes on with nothing
        (b"\x89\xfe\x00\x80", 1002),  # a long ping
        (b"\x83\x81\x00\x00\x00\x00x", 1003),  # no kind of frame
    ],
)
async def test_bad_frames_are_refused(tmp_path: Path, frame: bytes, code: int) -> None:
    """With a closing frame that tells why."""
    async with mqtt_rig(tmp_path) as rig, https(rig) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        writer.write(frame)
        async with asyncio.timeout(PATIENCE):
            rest = await reader.read(-1)
        assert rest == b"\x88\x02" + code.to_bytes(2, "big")
        writer.close()


@pytest.mark.parametrize("field", ["Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol"])
async def test_what_is_no_opening_is_refused(tmp_path: Path, field: str) -> None:
    """Each field is needed."""
    fields = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt",
    }  # fmt: skip
    del fields[field]
    async with (
        mqtt_rig(tmp_path) as rig,
        https(rig) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/mqtt", headers=fields) as answer,
    ):
        assert answer.status in (400, 426)
