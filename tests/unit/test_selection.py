"""Selection of entries, unique names and duplicates: acquisition.md sections 6 to 8."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.comparison import Comparison
from ecpds.model.directory import parse_directory
from ecpds.model.entry import Entry, Kind
from ecpds.model.errors import RuleError
from ecpds.model.listednames import initial_target, joined, unique_name
from ecpds.model.selection import Decision, Known, Outcome, Selector, decide
from ecpds.model.tokens import Token

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)


def selector(line: str, **options: str) -> Selector:
    host = {f"acquisition.{name}": value for name, value in options.items()}
    return Selector(parse_directory(line, host).lines[0].at(NOW), "OBS")


def file(name: str = "a.nc", **more: object) -> Entry:
    return Entry(kind=Kind.FILE, name=name, **more)  # type: ignore[arg-type]  # free fields


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        (Entry(kind=Kind.DIRECTORY, name="d"), Outcome.NOT_A_FILE),
        (Entry(kind=Kind.OTHER, name="d"), Outcome.NOT_A_FILE),
        (Entry(kind=Kind.LINK, name="l", link="x"), Outcome.SYMLINK),
        (Entry(kind=Kind.FILE, name="l", error="gone"), Outcome.ERROR),
        (Entry(kind=Kind.FILE, name=""), Outcome.UNREADABLE),
        (Entry(kind=Kind.FILE, name="a\nb"), Outcome.BAD_NAME),
        (Entry(kind=Kind.FILE, name=".."), Outcome.BAD_NAME),
        (Entry(kind=Kind.FILE, name="x" * 300), Outcome.BAD_NAME),
        (Entry(kind=Kind.FILE, name="a"), Outcome.SELECTED),
    ],
)
def test_acquisition_6_outcomes_by_entry(entry: Entry, outcome: Outcome) -> None:
    (choice,) = selector("/in").select([entry])
    assert choice.outcome is outcome
    assert choice.is_selected is (outcome is Outcome.SELECTED)


def test_the_verdict_has_all_names() -> None:
    choice = selector("[target=$destination/$name;metadata='t=$timestamp']/in").test(
        file("s/a.nc", mtime=NOW)
    )
    assert (choice.original, choice.name, choice.target) == ("/in/s/a.nc", "s/a.nc", "OBS/a.nc")
    assert (choice.unique_name, choice.metadata) == ("/in/s/a.nc", "t=1709287200000")
    assert selector("[metadata='k=v']/in").test(file()).metadata == "k=v"


def test_an_expression_that_fails_rejects_with_its_reason() -> None:
    choice = selector("/in", filesize="$size > 1 && 1/0").test(file(size=5))
    assert (choice.outcome, choice.reason[-16:]) == (Outcome.WRONG_SIZE, "division by zero")
    choice = selector("/in", fileage="$age > 'x'").test(file(mtime=NOW))
    assert choice.outcome is Outcome.WRONG_AGE
    assert "compares a text" in choice.reason


def test_acquisition_6_regex_sees_the_name_as_listed() -> None:
    assert selector("/in/{/x/.*}").test(file("/x/a")).is_selected
    assert not selector("/in/{a}").test(file("/x/a")).is_selected
    assert not selector("/in/{A}").test(file("a")).is_selected


@pytest.mark.parametrize(
    ("text", "size", "holds"),
    [
        (">10KB", 10_241, True),
        (">10KB", 10_240, False),
        ("=>1000", 1001, True),
        ("= <= 5", 5, True),
        ("==5", 5, True),
        ("!=0", -1, True),
        ("2096", 2096, True),
        (">0", -1, False),
        (" >= 1 KB ", 1024, True),
        ("$size > 10 && $size < 1e6", 11, True),
    ],
)
def test_acquisition_6_comparisons_of_sizes(text: str, size: int, holds: bool) -> None:
    assert Comparison.parse(text, "size").of_size(size) is holds


@pytest.mark.parametrize(
    ("text", "hours", "holds"),
    [
        ("<6h", 5, True),
        ("<=5d", 121, False),
        ("=<6h", 5, True),
        ("2d", 48, True),
        ("48h", 48, True),
    ],
)
def test_acquisition_6_comparisons_of_ages(text: str, hours: int, holds: bool) -> None:
    assert Comparison.parse(text, "age").of_age(timedelta(hours=hours), 0) is holds


@pytest.mark.parametrize("text", [">>5KB", "<<5KB", "==>5KB", "> ", "=", "=>>5", "5X", "~5"])
def test_acquisition_6_the_rest_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        Comparison.parse(text, "size")
    with pytest.raises(RuleError):
        Comparison.parse(text, "age")


def test_acquisition_6_ages_without_unit_are_hours_only_when_imported() -> None:
    with pytest.raises(RuleError, match="has no unit"):
        Comparison.parse("<6", "age")
    assert Comparison.parse("<6", "age", legacy=True).of_age(timedelta(hours=5), 0)


# --- names ---------------------------------------------------------------------------------------


def test_acquisition_7_links_without_separator_force_the_name() -> None:
    assert initial_target("/x/latest", "b.nc") == "b.nc"
    assert initial_target("https://h/latest", "b.nc") == "b.nc"
    assert initial_target("/x/latest", "../b.nc") == "latest"
    assert initial_target("latest", "b.nc") == "latest"


def test_paths_are_joined_as_directories() -> None:
    assert joined("/in", "a") == joined("/in/", "a") == "/in/a"
    assert joined("C:\\in\\", "a") == "C:\\in\\a"
    assert joined("", "a") == "a"
    assert joined("/in", "") == "/in"
    assert joined("/in", "/a") == "/in/a"


AT = datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize(
    ("options", "mtime", "unique"),
    [
        ({}, AT, "/in/a.nc"),
        ({"unique_by_target": True}, AT, ""),
        ({"unique_by_target": True, "target_as_unique_name": True}, AT, ""),
        ({"target_as_unique_name": True}, AT, "a.nc"),
        ({"unique_by_time": True}, AT, "/in/a.nc.1700000000000"),
        ({"unique_by_time": True}, None, "/in/a.nc"),
        ({"unique_by_target": True, "unique_by_time": True}, AT, ".1700000000000"),
        ({"target_as_unique_name": True, "unique_by_time": True}, AT, "a.nc.1700000000000"),
    ],
)
def test_acquisition_8_unique_names(
    options: dict[str, bool], mtime: datetime | None, unique: str
) -> None:
    chosen = AcquisitionOptions(**options)  # type: ignore[arg-type]  # only flags
    assert unique_name("/in/a.nc", "a.nc", mtime, chosen) == unique


# --- duplicates ----------------------------------------------------------------------------------


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("stored", "listed", "options", "decision"),
    [
        ((100, 10), (200, 10), {"requeueonupdate": "yes"}, Decision.EXISTS),
        ((100, 10), (200, 11), {"requeueonupdate": "yes"}, Decision.FORCE),
        (
            (100, 10),
            (200, 10),
            {"requeueonupdate": "yes", "requeueonsamesize": "yes"},
            Decision.FORCE,
        ),
        ((100, 10), (50, 11), {"requeueon": "$size2 != $size1"}, Decision.FORCE),
        ((100, 10), (200, 11), {}, Decision.EXISTS),
        ((100, 10), (200, 11), {"requeueonsamesize": "yes"}, Decision.EXISTS),
        ((100, 10), (200, 11), {"requeueon": "$size2 / 0"}, Decision.ERROR),
        ((None, None), (None, None), {"requeueon": "$time1 == 0 && $size2 == -1"}, Decision.FORCE),
        (
            (1, 1),
            (1, 1),
            {"requeueon": "'$target[0..1]$destination' == 'aOBS' && $original == '/in/a.nc'"},
            Decision.FORCE,
        ),
    ],
)
def test_acquisition_8_requeue(
    stored: tuple[int | None, int | None],
    listed: tuple[int | None, int | None],
    options: dict[str, str],
    decision: Decision,
) -> None:
    rules = selector("/in", **options)
    entry = file(mtime=None if listed[0] is None else at(listed[0]), size=listed[1])
    choice = rules.test(entry)
    known = Known(
        size=stored[1],
        mtime=None if stored[0] is None else at(stored[0]),
        has_failed=False,
    )
    rule = (
        parse_directory("/in", {f"acquisition.{name}": value for name, value in options.items()})
        .lines[0]
        .at(NOW)
        .rules.requeue
    )
    found, reason = decide(rule, known, choice, "OBS")
    assert found is decision
    assert bool(reason) is (decision is Decision.ERROR)


def test_acquisition_8_what_becomes_of_known_files() -> None:
    choice = selector("/in").test(file(size=5))
    assert decide(None, None, choice, "OBS")[0] is Decision.REGISTER
    failed = Known(size=5, mtime=NOW, has_failed=True)
    assert decide(None, failed, choice, "OBS")[0] is Decision.FAILED_ONLY


def test_targets_of_a_line_are_settled_once() -> None:
    search = parse_directory("[target=$date/$target]/in").lines[0].at(NOW)
    assert search.target == ("20240301/", Token("target", "$target"))


def test_an_entry_takes_microseconds() -> None:
    entries = [file(f"E{number:05d}.nc", size=5, mtime=NOW) for number in range(2000)]
    rules = selector("/in/{E.*}")
    begun = time.process_time()
    assert all(choice.is_selected for choice in rules.select(entries))
    assert time.process_time() - begun < 0.1
