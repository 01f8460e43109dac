"""Hosts of ecauth come as inactive SFTP hosts with what both know."""

from __future__ import annotations

from ecpds.engine.operations.sitefile import read_site
from ecpds.model.decode import Where
from tests.unit.test_importing import lines, translated

PROPERTIES = """ecauth.user = "feed"
ecauth.pass = "hush"
ecauth.port = "2222"
ecauth.fingerPrint = "SHA256:3vU0b9X0s7l1m2n3p4q5r6s7t8u9v0w1x2y3z4A5B6c"
ecauth.usetmp = "yes"
ecauth.chmodOnCopy = "640"
ecauth.hostList = "a,b"
ectrans.retryCount = "2"
"""


def document(method: str) -> dict[str, object]:
    """Return a backup with one such host."""
    return {
        "methods": [{"name": "toHpc", "module": "ecauth"}],
        "destinations": [
            {
                "destination": {"name": "HPC"},
                "associations": [
                    {
                        "priority": 1,
                        "host": {
                            "name": "17", "nickname": "hpc", "host": "hpc.example.org",
                            "transferMethod": method, "type": "Dissemination", "active": True,
                            "dir": "/scratch/", "properties": PROPERTIES, "comment": "the big one",
                        },
                    }
                ],
            }
        ],
    }  # fmt: skip


def test_an_ecauth_host() -> None:
    """By name, by the module of a method, in any case."""
    for method in ("genericEcauth", "ecauth", "toHpc", "ECauth"):
        found = translated(document(method))
        (host,) = found.site["hosts"]
        assert (host["method"], host["active"]) == ("genericSftp", False)
        assert host["comment"].startswith("the big one; was an ecauth host")
        options = host["options"]
        assert options["sftp.login"] == "feed"
        assert options["sftp.port"] == "2222"
        assert options["sftp.chmod"] == "640"
        assert options["ectrans.retryCount"] == "2"
        assert not [key for key in options if key.startswith("ecauth")]
        assert any("ecauth.hostList" in one for one in lines(found, "skipped"))
        assert any("genericSftp, inactive" in one for one in lines(found, "mapped"))
        (read,) = read_site(found.site, Where()).hosts
        assert read.host.active is False
