"""FTP: one big file, and many small files in one session, beside vsftpd and pyftpdlib."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks import ftp_client, peers
from benchmarks.ftp_client import FtpSite
from benchmarks.harness import Comparison, Reach
from benchmarks.node import Node
from benchmarks.scene import BIG, MANY, SMALL, Material, Scene
from benchmarks.sides import Protocol, Side, Sides, contenders, opened, rates, synced

MIB = 1 << 20

PROTOCOL = Protocol(
    servers={"vsftpd": "vsftpd", "pyftpdlib": "pyftpdlib", "rclone": "rclone-ftp"},
    of_peer=peers.ftp_site,
    of_node=Node.ftp,
)


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """RETR and STOR without TLS, with our raw-socket client."""
    async with AsyncExitStack() as running:
        sides = await opened(running, scene, scene.work / "ftp", PROTOCOL)
        material = Material(folder=scene.work / "material")
        yield [
            _retrieve(scene, sides),
            _store(scene, sides, material),
            _retrieve_many(scene, sides, material),
            _store_many(scene, sides, material),
        ]


def _retrieve(scene: Scene, sides: Sides[FtpSite]) -> Comparison:
    def work(name: str, side: Side[FtpSite], number: int) -> Mapping[str, float]:
        return {name: BIG / MIB / ftp_client.retrieve(side.site, ["big"], size=BIG)}

    return Comparison(
        case="ftp",
        work="RETR 1 GiB",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.9, against="vsftpd"),
        rounds=scene.rounds,
        seconds=scene.seconds(20),
    )


def _store(scene: Scene, sides: Sides[FtpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[FtpSite], number: int) -> Mapping[str, float]:
        target = f"stor-{number}"
        found = rates(name, side, BIG / MIB, ftp_client.store(side.site, {target: material.big}))
        side.forget([target])
        return found

    return Comparison(
        case="ftp",
        work="STOR 1 GiB",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.8, against=synced("vsftpd")),
        rounds=scene.rounds,
        seconds=scene.seconds(40),
    )


def _retrieve_many(scene: Scene, sides: Sides[FtpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[FtpSite], number: int) -> Mapping[str, float]:
        names = [path.name for path in material.small(side.many)]
        return {name: len(names) / ftp_client.retrieve(side.site, names, size=SMALL)}

    return Comparison(
        case="ftp",
        work=f"RETR {MANY:,} x 16 KiB, one session",
        unit="files/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.9, against="vsftpd"),
        rounds=scene.rounds,
        seconds=scene.seconds(25),
    )


def _store_many(scene: Scene, sides: Sides[FtpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[FtpSite], number: int) -> Mapping[str, float]:
        files = {f"r{number}-{path.name}": path for path in material.small(side.many)}
        return rates(name, side, len(files), ftp_client.store(side.site, files))

    return Comparison(
        case="ftp",
        work=f"STOR {MANY:,} x 16 KiB, one session",
        unit="files/s",
        contenders=contenders(sides, work),
        rounds=min(scene.rounds, 5),
        seconds=scene.seconds(40),
    )
