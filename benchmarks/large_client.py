"""Uploads of one sparse file at once by our transfer layer, in a process of its own.

    python -m benchmarks.large_client SETTINGS COUNT

SETTINGS is a JSON file with login, directory, size and options of an SFTP host on 127.0.0.1 where
`t0`, `t1`, … lead nowhere.  Prints the MiB that the process has grown at most.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from ecpds.base.clock import SystemClock
from ecpds.base.threads import Threads
from ecpds.model.host import Host
from ecpds.modules.sftp import SftpModule
from ecpds.transfer.contract import Surroundings
from ecpds.transfer.deliver import deliver
from ecpds.transfer.pool import Pool
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import ContentSource


def access_to(settings: dict[str, Any], count: int) -> Access:
    """Return how the host is used: straight to the names, sizes unseen."""
    options = {"sftp.usetmp": "no", "ectrans.verify": "none", "ectrans.maxSessions": str(count)}
    host = Host(
        name="bench",
        method="genericSftp",
        host="127.0.0.1",
        login=settings["login"],
        directory=settings["directory"],
        options={**settings["options"], **options},
    )
    return Registry([SftpModule]).access(host)


def highest() -> int:
    """Return the most KiB that were resident so far; getrusage would count our parent's too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


async def main(place: str, count: str) -> None:
    """Log in everywhere, then send all at once."""
    settings = json.loads(await asyncio.to_thread(Path(place).read_text))
    size = int(settings["size"])
    threads = Threads()
    around = Surroundings(threads=threads, clock=SystemClock())
    access, pool = access_to(settings, int(count)), Pool(around)
    with tempfile.TemporaryFile() as sparse:
        os.ftruncate(sparse.fileno(), size)

        async def send(number: int, length: int) -> None:
            source = ContentSource(sparse.fileno(), length, threads=threads)
            async with pool.session(access) as module:
                await deliver(
                    module, f"t{number}", source, size=length, rules=access.delivery,
                    clock=around.clock,
                )  # fmt: skip

        await send(0, 1)  # what is loaded once is idle memory
        idle = await asyncio.to_thread(highest)
        async with asyncio.TaskGroup() as group:
            for number in range(int(count)):
                group.create_task(send(number, size))
    await pool.close()
    await asyncio.to_thread(threads.close)
    print((await asyncio.to_thread(highest) - idle) / 1024)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
