"""SFTP: one big file, and many small files in one session, beside OpenSSH's sshd.

The client is OpenSSH's `sftp` with its default window (64 requests of 32 KiB) and aes128-gcm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks import clients, peers
from benchmarks.clients import SftpSite
from benchmarks.harness import Comparison, Reach
from benchmarks.node import Node
from benchmarks.scene import BIG, MANY, Material, Scene
from benchmarks.sides import Protocol, Side, Sides, contenders, opened, rates, synced

MIB = 1 << 20

PROTOCOL = Protocol(
    servers={"sshd": "openssh", "rclone": "rclone-sftp"},
    of_peer=peers.sftp_site,
    of_node=Node.sftp,
)


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """`get` and `put` in batches."""
    async with AsyncExitStack() as running:
        sides = await opened(running, scene, scene.work / "sftp", PROTOCOL)
        material = Material(folder=scene.work / "material")
        yield [
            _get(scene, sides),
            _put(scene, sides, material),
            _get_many(scene, sides, material),
            _put_many(scene, sides, material),
        ]


def _get(scene: Scene, sides: Sides[SftpSite]) -> Comparison:
    def work(name: str, side: Side[SftpSite], number: int) -> Mapping[str, float]:
        return {name: BIG / MIB / clients.sftp_get(side.site, ["big"])}

    return Comparison(
        case="sftp",
        work="get 1 GiB, aes128-gcm",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.85, against="sshd"),
        rounds=scene.rounds,
        seconds=scene.seconds(35),
    )


def _put(scene: Scene, sides: Sides[SftpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[SftpSite], number: int) -> Mapping[str, float]:
        target = f"put-{number}"
        found = rates(name, side, BIG / MIB, clients.sftp_put(side.site, {target: material.big}))
        side.forget([target])
        return found

    return Comparison(
        case="sftp",
        work="put 1 GiB, aes128-gcm",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.9, against=synced("sshd")),
        rounds=scene.rounds,
        seconds=scene.seconds(45),
    )


def _get_many(scene: Scene, sides: Sides[SftpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[SftpSite], number: int) -> Mapping[str, float]:
        names = [path.name for path in material.small(side.many)]
        return {name: len(names) / clients.sftp_get(side.site, names)}

    return Comparison(
        case="sftp",
        work=f"get {MANY:,} x 16 KiB, one session",
        unit="files/s",
        contenders=contenders(sides, work),
        rounds=scene.rounds,
        seconds=scene.seconds(35),
    )


def _put_many(scene: Scene, sides: Sides[SftpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[SftpSite], number: int) -> Mapping[str, float]:
        files = {f"r{number}-{path.name}": path for path in material.small(side.many)}
        return rates(name, side, len(files), clients.sftp_put(side.site, files))

    return Comparison(
        case="sftp",
        work=f"put {MANY:,} x 16 KiB, one session",
        unit="files/s",
        contenders=contenders(sides, work),
        rounds=min(scene.rounds, 5),
        seconds=scene.seconds(35),
    )
