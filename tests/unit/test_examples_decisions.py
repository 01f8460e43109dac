"""schedulers.md 4: the decision table row by row, what moves the host, what a restart keeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.dissemination import Claim, claim_for
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.retry import after_failure, after_success, host_in_use
from ecpds.model.destination import Destination, DestinationState, OnHostFailure
from ecpds.model.host import Host, HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.store import destinations, files, history, transfers
from ecpds.store.db import Connection
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
ANN = Actor(name="ann")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LOST = Reason(kind="transient", phase="data", code="remote-lost", text="gone")


async def site(
    node: SmallNode, *names: str, host: dict[str, Any] | None = None, **fields: Any
) -> None:
    """Make a destination D with dissemination hosts."""
    for name in names or ("h",):
        made = Host(name=name, method="genericTest", directory="/x/", **(host or {}))
        await HostOperations(node.engine).put(made, ANN)
    await node.destination("D", hosts=names or ("h",), **fields)


def add(db: Connection, /, name: str = "a", *, size: int = 1, key: str = "", **fields: Any) -> int:
    """Add a queued transfer of D that came just now."""
    file = files.insert(db, DataFile(id=0, arrived_at=START, stored=True, size=size), {})
    number = transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=file, target=name, key=("D", name, key), identity=name,
            priority=50, status=S.WAIT, scheduled_at=START, queue_at=START,
            expires_at=START + 2 * DAY,
        ),
        now=START,
    )  # fmt: skip
    found = transfers.get(db, number)
    assert found is not None
    transfers.save(db, replace(found, **fields), now=START)
    return number


async def claim(node: SmallNode) -> Claim:
    """Look at the queue of D, as its scheduler does."""
    core = node.core
    usable = core.snapshot.hosts_of("D", HostRole.DISSEMINATION)
    entry = core.snapshot.destination("D")
    return await node.store.write(
        claim_for, "D", entry, usable, node.engine.slots, 64, core.clock.now(), []
    )


async def get(node: SmallNode, number: int) -> Transfer:
    found = await node.store.read(transfers.get, number)
    assert found is not None
    return found


async def test_schedulers_4_3_row_1_expired(tmp_path: Path) -> None:
    """Whoever loaded it: never claimed, and FAIL with the reason at its moment."""
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await site(node)
        waiting = (S.WAIT, S.RETR, S.SCHE)
        numbers = [await node.store.write(add, one.code, status=one) for one in waiting]
        clock._now += 2 * DAY - MINUTE
        assert await node.engine.retention.expire() == 0
        clock._now += MINUTE
        assert (await claim(node)).claimed == []
        assert await node.engine.retention.expire() == len(waiting)
        for number in numbers:
            found = await get(node, number)
            assert (found.status, found.comment) == (S.FAIL, "not transferred before expiration")


async def test_schedulers_4_3_row_3_what_is_taken(tmp_path: Path) -> None:
    """Queued and requeued ones that are due, nothing else."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node, host={"max_connections": -1}, max_connections=-1)
        for one in S:
            await node.store.write(add, one.code, status=one)
            await node.store.write(add, f"late {one.code}", status=one, due_at=START + MINUTE)
        taken = {one.transfer.target for one in (await claim(node)).claimed}
        assert taken == {"WAIT", "RETR"}


CONNECTIONS = [  # of the destination and its host, running there, why nothing starts
    (1, 1, 0, 0, ""),
    (1, -1, 1, 0, "max_connections"),
    (2, -1, 1, 0, ""),
    (0, -1, 0, 0, "max_connections"),  # nothing ever starts
    (-1, 1, 5, 1, "host_connections"),
    (-1, 0, 0, 0, "host_connections"),  # 0 blocks
    (-1, 2, 5, 1, ""),
    (-1, -1, 300, 300, ""),
    (-1, -1, 400, 1, "host_connections"),  # as many as the node may have
]


