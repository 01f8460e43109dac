"""The arithmetic of the benchmark harness: a wrong ratio would be worse than none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.errors import MeasurementFailed
from benchmarks.harness import (
    US,
    Budget,
    Comparison,
    Contender,
    Reach,
    Result,
    compare,
    percentile,
    ratio,
    spread,
    turns,
)
from benchmarks.scene import Scene
from benchmarks.sides import synced


class Hand:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def contender(
    name: str, values: Sequence[float], *, log: list[str] | None = None, rounds: int | None = None
) -> Contender:
    def run(number: int) -> Mapping[str, float]:
        if log is not None:
            log.append(f"{name}{number}")
        return {name: values[number % len(values)]}

    return Contender(name=name, run=run, rounds=rounds)


def comparison(*contenders: Contender, **more: object) -> Comparison:
    wanted: dict[str, object] = {"case": "c", "work": "w", "unit": "MiB/s", "seconds": 1e9}
    return Comparison(contenders=contenders, **(wanted | more))  # type: ignore[arg-type] # free form


def endless() -> Budget:
    return Budget(1e9, clock=Hand())


def test_a_ratio_above_one_says_that_we_do_better() -> None:
    assert ratio(200, 100, better="higher") == 2
    assert ratio(200, 100, better="lower") == 0.5
    assert ratio(1, 0, better="higher") == float("inf")
    assert ratio(0, 0, better="lower") == float("inf")


def test_spread_is_the_width_of_the_rounds_beside_their_median() -> None:
    assert spread([90, 100, 110]) == pytest.approx(0.2)
    assert spread([5]) == 0
    assert spread([0, 0]) == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_percentile_of_few_values() -> None:
    assert percentile([3.0], 0.99) == 3
    assert percentile([1.0, 2.0], 0.5) == 1
    assert percentile([1.0, 2.0], 0.51) == 2
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_everybody_is_first_in_turn() -> None:
    three = [contender(name, [1]) for name in "abc"]
    assert ["".join(c.name for c in turns(three, n)) for n in range(4)] == [
        "abc",
        "bca",
        "cab",
        "abc",
    ]
    assert turns([], 3) == []


async def test_rounds_are_interleaved_and_the_median_counts() -> None:
    log: list[str] = []
    result = await compare(
        comparison(
            contender(US, [100, 300, 200], log=log),
            contender("nginx", [400, 100, 50], log=log),
            rounds=3,
            reach=Reach(limit=2.0, against="nginx"),
        ),
        endless(),
    )
    assert log == ["ecpds0", "nginx0", "nginx1", "ecpds1", "ecpds2", "nginx2"]
    assert result.medians == {US: 200, "nginx": 100}
    assert result.ratios == {"nginx": 2.0}
    assert result.reached is True


async def test_a_contender_that_fails_has_no_further_part_and_stops_nobody() -> None:
    asked: list[int] = []

    def run(number: int) -> Mapping[str, float]:
        asked.append(number)
        if number == 1:
            raise MeasurementFailed("short file")
        return {"weak": 1.0}

    result = await compare(
        comparison(contender(US, [7]), Contender(name="weak", run=run), rounds=4), endless()
    )
    assert asked == [0, 1]
    assert result.failures == {"weak": "short file"}
    assert result.figures == {US: [7, 7, 7, 7], "weak": [1]}


async def test_when_all_have_failed_the_comparison_ends() -> None:
    def run(number: int) -> Mapping[str, float]:
        raise MeasurementFailed(f"in round {number}")

    result = await compare(comparison(Contender(name=US, run=run)), endless())
    assert result.failures == {US: "in round 0"}
    assert result.medians == {}
    assert result.reached is None


async def test_a_slow_peer_takes_part_in_its_own_number_of_rounds() -> None:
    result = await compare(
        comparison(contender(US, [1]), contender("slow", [1], rounds=2), rounds=5), endless()
    )
    assert {name: len(values) for name, values in result.figures.items()} == {US: 5, "slow": 2}


def takes(clock: Hand, seconds: float) -> Callable[[int], Mapping[str, float]]:
    def run(number: int) -> Mapping[str, float]:
        clock.at += seconds
        return {US: seconds}

    return run


@pytest.mark.parametrize(
    ("seconds", "whole", "expected"),
    [
        (100.0, 1000.0, 5),  # all rounds
        (35.0, 1000.0, 3),  # a fourth would end at 40
        (1.0, 1000.0, 1),  # one is always run
        (100.0, 25.0, 2),  # a third would end after the whole budget
    ],
)
async def test_no_round_begins_that_would_end_too_late(
    seconds: float, whole: float, expected: int
) -> None:
    clock = Hand()
    one = Contender(name=US, run=takes(clock, 10))
    result = await compare(comparison(one, seconds=seconds, rounds=5), Budget(whole, clock=clock))
    assert len(result.figures[US]) == expected


async def test_a_spent_budget_skips_and_says_so() -> None:
    clock = Hand()
    budget = Budget(10, clock=clock)
    clock.at = 10
    result = await compare(comparison(contender(US, [1])), budget)
    assert result.skipped == "out of time"
    assert result.figures == {}
    assert report.failures([result]) == ["c: w: not measured: out of time"]


@pytest.mark.parametrize(
    ("better", "limit", "ours", "expected"),
    [
        ("higher", 800, 800, True),
        ("higher", 800, 799, False),
        ("lower", 150, 150, True),
        ("lower", 150, 151, False),
    ],
)
def test_a_reach_without_a_peer_bounds_our_own_figure(
    better: str, limit: float, ours: float, expected: bool
) -> None:
    result = Result(comparison=comparison(better=better, reach=Reach(limit=limit)))
    assert result.reached is None
    result.figures[US] = [ours]
    assert result.reached is expected


def test_a_reach_against_a_peer_that_was_not_measured_is_open() -> None:
    result = Result(comparison=comparison(reach=Reach(limit=0.9, against="nginx")))
    result.figures[US] = [5]
    assert result.reached is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1063.4, "1,063 s"),
        (99.96, "100.0 s"),
        (12.345, "12.3 s"),
        (1.2345, "1.23 s"),
        (0.0123456, "0.0123 s"),
        (0.0, "0 s"),
        (None, "-"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert report.figure(value, "s") == text


def test_the_table_puts_the_peer_of_the_reach_first() -> None:
    result = Result(comparison=comparison(reach=Reach(limit=0.8, against=synced("nginx"))))
    result.figures = {US: [75], "nginx": [150], synced("nginx"): [100], "rclone": [25]}
    lines = report.table([result]).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "c",
        "w",
        "75.0 MiB/s",
        "nginx + sync 100 MiB/s",
        "0.75",
        "≥ 0.8",
        "NO",
    ]
    assert [line.split("|")[5].strip() for line in lines[2:]] == ["0.75", "0.50", "3.00"]
    assert len({len(line) for line in lines}) == 1


def test_the_table_shows_who_failed_and_what_was_not_measured() -> None:
    failed = Result(comparison=comparison(), failures={US: "no daemon", "nginx": "missing"})
    skipped = Result(comparison=comparison(), skipped="out of time")
    text = report.table([failed, skipped])
    assert "| failed" in text
    assert "| nginx failed" in text
    assert "not measured: out of time" in text


def test_results_are_saved_by_case(tmp_path: Path) -> None:
    one = Result(comparison=comparison(case="https", reach=Reach(limit=0.9, against="nginx")))
    one.figures = {US: [100.123456], "nginx": [50]}
    two = Result(comparison=comparison(case="ftp"), skipped="out of time")
    paths = report.save(tmp_path, [one, two], machine={"cores": 2}, date="D", full=False)
    assert [path.name for path in paths] == ["https.json", "ftp.json"]
    saved = json.loads(paths[0].read_text())
    assert saved["machine"] == {"cores": 2}
    assert saved["date"] == "D"
    assert saved["results"][0]["rounds"] == {US: [100.1], "nginx": [50]}
    assert saved["results"][0]["ratio"] == {"nginx": 2.002}
    assert saved["results"][0]["reached"] is True
    assert saved["results"][0]["reach"] == {"limit": 0.9, "against": "nginx"}


def test_a_scene_shortens_what_does_not_fit() -> None:
    assert Scene(work=Path("w"), scale=0.5).seconds(30) == 15
    assert Scene(work=Path("w"), scale=0.5, full=True).seconds(30) == 120
