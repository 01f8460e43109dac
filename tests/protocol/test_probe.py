"""Trying hosts out: every step against real servers, and what is told of each thing that is wrong.

Spec: issue 3, "Probe"; transfer-modules-protocols.md 13, "diagnosis".
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.engine import probe as probes
from ecpds.engine.core import HostEntry
from ecpds.engine.probe import Report, probe
from ecpds.model.host import Host, HostRole
from ecpds.model.template import Template
from ecpds.transfer.contract import Surroundings
from tests.conformance.cases import CASES, Case
from tests.conformance.site import Site, site
from tests.peers.faultproxy import Way, stall
from tests.peers.vsftpd import vsftpd
from tests.protocol.api import rig

BY_NAME = {case.name: case for case in CASES}
SSH, FTP, FTPS, DAV, HTTPS = (
    BY_NAME[name]
    for name in (
        "sftp-openssh-password",
        "ftp-vsftpd",
        "ftp-vsftpd-tls",
        "http-nginx-dav",
        "http-nginx-plain",
    )
)


def entry(
    there: Site,
    *,
    role: HostRole = HostRole.DISSEMINATION,
    directory: str | None = None,
    **options: object,
) -> HostEntry:
    """Return the host of a site as the engine has it."""
    access = there.access(**options)
    text = there.remote("") if directory is None else directory
    host = Host(
        name=access.target.host_name,
        role=role,
        method=f"generic{access.module.name.capitalize()}",
        host=access.target.host,
        login=access.target.login,
        directory=text,
    )
    only = Template.parse(text).directory_only if role is HostRole.DISSEMINATION else None
    return HostEntry(host=host, access=access, directory_only=only)


def outcomes(report: Report) -> dict[str, str]:
    return {step.step.value: step.outcome for step in report.ordered}


def failed(report: Report) -> tuple[str, str, str]:
    """Return step, cause and advice of the only failure."""
    (one,) = [step for step in report.ordered if step.outcome == "failed"]
    assert report.error is not None
    assert one.cause == report.error.message
    assert one.advice
    return one.step.value, one.cause, one.advice


async def test_an_acquisition_host_is_only_read(tmp_path: Path) -> None:
    """Listed, and the beginning of one file read."""
    async with site(SSH, tmp_path) as there:
        there.peer.put("in/a.grib", b"x" * 300_000)
        found = entry(there, role=HostRole.ACQUISITION, directory=there.remote("in/{.*}"))
        report = await probe(found, there.around)
        assert report.error is None, report.ordered
        assert outcomes(report)["get"] == "ok"
        assert "put" not in outcomes(report)
        assert list(there.files()) == ["in/a.grib"]


async def test_a_directory_of_this_machine(tmp_path: Path) -> None:
    """Nothing to connect to; the rest is the same."""
    async with site(BY_NAME["file"], tmp_path) as there:
        report = await probe(entry(there), there.around)
        found = outcomes(report)
        assert report.error is None, report.ordered
        assert [found[name] for name in ("resolve", "connect", "identity")] == ["skipped"] * 3
        assert [found[name] for name in ("list", "put", "rename", "delete")] == ["ok"] * 4
        assert there.files() == {}


@pytest.mark.parametrize("case", [SSH, FTP, FTPS, DAV, HTTPS], ids=str)
async def test_a_wrong_password(case: Case, tmp_path: Path) -> None:
    """The login step fails, once, and no later step is tried."""
    async with site(case, tmp_path) as there:
        report = await probe(entry(there, password="wrong"), there.around)
        step, cause, advice = failed(report)
        assert step == "login"
        assert "password" in advice
        assert "wrong" not in f"{cause} {advice}"
        found = outcomes(report)
        assert found["put"] == found["delete"] == "skipped"
        assert there.files() == {}


async def test_a_changed_host_key(tmp_path: Path) -> None:
    """The key that was seen is shown, with the option that would pin it."""
    async with site(SSH, tmp_path) as there:
        report = await probe(entry(there, sftp__fingerPrint="SHA256:" + "A" * 43), there.around)
        step, cause, advice = failed(report)
        assert step == "identity"
        assert there.peer.host_key in cause
        assert f'sftp.fingerPrint = "{there.peer.host_key}"' in advice
        assert report.identity is not None
        assert report.identity.fingerprint == there.peer.host_key
        assert outcomes(report)["connect"] == "ok"


@pytest.mark.parametrize("case", [FTPS, HTTPS], ids=str)
async def test_a_wrong_certificate(case: Case, tmp_path: Path) -> None:
    """The certificate is shown although it is not believed."""
    async with site(case, tmp_path) as there:
        report = await probe(entry(there, ectrans__tlsCa=""), there.around)
        step, cause, advice = failed(report)
        assert step == "identity"
        assert "certificate" in cause
        assert report.identity is not None
        assert f'ectrans.tlsPin = "{report.identity.fingerprint}"' in advice
        assert "until 20" in report.identity.text
        pinned = entry(there, ectrans__tlsCa="", ectrans__tlsPin=report.identity.fingerprint)
        assert (await probe(pinned, there.around)).error is None


@pytest.mark.parametrize("case", [SSH, FTP, DAV], ids=str)
async def test_a_closed_port(case: Case, tmp_path: Path) -> None:
    """Refused at once."""
    async with site(case, tmp_path, proxied=True) as there:
        assert there.proxy is not None
        there.proxy.refuse()
        step, _, advice = failed(await probe(entry(there), there.around))
        assert step == "connect"
        assert f"port {there.proxy.peer.port}" in advice
        assert "Nothing listens" in advice


async def test_a_name_that_nobody_has(tmp_path: Path) -> None:
    """The name is told, and that it is the name."""
    async with site(SSH, tmp_path) as there:
        report = await probe(entry(there, host="nobody.invalid"), there.around)
        step, cause, advice = failed(report)
        assert step == "resolve"
        assert "nobody.invalid" in cause
        assert "spelling" in advice
        assert outcomes(report)["login"] == "skipped"


@pytest.mark.parametrize("case", [SSH, FTP, DAV], ids=str)
async def test_a_missing_directory(case: Case, tmp_path: Path) -> None:
    """An acquisition host needs it; a dissemination host makes it, unless it may not."""
    async with site(case, tmp_path) as there:
        missing = there.remote("no/such")
        reading = entry(there, role=HostRole.ACQUISITION, directory=missing)
        step, _, advice = failed(await probe(reading, there.around))
        assert step == "list"
        assert missing in advice
        prefix = case.module.options.prefix
        there.extra = {f"{prefix}.mkdirs": "no"}
        sending = entry(there, directory=missing + "/")
        there.extra = {}
        assert failed(await probe(sending, there.around))[0] in ("list", "put")
        report = await probe(entry(there, directory=missing + "/"), there.around)
        assert report.error is None, report.ordered
        assert outcomes(report)["list"] == "skipped"
        assert there.peer.has_directory("no/such")
        assert there.files() == {}


async def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """The login is good and not enough."""
    async with site(SSH, tmp_path) as there:
        report = await probe(entry(there, directory="/etc/"), there.around)
        step, _, advice = failed(report)
        assert step == "put"
        assert "/etc" in advice


async def test_a_server_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded in time, each step and the whole."""
    monkeypatch.setattr(probes, "STEP_LIMIT", probes.STEP_LIMIT / 20)
    async with site(SSH, tmp_path, fault=stall(after=0, way=Way.DOWN, times=None)) as there:
        begun = time.monotonic()
        step, _, advice = failed(await probe(entry(there), there.around))
        assert step == "identity"
        assert advice
        assert time.monotonic() - begun < 10


