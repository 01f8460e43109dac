"""The texts that choose a compression: tiers, chains, levels."""

from __future__ import annotations

import pytest

from ecpds.model.compression import Compression, Tier, extension, parse_compression, parse_levels
from ecpds.model.errors import OptionError
from ecpds.transfer.compress import Squeeze


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", {0: (), 10**12: ()}),
        ("none", {5: ()}),
        ("zstd", {0: ("zstd",), 10**12: ("zstd",)}),
        (
            "zstd:10000000:lz4:2000000000",
            {10_000_000: ("zstd",), 10_000_001: ("lz4",), 2_000_000_001: ()},
        ),
        ("lz4:1MB:gzip", {1024**2: ("lz4",), 1024**2 + 1: ("gzip",)}),
        ("none:1KB:bzip2a", {1024: (), 1025: ("bzip2",)}),
        ("gzip;zstd", {1: ("gzip", "zstd")}),
    ],
)
def test_tiers(text: str, sizes: dict[int, tuple[str, ...]]) -> None:
    compression = parse_compression(text)
    assert {size: compression.filters(size) for size in sizes} == sizes
    assert bool(compression) == any(sizes.values())


@pytest.mark.parametrize(
    "text", ["gzp", "zstd:lz4", "lz4:10:gzip:5", "gzip,gzip,gzip,gzip", "zstd:10XB"]
)
def test_bad_filters(text: str) -> None:
    with pytest.raises(OptionError):
        parse_compression(text)


def test_levels() -> None:
    assert parse_levels(("zstd=9", "gzip = 1")) == {"zstd": 9, "gzip": 1}
    assert extension(("gzip", "bzip2")) == ".gz.bz2"
    assert Compression((Tier(("zstd",)),)).filters(1) == ("zstd",)
    for bad in ("zstd", "zstd=99", "gzp=1", "gzip=x", "lzma=9"):
        with pytest.raises(OptionError):
            parse_levels((bad,))


def test_another_level_or_name_is_another_version() -> None:
    assert Squeeze(("zstd",)).version != Squeeze(("zstd",), {"zstd": 9}).version
    assert Squeeze(("zip",), name="a").version != Squeeze(("zip",), name="b").version
    assert Squeeze(("gzip",), name="a").version == Squeeze(("gzip",), name="b").version
