"""Incidents: opened by their causes, closed by recovery; acknowledged, noted, muted; in scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ecpds.engine import incidents as causes
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.model.account import Role
from ecpds.model.destination import Destination
from ecpds.model.transfer import Reason
from ecpds.store import incidents, outbox
from ecpds.store.db import Connection
from tests.protocol.api import Rig, rig


@pytest.fixture(autouse=True)
def _enough_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever room the disk of the tests has, it is no incident here."""
    monkeypatch.setattr(causes, "NARROW", 0.0)


async def look(hub: Rig) -> None:
    """Let the node look at what is wrong."""
    await hub.node.engine.watches.incidents.look()


async def broken(hub: Rig, host: str = "north-host", destination: str = "NORTH") -> None:
    """Make a destination whose host refuses us."""
    await hub.host(host, Path("/nowhere"))
    await DestinationOperations(hub.node.engine).put(
        Destination(name=destination, hosts=(host,)), SYSTEM
    )
    reason = Reason(kind="auth", phase="login", code="530", text="the login is <b>refused</b>")
    version = hub.node.core.snapshot.hosts[host].version
    now = hub.node.core.clock.now()
    hub.node.engine.breakers.failed(host, reason, now=now, version=version)
    await look(hub)


async def test_a_breaker_opens_and_recovery_closes(tmp_path: Path) -> None:
    """One incident however often it is looked at; the next time it is counted, the note stays."""
    async with rig(tmp_path) as hub:
        await broken(hub)
        await look(hub)
        (one,) = (await hub.admin.get("/incidents")).items
        assert (one["kind"], one["subject_kind"], one["subject"]) == (
            "breaker", "host", "north-host"
        )  # fmt: skip
        assert one["text"] == "the login is <b>refused</b>"
        assert one["open"] is True
        assert one["count"] == 1
        path = f"/incidents/{one['id']}"
        noted = await hub.admin.post(f"{path}/actions/ack", {"note": "called them"})
        assert (noted.json["acknowledged_by"], noted.json["note"]) == ("admin", "called them")
        hub.node.engine.breakers.succeeded("north-host")
        await look(hub)
        assert (await hub.admin.get("/incidents")).items == []
        (closed,) = (await hub.admin.get("/incidents?state=resolved")).items
        assert closed["resolved"] is not None
        await broken(hub)
        again = (await hub.admin.get(path)).json
        assert (again["open"], again["count"], again["acknowledged_by"], again["note"]) == (
            True, 2, None, "called them"
        )  # fmt: skip
        changes = (await hub.admin.get("/changes?kind=incident")).items
        assert [one["action"] for one in changes] == ["acknowledge"]


async def test_mute_note_and_bad_input(tmp_path: Path) -> None:
    """A mute has an end within a year; notes are bounded; nothing is changed by what is refused."""
    async with rig(tmp_path) as hub:
        await broken(hub)
        (one,) = (await hub.admin.get("/incidents")).items
        path = f"/incidents/{one['id']}/actions"
        until = hub.node.core.clock.now() + timedelta(hours=2)
        muted = await hub.admin.post(f"{path}/mute", {"until": until.isoformat()})
        assert muted.json["muted_by"] == "admin"
        assert (await hub.admin.post(f"{path}/unmute", {})).json["muted_until"] is None
        for body in ({}, {"until": "2001-01-01T00:00:00Z"}, {"until": "9999-01-01T00:00:00Z"}):
            assert (await hub.admin.post(f"{path}/mute", body)).status == 422
        assert (await hub.admin.post(f"{path}/note", {"note": "x" * 4001})).status == 422
        assert (await hub.admin.post(f"{path}/note", {"note": 7})).status == 422
        assert (await hub.admin.post("/incidents/99/actions/ack", {})).status == 404
        assert (await hub.admin.get("/incidents?state=odd")).status == 400
        assert (await hub.admin.get("/incidents?state=resolved&cursor=eHg")).status == 400
        assert (await hub.admin.get(f"/incidents/{one['id']}")).json["note"] == ""


async def test_incidents_are_those_of_the_scope(tmp_path: Path) -> None:
    """An operator of other destinations neither sees nor touches them; a viewer only sees."""
    async with rig(tmp_path) as hub:
        await broken(hub)
        await broken(hub, "south-host", "SOUTH")
        south = await hub.as_user("sue", Role.OPERATOR, "SOUTH")
        (own,) = (await south.get("/incidents")).items
        assert own["subject"] == "south-host"
        other = own["id"] - 1
        assert (await south.get(f"/incidents/{other}")).status == 404
        assert (await south.post(f"/incidents/{other}/actions/ack", {})).status == 404
        assert (await south.post(f"/incidents/{own['id']}/actions/ack", {})).status == 200
        viewer = await hub.as_user("vera", Role.VIEWER)
        assert len((await viewer.get("/incidents")).items) == 2
        assert (await viewer.post(f"/incidents/{own['id']}/actions/ack", {})).status == 403


async def test_failed_publications_until_one_is_sent(tmp_path: Path) -> None:
    """The incident is there while the last publication of a destination has failed."""
    async with rig(tmp_path) as hub:
        core = hub.node.core

        def settle(db: Connection, state: str) -> None:
            now = core.clock.now()
            outbox.add(db, ["mqtt"], "NORTH", 1, "available", expires_at=None, now=now)
            number = outbox.page(db, limit=1)[0].id
            ended = outbox.Settled(id=number, state=state, content={})
            outbox.settle(db, [ended], now=now)

        await core.store.write(settle, "failed")
        await look(hub)
        (one,) = (await hub.admin.get("/incidents")).items
        assert (one["kind"], one["subject"]) == ("publication", "NORTH")
        await core.store.write(settle, "sent")
        await look(hub)
        assert (await hub.admin.get("/incidents")).items == []


async def test_a_restart_knows_what_was_open(tmp_path: Path) -> None:
    """What is no more wrong after a start is closed by the first look."""
    async with rig(tmp_path) as hub:
        now = hub.node.core.clock.now()
        old = incidents.Problem(
            kind="storage", subject_kind="volume", subject="gone", severity="critical", text="full"
        )
        await hub.node.core.store.write(incidents.raise_one, old, now=now)
        assert len((await hub.admin.get("/incidents")).items) == 1
        await look(hub)
        assert (await hub.admin.get("/incidents")).items == []


@pytest.mark.parametrize(
    ("days", "severity"), [(31, None), (29, "warning"), (6, "error"), (0, "critical")]
)
async def test_a_certificate_near_its_end(tmp_path: Path, days: int, severity: str | None) -> None:
    """Warned of 30 days before, urgent in the last week."""
    async with rig(tmp_path) as hub:
        now = hub.node.core.clock.now()
        found = causes.certificate_problem(now + timedelta(days=days), now)
        assert [one.severity for one in found] == ([severity] if severity else [])


async def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    """An imported rule that cannot be read is told of until it is corrected."""
    async with rig(tmp_path) as hub:
        operations = DestinationOperations(hub.node.engine)
        bad = Destination(
            name="NORTH", options={"scheduler.requeuepattern": "("},
            legacy=("scheduler.requeuepattern",),
        )  # fmt: skip
        bad = replace(bad, options={**bad.options, "scheduler.requeueon": "1 == 1"})
        await operations.put(bad, SYSTEM)
        await look(hub)
        kinds = {(one["kind"], one["subject"]) for one in (await hub.admin.get("/incidents")).items}
        assert kinds == {("text", "NORTH")}
        await operations.put(replace(bad, options={}, legacy=()), SYSTEM)
        await look(hub)
        assert (await hub.admin.get("/incidents")).items == []
