"""Delivering and fetching, with the host that exists only in memory playing all parts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ecpds.model.errors import (
    ConnectionLost,
    RemoteConfig,
    RemoteError,
    RemoteMissing,
    RemoteSpace,
    RemoteTimeout,
    RemoteTransient,
    RemoteVerify,
    Unsupported,
)
from ecpds.model.host import Host
from ecpds.modules.tester import TestModule
from ecpds.transfer.contract import (
    ByteSink,
    ByteSource,
    Delivered,
    Feature,
    Naming,
    Partial,
    Surroundings,
)
from ecpds.transfer.deliver import deliver, make_parents
from ecpds.transfer.fetch import fetch
from ecpds.transfer.registry import Access, Registry
from ecpds.transfer.source import BytesSource
from tests.clock import FakeClock
from tests.loopthreads import LoopThreads

CONTENT = bytes(range(256)) * 1024


class Bench:
    """A test host and what is told about attempts on it."""

    def __init__(self) -> None:
        self.threads = LoopThreads()
        self.around = Surroundings(threads=self.threads, clock=FakeClock())
        self.partials: list[Partial | None] = []

    def access(self, **options: object) -> Access:
        given: dict[str, object] = {"test.delay": "0s", "test.errorsFrequency": 0}
        given["test.bytesPerSec"] = "1GB"
        given |= {key.replace("__", "."): value for key, value in options.items()}
        host = Host(name="nowhere", method="genericTest", options=given)
        return Registry([TestModule]).access(host)

    @asynccontextmanager
    async def session(self, access: Access) -> AsyncIterator[Any]:
        async with access.module.connect(access.target, access.options, self.around) as module:
            yield module

    async def deliver(
        self, name: str = "f", source: ByteSource | None = None, **options: Any
    ) -> Delivered:
        more = {
            k: options.pop(k) for k in ("version", "partial", "digests", "token") if k in options
        }
        access = self.access(**options)
        async with self.session(access) as module:
            return await deliver(
                module,
                name,
                source or BytesSource(CONTENT),
                size=len(CONTENT),
                rules=access.delivery,
                clock=self.around.clock,
                on_partial=self.partials.append,
                **more,
            )

    async def size(self, name: str) -> int | None:
        async with self.session(self.access()) as module:
            try:
                return int((await module.stat(name)).size)
            except RemoteMissing:
                return None


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_is_told_about_an_attempt_that_works(bench: Bench) -> None:
    delivered = await bench.deliver()
    assert (delivered.path, delivered.sent, delivered.size) == ("f", len(CONTENT), len(CONTENT))
    assert delivered.peer == "nowhere"
    begun, end = bench.partials
    assert begun is not None
    assert begun.name.startswith("f.")
    assert end is None
    assert await bench.size("f") == len(CONTENT)
    assert await bench.size(begun.name) is None


@pytest.mark.parametrize("fault", ["data@50%", "verify", "commit"])
async def test_a_versioned_attempt_leaves_what_the_next_one_can_use(
    bench: Bench, fault: str
) -> None:
    source = Blocks(CONTENT)
    with pytest.raises(RemoteTransient):
        await bench.deliver(source=source, version="1", test__fault=fault)
    left = bench.partials[-1]
    assert left is not None
    assert left.version == "1"
    assert await bench.size("f") is None
    delivered = await bench.deliver(version="1", partial=left)
    assert delivered.resumed_at == left.offset >= len(CONTENT) // 2
    assert await bench.size("f") == len(CONTENT)
    assert await bench.size(left.name) is None


class Blocks(BytesSource):
    """Content in pieces."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(self.offset, len(CONTENT), 4096):
            yield CONTENT[start : start + 4096]
            self.meter.add(4096)


async def test_a_full_disk_takes_the_partial_file_away(bench: Bench) -> None:
    with pytest.raises(RemoteSpace):
        await bench.deliver(source=Blocks(CONTENT), version="1", test__fault="space@50%")
    assert bench.partials[-1] is None


async def test_without_a_version_nothing_is_kept(bench: Bench) -> None:
    with pytest.raises(ConnectionLost):
        await bench.deliver(source=Blocks(CONTENT), test__fault="data@50%")
    left = bench.partials[-1]
    assert left is not None  # the connection is gone, nobody could delete it
    assert left.offset == 0
    await bench.deliver(partial=left, version="2")
    assert await bench.size(left.name) is None


