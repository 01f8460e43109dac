"""Files that broken attempts leave at hosts: named after a crash, listed for people, removed."""

from __future__ import annotations

from pathlib import Path

from ecpds.engine import recovery
from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.resuming import token_of
from ecpds.model.host import Host, HostRole
from ecpds.model.status import TransferStatus
from ecpds.store import claims, history, outgoing, transfers
from ecpds.store.db import Connection
from ecpds.transfer.contract import Partial
from tests.protocol.api import Rig, rig


async def made(hub: Rig) -> int:
    """Return a transfer to a host of this machine that waits."""
    out = hub.node.core.settings.file_roots[0]
    (Path(out) / "here").mkdir(parents=True)
    host = Host(
        name="north", method="genericFile", role=HostRole.DISSEMINATION, directory=f"{out}/here/"
    )
    await HostOperations(hub.node.engine).put(host, SYSTEM)
    await hub.node.destination("D", hosts=("north",))
    reply = await hub.admin.upload(b"content", destination="D", target="a.grib")
    assert reply.ok, reply.text
    found = await hub.node.store.read(transfers.page, destination="D", limit=10)
    return found[0].id


def claim(db: Connection, number: int, hub: Rig) -> None:
    """Claim as the scheduler does."""
    now = hub.node.core.clock.now()
    claims.claim_due(db, "D", now=now, limit=1)
    history.step(
        db, number, "D", TransferStatus.EXEC, time=now, host="north", comment="Trying north"
    )


async def crashed(hub: Rig, number: int) -> Path:
    """Leave what a crash right after the begin of an attempt leaves; return the written file."""
    await hub.node.store.write(claim, number, hub)
    transfer = await hub.node.store.read(transfers.get, number)
    assert transfer is not None
    folder = Path(hub.node.core.settings.file_roots[0]) / "here"
    written = folder / f"a.grib.{token_of(transfer, transfer.attempts)}.tmp"
    written.write_bytes(b"con")
    await hub.node.store.write(recovery.settle, now=hub.node.core.clock.now())
    await recovery.name_interrupted(hub.node.core)
    return written


async def test_a_crash_at_the_begin_leaves_no_file_behind(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        number = await made(hub)
        written = await crashed(hub, number)
        listed = (await hub.admin.get("/hosts/north/leftovers")).items
        assert [(Path(one["path"]).name, one["transfer"]) for one in listed] == [
            (written.name, number)
        ]
        assert (await hub.admin.delete(f"/transfers/{number}", match="*")).ok
        await hub.node.engine.leftovers.remove()
        assert not written.exists()
        assert (await hub.admin.get("/hosts/north/leftovers")).items == []


async def test_people_have_leftovers_removed(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await made(hub)
        folder = Path(hub.node.core.settings.file_roots[0]) / "here"
        (folder / "old.tmp").write_bytes(b"old")
        now = hub.node.core.clock.now()
        for name in ("old.tmp", "gone.tmp"):
            record = {"name": str(folder / name), "offset": 3, "version": "v"}
            await hub.node.store.write(outgoing.add_stale, "north", record, now=now)
        listed = (await hub.admin.get("/hosts/north/leftovers")).items
        assert [(one["size"], one["transfer"], one["tries"]) for one in listed] == [
            (3, None, 0), (3, None, 0)
        ]  # fmt: skip
        done = await hub.admin.post("/hosts/north/actions/clean", {})
        assert done.json == {"host": "north", "removed": 2, "left": 0, "error": None}
        assert not (folder / "old.tmp").exists()


async def test_what_cannot_be_removed_stays_listed_with_its_tries(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await made(hub)
        record = {"name": "/etc/passwd.tmp", "offset": 0, "version": ""}
        await hub.node.store.write(
            outgoing.add_stale, "north", record, now=hub.node.core.clock.now()
        )
        done = (await hub.admin.post("/hosts/north/actions/clean", {})).json
        assert (done["removed"], done["left"]) == (0, 1)
        assert done["error"]
        (listed,) = (await hub.admin.get("/hosts/north/leftovers")).items
        assert listed["tries"] == 1


async def test_a_second_attempt_removes_what_a_crash_left(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        number = await made(hub)
        await crashed(hub, number)
        kept = await hub.node.store.read(history.resume, number, "north")
        assert kept is not None
        assert Partial(**kept).offset == 0


async def test_what_was_learned_outlives_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await made(hub)
        memory = hub.node.core.around.memory
        memory.keep("ftp", "north", "passive", "PASV", lasting=True)
        memory.keep("http", "north", "token", "secret")
        memory.keep("ftp", "nobody", "passive", "PASV", lasting=True)
        await hub.node.engine.learning.keep()
    async with rig(tmp_path) as hub:
        await hub.node.engine.learning.restore()
        memory = hub.node.core.around.memory
        assert memory.recall("ftp", "north", "passive") == "PASV"
        assert memory.recall("http", "north", "token") == ""
        assert memory.recall("ftp", "nobody", "passive") == ""
        await hub.node.destination("D")
        assert (await hub.admin.delete("/hosts/north", match="*")).ok
    async with rig(tmp_path) as hub:
        await hub.node.engine.learning.restore()
        assert hub.node.core.around.memory.recall("ftp", "north", "passive") == ""
