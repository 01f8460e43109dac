"""`ecpds doctor`: every line says how it is and what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecpds.base import tls
from ecpds.base.clock import SystemClock
from ecpds.cli.main import main
from tests.commandline import command_line


class Doctor:
    """Runs it on one settings file."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self._capsys = config, capsys

    def __call__(self, code: int = 0) -> dict[str, dict[str, str]]:
        """Return the lines by name."""
        self._capsys.readouterr()
        found = main(["doctor", "--config", str(self.config), "--output", "json"])
        shown = self._capsys.readouterr()
        assert found == code, shown
        document: dict[str, Any] = json.loads(shown.out)
        assert document["ok"] is (code == 0)
        assert all(one["advice"] for one in document["checks"] if one["state"] != "ok")
        return {one["name"]: one for one in document["checks"]}


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Give it for a node that is not there yet."""
    path = tmp_path / "ecpds.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\npublic_host = "localhost"\n'
        '[monitor]\nlisten = "127.0.0.1:0"\n[mqtt]\ntls_listen = ""\n'
        '[portal]\nhttps.listen = ""\nftp.listen = ""\nsftp.listen = ""\n'
    )
    return Doctor(path, capsys)


def test_a_node_at_work_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Listeners, readiness, store, clock; for people, too."""
    with command_line(tmp_path) as cli:
        assert cli.daemon is not None
        ask = Doctor(cli.daemon.config, capsys)
        found = ask()
        for name in ("settings", "data_dir", "volume default", "certificate", "store", "clock",
                     "monitor", "ftp", "sftp", "portal_https", "readiness"):  # fmt: skip
            assert found[name]["state"] == "ok", found[name]
        text = cli("doctor").text
        assert "ok       readiness" in text
        assert "WARNING  mail" in text
        (cli.daemon.data / "keys" / "master.key").chmod(0o644)
        assert ask()["keys/master.key"]["advice"].startswith("chmod 0600")
        asyncio.run(cli.daemon.stop())
        assert ask()["daemon"]["state"] == "warning"
        with closing(sqlite3.connect(cli.daemon.data / "ecpds.db")) as db:
            db.execute("UPDATE event SET time = time + 3600000000")
            db.execute("INSERT INTO event (uid, time, type, record) VALUES ('x', 4e15, 'SYS', '')")
            db.commit()
        assert "ahead" in ask(1)["clock"]["text"]
        (cli.daemon.data / "keys" / "master.key").unlink()
        assert ask(1)["keys/master.key"]["state"] == "failed"


def test_what_is_wrong_is_named_with_what_to_do(doctor: Doctor) -> None:
    """Settings first; then all that can be looked at without a node."""
    good = doctor.config.read_text()
    assert doctor(1)["data_dir"]["advice"] == "`ecpds init` makes it"
    doctor.config.write_text(good.replace("listen", "listne", 1))
    assert list(doctor(1)) == ["settings"]
    doctor.config.write_text(good.replace('"localhost"', '"no.such.host.invalid"'))
    assert doctor(1)["public_host"]["state"] == "warning"
    with taken_port() as port:
        doctor.config.write_text(good.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        assert doctor(1)["monitor.listen"]["state"] == "failed"
    doctor.config.write_text(good + f'[mail]\nurl = "smtp://127.0.0.1:{port}"\n')
    assert doctor(1)["mail"]["state"] == "failed"


@contextmanager
def taken_port() -> Iterator[int]:
    """Listen on a port that nobody else can have."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.mark.parametrize(
    ("days", "state", "code"), [(-800, "warning", 1), (-900, "failed", 1), (0, "ok", 1)]
)
def test_a_certificate_ends(doctor: Doctor, days: int, state: str, code: int) -> None:
    """Thirty days before it warns."""
    begin = SystemClock().now() + timedelta(days=days)
    certificate, key = tls.make_self_signed(doctor.config.parent / "tls", "localhost", begin)
    with doctor.config.open("a") as file:
        file.write(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    assert doctor(code)["certificate"]["state"] == state


def test_a_full_volume_fails(doctor: Doctor) -> None:
    """The reserve counts as used."""
    folder = doctor.config.parent / "disk"
    folder.mkdir()
    with doctor.config.open("a") as file:
        file.write(f'[[volumes]]\nname = "v"\npath = "{folder}"\nreserve = "900TB"\n')
    assert doctor(1)["volume v"]["text"].startswith("full")
