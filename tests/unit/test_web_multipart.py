"""Forms in pieces of every size; what is incomplete or odd is refused."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.errors import Incomplete
from ecpds.web.errors import Refused
from ecpds.web.multipart import PARTS, TEXT, Multipart

TYPE = "multipart/form-data; boundary=xx"
Parts = list[tuple[str, str | None, bytes]]


def reader(*blocks: bytes) -> StreamReader:
    """Return a body that comes in these blocks."""
    loop = asyncio.get_running_loop()
    made = StreamReader(BaseProtocol(loop), 2**20, loop=loop)
    for block in blocks:
        made.feed_data(block)
    made.feed_eof()
    return made


async def read(body: StreamReader, kind: str = TYPE) -> Parts:
    """Return all parts with their content."""
    form = Multipart(kind, body)
    found: Parts = []
    async for part in form.parts():
        content = b"".join([block async for block in form.blocks()])
        found.append((part.name, part.filename, content))
    return found


def encode(parts: Parts, boundary: str = "xx") -> bytes:
    body = b""
    for name, filename, content in parts:
        tail = f'; filename="{filename}"' if filename is not None else ""
        head = f'Content-Disposition: form-data; name="{name}"{tail}'
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


@given(
    contents=st.lists(st.binary(max_size=40), max_size=4),
    step=st.integers(min_value=1, max_value=50),
)
async def test_round_trip_in_blocks_of_any_size(contents: list[bytes], step: int) -> None:
    parts: Parts = [(f"p{n}", "f" if n % 2 else None, one) for n, one in enumerate(contents)]
    data = encode(parts)
    blocks = [data[at : at + step] for at in range(0, len(data), step)]
    assert await read(reader(*blocks)) == parts


async def test_content_that_looks_like_a_delimiter() -> None:
    tricky = b"\r\n--x\r\n--xy\r\n-\r\n--\r"
    assert await read(reader(encode([("file", "a", tricky)]))) == [("file", "a", tricky)]


async def test_preamble_and_empty_parts() -> None:
    data = b"to be ignored\r\n" + encode([("a", None, b""), ("file", "", b"")])
    assert await read(reader(data)) == [("a", None, b""), ("file", "", b"")]


async def test_blank_line_may_belong_to_the_delimiter() -> None:
    data = b'--xx\r\nContent-Disposition: form-data; name="a"\r\n\r\n--xx--\r\n'
    assert await read(reader(data)) == [("a", None, b"")]


async def test_names_are_unescaped() -> None:
    data = encode([("a%22b", "c\\d%0D%0A.grib", b"")])
    assert await read(reader(data)) == [('a"b', "c\\d\r\n.grib", b"")]


@pytest.mark.parametrize("cut", [3, 10, 30, 60, 70])
async def test_a_form_that_ends_early_is_incomplete(cut: int) -> None:
    data = encode([("file", "a", b"0123456789")])
    with pytest.raises(Incomplete):
        await read(reader(data[:-cut]))


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
        'multipart/form-data; boundary="a\u00e9"',
    ],
)
async def test_boundaries_that_cannot_be(kind: str) -> None:
    with pytest.raises(Refused, match="boundary"):
        await read(reader(b""), kind)


async def test_limits() -> None:
    with pytest.raises(Refused, match="too long"):
        await read(reader(b"--xx\r\n" + b"X-A: " + b"a" * 20_000))
    with pytest.raises(Refused, match="at most"):
        await read(reader(encode([("a", None, b"")] * (PARTS + 1))))


async def test_a_field_that_is_no_file_is_small() -> None:
    form = Multipart(TYPE, reader(encode([("a", None, b"x" * (TEXT + 1))])))

    async def texts() -> list[str]:
        return [await form.text() async for _ in form.parts()]

    with pytest.raises(Refused, match="at most"):
        await texts()


async def test_a_part_without_a_name_is_refused() -> None:
    with pytest.raises(Refused, match="no name"):
        await read(reader(b"--xx\r\nContent-Type: text/plain\r\n\r\nx\r\n--xx--\r\n"))
    with pytest.raises(Refused, match="malformed"):
        await read(reader(b"--xx junk\r\n\r\nx\r\n--xx--\r\n"))
