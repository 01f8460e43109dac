"""Tests of size and age: `>10KB`, `<=5d`, `=0`, or an expression such as `$size > 10 && $age < 2d`.

A size without a unit is a count of bytes here, as `$size` is in expressions; an age needs its unit.

Spec: acquisition.md section 6.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from ecpds.model.errors import InputError, RuleError
from ecpds.model.expression import Expression
from ecpds.model.units import parse_bytes, parse_duration

OPERATORS: Final = ("==", ">=", "<=", "!=", "=", "<", ">")

_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
}
_MICRO: Final = timedelta(microseconds=1)

Kind = Literal["size", "age"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A compiled test; sizes are bytes (-1 unknown), ages microseconds."""

    text: str
    compare: Callable[[int, int], bool]
    value: int
    expression: Expression | None = None

    @classmethod
    def parse(cls, text: str, kind: Kind, *, legacy: bool = False) -> Comparison:
        """Compile `value`, `<op>value`, `=<op>value` or an expression of `$size` and `$age`.

        `legacy` takes an age without a unit for hours.

        Raises:
            RuleError: doubled or unknown operator, unreadable value, bad expression.
        """
        bare = text.strip()
        if "$" in bare:
            return cls(bare, operator.eq, 0, Expression.parse(bare, ("size", "age")))
        sign, value = _operator(bare)
        if sign == "=":
            inner, rest = _operator(value)
            sign, value = inner or sign, rest
        if not value or _operator(value)[0]:
            raise RuleError(f"{text!r} is no comparison; write for example {_EXAMPLES[kind]}")
        return cls(bare, _COMPARE[sign or "=="], _value(value, kind, legacy=legacy))

    def of_size(self, size: int) -> bool:
        """Compare a size in bytes, -1 when unknown; raises RuleError if an expression fails."""
        if self.expression is not None:
            return self.expression.is_true({"size": size})
        return self.compare(size, self.value)

    def of_age(self, age: timedelta, size: int) -> bool:
        """Compare an age; raises RuleError if an expression fails."""
        if self.expression is not None:
            milliseconds = age // timedelta(milliseconds=1)
            return self.expression.is_true({"size": size, "age": milliseconds})
        return self.compare(age // _MICRO, self.value)


_EXAMPLES: Final = {"size": ">10KB, <=2GB or =0", "age": "<6h or >=2d"}


def _operator(text: str) -> tuple[str, str]:
    """Return the operator in front, empty if there is none, and the rest."""
    for sign in OPERATORS:
        if text.startswith(sign):
            return sign, text[len(sign) :].strip()
    return "", text


def _value(text: str, kind: Kind, *, legacy: bool) -> int:
    try:
        if kind == "size":
            return parse_bytes(text, legacy_unit="b")
        return parse_duration(text, legacy_unit="h" if legacy else None) // _MICRO
    except InputError as error:
        raise RuleError(error.message) from None
