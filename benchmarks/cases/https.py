"""HTTPS: one big file, one small file again and again, and many small files, beside nginx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks import clients, peers
from benchmarks.clients import HttpSite
from benchmarks.harness import Comparison, Reach
from benchmarks.node import Node
from benchmarks.scene import BIG, MANY, MEDIUM, SMALL, Material, Scene
from benchmarks.sides import Protocol, Side, Sides, contenders, opened, rates, synced

CONNECTIONS = 16
REQUESTS = 10_000
MIB = 1 << 20

PROTOCOL = Protocol(
    servers={"nginx": "nginx", "rclone": "rclone-webdav"},
    of_peer=peers.http_site,
    of_node=Node.http,
)


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """GET and PUT over TLS 1.3 with curl, and keep-alive requests with h2load."""
    folder = scene.work / "https"
    async with AsyncExitStack() as running:
        sides = await opened(running, scene, folder, PROTOCOL)
        material = Material(folder=scene.work / "material")
        yield [
            _get(scene, sides),
            _put(scene, sides, material),
            _keep_alive(scene, sides),
            _get_many(scene, sides, material),
            _put_many(scene, sides, material),
        ]


def _get(scene: Scene, sides: Sides[HttpSite]) -> Comparison:
    def work(name: str, side: Side[HttpSite], number: int) -> Mapping[str, float]:
        return {name: BIG / MIB / clients.http_get(side.site, "big", size=BIG)}

    return Comparison(
        case="https",
        work="GET 1 GiB",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.9, against="nginx"),
        rounds=scene.rounds,
        seconds=scene.seconds(25),
    )


def _put(scene: Scene, sides: Sides[HttpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[HttpSite], number: int) -> Mapping[str, float]:
        target = f"put-{number}"
        found = rates(name, side, BIG / MIB, clients.http_put(side.site, target, material.big))
        side.forget([target])
        return found

    return Comparison(
        case="https",
        work="PUT 1 GiB",
        unit="MiB/s",
        contenders=contenders(sides, work),
        reach=Reach(limit=0.8, against=synced("nginx")),
        rounds=scene.rounds,
        seconds=scene.seconds(45),
    )


def _keep_alive(scene: Scene, sides: Sides[HttpSite]) -> Comparison:
    def work(name: str, side: Side[HttpSite], number: int) -> Mapping[str, float]:
        rate = clients.http_requests(side.site, "medium", count=REQUESTS, connections=CONNECTIONS)
        return {name: rate}

    # rclone serve hangs with several clients at once (seen with 1.75)
    without = {name: side for name, side in sides.items() if name != "rclone"}
    return Comparison(
        case="https",
        work=f"GET {MEDIUM >> 10} KiB, {CONNECTIONS} connections kept alive",
        unit="requests/s",
        contenders=contenders(without, work),
        reach=Reach(limit=0.5, against="nginx"),
        rounds=scene.rounds,
        seconds=scene.seconds(30),
    )


def _get_many(scene: Scene, sides: Sides[HttpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[HttpSite], number: int) -> Mapping[str, float]:
        names = [path.name for path in material.small(side.many)]
        scratch = scene.work / "https" / f"get-{name}.curl"
        seconds = clients.http_get_many(
            side.site, names, size=SMALL, connections=CONNECTIONS, scratch=scratch
        )
        return {name: len(names) / seconds}

    return Comparison(
        case="https",
        work=f"GET {MANY:,} x 16 KiB, {CONNECTIONS} connections",
        unit="files/s",
        contenders=contenders(sides, work),
        rounds=scene.rounds,
        seconds=scene.seconds(20),
    )


def _put_many(scene: Scene, sides: Sides[HttpSite], material: Material) -> Comparison:
    def work(name: str, side: Side[HttpSite], number: int) -> Mapping[str, float]:
        files = {f"r{number}-{path.name}": path for path in material.small(side.many)}
        scratch = scene.work / "https" / f"put-{name}.curl"
        seconds = clients.http_put_many(side.site, files, connections=CONNECTIONS, scratch=scratch)
        return rates(name, side, len(files), seconds)

    return Comparison(
        case="https",
        work=f"PUT {MANY:,} x 16 KiB, {CONNECTIONS} connections",
        unit="files/s",
        contenders=contenders(sides, work),
        rounds=min(scene.rounds, 5),
        seconds=scene.seconds(30),
    )