async def test_resuming_can_be_forbidden_or_demanded(bench: Bench) -> None:
    with pytest.raises(ConnectionLost):
        await bench.deliver(source=Blocks(CONTENT), version="1", test__fault="data@50%")
    left = bench.partials[-1]
    never = await bench.deliver(version="1", partial=left, ectrans__resume="never")
    assert never.resumed_at == 0
    access = bench.access(ectrans__resume="required")
    async with bench.session(access) as module:
        module.features = Feature.PUT
        with pytest.raises(Unsupported):
            await deliver(
                module,
                "f",
                BytesSource(b""),
                size=0,
                rules=access.delivery,
                clock=bench.around.clock,
            )


async def test_a_stall_is_ended_by_the_guard(bench: Bench) -> None:
    with pytest.raises(RemoteTimeout):
        await bench.deliver(
            source=Blocks(CONTENT), test__fault="stall@50%", ectrans__streamTimeout="20ms"
        )


async def test_another_size_at_the_far_end_is_an_error(bench: Bench) -> None:
    access = bench.access()
    async with bench.session(access) as module:
        with pytest.raises(RemoteVerify, match="aborted"):
            await deliver(
                module,
                "f",
                BytesSource(CONTENT),
                size=len(CONTENT) + 1,
                rules=access.delivery,
                clock=bench.around.clock,
                on_partial=bench.partials.append,
            )
    assert bench.partials[-1] is None
    assert await bench.size("f") is None