async def test_no_tls_where_tls_is_spoken(tmp_path: Path) -> None:
    """A server that speaks something else is told as that."""
    async with site(DAV, tmp_path) as there:
        report = await probe(entry(there, http__scheme="https"), there.around)
        step, _, advice = failed(report)
        assert step == "identity"
        assert "TLS" in advice


async def test_a_host_without_a_module_is_told() -> None:
    """What keeps it from being used is the cause."""
    broken = HostEntry(host=Host(name="h", host="x"), access=None, problem="no such option")
    threads = Threads()
    try:
        report = await probe(broken, Surroundings(threads=threads, clock=SystemClock()))
    finally:
        await asyncio.to_thread(threads.close)
    assert failed(report)[1] == "no such option"


@pytest.mark.parametrize(
    ("directory", "wanted"),
    [
        ("", ""),
        ("/in/", "/in"),
        ("/in/$date[yyyyMMdd]/", "/in"),
        ("in/$dataTransfer[name]", "in"),
        ("$dataTransfer[name]", ""),
        ("/$dataTransfer[name]", "/"),
        ("/a/b/c$dataTransfer[name]", "/a/b"),
        ("($target .= A) /a/\n/b/", ""),
    ],
)
def test_the_directory_that_is_certain(directory: str, wanted: str) -> None:
    """Up to the first token; rules leave it open."""
    text = Template.parse(directory).directory_only if "$" not in directory else None
    host = HostEntry(host=Host(name="h", directory=directory), access=None, directory_only=text)
    assert probes.probe_directory(host, SystemClock().now()) == wanted


# --- through the node -----------------------------------------------------------------------------


async def test_the_api_tells_every_step(tmp_path: Path) -> None:
    """And whether it works as before; the host remembers the result."""
    (tmp_path / "peer").mkdir()
    async with vsftpd(tmp_path / "peer") as peer, rig(tmp_path, run=True) as hub:
        options = {"ftp.port": peer.port, "ftp.connectionType": "FTP"}
        body = {
            "name": "h", "method": "genericFtp", "host": "127.0.0.1", "login": peer.login,
            "password": peer.password, "directory": "/", "options": options,
        }  # fmt: skip
        assert (await hub.admin.post("/hosts", body)).ok
        good = (await hub.admin.post("/hosts/h/actions/test")).json
        assert good["ok"] is True
        assert [step["step"] for step in good["steps"]] == [
            "resolve", "connect", "identity", "login", "list", "put", "rename", "delete",
        ]  # fmt: skip
        assert good["rate"] > 0
        assert good["round_trip_ms"] > 0
        assert (await hub.admin.patch("/hosts/h", {"password": "wrong"}, match="*")).ok
        bad = (await hub.admin.post("/hosts/h/actions/test")).json
        assert (bad["ok"], bad["phase"]) == (False, "auth")
        assert peer.names() == []
        shown = (await hub.admin.get("/hosts/h")).json
        assert shown["error"] == bad["error"]
