"""moto's server on loopback: one more S3 service, in memory; it checks no signature."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.peers import ports
from tests.peers.buckets import BucketPeer, Service, peer_of
from tests.peers.process import Child, wait_ready

PROGRAM = """
import io, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

inner, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_by_one(environ, start):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size)
    if len(body) < size:
        start("400 Bad Request", [])
        return [b""]
    environ["wsgi.input"] = io.BytesIO(body)
    with lock:
        return list(inner(environ, start))

run_simple("127.0.0.1", int(sys.argv[1]), one_by_one, threaded=True)
"""
"""moto's own server, one request at a time: it answers 500 to two uploads of one name at once."""

_SHARED: list[Service] = []


@contextmanager
def moto_server(folder: Path) -> Iterator[Service]:
    """Run a service until the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with ports.reserved() as block:
        command = [sys.executable, "-c", PROGRAM, str(block[0])]
        # AWS wants parts of 5 MiB; ours are smaller in tests
        sizes = {"S3_UPLOAD_PART_MIN_SIZE": "65536"}
        child = Child("moto", command, folder / "output", env=sizes, cwd=folder)
        try:
            asyncio.run(wait_ready(child, "127.0.0.1", block[0]))
            yield Service(name="moto", port=block[0], login="feed", password="any")
        finally:
            child.kill()


@contextmanager
def shared_moto(folder: Path) -> Iterator[Service]:
    """Run the service that `moto` uses meanwhile."""
    with moto_server(folder) as service:
        _SHARED.append(service)
        try:
            yield service
        finally:
            _SHARED.clear()


@asynccontextmanager
async def moto(folder: Path) -> AsyncIterator[BucketPeer]:
    """Give a new bucket of the shared service."""
    yield peer_of(_SHARED[0], f"b{secrets.token_hex(8)}", folder)
