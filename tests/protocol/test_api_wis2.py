"""Discovery records by API and page: kept, checked, versioned, asked for by those who may."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from ecpds.engine.subscription import SubscriptionScheduler
from ecpds.model.account import Role
from tests.protocol.api import rig
from tests.protocol.test_pages_rights import browser
from tests.wis2 import RECORD, record

PLACE = f"/wis2/records/{RECORD}"


async def test_records_are_kept_with_versions(tmp_path: Path) -> None:
    """Created once, changed with If-Match, deleted; a wrong one tells what is wrong."""
    async with rig(tmp_path) as hub:
        api = hub.admin
        tried = await api.call("POST", "/wis2/records?dry_run=true", record())
        assert (tried.status, tried.json["id"]) == (200, RECORD)
        assert (await api.get(PLACE)).status == 404
        made = await api.call("POST", "/wis2/records", record())
        assert (made.status, made.json) == (201, record())
        assert (await api.call("POST", "/wis2/records", record())).status == 409
        rows = (await api.get("/wis2/records")).json["items"]
        assert [(one["id"], one["announced"]) for one in rows] == [(RECORD, None)]
        changed = record(title="Another")
        assert (await api.call("PUT", PLACE, changed)).status == 428
        match = {"If-Match": made.headers["ETag"]}
        assert (await api.call("PUT", PLACE, changed, headers=match)).json == changed
        assert (await api.call("PUT", PLACE, changed, headers=match)).status == 412
        bad = await api.call("POST", "/wis2/records", {"id": "urn:wmo:md:xx-a:b"})
        assert bad.status == 422
        assert "contacts" in bad.text
        assert (await api.call("DELETE", PLACE, headers={"If-Match": "*"})).status == 204
        assert (await api.get(PLACE)).status == 404


async def test_the_page_shows_and_takes_records(tmp_path: Path) -> None:
    """Pasted, shown, withdrawn; a viewer sees no form; a node without datasets fails its test."""
    async with rig(tmp_path, pages=True) as hub:
        editor = await browser(hub, "edith", Role.EDITOR)
        stored = await editor.post("/wis2/records", {"record": json.dumps(record())})
        assert stored.status == 303
        page = await editor.get("/wis2")
        assert page.status == 200
        assert RECORD in page.text
        assert "Store and announce" in page.text
        tested = await editor.post("/wis2/actions/test")
        assert "no destination has wis2.publish" in tested.text
        viewer = await browser(hub, "vera", Role.VIEWER)
        assert "Store and announce" not in (await viewer.get("/wis2")).text
        assert (await viewer.post("/wis2/records", {"record": "{}"})).status == 403
        await editor.post("/wis2/records/actions/delete", {"id": RECORD})
        assert RECORD not in (await editor.get("/wis2")).text


async def test_the_page_shows_how_late_subscriptions_are(tmp_path: Path) -> None:
    """One that has heard nothing yet has no lag."""
    async with rig(tmp_path, pages=True) as hub:
        engine = hub.node.engine
        for host, lag in (("broker-a", timedelta(seconds=12.4)), ("broker-b", None)):
            made = SubscriptionScheduler(
                engine.core, "SYNOP", host, slots=asyncio.Semaphore(), submitted=lambda _: None
            )
            made.lag, made.is_running = lag, lag is not None
            engine.acquisitions["SYNOP", host] = made
        viewer = await browser(hub, "vera", Role.VIEWER)
        text = (await viewer.get("/wis2")).text
        first, second = text.split("/hosts/broker-a")[1].split("/hosts/broker-b")
        assert "12.4 s" in first
        assert "Not connected" in first.partition("</tr>")[2]
        assert "\u2013" in second.partition("</tr>")[0]
        engine.acquisitions.clear()
        assert "Subscriptions" not in (await viewer.get("/wis2")).text
