"""Tables of defaults, limits and fields that no other test holds, by page and section."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base.settings import SchedulerSettings
from ecpds.engine.dissemination import Slots
from ecpds.engine.retrieval import RetrievalSlots, Task, store_failed
from ecpds.engine.retrievalcontrol import RetrievalControl
from ecpds.engine.telling import Teller
from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.directory import parse_directory
from ecpds.model.errors import ConfigError, EcpdsError
from ecpds.model.events import classic
from ecpds.model.families import SchedulerOptions
from ecpds.model.host import Host
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import DataFile, Reason, Transfer
from ecpds.modules import BUILTIN
from ecpds.modules.gcs import GcsModule
from ecpds.modules.http import PlainHttp
from ecpds.modules.s3 import S3Module
from ecpds.store import files, history, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import Feature
from ecpds.transfer.options import RetrievalOptions, UploadOptions
from ecpds.transfer.registry import Registry
from tests.clock import START, FakeClock
from tests.node import small_node

S = TransferStatus
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
REGISTRY = Registry(BUILTIN, installed=False)


# --- schedulers.md -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"), [("acquisition_hosts", 100), ("retrievals", 60), ("transfers", 400)]
)
def test_schedulers_1_how_many_at_a_time(name: str, count: int) -> None:
    assert getattr(SchedulerSettings(), name) == count


def test_schedulers_1_no_more_retrievals_than_that() -> None:
    slots = RetrievalSlots(60)
    slots.running = 59
    assert slots.free == 1
    slots.running = 60
    assert slots.free == 0
    slots.control = RetrievalControl(streams=70)
    assert slots.free == 10
    slots.control = RetrievalControl(streams=70, stopped=True)
    assert slots.free == 0


def test_schedulers_1_no_more_deliveries_than_that() -> None:
    slots = Slots(2)
    host = type("Entry", (), {"host": Host(name="h", max_connections=-1), "name": "h"})()
    for left in (2, 1, 0):
        assert slots.free(host) == left
        slots.take("h")
    slots.give("h")
    slots.give("h")
    assert (slots.free(host), slots.hosts) == (1, {"h": 1})


@pytest.mark.parametrize("family", [RetrievalOptions, UploadOptions])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interrupt_slow", False),
        ("minimum_duration", MINUTE),
        ("minimum_rate", 2_359_296),
        ("maximum_duration", 10 * MINUTE),
        ("rate_throttling", None),
    ],
)
def test_schedulers_3_defaults_of_slow_transfers(
    family: type[RetrievalOptions], field: str, value: object
) -> None:
    assert getattr(family(), field) == value


def test_schedulers_3_interrupt_slow_is_the_switch_of_the_three_limits() -> None:
    assert RetrievalOptions(minimum_rate=1, rate_throttling=5).slow_rule() is None  # type: ignore[arg-type]
    rule = RetrievalOptions(interrupt_slow=True).slow_rule()
    assert rule is not None
    assert (rule.window, rule.rate, rule.longest) == (MINUTE, 2_359_296, 10 * MINUTE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("active_time_range", ""), ("standby", ""), ("lifetime", None), ("delay", None),
        ("asap", None), ("no_retrieval", None), ("transfer_group", ""), ("version", ""),
        ("date_format", "yyyyMMdd"), ("force", ""), ("requeue_on", ""),
        ("requeue_pattern", ".*"), ("requeue_ignore", ""), ("reset_queue_on_change", True),
    ],
)  # fmt: skip
def test_schedulers_6_defaults(field: str, value: object) -> None:
    assert getattr(SchedulerOptions(), field) == value


# --- acquisition.md ------------------------------------------------------------------------------


def line(text: str, **host: str) -> Any:
    """Return the options of one line."""
    given = {f"acquisition.{name}": value for name, value in host.items()}
    (found,) = parse_directory(text, given).lines
    return found.at(START).options


@pytest.mark.parametrize(
    ("text", "host", "field", "value"),
    [
        ("/in/", {}, "priority", 99),
        ("/in/", {"priority": "5"}, "priority", 5),
        ("[priority=7]/in/", {"priority": "5"}, "priority", 7),
        ("[priority=]/in/", {"priority": "5"}, "priority", 5),  # an empty one counts as absent
        ('[target="a;b,c"]/in/', {}, "target", "a;b,c"),
        ("[requeueon=$time2 >= $time1]/in/", {}, "requeue_on", "$time2 >= $time1"),
        ("[lifetime=3h,standby=yes]/in/", {}, "lifetime", timedelta(hours=3)),
        ("[lifetime=3h,standby=yes]/in/", {}, "standby", True),
    ],
)
def test_acquisition_2_where_a_value_comes_from(
    text: str, host: dict[str, str], field: str, value: object
) -> None:
    """Line, then host, then default; the leftmost operator counts."""
    assert getattr(line(text, **host), field) == value


@pytest.mark.parametrize(
    "name",
    [
        "listSynchronous", "listParallel", "listMaxWaiting", "listMaxThreads", "maximumDuration",
        "interruptSlow", "debug", "requeueOnFailure", "skipPostRetrievalSizeCheckPattern",
    ],
)  # fmt: skip
def test_acquisition_10_some_options_are_of_the_host_alone(name: str) -> None:
    found = parse_directory(f"[{name}=1]/in/", {})
    assert [one.line for one in found.problems] == [1]
    assert name in found.problems[0].message


def test_acquisition_12_there_is_no_version() -> None:
    """`scheduler.version` is meant."""
    found = parse_directory("[version=$date]/in/", {})
    assert "version" in found.problems[0].message
    with pytest.raises(ConfigError, match="unknown key"):
        AcquisitionOptions.read({"acquisition.version": "$date"})


# --- dissemination.md ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["genericFtp", "genericFtps", "genericSftp"])
def test_dissemination_6_defaults_of_names(method: str) -> None:
    """A temporary name, the size compared (NEW), directories made."""
    access = REGISTRY.access(Host(name="h", method=method, host="x.example.org", login="me"))
    naming = access.delivery.naming
    assert (naming.temporary, naming.prefix, naming.suffix) == (True, "", "")
    assert naming.make_parents
    assert access.delivery.verify != "none"
    assert Feature.RENAME in access.module.features


@pytest.mark.parametrize(
    "module", [S3Module, GcsModule, PlainHttp], ids=["s3", "gcs", "http without WebDAV"]
)
def test_dissemination_6_object_stores_are_written_directly(module: type[Any]) -> None:
    """A put is complete or not there; no name is temporary."""
    assert Feature.RENAME not in module.features
    assert Feature.ATOMIC_PUT in module.features


# --- events.md -----------------------------------------------------------------------------------

GONE = Reason(kind="transient", code="remote-lost", text="gone")


def preset(db: Connection, name: str) -> Task:
    """Add a file that is fetched for D."""
    number = files.insert(db, DataFile(id=0, arrived_at=START, source=f"/in/{name}"), {})
    transfers.insert(
        db,
        transfers.NewTransfer(
            destination="D", data_file=number, target=name, key=("D", name, ""), identity=name,
            priority=99, status=S.FETC, scheduled_at=START, queue_at=START,
            expires_at=START + 2 * DAY,
        ),
        now=START,
    )  # fmt: skip
    file = files.get(db, number)
    assert file is not None
    return Task(file=file, transfers=tuple(transfers.of_file(db, number)))


async def test_events_2_each_failed_retrieval_is_told(tmp_path: Path) -> None:
    """RET with Status=false and its message (N); the history gets its row."""
    async with small_node(tmp_path, clock=FakeClock()) as node:
        await node.destination("D", type="Gold", monitor=True)
        core = node.core

        def fail(db: Connection) -> None:
            task = preset(db, "a;b")
            store_failed(
                db, task, None, GONE, core.snapshot, Teller(node="m1"), START, START, again=True
            )

        for _ in range(2):
            await node.store.write(fail)
        rows = await node.store.read(history.events, limit=9, kind="RET")
        assert len(rows) == 2
        text = classic(rows[0][1])
        assert text is not None
        assert text.startswith("RET;Monitored=true;TimeStamp=2030-01-01 12:00:00.0;")
        assert ";DestinationType=Gold;FileName=/in/a%3Bb;" in text
        assert text.endswith(";Status=false;Message=gone")
        assert await node.store.read(history.events, limit=9, kind="ERR") == []


def sample(**fields: Any) -> tuple[Transfer, DataFile]:
    one = Transfer(
        id=901, destination="MET", data_file=501, target="a.grb", identity="a",
        status=S.EXEC, scheduled_at=START, queue_at=START + MINUTE, due_at=START,
        expires_at=START + 2 * DAY, created_at=START, asap=True, requeue_history=4, priority=7,
    )  # fmt: skip
    file = DataFile(
        id=501, arrived_at=START, size=42, source="/arch/a.grb", meta_stream="WAVE",
        time_step=12, time_base=START, caller="job", checksum="00000001",
    )  # fmt: skip
    return replace(one, **fields), file


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("transfer_id", 901), ("file_id", 501), ("destination.name", "MET"),
        ("destination.type", "Unknown"),  # of a destination that is gone
        ("file.name", "a.grb"), ("file.source", "/arch/a.grb"), ("file.size", 42),
        ("file.identity", "a"), ("meta.stream", "WAVE"), ("meta.type", None),
        ("meta.time", "00"), ("meta.step", 12), ("meta.base", "2030-01-01T12:00:00.000Z"),
        ("scheduled", "2030-01-01T12:00:00.000Z"), ("queued", "2030-01-01T12:01:00.000Z"),
        ("expires", "2030-01-03T12:00:00.000Z"), ("priority", 7), ("requeues", 4),
        ("asap", True), ("caller", "job"),
    ],
)  # fmt: skip
def test_events_3_what_common_fields_mean(path: str, value: object) -> None:
    found: Any = Teller(node="m1").about(*sample(), None)
    for step in path.split("."):
        found = found[step]
    assert found == value


# what the user has, what it logs in with, the message
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "wrong", "Password authentication failed"),
    ({"password": None}, "", "Password not set"),
    ({"totp": "JBSWY3DPEHPK3PXP"}, "000000x", "TOTP authentication failed"),
    ({"active": False}, "secret", "Disabled"),
    ({"destinations": ()}, "secret", "No associated Destinations"),
    ({"operations": ()}, "secret", "No associated Permissions"),
    ({"options": {"portal.geoblocking": "fr"}}, "secret", "Geolocation restriction"),
    ({"options": {"portal.excludeProtocols": "sftp"}}, "secret", "Protocol not allowed"),
]


async def test_events_4_refused_logins(tmp_path: Path) -> None:
    """DEA, its messages and context."""
    async with small_node(tmp_path, clock=FakeClock(), security={"ban_score": 1000}) as node:
        await node.destination("D")

        async def told(login: str, password: str) -> str | None:
            with pytest.raises(EcpdsError):
                await node.login(login, password, peer="1.2.3.4")
            (found,) = await node.store.read(history.events, limit=1, kind="DEA")
            return classic(found[1])

        head = "DEA;TimeStamp=2030-01-01 12:00:00.0"
        tail = "Context=Using sftp on DataMover=m1 from"
        line = await told("nobody", "x")
        assert line == f"{head};UserId=nobody;Message=Not found;{tail} nobody@1.2.3.4"
        for number, (fields, password, message) in enumerate(REFUSALS):
            login = f"bob{number}"
            await node.user(login, **({"destinations": ("D",)} | fields))
            line = await told(login, password)
            assert line == f"{head};UserId={login};Message={message};{tail} {login}@1.2.3.4"


async def test_events_4_a_banned_address(tmp_path: Path) -> None:
    async with small_node(tmp_path, clock=FakeClock(), security={"ban_score": 5}) as node:
        for _ in range(9):
            with pytest.raises(EcpdsError):
                await node.login("nobody", "x")
        found = await node.store.read(history.events, limit=9, kind="DEA")
        assert next(one["error"]["message"] for _, one in found) == "Address banned"
