"""Examples and option rows of acquisition.md that no other test holds, by section."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.acquisition_run import Discovery, Run, lines_of
from ecpds.engine.acquisition_take import Registering, submission_of
from ecpds.engine.core import HostEntry
from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.submit import Plan, plan
from ecpds.engine.versions import key_of
from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.host import Host, HostRole
from ecpds.model.search import Search
from ecpds.model.selection import Choice, Selector
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import DataFile, Transfer
from ecpds.store import files, transfers
from ecpds.store.db import Connection
from tests.clock import START, FakeClock
from tests.node import SmallNode, small_node

S = TransferStatus
ANN = Actor(name="ann")
DAY = timedelta(days=1)
MODIFIED = datetime.fromtimestamp(1_700_000_000, UTC)


async def feed(node: SmallNode, options: dict[str, str], **fields: Any) -> HostEntry:
    """Make an acquisition host of a destination OBS."""
    made = Host(
        name="feed", role=HostRole.ACQUISITION, method="genericTest", directory="/in/",
        host="ftp.example.org", login="me", options=options, **fields,
    )  # fmt: skip
    await HostOperations(node.engine).put(made, ANN)
    await node.destination("OBS", hosts=("feed",))
    return node.core.snapshot.host("feed")


def chosen(host: HostEntry, name: str = "a.nc", **fields: Any) -> tuple[Choice, Search]:
    """Return what the directory of a host makes of one entry."""
    given: dict[str, Any] = {"kind": Kind.FILE, "size": 10, "mtime": MODIFIED} | fields
    search = parse_directory(host.host.directory, host.host.options).lines[0].at(START)
    return Selector(search, "OBS").test(Entry(name=name, **given)), search


async def planned(node: SmallNode, options: dict[str, str], **fields: Any) -> Plan:
    host = await feed(node, options)
    choice, search = chosen(host, **fields)
    assert choice.is_selected, choice.reason
    return plan(submission_of(choice, search, host, "OBS"), node.core.snapshot, START)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, ("OBS", "a.nc", "/in/a.nc")),
        ({"uniqueByTargetOnly": "yes"}, ("OBS", "a.nc", "")),
        ({"uniqueByNameAndTime": "yes"}, ("OBS", "a.nc", "/in/a.nc.1700000000000")),
        ({"target": "/x//$name"}, ("OBS", "x/a.nc", "/in/a.nc")),  # what is registered counts
    ],
)
async def test_acquisition_8_keys(
    tmp_path: Path, options: dict[str, str], key: tuple[str, str, str]
) -> None:
    """One key for the look-up and the registration."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        given = {f"acquisition.{name}": value for name, value in options.items()}
        made = await planned(node, given)
        assert made.key == key
        choice, _ = chosen(node.core.snapshot.host("feed"))
        looked_up = key_of(
            "OBS", choice.target, unique_name=choice.unique_name, version="",
            original=choice.original, file_time=MODIFIED, date_format="yyyyMMdd", now=START,
        )  # fmt: skip
        assert looked_up == key


FILE_ROWS: list[tuple[dict[str, str], str, object]] = [
    ({}, "group_by", "ACQ_OBS_1"),
    ({"groupby": "G"}, "group_by", "G"),
    ({}, "source", "/in/a.nc"),
    ({}, "original", "/in/a.nc"),
    ({}, "host", "feed"),
    ({}, "size", 10),
    ({}, "file_time", MODIFIED),
    ({}, "submitter", "me"),
    ({}, "transfer_group", ""),
    ({"transferGroup": "fast"}, "transfer_group", "fast"),
    ({"deleteoriginal": "yes"}, "delete_original", True),
    ({}, "delete_original", False),
    ({"metadata": "date=20240301,type=obs,step=6"}, "meta_type", "obs"),
    ({"metadata": "date=20240301,type=obs,step=6"}, "time_step", 6),
    ({"metadata": "date=20240301"}, "time_base", datetime(2024, 3, 1, tzinfo=UTC)),
    ({"metadata": "date=$date,stream=$destination"}, "meta_stream", "OBS"),
]


