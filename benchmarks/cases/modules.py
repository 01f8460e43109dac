"""From our store to remote servers and back, through the whole engine, beside plain clients.

Ours is the time from the order to the last file under its final name, its size compared at the far
end, or to its content stored on the disk.  The client beside only moves the bytes: lftp, OpenSSH's
sftp, curl and rclone to the same server, from and to the same filesystem.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import clients, peers
from benchmarks.clients import timed
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.node import Node
from benchmarks.remote import Route, Sender
from benchmarks.scene import BIG, SMALL, Material, Scene, fresh
from ecpds.conformance.faultproxy import FaultProxy, Way, drop, share
from tests.peers.peer import Peer
from tests.peers.process import PeerFailed
from tests.peers.programs import ProgramMissing, find
from tests.peers.vsftpd import vsftpd

MIB: Final = 1 << 20
AT_ONCE: Final = 8
COUNT: Final = 2000
TEN: Final = 10
CUT: Final = 64 * MIB
LFTP: Final = "set net:max-retries 1; set cmd:fail-exit yes; set xfer:clobber yes; "

SERVERS: Final = {"ftp": "vsftpd", "ftps": "vsftpd-tls", "sftp": "openssh", "https": "nginx"}
METHODS: Final = {"ftp": "Ftp", "ftps": "Ftps", "sftp": "Sftp", "https": "Http"}
CUTS: Final = ("ftp", "sftp", "https")

Work = Callable[[int], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that runs, and the file that is moved."""

    scene: Scene
    folder: Path
    sender: Sender
    peers: Mapping[str, Peer]
    routes: Mapping[str, Route]
    proxies: Mapping[str, FaultProxy]
    big: Path
    small: Path

    @property
    def size(self) -> int:
        """Bytes of the one large file."""
        return self.big.stat().st_size

    @property
    def amount(self) -> str:
        """The same for people."""
        return "1 GiB" if self.size == BIG else f"{self.size // MIB} MiB"


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """Single large files, many small ones at a time, memory, and what a cut costs."""
    if not scene.ours:
        yield []
        return
    async with AsyncExitStack() as running:
        stage = await _opened(running, scene, fresh(scene.work / "modules"))
        yield [
            *(_put(stage, name) for name in ("ftp", "ftps", "sftp", "https")),
            *(_get(stage, name) for name in ("sftp", "https")),
            *(_many(stage, name) for name in ("sftp", "ftp")),
            _memory(stage),
            *(_cut(stage, name) for name in stage.proxies),
        ]


async def _opened(running: AsyncExitStack, scene: Scene, folder: Path) -> Stage:
    material = await asyncio.to_thread(Material(folder=scene.work / "material").create)
    big = material.big if scene.full else await asyncio.to_thread(_quarter, material.big, folder)
    small = fresh(folder / "small")
    for path in material.small(COUNT):
        os.link(path, small / path.name)
    found = dict(
        await running.enter_async_context(
            peers.available("vsftpd", "openssh", "nginx", folder=folder)
        )
    )
    try:
        (folder / "vsftpd-tls").mkdir()
        secure = vsftpd(folder / "vsftpd-tls", tls="explicit", options=peers.QUIET)
        found["vsftpd-tls"] = await running.enter_async_context(secure)
    except (ProgramMissing, PeerFailed) as error:
        raise MeasurementFailed(f"vsftpd: {error}") from error
    proxies = {
        name: await running.enter_async_context(FaultProxy(found[SERVERS[name]])) for name in CUTS
    }
    routes = {route.name: route for route in _routes(found, proxies)}
    sender = Sender(node=Node.create(folder / US))
    running.push_async_callback(sender.node.stop)
    await sender.begin(list(routes.values()))
    return Stage(
        scene=scene, folder=folder, sender=sender, peers=found, routes=routes,
        proxies=proxies, big=big, small=small,
    )  # fmt: skip


