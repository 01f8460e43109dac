"""A subscriber of WIS2: other addresses of a datum, and which messages are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.test_mqtt_acquisition import (
    Publisher,
    content,
    listening,
    origin,
    stored,
    until,
    wnm,
)
from tests.peers.mosquitto import mosquitto

pytestmark = pytest.mark.needs("mosquitto")


async def test_another_address_is_taken_and_only_what_is_wanted(tmp_path: Path) -> None:
    """The first address is dead; other centres and invalid messages are passed over."""
    options = {"options": {"mqtt.centres": "xx-*, !xx-no", "mqtt.validation": "strict"}}
    async with (
        mosquitto(tmp_path / "broker") as broker,
        origin() as web_server,
        listening(tmp_path, broker, **options) as (_, node),
    ):
        publisher = Publisher(broker.port)
        web_server.files = {"good": b"content", "other": b"x"}
        first, second, bad, foreign = wnm(1), wnm(1), wnm(3), wnm(4)
        second["id"] = second["id"][:-4] + "ffff"
        bad["conformsTo"] = []
        for message, name in (
            (first, "dead"),
            (second, "good"),
            (bad, "other"),
            (foreign, "other"),
        ):
            message["links"][0] |= {"href": f"{web_server.url}/{name}"}
        publisher.put(bad)
        publisher.put(foreign, "cache/a/wis2/xx-no/data/core/weather")
        publisher.put(first)
        publisher.put(second)
        found = await until(node, stored("f1.bufr"))
        assert await content(node, found["f1.bufr"]) == b"content"
        publisher.close()
