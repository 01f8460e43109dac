"""What `ecpds doctor` looks at; each check returns lines and changes nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ecpds.base import tls
from ecpds.base.clock import SystemClock
from ecpds.base.settings import Settings
from ecpds.cli.access import Access, read_text
from ecpds.cli.client import Client
from ecpds.model.errors import ConfigError, EcpdsError
from ecpds.node import DataDirectory
from ecpds.store.check import glance

State = Literal["ok", "warning", "failed"]
ANSWER_TIME: Final = 5.0  # seconds for a connection or an answer
FILES_WANTED: Final = 8192  # descriptors: 4,000 clients, a file each
EXPIRES_SOON: Final = timedelta(days=30)
CLOCK_STEP: Final = timedelta(seconds=2)
NARROW: Final = 0.1  # of a volume left above its reserve


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, what to do."""

    name: str
    state: State
    text: str
    advice: str = ""

    def document(self) -> dict[str, str]:
        """Return it for machines."""
        return asdict(self)


class Patient:
    """A node, at work or at rest."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = SystemClock().now()

    @cached_property
    def endpoints(self) -> dict[str, str]:
        """Where the running daemon listens; empty when none runs."""
        try:
            text = (self.settings.data_dir / "endpoints.json").read_text(encoding="utf-8")
            found = json.loads(text)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and self.runs else {}

    @cached_property
    def runs(self) -> bool:
        """Whether a daemon holds the data directory."""
        if not (self.settings.data_dir / "lock").exists():
            return False
        directory = DataDirectory(self.settings)
        try:
            directory.open()
        except ConfigError:
            return True
        directory.close()
        return False


Check = Callable[[Patient], Iterator[Finding]]


# --- the machine ---------------------------------------------------------------------------------


def data_directory(patient: Patient) -> Iterator[Finding]:
    """It exists, nobody else looks into it, and the keys least of all."""
    root = patient.settings.data_dir
    if not root.is_dir():
        yield Finding("data_dir", "failed", f"{root} is not there", "`ecpds init` makes it")
        return
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data_dir", "failed", f"{root} is not writable for this user",
                      "run as the user of the node, or give it the directory")  # fmt: skip
        return
    yield from _private("data_dir", root, "files of others than the node can be read by others")
    for name in ("keys", "keys/master.key", "admin.token", "tls/key.pem"):
        path = root / name
        if path.exists():
            yield from _private(name, path, "this is a secret of the node")
    if not (root / "keys" / "master.key").exists() and patient.settings.store_path.exists():
        yield Finding("keys/master.key", "failed", "it is missing although there is a store",
                      "restore it from a backup: the secrets of the store need it")  # fmt: skip


def _private(name: str, path: Path, why: str) -> Iterator[Finding]:
    state = path.stat()
    mode = state.st_mode & 0o777
    allowed = 0o750 if path.is_dir() else 0o600
    if mode & ~allowed:
        yield Finding(name, "warning", f"{path} has mode {mode:04o}: {why}",
                      f"chmod {allowed:04o} {path}")  # fmt: skip
    elif state.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        yield Finding(name, "failed", f"{path} belongs to another user",
                      "run as the user of the node")  # fmt: skip
    else:
        yield Finding(name, "ok", f"{path} has mode {mode:04o}")


def volumes(patient: Patient) -> Iterator[Finding]:
    """Each has room above its reserve and can be written."""
    for one in patient.settings.volume_list:
        name = f"volume {one.name}"
        path = one.path.absolute()
        if not path.is_dir():
            advice = "mount or make it; the daemon makes it at its start"
            yield Finding(name, "warning", f"{path} is not there", advice)
            continue
        figures = os.statvfs(path)
        room = figures.f_bavail * figures.f_frsize - one.reserve
        text = f"{_size(room)} above the reserve of {_size(one.reserve)} in {path}"
        advice = "delete, shorten lifetimes, add a volume"
        if not os.access(path, os.W_OK):
            yield Finding(name, "failed", f"{path} cannot be written", "give it to the node's user")
        elif room <= 0:
            yield Finding(name, "failed", f"full: {text}", f"nothing can be stored: {advice}")
        elif room < figures.f_blocks * figures.f_frsize * NARROW:
            yield Finding(name, "warning", f"nearly full: {text}", advice)
        elif figures.f_files and figures.f_favail < figures.f_files * NARROW / 2:
            text = f"{figures.f_favail} files more fit in {path}"
            yield Finding(name, "warning", text, "the file system has few inodes left")
        else:
            yield Finding(name, "ok", text)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def open_files(patient: Patient) -> Iterator[Finding]:
    """Every connection and every file under way takes a descriptor."""
    del patient
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES_WANTED:
        yield Finding("open files", "warning", f"at most {hard} here",
                      f"LimitNOFILE={FILES_WANTED} or more in the unit, or ulimit -Hn")  # fmt: skip
    else:
        yield Finding("open files", "ok", "any number" if hard < 0 else f"up to {hard} here")


def parts(patient: Patient) -> Iterator[Finding]:
    """Optional parts of the installation."""
    if importlib.util.find_spec("uvloop") is None:
        yield Finding("uvloop", "warning", "not installed", "pip install uvloop: faster portals")
    else:
        yield Finding("uvloop", "ok", "installed")
    geo = patient.settings.security.geo_database
    if geo and not Path(geo).is_file():
        yield Finding("geo database", "failed", f"{geo} is not there",
                      "security.geo_database names a MaxMind file")  # fmt: skip


# --- names, certificate, mail --------------------------------------------------------------------


def certificate(patient: Patient) -> Iterator[Finding]:
    """It can be used, and for how long."""
    given = patient.settings.tls
    folder = patient.settings.data_dir / "tls"
    path = Path(given.certificate) if given.certificate else folder / "certificate.pem"
    key = Path(given.key or path) if given.certificate else folder / "key.pem"
    if not given.certificate and not path.exists():
        yield Finding("certificate", "ok", "self-signed, made at the first start")
        return
    try:
        ends = tls.Certificates(path, key).expires_at()
    except (ConfigError, OSError, ValueError) as error:
        yield Finding("certificate", "failed", str(error), "tls.certificate and tls.key")
        return
    left = ends - patient.now
    text = f"{path} ends {ends:%Y-%m-%d}"
    advice = "replace the file, then SIGHUP (systemctl reload ecpds)"
    if left <= timedelta():
        yield Finding("certificate", "failed", f"expired: {text}", advice)
    elif left < EXPIRES_SOON:
        yield Finding("certificate", "warning", f"{left.days} days left: {text}", advice)
    else:
        yield Finding("certificate", "ok", text)


def public_name(patient: Patient) -> Iterator[Finding]:
    """Links and the access guide name a host that others find."""
    host = patient.settings.node.public_host
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        yield Finding("public_host", "warning", f"{host!r} is not found: {error}",
                      "node.public_host stands in links: give it an address in DNS")  # fmt: skip
    else:
        yield Finding("public_host", "ok", f"{host} is {', '.join(sorted(map(str, found)))}")


def mail(patient: Patient) -> Iterator[Finding]:
    """Mails have somebody to take them."""
    given = patient.settings.mail
    url = str(given.url)
    if not url:
        yield Finding("mail", "warning", "mail.url is empty: mails stay below data_dir/mail",
                      "mail.url = \"smtp://host\" if people are to get them")  # fmt: skip
        return
    address = urlsplit(url)
    default = 465 if address.scheme == "smtps" else 25
    try:
        place = (address.hostname or "", address.port or default)
        with socket.create_connection(place, ANSWER_TIME):
            yield Finding("mail", "ok", f"{place[0]}:{place[1]} answers")
    except (OSError, ValueError) as error:
        yield Finding("mail", "failed", f"{address.hostname} does not answer: {error}", "mail.url")
    if not given.admin:
        yield Finding("mail.admin", "warning", "nobody gets notices for operators", "mail.admin")


# --- the node ------------------------------------------------------------------------------------


def store(patient: Patient) -> Iterator[Finding]:
    """The store can be read, is of this release, and knows no future."""
    path = patient.settings.store_path
    if not path.exists():
        yield Finding("store", "warning", f"{path} is not there", "made at the first start")
        return
    try:
        found = glance(path)
    except EcpdsError as error:
        yield Finding("store", "failed", error.message, "`ecpds backup restore`")
        return
    if found.problems:
        yield Finding("store", "failed", found.problems[0], "`ecpds fsck`, then restore a backup")
    elif found.schema > found.newest_schema:
        text = f"schema {found.schema}, this release knows {found.newest_schema}"
        yield Finding("store", "failed", text, "install the newer release again")
    else:
        text = f"schema {found.schema} of {found.newest_schema}, quick check passed"
        yield Finding("store", "ok", f"{_size(path.stat().st_size)}, {text}")
    yield _clock(patient.now, found.last_event)


def _clock(now: datetime, last: datetime | None) -> Finding:
    if last is None or last <= now + CLOCK_STEP:
        return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, later than the last event")
    text = f"the last event was {last - now} ahead of the clock"
    return Finding("clock", "failed", text, "set the clock: schedules and lifetimes go by it")


def listeners(patient: Patient) -> Iterator[Finding]:
    """Every listener accepts; without a daemon: every port is free."""
    if not patient.runs:
        yield Finding("daemon", "warning", "does not run", "`ecpds serve`")
        yield from _ports(patient.settings)
        return
    if not patient.endpoints:
        yield Finding("daemon", "warning", "starts or stops", "look again")
        return
    for name, url in sorted(patient.endpoints.items()):
        address = urlsplit(url)
        try:
            place = (address.hostname or "", address.port or 0)
            with socket.create_connection(place, ANSWER_TIME):
                yield Finding(name, "ok", url)
        except OSError as error:
            yield Finding(name, "failed", f"{url}: {error}", "log/ecpds.log tells more")
    yield from _readiness(patient)


def _ports(settings: Settings) -> Iterator[Finding]:
    portal = settings.portal
    for name, text in (
        ("monitor.listen", settings.monitor.listen),
        ("portal.https.listen", portal.https.listen),
        ("portal.s3.listen", portal.s3.listen),
        ("portal.ftp.listen", portal.ftp.listen),
        ("portal.sftp.listen", portal.sftp.listen),
        ("mqtt.listen", settings.mqtt.listen),
        ("mqtt.tls_listen", settings.mqtt.tls_listen),
    ):
        host, _, port = text.rpartition(":")
        if not text or port == "0":
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            advice = "end who has it, or choose another; below 1024 see the systemd unit"
            yield Finding(name, "failed", f"{text}: {error.strerror or error}", advice)
        else:
            yield Finding(name, "ok", f"{text} is free")


def _readiness(patient: Patient) -> Iterator[Finding]:
    url, path = patient.endpoints.get("monitor"), patient.settings.data_dir / "admin.token"
    if not url or not path.exists():
        return
    try:
        access = Access(server=url, token=read_text(path), insecure=True)
        with Client(access, timeout=ANSWER_TIME) as client:
            found: dict[str, Any] = client.readiness()
    except EcpdsError as error:
        yield Finding("readiness", "failed", error.message, "log/ecpds.log tells more")
        return
    checks = found.get("checks", {})
    bad = [name for name, one in checks.items() if not one.get("ok")]
    if bad:
        yield Finding("readiness", "failed", f"not ready: {', '.join(bad)}", "`ecpds status`")
    else:
        yield Finding("readiness", "ok", f"ready: {', '.join(checks)}")


CHECKS: Final[tuple[Check, ...]] = (
    data_directory, volumes, open_files, parts, certificate, public_name, mail, store, listeners,
)  # fmt: skip
