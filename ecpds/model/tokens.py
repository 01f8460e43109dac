"""Texts with tokens: `$target[0..4]`, `$metadata[type|upper]`, `$date[dateformat=yyyy/DDD]`.

A text is parsed once into pieces, and values are inserted into the pieces (`tokenvalues`): whatever
a value contains, it is never read as a rule, a separator or another token.  Which tokens exist
depends on where the text stands; that is its vocabulary.

    $token  $token[a..b]  $token[n]  $token[-n]     characters a to b-1, from n on, the last n
    $section[key]  $section[key][a..b]              a value of a group, with or without a slice
    |lower  |upper  |replace:x:y  |default:text     filters, inside the brackets, in their order
    $date[dateformat=..,datedelta=..,datesource=..,datepattern=..,timezone=..]

A filter that is no filter's name is the default text: `$metadata[type|oper]`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from typing import Final

from ecpds.model import balanced
from ecpds.model.dates import DatePattern, parse_zone
from ecpds.model.errors import InputError
from ecpds.model.names import nearest
from ecpds.model.place import Place
from ecpds.model.units import parse_duration

MAX_TEMPLATE: Final = 65_536
"""Longest text with tokens, in characters."""

MAX_TOKENS: Final = 256
"""Most tokens in one text."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that a text may use; names are found in any case."""

    simple: Mapping[str, str]  # lower case to the real name
    sections: Mapping[str, tuple[str, Mapping[str, str] | None]]  # None: any key
    dates: frozenset[str]  # those of `simple` that take date parameters

    @classmethod
    def make(
        cls, simple: str = "", dates: str = "", sections: Mapping[str, str | None] | None = None
    ) -> Vocabulary:
        """Declare names separated by blanks; a section with None has any key."""
        names = [*simple.split(), *dates.split()]
        return cls(
            {name.lower(): name for name in names},
            {
                name.lower(): (name, None if keys is None else {k.lower(): k for k in keys.split()})
                for name, keys in (sections or {}).items()
            },
            frozenset(dates.split()),
        )

    def names(self) -> list[str]:
        """Return all names with their `$`, for suggestions."""
        sections = (name for name, _ in self.sections.values())
        return [f"${name}" for name in (*self.simple.values(), *sections)]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a value: `slice` with its text, or a filter with its arguments."""

    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DateParams:
    """Parameters of a date token; None is not given."""

    dateformat: DatePattern | None = None
    datedelta: timedelta | None = None
    datesource: Pieces | None = None
    datepattern: DatePattern | None = None
    timezone: tzinfo | None = None

    def over(self, base: DateParams) -> DateParams:
        """Return these parameters, the missing ones taken from `base`."""
        return DateParams(
            dateformat=self.dateformat or base.dateformat,
            datedelta=base.datedelta if self.datedelta is None else self.datedelta,
            datesource=base.datesource if self.datesource is None else self.datesource,
            datepattern=self.datepattern or base.datepattern,
            timezone=self.timezone or base.timezone,
        )


NO_DATE: Final = DateParams()


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `id` is its real name, with the key in brackets if it has one."""

    id: str
    text: str
    steps: tuple[Step, ...] = ()
    date: DateParams | None = None  # only of a date token


Piece = str | Token
Pieces = tuple[Piece, ...]


