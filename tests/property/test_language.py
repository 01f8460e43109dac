"""Whatever texts come: parsers give values or our errors, normal forms are stable and safe."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecpds.model import balanced
from ecpds.model.comparison import Comparison
from ecpds.model.dates import DatePattern, expand_date, parse_zone
from ecpds.model.directory import check_directory, parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import EcpdsError, InputError, InvalidName
from ecpds.model.expression import Expression
from ecpds.model.listing import ListingFormat
from ecpds.model.listingstyles import STYLES
from ecpds.model.metadata import format_metadata, parse_metadata, product_of
from ecpds.model.place import Place
from ecpds.model.rules import Policy, RuleSet, parse_settings
from ecpds.model.rulesettings import parse_alias, parse_force
from ecpds.model.script import escaped
from ecpds.model.selection import Selector
from ecpds.model.targets import MAX_SEGMENT, MAX_TARGET, normal_target
from ecpds.model.template import TOKENS, TargetValues, Template, check_template, render
from ecpds.model.tokens import parse_pieces
from ecpds.model.tokenvalues import Dates, render_pieces
from ecpds.model.units import (
    LONGEST,
    DaySchedule,
    TimeRanges,
    exact_bytes,
    format_duration,
    iso_duration,
    parse_bool,
    parse_bytes,
    parse_duration,
    parse_rate,
)

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)

ANY = st.text(max_size=60)
RULES = st.lists(
    st.sampled_from(
        [
            *"()[]{}'\"\\;,=.!|$#\n /<>:-0159aEx",
            "==",
            "!=",
            ".=",
            "=.",
            "$target",
            "$name",
            "$date",
            "$dataTransfer[name]",
            "$metadata[",
            "[dateformat=",
            "datedelta=",
            "-1d",
            "yyyyMMdd",
            "0..4",
            "..",
            "filesize>",
            "10KB",
            "priority=",
            "requeueon=",
            "$size2",
            "&&",
            "not ",
            "pattern=",
            "|lower",
            "é",
            "\x00",
        ]
    ),
    max_size=25,
).map("".join)
TEXTS = ANY | RULES


@given(TEXTS)
def test_units_give_values_or_our_errors(text: str) -> None:
    for read in (parse_duration, parse_bytes, parse_rate, parse_bool):
        with contextlib.suppress(InputError):
            read(text)
    for parse in (TimeRanges.parse, DaySchedule.parse):
        with contextlib.suppress(InputError):
            assert parse(str(parse(text))) == parse(text)


@given(st.timedeltas(min_value=-LONGEST, max_value=LONGEST))
def test_durations_survive_writing_and_reading(length: timedelta) -> None:
    assert parse_duration(format_duration(length)) == length
    assert parse_duration(iso_duration(length)) == length


@given(st.integers(0, 10**15))
def test_sizes_survive_writing_and_reading(count: int) -> None:
    assert parse_bytes(exact_bytes(count)) == count


RANGE = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(
    lambda pair: pair[0] != pair[1]
)


@given(st.lists(RANGE, min_size=1, max_size=4), st.integers(0, 3 * 86_400))
def test_the_next_change_is_the_first_minute_that_differs(
    spans: list[tuple[int, int]], second: int
) -> None:
    ranges = TimeRanges(tuple(spans))
    now = NOW + timedelta(seconds=second)
    here = ranges.contains(now)
    change = ranges.next_change(now)
    minute = now.replace(second=0, microsecond=0)
    later = (minute + timedelta(minutes=step) for step in range(1, 24 * 60 + 1))
    assert change == next((moment for moment in later if ranges.contains(moment) != here), None)


@given(TEXTS | st.text(alphabet="yMdHhmsSDEaZXzGuwkK'-: ", max_size=20), ANY)
def test_date_patterns_read_what_they_write(text: str, other: str) -> None:
    with contextlib.suppress(InputError):
        pattern = DatePattern.parse(text)
        expand_date(NOW, dateformat=pattern)
        with contextlib.suppress(InputError):
            pattern.read(other, now=NOW)
        with contextlib.suppress(InputError):
            pattern.read(pattern.format(NOW), now=NOW)
    with contextlib.suppress(InputError):
        parse_zone(text)


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1000))
def test_a_full_pattern_loses_nothing_but_microseconds(moment: datetime) -> None:
    pattern = DatePattern.parse("yyyyMMddHHmmssSSSXXX")
    wanted = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert pattern.read(pattern.format(wanted)) == wanted


SEGMENTS = st.text(alphabet="ab.é/ \\\n\u0301", max_size=6) | st.sampled_from(
    ["..", ".", "x" * 300]
)


@given(st.lists(SEGMENTS, max_size=8).map("/".join) | ANY, ANY)
@example("a/", "..")
@example("..", "")
@example("x/", "/")
def test_normal_targets_never_escape_and_are_their_own_normal_form(text: str, source: str) -> None:
    try:
        once = normal_target(text, source=source)
    except InvalidName:
        return
    assert normal_target(once) == once
    parts = once.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert all(len(part.encode()) <= MAX_SEGMENT for part in parts)
    assert len(once.encode()) <= MAX_TARGET
    assert not any(ord(sign) < 32 for sign in once)


@given(TEXTS)
def test_brackets_and_quotes_lose_no_character(text: str) -> None:
    with contextlib.suppress(InputError):
        parts = balanced.split(text, ";,", Place(1))
        assert [text[offset : offset + len(part)] for offset, part in parts] == [
            part for _, part in parts
        ]
        assert sum(len(part) + 1 for _, part in parts) == len(text) + 1
    with contextlib.suppress(InputError):
        parse_settings(text, Place(1))


VALUES: dict[str, int | float | str] = {
    "size": 1,
    "age": 2,
    "time1": 3,
    "size2": 4,
    "target": "abc",
}
OPERANDS = st.lists(
    st.sampled_from([*"()!<>=+-*/%'1", "$size", "$target", "&&", "||", " not ", "2d", "1e9", " "]),
    max_size=30,
).map("".join)


@given(TEXTS | OPERANDS)
def test_expressions_give_values_or_our_errors(text: str) -> None:
    with contextlib.suppress(InputError):
        Expression.parse(text, VALUES).value(VALUES)
    with contextlib.suppress(InputError):
        Comparison.parse(text, "size")
    with contextlib.suppress(InputError):
        Comparison.parse(text, "age")


@given(TEXTS, TEXTS)
def test_rules_give_a_choice_or_our_errors(text: str, subject: str) -> None:
    for policy in Policy:
        for legacy in (False, True):
            with contextlib.suppress(InputError):
                rules = RuleSet.parse(text, policy=policy, vocabulary=TOKENS, legacy=legacy)
                rules.ties()
                rules.choose(subject, {"metadata[x]": subject})
    for parse in (parse_alias, parse_force):
        for legacy in (False, True):
            with contextlib.suppress(InputError):
                parse(text, legacy=legacy).choose(subject)


@given(TEXTS, TEXTS)
def test_templates_give_a_path_or_our_errors(text: str, value: str) -> None:
    values = TargetValues(target="a", tokens={"dataTransfer[name]": value}, now=NOW)
    check_template(text)
    for legacy in (False, True):
        with contextlib.suppress(InputError):
            path, explanation = render(Template.parse(text, legacy=legacy), values)
            assert path
            assert str(explanation)
            assert "\x00" not in path


@given(st.text(alphabet="ab./\\", max_size=20))
def test_no_value_leaves_the_directory_that_is_written_out(value: str) -> None:
    values = TargetValues(target="t", tokens={"metadata[x]": value}, now=NOW)
    try:
        path, _ = render(Template.parse("/base/dir/$metadata[x]/"), values)
    except InputError:
        return
    depth = 0
    for part in re.split(r"[/\\]", path.removeprefix("/base/dir/")):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        assert depth >= 0


@given(TEXTS)
def test_values_are_inserted_verbatim(value: str) -> None:
    pieces = parse_pieces("a$dataTransfer[name]b", TOKENS)
    dates = Dates(now=NOW)
    assert render_pieces(pieces, {"dataTransfer[name]": value}, dates) == f"a{value}b"


@given(ANY)
def test_escaped_values_end_no_literal(value: str) -> None:
    for quote in "'\"":
        assert eval(f"{quote}{escaped(value)}{quote}") == value


@settings(deadline=None)
@given(TEXTS, TEXTS, st.text(max_size=20))
def test_directory_lines_give_verdicts_or_keep_their_error(
    text: str, option: str, name: str
) -> None:
    entry = Entry(kind=Kind.FILE, name=name, size=5, mtime=NOW)
    check_directory(text)
    for legacy in (False, True):
        directory = parse_directory(
            text, {"acquisition.target": option}, tokens={"host[name]": name}, legacy=legacy
        )
        for line in directory.lines:
            assert (line.error is None) is (line.rules is not None)
            with contextlib.suppress(InputError):
                assert Selector(line.at(NOW), "D").test(entry).outcome
        directory.preview(NOW)


LISTED = st.lists(
    st.sampled_from(
        [
            *"-rwx dlDIR<>12345:;,/[]()",
            "-rw-r--r-- ",
            "Feb 29 12:30 ",
            "2024-01-05 ",
            "02-30-24 ",
            "12:30PM ",
            "*FILE ",
            " -> ",
            "99999999999999999999999 ",
            "name",
        ]
    ),
    max_size=15,
).map("".join)


@given(ANY | LISTED, st.sampled_from(["", "UNIX", *STYLES]))
def test_listing_lines_give_entries(line: str, system: str) -> None:
    entry = ListingFormat.make(system, now=NOW).read(line)
    assert entry is None or entry.kind in Kind


@given(TEXTS, st.dictionaries(st.text("ab", min_size=1), st.text("xy=,", max_size=5)))
def test_metadata_survive_writing_and_reading(text: str, values: dict[str, str]) -> None:
    with contextlib.suppress(InputError):
        product_of(parse_metadata(text), file_time=None, now=NOW)
    with contextlib.suppress(InputError):
        product_of(parse_metadata(text, lenient=True), file_time=None, now=NOW, lenient=True)
    with contextlib.suppress(InputError):
        assert parse_metadata(format_metadata(values)) == values


def test_all_our_input_errors_are_of_one_tree() -> None:
    assert issubclass(InputError, EcpdsError)
