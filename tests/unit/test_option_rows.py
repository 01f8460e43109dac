"""Each row of the option tables of schedulers.md 6 and 7 changes what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ecpds.engine.submit import Submission, _queue_at, plan, standby_after, status_of
from ecpds.model.destination import Alias, Destination
from ecpds.model.status import StoredState, TransferStatus
from ecpds.model.transfer import Transfer
from tests.unit.test_submit import CONTENT, NOW, entry, snapshot

S = TransferStatus
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def planned(options: dict[str, str], **given: Any) -> Any:
    """Return the plan of x.grib submitted to A with these options."""
    submission = Submission(destination="A", target="x.grib", content=CONTENT, **given)
    return plan(submission, snapshot(Destination(name="A", options=options)), NOW)


def forced(text: str) -> dict[str, str]:
    return {"scheduler.force": f"(=. .grib) {text}\nlifetime=9d"}


@pytest.mark.parametrize("rule", [False, True], ids=["option", "force"])
@pytest.mark.parametrize(
    ("name", "value", "given", "field", "expected"),
    [
        ("standby", "yes", {}, "standby", True),
        ("standby", "yes", {"standby": True}, "standby", True),
        ("standby", "never", {"standby": True}, "standby", False),
        ("standby", "no", {"standby": True}, "standby", True),
        ("standby", "no", {}, "standby", False),
        ("lifetime", "3h", {"lifetime": DAY}, "expires_at", NOW + 3 * HOUR),
        ("lifetime", "1h", {"at": NOW - 2 * HOUR, "lifetime": DAY}, "expires_at",
         NOW - 2 * HOUR + DAY),  # over already: ignored
        ("delay", "2h", {"delay": HOUR}, "scheduled_at", NOW + 3 * HOUR),
        ("delay", "2h", {"delay": HOUR, "lifetime": DAY}, "expires_at", NOW + 3 * HOUR + DAY),
        ("asap", "yes", {}, "asap", True),
        ("asap", "no", {"asap": True}, "asap", False),
    ],
)  # fmt: skip
def test_scheduler_rows_of_a_transfer(
    name: str, value: str, given: dict[str, Any], field: str, expected: object, *, rule: bool
) -> None:
    options = forced(f"{name}={value}") if rule else {f"scheduler.{name}": value}
    assert getattr(planned(options, **given).transfers[0], field) == expected


@pytest.mark.parametrize("rule", [False, True], ids=["option", "force"])
@pytest.mark.parametrize(
    ("name", "value", "given", "expected"),
    [
        ("noRetrieval", "yes", {}, True),
        ("noRetrieval", "no", {"no_retrieval": True}, False),
        ("transfergroup", "fast", {"transfer_group": "slow"}, "fast"),
        ("version", "$target[0..1]-$date", {}, "x-20310504"),
        ("version", "$timefile", {"file_time": datetime(2030, 1, 1, tzinfo=UTC)},
         "1893456000000"),
        ("version", "$date", {"version": "mine"}, "mine"),
    ],
)  # fmt: skip
def test_scheduler_rows_of_a_file(
    name: str, value: str, given: dict[str, Any], expected: object, *, rule: bool
) -> None:
    options = forced(f"{name}={value}") if rule else {f"scheduler.{name}": value}
    made = planned(options, **given)
    found = {
        "noRetrieval": made.no_retrieval,
        "transfergroup": made.file.transfer_group,
        "version": made.key[2],
    }
    assert found[name] == expected


def test_dateformat_and_force_win_over_options() -> None:
    options = {"scheduler.version": "$date", "scheduler.dateformat": "yyyy/DDD"}
    assert planned(options).key[2] == "2031/124"
    both = {"scheduler.standby": "yes", **forced("standby=never")}
    assert planned(both).transfers[0].standby is False
    assert planned(both | {"scheduler.lifetime": "1h"}).transfers[0].expires_at == NOW + HOUR


def test_asap_is_due_at_once_whatever_was_submitted() -> None:
    """Push mode: the queue time is now, which cancels delays; the promise stays."""
    made = planned({"scheduler.asap": "yes"}, delay=DAY)
    assert made.transfers[0].scheduled_at == NOW + DAY
    assert _queue_at(made, made.transfers[0], NOW) == NOW


def waiting(target: str = "x.grib", *, is_alias: bool = False) -> Transfer:
    return Transfer(
        id=1, destination="A", data_file=1, target=target, status=TransferStatus.FETC,
        scheduled_at=NOW, queue_at=NOW, due_at=NOW, expires_at=NOW + DAY, created_at=NOW,
        is_alias=is_alias,
    )  # fmt: skip


def test_standby_once_content_was_fetched() -> None:
    """By the rules of the transfer's own destination; `force` says nothing of copies."""
    held = entry(Destination(name="A", options={"scheduler.standby": "yes"}))
    free = entry(Destination(name="B"))
    made = planned({"scheduler.standby": "yes"}, source="/x/a")
    file = replace(made.file, stored=True)
    assert standby_after(file, waiting(), held)
    assert not standby_after(file, waiting(is_alias=True), free)  # the copy is not held with it
    rules = entry(Destination(name="A", options=forced("standby=never") | {
        "scheduler.standby": "yes"}))  # fmt: skip
    assert not standby_after(file, waiting(), rules)
    assert standby_after(file, waiting("x.txt"), rules)
    assert standby_after(file, waiting(is_alias=True), rules)
    assert standby_after(replace(file, standby=True), waiting(), free)


