"""Worked examples of schedulers.md, entities.md and events.md on the whole engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.core import DestinationEntry
from ecpds.engine.dissemination import DestinationScheduler
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.submit import Submission
from ecpds.model.destination import DestinationState
from ecpds.model.errors import BadState
from ecpds.model.host import Host
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import claims, destinations, files, transfers
from ecpds.store.db import Connection
from tests.clock import FakeClock
from tests.flow.test_engine import ANN, Bench, bench, done, plain
from tests.node import SmallNode, small_node

S = TransferStatus
MINUTE = timedelta(minutes=1)


async def events(made: Bench) -> list[Any]:
    await made.node.engine.eventlog.drain()
    path = made.node.settings.data_dir / "log" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_events_ex_5_three_failures_then_success(tmp_path: Path) -> None:
    """3 ERR, 1 UPH."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False, max_start=0)
        document["hosts"][1]["retry_frequency"] = "1ms"
        await made.apply(document)
        (made.out / "a").mkdir(parents=True)
        number = await made.push("a")

        async def failed() -> bool:
            found: bool = (await made.get(number)).attempts >= 3
            return found

        async with asyncio.timeout(20):
            while not await failed():
                await asyncio.sleep(0.005)
        await TransferOperations(made.node.engine).stop(number, ANN)
        attempts = (await made.get(number)).attempts
        (made.out / "a").rmdir()
        await TransferOperations(made.node.engine).requeue(number, ANN)
        await made.wait(done(1))
        kinds = [event["type"] for event in await events(made)]
        assert kinds.count("UPH") == 1
        assert kinds.count("ERR") in {attempts, attempts - 1}
        assert attempts >= 3


async def test_events_ex_8_a_file_with_two_aliases_is_retrieved(tmp_path: Path) -> None:
    """3 RET with the same file name."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, aliases=[{"to": "E"}, {"to": "F"}])
        document["destinations"] += [{"name": "E"}, {"name": "F"}]
        await made.apply(document)
        made.lay("x.grib")
        await made.wait(done(1))
        found = [event for event in await events(made) if event["type"] == "RET"]
        assert {event["destination"]["name"] for event in found} == {"D", "E", "F"}
        assert len({event["file"]["source"] for event in found}) == 1


async def test_entities_12_content_stays_until_the_last_transfer_is_gone(tmp_path: Path) -> None:
    """T1 DONE with keepInSpool 1 is deleted, F stays for the held copy; that one goes, F goes."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False, keep_in_spool="success", aliases=[{"to": "E"}])
        document["destinations"].append({"name": "E", "options": {"scheduler.standby": "yes"}})
        await made.apply(document)
        number = await made.push("a")

        def sent(found: list[Transfer]) -> bool:
            return not found  # deleted with success

        await made.wait(sent)
        first = await made.get(number)
        assert (first.status, first.deleted) == (S.DONE, True)
        (copy,) = await made.all("E")
        assert copy.status is S.HOLD
        file = await made.node.core.store.read(files.get, first.data_file)
        assert file is not None
        assert not file.deleted
        verbs = TransferOperations(made.node.engine)
        await verbs.stop(copy.id, ANN)
        await verbs.delete(copy.id, ANN)
        file = await made.node.core.store.read(files.get, first.data_file)
        assert file is not None
        assert file.deleted


async def test_schedulers_4_4_a_success_at_12_03_frees_500_files_delayed_to_12_10(
    tmp_path: Path,
) -> None:
    """The site returns: all 500 are due at 12:03."""
    noon = datetime(2031, 5, 4, 12, tzinfo=UTC)
    clock = FakeClock(noon)
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")

        def delayed(db: Connection) -> None:
            for number in range(500):
                one = add(db, node, f"f{number}", noon)
                later = noon + 10 * MINUTE
                waiting = replace(
                    one, status=S.RETR, requeue_history=1, queue_at=later, due_at=later
                )
                transfers.save(db, waiting, now=noon)

        await node.store.write(delayed)
        assert await node.store.read(transfers.next_due, "D") == noon + 10 * MINUTE
        assert await node.store.write(transfers.release_backlog, "D") == 500
        found, _ = await node.store.write(claims.claim_due, "D", now=noon + 3 * MINUTE, limit=1000)
        assert len(found) == 500


def add(db: Connection, node: SmallNode, name: str, now: datetime) -> Transfer:
    """Add a queued transfer of D."""
    del node
    file = files.insert(db, DataFile(id=0, arrived_at=now, stored=True, size=1), {})
    number = transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=file, target=name, key=("D", name, ""), identity=name,
            priority=99, status=S.WAIT, scheduled_at=now, queue_at=now,
            expires_at=now + timedelta(days=2),
        ),
        now=now,
    )  # fmt: skip
    found = transfers.get(db, number)
    assert found is not None
    return found


# --- transitions by people, entities.md section 10 ------------------------------------------------

