"""The engine's watches, each alone: room, clock steps, ageing, checks, mails, suspects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.breaker import Breakers
from ecpds.engine.clockwatch import ClockWatch, settle_times
from ecpds.engine.guard import LAST, Guard
from ecpds.engine.hostchecks import HostChecks, is_due
from ecpds.engine.mailnotices import MailNotices
from ecpds.engine.operations.actor import SYSTEM, Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission
from ecpds.model.destination import DestinationState
from ecpds.model.errors import InputError, RemoteCancelled, StorageFull
from ecpds.model.host import Host
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Reason
from ecpds.store import destinations, files, history, transfers
from ecpds.store.db import Connection
from ecpds.transfer.meter import Meter
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

LOST = Reason(kind="transient", code="remote-lost", text="gone")
ANN = Actor(name="ann")
S = TransferStatus


def add(db: Connection, /, now: datetime, name: str = "D", **fields: Any) -> int:
    """Add a queued transfer."""
    file = files.insert(db, DataFile(id=0, arrived_at=now, stored=True, size=1), {})
    values: dict[str, Any] = {
        "destination": name, "data_file": file, "target": "a", "key": (name, "a", ""),
        "identity": "", "priority": 50, "status": S.WAIT, "scheduled_at": now, "queue_at": now,
        "expires_at": now + timedelta(days=2),
    }  # fmt: skip
    return transfers.insert(db, transfers.NewTransfer(**(values | fields)), now=now)


def mails(node: SmallNode) -> list[Any]:
    """Return the mails that were written, oldest first."""
    folder = node.core.settings.data_dir / "mail"
    return [message_from_bytes(one.read_bytes()) for one in sorted(folder.glob("*.eml"))]


async def test_room_that_runs_short_stops_the_least_important_first(tmp_path: Path) -> None:
    """The limit falls and rises with the room, with a margin on the way back."""
    async with small_node(tmp_path) as node:
        volume = node.core.objects.volumes[0]
        eased: list[int] = []
        guard = Guard(node.core, lambda: eased.append(guard.cutoff))
        volume._total = 100 * 1024**3
        volume._looked = float("inf")
        low = node.core.settings.scheduler.shed_below
        for room, cutoff in ((low, LAST), (low // 2, 49), (low // 2 + low // 50, 49), (0, 0)):
            volume._free = room + volume.reserve
            await guard.look()
            assert guard.cutoff == cutoff
        with pytest.raises(StorageFull):
            guard.check(1)
        guard.check(0)
        volume._free = volume.reserve + 2 * low
        await guard.look()
        assert (guard.cutoff, eased) == (LAST, [LAST])


async def test_a_submission_that_has_to_wait_is_refused(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("D", source_host="")
        node.engine.watches.guard.cutoff = 20
        with pytest.raises(StorageFull):
            await node.engine.submit(Submission(destination="D", target="a", priority=21))
        await node.engine.submit(Submission(destination="D", target="a", priority=20))


async def test_the_clock_goes_back_a_day(tmp_path: Path) -> None:
    """What was due soon is due now, promises keep their distance, nothing expires early."""
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")
        told: list[str] = []
        steady = 0.0
        watch = ClockWatch(
            node.core, lambda: told.append("back"), lambda _: told.append("on"), lambda: steady
        )
        day = timedelta(days=1)
        now = await node.store.write(add, START)
        later = await node.store.write(
            add, START, scheduled_at=START + timedelta(hours=2), queue_at=START + timedelta(hours=2)
        )
        clock._now = START - day
        steady = 5.0
        await watch.look()
        assert told == ["back"]
        one, other = [await node.store.read(transfers.get, number) for number in (now, later)]
        assert one is not None
        assert other is not None
        assert one.due_at == one.created_at == START - day
        assert one.expires_at == START + day
        assert other.due_at == START - day + timedelta(hours=2)
        assert await node.store.write(settle_times, now=START - day) == 0


async def test_the_clock_goes_on_a_day_and_nothing_expires_for_a_while(tmp_path: Path) -> None:
    """A wrong clock that is set right again has thrown nothing away."""
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")
        retention = node.engine.retention
        watch = ClockWatch(node.core, lambda: None, retention.hold, lambda: 0.0)
        number = await node.store.write(add, START, expires_at=START + timedelta(hours=3))
        clock._now = START + timedelta(days=1)
        await watch.look()
        assert await retention.expire() == 0
        clock._now = START
        one = await node.store.read(transfers.get, number)
        assert one is not None
        assert not one.deleted
        retention.hold(timedelta(seconds=-1))
        clock._now = START + timedelta(days=1)
        assert await retention.expire() == 1


async def test_waiting_makes_important_where_that_is_asked(tmp_path: Path) -> None:
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D", options={"scheduler.ageing": "10m"})
        await node.destination("E")
        ageing = node.engine.watches.ageing
        numbers = [await node.store.write(add, START, name) for name in "DE"]
        await ageing.look()
        for _ in range(3):
            clock._now += timedelta(minutes=10)
            await ageing.look()
        found = [await node.store.read(transfers.get, number) for number in numbers]
        assert [one.priority for one in found if one is not None] == [47, 50]


async def test_hosts_are_checked_and_mails_tell_only_changes(tmp_path: Path) -> None:
    """notify_once: first result, then only another one."""
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        out = tmp_path / "out"
        host = Host(
            name="h", method="genericFile", directory=f"{node.core.settings.data_dir}/out/$x",
            check=True, user_mail="ops@example.org", mail_on_success=True, mail_on_error=True,
            notify_once=True,
        )  # fmt: skip
        del out
        good = replace(host, directory=f"{node.core.settings.data_dir}/out/$dataTransfer[name]")
        bad = replace(host, directory="/proc/nowhere/$dataTransfer[name]")
        await HostOperations(node.engine).put(good, SYSTEM)
        checks = HostChecks(node.core, Breakers())
        for _ in range(2):
            await checks.look()
            clock._now += timedelta(minutes=10)
        assert (node.core.settings.data_dir / "out" / "ecpds.tst").exists()
        assert len(mails(node)) == 1
        await HostOperations(node.engine).put(bad, SYSTEM)
        for _ in range(2):
            await checks.look()
            clock._now += timedelta(minutes=10)
        subjects = [one["Subject"] for one in mails(node)]
        assert len(subjects) == 2
        assert "worked" in subjects[0]
        assert "failed" in subjects[1]


def test_a_check_in_the_future_is_due() -> None:
    host = Host(name="h", check_frequency=timedelta(minutes=10))
    assert is_due(host, None, START)
    assert is_due(host, START + timedelta(days=1), START)
    assert not is_due(host, START - timedelta(minutes=9), START)


async def test_mails_about_transfers_and_changes(tmp_path: Path) -> None:
    """One mail for many steps; the first retry is silent; who did not ask gets none."""
    async with small_node(tmp_path) as node:
        flags: dict[str, Any] = {
            f"mail_on_{word}": True for word in ("start", "end", "error", "update")
        }
        await node.destination("D", user_mail="a@example.org; b@example.org", **flags)
        await node.destination("E", user_mail="c@example.org")
        notices = MailNotices(node.core)
        await notices.look()
        now = node.core.clock.now()

        def steps(db: Connection) -> int:
            number = add(db, now)
            for status, error in ((S.EXEC, False), (S.RETR, True), (S.FAIL, True), (S.DONE, False)):
                history.step(db, number, "D", status, time=now, comment="x", error=error)
            history.step(db, add(db, now, "E"), "E", S.DONE, time=now)
            return number

        number = await node.store.write(steps)
        await TransferOperations(node.engine).prioritise(number, ANN, 3)
        await notices.look()
        (mail,) = mails(node)
        assert mail["To"] == "a@example.org, b@example.org"
        assert mail["Subject"] == "[m1] D: 1 started, 1 failed, 1 done, 1 changed"
        text = mail.get_payload(decode=True).decode()
        assert "prioritise transfer" in text
        assert "by ann" in text
        again = MailNotices(node.core)  # after a restart
        await again.look()
        assert len(mails(node)) == 1


def test_a_suspect_host_is_used_after_its_probe() -> None:
    """Revert mode: no real file tries the first host again."""
    breakers = Breakers()
    breakers.suspect("A", now=START, version=1)
    reason = breakers.open_reason("A", version=1)
    assert reason is not None
    assert reason.code == "suspect"
    assert breakers.due(START) == ["A"]
    breakers.probe_failed("A", LOST, now=START)
    assert breakers.next_probe() == START + timedelta(seconds=30)
    breakers.succeeded("A")
    assert breakers.open_reason("A", version=1) is None


async def test_late_transfers_of_monitored_destinations_are_counted(tmp_path: Path) -> None:
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")
        await node.destination("E", monitor=False)
        for name in "DDE":
            await node.store.write(add, START, name)
        late = node.core.metrics.late
        await node.engine.watches.lateness.look()
        assert next(iter(late.collect())).samples == []
        clock._now += timedelta(minutes=11)
        await node.engine.watches.lateness.look()
        (sample,) = next(iter(late.collect())).samples
        assert (sample.labels, sample.value) == ({"destination": "D"}, 2.0)


async def test_what_runs_an_hour_after_a_graceful_stop_is_interrupted(tmp_path: Path) -> None:
    """schedulers.md 4.7: at most an hour to finish."""
    clock = FakeClock(START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")
        scheduler = node.engine._dissemination("D")
        scheduler.running = 1
        await node.destinations.stop("D", ANN)
        meter = Meter()

        @dataclass
        class Entry:
            name: str = "D"

        @dataclass
        class Claim:
            entry: Entry

        @dataclass
        class Running:
            claimed: Claim
            meter: Meter

        node.engine.attempts.running[1] = Running(Claim(Entry()), meter)  # type: ignore[assignment]  # what is asked of it
        async with asyncio.TaskGroup() as group:
            assert await scheduler._start_due(group) == START + timedelta(hours=1)
            meter.add(1)
            clock._now += timedelta(hours=1)
            await scheduler._start_due(group)
        with pytest.raises(RemoteCancelled):
            meter.add(1)
        node.engine.attempts.running.clear()


async def test_a_destination_that_wants_it_begins_anew_after_a_change(tmp_path: Path) -> None:
    """stopIfDirty: first host, first round."""
    async with small_node(tmp_path) as node:
        for name, dirty in (("D", True), ("E", False)):
            await node.destination(name, stop_if_dirty=dirty)
            state = DestinationState(current_host="b", failures=3, round=4)
            await node.store.write(destinations.set_run, name, state)
            await node.destination(name, stop_if_dirty=dirty, comment="changed")
        found = [await node.store.read(destinations.state, name) for name in "DE"]
        assert [(one.current_host, one.round) for one in found if one] == [("", 1), ("b", 4)]


@pytest.mark.parametrize(
    ("field", "value", "is_new"),
    [("comment", "moved", True), ("comment", "", False)],
    ids=["changed", "same"],
)
async def test_a_destination_that_wants_it_begins_anew_after_a_change_of_its_host(
    tmp_path: Path, field: str, value: str, *, is_new: bool
) -> None:
    """schedulers.md 4.1: `stopIfDirty` looks at the hosts too."""
    async with small_node(tmp_path) as node:
        for name in "ab":
            await host(node, name)
        await node.destination("D", stop_if_dirty=True, hosts=("a", "b"))
        state = DestinationState(current_host="b", failures=3, round=4)
        await node.store.write(destinations.set_run, "D", state)
        await host(node, "b", **{field: value})
        found = await node.store.read(destinations.state, "D")
        assert found is not None
        assert found.current_host == ("" if is_new else "b")


async def host(node: SmallNode, name: str, **fields: Any) -> None:
    """Create or change a dissemination host."""
    made = Host(name=name, method="genericTest", directory="/x/", **fields)
    await HostOperations(node.engine).put(made, ANN)


async def test_a_hold_ends_by_itself_unless_somebody_decides_otherwise(tmp_path: Path) -> None:
    """Also after a restart; a stop meanwhile stays a stop."""
    clock = FakeClock(START)
    until = START + timedelta(hours=1)
    async with small_node(tmp_path, clock=clock) as node:
        for name in "DEF":
            await node.destination(name)
            await node.destinations.hold(name, ANN, reason="works", until=until)
        await node.destinations.start("E", ANN)
        await node.destinations.stop("F", ANN)
        with pytest.raises(InputError):
            await node.destinations.hold("D", ANN, until=START)
    async with small_node(tmp_path, clock=clock) as node:
        await node.engine.watches.holds.look()
        assert node.core.snapshot.destination("D").state is StoredState.STOP
        clock._now = until
        await node.engine.watches.holds.look()
        await node.core.configuration.reload()
        states = [node.core.snapshot.destination(name).state for name in "DEF"]
        assert states == [StoredState.WAIT, StoredState.WAIT, StoredState.STOP]
