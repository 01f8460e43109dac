"""`ectrans.debug`: every act is told, contents and secrets are not."""

from __future__ import annotations

import logging

import pytest

from ecpds.model.errors import RemoteMissing
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.tester import TestModule
from ecpds.transfer.contract import Surroundings
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Registry
from ecpds.transfer.source import BytesSource
from tests.clock import FakeClock
from tests.loopthreads import LoopThreads


@pytest.mark.parametrize("debug", ["yes", "no"])
async def test_acts_are_told_when_asked_for(debug: str, caplog: pytest.LogCaptureFixture) -> None:
    host = Host(
        name="nowhere",
        method="genericTest",
        password=Secret("sesame"),
        options={"ectrans.debug": debug, "test.delay": "0s", "test.errorsFrequency": 0},
    )
    pool = Pool(Surroundings(threads=LoopThreads(), clock=FakeClock()))
    with caplog.at_level(logging.INFO, logger="ecpds.transfer.trace"):
        async with pool.session(Registry([TestModule]).access(host)) as module:
            await module.put("/d/f", BytesSource(b"content"))
            with pytest.raises(RemoteMissing):
                await module.stat("/d/none")
            assert [entry async for entry in module.list("/d")]
    lines = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert bool(lines) is (debug == "yes")
    if lines:
        told = " ".join(lines)
        assert all(word in told for word in ("put", "/d/f", "stat", "not there", "list"))
        assert "sesame" not in told
        assert "content" not in told.replace("contents", "")
