"""Listings of keys against a sorted list, and bodies in chunks cut anywhere."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from ecpds.portals.s3.payload import Chunks, Promise
from ecpds.portals.s3.signature import Signatures
from ecpds.store import objectkeys
from ecpds.store.objectkeys import Key, Wanted
from ecpds.store.portal import Entry

NAMES = st.text(alphabet="ab/-é\U0001f600\ud7ff\ue000", min_size=1, max_size=6)
FILE = Entry("D", "", 1, "DONE", 0, 0, 0, None, 1, None, 0, 0, None, "", "", "", None)


@given(
    st.lists(NAMES, max_size=25, unique=True),
    NAMES | st.just(""),
    st.sampled_from(["", "/", "-", "a", "ab"]),
    NAMES | st.just(""),
    st.integers(1, 4),
)
def test_pages_together_are_the_rolled_up_list(
    names: list[str], prefix: str, delimiter: str, after: str, size: int
) -> None:
    """Any prefix, delimiter, start and page size: each line once, in the order of UTF-8."""
    names = sorted(names)
    starts: list[str] = []

    def walk(low: str) -> Iterator[Key]:
        starts.append(low)
        for name in names[bisect.bisect_left(names, low) :]:
            if name.startswith(prefix):
                yield Key(name, FILE)

    wanted = Wanted(prefix=prefix, delimiter=delimiter, limit=size)
    low: str | None = objectkeys.start_after(after, wanted)
    found: list[str] = []
    while low is not None:
        page = objectkeys.roll(
            walk, Wanted(prefix=prefix, delimiter=delimiter, low=low, limit=size)
        )
        assert len(page.keys) <= size
        found += [key.name for key in page.keys]
        low = page.position
    assert found == [name for name in rolled(names, prefix, delimiter) if name > after]
    assert len(starts) <= 2 * len(found) + 3  # it seeks, and does not read what is rolled up


def rolled(names: list[str], prefix: str, delimiter: str) -> list[str]:
    """What a listing shows, by the book."""
    shown = set()
    for name in names:
        if name.startswith(prefix):
            group = objectkeys.group_of(name, prefix, delimiter)
            shown.add(name if group is None else group)
    return sorted(shown, key=str.encode)


@given(NAMES)
def test_nothing_lies_between_a_prefix_and_its_successor(text: str) -> None:
    """In bytes too, which is how the store compares."""
    behind = objectkeys.successor(text)
    assert (text + "\U0010ffff").encode() < behind.encode()
    assert text.encode() < behind.encode()


@given(st.lists(st.integers(8192, 9000), max_size=3), st.data())
def test_chunks_may_be_cut_anywhere(sizes: list[int], data: st.DataObject) -> None:
    """However a body arrives, its content and trailing fields are the same."""
    pieces = [bytes(range(256)) * 36 for _ in sizes]
    pieces = [piece[:size] for piece, size in zip(pieces, sizes, strict=True)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    body += b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted))
    got = bytearray()
    content = b"".join(pieces)
    given = Promise(size=len(content), chunked=True, trailer="crc32")
    chunks = Chunks(given, Signatures(), lambda block: got.extend(block))
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        chunks.feed(memoryview(body)[start:end])
    chunks.finish()
    assert bytes(got) == content
    assert chunks.fields == {"x-amz-checksum-crc32": "AAAAAA=="}