@pytest.mark.parametrize(
    ("rule", "field", "expected"),
    [
        ("", "target", "x.grib"),
        ("target=m/$name[0..1]/$parent$path", "target", "m/x/x.grib"),
        ("target=$destination-$alias-$target", "target", "A-B-x.grib"),
        ("target=$date/$name", "target", "20310504/x.grib"),
        ("target=$date/$name,dateformat=yyyy,datedelta=-365d", "target", "2030/x.grib"),
        ("lifeTime=1h", "expires_at", NOW + HOUR),
        ("lifetime=1h", "expires_at", NOW + HOUR),
        ("priority=7", "priority", 7),
        ("asap=yes", "asap", True),
        ("event=yes", "event", True),
        ("delay=1h", "scheduled_at", NOW + 2 * HOUR),  # the submitted hour once, and one more
        ("(=. .grib) priority=3\npriority=4", "priority", 3),
        ("(=. .txt) priority=3\npriority=4", "priority", 4),
        ("priority=4\n(=. .grib) priority=3", "priority", 3),  # the default wherever it stands
    ],
)
def test_alias_rows(rule: str, field: str, expected: object) -> None:
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B", rule=rule),)), Destination(name="B")
    )
    given: dict[str, Any] = {"delay": HOUR} if "delay" in rule else {}
    submission = Submission(destination="A", target="x.grib", content=CONTENT, **given)
    copies = plan(submission, site, NOW).transfers[1:]
    assert getattr(copies[0], field) == expected


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (r"pattern=.*\.grib", 1),
        (r"pattern=.*\.txt", 0),
        (r"ignore=x\..*", 0),
        (r"pattern=(x|y)\.(grib|txt)", 1),  # brackets are balanced
        (r'pattern="x{1,2}\.grib,y"', 0),  # a comma inside quotes
        ("(=={x.*}) priority=1", 1),
        ("(!= x.grib) priority=1", 0),
    ],
)
def test_alias_rows_that_choose(rule: str, count: int) -> None:
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B", rule=rule),)), Destination(name="B")
    )
    submission = Submission(destination="A", target="x.grib", content=CONTENT)
    assert len(plan(submission, site, NOW).transfers) == 1 + count


def test_only_standby_of_the_copy_destination_applies_to_copies() -> None:
    options = {"scheduler.standby": "yes", "scheduler.delay": "5h", "scheduler.lifetime": "1h"}
    site = snapshot(
        Destination(name="A", aliases=(Alias(to="B"),)), Destination(name="B", options=options)
    )
    submission = Submission(destination="A", target="x.grib", content=CONTENT)
    main, copy = plan(submission, site, NOW).transfers
    assert (main.standby, copy.standby) == (False, True)
    assert (copy.scheduled_at, copy.expires_at) == (main.scheduled_at, main.expires_at)


def test_what_comes_to_a_stopped_destination_may_be_stopped_too() -> None:
    site = snapshot(Destination(name="A", options={"scheduler.forceStop": "yes"}))
    submission = Submission(destination="A", target="x.grib", content=CONTENT)
    for state, status in ((StoredState.STOP, S.STOP), (StoredState.WAIT, S.WAIT)):
        now = replace(site.destination("A"), state=state)
        made = plan(submission, replace(site, destinations={"A": now}), NOW)
        assert status_of(made, made.transfers[0], replaced=False) is status
