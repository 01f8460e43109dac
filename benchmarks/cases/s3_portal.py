"""The S3 portal beside SeaweedFS and `rclone serve s3`: small and large objects, and listings.

All speak plain HTTP on loopback.  The clients are curl and h2load with presigned addresses, so that
signing costs nothing while the clock runs and every server has to verify.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks import clients
from benchmarks.clients import HttpSite
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import DESTINATION, LOGIN, PASSWORD, SITE, Node
from benchmarks.scene import MEDIUM, Material, Scene, fresh
from tests.peers import ports
from tests.peers.buckets import Service
from tests.peers.process import PeerFailed, serving
from tests.peers.programs import ProgramMissing, find
from tests.peers.seaweedfs import serving_seaweed

MIB = 1 << 20
LARGE = 256 * MIB
CONNECTIONS = 16
REQUESTS = 5_000
PUTS = 1_000
LISTED = 3_000
ACCESS, SECRET = "AKBENCHMARK", "a-secret-that-only-measures-0123456789"
LISTEN = '[portal.s3]\nlisten = "127.0.0.1:0"\ntls = false\n'
KEYS = f's3_keys = [{{ access_key = "{ACCESS}", secret = "{SECRET}" }}]\n'
LASTS = 3_600  # seconds that an address is good for


@dataclass(slots=True)
class Site:
    """A bucket of one server."""

    service: Service
    bucket: str
    numbers: dict[str, int] = field(default_factory=dict)

    def link(self, method: str, key: str = "", **query: str) -> str:
        """Return a presigned address without its host."""
        host = f"http://127.0.0.1:{self.service.port}"
        text = f"?{urlencode(query)}" if query else ""
        url = f"{host}/{self.bucket}/{quote(key)}{text}"
        request = AWSRequest(method=method, url=url)
        keys = Credentials(self.service.login, self.service.password)
        S3SigV4QueryAuth(keys, "s3", self.service.region, expires=LASTS).add_auth(request)
        return str(request.url).removeprefix(host + "/")

    @property
    def http(self) -> HttpSite:
        """Return where curl finds it."""
        place = f"http://127.0.0.1:{self.service.port}"
        return HttpSite(read=place, write=place)

    def fresh(self, name: str) -> str:
        """Return a key that nobody has used."""
        self.numbers[name] = self.numbers.get(name, 0) + 1
        return f"{name}-{self.numbers[name]}"


Sites = Mapping[str, "Site | MeasurementFailed"]
Work = Callable[[Site], float]


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """GET and PUT of 64 KiB and 256 MiB, pages of a listing."""
    folder = fresh(scene.work / "s3_portal")
    material = await asyncio.to_thread(Material(folder=scene.work / "material").create)
    medium = material.medium
    large = folder / "large"
    with large.open("wb") as file:
        file.write(medium.read_bytes() * (LARGE // MEDIUM))
    async with AsyncExitStack() as running:
        sites = await _sites(running, scene, folder)
        for site in sites.values():
            if isinstance(site, Site):
                await asyncio.to_thread(_fill, site, medium, large, folder)
        yield [
            _compare(scene, sites, f"GET {MEDIUM >> 10} KiB, {CONNECTIONS} connections",
                     "requests/s", _get_small, 15),
            _compare(scene, sites, f"PUT {PUTS:,} x {MEDIUM >> 10} KiB, {CONNECTIONS} connections",
                     "objects/s", _put_small(medium, folder), 20),
            _compare(scene, sites, "GET 256 MiB", "MiB/s", _get_large, 10),
            _compare(scene, sites, "PUT 256 MiB", "MiB/s", _put_large(large), 20),
            _compare(scene, sites, f"list {LISTED:,} keys", "keys/s", _list, 10),
        ]  # fmt: skip


def _compare(
    scene: Scene, sites: Sites, work: str, unit: str, act: Work, seconds: float
) -> Comparison:
    def one(name: str, site: Site | MeasurementFailed) -> Contender:
        def run(number: int) -> Mapping[str, float]:
            del number
            if isinstance(site, MeasurementFailed):
                raise site
            return {name: act(site)}

        return Contender(name=name, run=run, rounds=2 if name == "rclone" else None)

    return Comparison(
        case="s3_portal",
        work=work,
        unit=unit,
        contenders=[one(name, site) for name, site in sites.items()],
        reach=Reach(limit=1.0, against="SeaweedFS"),
        rounds=min(scene.rounds, 3),
        seconds=scene.seconds(seconds),
    )


# --- servers ---------------------------------------------------------------------------------


async def _sites(running: AsyncExitStack, scene: Scene, folder: Path) -> Sites:
    sites: dict[str, Site | MeasurementFailed] = {}
    if scene.ours:
        sites[US] = await running.enter_async_context(_ours(folder / US))
    for name, start in (("SeaweedFS", _seaweed), ("rclone", _rclone)):
        try:
            sites[name] = await running.enter_async_context(start(folder / name))
        except (ProgramMissing, PeerFailed) as error:
            sites[name] = MeasurementFailed(f"{name}: {error}")
    return sites


@asynccontextmanager
async def _ours(folder: Path) -> AsyncIterator[Site]:
    node = Node.create(folder)
    node.config.write_text(node.config.read_text() + LISTEN)
    try:
        await node.start()
        public = node.key.with_name(node.key.name + ".pub").read_text().strip()
        text = SITE.format(destination=DESTINATION, login=LOGIN, password=PASSWORD, key=public)
        await node.apply(text.rstrip() + "\n" + KEYS)
        port = int(node.endpoints["portal_s3"].rpartition(":")[2])
        yield Site(Service(name=US, port=port, login=ACCESS, password=SECRET), DESTINATION)
    finally:
        await node.stop()


@asynccontextmanager
async def _seaweed(folder: Path) -> AsyncIterator[Site]:
    async with serving_seaweed(folder) as service:
        await asyncio.to_thread(service.demand, "PUT", "/bench")
        yield Site(service, "bench")


@asynccontextmanager
async def _rclone(folder: Path) -> AsyncIterator[Site]:
    root = folder / "root"
    (root / "bench").mkdir(parents=True)
    with ports.reserved() as block:
        command: Sequence[str | Path] = [
            *(find("rclone"), "serve", "s3", root, "--addr", f"127.0.0.1:{block[0]}"),
            *("--auth-key", f"{ACCESS},{SECRET}", "--vfs-cache-mode", "off"),
            *("--config", folder / "rclone.conf", "--cache-dir", folder / "cache"),
        ]
        (folder / "rclone.conf").touch()
        async with serving("rclone serve s3", command, folder=folder, port=block[0]):
            service = Service(name="rclone", port=block[0], login=ACCESS, password=SECRET)
            yield Site(service, "bench")


# --- work ------------------------------------------------------------------------------------


def _fill(site: Site, medium: Path, large: Path, folder: Path) -> None:
    clients.http_put(site.http, site.link("PUT", "medium"), medium)
    clients.http_put(site.http, site.link("PUT", "large"), large)
    tiny = folder / "tiny"
    tiny.write_bytes(b"x")
    files = {site.link("PUT", f"list/{number:05}"): tiny for number in range(LISTED)}
    clients.http_put_many(site.http, files, connections=4, scratch=folder / "fill.curl")


def _get_small(site: Site) -> float:
    link = site.link("GET", "medium")
    return clients.http_requests(site.http, link, count=REQUESTS, connections=CONNECTIONS)


def _put_small(medium: Path, folder: Path) -> Work:
    def work(site: Site) -> float:
        base = site.fresh("put")
        files = {site.link("PUT", f"{base}/{number}"): medium for number in range(PUTS)}
        scratch = folder / "put.curl"
        connections = CONNECTIONS if site.service.name != "rclone" else 1  # it hangs with more
        seconds = clients.http_put_many(site.http, files, connections=connections, scratch=scratch)
        return PUTS / seconds

    return work


def _get_large(site: Site) -> float:
    return LARGE / MIB / clients.http_get(site.http, site.link("GET", "large"), size=LARGE)


def _put_large(large: Path) -> Work:
    def work(site: Site) -> float:
        link = site.link("PUT", site.fresh("large"))
        return LARGE / MIB / clients.http_put(site.http, link, large)

    return work


def _list(site: Site) -> float:
    seconds, after = 0.0, ""
    for _ in range(LISTED // 1_000):
        query = {"list-type": "2", "prefix": "list/", "max-keys": "1000"}
        if after:
            query["start-after"] = after
        command = [*site.http.curl(), f"{site.http.read}/{site.link('GET', **query)}"]
        took, output = clients.timed(command)
        seconds += took
        after = output.rpartition("<Key>")[2].partition("</Key>")[0]
    if after != f"list/{LISTED - 1:05}":
        raise MeasurementFailed(f"the listing ended at {after!r}")
    return LISTED / seconds
