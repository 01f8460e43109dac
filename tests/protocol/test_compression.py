"""Compression on the way out: what the real tools make of it, and how it goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import crc32c
import pytest
import snappy

from ecpds.base.threads import Threads
from ecpds.model.errors import RemoteCancelled, SourceBroke
from ecpds.transfer.compress import CompressedSource, Squeeze
from tests.waiting import until

CONTENT = b"".join(f"{n:012d} {n * 7919 % 256:02x}\n".encode() for n in range(150_000))[:2_350_001]
FILTERS = ("gzip", "bzip2", "lbzip2", "lzma", "zip", "lz4", "snappy", "zstd")
TOOLS = {
    "gzip": [["gzip", "-dc"]],
    "bzip2": [["bzip2", "-dc"], ["lbzip2", "-dc"]],
    "lbzip2": [["bzip2", "-dc"], ["lbzip2", "-dc"]],
    "lzma": [["xz", "--format=lzma", "-dc"]],
    "lz4": [["lz4", "-dc"]],
    "zstd": [["zstd", "-dc"]],
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A file to be compressed, and the threads for it."""

    descriptor: int
    threads: Threads

    def source(self, size: int, *filters: str, algorithms: Sequence[str] = ()) -> CompressedSource:
        """Return the first `size` bytes of the content, compressed."""
        squeeze = Squeeze(filters, name="a b.grib")
        return CompressedSource(
            self.descriptor, size, squeeze, threads=self.threads, algorithms=algorithms
        )


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """Lay the content down."""
    path = folder / "content"
    path.write_bytes(CONTENT)
    threads = Threads()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Bench(descriptor, threads)
    finally:
        os.close(descriptor)
        await asyncio.to_thread(threads.close)


async def _all(source: CompressedSource) -> bytes:
    return b"".join([block async for block in source])


def _plain(filters: str, packed: bytes, folder: Path) -> list[bytes]:
    """Return what each tool makes of it."""
    if filters == "snappy":
        return [snappy.StreamDecompressor().decompress(packed)]
    if filters == "zip":
        path = folder / "packed.zip"
        path.write_bytes(packed)
        subprocess.run(["unzip", "-tqq", path], check=True, capture_output=True)
        return [subprocess.run(["unzip", "-p", path], check=True, capture_output=True).stdout]
    return [
        subprocess.run(tool, input=packed, check=True, capture_output=True).stdout
        for tool in TOOLS[filters]
    ]


@pytest.mark.peer
@pytest.mark.needs("gzip", "bzip2", "lbzip2", "xz", "lz4", "zstd", "unzip")
@pytest.mark.parametrize("filters", FILTERS)
async def test_the_real_tools_read_it(filters: str, tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        for size in (0, 1, len(CONTENT)):
            source = rig.source(size, filters, algorithms=("md5", "adler32", "crc32c"))
            packed = await _all(source)
            assert source.size == -1
            assert source.made == source.meter.moved == len(packed)
            assert source.digests == {
                "md5": hashlib.md5(packed).hexdigest(),
                "adler32": f"{zlib.adler32(packed):08x}",
                "crc32c": f"{crc32c.crc32c(packed):08x}",
            }
            for plain in await asyncio.to_thread(_plain, filters, packed, tmp_path):
                assert plain == CONTENT[:size]
        assert len(packed) < len(CONTENT) * 0.8


@pytest.mark.parametrize("filters", [*((one,) for one in FILTERS), ("gzip", "bzip2")], ids=str)
async def test_it_goes_on_at_any_byte(filters: tuple[str, ...], tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        source = rig.source(600_000, *filters, algorithms=("sha256",))
        whole = await _all(source)
        digests = dict(source.digests)
        for offset in (1, len(whole) // 2, len(whole)):
            source.start_at(offset)
            assert await _all(source) == whole[offset:]
            assert source.digests == digests
        source.start_at(len(whole) + 1)
        with pytest.raises(SourceBroke):
            await _all(source)


@pytest.mark.needs("gzip", "bzip2")
async def test_a_chain_is_one_filter_over_the_other(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        packed = await _all(rig.source(5000, "gzip", "bzip2"))
        (inner, *_) = await asyncio.to_thread(_plain, "bzip2", packed, tmp_path)
        (plain, *_) = await asyncio.to_thread(_plain, "gzip", inner, tmp_path)
    assert plain == CONTENT[:5000]


async def test_a_content_that_ends_early_breaks(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        with pytest.raises(SourceBroke):
            await _all(rig.source(len(CONTENT) + 1, "zstd"))


async def test_whoever_leaves_early_leaves_nothing_open(tmp_path: Path) -> None:
    async with bench(tmp_path) as rig:
        source = rig.source(len(CONTENT), "lbzip2")
        source.meter.stop("enough")
        with pytest.raises(RemoteCancelled):
            await _all(source)
        await until(lambda: _open_files("content") == 1)


def _open_files(name: str) -> int:
    links = (os.readlink(path) for path in map(str, Path("/proc/self/fd").iterdir()) if _is(path))
    return sum(link.endswith(f"/{name}") for link in links)


def _is(path: str) -> bool:
    return Path(path).is_symlink()
