"""Files are fetched whole or not at all, listings are complete and cost no memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecpds.conformance.case import ODD_NAMES, Case, applies
from ecpds.conformance.deliver import SIZES
from ecpds.conformance.failures import impatient
from ecpds.conformance.faultproxy import Fault, Way, drop, share, stall, truncate
from ecpds.conformance.site import KIB, MIB, Collected, pattern, site
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import (
    InvalidName,
    RemoteError,
    RemoteMissing,
    RemoteTimeout,
    RemoteTransient,
    RemoteVerify,
)
from ecpds.transfer.contract import Feature

GET = Feature.GET
SIZE = 4 * MIB
PAGE = 1100  # entries: a page of an object store and what is under way


@applies(GET)
async def test_every_name_can_be_fetched(case: Case, tmp_path: Path) -> None:
    """As it lies on the disk."""
    names = [name for name in ODD_NAMES if name not in case.refused_names]
    async with site(case, tmp_path) as there:
        for name in names:
            there.peer.put(f"a dir/{name}", name.encode())
        for name in names:
            content, fetched = await there.fetch(f"a dir/{name}", expected_size=len(name.encode()))
            assert content == name.encode()
            assert fetched.size == fetched.received == len(content)


@applies(GET)
async def test_every_size_can_be_fetched(case: Case, tmp_path: Path) -> None:
    """Around the sizes of blocks and packets, and nothing at all."""
    async with site(case, tmp_path) as there:
        for size in SIZES:
            there.peer.put("f", pattern(size))
            assert (await there.fetch("f"))[0] == pattern(size)


@applies(GET)
async def test_a_missing_file_is_missing(case: Case, tmp_path: Path) -> None:
    """And no other error; names that no protocol carries are refused before."""
    async with site(case, tmp_path) as there:
        for name in ("none", "no dir/none"):
            with pytest.raises(RemoteMissing):
                await there.fetch(name)
        with pytest.raises(InvalidName):
            await there.fetch("a\r\nb")


@applies(GET | Feature.RESUME_GET)
@pytest.mark.parametrize("offset", [1, 256 * KIB, SIZE - 1, SIZE])
async def test_a_fetch_goes_on_where_it_was(case: Case, tmp_path: Path, offset: int) -> None:
    """Only the rest comes."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", pattern(SIZE))
        content, fetched = await there.fetch("f", offset=offset, expected_size=SIZE)
        assert content == pattern(SIZE)[offset:]
        assert (fetched.received, fetched.size) == (SIZE - offset, SIZE)


@applies(GET)
@pytest.mark.parametrize("promised", [0, SIZE - 1, SIZE + 1])
async def test_another_size_than_promised_is_an_error(
    case: Case, tmp_path: Path, promised: int
) -> None:
    """Unless the rule is switched off for that file."""
    async with site(case, tmp_path) as there:
        there.peer.put("f", pattern(SIZE))
        with pytest.raises(RemoteVerify):
            await there.fetch("f", expected_size=promised)
        content, _ = await there.fetch("f", expected_size=promised, check_size=False)
        assert content == pattern(SIZE)


@applies(GET, remote=True)
@pytest.mark.parametrize("percent", [1, 50, 99])
@pytest.mark.parametrize("end", [drop, truncate], ids=["drop", "truncate"])
async def test_a_broken_download_goes_on(
    case: Case, tmp_path: Path, percent: int, end: Callable[..., Fault]
) -> None:
    """A connection that ends too early is an error, however politely it ends."""
    fault = end(after=share(percent, SIZE), way=Way.DOWN)
    async with site(case, tmp_path, fault=fault) as there:
        there.peer.put("f", pattern(SIZE))
        sink = Collected()
        with pytest.raises(RemoteTransient):
            await there.fetch_into("f", sink)
        assert bytes(sink.content) == pattern(SIZE)[: len(sink.content)]
        if Feature.RESUME_GET not in case.features:
            sink = Collected()
        await there.fetch_into("f", sink, offset=len(sink.content), expected_size=SIZE)
        assert bytes(sink.content) == pattern(SIZE)


