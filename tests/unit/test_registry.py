"""Methods, option families, and what one Host's record becomes."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import EntryPoint

import pytest

from ecpds.model.errors import ConfigError, RemoteConfig
from ecpds.model.host import Host
from ecpds.model.options import Catalogue
from ecpds.model.secret import Secret
from ecpds.modules import BUILTIN
from ecpds.modules.local import FileModule
from ecpds.modules.sftp import SftpModule
from ecpds.transfer import registry as registry_file
from ecpds.transfer.registry import Registry, method_name


def test_methods_have_the_names_that_imported_hosts_have() -> None:
    registry = Registry(BUILTIN)
    assert {"genericFile", "genericSftp", "genericTest"} <= set(registry.methods())
    assert registry.module("genericSftp") is SftpModule
    assert registry.module("genericsftp") is SftpModule
    assert method_name("s3") == "genericS3"


@pytest.mark.parametrize("method", ["genericSfpt", "sftp", "", "generic"])
def test_an_unknown_method_names_the_nearest(method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Registry(BUILTIN).module(method)
    if method == "genericSfpt":
        assert caught.value.nearest == "genericSftp"


def test_two_modules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two transfer modules"):
        Registry([FileModule, FileModule])


def test_installed_packages_may_bring_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "ecpds.modules"
    good = EntryPoint("sftp", "ecpds.modules.sftp:SftpModule", group)
    monkeypatch.setattr(registry_file, "entry_points", lambda group: [good])
    assert Registry([FileModule], installed=True).module("genericSftp") is SftpModule
    assert Registry([FileModule]).methods() == ["genericFile"]
    bad = EntryPoint("bad", "ecpds.modules.sftp:AHEAD", group)
    monkeypatch.setattr(registry_file, "entry_points", lambda group: [bad])
    with pytest.raises(ConfigError, match="no transfer module"):
        Registry([], installed=True)
    gone = EntryPoint("gone", "no.such.package:X", group)
    monkeypatch.setattr(registry_file, "entry_points", lambda group: [gone])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Registry([], installed=True)


def test_options_become_limits_rules_and_a_target() -> None:
    host = Host(
        name="north",
        method="genericSftp",
        host="sftp.example.org",
        login="feed",
        password=Secret("open"),
        options={
            "sftp.port": 2222,
            "sftp.usetmp": True,
            "sftp.prefix": ".",
            "sftp.ignoreCheck": "yes",
            "ectrans.connectTimeOut": "5s",
            "ectrans.streamTimeout": "PT30S",
            "ectrans.putTimeOut": "1h",
            "ectrans.getTimeOut": "",
            "ectrans.tcpNoDelay": "no",
            "ectrans.soMaxPacingRate": "10MB",
            "ectrans.tlsPin": "ab" * 32,
            "upload.interruptSlow": "yes",
            "upload.rateThrottling": "1MB",
            "acquisition.priority": "5",
        },
    )
    access = Registry(BUILTIN).access(host)
    assert access.target.host_name == "north"
    assert access.target.password.reveal() == "open"
    assert access.target.timeouts.connect == timedelta(seconds=5)
    assert access.target.sockets.no_delay is False
    assert access.target.sockets.pacing_rate == 10 * 1024 * 1024
    assert access.target.tls.pin == "ab" * 32
    assert access.delivery.naming.prefix == "."
    assert access.delivery.verify == "none"
    assert access.delivery.watch.longest == timedelta(hours=1)
    assert access.delivery.watch.slow is not None
    assert access.delivery.watch.slow.rate == 2_359_296
    assert access.fetching.longest is None
    assert access.fetching.slow is None
    assert access.upload_meter().limited
    assert not access.retrieval_meter().limited


@pytest.mark.parametrize(
    "option",
    [
        {"sftp.portt": 22},
        {"sftp.port": 0},
        {"ectrans.retryCount": "many"},
        {"ectrans.streamTimeout": "5"},
        {"ectrans.verify": "maybe"},
        {"upload.minimumRate": "-1"},
    ],
)
def test_a_bad_option_makes_the_host_unusable_and_says_why(option: dict[str, object]) -> None:
    host = Host(name="north", method="genericSftp", options=option)
    with pytest.raises(RemoteConfig) as caught:
        Registry(BUILTIN).access(host)
    assert next(iter(option)).partition(".")[2] in str(caught.value)
    assert "north" in str(caught.value)


def test_all_families_fit_into_one_catalogue_and_secrets_are_marked() -> None:
    catalogue = Catalogue(Registry(BUILTIN).families())
    for key in ("sftp.password", "sftp.passPhrase", "sftp.privateKey", "sftp.privateKeyFile"):
        assert catalogue.is_secret(key)
    assert not catalogue.is_secret("sftp.port")
    keys = {entry.key for entry in catalogue.entries("host")}
    assert {"ectrans.retryCount", "upload.minimumRate", "retrieval.rateThrottling"} <= keys
    assert all(entry.help for entry in catalogue.entries())
    assert catalogue.check({"file.fsync": "no"}, "host") == {"file.fsync": "no"}


SELECTOR = """\
($network == L; $mover == node-1) 10.0.0.1
($group == {fast.*}) fast.example.org
"""


@pytest.mark.parametrize(
    ("network", "group", "node", "chosen"),
    [
        ("L", "", "node-1", "10.0.0.1"),
        ("L", "", "node-2", "north.example.org"),
        ("I", "fastest", "node-1", "fast.example.org"),
    ],
)
def test_rules_may_give_another_address(network: str, group: str, node: str, chosen: str) -> None:
    host = Host(
        name="north",
        method="genericSftp",
        host="north.example.org",
        network_code=network,
        transfer_group=group,
        options={"ectrans.hostSelector": SELECTOR},
    )
    assert Registry(BUILTIN).access(host, node=node).target.host == chosen


def test_rules_that_cannot_be_read_are_told() -> None:
    host = Host(name="n", method="genericFile", options={"ectrans.hostSelector": "($nope == 1) x"})
    with pytest.raises(RemoteConfig):
        Registry(BUILTIN).access(host)


def sidecars(digests: dict[str, str], **options: object) -> dict[str, bytes]:
    given = {key.replace("__", "."): value for key, value in options.items()}
    access = Registry(BUILTIN).access(Host(name="n", method="genericFile", options=given))
    return {one.extension: one.content for one in access.sidecars("/d/a.grib", digests)}


def test_sidecars_as_the_options_say() -> None:
    told = {"md5": "0" * 32, "sha256": "1" * 64}
    assert sidecars(told) == {}
    assert sidecars(told, ectrans__createChecksum="yes") == {".md5": b"0" * 32}
    both = sidecars(
        told,
        ectrans__createChecksum="yes",
        ectrans__checksum="md5,sha256",
        ectrans__sidecarForm="sum",
        file__md5Ext=".sum",
    )
    assert both == {
        ".sum": b"0" * 32 + b"  a.grib\n",
        ".sha256": b"1" * 64 + b"  a.grib\n",
    }


def test_digests_are_asked_for_only_when_somebody_needs_them() -> None:
    def needed(**options: object) -> tuple[str, ...]:
        given = {key.replace("__", "."): value for key, value in options.items()}
        return Registry(BUILTIN).access(Host(name="n", method="genericFile", options=given)).digests

    assert needed() == ()
    assert needed(ectrans__createChecksum="yes") == ("md5",)
    assert needed(ectrans__verify="hash", ectrans__checksum="sha512") == ("sha512",)