async def test_a_corrupted_file_is_seen_by_its_digest(bench: Bench) -> None:
    right = {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    await bench.deliver(digests=right, ectrans__verify="hash")
    with pytest.raises(RemoteVerify, match="sha256"):
        await bench.deliver("g", digests=right, ectrans__verify="hash", test__fault="corrupt")
    assert await bench.size("g") is None
    with pytest.raises(RemoteConfig):
        await bench.deliver("h", ectrans__verify="hash")


@pytest.mark.parametrize(
    ("naming", "name", "begin", "end"),
    [
        (Naming(), "/o/a.grib", "/o/a.grib.", ".tmp"),
        (Naming(prefix="."), "/o/a.grib", "/o/.a.grib.", ""),
        (Naming(prefix=".", suffix=".part"), "/o/a.grib", "/o/.a.grib.", ".part"),
        (Naming(suffix="~"), "a.grib", "a.grib.", "~"),
        (Naming(temporary=False, prefix="."), "/o/a.grib", "/o/a.grib", ""),
    ],
)
def test_written_names(naming: Naming, name: str, begin: str, end: str) -> None:
    """dissemination.md section 6; the random part stands before the suffix."""
    first, second = naming.written_name(name), naming.written_name(name)
    assert first.startswith(begin)
    assert first.endswith(end)
    assert (first != second) is naming.temporary


def test_a_written_name_can_be_told_again() -> None:
    assert Naming().written_name("d/f", "17-2") == "d/f.17-2.tmp"


async def test_what_a_crash_left_is_removed_by_the_next_attempt(bench: Bench) -> None:
    """Its name is known, how far it came is not."""
    with pytest.raises(RemoteTransient):
        await bench.deliver(version="1", token="7-1", test__fault="commit")
    assert await bench.size("f.7-1.tmp") == len(CONTENT)
    left = Partial(name="f.7-1.tmp", offset=0, version="")
    delivered = await bench.deliver(version="1", token="7-2", partial=left)
    assert delivered.resumed_at == 0
    assert await bench.size("f.7-1.tmp") is None
    assert await bench.size("f") == len(CONTENT)


def test_a_written_name_is_never_longer_than_a_name_may_be() -> None:
    written = Naming().written_name("d/" + "é" * 127)
    assert len(written.removeprefix("d/").encode()) <= 255
    assert written.endswith(".tmp")


class Tree:
    """A remote tree that counts what is asked of it."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.asked: list[str] = []

    async def mkdir(self, path: str) -> None:
        from ecpds.model.errors import RemoteName

        self.asked.append(path)
        upper = path.rpartition("/")[0]
        if upper and upper not in self.there:
            raise RemoteName(f"no {upper}")
        self.there.add(path)


@pytest.mark.parametrize(
    ("there", "name", "asked"),
    [
        (["/a"], "/a/b/f", ["/a/b"]),
        (["/a"], "/a//b///f", ["/a/b"]),
        (["/a"], "/a/b/c/f", ["/a/b/c", "/a/b", "/a/b/c"]),
        ([], "a/b/f", ["a/b", "a", "a/b"]),
    ],
)
async def test_parents_are_made_from_below(there: list[str], name: str, asked: list[str]) -> None:
    """One call where only the last level is new."""
    tree = Tree(*there)
    assert await make_parents(tree, name)  # type: ignore[arg-type]  # only mkdir is asked
    assert tree.asked == asked


async def test_a_bare_name_has_no_parents_and_a_refusal_ends_the_search() -> None:
    tree = Tree()
    assert not await make_parents(tree, "f")  # type: ignore[arg-type]
    tree.there = set()
    with pytest.raises(RemoteError):
        await make_parents(Refusing(), "/a/b/f")  # type: ignore[arg-type]


class Refusing(Tree):
    """A server on which nobody may create anything."""

    async def mkdir(self, path: str) -> None:
        from ecpds.model.errors import RemoteName

        raise RemoteName("permission denied")


class Sink(ByteSink):
    """Counts."""

    def __init__(self) -> None:
        self.content = b""

    async def write(self, block: bytes | memoryview) -> None:
        self.content += block


async def test_a_fetch_ends_at_the_first_byte_too_many(bench: Bench) -> None:
    access = bench.access(test__fileSize="1MB")
    sink = Sink()
    async with bench.session(access) as module:
        with pytest.raises(RemoteVerify, match="more than"):
            await fetch(
                module,
                "test-000001.bin",
                sink,
                around=bench.around,
                watch=access.fetching,
                expected_size=100_000,
            )
    assert len(sink.content) <= 100_000


async def test_a_synthetic_file_is_the_same_each_time(bench: Bench) -> None:
    """And has the digest that the listing told."""
    access = bench.access(test__fileSize="100KB", test__files=3, test__seed=7)
    contents = []
    async with bench.session(access) as module:
        entries = [entry async for entry in module.list("/")]
        for _ in range(2):
            sink = Sink()
            await fetch(
                module,
                entries[1].name,
                sink,
                around=bench.around,
                watch=access.fetching,
                expected_size=entries[1].size,
            )
            contents.append(sink.content)
        rest = Sink()
        await fetch(
            module,
            entries[1].name,
            rest,
            around=bench.around,
            watch=access.fetching,
            offset=70_000,
        )
    assert [entry.name for entry in entries] == [f"test-{n:06d}.bin" for n in (1, 2, 3)]
    assert contents[0] == contents[1]
    assert rest.content == contents[0][70_000:]
    assert entries[1].checksum == f"sha256:{hashlib.sha256(contents[0]).hexdigest()}"


async def test_one_act_of_so_many_fails(bench: Bench) -> None:
    """Always the same one for the same seed."""
    failed = []
    access = bench.access(test__errorsFrequency=5)
    async with bench.session(bench.access()) as module:
        for number in range(1, 3):
            await module.mkdir(f"{number}")
    for number in range(12):
        try:
            async with bench.session(access) as module:
                await module.mkdir("d")
        except RemoteTransient:
            failed.append(number)
    assert failed == [0, 3, 6, 9]


@pytest.mark.parametrize("fault", ["never", "data@", "connect@50", "x2"])
async def test_an_unknown_fault_is_refused(bench: Bench, fault: str) -> None:
    with pytest.raises(RemoteConfig, match=r"test\.fault"):
        async with bench.session(bench.access(test__fault=fault)):
            pass


async def test_a_fault_may_strike_only_so_often(bench: Bench) -> None:
    access = bench.access(test__fault="connect x2".replace(" ", ""))
    outcomes = []
    for _ in range(4):
        try:
            async with bench.session(access):
                outcomes.append("open")
        except RemoteTransient:
            outcomes.append("failed")
    assert outcomes == ["failed", "failed", "open", "open"]
