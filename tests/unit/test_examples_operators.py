"""What operators may do: entities.md 14 verb by verb, and the people of entities.md 7."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.operations.accountrows import Credentials
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.model.account import DataUser, Grant, Permission, Policy, Service, WebUser
from ecpds.model.errors import BadState, RemoteCancelled
from ecpds.model.host import Host, HostRole
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import files, history, hosts, transfers
from ecpds.store.db import Connection
from ecpds.transfer.meter import Meter
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
ANN = Actor(name="ann")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def host(node: SmallNode, name: str, **fields: Any) -> None:
    made = Host(name=name, method="genericTest", directory="/x/", **fields)
    await HostOperations(node.engine).put(made, ANN)


def add(
    db: Connection, /, name: str = "a", *, stored: bool = True, at: timedelta = HOUR, **fields: Any
) -> int:
    """Add a queued transfer of D that is due in an hour."""
    file = files.insert(db, DataFile(id=0, arrived_at=START, stored=stored, size=1), {})
    number = transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=file, target=name, key=("D", name, ""), identity=name,
            priority=50, status=S.WAIT, scheduled_at=START + at, queue_at=START + at,
            expires_at=START + 2 * DAY,
        ),
        now=START,
    )  # fmt: skip
    found = transfers.get(db, number)
    assert found is not None
    transfers.save(db, replace(found, **fields), now=START)
    return number


async def get(node: SmallNode, number: int) -> Transfer:
    found = await node.store.read(transfers.get, number)
    assert found is not None
    return found


async def test_entities_14_schedule_now(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        number = await node.store.write(add)
        assert await node.store.read(transfers.next_due, "D") == START + HOUR
        found = await TransferOperations(node.engine).schedule_now(number, ANN)
        assert (found.queue_at, found.due_at) == (START, START)
        assert await node.store.read(transfers.next_due, "D") == START


async def test_entities_14_requeue(tmp_path: Path) -> None:
    """Counters from nothing, for a person, at its time; not without an active host."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        verbs = TransferOperations(node.engine)
        counts: dict[str, Any] = {
            "start_count": 1,
            "requeue_count": 2,
            "requeue_history": 5,
            "attempts": 9,
        }
        number = await node.store.write(add, status=S.FAIL, **counts)
        with pytest.raises(BadState, match="no active dissemination host"):
            await verbs.requeue(number, ANN)
        await host(node, "h")
        await node.destination("D", hosts=("h",))
        found = await verbs.requeue(number, ANN)
        assert (found.status, found.status_by, found.due_at) == (S.RETR, "ann", START + HOUR)
        assert (found.start_count, found.requeue_count, found.requeue_history) == (0, 0, 5)


async def test_entities_14_delete(tmp_path: Path) -> None:
    """STOP, but what is done stays done; the file goes with its last transfer."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        for before, after in ((S.WAIT, S.STOP), (S.DONE, S.DONE), (S.HOLD, S.STOP)):
            number = await node.store.write(add, before.code, status=before)
            await TransferOperations(node.engine).delete(number, ANN)
            found = await get(node, number)
            assert (found.status, found.deleted, found.status_by) == (after, True, "ann")
            file = await node.store.read(files.get, found.data_file)
            assert file is not None
            assert file.deleted
            with pytest.raises(BadState, match="the transfer is deleted"):
                await TransferOperations(node.engine).extend(number, ANN)


async def test_entities_14_what_is_not_here_yet_is_held_and_fetched_when_released(
    tmp_path: Path,
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        verbs = TransferOperations(node.engine)
        for before in (S.SCHE, S.FETC):
            number = await node.store.write(add, before.code, status=before, stored=False)
            assert (await verbs.hold(number, ANN)).status is S.HOLD
            assert await node.store.read(transfers.next_preset, "D") is None
            assert (await verbs.release(number, ANN)).status is S.SCHE
            assert await node.store.read(transfers.next_preset, "D") is not None
            await verbs.delete(number, ANN)


@dataclass
class Claim:
    entry: Any


@dataclass
class Attempt:
    """What a stop asks of a running attempt."""

    claimed: Claim
    meter: Meter
    ended: asyncio.Event


@pytest.mark.parametrize(
    ("verb", "immediate", "state"),
    [
        ("stop", False, StoredState.STOP),
        ("stop", True, StoredState.STOP),
        ("hold", True, StoredState.STOP),
        ("restart", False, StoredState.WAIT),
        ("restart", True, StoredState.WAIT),
    ],
)
async def test_entities_14_stop_and_restart_of_a_destination(
    tmp_path: Path, verb: str, *, immediate: bool, state: StoredState
) -> None:
    """Graceful lets run what runs; immediate interrupts deliveries, retrievals and discoveries."""
    async with small_node(tmp_path, clock=FakeClock()) as node, asyncio.TaskGroup() as group:
        await host(node, "feed", role=HostRole.ACQUISITION)
        await node.destination("D", acquisition=True, hosts=("feed",))
        engine, sent, fetched, ended = node.engine, Meter(), Meter(), asyncio.Event()
        ended.set()
        attempt: Any = Attempt(Claim(node.core.snapshot.destination("D")), sent, ended)
        engine.attempts.running[1] = attempt
        engine._retrieval("D").meters[1] = fetched
        discovery = engine._acquisition(("D", "feed"), "acquisition")
        discovery._task = group.create_task(asyncio.sleep(60))
        await getattr(node.destinations, verb)("D", ANN, immediate=immediate)
        await asyncio.sleep(0)
        assert node.core.snapshot.destination("D").state is state
        assert discovery._task.cancelled() is immediate
        for meter in (sent, fetched):
            if immediate:
                with pytest.raises(RemoteCancelled):
                    meter.add(1)
            else:
                meter.add(1)
        discovery._task.cancel()
        engine.attempts.running.clear()


async def test_entities_14_delete_of_a_destination(tmp_path: Path) -> None:
    """Its transfers and content go; a host stays for those who share it."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await host(node, "h")
        for name in "DE":
            await node.destination(name, hosts=("h",))
        number = await node.store.write(add)
        await node.destinations.delete("D", ANN)
        assert (await get(node, number)).deleted
        assert sorted(node.core.snapshot.destinations) == ["E"]
        assert [one.name for one in node.core.snapshot.hosts_of("E", HostRole.DISSEMINATION)] == [
            "h"
        ]


