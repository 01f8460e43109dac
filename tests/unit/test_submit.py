"""Submission: keys, duplicates, rules and aliases by the examples of the specification."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.engine.core import DestinationEntry, Snapshot
from ecpds.engine.submit import Plan, Registered, Submission, plan, register
from ecpds.model.destination import Alias, Destination
from ecpds.model.errors import (
    BadState,
    Duplicate,
    Expired,
    InputError,
    NotFound,
    TooLarge,
    TooManyPending,
)
from ecpds.model.families import IncomingOptions, MqttOptions, SchedulerOptions
from ecpds.model.names import ByteCount
from ecpds.model.rulesettings import parse_alias, parse_force
from ecpds.model.status import StoredState, TransferStatus
from ecpds.objects.directory import Stored
from ecpds.store import claims, destinations, files, transfers
from ecpds.store.db import Connection
from ecpds.store.migrate import migrate

NOW = datetime(2031, 5, 4, 10, 0, tzinfo=UTC)
CONTENT = Stored(volume="v", key="20310504/10/a", size=10, checksum="00000001")


def entry(destination: Destination) -> DestinationEntry:
    """Read a destination as the configuration does."""
    scheduler = SchedulerOptions.read(destination.options)
    return DestinationEntry(
        destination=destination,
        scheduler=scheduler,
        incoming=IncomingOptions.read(destination.options),
        mqtt=MqttOptions(),
        aliases=tuple((alias.to, parse_alias(alias.rule)) for alias in destination.aliases),
        force=parse_force(scheduler.force) if scheduler.force else None,
        active_times=None,
        state=StoredState.WAIT,
    )


def snapshot(*given: Destination) -> Snapshot:
    """Return a configuration of these destinations."""
    return Snapshot(destinations={one.name: entry(one) for one in given})


def one(target: str = "x.grib", **changes: object) -> Submission:
    """A submission of stored content to A."""
    plain = Submission(destination="A", target=target, content=CONTENT)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(name="db")
def database(tmp_path: Path) -> Iterator[Connection]:
    """A migrated store with destinations A, B and C."""
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    for name in "ABC":
        destinations.put(db, Destination(name=name), now=NOW)
    yield db
    db.close()


def submit(db: Connection, made: Plan, now: datetime = NOW) -> Registered:
    """Register in a transaction of its own."""
    db.execute("BEGIN IMMEDIATE")
    try:
        registered = register(db, made, now=now)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return registered


# --- aliases: schedulers.md section 7 ----------------------------------------------------------


def test_alias_example_1_pattern_and_priority() -> None:
    """x.grib copied with priority 20, x.txt not."""
    rule = Alias(to="B", rule=r"pattern=.*\.grib,priority=20")
    site = snapshot(Destination(name="A", aliases=(rule,)), Destination(name="B"))
    made = plan(one("x.grib"), site, NOW)
    assert [(t.destination, t.priority) for t in made.transfers] == [("A", 99), ("B", 20)]
    assert [t.destination for t in plan(one("x.txt"), site, NOW).transfers] == ["A"]


def test_alias_example_2_recursive_and_loops() -> None:
    """A->B recursive, B->C, B->A: submission to A gives A, B, C."""
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B", rule="recursive=yes"),)),
        Destination(name="B", aliases=(Alias(to="C"), Alias(to="A"))),
        Destination(name="C"),
    )
    assert [t.destination for t in plan(one(), site, NOW).transfers] == ["A", "B", "C"]


def test_alias_example_3_dates_from_the_target() -> None:
    """m/$date/$name with a source, a pattern and a delta."""
    rule = (
        "target=m/$date/$name,datesource=$target[0..8],datepattern=yyyyMMdd,"
        "dateformat=MMdd,datedelta=-1d"
    )
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B", rule=rule),)), Destination(name="B")
    )
    made = plan(one("20240301_a"), site, NOW)
    assert made.transfers[1].target == "m/0229/20240301_a"


def test_alias_delay_is_added_once_to_the_submitted_one() -> None:
    """Submitted 10 m, alias 5 m: 10:10 and 10:15."""
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B", rule="delay=5m"),)), Destination(name="B")
    )
    made = plan(one(delay=timedelta(minutes=10)), site, NOW)
    assert [t.scheduled_at - NOW for t in made.transfers] == [
        timedelta(minutes=10),
        timedelta(minutes=15),
    ]


# --- scheduler.force: schedulers.md section 6 ---------------------------------------------------


@pytest.mark.parametrize(
    ("force", "target", "asap", "standby", "delay"),
    [
        ("asap=yes;pattern=E1.*", "E1X", True, False, 0),
        ("asap=yes;pattern=E1.*", "F1X", False, False, 0),
        ("(=. .tmp) standby=yes\n(.= E1) delay=2h", "E1.tmp", False, True, 0),
        ("(=. .tmp) standby=yes\n(.= E1) delay=2h", "E1.dat", False, False, 2),
    ],
)
def test_force_examples(force: str, target: str, asap: bool, standby: bool, delay: int) -> None:
    """First matching line wins."""
    site = snapshot(Destination(name="A", options={"scheduler.force": force}))
    first = plan(one(target), site, NOW).transfers[0]
    assert (first.asap, first.standby) == (asap, standby)
    assert first.scheduled_at - NOW == timedelta(hours=delay)


@pytest.mark.parametrize(
    ("rule", "asked", "held"),
    [("yes", False, True), ("never", True, False), ("no", True, True), ("", False, False)],
)
def test_scheduler_standby(rule: str, asked: bool, held: bool) -> None:
    """yes holds, never releases, no changes nothing."""
    site = snapshot(Destination(name="A", options={"scheduler.standby": rule}))
    assert plan(one(standby=asked), site, NOW).transfers[0].standby is held


def test_delay_of_destination_adds_to_start_and_expiry() -> None:
    """Cumulative with the submitted delay."""
    site = snapshot(Destination(name="A", options={"scheduler.delay": "1h"}))
    first = plan(one(delay=timedelta(minutes=30)), site, NOW).transfers[0]
    assert first.scheduled_at - NOW == timedelta(minutes=90)
    assert first.expires_at - first.scheduled_at == timedelta(days=2)


# --- keys and duplicates: entities.md section 11, cli.md section 5 -------------------------------


def test_the_key_is_a_tuple_without_standby(db: Connection) -> None:
    """AB+C and A+BC are two; a standby copy is a duplicate."""
    site = snapshot(Destination(name="A"))
    assert plan(one("a.grib"), site, NOW).key == ("A", "a.grib", "")
    submit(db, plan(one("a.grib"), site, NOW))
    with pytest.raises(Duplicate, match="Duplicate DataFile found with 1"):
        submit(db, plan(one("a.grib", standby=True), site, NOW))


def test_cli_example_3_versions_are_two_files(db: Connection) -> None:
    """-version 1 and -version 2."""
    site = snapshot(Destination(name="A"))
    first = submit(db, plan(one(version="1"), site, NOW))
    second = submit(db, plan(one(version="2"), site, NOW))
    assert first.file != second.file


def test_portal_example_13_version_template() -> None:
    """$date-$target."""
    site = snapshot(Destination(name="A", options={"scheduler.version": "$date-$target"}))
    assert plan(one("x"), site, NOW).key == ("A", "x", "20310504-x")


def test_overwrite_keeps_ids_and_raises_the_instance(db: Connection) -> None:
    """Same file, same transfers, counters reset, instance + 1, old object let go."""
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B"),)),
        Destination(name="B"),
        Destination(name="C"),
    )
    first = submit(db, plan(one(), site, NOW))
    newer = replace(CONTENT, key="20310504/10/b", size=20)
    again = submit(db, plan(one(content=newer, on_duplicate="overwrite"), site, NOW))
    assert (again.file, sorted(again.transfers), again.updated) == (
        first.file,
        sorted(first.transfers),
        True,
    )
    file = files.get(db, first.file)
    assert file is not None
    assert (file.instance, file.size, file.object_key) == (1, 20, "20310504/10/b")
    assert [t.status for t in transfers.of_file(db, first.file)] == [TransferStatus.RETR] * 2
    assert files.replaced(db, limit=10) == [("v", "20310504/10/a")]


def test_overwrite_runs_the_alias_rules_again(db: Connection) -> None:
    """A copy that was not planned before is made now."""
    alone = snapshot(Destination(name="A"), Destination(name="B"))
    first = submit(db, plan(one(), alone, NOW))
    copied = snapshot(Destination(name="A", aliases=(Alias(to="B"),)), Destination(name="B"))
    again = submit(db, plan(one(on_duplicate="overwrite"), copied, NOW))
    assert len(first.transfers) == 1
    assert {t.destination for t in transfers.of_file(db, again.file)} == {"A", "B"}


def test_skip_changes_nothing(db: Connection) -> None:
    """The existing transfers are the answer."""
    site = snapshot(Destination(name="A"))
    first = submit(db, plan(one(), site, NOW))
    again = submit(db, plan(one(on_duplicate="skip"), site, NOW))
    assert (again.file, again.transfers, again.skipped) == (first.file, first.transfers, True)


def test_failed_only_touches_only_failed_ones(db: Connection) -> None:
    """A rediscovered file gives its failed transfer another life."""
    site = snapshot(Destination(name="A", aliases=(Alias(to="B"),)), Destination(name="B"))
    fetched = one(content=None, size=10)
    first = submit(db, plan(fetched, site, NOW))
    ids = {t.destination: t.id for t in transfers.of_file(db, first.file)}
    transfers.set_status(db, ids["A"], TransferStatus.FAIL, now=NOW)
    submit(db, plan(replace(fetched, on_duplicate="failed_only"), site, NOW))
    now = {t.destination: t.status for t in transfers.of_file(db, first.file)}
    assert now == {"A": TransferStatus.SCHE, "B": TransferStatus.SCHE}


def test_several_files_under_one_key_are_refused(db: Connection) -> None:
    """The caller must name one."""
    site = snapshot(Destination(name="A"))
    first = submit(db, plan(one("x"), site, NOW))
    second = submit(db, plan(one("y"), site, NOW))
    transfers.rename(db, second.transfers[0], "x", "x", temporary=False, now=NOW)
    with pytest.raises(BadState, match="2 data files"):
        submit(db, plan(one("x", on_duplicate="overwrite"), site, NOW))
    assert first.file != second.file


# --- limits -----------------------------------------------------------------------------------


def test_max_pending_accepts_n_and_refuses_the_next(db: Connection) -> None:
    """interface.md 8: n are accepted."""
    site = snapshot(Destination(name="A", max_pending=2))
    for number in range(2):
        submit(db, plan(one(f"f{number}"), site, NOW))
    with pytest.raises(TooManyPending):
        submit(db, plan(one("f2"), site, NOW))


def test_one_refusal_refuses_all(db: Connection) -> None:
    """A copy that does not fit leaves nothing behind."""
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B"),)), Destination(name="B", max_pending=1)
    )
    submit(db, plan(Submission(destination="B", target="b", content=CONTENT), site, NOW))
    with pytest.raises(TooManyPending):
        submit(db, plan(one(), site, NOW))
    assert transfers.with_key(db, ("A", "x.grib", "")) == []


def test_max_file_size() -> None:
    """Declared size; an unknown one passes."""
    site = snapshot(Destination(name="A", max_file_size=ByteCount(9)))
    with pytest.raises(TooLarge):
        plan(one(), site, NOW)
    assert plan(one(content=None, size=-1), site, NOW)


def test_expired_submissions_are_refused() -> None:
    """at + lifetime in the past."""
    site = snapshot(Destination(name="A"))
    with pytest.raises(Expired):
        plan(one(at=NOW - timedelta(days=3)), site, NOW)


def test_a_forced_lifetime_in_the_past_is_ignored() -> None:
    """A rule cannot kill what it is given."""
    site = snapshot(Destination(name="A", options={"scheduler.delay": "-3d"}))
    assert plan(one(), site, NOW).transfers[0].expires_at > NOW


@pytest.mark.parametrize("priority", [-1, 100])
def test_priorities_are_0_to_99(priority: int) -> None:
    """Else an error."""
    with pytest.raises(InputError):
        plan(one(priority=priority), snapshot(Destination(name="A")), NOW)


def test_an_unknown_destination_names_the_nearest() -> None:
    """Did you mean."""
    with pytest.raises(NotFound, match="NORTH"):
        plan(one(destination="NROTH"), snapshot(Destination(name="NORTH")), NOW)


# --- the queue: entities.md section 13 ------------------------------------------------------------


def test_lower_priority_runs_first_once_both_are_due(db: Connection) -> None:
    """(p 10, 12:05) runs before (p 99, 11:00) once both are due."""
    site = snapshot(Destination(name="A"))
    late, early = NOW + timedelta(minutes=125), NOW + timedelta(minutes=60)
    first = submit(db, plan(one("p99", priority=99, at=early), site, NOW))
    second = submit(db, plan(one("p10", priority=10, at=late), site, NOW))
    claimed, _ = claims.claim_due(db, "A", now=early, limit=1)
    assert [t.id for t in claimed] == list(first.transfers)
    transfers.set_status(db, first.transfers[0], TransferStatus.WAIT, now=NOW)
    claimed, _ = claims.claim_due(db, "A", now=late, limit=2)
    assert [t.id for t in claimed] == [*second.transfers, *first.transfers]
    assert all(t.status is TransferStatus.EXEC for t in claimed)


def test_nothing_is_claimed_twice(db: Connection) -> None:
    """A second look finds the rest."""
    site = snapshot(Destination(name="A"))
    for number in range(5):
        submit(db, plan(one(f"f{number}"), site, NOW))
    first, _ = claims.claim_due(db, "A", now=NOW, limit=3)
    second, _ = claims.claim_due(db, "A", now=NOW, limit=3)
    assert len({t.id for t in first + second}) == 5
    assert transfers.next_due(db, "A") is None


def test_expired_ones_are_not_claimed(db: Connection) -> None:
    """They are told, for retention."""
    site = snapshot(Destination(name="A"))
    done = submit(db, plan(one(lifetime=timedelta(minutes=1)), site, NOW))
    claimed, expired = claims.claim_due(db, "A", now=NOW + timedelta(minutes=2), limit=5)
    assert (claimed, expired) == ([], list(done.transfers))


def test_pending_is_counted_as_statuses_change(db: Connection) -> None:
    """Triggers keep the count that max_pending needs."""
    site = snapshot(Destination(name="A"))
    for number in range(3):
        submit(db, plan(one(f"f{number}"), site, NOW))
    assert destinations.pending(db, "A") == 3
    claims.claim_due(db, "A", now=NOW, limit=2)
    assert destinations.pending(db, "A") == 1
