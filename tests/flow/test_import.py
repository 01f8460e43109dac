"""`ecpds import-openecpds` into a node at rest: report, effect, and a second time."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import ROOT
from tests.daemon import DaemonProcess

BACKUP = ROOT / "tests" / "golden" / "openecpds-backup.json"


async def test_an_import_goes_round(tmp_path: Path) -> None:
    """Dry run changes nothing; what was imported is exported; again nothing changes."""
    node = DaemonProcess(tmp_path)
    await node.command("init")
    said = await node.command("import-openecpds", BACKUP, "--dry-run", code=4)
    assert "object(s) would change" in said
    assert "destinations" not in json.loads(await node.command("export", "--format", "json"))
    site = tmp_path / "site.json"
    report = json.loads(
        await node.command("import-openecpds", BACKUP, "--output", "json", "--site", site, code=4)
    )
    assert report["counts"]["refused"] == 5
    assert site.stat().st_mode & 0o777 == 0o600
    exported = json.loads(await node.command("export", "--format", "json", "--secrets"))
    wanted = json.loads(site.read_text())
    for kind in ("hosts", "destinations"):
        stored = {one["name"]: one for one in exported[kind]}
        for one in wanted[kind]:
            mine = stored[one["name"]]
            for key in ("options", "legacy", "aliases", "hosts", "password", "method"):
                assert mine.get(key) == one.get(key), (one["name"], key)
    assert "0 object(s) would change" in await node.command("apply", site, "--dry-run")
    again = await node.command("import-openecpds", BACKUP, code=4)
    assert "is here already and stays as it is" in again
    assert again.strip().endswith("0 object(s) changed")
