"""S3: one big object and many small ones, sent to and fetched from SeaweedFS, beside rclone.

Here we are the client: our side is the transfer layer with its verification (`s3_client`), theirs
is `rclone` with its defaults, sixteen transfers at a time for the small ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.clients import timed
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.scene import BIG, Material, Scene, fresh
from tests.peers.buckets import Service
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing, find
from tests.peers.seaweedfs import serving_seaweed

MIB = 1 << 20
COUNT = 1000
AT_ONCE = 16
RCLONE = "rclone"
BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Site:
    """The bucket that both use."""

    service: Service
    folder: Path

    def ours(self, act: str, name: str, path: Path) -> float:
        """Do the work with our transfer layer; return the seconds."""
        keys = {"S3_LOGIN": self.service.login, "S3_PASSWORD": self.service.password}
        words = (str(self.service.port), BUCKET, act, name, str(path))
        command = [sys.executable, "-m", "benchmarks.s3_client", *words]
        return float(timed(["env", *_assigned(keys), *command])[1])

    def rclone(self, act: str, name: str, path: Path) -> float:
        """Do the same with rclone; return the seconds."""
        settings = {
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"),
            "RCLONE_CONFIG_W_TYPE": "s3",
            "RCLONE_CONFIG_W_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_W_ENDPOINT": f"http://127.0.0.1:{self.service.port}",
            "RCLONE_CONFIG_W_ACCESS_KEY_ID": self.service.login,
            "RCLONE_CONFIG_W_SECRET_ACCESS_KEY": self.service.password,
        }
        remote = f"w:{BUCKET}/{name}"
        words = {
            "put": ["copyto", str(path), remote],
            "get": ["copyto", remote, str(path)],
            "many": ["copy", str(path), remote, "--transfers", str(AT_ONCE)],
        }[act]
        return timed(["env", *_assigned(settings), str(find("rclone")), *words])[0]

    def does(self, who: str, act: str, name: str, path: Path) -> float:
        """Let one of the two do the work."""
        return self.ours(act, name, path) if who == US else self.rclone(act, name, path)

    def forget(self, name: str) -> None:
        """Remove what was sent, so that the disk does not fill; not measured."""
        self.service.ask("DELETE", f"/{BUCKET}/{name}")


def _assigned(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Put and get of 1 GiB, put of 1,000 x 16 KiB."""
    folder = fresh(scene.work / "s3")
    material = Material(folder=scene.work / "material")
    small = fresh(folder / "small")
    for path in material.small(COUNT):
        os.link(path, small / path.name)
    async with AsyncExitStack() as running:
        try:
            service = await running.enter_async_context(serving_seaweed(folder / "weed"))
        except (ProgramMissing, PeerFailed) as error:
            raise MeasurementFailed(f"SeaweedFS: {error}") from error
        await asyncio.to_thread(service.demand, "PUT", f"/{BUCKET}")
        site = Site(service, folder)
        await asyncio.to_thread(site.rclone, "put", "big", material.big)
        rows = [_put(scene, site, material.big), _get(scene, site), _many(scene, site, small)]
        yield rows if scene.ours else []


def _put(scene: Scene, site: Site, big: Path) -> Comparison:
    def run(who: str, number: int) -> Mapping[str, float]:
        name = f"put-{who}-{number}"
        seconds = site.does(who, "put", name, big)
        site.forget(name)
        return {who: BIG / MIB / seconds}

    return _row(scene, "put 1 GiB in parts", "MiB/s", run, reach=1.2, seconds=40)


def _get(scene: Scene, site: Site) -> Comparison:
    def run(who: str, number: int) -> Mapping[str, float]:
        place = site.folder / "got"
        seconds = site.does(who, "get", "big", place)
        if place.stat().st_size != BIG:
            raise MeasurementFailed(f"{who}: {place.stat().st_size} bytes arrived")
        place.unlink()
        return {who: BIG / MIB / seconds}

    return _row(scene, "get 1 GiB in ranges", "MiB/s", run, reach=1.2, seconds=30)


def _many(scene: Scene, site: Site, small: Path) -> Comparison:
    def run(who: str, number: int) -> Mapping[str, float]:
        return {who: COUNT / site.does(who, "many", f"many-{who}-{number}", small)}

    work = f"put {COUNT:,} x 16 KiB, {AT_ONCE} at once"
    return _row(scene, work, "files/s", run, reach=1.5, seconds=20)


def _row(
    scene: Scene,
    work: str,
    unit: str,
    run: Callable[[str, int], Mapping[str, float]],
    *,
    reach: float,
    seconds: float,
) -> Comparison:
    return Comparison(
        case="s3",
        work=work,
        unit=unit,
        contenders=[Contender(name=who, run=partial(run, who)) for who in (US, RCLONE)],
        reach=Reach(limit=reach, against=RCLONE),
        rounds=scene.rounds,
        seconds=scene.seconds(seconds),
    )
