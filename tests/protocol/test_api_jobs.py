"""`/transfers/actions/{verb}` and `/jobs`: counts, scopes, cancelling, restarts, ten thousand."""

from __future__ import annotations

import asyncio
import resource
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.operations.actor import Actor
from ecpds.engine.operations.jobs import Selection
from ecpds.model.account import Role
from ecpds.model.status import TransferStatus
from ecpds.model.transfer import DataFile
from ecpds.store import files, transfers
from ecpds.store.db import Connection
from tests.protocol.api import Client, Rig, rig

BULK = "/transfers/actions"


def many(db: Connection, hub: Rig, name: str, count: int, status: TransferStatus) -> None:
    """Add transfers of one file past the doors."""
    now = hub.node.core.clock.now()
    file = files.insert(db, DataFile(id=0, arrived_at=now, stored=True, size=1), {})
    for number in range(count):
        new = transfers.NewTransfer(
            destination=name,
            data_file=file,
            target=f"{number}.grib",
            key=(name, f"{number}.grib", ""),
            identity="",
            priority=99,
            status=status,
            scheduled_at=now,
            queue_at=now,
            expires_at=now + timedelta(days=1),
        )
        transfers.insert(db, new, now=now)


async def ended(client: Client, number: int) -> Any:
    """Return a job once it has ended."""
    deadline = time.monotonic() + 30
    while True:
        found = (await client.get(f"/jobs/{number}")).json
        if found["state"] != "running":
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def filled(hub: Rig, count: int = 30) -> None:
    for name in ("NORTH", "SOUTH"):
        await hub.node.destination(name)
        await hub.node.store.write(many, hub, name, count, TransferStatus.WAIT)


async def test_a_filter_is_counted_and_then_acted_on(tmp_path: Path) -> None:
    """Dry run first; what is in another state is skipped; 202 with the place of the job."""
    async with rig(tmp_path) as hub:
        await filled(hub)
        wanted = {"q": "destination=NORTH target=1*"}
        tried = await hub.admin.post(f"{BULK}/hold?dry_run=true", wanted)
        assert (tried.status, tried.json["total"]) == (200, 11)
        assert tried.json["sample"][0]["target"].startswith("1")
        assert (await hub.admin.get("/jobs")).items == []
        answer = await hub.admin.post(f"{BULK}/hold", wanted)
        assert answer.status == 202
        assert answer.headers["Location"] == f"/api/v2/jobs/{answer.json['id']}"
        job = await ended(hub.admin, answer.json["id"])
        assert (job["state"], job["done"], job["total"]) == ("done", 11, 11)
        again = await hub.admin.post(f"{BULK}/release", {"destination": "NORTH"})
        job = await ended(hub.admin, again.json["id"])
        assert (job["done"], job["skipped"], job["failed"]) == (11, 19, 0)


async def test_ids_tell_what_failed(tmp_path: Path) -> None:
    """Whoever names a transfer hears of it."""
    async with rig(tmp_path) as hub:
        await filled(hub, 3)
        answer = await hub.admin.post(f"{BULK}/release", {"ids": [1, 2, 99]})
        job = await ended(hub.admin, answer.json["id"])
        assert (job["done"], job["failed"]) == (0, 2)
        assert [error["code"] for error in job["errors"]] == ["bad-state", "bad-state"]


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("requeue", {}, 422),
        ("requeue", {"ids": [1], "q": "x"}, 422),
        ("requeue", {"q": "nokey=1"}, 422),
        ("requeue", {"status": ["broken"]}, 422),
        ("prioritise", {"q": "x"}, 422),
        ("explode", {"q": "x"}, 404),
        ("hold", {"destination": "EAST"}, 404),
        ("hold", {"q": "x", "limit": 0}, 422),
        ("hold", {"ids": list(range(10_001))}, 422),
    ],
)
async def test_refusals(tmp_path: Path, verb: str, body: Any, status: int) -> None:
    async with rig(tmp_path) as hub:
        assert (await hub.admin.post(f"{BULK}/{verb}", body)).status == status