async def test_entities_14_verbs_of_a_host(tmp_path: Path) -> None:
    """Order of use, active or not, and statistics from nothing."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        for name in "ab":
            await host(node, name)
        verbs = HostOperations(node.engine)

        def used() -> list[str]:
            found = node.core.snapshot.hosts_of("D", HostRole.DISSEMINATION)
            return [one.name for one in found]

        await node.destination("D", hosts=("a", "b"))
        assert used() == ["a", "b"]
        await node.destination("D", hosts=("b", "a"))
        assert used() == ["b", "a"]
        await host(node, "b", active=False)
        assert used() == ["a"]
        await node.store.write(hosts.count, "a", sent=7, micros=3)
        view = await verbs.view("a")
        assert (view.connections, view.bytes) == (1, 7)
        await verbs.reset_statistics("a", ANN)
        view = await verbs.view("a")
        assert (view.connections, view.bytes) == (0, 0)


async def test_entities_14_run_a_discovery_now(tmp_path: Path) -> None:
    """At all destinations of the host or at one; what runs is interrupted and begins again."""
    async with small_node(tmp_path, clock=FakeClock()) as node, asyncio.TaskGroup() as group:
        await host(node, "feed", role=HostRole.ACQUISITION)
        await host(node, "out")
        for name in "DE":
            await node.destination(name, acquisition=True, hosts=("feed", "out"))
        verbs = HostOperations(node.engine)
        with pytest.raises(BadState, match="no acquisition host"):
            await verbs.acquire("out", ANN)
        looks = {name: node.engine._acquisition((name, "feed"), "acquisition") for name in "DE"}
        task = looks["D"]._task = group.create_task(asyncio.sleep(60))
        assert await verbs.acquire("feed", ANN, destination="E") == ["E"]
        assert (looks["D"]._now, looks["E"]._now) == (False, True)
        assert sorted(await verbs.acquire("feed", ANN)) == ["D", "E"]
        await asyncio.sleep(0)
        assert task.cancelled()
        looks["D"]._now, looks["D"]._task = False, group.create_task(asyncio.sleep(60))
        assert await verbs.interrupt("feed", ANN) == ["D"]
        assert not looks["D"]._now  # its clock counts from now


async def test_entities_14_changes_leave_a_trace(tmp_path: Path) -> None:
    """entities.md 7, ChangeLog: who, when, what, old and new value."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        number = await node.store.write(add)
        await TransferOperations(node.engine).hold(number, ANN)
        rows = await node.store.read(history.audit, before=None, limit=1)
        (row,) = rows
        assert (row.time, row.actor, row.action) == (START, "ann", "hold")
        assert (row.object_type, row.object_name) == ("transfer", str(number))
        assert row.difference == {"status": ["queued", "standby"]}


# --- people --------------------------------------------------------------------------------------


def test_entities_7_permissions_and_services() -> None:
    names = "delete dir get mkdir mtime put rename rmdir size"
    assert [one.value for one in Permission] == names.split()
    assert [one.value for one in Service] == ["standard-login", "open-access", "self-service"]


async def test_entities_7_fields_of_people_are_kept(tmp_path: Path) -> None:
    """Data user, policy and web user come back from the store as they were given."""
    user = DataUser(
        login="bob", service=Service.SELF, active=False, comment="Bob", country="fr",
        operations=frozenset({Permission.DIR, Permission.GET}), destinations=("D",),
        policies=("p",), options={"portal.maxConnections": "3"},
    )  # fmt: skip
    policy = Policy(
        name="p", active=False, comment="all", destinations=("D",),
        operations=frozenset({Permission.PUT}), options={"portal.maxConnections": "7"},
    )  # fmt: skip
    web = WebUser(
        name="eve", active=False, comment="Eve", grants=(Grant(role="operator", scope="N*"),)
    )
    async with small_node(tmp_path) as node:
        await node.destination("D")
        await node.accounts.put_policy(policy, ANN)
        await node.user(**{name: getattr(user, name) for name in PEOPLE})
        await node.accounts.put_web_user(web, Credentials(), ANN)
    async with small_node(tmp_path) as node:
        found = (await node.accounts.user("bob")).user
        assert replace(found, has_password=False) == user
        assert found.has_password
        assert await node.accounts.policy("p") == policy
        assert (await node.accounts.web_user("eve")).user == web


PEOPLE = (
    "login", "service", "active", "comment", "country", "operations", "destinations", "policies",
    "options",
)  # fmt: skip
