"""Tables of entities.md that no other test holds, by section."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine import recovery
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.model.destination import Destination, IfTargetExist, KeepInSpool, OnHostFailure
from ecpds.model.errors import EcpdsError
from ecpds.model.host import Host
from ecpds.model.status import DestinationStatus, StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import files, history, transfers
from ecpds.store.db import Connection
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
T = DestinationStatus
ANN = Actor(name="ann")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_connections", 1),
        ("on_host_failure", OnHostFailure.STAY),
        ("retry_count", -1),
        ("retry_frequency", seconds(30)),
        ("reset_frequency", seconds(1200)),
        ("max_start", 2),
        ("start_frequency", seconds(600)),
        ("max_requeue", -1),
        ("max_pending", 8000),
        ("max_file_size", None),
        ("max_inactivity", seconds(0)),
        ("if_target_exist", IfTargetExist.OVERWRITE),
        ("keep_in_spool", KeepInSpool.EXPIRATION),
        ("mail_on_update", False),
        ("mail_on_start", False),
        ("mail_on_end", False),
        ("mail_on_error", False),
        ("stop_if_dirty", False),
        ("acquisition", False),
        ("backup", False),
        ("force_proxy", False),
        ("filter_name", "none"),
        ("group_by_date", False),
        ("date_format", "yyyyMMdd"),
    ],
)
def test_entities_3_defaults_of_a_destination(field: str, value: object) -> None:
    assert getattr(Destination(name="D"), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_connections", 1),
        ("retry_count", 15),
        ("retry_frequency", seconds(15)),
        ("acquisition_frequency", seconds(600)),
        ("network_name", "Internet"),
        ("network_code", "I"),
        ("check", False),
        ("check_frequency", seconds(600)),
        ("check_filename", "ecpds.tst"),
        ("mail_on_success", False),
        ("mail_on_error", False),
        ("notify_once", False),
    ],
)
def test_entities_4_defaults_of_a_host(field: str, value: object) -> None:
    assert getattr(Host(name="h"), field) == value


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("INIT", "Arriving"), ("SCHE", "Preset"), ("FETC", "Fetching"), ("HOLD", "StandBy"),
        ("WAIT", "Queued"), ("EXEC", "Transferring"), ("DONE", "Done"), ("RETR", "ReQueued"),
        ("STOP", "Stopped"), ("FAIL", "Failed"), ("INTR", "Interrupted"),
    ],
)  # fmt: skip
def test_entities_8_statuses_of_a_transfer(code: str, shown: str) -> None:
    status = TransferStatus.of_code(code)
    assert (status.code, status.label) == (code, shown)
    assert TransferStatus.of_word(shown) is TransferStatus.of_word(code) is status


@pytest.mark.parametrize(
    ("state", "fields", "expected"),
    [
        (StoredState.STOP, {"pending": 3}, T.STOPPED),
        (StoredState.STOP, {"running": 1}, T.STOPPED),  # what runs may end
        (StoredState.HOLD, {"pending": 3}, T.GAVE_UP),
        (StoredState.WAIT, {}, T.IDLE),
        (StoredState.WAIT, {"pending": 3}, T.WAITING),
        (StoredState.WAIT, {"pending": 3, "waits_for": "no-hosts"}, T.NO_HOSTS),
        (StoredState.WAIT, {"pending": 3, "pause": MINUTE}, T.SLEEPING),
        (StoredState.WAIT, {"pending": 3, "pause": -MINUTE}, T.WAITING),
        (StoredState.WAIT, {"pending": 3, "running": 1}, T.RUNNING),
        (StoredState.WAIT, {"pending": 3, "waits_for": "breaker"}, T.RETRYING),
        (None, {"pending": 3}, T.DISABLED),
    ],
)
async def test_entities_9_status_of_a_destination(
    tmp_path: Path, state: StoredState | None, fields: dict[str, Any], expected: T
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D", active=state is not None)
        core = node.core
        entry = core.snapshot.destination("D")
        known = {"D": replace(entry, state=state or StoredState.WAIT)}
        core.configuration.now = replace(core.snapshot, destinations=known)
        scheduler = node.engine._dissemination("D")
        scheduler.running = fields.get("running", 0)
        scheduler.waits_for = fields.get("waits_for", "")
        scheduler.pause_until = START + fields["pause"] if "pause" in fields else None
        assert scheduler.status(fields.get("pending", 0), START) is expected


def add(db: Connection, /, status: TransferStatus, name: str = "a", **fields: Any) -> Transfer:
    """Add a transfer of D that came just now."""
    file = files.insert(db, DataFile(id=0, arrived_at=START, stored=True, size=1), {})
    number = transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=file, target=name, key=("D", name, ""), identity=name,
            priority=50, status=S.WAIT, scheduled_at=START, queue_at=START,
            expires_at=START + 2 * DAY,
        ),
        now=START,
    )  # fmt: skip
    found = transfers.get(db, number)
    assert found is not None
    made = replace(found, status=status, **fields)
    transfers.save(db, made, now=START)
    return made


@pytest.mark.parametrize(
    ("before", "after", "deleted", "told"),
    [
        (S.INIT, S.INTR, True, False),
        (S.FETC, S.SCHE, False, True),
        (S.EXEC, S.RETR, False, True),
        (S.INTR, S.RETR, False, True),
        *((one, one, False, False) for one in (S.WAIT, S.RETR, S.HOLD, S.DONE, S.STOP, S.FAIL)),
    ],
    ids=lambda one: getattr(one, "code", ""),
)
async def test_entities_10_a_restart_of_the_daemon(
    tmp_path: Path, before: S, after: S, *, deleted: bool, told: bool
) -> None:
    """Also schedulers.md 4.7; the attempts of the present delay are not forgotten."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        one = await node.store.write(add, before, start_count=1)
        await node.store.write(recovery.settle, now=START)
        found = await node.store.read(transfers.get, one.id)
        assert found is not None
        assert (found.status, found.deleted, found.start_count) == (after, deleted, 1)
        steps = await node.store.read(history.steps, one.id)
        assert [step.status for step in steps] == ([S.INTR] if told else [])