async def test_a_scoped_operator_reaches_only_the_scope(tmp_path: Path) -> None:
    """Also when the filter says more; others do not see the job."""
    async with rig(tmp_path) as hub:
        await filled(hub, 5)
        north = await hub.as_user("nora", Role.OPERATOR, "NORTH")
        answer = await north.post(f"{BULK}/stop", {"q": "target=*"})
        job = await ended(north, answer.json["id"])
        assert (job["done"], job["total"]) == (5, 5)
        left = (await hub.admin.get("/transfers?status=queued")).items
        assert {one["destination"] for one in left} == {"SOUTH"}
        assert (await north.post(f"{BULK}/stop", {"destination": "SOUTH"})).status == 404
        assert (await north.post(f"{BULK}/delete", {"q": "target=*"})).status == 202
        south = await hub.as_user("sue", Role.OPERATOR, "SOUTH")
        assert (await south.get(f"/jobs/{job['id']}")).status == 404
        assert len((await hub.admin.get("/transfers?destination=NORTH")).items) == 5


async def test_limit_priority_and_delete(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await filled(hub, 10)
        answer = await hub.admin.post(
            f"{BULK}/prioritise", {"destination": "NORTH", "priority": 7, "limit": 4}
        )
        job = await ended(hub.admin, answer.json["id"])
        assert (job["done"], job["state"]) == (4, "done")
        found = (await hub.admin.get("/transfers?destination=NORTH")).items
        assert [one["priority"] for one in found] == [7] * 4 + [99] * 6
        await hub.node.store.write(many, hub, "SOUTH", 400, TransferStatus.WAIT)
        answer = await hub.admin.post(f"{BULK}/hold", {"destination": "SOUTH", "limit": 200})
        assert (await ended(hub.admin, answer.json["id"]))["done"] == 200
        answer = await hub.admin.post(f"{BULK}/delete", {"q": "priority=7"})
        assert (await ended(hub.admin, answer.json["id"]))["done"] == 4
        assert len((await hub.admin.get("/transfers?destination=NORTH")).items) == 6


async def test_a_job_goes_on_after_a_restart_and_can_be_cancelled(tmp_path: Path) -> None:
    """What was done is not done again; a cancelled one stays where it is."""
    async with rig(tmp_path) as hub:
        await filled(hub, 10)
        operations = hub.monitor._services.jobs  # type: ignore[union-attr]  # it has started
        hub.monitor._jobs.cancel()  # type: ignore[union-attr]  # nobody works: as after a crash
        selection = Selection(destination="NORTH")
        first = await operations.create("hold", selection, Actor(name="admin"))
        second = await operations.create("stop", Selection(q="target=*"), Actor(name="admin"))
        assert (await hub.admin.delete(f"/jobs/{second.id}")).status == 204
        assert (await hub.admin.delete(f"/jobs/{second.id}")).status == 409
    async with rig(tmp_path) as hub:
        assert (await ended(hub.admin, first.id))["done"] == 10
        cancelled = (await hub.admin.get(f"/jobs/{second.id}")).json
        assert (cancelled["state"], cancelled["done"]) == ("cancelled", 0)


async def test_ten_thousand_in_bounded_memory(tmp_path: Path) -> None:
    """rest-api.md B.7: under 200 MiB; the count is a minimum above ten thousand."""
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        await hub.node.store.write(many, hub, "NORTH", 10_050, TransferStatus.STOP)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = await hub.admin.post(f"{BULK}/extend", {"destination": "NORTH"})
        assert (answer.json["total"], answer.json["total_is_minimum"]) == (10_000, True)
        job = await ended(hub.admin, answer.json["id"])
        assert (job["done"], job["total"]) == (10_050, 10_050)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert (after - before) * 1024 < 200 * 1024 * 1024