async def test_schedulers_4_3_row_4_connections(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        for most, host_most, running_now, at_host, waits_for in CONNECTIONS:
            await site(node, host={"max_connections": host_most}, max_connections=most)
            scheduler = node.engine._dissemination("D")
            scheduler.running = node.engine.slots.running = running_now
            node.engine.slots.hosts["h"] = at_host
            async with asyncio.TaskGroup() as group:
                await scheduler._start_due(group)
            assert scheduler.waits_for == waits_for


@pytest.mark.parametrize(
    ("max_start", "max_requeue", "starts", "requeues", "status", "after", "pause"),
    [
        (2, -1, 1, 0, S.RETR, (1, 0), 15),  # the host's own pause
        (2, -1, 2, 0, S.RETR, (0, 1), 600),
        (2, -1, 2, 99, S.RETR, (0, 100), 600),
        (2, 3, 2, 1, S.RETR, (0, 2), 600),
        (2, 3, 2, 2, S.FAIL, (0, 3), None),
        (2, 0, 2, 2, S.RETR, (0, 3), 600),  # 0 is unlimited
        (0, 1, 9, 0, S.RETR, (9, 0), 15),
    ],
)
def test_schedulers_4_3_row_5_delays(
    max_start: int, max_requeue: int, starts: int, requeues: int, status: S,
    after: tuple[int, int], pause: int | None,
) -> None:  # fmt: skip
    """startCount and requeueCount afterwards; when it is due again."""
    destination = Destination(name="D", max_start=max_start, max_requeue=max_requeue)
    hosts = [Host(name="h", retry_count=15, retry_frequency=timedelta(seconds=15))]
    one = running(start_count=starts, requeue_count=requeues)
    decision = after_failure(
        one, DestinationState(current_host="h"), destination, hosts, LOST,
        started_at=START, now=START,
    )  # fmt: skip
    found = decision.transfer
    assert (found.status, (found.start_count, found.requeue_count)) == (status, after)
    assert found.requeue_history == after[1] - requeues
    assert decision.state.has_requeued is (pause == 600)
    if pause is not None:
        assert found.due_at == START + timedelta(seconds=pause)
    assert found.scheduled_at == START  # promised, never moved


def running(**fields: Any) -> Transfer:
    """A transfer that is being sent to host h."""
    one = Transfer(
        id=1, destination="D", data_file=1, target="a", status=S.EXEC, scheduled_at=START,
        queue_at=START, due_at=START, expires_at=START + 2 * DAY, created_at=START, host="h",
    )  # fmt: skip
    return replace(one, **fields)


async def test_schedulers_4_3_row_7_another_file_wins(tmp_path: Path) -> None:
    """Held back as a duplicate, unless a person wanted it."""
    rows = {"up": ("", 10, 20), "down": ("", 20, 10), "asked": ("ann", 10, 20)}
    async with small_node(tmp_path, clock=FakeClock()) as node:
        options = {"scheduler.requeueon": "$size2 > $size1"}
        await site(node, host={"max_connections": -1}, max_connections=-1, options=options)
        numbers = [
            await node.store.write(add, name, size=size, key=str(size), status_by=by)
            for name, (by, *sizes) in rows.items()
            for size in sizes
        ]
        claimed = (await claim(node)).claimed
        sent = {(one.transfer.target, one.file.size) for one in claimed}
        assert sent == {("up", 20), ("down", 20), ("asked", 10), ("asked", 20)}
        for number in set(numbers) - {one.transfer.id for one in claimed}:
            found = await get(node, number)
            assert (found.status, found.start_count) == (S.HOLD, 0)
            assert found.reason is not None
            assert found.reason.code == "duplicate"


async def test_schedulers_4_3_row_8_a_start(tmp_path: Path) -> None:
    """EXEC, one start more, and a step that names the host."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node)
        number = await node.store.write(add, start_count=1)
        assert len((await claim(node)).claimed) == 1
        found = await get(node, number)
        assert (found.status, found.start_count, found.started_at) == (S.EXEC, 2, START)
        (step,) = await node.store.read(history.steps, number)
        assert (step.status, step.comment) == (S.EXEC, "Trying h")


async def test_schedulers_4_3_row_8_no_host_is_active(tmp_path: Path) -> None:
    """Nothing starts; 4.1: it goes on by itself when one becomes active."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node, host={"active": False})
        scheduler = node.engine._dissemination("D")
        async with asyncio.TaskGroup() as group:
            assert await scheduler._start_due(group) is None
            assert scheduler.waits_for == "no-hosts"
            await site(node)
            await scheduler._start_due(group)
        assert scheduler.waits_for == ""


async def test_schedulers_4_4_a_requeue_of_a_person_is_no_failure(tmp_path: Path) -> None:
    """NEW: the host choice stays as it was."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node, "A", "B")
        state = DestinationState(current_host="A", failures=3, round=2)
        await node.store.write(destinations.set_run, "D", state)
        number = await node.store.write(add, status=S.FAIL, host="A")
        await TransferOperations(node.engine).requeue(number, ANN)
        found = await node.store.read(destinations.state, "D")
        assert found is not None
        assert (found.current_host, found.failures, found.round) == ("A", 3, 2)


async def test_schedulers_4_7_a_start_by_a_person_forces_the_first_host(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node, "A", "B")
        state = DestinationState(current_host="B", failures=3, round=2, switched_at=START)
        await node.store.write(destinations.set_run, "D", state)
        await node.store.write(add)
        await node.destinations.restart("D", ANN)
        (claimed,) = (await claim(node)).claimed
        assert claimed.host.name == "A"
        found = await node.store.read(destinations.state, "D")
        assert found is not None
        assert (found.round, found.failures, found.switched_at) == (1, 0, None)


async def test_schedulers_4_7_what_a_destination_does_after_a_restart(tmp_path: Path) -> None:
    """A stopped one and one that gave up stay so, the others go on at once."""
    states = {"D": StoredState.WAIT, "E": StoredState.STOP, "F": StoredState.HOLD}
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await site(node)
        for name, state in states.items():
            await node.destination(name, hosts=("h",))
            await node.store.write(destinations.set_state, name, state, reason="before")
    async with small_node(tmp_path, clock=FakeClock()) as node:
        looks = {name: node.engine._dissemination(name) for name in states}
        entries = node.core.snapshot.destinations
        goes_on = {name: one._may_start(entries[name]) for name, one in looks.items()}
        assert goes_on == {"D": True, "E": False, "F": False}
        assert [looks[name].waits_for for name in "EF"] == ["STOP", "HOLD"]


A = Host(name="A", retry_count=2, retry_frequency=timedelta(seconds=15))
B = Host(name="B", retry_count=1, retry_frequency=timedelta(seconds=20))


@pytest.mark.parametrize(
    ("present", "host", "given", "after", "pause"),
    [
        # failures since the choice below retryCount: stay, the host's own pause
        (("A", 0, 1), "A", {}, ("A", 1, 1), 15),
        # at retryCount: the next in order, at once
        (("A", 1, 1), "A", {}, ("B", 0, 1), 0),
        # wrap with rounds left: one more, the destination's pause
        (("B", 0, 1), "B", {"retry_count": -1}, ("A", 0, 2), 30),
        (("B", 0, 1), "B", {"retry_count": 2}, ("A", 0, 2), 30),
        # an attempt at another host than the present one
        (("B", 0, 1), "A", {}, ("B", 0, 1), 15),
        # a host that was taken away meanwhile
        (("A", 1, 1), "C", {}, ("A", 1, 1), 0),
    ],
)
def test_schedulers_4_4_a_failure(
    present: tuple[str, int, int], host: str, given: dict[str, Any], after: tuple[str, int, int],
    pause: int,
) -> None:  # fmt: skip
    """Host, its failures and the round before and after."""
    name, failures, rounds = present
    state = DestinationState(current_host=name, failures=failures, round=rounds)
    decision = after_failure(
        running(host=host), state, Destination(name="D", max_start=0, **given), [A, B], LOST,
        started_at=START, now=START,
    )  # fmt: skip
    found = decision.state
    assert (found.current_host, found.failures, found.round) == after
    assert decision.transfer.due_at == START + timedelta(seconds=pause)
    assert not decision.gave_up


@pytest.mark.parametrize("rounds", [(0, 1), (1, 1), (2, 2)], ids=["0", "1", "2"])
def test_schedulers_4_4_the_last_round(rounds: tuple[int, int]) -> None:
    """round >= retryCount at the wrap: the destination gives up."""
    count, present = rounds
    decision = after_failure(
        running(host="B"), DestinationState(current_host="B", round=present),
        Destination(name="D", max_start=0, retry_count=count), [A, B], LOST,
        started_at=START, now=START,
    )  # fmt: skip
    assert decision.gave_up


@pytest.mark.parametrize(
    ("mode", "after"), [(OnHostFailure.STAY, "B"), (OnHostFailure.REVERT, "A")]
)
def test_schedulers_4_4_a_success(mode: OnHostFailure, after: str) -> None:
    """Failures 0, round 1; revert goes back to the first."""
    state = DestinationState(current_host="B", failures=3, round=4)
    destination = Destination(name="D", on_host_failure=mode)
    found = after_success(running(host="B"), state, destination, [A, B]).state
    assert (found.current_host, found.failures, found.round) == (after, 0, 1)


@pytest.mark.parametrize(
    ("minutes", "reset", "used"), [(19, 20, "B"), (20, 20, "A"), (999, 0, "B")]
)
def test_schedulers_4_4_reset_frequency(minutes: int, reset: int, used: str) -> None:
    """So long after the last switch the first host is in use again; 0 is never."""
    state = DestinationState(current_host="B", switched_at=START)
    destination = Destination(name="D", reset_frequency=reset * MINUTE)
    _, host = host_in_use(state, destination, [A, B], START + minutes * MINUTE)
    assert host is not None
    assert host.name == used