@pytest.mark.parametrize(("options", "field", "expected"), FILE_ROWS)
async def test_acquisition_9_and_10_rows_of_a_file(
    tmp_path: Path, options: dict[str, str], field: str, expected: object
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        given = {f"acquisition.{name}": value for name, value in options.items()}
        assert getattr((await planned(node, given)).file, field) == expected


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ({}, "priority", 99),
        ({"priority": "7"}, "priority", 7),
        ({}, "expires_at", START + 2 * DAY),
        ({"lifetime": "3h"}, "expires_at", START + timedelta(hours=3)),
        ({}, "standby", False),
        ({"standby": "yes"}, "standby", True),
        ({}, "event", False),
        ({"event": "yes"}, "event", True),
        ({"target": "$destination/$name"}, "target", "OBS/a.nc"),
    ],
)
async def test_acquisition_9_and_10_rows_of_a_transfer(
    tmp_path: Path, options: dict[str, str], field: str, expected: object
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        given = {f"acquisition.{name}": value for name, value in options.items()}
        assert getattr((await planned(node, given)).transfers[0], field) == expected


async def test_acquisition_9_an_unknown_time_is_none(tmp_path: Path) -> None:
    """The product's date is that of the discovery then, not 1970; size -1 is unknown."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        made = await planned(node, {}, mtime=None, size=None)
        assert (made.file.file_time, made.file.size) == (None, -1)
        assert made.file.time_base is not None
        assert made.file.time_base.date() == START.date()


@pytest.mark.parametrize(
    ("options", "entry", "status"),
    [
        ({}, {}, S.SCHE),
        ({"noretrieval": "yes"}, {}, S.WAIT),
        ({"noretrieval": "yes", "standby": "yes"}, {}, S.HOLD),
        ({}, {"inline_body": b"here"}, S.WAIT),
        ({"standby": "yes"}, {"inline_body": b"here"}, S.HOLD),
    ],
)
async def test_acquisition_9_status(
    tmp_path: Path, options: dict[str, str], entry: dict[str, Any], status: S
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        given = {f"acquisition.{name}": value for name, value in options.items()}
        await discovered(node, await feed(node, given), **entry)
        (one,) = await live(node)
        assert one.status is status


async def discovered(node: SmallNode, host: HostEntry, **fields: Any) -> Run:
    """Run a discovery that lists one file."""
    values: dict[str, Any] = {"kind": Kind.FILE, "name": "a.nc", "size": 4, "mtime": MODIFIED}
    entry = Entry(**(values | fields))

    async def listing() -> Any:
        yield entry

    core = node.core
    destination = core.snapshot.destination("OBS")
    search = parse_directory(host.host.directory, host.host.options).lines[0].at(START)
    run = Run(START)
    taker = Registering(core, destination, host, lambda _: None)
    await Discovery(core, destination, host, taker).run_entries(search, listing(), run)
    return run


async def live(node: SmallNode) -> list[Transfer]:
    return await node.store.read(transfers.page, destination="OBS", limit=10, deleted=False)


async def test_acquisition_8_a_failed_file_is_registered_again(tmp_path: Path) -> None:
    """FAIL goes back to SCHE at the next discovery, and nothing else does."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        host = await feed(node, {})
        assert (await discovered(node, host)).outcomes == {"selected": 1}
        assert (await discovered(node, host)).outcomes == {"exists": 1}
        (one,) = await live(node)

        def fail(db: Connection) -> None:
            transfers.save(db, replace(one, status=S.FAIL), now=START)

        await node.store.write(fail)
        assert (await discovered(node, host)).outcomes == {"selected": 1}
        (again,) = await live(node)
        assert (again.id, again.status) == (one.id, S.SCHE)


async def test_acquisition_8_requeue_keeps_the_file(tmp_path: Path) -> None:
    """requeueon true: same number, instance + 1."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        host = await feed(node, {"acquisition.requeueon": "$size2 != $size1"})
        await discovered(node, host)
        (one,) = await live(node)
        await discovered(node, host, size=5)
        (again,) = await live(node)
        assert (again.id, again.data_file) == (one.id, one.data_file)
        file: DataFile | None = await node.store.read(files.get, one.data_file)
        assert file is not None
        assert (file.instance, file.size) == (1, 5)


@pytest.mark.parametrize(
    ("option", "value", "outcome"),
    [
        ({"max_pending": 1}, 4, "registration error"),
        ({"max_file_size": 3}, 4, "registration error"),
        ({"max_file_size": 4}, 4, "selected"),
    ],
)
async def test_acquisition_9_a_refused_entry_is_an_error_of_its_own(
    tmp_path: Path, option: dict[str, Any], value: int, outcome: str
) -> None:
    async with small_node(tmp_path, clock=FakeClock()) as node:
        host = await feed(node, {"acquisition.noretrieval": "yes"})
        await node.destination("OBS", hosts=("feed",), **option)
        if "max_pending" in option:
            await discovered(node, host, name="other")
        run = await discovered(node, host, size=value)
        assert run.outcomes == {outcome: 1}


async def test_acquisition_11_a_script_gives_lines(tmp_path: Path) -> None:
    """The worked example."""
    text = '$(python:"\\n".join("/d/%02d/{.*}" % h for h in (0, 12)))'
    async with small_node(tmp_path) as node:
        host = await feed(node, {})
        host = replace(host, host=replace(host.host, directory=text))
        lines = (await lines_of(node.core, host)).lines
        found = [line.at(START) for line in lines]
        assert [one.listed for one in found] == ["/d/00/", "/d/12/"]
        assert all(one.regex is not None and one.regex.pattern == ".*" for one in found)


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("action", "queue"), ("wildcard_filter", ""), ("regex_pattern", ""),
        ("only_valid_time", False), ("use_symlink", False), ("remove_parameters", False),
        ("server_language", "en"), ("target", "$target"), ("metadata", ""),
        ("unique_by_target", False), ("target_as_unique_name", False), ("unique_by_time", False),
        ("requeue_on_update", False), ("requeue_on_same_size", False), ("requeue_on", ""),
        ("requeue_on_failure", False), ("skip_size_check", ""), ("priority", 99),
        ("lifetime", 2 * DAY), ("standby", False), ("group_by", ""), ("event", False),
        ("no_retrieval", False), ("delete_original", False), ("payload_extension", ".payload"),
        ("list_synchronous", True), ("list_parallel", False), ("list_max_waiting", 100),
        ("list_max_threads", 100), ("interrupt_slow", True), ("debug", False),
    ],
)  # fmt: skip
def test_acquisition_10_defaults(key: str, default: object) -> None:
    assert getattr(AcquisitionOptions(), key) == default
