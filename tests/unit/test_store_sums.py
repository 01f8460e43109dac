"""Sums that pages read instead of a million rows say what the rows say; lists end in time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecpds.model.destination import Destination
from ecpds.model.status import TransferStatus
from ecpds.store import (
    check,
    destinations,
    filelist,
    files,
    history,
    outstanding,
    stats,
    transferlist,
    transfers,
)
from ecpds.store.codec import to_micros
from ecpds.store.db import Connection
from ecpds.store.migrate import migrate, migrations
from ecpds.store.transferlist import Wanted

NOW = datetime(2031, 5, 4, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
S = TransferStatus
FILE = """
    INSERT INTO data_file (id, original, arrived_at, size, stored, volume)
    VALUES (:id, :name, :at, :size, :stored, :volume)"""
TRANSFER = """
    INSERT INTO transfer (id, destination, data_file, target, key_destination, key_target, status,
        start_count, status_by, host, scheduled_at, queue_at, due_at, expires_at, created_at,
        changed_at, deleted)
    VALUES (:id, :destination, :id, :target, :destination, :target, :status, :starts, :by, 'h',
        :at, :at, :at, :expires, :at, :at, :deleted)"""


def connected(path: Path) -> Connection:
    """Return a connection to an empty database."""
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


@pytest.fixture(name="db")
def database(tmp_path: Path) -> Iterator[Connection]:
    """A migrated store with destinations A and B; commits are not what is tested here."""
    db = connected(tmp_path / "a.db")
    db.execute("PRAGMA journal_mode = MEMORY")
    db.execute("PRAGMA synchronous = OFF")
    migrate(db)
    for name in "AB":
        destinations.put(db, Destination(name=name), now=NOW)
    db.execute("BEGIN")
    yield db
    db.close()


def add(
    db: Connection,
    number: int,
    *,
    status: TransferStatus = S.DONE,
    destination: str = "A",
    starts: int = 0,
    by: str = "",
    size: int = 10,
    stored: bool = True,
    deleted: bool = False,
    at: datetime = NOW,
    expires: datetime = NOW + timedelta(days=9),
) -> None:
    """Add a file with its transfer."""
    db.execute(
        FILE,
        {"id": number, "name": f"f{number}", "at": to_micros(at), "size": size,
         "stored": int(stored), "volume": "v"},
    )  # fmt: skip
    db.execute(
        TRANSFER,
        {"id": number, "destination": destination, "target": f"f{number}", "status": status.code,
         "starts": starts, "by": by, "at": to_micros(at), "expires": to_micros(expires),
         "deleted": int(deleted)},
    )  # fmt: skip


def some(db: Connection) -> None:
    """Add transfers in every status, touched and not, of people and not, live and deleted."""
    number = 0
    for status in S:
        for starts, by, deleted in (
            (0, "", False),
            (1, "", False),
            (1, "olga", False),
            (0, "", True),
        ):
            number += 1
            add(db, number, status=status, destination="AB"[number % 2], starts=starts, by=by,
                deleted=deleted)  # fmt: skip


def test_counts_follow_whatever_changes(db: Connection) -> None:
    """After any change of any row they are what a count over all rows gives."""
    some(db)
    assert check.counters(db) == []
    chance = random.Random(4)
    for _ in range(300):
        values = {
            "id": chance.randint(1, 44), "status": chance.choice(list(S)).code,
            "starts": chance.randint(0, 1), "by": chance.choice(["", "olga"]),
            "deleted": chance.randint(0, 1),
        }  # fmt: skip
        db.execute(
            """UPDATE transfer SET status = :status, start_count = :starts, status_by = :by,
                   deleted = :deleted WHERE id = :id""",
            values,
        )
    db.execute("DELETE FROM transfer WHERE id % 5 = 0")
    assert check.counters(db) == []
    assert transfers.all_counts(db) == {name: transfers.counts(db, name) for name in "AB"}


def test_outstanding_is_what_was_tried_or_failed_and_is_not_done(db: Connection) -> None:
    """Numbers of the sums, of both indexes and of the rows are the same."""
    some(db)
    rows = outstanding.page(db, limit=100)
    assert {(one.status, one.status_by != "") for one in rows} == {
        (S.WAIT, False), (S.WAIT, True), (S.FAIL, False), (S.FAIL, True), (S.RETR, False),
        (S.STOP, False),
    }  # fmt: skip
    assert [one.id for one in rows] == sorted((one.id for one in rows), reverse=True)
    for name in "AB":
        own = outstanding.page(db, limit=100, destination=name)
        assert [one.id for one in own] == [one.id for one in rows if one.destination == name]
        assert transfers.counts(db, name)[1] == len(own)


def test_fsck_finds_and_corrects_a_wrong_count(db: Connection) -> None:
    """Too many, too few, and a row of what is not there."""
    some(db)
    db.execute("UPDATE transfer_count SET files = files + 3 WHERE status = 'WAIT'")
    db.execute("DELETE FROM transfer_count WHERE status = 'DONE'")
    db.execute("INSERT INTO transfer_count VALUES ('GONE', 'FAIL', 2, 2)")
    found = check.counters(db)
    assert {(row["name"], row["status"]) for row in found} == {
        ("A", "WAIT"), ("B", "WAIT"), ("A", "DONE"), ("B", "DONE"), ("GONE", "FAIL"),
    }  # fmt: skip
    for row in found:
        check.set_counter(db, row)
    assert check.counters(db) == []


def test_a_store_of_the_release_before_is_counted_once(tmp_path: Path) -> None:
    """Rows from before the sums are in them."""
    db = connected(tmp_path / "old.db")
    for number, _, text in migrations():
        if number < 15:
            db.executescript(f"BEGIN; {text} PRAGMA user_version = {number}; COMMIT;")
    some(db)
    db.execute("INSERT INTO attempt (transfer, host, started_at, finished_at, status, sent) "
               "VALUES (1, 'h', 3600000000, 3600000500, 'DONE', 7)")  # fmt: skip
    migrate(db)
    assert check.counters(db) == []
    assert files.totals(db) == {"v": (44, 440)}
    assert stats.by_hour(db, "h", since=datetime(1970, 1, 1, 1, tzinfo=UTC), hours=1)[0].bytes == 7
    db.close()


def test_content_is_counted_by_volume_and_hour(db: Connection) -> None:
    """Arrival, replacement, removal and deletion of rows."""
    for number in range(1, 7):
        add(db, number, at=NOW - number * HOUR, size=number)
    add(db, 7, stored=False)
    db.execute("UPDATE data_file SET size = 100, volume = 'w' WHERE id = 1")
    db.execute("UPDATE data_file SET removed = 1 WHERE id = 2")
    db.execute("UPDATE data_file SET stored = 1, size = 9 WHERE id = 7")
    db.execute("UPDATE data_file SET stored = 0 WHERE id = 3")
    db.execute("DELETE FROM transfer WHERE id = 4")
    db.execute("DELETE FROM data_file WHERE id = 4")
    assert files.totals(db) == {"v": (3, 5 + 6 + 9), "w": (1, 100)}
    history.purge(db, history_before=NOW, events_before=NOW)
    assert files.totals(db) == {"v": (3, 5 + 6 + 9), "w": (1, 100)}


def test_the_forecast_is_exact_for_few_files(db: Connection) -> None:
    """What came in two days, and what goes in the next two."""
    for number in range(1, 11):
        add(db, number, at=NOW - number * 10 * HOUR, size=1000,
            expires=NOW + number * 10 * HOUR)  # fmt: skip
    assert stats.flow(db, now=NOW, over=48 * HOUR) == (4000, 4000)


def test_a_list_takes_the_index_that_helps(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole name and a rare status are found at once, the rest window by window."""
    monkeypatch.setattr(transferlist, "WINDOW", 10)
    monkeypatch.setattr(filelist, "WINDOW", 10)
    for number in range(1, 41):
        add(db, number, status=S.HOLD if number in {3, 30} else S.DONE,
            destination="AB"[number % 2])  # fmt: skip

    def found(
        wanted: Wanted, limit: int = 5, before: int | None = None
    ) -> tuple[list[int], object]:
        part = transferlist.part(db, wanted, limit=limit, before=before)
        return [one.id for one in part.items], part.below

    assert found(Wanted(target="f3")) == ([3], None)
    assert found(Wanted(target="f3", destination="A")) == ([], None)
    assert found(Wanted(statuses=(S.HOLD,))) == ([30, 3], None)
    assert found(Wanted(statuses=(S.HOLD,), destination="A", target="f*")) == ([30], None)
    assert found(Wanted()) == ([40, 39, 38, 37, 36], 36)
    assert found(Wanted(target="f3*"), limit=20) == ([39, 38, 37, 36, 35, 34, 33, 32, 31, 30], 30)
    assert found(Wanted(target="*7*"), before=30) == ([27], 19)
    assert found(Wanted(target="*7*"), before=9) == ([7], None)
    assert found(Wanted(destination="B", deleted=None), limit=2) == ([39, 37], 37)
    part = filelist.part(db, limit=5, before=30, name="*7", deleted=False, since=None, until=None)
    assert ([one.id for one in part.items], part.below) == ([27], 19)


