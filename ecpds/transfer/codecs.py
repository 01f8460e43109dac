"""Compressors, one for each filter name: blocks in, blocks out, a bounded memory each.

All of them block and are meant for the `codec` pool; the libraries release the interpreter lock
while they compute.  The output of a filter depends on the content, its level and the version of
the library only, never on the time of day: an upload that broke off can go on in the middle.

Memory of one compressor: lzma 17 MiB (preset 2), bzip2 8 MiB, zstd up to 8 MiB (level 3), the
others below 1 MiB.

Spec: transfer-modules.md 4.6; RFC 1952 (gzip), RFC 8878 (zstd), the LZ4 frame and the snappy
framing formats.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import isal
import lz4
import lz4.frame
import snappy
import zstandard
from isal import isal_zlib

from ecpds.model.compression import EXTENSIONS

DEFAULT_LEVELS: Final[Mapping[str, int]] = {
    "lzma": 2,
    "zip": 6,
    "gzip": 2,  # with isal: the ratio of zlib's 1 at ten times its speed
    "bzip2": 9,
    "lbzip2": 9,
    "lz4": 0,
    "snappy": 0,
    "zstd": 3,
}
ISAL_BEST: Final = 3  # higher levels of gzip are made by zlib
BZIP2_BLOCK: Final = 100_000
"""Bytes in a block of bzip2, times the level."""

VERSIONS: Final = ":".join(
    (
        zstandard.__version__,
        lz4.library_version_string(),
        zlib.ZLIB_RUNTIME_VERSION,
        isal.__version__,
    )
)
"""Libraries whose versions decide about the bytes that come out."""

_SNAPPY_START: Final = b"\xff\x06\x00\x00sNaPpY"
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


class Codec(Protocol):
    """One compression under way."""

    def feed(self, block: bytes) -> bytes:
        """Take a block; return what is ready."""

    def finish(self) -> bytes:
        """Return the rest."""


class _Stream:
    """A compressor of the form that most libraries have: compress and flush."""

    def __init__(self, compress: Callable[[bytes], bytes], flush: Callable[[], bytes]) -> None:
        self.feed = compress
        self.finish = flush


class _Bzip2Streams:
    """Blocks that are compressed independently: together they are a valid file of many streams."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._begun = False

    def feed(self, block: bytes) -> bytes:
        """Return a stream of its own."""
        self._begun = True
        return bz2.compress(block, self._level)

    def finish(self) -> bytes:
        """Return the form of a content without any byte."""
        return b"" if self._begun else bz2.compress(b"", self._level)


class _Lz4:
    """LZ4 frames with a checksum of the content."""

    def __init__(self, level: int) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor(
            compression_level=level, content_checksum=True, block_size=lz4.frame.BLOCKSIZE_MAX1MB
        )
        self._begun = False

    def _head(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._frame.begin())

    def feed(self, block: bytes) -> bytes:
        """Take a block."""
        return self._head() + bytes(self._frame.compress(block))

    def finish(self) -> bytes:
        """End the frame."""
        return self._head() + bytes(self._frame.flush())


class _Snappy:
    """The framing format of snappy."""

    def __init__(self) -> None:
        self._stream = snappy.StreamCompressor()
        self._begun = False

    def feed(self, block: bytes) -> bytes:
        """Take a block."""
        made = bytes(self._stream.add_chunk(block)) if block else b""
        self._begun = self._begun or bool(made)
        return made

    def finish(self) -> bytes:
        """Return the mark of the format for a content without any byte."""
        return b"" if self._begun else _SNAPPY_START


class _Unseekable(io.RawIOBase):
    """Collects what zipfile writes; it may not go back."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, block: object) -> int:
        """Keep a block."""
        view = memoryview(block)  # type: ignore[arg-type]  # a buffer, as zipfile gives it
        self.written += view
        return len(view)


class _Zip:
    """An archive with one member: sizes behind the content, zip64."""

    def __init__(self, name: str, level: int) -> None:
        self._sink = _Unseekable()
        self._archive = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=level)
        member = zipfile.ZipInfo(name or "content", _ZIP_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        self._member = self._archive.open(member, "w", force_zip64=True)

    def _ready(self) -> bytes:
        made = bytes(self._sink.written)
        self._sink.written.clear()
        return made

    def feed(self, block: bytes) -> bytes:
        """Take a block."""
        self._member.write(block)
        return self._ready()

    def finish(self) -> bytes:
        """End the member and the archive."""
        self._member.close()
        self._archive.close()
        return self._ready()


class Chain:
    """Filters one over the other."""

    def __init__(self, codecs: tuple[Codec, ...]) -> None:
        self._codecs = codecs

    def feed(self, block: bytes) -> bytes:
        """Take a block through all of them."""
        for codec in self._codecs:
            block = codec.feed(block)
        return block

    def finish(self) -> bytes:
        """Return the rest of all of them."""
        rest = b""
        for codec in self._codecs:
            rest = (codec.feed(rest) if rest else b"") + codec.finish()
        return rest


def _gzip(level: int) -> Codec:
    made = (
        isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)
        if level <= ISAL_BEST
        else zlib.compressobj(level, zlib.DEFLATED, 31)
    )
    return _Stream(made.compress, made.flush)


def _bzip2(level: int) -> Codec:
    made = bz2.BZ2Compressor(level)
    return _Stream(made.compress, made.flush)


def _lzma(level: int) -> Codec:
    made = lzma.LZMACompressor(lzma.FORMAT_ALONE, preset=level)
    return _Stream(made.compress, made.flush)


def _zstd(level: int) -> Codec:
    made = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    return _Stream(made.compress, made.flush)


_MAKERS: Final[Mapping[str, Callable[[int], Codec]]] = {
    "lzma": _lzma,
    "gzip": _gzip,
    "bzip2": _bzip2,
    "lbzip2": _Bzip2Streams,
    "lz4": _Lz4,
    "snappy": lambda level: _Snappy(),
    "zstd": _zstd,
}


def level_of(name: str, levels: Mapping[str, int]) -> int:
    """Return the level of a filter: the chosen one, else ours."""
    return levels.get(name, DEFAULT_LEVELS[name])


def make_codec(filters: tuple[str, ...], levels: Mapping[str, int], *, name: str) -> Codec:
    """Return a fresh compressor; `name` is what the content is called inside an archive."""
    made: list[Codec] = []
    for one in filters:
        level = level_of(one, levels)
        made.append(_Zip(name, level) if one == "zip" else _MAKERS[one](level))
        name += EXTENSIONS[one]
    return made[0] if len(made) == 1 else Chain(tuple(made))


def is_parallel(filters: tuple[str, ...]) -> bool:
    """Tell whether blocks may be compressed side by side."""
    return filters == ("lbzip2",)


def block_size(filters: tuple[str, ...], levels: Mapping[str, int]) -> int:
    """Return how many bytes are fed at once."""
    if "lbzip2" in filters:
        return level_of("lbzip2", levels) * BZIP2_BLOCK
    return 1024 * 1024
