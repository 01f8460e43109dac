"""Publications and the daemon's death: none lost, order kept, a repeated one has the same id."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.flow.test_mqtt import running, site
from tests.peers.mosquitto import mosquitto
from tests.protocol.mqttrig import Raw
from tests.waiting import until

FILES = 12
POINTS = ("outbox.prepared", "outbox.published", "outbox.settled")
DURABLE: dict[str, Any] = {"clean": False, "found": {0x11: 600}}


async def gather(raw: Raw, seen: list[tuple[str, str]], wanted: int) -> None:
    """Take messages, as target and id, until so many targets came or the connection is lost."""
    try:
        while len({target for target, _ in seen}) < wanted:
            told = json.loads((await raw.message())[1])
            seen.append((told["target"], told["id"]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return


@pytest.mark.crash
@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_while_publishing_loses_nothing(point: str, tmp_path: Path) -> None:
    """Before, while and after a message goes out."""
    async with running(tmp_path, site()) as node:
        daemon = node.daemon
        await daemon.stop()
        await daemon.start(ECPDS_FAILPOINTS=f"{point}:kill@2")
        raw, seen = await node.subscriber(**DURABLE), list[tuple[str, str]]()
        for number in range(FILES):
            try:
                await node.put(f"f{number:02d}")
            except (OSError, AssertionError, aiohttp.ClientError):
                break
        stored = number
        await gather(raw, seen, FILES)
        await until(lambda: not daemon.is_alive, what=f"{point} was never passed")
        await daemon.start()
        raw = await node.subscriber(**DURABLE)
        for number in range(stored, FILES):
            await node.put(f"f{number:02d}", on_duplicate="skip")
        await gather(raw, seen, FILES)
        first = list(dict.fromkeys(target for target, _ in seen))
        assert first == [f"f{number:02d}" for number in range(FILES)]
        assert len(set(seen)) == FILES  # what came twice had the same id


@pytest.mark.crash
@pytest.mark.needs("mosquitto")
async def test_another_broker_that_dies_gets_everything_in_the_end(tmp_path: Path) -> None:
    """The external driver, beside our own: both have all messages, in order."""
    async with mosquitto(tmp_path / "broker") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        settings = {"ECPDS_MQTT__DRIVER": "both", "ECPDS_MQTT__URL": url}
        async with running(tmp_path, site(), **settings) as node:
            own, seen = await node.subscriber(), list[tuple[str, str]]()
            theirs, got = await there(broker.port), list[tuple[str, str]]()
            for number in range(4):
                await node.put(f"f{number:02d}")
            await gather(theirs, got, 4)
            theirs.writer.transport.abort()
            await broker.stop()
            for number in range(4, FILES):
                await node.put(f"f{number:02d}")
            await gather(own, seen, FILES)
            await broker.start()
            theirs = await there(broker.port)
            await gather(theirs, got, FILES)
            wanted = [f"f{number:02d}" for number in range(FILES)]
            assert list(dict.fromkeys(target for target, _ in got)) == wanted
            assert [target for target, _ in seen] == wanted
            theirs.writer.transport.abort()


async def there(port: int) -> Raw:
    """Return a durable subscriber at another broker."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer, 5)
    present, reason = await raw.enter("sub", None, None, version=5, **DURABLE)
    assert reason == 0
    if not present:
        assert await raw.subscribe("ops/#") == [1]
    return raw