@applies(GET, remote=True)
async def test_a_stalled_download_ends(case: Case, tmp_path: Path) -> None:
    """No byte moves, both connections stay open."""
    fault = stall(after=SIZE // 2, way=Way.DOWN)
    async with site(case, tmp_path, fault=fault) as there:
        there.peer.put("f", pattern(SIZE))
        with pytest.raises(RemoteTimeout):
            await there.fetch("f", access=there.access(**impatient()))


# ---- listings


@applies(Feature.LIST)
async def test_a_listing_tells_what_is_there(case: Case, tmp_path: Path) -> None:
    """Names, kinds, sizes and times; neither the directory itself nor the one above."""
    moment = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
    async with site(case, tmp_path) as there:
        there.peer.put("d/one", b"1", mtime=moment.timestamp())
        there.peer.put("d/two words", b"22" * KIB, mtime=moment.timestamp())
        there.peer.put("d/.hidden", b"", mtime=moment.timestamp())
        there.peer.put("d/sub/deeper/three", b"3")
        async with there.session() as module:
            found = {entry.name: entry async for entry in module.list(there.remote("d"))}
        visible = {"one": 1, "two words": 2 * KIB, ".hidden": 0}
        files = {name: e.size for name, e in found.items() if e.kind is Kind.FILE}
        assert files == {name: size for name, size in visible.items() if name in found}
        assert {"one", "two words", "sub"} <= set(found) <= {*visible, "sub"}
        assert found["sub"].kind is Kind.DIRECTORY
        told = found["one"].mtime
        assert told is not None
        if not case.sets_times:
            return
        assert told == moment or (case.has_coarse_times and told.date() == moment.date())


@applies(Feature.LIST)
async def test_odd_names_are_listed(case: Case, tmp_path: Path) -> None:
    """As they lie on the disk, so that they can be fetched."""
    async with site(case, tmp_path) as there:
        kept = [n for n in ODD_NAMES if n not in case.refused_names and n != ".hidden"]
        for name in kept:
            there.peer.put(f"d/{name}", b"x")
        async with there.session() as module:
            found = [entry.name async for entry in module.list(there.remote("d"))]
        assert sorted(found) == sorted(kept)


@applies(Feature.LIST)
async def test_empty_and_missing_directories(case: Case, tmp_path: Path) -> None:
    """Nothing is listed in one, the other is an error where directories are more than names."""
    async with site(case, tmp_path) as there:
        if case.has_directories:
            there.peer.mkdir("empty")
        async with there.session() as module:
            assert [entry async for entry in module.list(there.remote("empty"))] == []
        if not case.has_directories:
            return
        with pytest.raises(RemoteError) as caught:
            async with there.session() as module:
                assert [entry async for entry in module.list(there.remote("none"))] == []
        assert caught.value.kind in ("missing", "name")


@applies(Feature.LIST)
async def test_a_long_listing_costs_no_memory(case: Case, tmp_path: Path) -> None:
    """Each entry once; what is kept meanwhile is a page of them."""
    async with site(case, tmp_path) as there:
        there.peer.fill("many", case.many)
        seen = bytearray(case.many)
        count = kept = 0
        async with there.session() as module:
            async for entry in module.list(there.remote("many")):
                seen[int(entry.name)] += 1
                count += 1
                if count == case.many * 3 // 4:
                    kept = sum(type(one) is Entry for one in gc.get_objects())
        assert seen == b"\1" * case.many
        assert kept <= PAGE


@applies(Feature.LIST)
async def test_a_listing_may_be_left_early(case: Case, tmp_path: Path) -> None:
    """The session goes on."""
    async with site(case, tmp_path) as there:
        there.peer.fill("d", min(1200, case.many))
        async with there.session() as module:
            listing = module.list(there.remote("d"))
            async for _ in listing:
                break
            await listing.aclose()  # type: ignore[attr-defined]  # generators have it
            if Feature.SIZE in case.features:
                assert (await module.stat(there.remote("d/000007"))).size == 0
