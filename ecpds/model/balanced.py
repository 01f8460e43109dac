"""Texts with brackets and quotes: find the end, split, take the quotes away.

All rule languages of the hub share these: a separator or a closing bracket counts only outside of
inner brackets and quotes.  Inside `{}` stands a regular expression, so only braces count there and
quotes are plain characters; inside `[]` parentheses are plain.  A backslash takes the meaning from
the next character, except inside quotes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ecpds.model.place import Place

MAX_NESTING: Final = 32
"""Deepest nesting of brackets."""

_PAIRS: Final = {"(": ")", "[": "]", "{": "}"}
_OPENERS: Final = {"": "([{", ")": "([{", "]": "[{", "}": "{"}


def _marks(text: str, start: int, place: Place) -> Iterator[tuple[int, int, bool]]:
    """Yield index, depth and whether it is a quote mark, of each character outside of quotes.

    An opening bracket has the depth outside of it, and so has its closing one.  Escaped characters
    are left out.  `place` is where `text` begins.
    """
    stack: list[tuple[str, int]] = []
    here, end = start, len(text)
    while here < end:
        sign = text[here]
        wanted = stack[-1][0] if stack else ""
        if sign == "\\":
            here += 2
            continue
        if sign in "\"'" and wanted != "}":
            yield here, len(stack), True
            here = _closing_quote(text, here, place)
            yield here, len(stack), True
        elif sign == wanted:
            stack.pop()
            yield here, len(stack), False
        else:
            yield here, len(stack), False
            if sign in _OPENERS[wanted]:
                _push(stack, sign, here, place)
        here += 1
    if stack:
        here = stack[-1][1]
        raise place.moved(here).error(f"the bracket {text[here]} is never closed")


def _closing_quote(text: str, here: int, place: Place) -> int:
    close = text.find(text[here], here + 1)
    if close < 0:
        raise place.moved(here).error(f"the quote {text[here]} is never closed")
    return close


def _push(stack: list[tuple[str, int]], sign: str, here: int, place: Place) -> None:
    stack.append((_PAIRS[sign], here))
    if len(stack) > MAX_NESTING:
        raise place.moved(here).error(f"more than {MAX_NESTING} brackets inside each other")


def closing(text: str, start: int, place: Place) -> int:
    """Return the index of the bracket that closes the one at `start`.

    `place` is where `text` begins.

    Raises:
        RuleError: it, an inner bracket or a quote is never closed.
    """
    wanted = _PAIRS[text[start]]
    marks = _marks(text, start, place)
    return next(here for here, depth, _ in marks if not depth and text[here] == wanted)


def split(text: str, separators: str, place: Place) -> list[tuple[int, str]]:
    """Cut at each of the separator characters outside of brackets and quotes.

    Returns offset and raw text of each part, not trimmed, at least one.

    Raises:
        RuleError: a bracket or quote is never closed.
    """
    parts: list[tuple[int, str]] = []
    begun = 0
    for here, depth, is_quote in _marks(text, 0, place):
        if depth == 0 and not is_quote and text[here] in separators:
            parts.append((begun, text[begun:here]))
            begun = here + 1
    parts.append((begun, text[begun:]))
    return parts


def find_operator(text: str, operators: tuple[str, ...], place: Place) -> tuple[int, str] | None:
    """Return index and text of the leftmost operator outside of brackets and quotes.

    Where several begin at one place the first of `operators` counts.
    """
    for here, depth, is_quote in _marks(text, 0, place):
        if depth or is_quote:
            continue
        for operator in operators:
            if text.startswith(operator, here):
                return here, operator
    return None


def unquoted(text: str, place: Place) -> str:
    """Return the text without the quotes that stand outside of brackets."""
    marks = [here for here, depth, is_quote in _marks(text, 0, place) if is_quote and depth == 0]
    if not marks:
        return text
    kept, begun = [], 0
    for here in marks:
        kept.append(text[begun:here])
        begun = here + 1
    return "".join(kept) + text[begun:]


def unwrapped(text: str) -> str:
    """Return the text without one pair of quotes around all of it; inner quotes stay.

    For values in which quotes mean something, as expressions and date patterns.
    """
    if len(text) > 1 and text[0] in "\"'" and text.find(text[0], 1) == len(text) - 1:
        return text[1:-1]
    return text