@pytest.mark.parametrize(
    ("status", "fields", "counts"),
    [
        (S.WAIT, {}, False),
        (S.WAIT, {"start_count": 1}, True),
        (S.RETR, {}, True),
        (S.RETR, {"status_by": "ann"}, False),  # a person wanted it
        (S.STOP, {}, True),
        (S.STOP, {"status_by": "ann"}, False),
        (S.FAIL, {}, True),
        (S.DONE, {}, False),
        (S.HOLD, {}, False),
        (S.EXEC, {"start_count": 2}, False),
        (S.FAIL, {"deleted": True}, False),
    ],
)
async def test_entities_13_outstanding(
    tmp_path: Path, status: S, fields: dict[str, Any], *, counts: bool
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        await node.store.write(add, status, **fields)
        _, outstanding = await node.store.read(transfers.counts, "D")
        assert outstanding == counts


@pytest.mark.parametrize(("verb", "given", "field", "expected"), [
    ("prioritise", {"priority": 7}, "priority", 7),
    ("prioritise", {"priority": 0}, "priority", 0),
    ("prioritise", {"priority": 99}, "priority", 99),
    ("prioritise", {"priority": 100}, "priority", None),
    ("prioritise", {"priority": -1}, "priority", None),
    ("extend", {}, "expires_at", START + 3 * DAY),
])  # fmt: skip
async def test_entities_14_priority_and_lifetime(
    tmp_path: Path, verb: str, given: dict[str, Any], field: str, expected: object
) -> None:
    """0 to 99, else an error; a day longer."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D")
        one = await node.store.write(add, S.WAIT)
        act = getattr(TransferOperations(node.engine), verb)
        if expected is None:
            with pytest.raises(EcpdsError):
                await act(one.id, ANN, **given)
            return
        await act(one.id, ANN, **given)
        found = await node.store.read(transfers.get, one.id)
        assert getattr(found, field) == expected


async def test_entities_4_a_host_that_is_used_cannot_be_deleted(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        made = await used_host(node)
        with pytest.raises(EcpdsError, match="is used by D"):
            await HostOperations(node.engine).delete(made, ANN)


async def used_host(node: SmallNode) -> str:
    made = Host(name="h", method="genericTest", directory="/x/")
    await HostOperations(node.engine).put(made, ANN)
    await node.destination("D", hosts=("h",))
    return made.name
