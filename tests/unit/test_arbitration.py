"""`scheduler.requeueon`: each sentence of schedulers.md section 6."""

from __future__ import annotations

import pytest

from ecpds.model.arbitration import VARIABLES, Arbiter, Rival, Verdict
from ecpds.model.expression import Expression
from ecpds.model.rules import compile_regex
from ecpds.model.status import TransferStatus

S = TransferStatus


def rival(number: int, size: int, status: TransferStatus = S.WAIT, time: int = 0) -> Rival:
    return Rival(id=number, time=time, size=size, status=status)


def judge(
    text: str, current: Rival, *others: Rival, is_retry: bool = False, target: str = "a.grib"
) -> Verdict:
    arbiter = Arbiter(Expression.parse(text, VARIABLES))
    return arbiter.judge(current, others, destination="D", target=target, is_retry=is_retry)


LARGER = "$size2 > $size1"


def test_example_the_larger_is_sent() -> None:
    """Current 10 B, other WAIT 20 B: current is held, by that one."""
    held = judge(LARGER, rival(2, 10), rival(1, 20))
    assert (held.is_sent, held.by) == (False, 1)
    assert judge(LARGER, rival(1, 20), rival(2, 10)).is_sent


def test_example_equal_ones_the_later_is_sent() -> None:
    """Both 20 B, neither started: the higher id is sent, the lower held."""
    assert not judge(LARGER, rival(1, 20), rival(2, 20)).is_sent
    assert judge(LARGER, rival(2, 20), rival(1, 20)).is_sent


@pytest.mark.parametrize("status", [S.DONE, S.EXEC, S.RETR])
def test_an_equal_one_under_way_holds_a_first_try(status: TransferStatus) -> None:
    held = judge(LARGER, rival(2, 20), rival(1, 20, status))
    assert (held.is_sent, held.by) == (False, 1)


def test_a_retry_gives_way_only_to_one_that_runs() -> None:
    assert judge(LARGER, rival(1, 20), rival(2, 20), is_retry=True).is_sent
    assert judge(LARGER, rival(1, 20), rival(2, 20, S.DONE), is_retry=True).is_sent
    assert not judge(LARGER, rival(1, 20), rival(2, 20, S.EXEC), is_retry=True).is_sent
    assert judge(LARGER, rival(3, 20), rival(2, 20, S.EXEC), is_retry=True).is_sent


def test_it_has_to_beat_all() -> None:
    assert judge(LARGER, rival(1, 30), rival(2, 10), rival(3, 20)).is_sent
    assert judge(LARGER, rival(1, 30), rival(2, 10), rival(3, 40)).by == 3


def test_newer_by_time_and_by_name() -> None:
    newer = "$time2 > $time1"
    assert judge(newer, rival(1, 1, time=2000), rival(2, 1, time=1000)).is_sent
    text = '"$target[0..1]" == "a" && $size2 > $size1'
    assert not judge(text, rival(1, 1), rival(2, 2)).is_sent


def test_an_expression_that_fails_beats_nobody() -> None:
    """Division by zero: all are tied, the later is sent."""
    assert judge("$size2 / $size1 > 1", rival(2, 5), rival(1, 0)).is_sent
    assert not judge("$size2 / $size1 > 1", rival(1, 0), rival(2, 0)).is_sent


def test_pattern_and_ignore_are_whole_matches() -> None:
    rule = Expression.parse(LARGER, VARIABLES)
    arbiter = Arbiter(rule, compile_regex(r".*\.grib"), compile_regex("x/.*"))
    names = ["a.grib", "a.grib2", "x/a.grib"]
    assert [arbiter.concerns(name) for name in names] == [True, False, False]