def _quarter(big: Path, folder: Path) -> Path:
    """Return the first quarter of the large file: enough for a rate, a quarter of the time."""
    place = folder / "quarter"
    with big.open("rb") as source, place.open("wb") as sink:
        for _ in range(BIG // 4 // MIB):
            sink.write(source.read(MIB))
    return place


def _routes(found: Mapping[str, Peer], proxies: Mapping[str, FaultProxy]) -> Iterator[Route]:
    for folder in ("feed", "many", "ten", "cut"):
        for peer in found.values():
            peer.mkdir(folder)
    options = {"vsftpd": _ftp, "vsftpd-tls": _ftps, "openssh": _sftp, "nginx": _https}
    kept: dict[str, object] = {"ftp.keepAlive": "1m", "sftp.keepAlive": "1m"}
    for name, server in SERVERS.items():
        peer, method = found[server], f"generic{METHODS[name]}"
        here = options[server](peer)
        here |= {key: text for key, text in kept.items() if key.startswith(name + ".")}
        yield Route(name=name, method=method, peer=peer, options=here)
        if name in ("sftp", "https"):
            yield Route(
                name=f"from-{name}", method=method, peer=peer, options=here, folder="feed",
                acquires=True,
            )  # fmt: skip
        if name in ("sftp", "ftp"):
            yield Route(
                name=f"many-{name}", method=method, peer=peer, options=here, folder="many",
                connections=AT_ONCE,
            )  # fmt: skip
        if name == "sftp":
            yield Route(
                name="ten", method=method, peer=peer, options=here, folder="ten", connections=TEN
            )
        if name in proxies:
            at = proxies[name].peer
            again = {"acquisition.requeueOnFailure": "yes"} if name == "https" else {}
            yield Route(
                name=f"cut-{name}", method=method, peer=at, options=options[server](at) | again,
                folder="cut", acquires=name == "https",
            )  # fmt: skip


def _ftp(peer: Peer) -> dict[str, object]:
    return {"ftp.port": peer.port}


def _ftps(peer: Peer) -> dict[str, object]:
    return {"ftps.port": peer.port, "ectrans.tlsCa": str(peer.ca)}


def _sftp(peer: Peer) -> dict[str, object]:
    options: dict[str, object] = {"sftp.port": peer.port, "sftp.fingerPrint": peer.host_key}
    if peer.key is not None:
        options["sftp.privateKey"] = peer.key.read_text()
    return options


def _https(peer: Peer) -> dict[str, object]:
    return {"http.port": peer.port, "http.scheme": "https", "ectrans.tlsCa": str(peer.ca)}


# -- one large file --------------------------------------------------------------------------------


def _put(stage: Stage, name: str) -> Comparison:
    route = stage.routes[name]
    beside = {"ftp": _lftp, "ftps": _lftp, "sftp": _sftp_put, "https": _curl_put}[name]

    async def ours(number: int) -> float:
        target = f"big-{number}"
        await stage.sender.store(route, {target: stage.big})
        seconds = await stage.sender.send(route, {target: stage.size})
        (route.disk / target).unlink()
        return seconds

    async def theirs(number: int) -> float:
        seconds = await asyncio.to_thread(beside, route.peer, stage.big, f"beside-{number}")
        (route.disk / f"beside-{number}").unlink()
        return seconds

    client, limit = {
        "ftp": ("lftp", 0.9), "ftps": ("lftp", 0.9), "sftp": ("sftp", 0.75), "https": ("curl", 0.9),
    }[name]  # fmt: skip
    return _rate(stage, f"store to {name}, {stage.amount}", ours, client, theirs, limit)


def _rate(
    stage: Stage, work: str, ours: Work, client: str, theirs: Work, limit: float
) -> Comparison:
    async def run(name: str, act: Work, number: int) -> Mapping[str, float]:
        return {name: stage.size / MIB / await act(number)}

    contenders = [(US, ours), (client, theirs)]
    return Comparison(
        case="modules",
        work=work,
        unit="MiB/s",
        contenders=[Contender(name=who, run=partial(run, who, act)) for who, act in contenders],
        reach=Reach(limit=limit, against=client),
        rounds=stage.scene.rounds,
        seconds=stage.scene.seconds(14),
    )


def _lftp(peer: Peer, path: Path, name: str) -> float:
    return _lftp_does(peer, f"put '{path}' -o '{name}'")


def _lftp_does(peer: Peer, command: str) -> float:
    secure = "yes" if peer.tls else "no"
    settings = LFTP + f"set ftp:ssl-allow {secure}; set ftp:ssl-force {secure}; "
    settings += "set ftp:ssl-protect-data yes; set ssl:verify-certificate no; "
    settings += f"set sftp:connect-program \"ssh -a -x -i '{peer.key}' {_no_questions()}\"; "
    login = f"{peer.login},{peer.password or 'none'}"
    where = f"{peer.scheme if peer.scheme == 'sftp' else 'ftp'}://127.0.0.1:{peer.port}"
    start = f"open -u '{login}' {where}; cd '{peer.directory}'; "
    return timed([str(find("lftp")), "--norc", "-c", settings + start + command])[0]


def _no_questions() -> str:
    flags = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
             f"Ciphers={clients.CIPHER}")  # fmt: skip
    return " ".join(f"-o {flag}" for flag in flags)


