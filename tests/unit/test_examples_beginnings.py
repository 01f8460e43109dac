"""Where a transfer begins: defaults of entities.md 5 and 6, first statuses of entities.md 10,
and how long its failure is shown.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission, plan, status_of
from ecpds.model.destination import Destination, DestinationState
from ecpds.model.errors import RemoteCancelled
from ecpds.model.status import TransferStatus
from ecpds.store import files, transfers
from ecpds.transfer.meter import Meter
from ecpds.web.pages.destinations import failed_lately
from tests.clock import START, FakeClock
from tests.node import small_node
from tests.unit.test_submit import NOW, one, snapshot

S = TransferStatus
ANN = Actor(name="ann")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FETCHED: dict[str, Any] = {"content": None, "source": "/arch/x.grib", "group_by": "G"}


@pytest.mark.parametrize(
    ("given", "replaced", "status"),
    [
        ({}, False, S.WAIT),
        ({"standby": True}, False, S.HOLD),
        ({}, True, S.RETR),  # new content of a file that was there
        ({"standby": True}, True, S.HOLD),
        (FETCHED, False, S.SCHE),
        (FETCHED | {"standby": True}, False, S.SCHE),  # held once it is here
        (FETCHED | {"no_retrieval": True}, False, S.WAIT),
        (FETCHED | {"no_retrieval": True, "standby": True}, False, S.HOLD),
    ],
)
def test_entities_10_the_first_status(given: dict[str, Any], status: S, *, replaced: bool) -> None:
    made = plan(one(**given), snapshot(Destination(name="A")), NOW)
    assert status_of(made, made.transfers[0], replaced=replaced) is status


BEGINNINGS: list[tuple[dict[str, Any], dict[str, object]]] = [
    ({}, {
        "priority": 99, "scheduled_at": START, "queue_at": START, "due_at": START,
        "expires_at": START + 2 * DAY, "identity": "a.grib", "start_count": 0,
        "requeue_count": 0, "requeue_history": 0, "asap": False, "event": False,
        "deleted": False, "started_at": None, "host": "",
    }),
    ({"at": START + HOUR}, {
        "scheduled_at": START + HOUR, "queue_at": START + HOUR, "due_at": START + HOUR,
        "expires_at": START + HOUR + 2 * DAY,
    }),
    ({"at": START + HOUR, "delay": HOUR}, {"scheduled_at": START + 2 * HOUR}),
    ({"identity": "product"}, {"identity": "product", "target": "a.grib"}),
    ({"target": "in/"}, {"target": "in/x.grib"}),  # the base name of the source
    ({"target": "/a//b/../c"}, {"target": "a/c", "identity": "a/c"}),
]  # fmt: skip


async def test_entities_6_defaults_of_a_transfer(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        for number, (given, expected) in enumerate(BEGINNINGS):
            plain = Submission(destination="D", target="a.grib", version=str(number), **FETCHED)
            registered = await node.engine.submit(replace(plain, **given))
            found = await node.store.read(transfers.get, registered.transfers[0])
            assert {name: getattr(found, name) for name in expected} == expected


async def test_entities_5_defaults_of_a_file(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        registered = await node.engine.submit(
            Submission(destination="D", target="a.grib", **FETCHED)
        )
        file = await node.store.read(files.get, registered.file)
        assert file is not None
        assert (file.size, file.stored, file.instance) == (-1, False, None)
        assert (file.meta_stream, file.meta_target, file.meta_time, file.meta_type) == (
            "None", "None", "00", "",
        )  # fmt: skip
        assert (file.time_step, file.arrived_at) == (-1, START)
        assert (file.deleted, file.removed, file.delete_original) == (False, False, False)


async def test_entities_10_a_stop_interrupts_a_retrieval(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        registered = await node.engine.submit(
            Submission(destination="D", target="a.grib", **FETCHED)
        )
        number, meter = registered.transfers[0], Meter()
        await node.store.write(transfers.set_status, number, S.FETC, now=START)
        node.engine._retrieval("D").meters[registered.file] = meter
        verbs = TransferOperations(node.engine)
        assert (await verbs.stop(number, ANN)).status is S.STOP
        with pytest.raises(RemoteCancelled):
            meter.add(1)


@pytest.mark.parametrize(("age", "shown"), [(DAY - HOUR, 7), (DAY, None), (None, None)])
def test_entities_13_the_last_failure_is_shown_for_a_day(
    age: timedelta | None, shown: int | None
) -> None:
    at = START - age if age is not None else None
    state = DestinationState(last_failed_at=at, last_failed_id=7 if at else None)
    assert failed_lately(state, START) == shown
