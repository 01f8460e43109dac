"""Paths of the portal (portal.md 2.1)."""

from __future__ import annotations

import pytest

from ecpds.model.errors import InvalidName, NotFound
from ecpds.vfs import paths


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/", "/"),
        ("", "/"),
        ("a", "/a"),
        ("/a/b", "/a/b"),
        ("//a///b/", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        (r"\a\b", "/a/b"),
        ("/a/..", "/"),
        ("/e\u0301", "/\u00e9"),
        ("/.hidden", "/.hidden"),
        ("/...", "/..."),
        ('/a b\'s "c"', '/a b\'s "c"'),
    ],
)
def test_a_path_has_one_form(given: str, expected: str) -> None:
    assert paths.normal(given) == expected


def test_a_relative_path_is_seen_from_the_working_directory() -> None:
    assert paths.normal("../c", base="/a/b") == "/a/c"
    assert paths.normal("/c", base="/a/b") == "/c"
    assert paths.normal("c", base="/") == "/c"


@pytest.mark.parametrize("given", ["/..", "..", "/a/../..", r"\..\x", "/a/../../b"])
def test_nothing_is_above_the_root(given: str) -> None:
    with pytest.raises(NotFound):
        paths.normal(given)


@pytest.mark.parametrize(
    "given",
    ["/a\0b", "/a\nb", "/\x7f", "/a\x85", "/" + "x" * 256, "/" + "é" * 128, "/\udc80", "/a" * 900],
)
def test_impossible_names_are_refused(given: str) -> None:
    with pytest.raises(InvalidName):
        paths.normal(given)


def test_a_segment_of_255_bytes_is_possible() -> None:
    assert paths.normal("/" + "x" * 255) == "/" + "x" * 255


def test_a_new_name_is_found_again_under_its_own_text() -> None:
    paths.check_new("/a/b/")
    with pytest.raises(InvalidName):
        paths.check_new("/a//b")


def test_parts_of_paths() -> None:
    assert paths.last("/") == ""
    assert paths.last("/a/b") == "b"
    assert paths.joined("/", "a") == "/a"
    assert paths.joined("/a", "b") == "/a/b"
    assert paths.parents("a") == []
    assert paths.parents("a/b/c") == ["a", "a/b"]
