"""What a silent session of each protocol costs, and whether a thousand of them all stay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

from benchmarks.errors import MeasurementFailed
from benchmarks.harness import US, Comparison, Contender, Reach
from benchmarks.machine import memory
from benchmarks.node import DESTINATION, LOGIN, PASSWORD, SITE, Node
from benchmarks.scene import Scene, fresh

IDLE = 1_000
WARM = 50  # sessions before the first look at the memory
PLAIN, SECURE = 30, 80  # KiB
LISTENERS = {"ftp": "ftp", "ftps": "ftp", "sftp": "sftp", "https": "portal_https"}
REACH = {"ftp": PLAIN, "ftps": SECURE, "sftp": SECURE, "https": SECURE}
KIB = 1024


@asynccontextmanager
async def comparisons(scene: Scene) -> AsyncIterator[list[Comparison]]:
    """One row for each protocol."""
    folder = fresh(scene.work / "idle")
    yield (
        [_row(scene, Node.create(folder / name), name) for name in LISTENERS] if scene.ours else []
    )


def _row(scene: Scene, node: Node, protocol: str) -> Comparison:
    count = scene.count(IDLE, least=20)
    return Comparison(
        case="idle",
        work=f"{count:,} idle {protocol} sessions: memory of each",
        unit="KiB",
        contenders=[Contender(name=US, run=partial(_measured, node, protocol, count))],
        better="lower",
        reach=Reach(limit=REACH[protocol]),
        rounds=3 if scene.full else 1,
        seconds=scene.seconds(40),
    )


async def _measured(node: Node, protocol: str, count: int, number: int) -> Mapping[str, float]:
    text = node.config.read_text(encoding="utf-8")
    if "max_connections" not in text:
        for table in ("https", "ftp", "sftp"):
            text = text.replace(
                f"[portal.{table}]\n", f"[portal.{table}]\nmax_connections = 5000\n"
            )
        node.config.write_text(text, encoding="utf-8")
    try:
        await node.start()
        public = node.key.with_name(node.key.name + ".pub").read_text().strip()
        site = SITE.format(destination=DESTINATION, login=LOGIN, password=PASSWORD, key=public)
        await node.apply(
            site.replace('"portal.maxConnections" = 1000', '"portal.maxConnections" = 0')
        )
        port = urlsplit(node.endpoints[LISTENERS[protocol]]).port or 0
        async with _crowd(protocol, port, WARM):
            before = memory(node.pid).rss
            async with _crowd(protocol, port, count):
                grown = memory(node.pid).rss - before
        return {US: grown / count / KIB}
    finally:
        await node.stop()


@asynccontextmanager
async def _crowd(protocol: str, port: int, count: int) -> AsyncIterator[None]:
    """Hold so many sessions; all of them have to answer at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.idle_client", protocol, str(port), str(count),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise MeasurementFailed("no pipes")
    try:
        if await process.stdout.readline() != b"in\n":
            raise MeasurementFailed(f"the {protocol} sessions did not come in")
        yield
    finally:
        process.stdin.close()
        out = await process.stdout.read()
        await process.wait()
    if out.strip() != str(count).encode():
        raise MeasurementFailed(f"of {count} {protocol} sessions stayed {out.decode().strip()}")
