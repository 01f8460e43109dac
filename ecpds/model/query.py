r"""The search language of the lists: `[key OP value]…`, a word alone means the default key.

All terms must hold.  OP is `=` or `!=`, for numbers also `<` `>` `<=` `>=`; `*` and `?` in texts
stand for any characters and for one; a word alone without them may stand anywhere in the default
key.  Quotes hold blanks, `\` takes the next character as it is, `case=i` makes texts equal
whatever their case.  Spec: monitor.md 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ecpds.model import units
from ecpds.model.errors import InputError
from ecpds.model.names import nearest

Kind = Literal["text", "number", "size", "flag"]
Piece = tuple[str, bool]  # a character, and whether it may be a wildcard
Value = str | int | bool | None

LONGEST: Final = 1000  # characters of a query
MOST_TERMS: Final = 30
MOST_STARS: Final = 8  # in one value: more would make SQLite's GLOB slow
_ANY: Final[Piece] = ("*", True)
_WILD: Final[tuple[Piece, ...]] = (_ANY, ("?", True))
_OPERATORS: Final = ("!=", "<=", ">=", "=", "<", ">")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with wildcards."""

    pieces: tuple[Piece, ...]
    ignore_case: bool = False

    @property
    def text(self) -> str:
        """Return what was written, without quotes and backslashes."""
        return "".join(character for character, _ in self.pieces)

    @property
    def is_exact(self) -> bool:
        """Whether it holds no wildcard."""
        return not any(free and character in "*?" for character, free in self.pieces)

    @property
    def glob(self) -> str:
        """Return the same for SQLite's GLOB, which knows brackets and minds the case."""
        return "".join(
            f"[{character}]" if character == "[" or (character in "*?" and not free) else character
            for character, free in self.pieces
        )

    def matches(self, text: str) -> bool:
        """Tell whether the whole text fits; takes at most the product of both lengths."""
        subject = text.casefold() if self.ignore_case else text
        pieces = [
            (c.casefold() if self.ignore_case else c, free and c in "*?") for c, free in self.pieces
        ]
        return _fits(pieces, subject)


def _fits(pieces: list[Piece], subject: str) -> bool:
    at = place = 0
    star = mark = -1
    while place < len(subject):
        here = pieces[at] if at < len(pieces) else ("", False)
        if here == _ANY:
            star, mark, at = at, place, at + 1
        elif here == _WILD[1] or (here[0] == subject[place] and not here[1]):
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return all(piece == _ANY for piece in pieces[at:])


@dataclass(frozen=True, slots=True)
class Term:
    """One condition."""

    key: str
    operator: str
    pattern: Pattern | None = None
    number: int = 0
    flag: bool = False

    def holds(self, value: Value) -> bool:
        """Tell whether a value fulfils it."""
        if self.pattern is not None:
            found = self.pattern.matches(str(value or ""))
            return found is (self.operator == "=")
        if isinstance(value, bool):
            return (value is self.flag) is (self.operator == "=")
        number = int(value or 0)
        return {
            "=": number == self.number,
            "!=": number != self.number,
            "<": number < self.number,
            ">": number > self.number,
            "<=": number <= self.number,
            ">=": number >= self.number,
        }[self.operator]


@dataclass(frozen=True, slots=True)
class Search:
    """All conditions of one query."""

    terms: tuple[Term, ...] = ()

    def matches(self, value_of: Callable[[str], Value]) -> bool:
        """Tell whether all terms hold; `value_of` gives the value of a key."""
        return all(term.holds(value_of(term.key)) for term in self.terms)

    def taken(self, key: str) -> Pattern | None:
        """Return the pattern of the first `key=…` that minds the case, for the store."""
        for term in self.terms:
            pattern = term.pattern if term.key == key and term.operator == "=" else None
            if pattern is not None and not pattern.ignore_case:
                return pattern
        return None


def parse(text: str, keys: Mapping[str, Kind], default: str) -> Search:
    """Read a query.

    Raises:
        InputError: unknown key, wrong type or form; names the term.
    """
    if len(text) > LONGEST:
        raise InputError(f"a query has at most {LONGEST} characters", pointer="q")
    words = list(_words(text))
    if len(words) > MOST_TERMS:
        raise InputError(f"a query has at most {MOST_TERMS} terms", pointer="q")
    split = [_split(word, default) for word in words]
    ignore = any(key == "case" and _plain(value) == "i" for key, _, value in split)
    terms = tuple(_term(*one, keys, ignore) for one in split if one[0] != "case")
    return Search(terms)


_WORD: Final = re.compile(r'(?:[^\s"\\]|"(?:[^"\\]|\\.)*"|\\.)+', re.DOTALL)
_PIECE: Final = re.compile(r'\\(?P<literal>.)|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>.)', re.DOTALL)


def _words(text: str) -> Iterator[list[Piece]]:
    """Yield the words; a quoted or escaped character is no operator and no blank."""
    end = 0
    for found in _WORD.finditer(text):
        if text[end : found.start()].strip():
            break
        end = found.end()
        yield list(_pieces(found[0], quoted=False))
    if text[end:].strip():
        raise InputError("the query ends inside of quotes or behind a backslash", pointer="q")


def _pieces(word: str, *, quoted: bool) -> Iterator[Piece]:
    for found in _PIECE.finditer(word):
        if found["quoted"] is not None:
            yield from _pieces(found["quoted"], quoted=True)
        elif found["literal"] is not None:
            yield found["literal"], False
        else:
            yield found["bare"], not quoted or found["bare"] in "*?"


def _split(word: list[Piece], default: str) -> tuple[str, str, list[Piece]]:
    plain = "".join(character if free else "\0" for character, free in word)
    places = [
        (plain.index(operator), -len(operator), operator)
        for operator in _OPERATORS
        if operator in plain
    ]
    if not places:
        return default, "=", word if any(piece in _WILD for piece in word) else [_ANY, *word, _ANY]
    place, _, operator = min(places)
    return plain[:place].lower(), operator, word[place + len(operator) :]


def _plain(value: list[Piece]) -> str:
    return "".join(character for character, _ in value)


def _term(
    key: str, operator: str, value: list[Piece], keys: Mapping[str, Kind], ignore_case: bool
) -> Term:
    kind = keys.get(key)
    if kind is None:
        near = nearest(key, keys)
        hint = f" (did you mean {near!r}?)" if near else f"; known are {', '.join(keys)}"
        raise InputError(f"there is no key {key!r}{hint}", pointer="q")
    text = _plain(value)
    if kind in {"text", "flag"} and operator not in {"=", "!="}:
        raise InputError(f"{key} can only be = or !=, not {operator}", pointer="q")
    if kind == "text":
        if sum(piece == _ANY for piece in value) > MOST_STARS:
            raise InputError(f"{key}: at most {MOST_STARS} stars", pointer="q")
        return Term(key, operator, Pattern(tuple(value), ignore_case))
    if kind == "flag":
        return Term(key, operator, flag=units.parse_bool(text))
    return Term(key, operator, number=_number(key, kind, text))


def _number(key: str, kind: Kind, text: str) -> int:
    if kind == "size":
        return units.parse_bytes(text, legacy_unit="b")
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()):
        raise InputError(f"{key}: {text!r} is no whole number", pointer="q")
    if len(text) > 18:
        raise InputError(f"{key}: {text!r} is too large", pointer="q")
    return int(text)
