"""Durations, sizes, rates, booleans and times of day: what is read, written and refused."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ecpds.model.errors import InputError, OptionError
from ecpds.model.units import (
    DaySchedule,
    TimeRanges,
    exact_bytes,
    format_bytes,
    format_duration,
    format_rate,
    iso_duration,
    parse_bool,
    parse_bytes,
    parse_duration,
    parse_rate,
)

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15),
        ("15 S", 15),
        ("15sec", 15),
        ("5min", 300),
        ("5m", 300),
        ("1h", 3600),
        ("2d", 172_800),
        ("1w", 604_800),
        ("1y", 52 * 604_800),
        ("-1d", -86_400),
        ("0", 0),
        ("PT15M", 900),
        ("P2D", 172_800),
        ("-P1D", -86_400),
        ("PT1H30M", 5400),
        ("P1DT2H", 93_600),
        ("P1W", 604_800),
        ("PT-5M", -300),
        ("PT-1.5S", -1.5),
        ("-PT-5M", 300),
        ("pt0.2s", 0.2),
        ("200ms", 0.2),
        ("200z", 0.2),
        ("1ms", 0.001),
        ("36525d", 36_525 * 86_400),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "15", "-3", "1h30m", "1.5h", "h", "P", "PT", "P1DT", "P1Y", "1 x", "P2", "٣s"],
)
def test_entities_1_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "999999999999999y", "P999999999D", "P1D" + " " * 99])
def test_a_duration_has_a_limit(text: str) -> None:
    if text.strip() == "P1D":
        assert parse_duration(text) == timedelta(days=1)
        return
    with pytest.raises(OptionError, match="100 years"):
        parse_duration(text)


def test_a_text_of_any_length_is_refused_in_a_short_message() -> None:
    with pytest.raises(OptionError) as caught:
        parse_duration("9" * 100_000)
    assert len(str(caught.value)) < 200


def test_decisions_5_a_number_alone_is_refused_and_the_message_names_units() -> None:
    with pytest.raises(InputError, match="has no unit; write 15s, 15m, 15h or 15d"):
        parse_duration("15")
    with pytest.raises(InputError, match="has no unit; write 10B, 10KB"):
        parse_bytes("10")


def test_an_imported_number_takes_the_unit_of_its_place() -> None:
    assert parse_duration("1500", legacy_unit="ms") == 1.5 * SECOND
    assert parse_duration("2", legacy_unit="h") == timedelta(hours=2)
    assert parse_duration("2d", legacy_unit="h") == timedelta(days=2)
    assert parse_bytes("123", legacy_unit="b") == 123
    assert parse_rate("2359296", legacy_unit="b") == 2_359_296


@pytest.mark.parametrize(
    ("length", "short", "iso"),
    [
        (timedelta(0), "0s", "PT0S"),
        (900 * SECOND, "15m", "PT15M"),
        (90 * SECOND, "90s", "PT1M30S"),
        (timedelta(days=2), "2d", "P2D"),
        (timedelta(days=14), "2w", "P14D"),
        (timedelta(days=1, hours=2), "26h", "P1DT2H"),
        (-timedelta(days=1, hours=2), "-26h", "-P1DT2H"),
        (timedelta(milliseconds=200), "200ms", "PT0.2S"),
        (timedelta(milliseconds=-1500), "-1500ms", "-PT1.5S"),
        (timedelta(microseconds=7), "PT0.000007S", "PT0.000007S"),
    ],
)
def test_a_duration_is_written_and_read_back(length: timedelta, short: str, iso: str) -> None:
    assert format_duration(length) == short
    assert iso_duration(length) == iso
    assert parse_duration(short) == parse_duration(iso) == length


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512B", 512),
        ("10KB", 10_240),
        ("2 GB", 2 * 1024**3),
        ("64k", 65_536),
        ("10MiB", 10 * 1024**2),
        ("1tb", 1024**4),
        ("1PB", 1024**5),
        ("7EB", 7 * 1024**6),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "10", "1.5KB", "-1B", "8EB", "1 XB", "KB", "1 K B", "1KBB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "human", "exact"),
    [
        (0, "0 B", "0B"),
        (1023, "1023 B", "1023B"),
        (1536, "1.5 KB", "1536B"),
        (10_240, "10 KB", "10KB"),
        (1024**2 - 1, "1 MB", "1048575B"),
        (123 * 1024**2, "123 MB", "123MB"),
        (2**63 - 1, "8 EB", "9223372036854775807B"),
        (1024**6, "1 EB", "1EB"),
        (-2048, "-2 KB", "-2KB"),
    ],
)
def test_a_size_is_written(count: int, human: str, exact: str) -> None:
    assert format_bytes(count) == human
    assert exact_bytes(count) == exact


def test_a_rate_is_bytes_per_second_and_bits_count_in_thousands() -> None:
    assert parse_rate("10MB") == parse_rate("10 MB/s") == parse_rate("10MBps") == 10 * 1024**2
    assert parse_rate("18Mbit/s") == 2_250_000
    assert format_rate(1536) == "1.5 KB/s"
    for text in ("10", "", "fast", "-1Mbit/s"):
        with pytest.raises(OptionError):
            parse_rate(text)
    with pytest.raises(OptionError, match="above"):
        parse_rate("999999999999999Tbit/s")


def test_entities_1_a_boolean_is_a_word_and_old_texts_take_the_rest_as_no() -> None:
    assert [parse_bool(word) for word in ("yes", "TRUE", " on ", "1")] == [True] * 4
    assert [parse_bool(word) for word in ("no", "False", "off", "0")] == [False] * 4
    with pytest.raises(OptionError, match="neither yes nor no"):
        parse_bool("maybe")
    assert [parse_bool(word, legacy=True) for word in ("Yes", "true", "on", "x")] == [
        True,
        True,
        False,
        False,
    ]


# --- times of day --------------------------------------------------------------------------------


def test_a_range_holds_its_start_and_not_its_end() -> None:
    ranges = TimeRanges.parse("08:00-12:30, 22:00-24:00")
    assert str(ranges) == "08:00-12:30,22:00-24:00"
    assert ranges.contains(time(8))
    assert ranges.contains(time(12, 29, 59))
    assert not ranges.contains(time(12, 30))
    assert ranges.contains(time(23, 59, 59, 999_999))
    assert not ranges.contains(time(0))


def test_schedulers_9_a_range_may_pass_midnight() -> None:
    ranges = TimeRanges.parse("22:00-06:00")
    assert [ranges.contains(time(hour)) for hour in (21, 22, 0, 5, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    start = datetime(2024, 1, 1, 23, tzinfo=UTC)
    assert ranges.next_change(start) == datetime(2024, 1, 2, 6, tzinfo=UTC)
    assert ranges.next_change(datetime(2024, 1, 1, 6, tzinfo=UTC)) == start.replace(hour=22)


def test_the_next_change_skips_edges_inside_other_ranges() -> None:
    ranges = TimeRanges.parse("08:00-12:00,12:00-14:00,13:00-15:00")
    now = datetime(2024, 1, 1, 9, 30, 30, tzinfo=UTC)
    assert ranges.next_change(now) == datetime(2024, 1, 1, 15, tzinfo=UTC)
    assert TimeRanges.parse("00:00-24:00").next_change(now) is None
    assert TimeRanges.parse("00:00-12:00,12:00-24:00").next_change(now) is None


def test_the_next_change_keeps_the_clock_time_when_summer_time_begins() -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2024, 3, 30, 12, tzinfo=zone)
    assert TimeRanges.parse("06:00-07:00").next_change(now) == datetime(2024, 3, 31, 6, tzinfo=zone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "8-12",
        "08:00",
        "08:60-09:00",
        "08:00-24:01",
        "24:00-02:00",
        "09:00-09:00",
        ",".join(["01:00-02:00"] * 97),
    ],
)
def test_a_bad_time_range_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        TimeRanges.parse(text)


def test_portal_ex_4_connections_by_time_of_day() -> None:
    schedule = DaySchedule.parse("00:00-08:00=200,22:00-24:00=50")
    assert schedule.value(time(7, 59), 10) == 200
    assert schedule.value(time(8), 10) == 10
    assert schedule.value(time(23, 30), 10) == 50
    assert str(schedule) == "00:00-08:00=200,22:00-24:00=50"


@pytest.mark.parametrize("text", ["00:00-08:00", "00:00-08:00=x", "00:00-08:00=-1", "=5", ""])
def test_portal_1_7_a_bad_schedule_entry_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        DaySchedule.parse(text)
