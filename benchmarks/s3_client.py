"""Our transfer layer as an S3 client in a process of its own: sessions, deliver, verification.

    python -m benchmarks.s3_client PORT BUCKET put|get|many NAME PATH

The keys come by the environment (S3_LOGIN, S3_PASSWORD).  Prints the seconds from the first request
to the last answer; starting Python is not part of them, because the daemon runs all the time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.host import Host
from ecpds.model.secret import Secret
from ecpds.modules.s3 import S3Module
from ecpds.transfer.contract import ByteSink, Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.fetch import fetch
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import ContentSource

AT_ONCE = 16


class FileSink(ByteSink):
    """Writes to a file, in the disk pool."""

    def __init__(self, descriptor: int, threads: Threads) -> None:
        self._descriptor = descriptor
        self._threads = threads

    async def write(self, block: bytes | memoryview) -> None:
        """Write one block."""
        await self._threads.run("disk", os.write, self._descriptor, block)


class Client:
    """Sends to and fetches from one bucket."""

    def __init__(self, access: Access, around: Surroundings) -> None:
        self._access = access
        self._around = around
        self._pool = Pool(around)

    async def put(self, name: str, path: Path) -> None:
        """Deliver one file."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            source = ContentSource(descriptor, size, threads=self._around.threads)
            async with self._pool.session(self._access) as module:
                await deliver(
                    module, name, source, size=size, rules=self._access.delivery,
                    clock=self._around.clock, version="1",
                )  # fmt: skip
        finally:
            os.close(descriptor)

    async def get(self, name: str, path: Path) -> None:
        """Fetch one file."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        try:
            sink = FileSink(descriptor, self._around.threads)
            async with self._pool.session(self._access) as module:
                await fetch(module, name, sink, around=self._around, watch=self._access.fetching)
        finally:
            os.close(descriptor)

    async def many(self, folder: str, paths: Sequence[Path]) -> None:
        """Deliver files, several at a time."""
        left = iter(paths)

        async def work() -> None:
            for path in left:
                await self.put(f"{folder}/{path.name}", path)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())

    async def close(self) -> None:
        """End all sessions."""
        await self._pool.close()


def access_to(port: int, bucket: str) -> Access:
    """Return how the bucket is used: plain HTTP, four parts or ranges at a time."""
    host = Host(
        name="bench",
        method="genericS3",
        host="127.0.0.1",
        login=os.environ["S3_LOGIN"],
        password=Secret(os.environ["S3_PASSWORD"]),
        options={
            "s3.scheme": "http",
            "s3.port": str(port),
            "s3.bucketName": bucket,
            "s3.numUploadThreads": "4",
            "s3.parallelRanges": "4",
            "ectrans.maxSessions": str(AT_ONCE),
        },
    )
    return Registry([S3Module]).access(host)


async def main(port: str, bucket: str, act: str, name: str, path: str) -> None:
    """Do one piece of work and print its seconds."""
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    client = Client(access_to(int(port), bucket), around)
    paths = await asyncio.to_thread(lambda: sorted(Path(path).iterdir()) if act == "many" else [])
    began = time.perf_counter()
    if act == "put":
        await client.put(name, Path(path))
    elif act == "get":
        await client.get(name, Path(path))
    else:
        await client.many(name, paths)
    seconds = time.perf_counter() - began
    await client.close()
    await asyncio.to_thread(threads.close)
    print(seconds)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
