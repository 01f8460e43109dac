"""`ecpds fsck`: what it finds, what it repairs, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ecpds.cli.access import Access
from ecpds.cli.client import Client
from ecpds.cli.main import main
from ecpds.cli.upload import Form
from tests.commandline import command_line
from tests.daemon import DaemonProcess

ORPHAN = "20260101/00/" + "0" * 24


class Site:
    """A node at rest with files in it."""

    def __init__(self, daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self._capsys = daemon, capsys
        self.objects = daemon.data / "objects"

    def fsck(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run it; return its summary."""
        self._capsys.readouterr()
        given = ["fsck", "--config", str(self.daemon.config), "--output", "json", *words]
        found = main(given)
        shown = self._capsys.readouterr()
        assert found == code, shown
        summary: dict[str, Any] = json.loads(shown.out)
        return summary

    def sql(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement beside everything."""
        with closing(sqlite3.connect(self.daemon.data / "ecpds.db")) as db:
            rows = db.execute(text, values).fetchall()
            db.commit()
        return rows

    def object_of(self, file: int) -> Path:
        """Return where the content of a file lies."""
        [(key,)] = self.sql("SELECT object_key FROM data_file WHERE id = ?", file)
        return self.objects / str(key)


def push(daemon: DaemonProcess, name: str, path: Path) -> int:
    """Store a file; return its id."""
    access = Access(server=daemon.endpoints["monitor"], token=daemon.token, insecure=True)
    with Client(access) as client, path.open("rb") as file:
        form = Form({"destination": "MET", "target": name}, name, file, size=path.stat().st_size)
        number: int = client.upload("/files", form)["data_file"]["id"]
        return number


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    """Give a node that ran, stored twelve files of MET, and stopped."""
    with command_line(tmp_path) as cli:
        assert cli.daemon is not None
        (tmp_path / "site.json").write_text(json.dumps({"destinations": [{"name": "MET"}]}))
        cli("apply", "site.json")
        (tmp_path / "content").write_bytes(b"x" * 1000)
        for number in range(12):
            assert push(cli.daemon, f"f{number}", tmp_path / "content") == number + 1
        asyncio.run(cli.daemon.stop())
        yield Site(cli.daemon, capsys)


def test_a_node_that_stopped_is_fine(site: Site) -> None:
    """Nothing to find, nothing to repair; beside a running daemon only with --online."""
    summary = site.fsck("--deep")
    assert (summary["files"], summary["problems"], summary["report"]) == (12, 0, None)
    asyncio.run(site.daemon.start())
    assert main(["fsck", "--config", str(site.daemon.config)]) == 5
    assert main(["fsck", "--config", str(site.daemon.config), "--online", "--repair"]) == 2
    assert site.fsck("--online")["problems"] == 0
    asyncio.run(site.daemon.stop())
    assert main(["fsck", "--data-dir", str(site.daemon.folder / "nowhere")]) == 6


def spoil(site: Site) -> None:
    """Do everything to it that may happen to a disk or a row."""
    site.object_of(1).unlink()
    site.object_of(2).write_bytes(b"short")
    site.object_of(3).write_bytes(b"y" * 1000)
    path = site.objects / ORPHAN
    path.parent.mkdir(parents=True)
    path.write_bytes(b"orphan")
    site.sql("UPDATE transfer_count SET files = 77 WHERE status = 'WAIT'")
    site.sql("UPDATE transfer SET data_file = 4711 WHERE data_file = 5")
    site.sql("UPDATE transfer SET destination = 'GONE' WHERE data_file = 6")


def test_what_is_wrong_is_found_and_repaired(site: Site) -> None:
    """Each kind once; a second look finds nothing; the daemon runs and tells of the loss."""
    spoil(site)
    kinds = {"lost": 2, "orphan": 1, "counter": 1, "fileless": 1, "nowhere": 1}
    assert site.fsck(code=4)["kinds"] == kinds
    kinds["altered"] = 1
    assert site.fsck("--deep", code=4)["kinds"] == kinds
    assert (site.objects / ORPHAN).exists()  # without --repair nothing changes
    done = site.fsck("--deep", "--repair")
    assert done["kinds"] == kinds
    assert done["repaired"] == done["problems"] == 7
    report = [json.loads(line) for line in Path(done["report"]).read_text().splitlines()]
    assert sorted(one["kind"] for one in report) == sorted(
        kind for kind, count in kinds.items() for _ in range(count)
    )
    kept = [path.name for path in (site.objects / "lost+found").rglob("*") if path.is_file()]
    assert len(kept) == 3  # the orphan, what was too short, what was altered
    assert site.fsck("--deep")["problems"] == 0
    rows = site.sql("SELECT status, comment FROM transfer WHERE data_file IN (1, 2, 3)")
    assert {status for status, _ in rows} == {"FAIL"}
    assert all("content lost" in comment for _, comment in rows)
    assert site.sql(
        "SELECT files FROM transfer_count WHERE destination = 'MET' AND status = 'WAIT'"
    ) == [(7,)]

    asyncio.run(site.daemon.start())
    asyncio.run(site.daemon.stop())
    lines = (site.daemon.data / "log" / "events.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    lost = [one for one in told if one.get("action") == "content-lost"]
    assert sorted(one["file_id"] for one in lost) == [1, 2, 3]


def test_a_volume_that_is_not_mounted_is_not_lost(site: Site) -> None:
    """Most of it gone at once: nothing is marked unless it is forced."""
    for number in range(1, 13):
        site.object_of(number).unlink()
    done = site.fsck("--repair", code=4)
    assert (done["kinds"], done["repaired"]) == ({"lost": 12}, 0)
    assert "mounted" in done["told"][0]
    site.objects.rename(site.objects.with_name("elsewhere"))
    assert site.fsck("--repair", code=4)["kinds"] == {"unreachable": 12}
    site.objects.with_name("elsewhere").rename(site.objects)
    assert site.fsck("--repair", "--force")["repaired"] == 12


def test_a_damaged_database_is_told(site: Site) -> None:
    """Exit 1, and nothing of it is believed."""
    path = site.daemon.data / "ecpds.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place in range(8192, size - 4096, 8192):
            file.seek(place)
            file.write(os.urandom(600))
    code = main(["fsck", "--config", str(site.daemon.config), "--repair"])
    assert code == 1
