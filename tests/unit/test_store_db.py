"""The writer: group commit, one failure undoes only itself, readers see what is committed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from ecpds.model.errors import StoreError, StoreTooNew
from ecpds.store import (
    accounts,
    check,
    destinations,
    filelist,
    files,
    history,
    hosts,
    limits,
    links,
    news,
    outstanding,
    portal,
    productdates,
    properties,
    resumables,
    site,
    stats,
    subscribers,
    transferlist,
    transfers,
)
from ecpds.store.db import Connection, Statement, Store
from ecpds.store.migrate import migrate, migrations

PACKAGES = (
    accounts, destinations, files, history, hosts, limits, links, news, portal, productdates,
    check, filelist, outstanding, stats, transferlist,
    properties,
    resumables, site,
    subscribers,
    transfers,
)  # fmt: skip


def fill(db: Connection, value: str) -> str:
    """Add a fact."""
    site.set_meta(db, value, value)
    return value


def fail(db: Connection, value: str) -> None:
    """Add a fact and break."""
    site.set_meta(db, value, value)
    raise ValueError(value)


async def test_writes_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    """Hundreds of calls, few batches, each answered after its commit."""
    store = Store(tmp_path / "a.db")
    try:
        await store.call_alone(migrate)
        before = store.batches
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.write(fill, str(number))) for number in range(300)]
        assert [task.result() for task in tasks] == [str(number) for number in range(300)]
        assert store.batches - before < 150
        assert await store.read(site.meta, "299") == "299"
    finally:
        await store.aclose()


async def test_one_failure_undoes_only_itself(tmp_path: Path) -> None:
    """Its neighbours in the batch are committed."""
    store = Store(tmp_path / "a.db")
    try:
        await store.call_alone(migrate)
        async with asyncio.TaskGroup() as group:
            good = [group.create_task(store.write(fill, f"g{number}")) for number in range(20)]
            bad = group.create_task(caught(store))
        assert bad.result() == "bad"
        assert await store.read(site.meta, "bad") is None
        assert all([await store.read(site.meta, f"g{n}") for n in range(len(good))])
    finally:
        await store.aclose()


async def caught(store: Store) -> str:
    """Return the text of the error of a failing write."""
    try:
        await store.write(fail, "bad")
    except ValueError as error:
        return str(error)
    return ""


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """And may be closed twice."""
    store = Store(tmp_path / "a.db")
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError):
        await store.write(fill, "x")


async def test_a_store_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    """Nothing is changed."""
    path = tmp_path / "a.db"
    await asyncio.to_thread(newer, path)
    store = Store(path)
    try:
        with pytest.raises(StoreTooNew, match="9999"):
            await store.call_alone(migrate)
    finally:
        await store.aclose()


def newer(path: Path) -> None:
    """Leave a store of the future."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9999")
    db.close()


def test_migrations_are_numbered_upwards() -> None:
    """0001, 0002, …; gaps are fine, the same number twice is not."""
    numbers = [number for number, _, _ in migrations()]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


def statements() -> list[tuple[str, Statement]]:
    """Return all registered statements."""
    return [
        (f"{package.__name__.rpartition('.')[2]}.{name}", value)
        for package in PACKAGES
        for name, value in vars(package).items()
        if isinstance(value, Statement)
    ]


@pytest.mark.parametrize(("name", "one"), statements(), ids=lambda value: str(value)[:40])
def test_hot_statements_never_scan_a_table(name: str, one: Statement, tmp_path: Path) -> None:
    """The plan of each hot statement uses an index; all others can at least be prepared."""
    db = sqlite3.connect(tmp_path / "plan.db", isolation_level=None)
    migrate(db)
    names = {word[1:].rstrip(",)") for word in one.sql.replace("(", " ").split() if word[:1] == ":"}
    plan = db.execute(f"EXPLAIN QUERY PLAN {one.sql}", dict.fromkeys(names)).fetchall()
    db.close()
    scans = [row[3] for row in plan if row[3].startswith("SCAN") and "json_each" not in row[3]]
    scans = [text for text in scans if "USING" not in text]
    if one.hot:
        assert scans == [], f"{name}: {scans}"
