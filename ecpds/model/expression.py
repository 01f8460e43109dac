"""Small safe expressions: `$size > 10KB && $age < 2d`, `"$target[0..2]" == "E1" or $size2 > 0`.

Numbers, texts, comparisons, `and or not && || !`, `+ - * / %` and brackets; no names, no calls, no
attributes, no loops: an expression cannot do more than answer.  Sizes (`10KB`) are bytes, times
(`2d`) are milliseconds, as the variables are.  Limits: 4096 characters, 512 parts, 32 brackets
deep; results of arithmetic stay below 10**30, texts below 65536 characters.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from ecpds.model.errors import InputError, RuleError
from ecpds.model.place import Place
from ecpds.model.tokens import Pieces, Token, Vocabulary, parse_pieces
from ecpds.model.tokenvalues import constant, render_pieces, token_value
from ecpds.model.units import parse_bytes, parse_duration

MAX_TEXT: Final = 4096
MAX_DEPTH: Final = 32
MAX_PARTS: Final = 512
_BIGGEST: Final = 10**30
_LONGEST: Final = 65_536

Value = int | float | str | bool
Values = Mapping[str, int | float | str]
_Node = Callable[[Values], Value]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    variables: frozenset[str]
    _run: _Node = field(repr=False, compare=False)

    @classmethod
    def parse(
        cls, text: str, variables: Iterable[str], *, place: Place | None = None
    ) -> Expression:
        """Compile; `variables` are the names that may stand behind a `$`, in any case.

        Raises:
            RuleError: syntax, unknown variable, or above a limit; names the column.
        """
        where = place or Place()
        if len(text) > MAX_TEXT:
            raise where.error(f"an expression has at most {MAX_TEXT} characters")
        vocabulary = Vocabulary.make(" ".join(variables))
        parser = _Parser(text, vocabulary, where)
        run = parser.whole()
        return cls(text, frozenset(parser.used), run)

    def value(self, values: Values) -> Value:
        """Compute the value.

        Raises:
            RuleError: a text where a number is needed, division by zero, a slice out of range, or
                a result above a limit.
        """
        try:
            return self._run(values)
        except InputError as error:
            raise RuleError(f"{self.text[:80]!r}: {error.message}") from None
        except (ZeroDivisionError, OverflowError, ValueError) as error:
            raise RuleError(f"{self.text[:80]!r}: {error}") from None

    def is_true(self, values: Values) -> bool:
        """Tell whether the value counts as true: neither 0 nor empty; raises as `value`."""
        return bool(self.value(values))

    def __str__(self) -> str:
        return self.text


# --- reading -------------------------------------------------------------------------------------

_LEXEME: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<unit>[A-Za-z]*)
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<variable>\$[A-Za-z]+[0-9]*(?:\[[^\]]*\])?)
    |(?P<sign>===|!==|==|!=|<=|>=|&&|\|\||[-+*/%()<>!=])
    |(?P<word>[A-Za-z_]+)""",
    re.VERBOSE | re.ASCII,
)
_WORDS: Final = {"and": "&&", "or": "||", "not": "not", "true": "true", "false": "false"}
_SAME: Final = {"===": "==", "!==": "!=", "=": "=="}


@dataclass(frozen=True, slots=True)
class _Lexeme:
    kind: str
    text: str
    column: int
    unit: str = ""


def _lexemes(text: str, place: Place) -> list[_Lexeme]:
    found: list[_Lexeme] = []
    here = 0
    while here < len(text):
        match = _LEXEME.match(text, here)
        if match is None:
            raise place.moved(here).error(f"unexpected {text[here]!r} in an expression")
        if match.lastgroup != "space":
            found.append(_lexeme(match, place))
        here = match.end()
    if len(found) > MAX_PARTS:
        raise place.error(f"an expression has at most {MAX_PARTS} parts")
    found.append(_Lexeme("end", "", here))
    return found


def _lexeme(match: re.Match[str], place: Place) -> _Lexeme:
    here, text = match.start(), match[0]
    if match["number"] is not None:
        return _Lexeme("number", match["number"], here, match["unit"])
    if match["word"] is not None:
        if (sign := _WORDS.get(text.lower())) is None:
            raise place.moved(here).error(
                f"unknown word {text!r}; quote texts, and write variables as $size"
            )
        return _Lexeme("sign", sign, here)
    if match["sign"] is not None:
        return _Lexeme("sign", _SAME.get(text, text), here)
    return _Lexeme(match.lastgroup or "", text, here)


