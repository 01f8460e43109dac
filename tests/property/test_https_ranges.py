"""Whatever a client puts into Range, no byte outside of the file and none twice is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ecpds.portals.https.ranges import parse

numbers = st.one_of(st.just(""), st.integers(0, 300).map(str), st.just("9" * 30))
members = st.builds(lambda a, b: f"{a}-{b}", numbers, numbers)


@given(st.lists(members, max_size=6).map(",".join), st.integers(0, 200))
def test_parts_are_inside_and_apart(members: str, size: int) -> None:
    """Parts have bytes, lie within the file, and do not overlap."""
    parts = parse(f"bytes={members}", size, most=0)
    seen: set[int] = set()
    for part in parts or []:
        bytes_of_part = set(range(part.offset, part.offset + part.length))
        assert bytes_of_part
        assert bytes_of_part <= set(range(size))
        assert not bytes_of_part & seen
        seen |= bytes_of_part


@given(st.text(max_size=40))
def test_any_text_is_read_or_ignored(text: str) -> None:
    """No text makes the parser fail."""
    parse(text, 100, most=0)
    parse(f"bytes={text}", 100, most=0)