Row = tuple[str, set[TransferStatus]]
ROWS: list[Row] = [
    ("stop", set(S) - {S.STOP, S.DONE}),
    ("requeue", {S.HOLD, S.STOP, S.FAIL, S.DONE, S.INTR, S.INIT}),
    ("hold", set(S) - {S.HOLD}),
    ("release", {S.HOLD}),
    ("schedule_now", {S.WAIT, S.RETR}),
]


@pytest.mark.parametrize("status", list(S), ids=lambda one: one.code)
async def test_entities_10_what_people_may_do_in_each_status(
    tmp_path: Path, status: TransferStatus
) -> None:
    """Every verb in every status: allowed or refused, as the table says."""
    async with small_node(tmp_path) as node:
        await host(node)
        await node.destination("D", hosts=("h",))
        verbs, now = TransferOperations(node.engine), node.core.clock.now()
        for verb, allowed in ROWS:

            def prepared(db: Connection, name: str = verb) -> int:
                one = add(db, node, name, now)
                transfers.save(db, replace(one, status=status), now=now)
                return one.id

            number = await node.store.write(prepared)
            act = getattr(verbs, verb)(number, ANN)
            if status in allowed:
                await act
            else:
                with pytest.raises(BadState):
                    await act


async def host(node: SmallNode) -> None:
    """Create a host."""
    made = Host(name="h", method="genericTest", directory="/x/")
    await HostOperations(node.engine).put(made, ANN)


async def test_entities_14_nothing_but_stop_on_a_deleted_or_expired_transfer(
    tmp_path: Path,
) -> None:
    async with small_node(tmp_path) as node:
        await node.destination("D")
        verbs, now = TransferOperations(node.engine), node.core.clock.now()

        def expired(db: Connection) -> int:
            one = add(db, node, "a", now - timedelta(days=3))
            return one.id

        number = await node.store.write(expired)
        for verb in ("hold", "schedule_now"):
            with pytest.raises(BadState):
                await getattr(verbs, verb)(number, ANN)
        assert (await verbs.stop(number, ANN)).status is S.STOP


# --- active times, zones and daylight saving ------------------------------------------------------


class Looks:
    """One scheduler that only looks at the clock."""

    def __init__(self, node: SmallNode, entry: DestinationEntry) -> None:
        self.node, self.entry = node, entry
        self.clock = node.core.clock
        assert isinstance(self.clock, FakeClock)
        self.scheduler: DestinationScheduler = node.engine._dissemination("D")

    async def at(self, text: str) -> tuple[bool, datetime | None]:
        """Return whether transfers may start at that time UTC, and when it looks again."""
        assert isinstance(self.clock, FakeClock)
        self.clock._now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        async with asyncio.TaskGroup() as group:
            due = await self.scheduler._start_due(group)
        return self.scheduler.waits_for != "schedule", due


@pytest.mark.parametrize(
    ("ranges", "zone", "moments"),
    [
        # over midnight, UTC
        ("22:00-06:00", "UTC", {
            "2031-05-04T21:59": (False, "2031-05-04T22:00"),
            "2031-05-04T23:30": (True, None),
            "2031-05-05T05:59": (True, None),
            "2031-05-05T06:00": (False, "2031-05-05T22:00"),
        }),
        # a named zone: 08:00 in Paris is 06:00 UTC in summer and 07:00 in winter
        ("08:00-09:00", "Europe/Paris", {
            "2031-07-01T05:59": (False, "2031-07-01T06:00"),
            "2031-07-01T06:00": (True, None),
            "2031-01-15T06:30": (False, "2031-01-15T07:00"),
            "2031-01-15T07:30": (True, None),
        }),
        # the night of the change to summer time: 02:30 does not exist, the range begins with 03:00
        ("02:30-04:00", "Europe/Paris", {
            "2031-03-30T00:59": (False, "2031-03-30T01:00"),
            "2031-03-30T01:00": (True, None),
            "2031-03-30T01:30": (True, None),
            "2031-03-30T02:00": (False, "2031-03-31T00:30"),
        }),
        # the night back: 02:30 comes twice and both are inside
        ("02:00-03:00", "Europe/Paris", {
            "2031-10-26T00:30": (True, None),
            "2031-10-26T01:30": (True, None),
            "2031-10-26T02:00": (False, "2031-10-27T01:00"),
        }),
    ],
    ids=["midnight", "zone", "spring", "autumn"],
)  # fmt: skip
async def test_active_times(
    tmp_path: Path, ranges: str, zone: str, moments: dict[str, tuple[bool, str | None]]
) -> None:
    """schedulers.md 9: wrap and explicit zone; never stuck at a change of time."""
    clock = FakeClock(datetime(2031, 1, 1, tzinfo=UTC))
    async with small_node(tmp_path, clock=clock) as node:
        await host(node)
        options = {"scheduler.activeTimeRange": ranges, "scheduler.timeZone": zone}
        await node.destination("D", hosts=("h",), options=options)
        looks = Looks(node, node.core.snapshot.destination("D"))
        for text, (may, again) in moments.items():
            found, due = await looks.at(text)
            assert found is may, text
            if again is not None:
                assert due is not None
                assert due.astimezone(UTC) == datetime.fromisoformat(again).replace(tzinfo=UTC)