def test_hours_of_a_host_are_sums_of_its_attempts(db: Connection) -> None:
    """What was done counts with bytes and time, what was not as failed."""
    for status, sent in ((S.DONE, 5), (S.DONE, 7), (S.FAIL, 3)):
        history.add_attempt(
            db, history.Attempt(transfer=1, host="h", protocol="ftp", started_at=NOW,
                                finished_at=NOW + HOUR / 2, status=status, sent=sent),
        )  # fmt: skip
    (hour,) = stats.by_hour(db, "h", since=NOW, hours=1)
    assert (hour.files, hour.bytes, hour.failed, hour.duration) == (2, 12, 1, HOUR)


def test_rates_are_summed_by_day_and_by_destination(db: Connection) -> None:
    """Only of destinations that one may see."""
    for name, day, sent in (("A", 0, 5), ("A", 1, 6), ("B", 1, 7)):
        history.add_rate(db, name, sent, HOUR, now=NOW + timedelta(days=day))
    today = NOW.date()
    until = today + timedelta(days=1)
    days, names = stats.sums(db, since=today, until=until)
    assert [one.bytes for one in days] == [5, 13]
    assert [(one.destination, one.bytes, one.files) for one in names] == [("A", 11, 2), ("B", 7, 1)]
    days, names = stats.sums(db, since=today, until=until, may=lambda name: name == "B")
    assert [one.bytes for one in days] == [7]
    assert [one.destination for one in names] == ["B"]