class _Parser:
    """Recursive descent; lives only while one expression is compiled."""

    def __init__(self, text: str, vocabulary: Vocabulary, place: Place) -> None:
        self._vocabulary = vocabulary
        self._place = place
        self._left = _lexemes(text, place)[::-1]
        self._depth = 0
        self.used: set[str] = set()

    def whole(self) -> _Node:
        node = self._or()
        rest = self._left[-1]
        if rest.kind != "end":
            raise self._error(rest, f"unexpected {rest.text!r}")
        return node

    def _error(self, at: _Lexeme, message: str) -> RuleError:
        return self._place.moved(at.column).error(f"{message} in an expression")

    def _take(self, *signs: str) -> str:
        """Return the next sign if it is one of these, and pass it; else an empty text."""
        top = self._left[-1]
        if top.kind == "sign" and top.text in signs:
            self._left.pop()
            return top.text
        return ""

    def _or(self) -> _Node:
        nodes = [self._and()]
        while self._take("||"):
            nodes.append(self._and())
        return nodes[0] if len(nodes) == 1 else _either(nodes)

    def _and(self) -> _Node:
        nodes = [self._not()]
        while self._take("&&"):
            nodes.append(self._not())
        return nodes[0] if len(nodes) == 1 else _every(nodes)

    def _not(self) -> _Node:
        is_negated = False
        while self._take("not"):  # binds weaker than a comparison, `!` binds stronger
            is_negated = not is_negated
        node = self._comparison()
        return _negation(node) if is_negated else node

    def _comparison(self) -> _Node:
        node = self._sum()
        while sign := self._take("==", "!=", "<=", ">=", "<", ">"):
            node = _compared(sign, node, self._sum())
        return node

    def _sum(self) -> _Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = _computed(sign, node, self._product())
        return node

    def _product(self) -> _Node:
        node = self._single()
        while sign := self._take("*", "/", "%"):
            node = _computed(sign, node, self._single())
        return node

    def _single(self) -> _Node:
        sign = 1
        while found := self._take("-", "+"):
            sign = -sign if found == "-" else sign
        node = self._atom()
        return node if sign == 1 else _computed("*", _fixed(-1), node)

    def _atom(self) -> _Node:
        top = self._left.pop()
        if top.kind == "number":
            return _fixed(self._number(top))
        if top.kind == "text":
            return self._text(top)
        if top.kind == "variable":
            return self._variable(top)
        if top.kind == "sign" and top.text in {"true", "false"}:
            return _fixed(top.text == "true")
        if top.kind == "sign" and top.text in {"(", "!"}:
            return self._bracket(top)
        raise self._error(top, f"unexpected {top.text!r}" if top.text else "something is missing")

    def _bracket(self, top: _Lexeme) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(top, f"more than {MAX_DEPTH} brackets inside each other")
        if top.text == "!":
            node = _negation(self._single())
        else:
            node = self._or()
            if not self._take(")"):
                raise self._error(top, "the bracket ( is never closed")
        self._depth -= 1
        return node

    def _number(self, top: _Lexeme) -> int | float:
        if not top.unit:
            number = float(top.text) if set(top.text) & set(".eE") else int(top.text[:_DIGITS])
            if len(top.text) > _DIGITS or number > _BIGGEST:
                raise self._error(top, "the number is too big")
            return int(number) if number == int(number) else number
        try:
            return _with_unit(top.text + top.unit)
        except InputError as error:
            raise self._error(top, error.message) from None

    def _text(self, top: _Lexeme) -> _Node:
        pieces = self._pieces(top.text[1:-1], top.column + 1)
        plain = constant(pieces)
        return _fixed(plain) if plain is not None else _filled(pieces)

    def _variable(self, top: _Lexeme) -> _Node:
        pieces = self._pieces(top.text, top.column)
        token = pieces[0]
        if len(pieces) != 1 or isinstance(token, str):
            raise self._error(top, f"unknown variable {top.text!r}")
        return _looked_up(token)

    def _pieces(self, text: str, column: int) -> Pieces:
        place = self._place.moved(column)
        pieces = parse_pieces(text, self._vocabulary, place=place)
        self.used |= {piece.id for piece in pieces if isinstance(piece, Token)}
        return pieces


_DIGITS: Final = 30


def _with_unit(text: str) -> int:
    """Milliseconds of `2d`, bytes of `10KB`; `m` is minutes and `M` alone is not taken for MB."""
    for read in (_milliseconds, parse_bytes):
        try:
            return read(text)
        except InputError:
            continue
    raise InputError(f"{text[:40]!r} is neither a size as 10KB nor a length of time as 2d")


def _milliseconds(text: str) -> int:
    return parse_duration(text) // timedelta(milliseconds=1)


# --- computing -----------------------------------------------------------------------------------


def _fixed(value: Value) -> _Node:
    return lambda _: value


def _looked_up(token: Token) -> _Node:
    name = token.id

    def run(values: Values) -> Value:
        value = values.get(name)
        if value is None:
            raise RuleError(f"${name} has no value")
        if not token.steps:
            return value
        return token_value(token, {name: str(value)})

    return run


def _filled(pieces: Pieces) -> _Node:
    return lambda values: render_pieces(pieces, {key: str(value) for key, value in values.items()})


def _either(nodes: list[_Node]) -> _Node:
    return lambda values: any(node(values) for node in nodes)


def _every(nodes: list[_Node]) -> _Node:
    return lambda values: all(node(values) for node in nodes)


def _negation(node: _Node) -> _Node:
    return lambda values: not node(values)


_COMPARE: Final[Mapping[str, Callable[[Value, Value], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compared(sign: str, left: _Node, right: _Node) -> _Node:
    compare = _COMPARE[sign]
    is_order = sign not in {"==", "!="}

    def run(values: Values) -> Value:
        first, second = left(values), right(values)
        if is_order and isinstance(first, str) is not isinstance(second, str):
            raise RuleError(f"{first!r} {sign} {second!r} compares a text with a number")
        return compare(first, second)

    return run


_COMPUTE: Final[Mapping[str, Callable[[int | float, int | float], int | float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def _computed(sign: str, left: _Node, right: _Node) -> _Node:
    compute = _COMPUTE[sign]

    def run(values: Values) -> Value:
        first, second = left(values), right(values)
        if sign == "+" and (isinstance(first, str) or isinstance(second, str)):
            return _limited_text(f"{first}{second}")
        if isinstance(first, str) or isinstance(second, str):
            raise RuleError(f"{first!r} {sign} {second!r} computes with a text")
        result = compute(first, second)
        if abs(result) > _BIGGEST:
            raise RuleError("a number grew too big")
        return result

    return run


def _limited_text(text: str) -> str:
    if len(text) > _LONGEST:
        raise RuleError(f"a text grew longer than {_LONGEST} characters")
    return text
