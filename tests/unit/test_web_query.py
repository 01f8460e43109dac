"""The search language of the dashboard's lists (monitor.md 5)."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from ecpds.model.errors import InputError
from ecpds.model.query import Kind, Value, parse

KEYS: Mapping[str, Kind] = {
    "target": "text",
    "source": "text",
    "size": "size",
    "ts": "number",
    "expired": "flag",
}
VALUES: Mapping[str, Value] = {
    "target": "A_Model.bufr",
    "source": "/in/a b=c",
    "size": 2 * 1024 * 1024,
    "ts": 12,
    "expired": False,
}


def fits(text: str) -> bool:
    return parse(text, KEYS, "target").matches(lambda key: VALUES[key])


@pytest.mark.parametrize(
    "text",
    [
        "", "Model", "A_*", "A_M?del.bufr", "target=*.bufr expired=no size>=1mb ts>0 ts<=48 case=i",
        "target!=*.grib", "ts=12", "ts!=13", "ts<13", "expired=false", 'source="/in/a b=c"',
        r"source=/in/a\ b\=c", "a_model.BUFR case=i", "size=2mb",
    ],
)  # fmt: skip
def test_what_fits(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    ["model", "target=model", "A_*.grib", "ts>12", "ts>1 ts>12", "expired=yes", r"A\*", "size>1gb"],
)
def test_what_does_not_fit(text: str) -> None:
    assert not fits(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour=red", "'colour'"), ("sorce=x", "did you mean 'source'"), ("target>a", "target"),
        ("ts=many", "'many'"), ("size=1x", "unit"), ("expired=maybe", "yes nor no"),
        ('"open', "quotes"), ("a\\", "backslash"), ("x" * 1001, "1000"),
        ("ts=" + "9" * 30, "too large"), ("*".join("a" * 12), "stars"), ("a " * 31, "30 terms"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse(text, KEYS, "target")


def test_the_store_gets_a_glob_that_means_the_same() -> None:
    pattern = parse(r"target=a[1]*\*?", KEYS, "target").taken("target")
    assert pattern is not None
    assert pattern.glob == "a[[]1]*[*]?"
    assert pattern.matches("a[1]xyz*b")
    assert not pattern.matches("a1xyz*b")
    assert parse("a case=i", KEYS, "target").taken("target") is None


def test_stars_do_not_make_matching_slow() -> None:
    pattern = parse("target=" + "*a" * 8, KEYS, "target").terms[0].pattern
    assert pattern is not None
    begun = time.process_time()
    assert not pattern.matches("a" * 2000 + "b")
    assert time.process_time() - begun < 0.04