def _sftp_put(peer: Peer, path: Path, name: str) -> float:
    return clients.sftp_put(peers.sftp_site(peer), {name: path})


def _curl_put(peer: Peer, path: Path, name: str) -> float:
    return clients.http_put(peers.http_site(peer), name, path)


def _get(stage: Stage, name: str) -> Comparison:
    route = stage.routes[f"from-{name}"]

    async def ours(number: int) -> float:
        source = route.disk / f"new-{number}"
        await asyncio.to_thread(_offered, stage.big, source)
        seconds = await stage.sender.acquire(route, source.name, stage.size)
        source.unlink()
        return seconds

    def fetch(number: int) -> float:
        place = stage.folder / f"got-{name}"
        _offered(stage.big, route.disk / "beside")
        client = _sftp_get if name == "sftp" else _curl_get
        seconds = client(route.peer, "feed/beside", place) + clients.flush(place.parent)
        if place.stat().st_size != stage.size:
            raise MeasurementFailed(f"{place.stat().st_size} of {stage.size} bytes arrived")
        place.unlink()
        return seconds

    async def theirs(number: int) -> float:
        return await asyncio.to_thread(fetch, number)

    client, limit = ("sftp + sync", 0.75) if name == "sftp" else ("curl + sync", 0.9)
    return _rate(stage, f"{name} to store, {stage.amount}", ours, client, theirs, limit)


