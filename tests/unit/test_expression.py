"""Safe expressions: what they compute, and that they can do nothing else."""

from __future__ import annotations

import pytest

from ecpds.model.errors import RuleError
from ecpds.model.expression import Expression, Value

NAMES = ("size", "age", "time1", "time2", "size1", "size2", "target")
VALUES: dict[str, int | float | str] = {
    "size": 11,
    "age": 3,
    "time1": 100,
    "time2": 200,
    "size1": 10,
    "size2": 10,
    "target": "E1x",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$size > 10 && $size < 1e6", True),
        ("$time2 > $time1 && $size2 != $size1", False),
        ("$time2 > $time1 and not $size2 != $size1", True),
        ("$size == 12 || $SIZE == 11", True),
        ("$size = 11 or 1/0", True),
        ("""'$target[0..2]' == "E1" """, True),
        ("$target[0..2] === 'E1'", True),
        ("$target !== 'E1'", True),
        ("$target[-1]", "x"),
        ("$target[0..1|lower]", "e"),
        ("'$target-' + 1", "E1x-1"),
        ("1+2*3-4/2", 5.0),
        ("7 % 4", 3),
        ("-(2 + 3)", -5),
        ("--2 + +1", 3),
        ("!($size == 11)", False),
        ("!!1", True),
        ("not 0", True),
        ("not not 1", True),
        ("not $size == 12", True),
        ("$size < 5 == false", True),
        ("2d > 1h and 10KB == 10240", True),
        ("1s", 1000),
        (".5 + 1.", 1.5),
        ("'a' < 'b'", True),
        ("1 == '1'", False),
        ("true", True),
    ],
)
def test_an_expression_has_a_value(text: str, value: Value) -> None:
    assert Expression.parse(text, NAMES).value(VALUES) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: something is missing"),
        ("1 +", "column 4: something is missing"),
        ("1 2", "column 3: unexpected '2'"),
        ("(1", "column 1: the bracket \\( is never closed"),
        (")", "column 1: unexpected '\\)'"),
        ("$siez > 1", "did you mean \\$size"),
        ("$foo", "unknown token"),
        ("$sizes", "unknown variable"),
        ("size > 1", "unknown word 'size'"),
        ("__import__('os')", "unknown word '__import__'"),
        ("$size.real", "unexpected '.'"),
        ("$size[0][1]", "unexpected"),
        ("[1]", "unexpected"),
        ("'abc", "unexpected"),
        ("1e99", "too big"),
        ("9" * 40, "too big"),
        ("10q", "neither a size"),
        ("(" * 33 + "1" + ")" * 33, "more than 32 brackets"),
        ("!" * 33 + "1", "more than 32 brackets"),
        ("1+" * 300 + "1", "at most 512 parts"),
        ("1" + " " * 5000, "at most 4096 characters"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        Expression.parse(text, NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/0", "division by zero"),
        ("5 % 0", "zero"),
        ("$size > 'a'", "compares a text with a number"),
        ("$target - 1", "computes with a text"),
        ("-$target", "computes with a text"),
        ("$target[9] == 'x'", "has no characters 9"),
        ("9e29 * 10", "grew too big"),
        ("'$target' == $size1", None),
    ],
)
def test_an_error_while_computing_names_the_expression(text: str, message: str | None) -> None:
    expression = Expression.parse(text, NAMES)
    if message is None:
        assert expression.is_true(VALUES) is False
        return
    with pytest.raises(RuleError, match=message):
        expression.value(VALUES)


def test_a_value_that_is_not_known_is_an_error() -> None:
    with pytest.raises(RuleError, match=r"\$age has no value"):
        Expression.parse("$age > 1", NAMES).value({"size": 1})


def test_a_text_cannot_grow_without_limit() -> None:
    expression = Expression.parse("'$target' + $target + $target", NAMES)
    with pytest.raises(RuleError, match="longer"):
        expression.value({"target": "x" * 30_000})


def test_an_expression_knows_its_variables_and_its_text() -> None:
    expression = Expression.parse("$Size > 1 && '$target' == 'x'", NAMES)
    assert expression.variables == {"size", "target"}
    assert str(expression) == "$Size > 1 && '$target' == 'x'"


def test_many_parts_do_not_exhaust_the_stack() -> None:
    assert Expression.parse("1" + "+1" * 255, NAMES).value({}) == 256
    assert Expression.parse("(" * 32 + "1" + ")" * 32, NAMES).value({}) == 1
