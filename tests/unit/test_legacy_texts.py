"""Imported texts keep their old meaning, field by field, because their name is in `legacy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecpds.engine.operations.actor import SYSTEM
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.submit import Submission, plan
from ecpds.model.errors import ConfigError
from ecpds.model.host import Host
from ecpds.store import files
from tests.node import SmallNode, small_node

RULES = "($destination==D) type=fc\ntype=an"  # the last bare line wins in texts of old
SELECTOR = "($network==I) one.example\ntwo.example"


async def uploaded(node: SmallNode, name: str) -> Any:
    """Return the metadata and the version of an upload to D."""
    async with (
        await node.login("alice") as session,
        await session.open_write(f"/D/{name}", size=1) as writer,
    ):
        writer.write(b"1")
        await writer.commit(size=1)
    rows = await node.store.read(lambda db: [
        (row["data_file"], row["unique_name"]) for row in db.execute(
            "SELECT data_file, unique_name FROM transfer WHERE target = ?", (name,))])  # fmt: skip
    ((number, version),) = rows
    return await node.store.read(files.metadata, number), version


async def test_of_a_destination(tmp_path: Path) -> None:
    options = {"incoming.metadata": RULES, "incoming.version": "$nope-$target"}
    async with small_node(tmp_path) as node:
        with pytest.raises(ConfigError, match="nope"):
            await node.destination("D", options=options)
        legacy = ("incoming.metadata", "incoming.version", "scheduler.version")
        await node.destination("D", options=options | {"scheduler.version": "$nope"}, legacy=legacy)
        await node.user("alice", destinations=("D",))
        metadata, version = await uploaded(node, "a")
        assert (metadata["type"], version) == ("an", "$nope-a")
        now = node.core.clock.now()
        made = plan(Submission(destination="D", target="b"), node.core.snapshot, now)
        assert made.key[2] == "$nope"
        await node.destination("D", options={"incoming.metadata": RULES})
        assert (await uploaded(node, "c"))[0]["type"] == "fc"


async def test_of_a_host(tmp_path: Path) -> None:
    async with small_node(tmp_path) as node:
        hosts = HostOperations(node.engine)
        options = {"ectrans.hostSelector": SELECTOR}
        host = Host(name="h", method="genericTest", options=options)
        await hosts.put(host, SYSTEM)
        assert address(node) == "one.example"
        legacy = ("ectrans.hostSelector", "directory")
        text = "/x/$nope[1]/"
        host = Host(name="h", method="genericTest", options=options, legacy=legacy, directory=text)
        await hosts.put(host, SYSTEM)
        assert address(node) == "two.example"
        template = node.core.snapshot.host("h").template
        assert template is not None
        with pytest.raises(ConfigError, match="directry"):
            await hosts.put(Host(name="h", method="genericTest", legacy=("directry",)), SYSTEM)


def address(node: SmallNode) -> str:
    access = node.core.snapshot.host("h").access
    assert access is not None
    return access.target.host
