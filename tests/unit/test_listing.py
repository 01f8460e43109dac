"""Formats of listings: what can be chosen and what is refused (lines are in tests/golden)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from ecpds.model.entry import Entry, Kind, listing_line
from ecpds.model.errors import OptionError, RuleError
from ecpds.model.listing import MAX_LINE, ListingFormat
from ecpds.model.listingstyles import STYLES

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)


def test_an_unknown_system_names_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown systemKey 'WINDOW' \(did you mean 'WINDOWS'"):
        ListingFormat.make("WINDOW", now=NOW)
    with pytest.raises(OptionError, match=r"unknown systemKey 'zzzz'$"):
        ListingFormat.make("zzzz", now=NOW)


def test_month_names_are_twelve_and_languages_known() -> None:
    with pytest.raises(OptionError, match="twelve names"):
        ListingFormat.make(month_names="a|b", now=NOW)
    with pytest.raises(OptionError, match="unknown language 'xx'"):
        ListingFormat.make(language="xx", now=NOW)


@pytest.mark.parametrize(
    ("regex", "message"), [("(", "regexFormat"), ("a", "named group"), ("a" * 5000, "longer")]
)
def test_a_bad_line_regex_is_refused(regex: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        ListingFormat.make(regex=regex, now=NOW)


def test_a_bad_date_format_is_refused() -> None:
    with pytest.raises(RuleError, match="unknown letter 'T'"):
        ListingFormat.make(default_format="yyyyT", now=NOW)


def test_a_line_of_any_length_is_an_unreadable_entry() -> None:
    entry = ListingFormat.make(now=NOW).read("-" * (MAX_LINE + 1))
    assert entry is not None
    assert entry.error == "listing line cannot be read"
    assert len(entry.name) == 200


def test_29_february_is_looked_for_in_the_last_leap_year() -> None:
    style = ListingFormat.make(recent_format="MMdd", now=NOW.replace(year=2023))
    plain = ListingFormat.make(now=NOW.replace(year=2023))
    for found in (
        style.read("-rw-r--r-- 1 u g 5 0229 x"),
        plain.read("-rw-r--r-- 1 u g 5 Feb 29 00:00 x"),
    ):
        assert found is not None
        assert found.mtime == datetime(2020, 2, 29, tzinfo=UTC)
    for line in ("-rw-r--r-- 1 u g 5 0230 x", "-rw-r--r-- 1 u g 5 Feb 30 00:00 x"):
        found = (style if "02" in line else plain).read(line)
        assert found is not None
        assert found.error


def test_before_the_first_leap_year_there_is_no_29_february() -> None:
    found = ListingFormat.make(now=NOW.replace(year=2)).read("-rw-r--r-- 1 u g 5 Feb 29 00:00 x")
    assert found is not None
    assert found.error


def test_an_entry_is_shown_as_ls_does() -> None:
    entry = Entry(kind=Kind.LINK, name="a", size=5, mtime=NOW, owner="u", link="/b", mode=0o755)
    assert listing_line(entry) == (
        "lrwxr-xr-x 1 u        -                 5 Mar 01 2024 10:00 a -> /b"
    )
    plain = listing_line(Entry(kind=Kind.FILE, name="a"))
    assert plain == "-rw-r--r-- 1 -        -                 - - a"
    assert listing_line(Entry(kind=Kind.OTHER, name="", error="gone")) == "err: gone"


@pytest.mark.parametrize("system", ["", *STYLES])
def test_hostile_lines_take_no_time(system: str) -> None:
    style = ListingFormat.make(system, now=NOW)
    begun = time.process_time()
    for start in ("-rw-r--r-- 1", "0", "A.NC;1 1", "PEP", "a b 2006/03/20", "- [RW] u"):
        for filler in (" ", "A "):
            assert style.read(start + filler * (8000 // len(filler)) + "x") is not None
    assert time.process_time() - begun < 0.5  # all twelve; a bad regex needs seconds
