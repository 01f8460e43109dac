"""The original's backup document, as its API is documented, becomes a site document."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from ecpds.engine.importing import Imported, read_document, translate
from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError
from ecpds.modules import BUILTIN
from ecpds.node import make_catalogue
from ecpds.transfer.registry import Registry
from tests.conftest import ROOT

BACKUP = ROOT / "tests" / "golden" / "openecpds-backup.json"


@cache
def surroundings() -> tuple[Any, list[str]]:
    registry = Registry(BUILTIN)
    return make_catalogue(registry), registry.methods()


def translated(document: Any) -> Imported:
    return translate(read_document(json.dumps(document)), *surroundings())


@pytest.fixture(scope="module")
def found() -> Imported:
    return translated(json.loads(BACKUP.read_text()))


def lines(found: Imported, outcome: str) -> list[str]:
    return [
        f"{one.kind} {one.name} {one.field}: {one.text}"
        for one in found.lines
        if one.outcome == outcome
    ]


def test_the_site_document_is_read_by_the_site_reader(found: Imported) -> None:
    site = read_site(found.site, Where())
    assert [one.host.name for one in site.hosts] == ["src", "second-host", "first", "from-there"]
    assert [one.name for one, _ in site.destinations] == ["MET", "ARCHIVE"]
    assert [one.login for one, _ in site.users] == ["alice"]


def test_a_destination(found: Imported) -> None:
    """Units are written out, choices are words, hosts are in the order of their priority."""
    met = found.site["destinations"][0]
    assert met["hosts"] == ["first", "from-there", "second-host"]
    expected = {
        "retry_frequency": "30s", "start_frequency": "10m", "on_host_failure": "revert",
        "keep_in_spool": "success", "mail_on_error": True, "stop_if_dirty": True, "country": "fr",
        "source_host": "src", "max_connections": 3,
    }  # fmt: skip
    assert {key: met[key] for key in expected} == expected
    assert met["options"]["scheduler.lifetime"] == "2d"
    assert met["options"]["incoming.event"] == "yes"
    assert met["legacy"] == ["scheduler.force"]
    assert met["aliases"] == [
        {"to": "ARCHIVE", "rule": "pattern=.*\\.grib,delay=2", "legacy": True}
    ]


def test_a_stopped_destination_sends_nothing_here(found: Imported) -> None:
    assert found.site["destinations"][1]["active"] is False
    assert found.site["destinations"][1]["hosts"] == ["second-host"]


def test_hosts(found: Imported) -> None:
    """A method of their own is known by its module; rules keep their meaning."""
    first = next(one for one in found.site["hosts"] if one["name"] == "first")
    assert (first["method"], first["legacy"]) == ("genericSftp", ["directory"])
    assert (first["password"], first["max_connections"]) == ("s3cret", -1)
    second = next(one for one in found.site["hosts"] if one["name"] == "second-host")
    assert second["options"] == {"ftp.port": "2121"}
    assert "legacy" not in second


def test_what_was_refused_says_why(found: Imported) -> None:
    refused = lines(found, "refused")
    for text in (
        "host old method: genericTelnet is not available here",
        "destination ARCHIVE hosts: no host '99'",
        "destination bad name name: ",
        "alias MET->NOWHERE : MET -> NOWHERE: both must be in the document",
        "destination MET scheduler.nonsense: unknown option",
    ):
        assert any(line.startswith(text) for line in refused), (text, refused)
    assert len(refused) == 5


def test_what_was_mapped_or_skipped_says_how(found: Imported) -> None:
    mapped, skipped = lines(found, "mapped"), lines(found, "skipped")
    assert "destination MET scheduler.lifetime: 172800000 is 2d" in mapped
    assert "host second-host nickname: was 'second host!'" in mapped
    assert "data user alice password: stored as a hash" in mapped
    assert "destination MET scheduler.masterToNotifyOnDone: there is one node" in skipped
    assert any(line.startswith("document ecusers") for line in skipped)


def test_a_data_user(found: Imported) -> None:
    (alice,) = found.site["data_users"]
    assert alice["operations"] == ["dir", "get"]
    assert alice["options"] == {"portal.sort": "time"}


def test_properties_that_break_off_are_taken_as_far_as_the_original_did() -> None:
    text = 'scheduler.standby = "yes"\nnonsense\nscheduler.asap = "yes"'
    document = {"destinations": [{"destination": {"name": "D", "properties": text}}]}
    found = translated(document)
    assert found.site["destinations"][0]["options"] == {"scheduler.standby": "yes"}
    assert any("line 2" in line for line in lines(found, "refused"))


def test_the_notifications_of_hosts() -> None:
    """What applies here is kept; what cannot be read is refused here, not by the whole site."""

    def host(number: str, *properties: str) -> dict[str, Any]:
        made = {"name": number, "nickname": f"h{number}", "transferMethod": "genericFtp"}
        return made | {"type": "Dissemination", "data": "\n".join(properties)}

    auth = 'ectrans.notifyAuth = "url=mqtt://b;name=n;password=p"'
    publish = 'ectrans.notifyPublish = "topic=t/$filename;payload=p;metadata=k=v;lifetime=-1"'
    hosts = [
        host("1", auth, publish, 'ectrans.notifyPost = "print(1)"'),
        host("2", 'ectrans.notifyAuth = "url=mqtt://b"'),
    ]
    found = translated({"destinations": [{"destination": {"name": "D"}}], "hosts": hosts})
    first, second = found.site["hosts"]
    assert set(first["options"]) == {"ectrans.notifyAuth", "ectrans.notifyPublish"}
    assert not second.get("options")
    assert any("h2 ectrans.notifyAuth: " in line for line in lines(found, "refused"))
    assert any("h1 ectrans.notifyPost: no script" in line for line in lines(found, "skipped"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"destinations": 1}', "[" * 10_000])
def test_what_is_no_backup(text: str) -> None:
    with pytest.raises(ConfigError):
        read_document(text)
