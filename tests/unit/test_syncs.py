"""Many wishes to sync become few visits to the disk, and nobody's failure is another one's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from ecpds.transfer.syncs import Syncs
from tests.loopthreads import LoopThreads


class Held(LoopThreads):
    """`hold` keeps visits from returning."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = asyncio.Event()

    async def run(self, pool: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        await self.hold.wait()
        return await super().run(pool, fn, *args, **kwargs)


async def test_wishes_gather_while_one_is_at_the_disk(tmp_path: Path) -> None:
    syncs, threads = Syncs(), LoopThreads()
    opened = [os.open(tmp_path / f"{n}", os.O_CREAT | os.O_WRONLY) for n in range(6)]
    at = os.open(tmp_path, os.O_PATH)
    async with asyncio.TaskGroup() as group:
        for descriptor in opened:
            group.create_task(syncs.file(threads, descriptor))
        group.create_task(syncs.directory(threads, at))
        group.create_task(syncs.directory(threads, at))
    assert threads.visits == 2
    await syncs.file(threads, opened[0])
    assert threads.visits == 3
    for descriptor in (*opened, at):
        os.close(descriptor)


async def test_a_failure_is_told_to_its_own_caller(tmp_path: Path) -> None:
    syncs, threads = Syncs(), LoopThreads()
    good = os.open(tmp_path / "f", os.O_CREAT | os.O_WRONLY)
    outcomes: list[str] = []

    async def wish(descriptor: int) -> None:
        try:
            await syncs.file(threads, descriptor)
        except OSError:
            outcomes.append("failed")
        else:
            outcomes.append("synced")

    async with asyncio.TaskGroup() as group:
        for descriptor in (good, 999_999, good):
            group.create_task(wish(descriptor))
    os.close(good)
    assert sorted(outcomes) == ["failed", "synced", "synced"]


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_who_is_cancelled_does_not_take_the_others_along(tmp_path: Path, victim: int) -> None:
    """The first leads, the second is to lead next, the third only waits."""
    syncs, threads = Syncs(), Held()
    descriptor = os.open(tmp_path / "f", os.O_CREAT | os.O_WRONLY)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(syncs.file(threads, descriptor)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[victim].cancel()
        await asyncio.sleep(0)
        threads.hold.set()
    os.close(descriptor)
    assert [task.cancelled() for task in tasks] == [number == victim for number in range(3)]
