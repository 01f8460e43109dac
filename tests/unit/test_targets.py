"""The normal form of targets."""

from __future__ import annotations

import pytest

from ecpds.model.errors import InvalidName
from ecpds.model.targets import base_name, normal_target, parent_of


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a.grib", "a.grib"),
        ("/a.grib", "a.grib"),
        ("//a//b", "a/b"),
        ("./a/./b/.", "a/b"),
        ("a/b/../c", "a/c"),
        ("a/..b/...", "a/..b/..."),
        ("a b'é\"", "a b'é\""),
        ("e\u0301", "é"),
        (".hidden", ".hidden"),
        ("-x", "-x"),
        ("a/b/", "a/b/s.nc"),
        ("/", "s.nc"),
    ],
)
def test_entities_6_a_target_is_made_normal(text: str, normal: str) -> None:
    assert normal_target(text, source="/in\\x/s.nc") == normal
    assert normal_target(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a/",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "a\nb",
        "a\x00",
        "a\x85b",
        "\ud800",
        "x" * 256,
        "é" * 128,
        "/".join(["x" * 200] * 6),
        "x/" * 5000,
    ],
)
def test_entities_6_what_cannot_be_a_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        normal_target(text)


@pytest.mark.parametrize("source", ["", "/in/", ".", "/in/.."])
def test_a_directory_needs_a_source_with_a_name(source: str) -> None:
    with pytest.raises(InvalidName, match="no file name"):
        normal_target("a/", source=source)


def test_the_limits_are_bytes_not_characters() -> None:
    assert len(normal_target("é" * 127)) == 127
    assert normal_target("x" * 255) == "x" * 255


def test_parts_of_a_target() -> None:
    assert (base_name("a/b\\c"), base_name("c"), base_name("a/")) == ("c", "c", "")
    assert (parent_of("x/y/a"), parent_of("a")) == ("x/y", "")
