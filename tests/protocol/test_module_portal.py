"""`genericPortal`: a delivery that offers a file and sends nothing; through a node at work."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.conformance.site import Flowing, descriptor_of
from ecpds.model.errors import SourceBroke, Unsupported
from ecpds.model.host import Host
from ecpds.modules.portal import PortalModule
from ecpds.transfer.contract import Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Registry
from ecpds.transfer.source import ContentSource
from tests.protocol.api import rig


async def test_a_file_is_offered_and_counted_as_nothing(tmp_path: Path) -> None:
    """Looked at, not read; a shorter one is no delivery."""
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    pool = Pool(around)
    access = Registry([PortalModule]).access(Host(name="h", method="genericPortal"))
    try:
        async with pool.session(access) as module:
            with descriptor_of(os.urandom(100_000)) as file:
                source = ContentSource(file, 100_000, threads=threads)
                done = await deliver(
                    module, "a.grib", source, size=100_000, rules=access.delivery,
                    clock=around.clock,
                )  # fmt: skip
                assert (done.sent, source.meter.moved) == (0, 0)
                longer = ContentSource(file, 100_001, threads=threads)
                with pytest.raises(SourceBroke):
                    await module.put("a.grib", longer)
            assert await module.put("b", Flowing(b"x" * 70_000, announced=-1)) == 70_000
            for act in (module.stat("a"), module.delete("a"), module.mkdir("a")):
                with pytest.raises(Unsupported):
                    await act
        await pool.close()
    finally:
        await asyncio.to_thread(threads.close)


async def test_a_destination_that_offers(tmp_path: Path) -> None:
    """The transfer is done, its history says that no byte was sent."""
    async with rig(tmp_path, run=True) as hub:
        await hub.host("offer", tmp_path, method="genericPortal")
        await hub.node.destination("NORTH", hosts=("offer",))
        made = (await hub.admin.upload(b"content", destination="NORTH", target="a.grib")).json
        done = await hub.transfer(made["transfers"][0]["id"], status="done")
        assert done["host"] == "offer"
        history = (await hub.admin.get(f"/transfers/{done['id']}/history")).items
        assert {row["sent"] for row in history if row["status"] == "done"} == {0}
