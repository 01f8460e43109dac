"""Whatever a client sends, a path never leaves the tree."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ecpds.model.errors import InvalidName, NotFound
from ecpds.vfs import paths

TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["a", "..", ".", "", "é", "e\u0301", "b c", "\\"]), max_size=12).map(
        "/".join
    ),
)


@given(TEXTS, st.sampled_from(["/", "/base", "/base/below"]))
def test_no_path_leaves_the_root(text: str, base: str) -> None:
    """Normal paths are absolute, have no '.' or '..', and are their own normal form."""
    try:
        once = paths.normal(text, base=base)
    except (NotFound, InvalidName):
        return
    assert once.startswith("/")
    assert once == "/" or not {"", ".", ".."} & set(once[1:].split("/"))
    assert paths.normal(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once.isprintable() or not any(ord(sign) < 32 for sign in once)
    assert all(len(part.encode()) <= 255 for part in once.split("/"))


@given(TEXTS)
def test_dots_mean_what_they_mean_in_a_file_system(text: str) -> None:
    """A path with `x/..` in front of it is the same path."""
    try:
        plain = paths.normal("/" + text)
    except (NotFound, InvalidName):
        return
    assert paths.normal("/x/../" + text.lstrip("/\\")) == plain or ".." in text
