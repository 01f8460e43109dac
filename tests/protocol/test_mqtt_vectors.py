"""The wire sequences of the Mosquitto project against our broker; differences have a reason each.

A listed difference that is none any more fails, so that the list stays true.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.mqttrig import Raw, Rig, connect, mqtt_rig

FOLDER = Path(__file__).parents[1] / "vectors" / "mqtt"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
QUIET = 0.5  # seconds in which an answer comes on loopback, also under load
_TOKEN = re.compile(r"'([^']*)'|(\S+)")

# why we differ: where
REASONS: dict[str, tuple[str, ...]] = {
    "we tell a client of version 5 why it is refused": (
        "CONNECT/v3.1.1 CONNECT/10 incorrect command flags",
        "CONNECT/v3.1.1 CONNECT/10 missing keepalive",
        "CONNECT/v5.0 CONNECT/10 Will flag 1 Will Qos 3 [MQTT-3.1.2-14]",
        "CONNECT/v5.0 CONNECT/10 [MQTT-3.1.2-17]",
        "CONNECT/v5.0 CONNECT/10 [MQTT-3.1.2-19]",
        "CONNECT/v5.0 CONNECT/10 Username with 0x0000",
        "CONNECT/v5.0 CONNECT/10 Username with 0xD800",
        "CONNECT/v5.0 CONNECT/10 Username with 0x0001",
        "CONNECT/v5.0 CONNECT/10 Username with 0x001F",
        "CONNECT/v5.0 CONNECT/10 Username with 0x007F",
        "CONNECT/v5.0 CONNECT/10 Username with 0x009F",
        "CONNECT/v5.0 CONNECT/10 Username with 0xFFFF",
    ),
    "an unknown version below 5 gets the answer of 3.1.1 (MQTT-3.1.2-2)": (
        "CONNECT/v3.1.1 CONNECT/10 proto ver 2 [MQTT-3.1.2-2]",
    ),
    "reserved bits make a packet malformed (MQTT 5.0 section 2.1.3)": (
        "DISCONNECT/v5.0 DISCONNECT/E1 [MQTT-3.14.1-1]",
        "DISCONNECT/v5.0 DISCONNECT/E2 [MQTT-3.14.1-1]",
        "DISCONNECT/v5.0 DISCONNECT/E4 [MQTT-3.14.1-1]",
        "DISCONNECT/v5.0 DISCONNECT/E8 [MQTT-3.14.1-1]",
    ),
    "an unfinished PUBLISH may be repeated as often as the connection lasts": (
        "PUBLISH/v3.1.1 PUBLISH/34 QoS 2 Dup flow*3",
        "PUBLISH/v5.0 PUBLISH/34 QoS 2 Dup flow*3",
    ),
    "the specification calls it a protocol error, not malformed": (
        "PUBLISH/v5.0 PUBLISH/30 topic 0",
        "SUBSCRIBE/v5.0 SUBSCRIBE/82 QoS 3 [MQTT-3-8.3-2] (no topic or qos)",
        "SUBSCRIBE/v5.0 SUBSCRIBE/82 short 3",
        "UNSUBSCRIBE/v5.0 UNSUBSCRIBE/A2 short 3 [MQTT-3.10.3-2]",
    ),
    "all topics below $ are the server's own": (
        "PUBLISH/v5.0 PUBLISH/PUBLISH with $ topic - connection/state",
    ),
    "topic aliases of clients are not offered: they do not publish": (
        "PUBLISH/v5.0 PUBLISH ALLOWED PROPERTIES/topic-alias (two byte integer)",
        "PUBLISH/v5.0 PUBLISH ALLOWED PROPERTIES/topic-alias (two byte integer) no topic",
    ),
    "shared subscriptions are not offered": (
        "SUBSCRIBE/v3.1.1 SUBSCRIBE/82 $share ok",
        "SUBSCRIBE/v5.0 SUBSCRIBE/82 $share ok",
    ),
}
DIFFERENT = frozenset(name for names in REASONS.values() for name in names)


def integer(value: int) -> bytes:
    """Return a variable-length integer, over-long values too."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def data_of(text: str) -> bytes:
    """Return the bytes of a payload as the files write them."""
    out = b""
    for quoted, token in _TOKEN.findall(text):
        if quoted or not token:
            out += quoted.encode()
        elif token[0] == "i":
            out += bytes((int(token[1:]),))
        elif token[0] in "Hkms":
            out += int(token[1:]).to_bytes(2, "big")
        elif token[0] == "L":
            out += int(token[1:]).to_bytes(4, "big")
        elif token[0] in "vr":
            out += integer(int(token[1:]))
        else:
            out += bytes.fromhex(token)
    return out


def cases(stem: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and definition of each sequence in a file; groups give their defaults."""
    seen: dict[str, int] = {}
    for group in json.loads((FOLDER / f"{stem}.json").read_text(encoding="utf-8")):
        shared = {key: group[key] for key in group if key not in ("tests", "group", "comment")}
        for test in group["tests"]:
            definition = {"ver": 4, "connect": True, "expect_disconnect": True, **shared, **test}
            name = f"{stem}/{' '.join(group['group'].split())}/{' '.join(test['name'].split())}"
            seen[name] = seen.get(name, 0) + 1
            name += f" ({seen[name]})" if seen[name] > 1 else ""
            if definition["ver"] != 3 and not definition.get("disable"):
                yield name, definition


async def is_followed(rig: Rig, case: dict[str, Any]) -> bool:
    """Tell whether the broker answers a sequence as it should."""
    raw = await rig.raw()
    try:
        return await _followed(raw, case)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return False
    finally:
        raw.close()


async def _followed(raw: Raw, case: dict[str, Any]) -> bool:
    if case["connect"]:
        raw.send(connect("connect-test", None, None, version=case["ver"]))
        async with asyncio.timeout(QUIET):
            assert (await raw.take())[0] == 0x20
    for message in case["msgs"]:
        data = data_of(message["payload"])
        if message["type"] == "send":
            raw.send(data)
        elif not await _same(raw, data, case["ver"]):
            return False
    if not case["expect_disconnect"]:
        raw.send(b"\xc0\x00")
        async with asyncio.timeout(QUIET):
            return await raw.reader.readexactly(2) == b"\xd0\x00"
    async with asyncio.timeout(QUIET):
        rest = await raw.reader.read(-1)
    return not rest or rest[0] == 0xE0


async def _same(raw: Raw, expected: bytes, version: int) -> bool:
    async with asyncio.timeout(QUIET):
        if expected[0] == 0x20 and version == 5 and expected[3] == 0:
            first, body = await raw.take()  # which limits a server announces is its own choice
            return first == 0x20 and body[:2] == expected[2:4]
        return await raw.reader.readexactly(len(expected)) == expected


@pytest.mark.parametrize("stem", FILES)
async def test_wire_sequences(stem: str, tmp_path: Path) -> None:
    """Every sequence of a file gets the answers of a correct broker, or is listed."""
    async with mqtt_rig(tmp_path, test_publish=True) as rig:
        found = {name: await is_followed(rig, case) for name, case in cases(stem)}
    failed = {name for name, is_good in found.items() if not is_good}
    listed = {name for name in DIFFERENT if name.startswith(f"{stem}/")}
    assert failed - listed == set()
    assert listed - failed == set()
