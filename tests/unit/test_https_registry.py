"""`portal.headerRegistry`: answer fields by path."""

from __future__ import annotations

import pytest

from ecpds.model.errors import RuleError
from ecpds.model.headerrules import RULES, apply, parse


def test_example_17() -> None:
    rules = parse("(=. .nc) Content-Type=application/x-netcdf;X-Kind=grid")
    assert apply(rules, "/D/a.nc") == {"Content-Type": "application/x-netcdf", "X-Kind": "grid"}
    assert apply(rules, "/D/a.grib") == {}


@pytest.mark.parametrize(
    ("condition", "path", "matches"),
    [
        ("== D/a", "/D/a", True),
        ("== /D/a", "/D/a", True),
        ("== D/a", "/D/ab", False),
        ("!= D/a", "/D/a", False),
        ("!= D/a", "/D/b", True),
        (".= D/", "/D/x", True),
        (".= /D/", "/D/x", True),
        (".= D/", "/E/D/x", False),
        ("=. .nc", "/D/x.nc", True),
        ("== {.*\\.nc}", "/D/x.nc", True),
        ("== {D/(a|b)/.*}", "/D/a/x", True),  # a group: balanced parentheses
        ("== {D/(a|b)/.*}", "/D/c/x", False),
        ("!= {.*\\.nc}", "/D/x.nc", False),
        ("== {*.grib}", "/D/x.grib", True),  # no valid expression: a glob
        ("== {*.grib}", "/D/x.gribx", False),
    ],
)
def test_operators(condition: str, path: str, matches: bool) -> None:
    assert bool(apply(parse(f"({condition}) X-Seen=1"), path)) is matches


def test_the_first_match_wins() -> None:
    rules = parse("# a comment\n(=. .nc) X-A=1\n\n(.= D) X-A=2; X-B = b c ")
    assert apply(rules, "/D/x.nc") == {"X-A": "1"}
    assert apply(rules, "/D/x") == {"X-A": "2", "X-B": "b c"}


def test_our_own_fields_stay_ours() -> None:
    rules = parse("(=. x) ETag=1;content-length=5;Set-Cookie=a;Transfer-Encoding=chunked;X-A=1")
    assert apply(rules, "/x") == {"X-A": "1"}


@pytest.mark.parametrize(
    "line",
    ["X-A=1", "(=. .nc X-A=1", "(~= x) X-A=1", "() X-A=1", "(== x) X A=1", "(== x) X-A",
     "(== x) X-A=\x01", "(== x) X-A=a\tb", "(== x) =v"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(RuleError):
        parse(line)


def test_the_number_of_rules_is_bounded() -> None:
    with pytest.raises(RuleError):
        parse("(== x) X-A=1\n" * (RULES + 1))
