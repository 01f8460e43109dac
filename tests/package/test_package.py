"""The wheel in an empty environment: it starts, answers, and finds all that it brings along."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ecpds import __version__
from tests.conftest import ROOT
from tests.daemon import LISTENERS

LIMIT = 120.0  # seconds for a step on a loaded machine
SOURCES = ("ecpds", "templates", "config", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PASS_OVER = shutil.ignore_patterns("__pycache__", "*.pyc")
BUILD = "from setuptools import build_meta; print(build_meta.build_sdist('../dist'))"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*words: object, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run a program to its good end; return what it printed."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "ECPDS_" not in k}
    ended = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=clean | (environment or {}), timeout=LIMIT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@dataclass(frozen=True)
class Built:
    """What a release consists of."""

    folder: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist from the sources, and the wheel from the sdist, as an index would."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=PASS_OVER)
        else:
            shutil.copy(ROOT / name, source)
    (folder / "dist").mkdir()
    run(sys.executable, "-c", BUILD, cwd=source)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "--wheel-dir", "dist", sdist, cwd=folder)  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    return Built(folder, sdist, wheel)


def test_the_files_have_the_names_of_the_release(built: Built) -> None:
    """One wheel for every platform."""
    assert built.sdist.name == f"ecpds-{__version__}.tar.gz"
    assert built.wheel.name == f"ecpds-{__version__}-py3-none-any.whl"


def test_the_wheel_has_what_the_checkout_has(built: Built) -> None:
    """Every file of the three trees, and nothing else but its own metadata."""
    source = built.folder / "source"
    present = {
        prefix + path.relative_to(source / folder).as_posix()
        for folder, prefix in (("ecpds", "ecpds/"), ("templates", "ecpds/_share/templates/"),
                               ("config", "ecpds/_share/config/"))
        for path in (source / folder).rglob("*")
        if path.is_file()
    }  # fmt: skip
    with zipfile.ZipFile(built.wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert packed == present
    assert "License-Expression: Apache-2.0" in text or "License: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text


def test_the_sdist_can_be_built_again(built: Built) -> None:
    """It has the sources, the metadata and the licence."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "ecpds/daemon.py",
                     "templates/base.html", "config/systemd/ecpds.service"}  # fmt: skip
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "data"))]


@pytest.fixture(scope="module")
def installed(built: Built) -> Path:
    """Install the wheel in an environment of its own; return the folder of its programs.

    The dependencies are those of the tests: reached by a path, so that nothing is fetched.
    """
    home = built.folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=built.folder)
    python = home / "bin" / "python"
    run(sys.executable, *PIP, "--python", python, "install", "--no-deps", "--no-index",
        built.wheel, cwd=built.folder)  # fmt: skip
    places = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                 cwd=built.folder)  # fmt: skip
    mine = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(places.strip()) / "dependencies.pth").write_text("\n".join(sorted(mine)) + "\n")
    return home / "bin"


