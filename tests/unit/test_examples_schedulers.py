"""Examples and rows of schedulers.md that no other test holds, by section."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.acquisition import AcquisitionScheduler
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.retrieval import Task, claim_retrievals, store_failed
from ecpds.engine.telling import Teller
from ecpds.model.host import Host, HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason
from ecpds.store import files, transfers
from ecpds.store.db import Connection
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
ANN = Actor(name="ann")
MINUTE = timedelta(minutes=1)
GONE = Reason(kind="transient", code="remote-lost", text="gone")


async def host(node: SmallNode, name: str, **fields: Any) -> None:
    made = Host(name=name, method="genericTest", directory="/x/", **fields)
    await HostOperations(node.engine).put(made, ANN)


async def acquiring(node: SmallNode, **fields: Any) -> AcquisitionScheduler:
    """Return the scheduler of a destination with an acquisition host."""
    await host(node, "feed", role=HostRole.ACQUISITION, **fields)
    await node.destination("D", acquisition=True, hosts=("feed",))
    return AcquisitionScheduler(
        node.core, "D", "feed", slots=asyncio.Semaphore(1), submitted=lambda _: None
    )


async def test_schedulers_2_a_run_until_10_07_is_followed_by_one_at_10_17(tmp_path: Path) -> None:
    """Frequency 600 s: the pause counts from the end."""
    ended = START.replace(hour=10, minute=7)
    async with small_node(tmp_path, clock=FakeClock(ended + 3 * MINUTE)) as node:
        scheduler = await acquiring(node)
        assert scheduler._due(ended) == ended.replace(minute=17)
        assert scheduler._due(None) == node.core.clock.now()  # never run


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        (StoredState.WAIT, True),
        (StoredState.HOLD, True),  # it gave up sending, not looking
        (StoredState.STOP, False),
    ],
)
async def test_schedulers_2_who_is_eligible(
    tmp_path: Path, state: StoredState, *, runs: bool
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        scheduler = await acquiring(node)
        entry = replace(node.core.snapshot.destination("D"), state=state)
        node.core.configuration.now = replace(node.core.snapshot, destinations={"D": entry})
        assert (scheduler._due(None) is not None) is runs


@pytest.mark.parametrize(
    ("destination", "given", "runs"),
    [
        ({}, {}, True),
        ({"active": False}, {}, False),
        ({"acquisition": False}, {}, False),
        ({}, {"active": False}, False),
        ({}, {"role": HostRole.SOURCE}, False),
    ],
)
async def test_schedulers_2_which_pairs_there_are(
    tmp_path: Path, destination: dict[str, Any], given: dict[str, Any], *, runs: bool
) -> None:
    async with small_node(tmp_path) as node:
        await host(node, "feed", **({"role": HostRole.ACQUISITION} | given))
        for name in "DE":  # each has a clock of its own
            fields: dict[str, Any] = {"acquisition": True, "hosts": ("feed",)} | destination
            await node.destination(name, **fields)
        found = {key for key in node.engine._wanted() if key[0] == "acquisition"}
        assert found == ({("acquisition", name, "feed") for name in "DE"} if runs else set())


def preset(db: Connection, name: str, *, found_by: str, at: datetime = START) -> int:
    """Add a file that is to be fetched."""
    file = DataFile(id=0, arrived_at=at, source=f"/{name}", host=found_by, group_by="G")
    number = files.insert(db, file, {})
    transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=number, target=name, key=("D", name, ""), identity=name,
            priority=99, status=S.SCHE, scheduled_at=at, queue_at=at,
            expires_at=at + timedelta(days=2),
        ),
        now=at,
    )  # fmt: skip
    return number


@pytest.mark.parametrize(
    ("role", "fast", "pause"),
    [(HostRole.ACQUISITION, 3, 180), (HostRole.SOURCE, 50, 30)],
    ids=["acquisition", "fetch"],
)
async def test_schedulers_3_pauses_after_failures(
    tmp_path: Path, role: HostRole, fast: int, pause: int
) -> None:
    """None for the first 3 (50 in fetch mode), then 180 s (30 s)."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await host(node, "src", role=role, options={"acquisition.requeueOnFailure": "yes"})
        await node.destination("D", hosts=())
        core = node.core
        entry = core.snapshot.host("src")

        def fail(db: Connection) -> timedelta:
            (task,), _ = claim_retrievals(db, "D", now=START, limit=1)
            store_failed(
                db, task, entry, GONE, core.snapshot, Teller(node="m1"), START, START, again=True
            )
            due = transfers.next_preset(db, "D")
            assert due is not None
            return due - START

        await node.store.write(preset, "a", found_by="src")
        pauses: list[timedelta] = []
        while not pauses or pauses[-1] <= timedelta(0):
            pauses.append(await node.store.write(fail))
        assert len(pauses) == fast
        assert pauses[-1] == timedelta(seconds=pause)


@pytest.mark.parametrize(
    ("again", "after"), [(True, S.SCHE), (False, S.FAIL)], ids=["requeueOnFailure", "default"]
)
async def test_entities_10_a_failed_retrieval(tmp_path: Path, *, again: bool, after: S) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        core = node.core

        def fail(db: Connection) -> S:
            number = preset(db, "a", found_by="")
            (task,), _ = claim_retrievals(db, "D", now=START, limit=1)
            assert isinstance(task, Task)
            assert {one.status for one in transfers.of_file(db, number)} == {S.FETC}
            store_failed(
                db, task, None, GONE, core.snapshot, Teller(node="m1"), START, START, again=again
            )
            return transfers.of_file(db, number)[0].status

        assert await node.store.write(fail) is after


async def test_schedulers_3_which_files_are_fetched_and_in_which_order(tmp_path: Path) -> None:
    """Batch, priority, time, number; what is expired or deleted is not."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")

        def prepared(db: Connection) -> list[str]:
            for name in ("late", "first", "gone", "second"):
                number = preset(db, name, found_by="")
                (one,) = transfers.of_file(db, number)
                changes = {
                    "late": {"queue_at": START + MINUTE},
                    "first": {"priority": 1},
                    "gone": {"deleted": True},
                    "second": {},
                }
                transfers.save(db, replace(one, **changes[name]), now=START)  # type: ignore[arg-type]
            tasks, _ = claim_retrievals(db, "D", now=START + 2 * MINUTE, limit=9)
            return [task.file.source for task in tasks]

        assert await node.store.write(prepared) == ["/first", "/second", "/late"]


async def test_schedulers_6_reset_queue_on_change(tmp_path: Path) -> None:
    """What was fetched is looked at at once, or with the next look."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        for name, value in (("D", "yes"), ("E", "no")):
            await node.destination(name, options={"scheduler.resetQueueOnChange": value})
            scheduler = node.engine._dissemination(name)
            node.engine._stored(name)
            assert scheduler._wake.is_set() is (value == "yes")