def _offered(path: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    shutil.copyfile(path, place)
    place.chmod(0o644)
    subprocess.run(["sync", "-f", place], check=True)  # what waits for the disk delays both


def _sftp_get(peer: Peer, name: str, place: Path) -> float:
    site = peers.sftp_site(peer)
    return clients.sftp(site, [f"get {site.folder}/{name} {place}"])


def _curl_get(peer: Peer, name: str, place: Path) -> float:
    site = peers.http_site(peer)
    return timed([*site.curl(), "-o", str(place), f"{site.read}/{name}"])[0]


# -- many small files ------------------------------------------------------------------------------


def _many(stage: Stage, name: str) -> Comparison:
    route = stage.routes[f"many-{name}"]

    async def ours(number: int) -> float:
        files = {f"r{number}-{path.name}": path for path in sorted(stage.small.iterdir())}
        await stage.sender.store(route, files)
        seconds = await stage.sender.send(route, dict.fromkeys(files, SMALL))
        await asyncio.to_thread(fresh_at, route.peer, "many")
        return seconds

    async def beside(client: Callable[[Peer, Path, str], float], number: int) -> float:
        folder = f"beside-{number}"
        seconds = await asyncio.to_thread(client, route.peer, stage.small, folder)
        count = len(os.listdir(route.peer.root / folder))
        if count != COUNT:
            raise MeasurementFailed(f"{count} of {COUNT} files arrived")
        await asyncio.to_thread(shutil.rmtree, route.peer.root / folder)
        return seconds

    async def run(who: str, act: Work, number: int) -> Mapping[str, float]:
        return {who: COUNT / await act(number)}

    acts: dict[str, Work] = {
        US: ours,
        "lftp": partial(beside, _lftp_mirror),
        "rclone": partial(beside, _rclone_copy),
    }
    return Comparison(
        case="modules",
        work=f"store to {name}, {COUNT:,} x 16 KiB, {AT_ONCE} at once",
        unit="files/s",
        contenders=[Contender(name=who, run=partial(run, who, act)) for who, act in acts.items()],
        reach=Reach(limit=1.0, against="lftp"),
        rounds=min(stage.scene.rounds, 3),
        seconds=stage.scene.seconds(30),
    )


def fresh_at(peer: Peer, folder: str) -> None:
    """Empty a folder of a peer."""
    shutil.rmtree(peer.root / folder)
    peer.mkdir(folder)


def _lftp_mirror(peer: Peer, folder: Path, name: str) -> float:
    return _lftp_does(peer, f"mirror -R -P{AT_ONCE} '{folder}' '{name}'")


def _rclone_copy(peer: Peer, folder: Path, name: str) -> float:
    program = str(find("rclone"))
    remote = {"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_W_TYPE": peer.scheme}
    remote |= {"RCLONE_CONFIG_W_HOST": "127.0.0.1", "RCLONE_CONFIG_W_PORT": str(peer.port)}
    remote["RCLONE_CONFIG_W_USER"] = peer.login
    if peer.scheme == "sftp":
        remote["RCLONE_CONFIG_W_KEY_FILE"] = str(peer.key)
        remote["RCLONE_CONFIG_W_SHELL_TYPE"] = "none"
    else:
        remote["RCLONE_CONFIG_W_PASS"] = timed([program, "obscure", peer.password])[1].strip()
    settings = [f"{key}={value}" for key, value in remote.items()]
    words = ["copy", str(folder), f"w:{peer.remote(name)}", "--transfers", str(AT_ONCE)]
    return timed(["env", *settings, program, *words])[0]


# -- memory, and what a cut costs ------------------------------------------------------------------


def _memory(stage: Stage) -> Comparison:
    route, node = stage.routes["ten"], stage.sender.node

    async def run(number: int) -> Mapping[str, float]:
        files = {f"t{number}-{each}": stage.big for each in range(TEN)}
        await stage.sender.store(route, files)
        idle = node.memory().pss
        highest, is_over = idle, asyncio.Event()

        async def look() -> None:
            nonlocal highest
            while not is_over.is_set():
                highest = max(highest, node.memory().pss)
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(look())
            failed = await _failure(stage.sender.send(route, dict.fromkeys(files, stage.size)))
            is_over.set()
        if failed is not None:
            raise failed
        await asyncio.to_thread(fresh_at, route.peer, "ten")
        return {US: (highest - idle) / MIB}

    return Comparison(
        case="modules",
        work=f"memory above idle, {TEN} x {stage.amount} over sftp at once",
        unit="MiB",
        better="lower",
        contenders=[Contender(name=US, run=run)],
        reach=Reach(limit=250),
        rounds=1,
        seconds=stage.scene.seconds(25),
    )


async def _failure(act: Awaitable[float]) -> MeasurementFailed | None:
    """Return how it failed: as it is, where a TaskGroup would wrap it."""
    try:
        await act
    except MeasurementFailed as error:
        return error
    return None


def _cut(stage: Stage, name: str) -> Comparison:
    """Cut once at half of the file; count what passed until it is complete."""
    route, proxy = stage.routes[f"cut-{name}"], stage.proxies[name]
    way = Way.DOWN if route.acquires else Way.UP
    source = stage.folder / "cut"

    async def run(number: int) -> Mapping[str, float]:
        with source.open("wb") as file, stage.big.open("rb") as content:
            file.write(content.read(CUT))
        target = f"c{number}"
        if route.acquires:
            _offered(source, route.disk / target)
        else:
            await stage.sender.store(route, {target: source})
        before = proxy.passed[way]
        proxy.fault = drop(share(50, CUT), way=way)
        if route.acquires:
            await stage.sender.acquire(route, target, CUT)
        else:
            await stage.sender.send(route, {target: CUT})
        proxy.fault = None
        (route.disk / target).unlink()
        return {US: (proxy.passed[way] - before) / CUT}

    return Comparison(
        case="modules",
        work=f"bytes on the wire, cut at 50 %, {name} {'get' if route.acquires else 'put'}",
        unit="x size",
        better="lower",
        contenders=[Contender(name=US, run=run)],
        reach=Reach(limit=1.1),
        rounds=1,
        seconds=stage.scene.seconds(10),
    )
