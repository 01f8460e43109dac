"""Every module and server can be tried out step by step."""

from __future__ import annotations

from pathlib import Path

from ecpds.conformance.case import Case, applies
from ecpds.conformance.case import pytest_generate_tests as pytest_generate_tests
from ecpds.engine.probe import probe
from ecpds.transfer.contract import Feature
from tests.conformance.cases import CASES as CASES
from tests.conformance.site import site
from tests.protocol.test_probe import entry


@applies(remote=True)
async def test_a_host_that_works(case: Case, tmp_path: Path) -> None:
    """All steps; nothing stays behind; identity, round trip and rate are told."""
    async with site(case, tmp_path) as there:
        report = await probe(entry(there), there.around)
        steps = {step.step.value: step for step in report.ordered}
        assert report.error is None, steps
        wanted = {"resolve", "connect", "login"}
        if Feature.PUT | Feature.DELETE | Feature.LIST in case.features:
            wanted |= {"list", "put", "delete"}
        assert {name for name in wanted if steps[name].outcome != "ok"} == set()
        is_safe = case.wrong_trust is not None or bool(there.peer.tls)
        assert steps["identity"].outcome == ("ok" if is_safe else "skipped")
        if there.peer.host_key.startswith("SHA256"):
            assert there.peer.host_key in steps["identity"].text
        assert there.files() == {}
        assert report.peer == "127.0.0.1"
        assert report.round_trip is not None
        assert 0 < report.round_trip < 1000
        assert steps["put"].outcome != "ok" or (report.rate or 0) > 0