def test_it_runs_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    """The command of the wheel, and the code of the wheel."""
    assert run(installed / "ecpds", "version", cwd=tmp_path) == f"ecpds {__version__}\n"
    place = run(installed / "python", "-c", "import ecpds; print(ecpds.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(installed.parent)
    assert run(installed / "python", "-m", "ecpds", "config", "check", cwd=tmp_path)


class Notified:
    """What a service manager hears."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(LIMIT)

    def until(self, word: str) -> str:
        """Return the next message that has the word."""
        while word not in (message := self._socket.recv(4096).decode()):
            pass
        return message

    def close(self) -> None:
        """Close."""
        self._socket.close()


@dataclass
class Service:
    """A daemon from the wheel, run as a unit would."""

    child: subprocess.Popen[bytes]
    notified: Notified
    folder: Path
    ready: str  # what it told the service manager

    @property
    def endpoints(self) -> dict[str, str]:
        """Return where it listens."""
        found: dict[str, str] = json.loads((self.folder / "data" / "endpoints.json").read_text())
        return found

    def get(self, endpoint: str, path: str) -> tuple[int, bytes]:
        """Return status and body of an address; its certificate is checked."""
        context = ssl.create_default_context(cafile=str(self.folder / "data/tls/certificate.pem"))
        context.check_hostname = False
        try:
            with urllib.request.urlopen(
                self.endpoints[endpoint] + path, context=context, timeout=LIMIT
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@pytest.fixture(scope="module")
def service(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the daemon with the demo site; it says READY=1 to the service manager."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "ecpds.toml").write_text("[demo]\nenabled = true\n")
    notified = Notified(folder / "notify")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "ECPDS_" not in k}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [installed / "ecpds", "serve"], cwd=folder, stdout=log, stderr=log,
            env=clean | LISTENERS | {"NOTIFY_SOCKET": str(notified.path)},
        )  # fmt: skip
    try:
        yield Service(child, notified, folder, notified.until("READY=1"))
    finally:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGKILL)
        child.wait(LIMIT)
        notified.close()


def test_it_tells_the_service_manager_when_it_serves(service: Service) -> None:
    """READY=1 when every listener accepts, then the watchdog is fed."""
    assert f"MAINPID={service.child.pid}" in service.ready
    assert service.get("monitor", "/healthz") == (200, b"ok\n")
    status, body = service.get("monitor", "/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)
    service.notified.until("WATCHDOG=1")


def test_pages_and_static_files_came_along(service: Service) -> None:
    """Of the dashboard and of the portal."""
    status, page = service.get("monitor", "/login")
    assert (status, b"<form" in page) == (200, True)
    for name in ("monitor.css", "monitor.js", "portal.css", "vendor/inter-latin.woff2"):
        status, data = service.get("monitor", f"/static/{name}")
        assert (status, data) == (200, (ROOT / "templates" / "static" / name).read_bytes())
    status, page = service.get("portal_https", "/ecpds/login")
    assert (status, b"<form" in page) == (200, True)


def test_the_sample_site_came_along(service: Service, installed: Path) -> None:
    """Its products are acquired, stored and delivered by the node from the wheel."""

    def ecpds(*words: object) -> str:
        return run(installed / "ecpds", *words, cwd=service.folder)

    assert "DEMO-ARCHIVE" in ecpds("destination", "list", "--output", "id").split()
    wait(lambda: ecpds("transfer", "list", "--destination", "DEMO", "--status", "done"))
    first = ecpds("transfer", "list", "--destination", "DEMO", "--status", "done", "--limit", "1",
                  "--output", "json")  # fmt: skip
    found: dict[str, Any] = json.loads(first)
    ecpds("get", f"DEMO/{found['target']}", "-o", "product")
    content = (service.folder / "product").read_bytes()
    assert content in {path.read_bytes() for path in (ROOT / "config/demo/products").iterdir()}


def test_it_stops_when_it_is_told_to(service: Service) -> None:
    """SIGTERM: the manager hears STOPPING=1, the exit code is 0, the endpoints are gone."""
    assert service.child.poll() is None
    service.child.terminate()
    service.notified.until("STOPPING=1")
    assert service.child.wait(LIMIT) == 0, (service.folder / "log").read_text()
    assert not (service.folder / "data" / "endpoints.json").exists()


def wait(condition: Callable[[], object]) -> None:
    """Return once the condition is true."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# --- the unit ------------------------------------------------------------------------------------

UNIT = ROOT / "config" / "systemd" / "ecpds.service"


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_unit(installed: Path, tmp_path: Path) -> None:
    """With the command of the wheel in its place, and without a word of warning."""
    text = UNIT.read_text().replace("/usr/bin/ecpds", str(installed / "ecpds"))
    text = "\n".join(line for line in text.splitlines() if not line.startswith("Documentation"))
    (tmp_path / "ecpds.service").write_text(text)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "ecpds.service")],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    ours = [line for line in ended.stderr.splitlines() if "ecpds.service" in line]
    assert (ended.returncode, ours) == (0, [])


def test_the_unit_gives_the_daemon_the_time_it_needs() -> None:
    """Longer than all stages of a stop: finish, cancel, close listeners, write."""
    from ecpds.base.settings import SchedulerSettings
    from ecpds.daemon import CANCEL_TIME, WRITE_TIME

    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    stop = SchedulerSettings().finish_timeout + 2 * CANCEL_TIME + WRITE_TIME
    assert int(service["TimeoutStopSec"]) > stop.total_seconds()
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert service["ExecStart"].split()[1:] == ["serve", "--config", "/etc/ecpds/ecpds.toml"]
