"""The Range field, row by row of portal.md 3.4."""

from __future__ import annotations

import pytest

from ecpds.model.errors import LimitError
from ecpds.portals.https.exchange import Slice
from ecpds.portals.https.ranges import content_range, multipart, parse


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=90-", [(90, 10)]),
        ("bytes=-10", [(90, 10)]),
        ("bytes=95-200", [(95, 5)]),
        ("bytes=-200", [(0, 100)]),
        ("bytes=99-99", [(99, 1)]),
        ("bytes=0-1,50-51", [(0, 2), (50, 2)]),
        ("bytes=50-51,0-1", [(50, 2), (0, 2)]),  # the client's order stays
        ("bytes=0-1, ,50-51,", [(0, 2), (50, 2)]),  # empty members are legal
        ("BYTES = 0-1", [(0, 2)]),
        ("bytes=0-9,5-19", [(0, 20)]),  # overlap
        ("bytes=0-9,10-19", [(0, 20)]),  # touch
        ("bytes=50-59,0-9,55-69", [(0, 10), (50, 20)]),
        ("bytes=0-9,500-600", [(0, 10)]),  # one of them has no byte
        ("bytes=0-99999999999999999999999999", [(0, 100)]),
    ],
)
def test_ranges_of_100_bytes(field: str, parts: list[tuple[int, int]]) -> None:
    assert parse(field, 100, most=100) == [Slice(*part) for part in parts]


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=100-200,300-", "bytes=-0"])
def test_unsatisfiable_ranges_have_no_part(field: str) -> None:
    assert parse(field, 100, most=100) == []


@pytest.mark.parametrize("field", ["bytes=0-", "bytes=-5", "bytes=0-0"])
def test_an_empty_file_has_no_range(field: str) -> None:
    assert parse(field, 0, most=100) == []


@pytest.mark.parametrize(
    "field",
    ["items=0-1", "bytes=5-2", "bytes=a-b", "bytes=--5", "bytes=1-2-3", "bytes", "", "bytes=",
     "bytes=0-1,x", "bytes=+1-2", "bytes=\u0661-\u0662", "bytes=0x1-2", "bytes=- 5"],
)  # fmt: skip
def test_other_units_and_nonsense_are_ignored(field: str) -> None:
    assert parse(field, 100, most=100) is None


def test_more_ranges_than_allowed_are_refused() -> None:
    assert parse("bytes=0-1,4-5", 100, most=2) == [Slice(0, 2), Slice(4, 2)]
    with pytest.raises(LimitError):
        parse("bytes=0-1,4-5,8-9", 100, most=2)
    assert (
        len(parse("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 100, 2)), 100, most=0) or [])
        == 50
    )


def test_multipart_has_heads_and_exact_text() -> None:
    pieces = multipart([Slice(0, 2), Slice(50, 2)], 100, content_type="text/plain", boundary="B")
    text = b"".join(
        p if isinstance(p, bytes) else b"[%d+%d]" % (p.offset, p.length) for p in pieces
    )
    kind = b"Content-Type: text/plain\r\n"
    assert text == (
        b"--B\r\n" + kind + b"Content-Range: bytes 0-1/100\r\n\r\n[0+2]\r\n"
        b"--B\r\n" + kind + b"Content-Range: bytes 50-51/100\r\n\r\n[50+2]\r\n--B--\r\n"
    )
    assert content_range(Slice(90, 10), 100) == "bytes 90-99/100"
