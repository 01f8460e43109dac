"""Rates that several transfers share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ecpds.model.status import TransferStatus
from tests.flow.test_engine import Bench, bench, plain

SIZE = 300_000


def site(rig: Bench, host: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """Return the plain site with options of the sender and of the destination."""
    document = plain(rig)
    sender = next(one for one in document["hosts"] if one["name"] == "out")
    sender["options"] = host
    document["destinations"][0]["options"] = destination
    return document


@pytest.mark.parametrize(
    ("host", "destination"),
    [({"upload.hostRate": "300KB"}, {}), ({}, {"upload.destinationRate": "300KB"})],
)
async def test_a_rate_may_be_shared(
    host: dict[str, Any], destination: dict[str, Any], tmp_path: Path
) -> None:
    """Three files at a time take as long as one of their size together."""
    async with bench(tmp_path) as rig:
        await rig.apply(site(rig, host, destination))
        begun = time.monotonic()
        for number in range(3):
            await rig.push(f"f{number}", b"x" * SIZE)
        await rig.wait(lambda all_: all(one.status is TransferStatus.DONE for one in all_))
        took = time.monotonic() - begun
        assert took > 3 * SIZE / (300 * 1024) * 0.6  # the first quarter of a second is free