# --- stops, give-ups -----------------------------------------------------------------------------


async def test_a_destination_that_gave_up_goes_on_when_a_host_answers(tmp_path: Path) -> None:
    """With a notice; one that a person stopped stays stopped."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False, retry_count=1, max_start=0)
        document["hosts"][1]["retry_count"] = 1
        await made.apply(document)
        (made.out / "a").mkdir(parents=True)
        number = await made.push("a")
        core = made.node.core

        async def state() -> DestinationState:
            found = await core.store.read(destinations.state, "D")
            assert found is not None
            return found

        async def until(condition: Callable[[DestinationState], bool]) -> None:
            async with asyncio.timeout(20):
                while not condition(await state()):
                    await asyncio.sleep(0.01)

        await until(lambda one: one.state is StoredState.HOLD)
        (made.out / "a").rmdir()
        async with asyncio.timeout(20):  # the first look may come before the snapshot knows
            while (await state()).state is not StoredState.WAIT:
                await made.node.engine.watches.recovering.look()
                await asyncio.sleep(0.01)
        await made.wait(done(1))
        assert (await made.get(number)).status is S.DONE
        await DestinationOperations(made.node.engine).stop("D", ANN)
        await made.node.engine.watches.recovering.look()
        assert (await state()).state is StoredState.STOP


async def test_a_fetch_without_a_source_host_fails_with_a_reason(tmp_path: Path) -> None:
    """schedulers.md 3 NEW: no endless loop."""
    async with bench(tmp_path, {}) as made:
        await made.apply({"destinations": [{"name": "D"}]})
        await made.node.engine.submit(
            Submission(destination="D", target="a", source="/x", group_by="G")
        )
        (one,) = await made.wait(lambda found: found and found[0].status is S.FAIL)
        assert one.reason is not None
        assert "has no source host" in one.reason.text


async def test_schedulers_3_the_size_rule(tmp_path: Path) -> None:
    """Another size than the announced one fails, unless the pattern passes it; unknown is taken."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, {"acquisition.skipPostRetrievalSizeCheckPattern": ".*/free.*"})
        document["hosts"][0]["directory"] = f"{made.feed}/none/"
        await made.apply(document)
        for name, size in (("same", 7), ("unknown", -1), ("free", 3), ("short", 3), ("long", 9)):
            given = Submission(
                destination="D", target=name, source=str(made.lay(name, b"content")), size=size,
                host="feed", group_by="G",
            )  # fmt: skip
            await made.node.engine.submit(given)
        ended = {S.DONE, S.FAIL}
        found = await made.wait(
            lambda ones: len(ones) == 5 and all(t.status in ended for t in ones)
        )
        failed = {t.target: t.reason.kind for t in found if t.status is S.FAIL and t.reason}
        assert failed == {"short": "verify", "long": "verify"}
        file = await made.node.core.store.read(files.get, found[2].data_file)
        assert file is not None
        assert (found[2].target, file.size) == ("free", 7)


async def test_schedulers_9_legacy_pause_stops_the_whole_destination(tmp_path: Path) -> None:
    """`scheduler.legacyPause = yes`: a failing file pauses its neighbours, as the original did."""
    async with bench(tmp_path, {}) as made:
        document = plain(made, acquisition=False, max_connections=1)
        document["destinations"][0]["options"] = {"scheduler.legacyPause": "yes"}
        document["hosts"][1] |= {"retry_frequency": "1h", "retry_count": 100}
        await made.apply(document)
        (made.out / "bad").mkdir(parents=True)
        bad = await made.push("bad")
        await made.wait(lambda ones: ones[0].status is S.RETR)
        good = await made.push("good")
        verbs = DestinationOperations(made.node.engine)
        async with asyncio.timeout(10):
            while (await verbs.view("D")).waits_for != "pause":
                await asyncio.sleep(0.01)
        assert (await made.get(good)).status is S.WAIT
        assert (await made.get(bad)).status is S.RETR


async def test_entities_12_what_is_over_is_forgotten_after_its_time(tmp_path: Path) -> None:
    """Deleted rows and their histories stay for `scheduler.history_for`, then they go."""
    clock = FakeClock()
    async with small_node(tmp_path, clock=clock) as node:
        await node.destination("D")
        given = Submission(destination="D", target="a", lifetime=timedelta(hours=1))
        number = (await node.engine.submit(given)).transfers[0]
        clock._now += timedelta(hours=2)
        retention, keep = node.engine.retention, node.core.settings.scheduler.history_for
        assert await retention.expire() == 1
        await retention.forget()
        assert await node.store.read(transfers.get, number) is not None
        clock._now += keep + timedelta(hours=1)
        await retention.forget()
        assert await node.store.read(transfers.get, number) is None
