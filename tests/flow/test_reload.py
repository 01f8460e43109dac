"""SIGHUP: what can change does, what cannot is told, and nobody is dropped."""

from __future__ import annotations

import ftplib
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ecpds.base import tls
from ecpds.base.clock import SystemClock
from ecpds.base.reloading import reloaded
from ecpds.base.settings import LogSettings, Settings, VolumeSettings, load
from tests.commandline import CommandLine, command_line

LIMIT = 20.0  # seconds


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Give the command beside a daemon."""
    with command_line(tmp_path) as found:
        yield found


def hang_up(cli: CommandLine, text: str, told: Callable[[str], bool]) -> str:
    """Write other settings, send SIGHUP; return what was logged once it is told."""
    assert cli.daemon is not None
    assert cli.daemon.child is not None
    log = cli.daemon.data / "log" / "ecpds.log"
    begin = log.stat().st_size if log.exists() else 0
    cli.daemon.config.write_text(f'[node]\ndata_dir = "{cli.daemon.data}"\n{text}')
    os.kill(cli.daemon.child.pid, signal.SIGHUP)
    limit = time.monotonic() + LIMIT
    while not told(new := log.read_text()[begin:] if log.exists() else ""):
        assert time.monotonic() < limit, new
        time.sleep(0.02)
    return new


def certificate_of(cli: CommandLine) -> str:
    """Return the certificate that the monitor shows."""
    assert cli.daemon is not None
    return ssl.get_server_certificate(("127.0.0.1", cli.daemon.port("monitor")), timeout=LIMIT)


def test_sessions_outlive_a_reload(cli: CommandLine, tmp_path: Path) -> None:
    """Log level and certificate change at once, the slots of the scheduler at the next start."""
    assert cli.daemon is not None
    (tmp_path / "site.toml").write_text(
        '[[destinations]]\nname = "MET"\n[[data_users]]\nlogin = "alice"\nactive = true\n'
        'password = "secret-secret"\ndestinations = ["MET"]\noperations = ["dir"]\n'
    )
    cli("apply", "site.toml")
    now = SystemClock().now()
    certificate, key = tls.make_self_signed(tmp_path / "other", "localhost", now)
    before = certificate_of(cli)
    with ftplib.FTP() as session:
        session.connect("127.0.0.1", cli.daemon.port("ftp"), timeout=LIMIT)
        session.login("alice", "secret-secret")
        new = hang_up(
            cli,
            f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
            '[log]\nlevel = "debug"\n[portal]\nbanner = "Now with a banner"\n'
            '[scheduler]\ntransfers = 7\nhistory_for = "1d"\n',
            lambda text: "reloaded" in text,
        )
        assert session.voidcmd("NOOP").startswith("200")
        assert "scheduler.transfers" in new.partition("restart is needed")[2].splitlines()[0]
        told = new.partition("reloaded")[2]
        for name in ("tls.certificate", "log.level", "portal.banner", "scheduler.history_for"):
            assert name in told, new
        assert certificate_of(cli) != before
        assert certificate_of(cli).strip() == certificate.read_text().strip()


@pytest.mark.parametrize(
    "text",
    ["[log\n", '[log]\nlevel = "loud"\n', '[tls]\ncertificate = "/nowhere"\n',
     '[mail]\nurl = "gopher://x"\n'],
)  # fmt: skip
def test_mistakes_leave_everything_as_it_was(cli: CommandLine, text: str) -> None:
    """The reason is logged, the daemon serves on."""
    before = certificate_of(cli)
    hang_up(cli, text, lambda log: "reload refused" in log)
    assert certificate_of(cli) == before


def test_what_needs_a_restart_keeps_its_value() -> None:
    """Key by key, in lists of tables too."""
    volume = VolumeSettings(name="a", path=Path("/a"), reserve=1)  # type: ignore[arg-type]
    old = replace(load(None, {}), volumes=(volume,))
    moved = replace(volume, path=Path("/b"), weight=7)
    node = replace(old.node, data_dir=Path("/elsewhere"), timezone="Europe/Rome")
    new = replace(old, node=node, volumes=(moved,), log=LogSettings(level="debug"))
    found = reloaded(old, new)
    assert found.settings.data_dir == old.data_dir
    assert found.settings.node.timezone == "Europe/Rome"
    assert (found.settings.volumes[0].path, found.settings.volumes[0].weight) == (Path("/a"), 7)
    assert set(found.waiting) == {"node.data_dir", "volumes.0.path"}
    assert set(found.changed) == {"node.timezone", "volumes.0.weight", "log.level"}
    assert reloaded(old, replace(old, volumes=())).waiting == ("volumes",)
    same = reloaded(Settings(), Settings())
    assert (same.changed, same.waiting) == ((), ())
