"""Values into parsed texts: the other half of `tokens`.

Pure functions of pieces, values and the time.  Values are texts by token id (`target`,
`metadata[type]`); a missing one is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from ecpds.model.dates import DEFAULT_FORMAT, expand_date
from ecpds.model.errors import InputError, TemplateError
from ecpds.model.tokens import NO_DATE, DateParams, Piece, Pieces, Token

MAX_RESULT: Final = 65_536
"""Longest result of inserting values, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """What the date tokens of a text depend on: the time, and defaults by token name."""

    now: datetime
    defaults: Mapping[str, DateParams] = field(default_factory=dict)


def render_pieces(pieces: Pieces, values: Mapping[str, str], dates: Dates | None = None) -> str:
    """Insert values by token id; a missing one is empty.

    Raises:
        TemplateError: a slice is out of range, a date cannot be read, or the result is too long.
    """
    parts = [
        piece if isinstance(piece, str) else token_value(piece, values, dates) for piece in pieces
    ]
    result = "".join(parts)
    if len(result) > MAX_RESULT:
        raise TemplateError(f"the result is longer than {MAX_RESULT} characters")
    return result


def token_value(token: Token, values: Mapping[str, str], dates: Dates | None = None) -> str:
    """Return the value of one token after its slice and filters; raises as `render_pieces`."""
    if token.date is None:
        value = values.get(token.id, "")
    else:
        value = _date_value(token, token.date, values, dates)
    for step in token.steps:
        value = _STEPS[step.name](token, step.arguments, value)
    return value


def _date_value(
    token: Token, params: DateParams, values: Mapping[str, str], dates: Dates | None
) -> str:
    if dates is None:
        raise TemplateError(f"{token.text} has no date here")
    full = params.over(dates.defaults.get(token.id, NO_DATE))
    source = None if full.datesource is None else render_pieces(full.datesource, values)
    try:
        return expand_date(
            dates.now,
            dateformat=full.dateformat or DEFAULT_FORMAT,
            delta=full.datedelta or timedelta(0),
            source=source or None,
            datepattern=full.datepattern,
            zone=full.timezone or UTC,
        )
    except InputError as error:
        raise TemplateError(f"{token.text}: {error.message}") from None


def _sliced(token: Token, arguments: tuple[str, ...], value: str) -> str:
    first, dots, last = arguments[0].partition("..")
    start, length = int(first), len(value)
    end = int(last) if dots else length
    if start < 0:
        start += length
    if not 0 <= start <= end <= length:
        raise TemplateError(f"{token.text}: {value!r} has no characters {arguments[0]}")
    return value[start:end]


_STEPS: Final[Mapping[str, Callable[[Token, tuple[str, ...], str], str]]] = {
    "slice": _sliced,
    "lower": lambda _token, _arguments, value: value.lower(),
    "upper": lambda _token, _arguments, value: value.upper(),
    "replace": lambda _token, arguments, value: value.replace(arguments[0], arguments[1]),
    "default": lambda _token, arguments, value: value or arguments[0],
}


def settled(pieces: Pieces, dates: Dates) -> Pieces:
    """Return the pieces with those date tokens inserted that no later value can change.

    Done once per run, it keeps dates out of the work per entry.
    """
    if not any(isinstance(piece, Token) and piece.date is not None for piece in pieces):
        return pieces
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Token) and piece.date is not None and _is_fixed(piece, dates):
            found.append(token_value(piece, {}, dates))
        else:
            found.append(piece)
    return joined(found)


def _is_fixed(token: Token, dates: Dates) -> bool:
    params = (token.date or NO_DATE).over(dates.defaults.get(token.id, NO_DATE))
    return all(isinstance(piece, str) for piece in params.datesource or ())


def joined(pieces: list[Piece]) -> Pieces:
    """Return the pieces with neighbouring literal texts made one."""
    found: list[Piece] = []
    for piece in pieces:
        if found and isinstance(piece, str) and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return tuple(found)


def constant(pieces: Pieces) -> str | None:
    """Return the text when there is no token in it, else None."""
    if not pieces:
        return ""
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], str) else None