# --- parsing -------------------------------------------------------------------------------------

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_SLICE: Final = re.compile(r"-?[0-9]{1,6}|[0-9]{1,6}\.\.[0-9]{1,6}", re.ASCII)
_FILTERS: Final[Mapping[str, int]] = {"lower": 0, "upper": 0, "replace": 2, "default": 1}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Parsing of one text; the flags are those of `parse_pieces`."""

    text: str
    vocabulary: Vocabulary
    place: Place
    keep: bool
    plain: bool
    legacy: bool

    def pieces(self) -> Pieces:
        found: list[Piece] = []
        here = begun = 0
        count = 0
        while (here := self.text.find("$", here)) >= 0:
            token, end = self.token(here)
            if token is not None:
                found += [self.text[begun:here], token]
                begun = end
                count += 1
                if count > MAX_TOKENS:
                    raise self.place.moved(here).error(f"more than {MAX_TOKENS} tokens")
            here = end
        found.append(self.text[begun:])
        return tuple(piece for piece in found if piece != "")

    def token(self, here: int) -> tuple[Token | None, int]:
        """Return the token at a `$` and the place behind it, None for plain text."""
        match = _WORD.match(self.text, here + 1)
        if match is None:
            if not self.keep and self.text.startswith("${", here):
                raise self.place.moved(here).error("${...} is not known here")
            return None, here + 1
        word, end = match[0], match.end()
        if self.text.startswith("[", end) and word.lower() in self.vocabulary.sections:
            return self.section(here, word.lower(), end)
        for length in range(len(word), 0, -1):
            name = self.vocabulary.simple.get(word[:length].lower())
            if name is not None:
                return self.simple(here, name, here + 1 + length)
        return self.unknown(here, f"${word}", end)

    def unknown(self, here: int, shown: str, end: int) -> tuple[None, int]:
        if self.keep:
            return None, end
        if shown[1:].lower() in self.vocabulary.sections:
            raise self.place.moved(here).error(f"{shown} needs a name in brackets: {shown}[...]")
        hint = nearest(shown, self.vocabulary.names())
        raise self.place.moved(here).error(
            f"unknown token {shown}" + (f" (did you mean {hint}?)" if hint else "")
        )

    def inside(self, here: int, *, nested: bool = False) -> tuple[str, int]:
        """Return what stands in the brackets at `here`, and the place behind them."""
        if self.legacy and not nested:
            end = self.text.find("]", here)
            if end < 0:
                raise self.place.moved(here).error("the bracket [ is never closed")
        else:
            end = balanced.closing(self.text, here, self.place)
        return self.text[here + 1 : end], end + 1

    def section(self, here: int, lowered: str, bracket: int) -> tuple[Token | None, int]:
        name, keys = self.vocabulary.sections[lowered]
        inner, end = self.inside(bracket)
        head, steps = self.filtered(inner, bracket + 1)
        key = head.strip() if keys is None else keys.get(head.strip().lower())
        if not key:
            if self.keep:
                return None, end
            hint = nearest(head.strip(), keys or ())
            raise self.place.moved(bracket + 1).error(
                f"${name} has no {head.strip()!r}" + (f" (did you mean {hint!r}?)" if hint else "")
            )
        if not self.plain and self.text.startswith("[", end):
            cut, behind = self.inside(end)
            if _SLICE.fullmatch(cut.strip()):
                steps, end = (*steps, Step("slice", (cut.strip(),))), behind
        return Token(f"{name}[{key}]", self.text[here:end], steps), end

    def simple(self, here: int, name: str, end: int) -> tuple[Token | None, int]:
        is_date = name in self.vocabulary.dates
        if not self.text.startswith("[", end):
            return Token(name, self.text[here:end], (), NO_DATE if is_date else None), end
        bracket = end
        inner, end = self.inside(bracket, nested=is_date)
        head, steps = self.filtered(inner, bracket + 1)
        cut, params = head.strip(), NO_DATE if is_date else None
        if _SLICE.fullmatch(cut):
            steps = (Step("slice", (cut,)), *steps)
        elif self.keep and cut and not (is_date and "=" in cut):
            return Token(name, self.text[here:bracket], (), params), bracket  # as [0-9] in a regex
        elif is_date:
            params = self.date_params(head, bracket + 1)
        elif cut:
            raise self.place.moved(bracket + 1).error(
                f"{cut!r} is no slice; write ${name}[a..b], ${name}[n] or ${name}[-n]"
            )
        return Token(name, self.text[here:end], steps, params), end

    def filtered(self, inner: str, offset: int) -> tuple[str, tuple[Step, ...]]:
        """Return what stands before the first `|` and the filters behind it."""
        if self.plain or "|" not in inner:
            return inner, ()
        (_, head), *rest = balanced.split(inner, "|", self.place.moved(offset))
        return head, tuple(
            _step(text.strip(), self.place.moved(offset + start)) for start, text in rest
        )

    def date_params(self, inner: str, offset: int) -> DateParams:
        params = NO_DATE
        for start, part in balanced.split(inner, ",;", self.place.moved(offset)):
            if not part.strip():
                continue
            name, sign, value = part.partition("=")
            where = self.place.moved(offset + start)
            if not sign:
                raise where.error(f"a date parameter is name=value, not {part.strip()!r}")
            params = date_param(
                params,
                name.strip(),
                value.strip(),
                where,
                vocabulary=self.vocabulary,
                legacy=self.legacy,
            )
        return params


def _step(text: str, place: Place) -> Step:
    name, *raw = [part for _, part in balanced.split(text, ":", place)]
    word = name.strip().lower()
    arguments = tuple(balanced.unquoted(part, place) for part in raw)
    if text[:1] in {'"', "'"}:
        return Step("default", (balanced.unquoted(text, place),))
    if word not in _FILTERS:
        # close to a filter's name is a slip of the pen; `oper` is not, and often the default
        close = difflib.get_close_matches(word, _FILTERS, n=1, cutoff=0.8)
        if close or raw:
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise place.error(f"unknown filter {word!r}{hint}")
        return Step("default", (balanced.unquoted(text, place),))
    if word == "default" and not raw:
        return Step("default", ("default",))
    if len(arguments) != _FILTERS[word]:
        raise place.error(f"the filter {word} has {_FILTERS[word]} arguments, found {len(raw)}")
    if word == "replace" and not arguments[0]:
        raise place.error("the filter replace needs something to replace")
    return Step(word, arguments)


DATE_PARAMS: Final = ("dateformat", "datedelta", "datesource", "datepattern", "timezone")


def date_param(
    params: DateParams,
    name: str,
    raw: str,
    place: Place,
    *,
    vocabulary: Vocabulary,
    legacy: bool = False,
) -> DateParams:
    """Return `params` with one more parameter, `raw` as written; an empty one counts as absent.

    Raises:
        RuleError: unknown name or unreadable value.
    """
    known = name.lower()
    if known not in DATE_PARAMS:
        hint = nearest(name, DATE_PARAMS)
        raise place.error(
            f"unknown date parameter {name!r}" + (f" (did you mean {hint!r}?)" if hint else "")
        )
    # single quotes belong to a date pattern, as in yyyyMMdd'T'HH
    value = balanced.unwrapped(raw) if known in {"dateformat", "datepattern"} else raw
    if known == "datesource":
        sources = replace(vocabulary, dates=frozenset(), simple=_without_dates(vocabulary))
        text = balanced.unquoted(raw, place)
        return replace(
            params, datesource=_Reader(text, sources, place, True, False, legacy).pieces()
        )
    if not value:
        return params
    try:
        return _with_value(params, known, value, legacy=legacy)
    except InputError as error:
        raise place.error(f"{known}: {error.message}") from None


def _without_dates(vocabulary: Vocabulary) -> dict[str, str]:
    return {low: name for low, name in vocabulary.simple.items() if name not in vocabulary.dates}


def _with_value(params: DateParams, known: str, value: str, *, legacy: bool) -> DateParams:
    if known == "dateformat":
        return replace(params, dateformat=DatePattern.parse(value))
    if known == "datepattern":
        return replace(params, datepattern=DatePattern.parse(value))
    if known == "timezone":
        return replace(params, timezone=parse_zone(value))
    length = parse_duration(value, legacy_unit="h" if legacy else None)
    return replace(params, datedelta=length)


def parse_pieces(
    text: str,
    vocabulary: Vocabulary,
    *,
    place: Place | None = None,
    keep_unknown: bool = False,
    plain: bool = False,
    legacy: bool = False,
) -> Pieces:
    """Parse a text into literal texts and tokens.

    `keep_unknown` leaves unknown tokens as they stand, `plain` knows neither filters nor a slice
    behind a section; `legacy` does both as imported texts need, ends brackets at the first `]` and
    takes a bare datedelta for hours.

    Raises:
        RuleError: unknown token (names the nearest), bad slice, filter or date parameter, brackets
            never closed, or a text above the limits; names the column.
    """
    where = place or Place()
    if len(text) > MAX_TEMPLATE:
        raise where.error(f"longer than {MAX_TEMPLATE} characters")
    if "$" not in text:
        return (text,) if text else ()
    reader = _Reader(text, vocabulary, where, keep_unknown or legacy, plain or legacy, legacy)
    return reader.pieces()
