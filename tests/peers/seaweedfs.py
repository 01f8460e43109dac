"""SeaweedFS on loopback: an S3 service that checks signatures and keeps parts of broken uploads.

It needs three seconds to start and fifteen to stop, so that one serves all tests of a run: each
test has a bucket of its own.  Nothing that it holds is worth an orderly end.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.peers import ports
from tests.peers.buckets import BucketPeer, Refused, Service, peer_of
from tests.peers.process import START_LIMIT, Child, wait_ready
from tests.peers.programs import find

_SHARED: list[Service] = []


def _identities(login: str, password: str) -> str:
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    keys = [{"accessKey": login, "secretKey": password}]
    return json.dumps({"identities": [{"name": "feed", "credentials": keys, "actions": actions}]})


def _command(folder: Path, port: range, identities: Path) -> list[str | Path]:
    numbers = iter(port)
    options: dict[str, object] = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.port": next(numbers),
        "filer": "true",
        "s3": "true",
        "s3.config": identities,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 1000,  # seven for each bucket
        "volume.minFreeSpace": 0,
        "volume.preStopSeconds": 0,
    }
    for name in ("master", "volume", "filer"):
        options[f"{name}.port"] = next(numbers)
        options[f"{name}.port.grpc"] = next(numbers)
    options["s3.port.grpc"] = next(numbers)
    return [find("weed"), "server", *(f"-{name}={value}" for name, value in options.items())]


@contextmanager
def _started(folder: Path) -> Iterator[tuple[Child, Service]]:
    """Start a service, and end it when the block is left; data goes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    login, password = "feed" + secrets.token_hex(4), secrets.token_urlsafe(24)
    identities = folder / "identities.json"
    identities.write_text(_identities(login, password))
    with ports.reserved() as block:
        command = _command(folder, block, identities)
        child = Child("seaweedfs", command, folder / "output", cwd=folder)
        try:
            yield child, Service(name="SeaweedFS", port=block[0], login=login, password=password)
        finally:
            child.kill()


@contextmanager
def seaweed_server(folder: Path) -> Iterator[Service]:
    """Run a service until the block is left; outside of any loop."""
    with _started(folder) as (child, service):
        asyncio.run(wait_ready(child, "127.0.0.1", service.port))
        _wait_writable(child, service)
        yield service


@asynccontextmanager
async def serving_seaweed(folder: Path) -> AsyncIterator[Service]:
    """Run a service until the block is left."""
    with _started(folder) as (child, service):
        await wait_ready(child, "127.0.0.1", service.port)
        await asyncio.to_thread(_wait_writable, child, service)
        yield service


def _wait_writable(child: Child, service: Service) -> None:
    """Return when the parts of the service have found each other."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            service.demand("PUT", "/ready")
            service.demand("PUT", "/ready/key", content=b"x")
        except (Refused, OSError):
            if time.monotonic() > deadline:
                raise child.failed("does not take objects") from None
            time.sleep(0.05)
        else:
            return


@contextmanager
def shared_seaweed(folder: Path) -> Iterator[Service]:
    """Run the service that `seaweedfs` uses meanwhile."""
    with seaweed_server(folder) as service:
        _SHARED.append(service)
        try:
            yield service
        finally:
            _SHARED.clear()


@asynccontextmanager
async def seaweedfs(folder: Path) -> AsyncIterator[BucketPeer]:
    """Give a new bucket of the shared service."""
    if not _SHARED:
        find("weed")
    peer = peer_of(_SHARED[0], f"b{secrets.token_hex(8)}", folder)
    try:
        yield peer
    finally:
        peer.service.ask("DELETE", f"/{peer.bucket}")
