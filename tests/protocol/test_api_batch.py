"""`POST /files/batch`: many sources at once, each accepted or refused alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecpds.model.account import Role
from ecpds.model.host import HostRole
from tests.protocol.api import rig


def named(number: int, **fields: Any) -> dict[str, Any]:
    return {"source": f"/data/f{number}", "destination": "NORTH", **fields}


async def test_many_sources_in_one_request(tmp_path: Path) -> None:
    """One item for each, in order; what is refused stands alone."""
    async with rig(tmp_path) as hub:
        await hub.host("src", tmp_path / "src", role=HostRole.SOURCE, active=False)
        await hub.node.destination("NORTH", source_host="src")
        await hub.node.destination("SOUTH")
        files = [named(number) for number in range(100)]
        files[7] = named(7, destination="NOWHERE")
        files[8] = named(8, destination="SOUTH")  # no source host
        files[9] = named(9, destination="")
        answer = await hub.admin.post("/files/batch", {"files": files})
        assert answer.status == 200, answer.text
        statuses = [one["status"] for one in answer.json["items"]]
        assert statuses == [201] * 7 + [404, 422, 422] + [201] * 90
        names = [one["submitted"]["data_file"]["source"] for one in answer.json["items"][:7]]
        assert names == [f"/data/f{number}" for number in range(7)]
        refused = answer.json["items"][7]
        assert refused["submitted"] is None
        assert "NOWHERE" in refused["problem"]["detail"]
        again = await hub.admin.post(
            "/files/batch", {"files": [named(0), named(0, on_duplicate="skip")]}
        )
        (first, second) = again.json["items"]
        assert (first["status"], second["status"]) == (409, 200)
        assert second["submitted"]["skipped"] is True


async def test_limits_and_rights(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        for count in (0, 501):
            answer = await hub.admin.post("/files/batch", {"files": [named(1)] * count})
            assert answer.status == 422, answer.text
        viewer = await hub.as_user("vera", Role.VIEWER)
        assert (await viewer.post("/files/batch", {"files": [named(1)]})).status == 403
