"""Lists: search, order, count, and cursors that stay true while rows come and go."""

from __future__ import annotations

from pathlib import Path

from tests.protocol.api import rig


async def test_named_lists(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for number in range(12):
            body = {"name": f"D{number:02}", "max_connections": number % 3, "active": number < 6}
            assert (await hub.admin.post("/destinations", body)).ok
        found = await hub.admin.get("/destinations?q=max_connections=2 active=yes&count=true")
        assert [one["name"] for one in found.items] == ["D02", "D05"]
        assert (found.json["total"], found.json["total_is_minimum"]) == (2, False)
        assert "total" not in (await hub.admin.get("/destinations")).json
        alone = await hub.admin.get("/destinations?q=1&sort=-name")
        assert [one["name"] for one in alone.items] == ["D11", "D10", "D01"]
        for odd in ("q=nonsense=1", "q=max_connections=x", 'q="', "sort=nonsense", "sort=-nam"):
            answer = await hub.admin.get(f"/destinations?{odd}")
            assert (answer.status, answer.json["type"]) == (400, "urn:problem:bad-parameter")
        assert "did you mean 'name'" in (await hub.admin.get("/destinations?sort=nam")).text


async def test_cursors_are_stable(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        for number in range(8):
            body = {"name": f"D{number}", "max_connections": number % 2}
            assert (await hub.admin.post("/destinations", body)).ok
        first = await hub.admin.get("/destinations?sort=-max_connections,name&limit=3")
        assert [one["name"] for one in first.items] == ["D1", "D3", "D5"]
        assert (await hub.admin.delete("/destinations/D5", match="*")).status == 204
        assert (await hub.admin.post("/destinations", {"name": "D0a"})).ok  # before the cursor
        seen = []
        cursor = first.json["next_cursor"]
        while cursor:
            path = f"/destinations?sort=-max_connections,name&limit=3&cursor={cursor}"
            page = await hub.admin.get(path)
            seen += [one["name"] for one in page.items]
            cursor = page.json["next_cursor"]
        assert seen == ["D7", "D0", "D2", "D4", "D6"]
        other = await hub.admin.get(f"/destinations?sort=name&cursor={first.json['next_cursor']}")
        assert (other.status, other.json["code"]) == (400, "bad-parameter")


async def test_transfers_by_query(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.node.destination("NORTH")
        for number in range(5):
            await hub.admin.upload(b"x" * (number + 1), destination="NORTH", target=f"f{number}")
        found = await hub.admin.get("/transfers?q=size>=4 target=f*&count=true")
        assert [one["target"] for one in found.items] == ["f4", "f3"]
        assert found.json["total"] == 2
        assert (await hub.admin.get("/transfers?count=true")).json["total"] == 5
        assert (await hub.admin.get("/transfers?q=nonsense=1")).status == 400
