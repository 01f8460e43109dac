"""SimpleDateFormat patterns, zones and the expansion of $date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from ecpds.model.dates import DatePattern, expand_date, milliseconds, parse_zone, timestamp
from ecpds.model.errors import InputError, OptionError, RuleError

NOW = datetime(2024, 3, 1, 10, 5, 7, 89_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("yyyyMMdd", "20240301"),
        ("yyyy/DDD", "2024/061"),
        ("yy-M-d", "24-3-1"),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2024-03-01T10:05:07.089Z"),
        ("MMM d yyyy", "Mar 1 2024"),
        ("LLLL", "March"),
        ("EEE EEEE u", "Fri Friday 5"),
        ("h:mm a K k", "10:05 AM 10 10"),
        ("G W F", "AD 1 1"),
        ("YYYY-'W'ww YY", "2024-W09 24"),
        ("''yyyy'' 'o''clock'", "'2024' o'clock"),
        ("Z z XX", "+0000 UTC Z"),
    ],
)
def test_a_pattern_writes_a_date(pattern: str, text: str) -> None:
    assert DatePattern.parse(pattern).format(NOW) == text
    assert str(DatePattern.parse(pattern)) == pattern


def test_zones_are_written_and_read() -> None:
    moment = NOW.astimezone(timezone(-timedelta(hours=3, minutes=30)))
    assert DatePattern.parse("Z X XX XXX").format(moment) == "-0330 -03 -0330 -03:30"
    for text, expected in (("10 -0330", "13:30"), ("10 Z", "10:00"), ("10 GMT+02:00", "08:00")):
        found = DatePattern.parse("HH Z").read(text, zone=ZoneInfo("Europe/Rome"))
        assert found.astimezone(UTC).strftime("%H:%M") == expected
    assert DatePattern.parse("HH").read("10", zone=ZoneInfo("Europe/Rome")).hour == 10


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("yyyyMMddHHmmss", "20240301100507", "2024-03-01T10:05:07"),
        ("yyyy/DDD", "2024/061", "2024-03-01T00:00:00"),
        ("d MMM yyyy", "1 march 2024", "2024-03-01T00:00:00"),
        ("MMMM", "Feb", "1970-02-01T00:00:00"),
        ("hh:mm a", "12:05 am", "1970-01-01T00:05:00"),
        ("hh:mm a", "12:05 pm", "1970-01-01T12:05:00"),
        ("K a", "0 pm", "1970-01-01T12:00:00"),
        ("kk", "24", "1970-01-01T00:00:00"),
        ("YYYY ww u", "2024 09 5", "2024-03-01T00:00:00"),
        ("YYYY ww", "2024 09", "2024-02-26T00:00:00"),
        ("EEE yyyy SSS", "fri 2024 5", "2024-01-01T00:00:00.005000"),
        ("yyyy", "24", "2024-01-01T00:00:00"),
    ],
)
def test_a_pattern_reads_a_date(pattern: str, text: str, expected: str) -> None:
    found = DatePattern.parse(pattern).read(text, now=NOW)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(("text", "year"), [("44", 2044), ("45", 1945), ("24", 2024), ("99", 1999)])
def test_two_digit_years_lie_80_back_to_20_ahead(text: str, year: int) -> None:
    assert DatePattern.parse("yy").read(text, now=NOW).year == year


def test_two_digit_years_near_a_turn_of_the_century() -> None:
    early, late = NOW.replace(year=2005), NOW.replace(year=2095)
    assert DatePattern.parse("yy").read("95", now=early).year == 1995
    assert DatePattern.parse("yy").read("05", now=late).year == 2105


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("yyyyMMdd", "2024030"),
        ("yyyyMMdd", "20240230"),
        ("yyyyMMdd", "2024-03-01"),
        ("yyyy/DDD", "2023/366"),
        ("HH", "25"),
        ("hh a", "13 PM"),
        ("YYYY ww", "2024 54"),
        ("yyyy", "0"),
        ("yyyyMMdd", "20240301x"),
        ("yyyy", "9" * 300),
        ("Z", "+9959"),
        ("MMM", "\u017fep"),  # a long s is an s only where case does not count
    ],
)
def test_what_is_no_date_is_refused(pattern: str, text: str) -> None:
    with pytest.raises(InputError, match="is no date of the pattern"):
        DatePattern.parse(pattern).read(text, now=NOW)


def test_own_month_names() -> None:
    names = tuple(f"m{number}x" for number in range(1, 13))
    pattern = DatePattern.parse("MMM yyyy", months=names)
    assert pattern.format(NOW) == "m3x 2024"
    assert pattern.read("m12x 2023").month == 12


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("yyyyMMddThh", "unknown letter 'T' at position 9"),
        ("iyyy", "unknown letter 'i' at position 1"),
        ("yyyy'", "quote at position 5 never closed"),
        ("y" * 17, "too many 'y' at position 1"),
        ("", "1 to 128 characters"),
        ("-" * 129, "1 to 128 characters"),
    ],
)
def test_acquisition_3_a_bad_pattern_names_letter_and_position(pattern: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        DatePattern.parse(pattern)


def test_some_letters_are_only_for_writing() -> None:
    with pytest.raises(RuleError, match="the letter 'W' of 'yyyy W' cannot be read back"):
        DatePattern.parse("yyyy W").read("2024 1")


@pytest.mark.parametrize("text", ["UTC", "gmt", "Z", "+01:00", "GMT-2", "Europe/Rome"])
def test_a_zone_is_read(text: str) -> None:
    assert NOW.astimezone(parse_zone(text)) == NOW


@pytest.mark.parametrize("text", ["", "Nowhere/Town", "../../etc/passwd", "+99:00", "a\x00b"])
def test_a_bad_zone_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is no time zone"):
        parse_zone(text)


def test_acquisition_3_a_date_is_now_or_read_from_a_source() -> None:
    pattern = DatePattern.parse
    assert expand_date(NOW) == "20240301"
    assert expand_date(NOW, delta=-timedelta(days=1)) == "20240229"
    assert expand_date(NOW, dateformat=pattern("HH"), zone=ZoneInfo("Europe/Rome")) == "11"
    assert (
        expand_date(
            NOW,
            source="20231224.bin",
            datepattern=pattern("yyyyMMdd"),
            dateformat=pattern("MMdd"),
        )
        == "1224"
    )
    assert expand_date(NOW, source="20231224") == "20231224"
    with pytest.raises(InputError, match="is no date"):
        expand_date(NOW, source="yesterday")
    with pytest.raises(InputError, match="outside the years"):
        expand_date(NOW, delta=timedelta(days=36_525 * 99))


def test_acquisition_3_a_timestamp_is_rounded_down_to_a_second() -> None:
    assert timestamp(datetime.fromtimestamp(1_700_000_000.999, UTC)) == "1700000000000"
    assert timestamp(None) == "0"
    assert milliseconds(datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)) == -1000
