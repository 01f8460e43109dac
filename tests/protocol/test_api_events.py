"""Events of the API's own door: INH for uploads and registrations, DEA for refused credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecpds.model.events import classic
from ecpds.model.host import HostRole
from ecpds.store import history
from tests.protocol.api import Rig, rig


async def told(hub: Rig, kind: str) -> list[Any]:
    rows = await hub.node.store.read(history.events, limit=100, kind=kind)
    return [record for _, record in rows][::-1]


async def test_an_upload_and_a_registration_are_told_once(tmp_path: Path) -> None:
    """Action upload and scheduled; a duplicate that was skipped is none."""
    async with rig(tmp_path) as hub:
        await hub.host("src", tmp_path, role=HostRole.SOURCE)
        await hub.node.destination("D", source_host="src", country="fr")
        await hub.admin.upload(b"12345", destination="D", target="a")
        await hub.admin.upload(b"12345", destination="D", target="a", on_duplicate="skip")
        await hub.admin.post("/files", {"destination": "D", "source": "/x", "group": "G"})
        upload, scheduled = await told(hub, "INH")
        assert (upload["action"], upload["bytes"], upload["user"]["id"]) == ("upload", 5, "admin")
        assert (scheduled["action"], scheduled["bytes"]) == ("scheduled", 0)
        line = classic(upload) or ""
        assert ";UserId=admin;CountryCode=fr;" in line
        assert ";TransferProtocol=ecpds;TransferServer=m1;HostAddress=127.0.0.1;" in line
        assert line.endswith(";Action=upload")


async def test_a_refused_credential_is_told(tmp_path: Path) -> None:
    """The form of the command line."""
    async with rig(tmp_path) as hub:
        assert (await hub.client("ddt_wrong").get("/transfers")).status == 401
        (record,) = await told(hub, "DEA")
        assert (classic(record) or "").endswith(";Context=From the ecpds command at 127.0.0.1")
        assert "wrong" not in str(record)
