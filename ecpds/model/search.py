"""A directory line once compiled, and what it asks for at the time of one run.

Spec: acquisition.md sections 1 to 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from ecpds.model.acquisition import AcquisitionOptions
from ecpds.model.comparison import Comparison
from ecpds.model.errors import InputError, RuleError
from ecpds.model.expression import Expression
from ecpds.model.listednames import joined
from ecpds.model.place import Place, Problem
from ecpds.model.rules import compile_regex
from ecpds.model.script import Script
from ecpds.model.tokens import NO_DATE, DateParams, Pieces, Token
from ecpds.model.tokenvalues import Dates, render_pieces, settled


@dataclass(frozen=True, slots=True)
class LineOption:
    """One option as a line gives it; `name` is spelled as in the catalogue."""

    name: str
    operator: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRules:
    """Everything that a line and its Host say, compiled."""

    options: AcquisitionOptions
    wildcard: Pieces = ()
    name_filter: Pieces = ()  # regex near the source
    regex: Pieces | None = None
    exclude: re.Pattern[str] | None = None
    filesize: Comparison | None = None
    fileage: Comparison | None = None
    target: Pieces = ()
    metadata: Pieces = ()
    requeue: Expression | None = None
    line_dates: DateParams = NO_DATE
    host_dates: DateParams = NO_DATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A line at the time of one run: what to list and what to look for."""

    line: Line
    rules: LineRules
    now: datetime
    path: str
    listed: str  # path with the wildcard filter, as the remote side gets it
    name_filter: re.Pattern[str] | None
    regex: re.Pattern[str] | None
    target: Pieces
    metadata: Pieces
    dates: Dates

    @property
    def options(self) -> AcquisitionOptions:
        """Return the options of the line over those of its Host."""
        return self.rules.options


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line; it has either `rules` or an `error`."""

    number: int
    text: str
    path: Pieces = ()
    options: tuple[LineOption, ...] = ()
    regex_text: str = ""
    rules: LineRules | None = None
    error: RuleError | None = None

    def at(self, now: datetime) -> Search:
        """Expand the line for a run.

        Raises:
            RuleError: the line's own error, or a date that cannot be expanded.
        """
        if self.error is not None or self.rules is None:
            raise self.error or RuleError(f"line {self.number}: not compiled", line=self.number)
        rules = self.rules
        in_line = Dates(now=now, defaults={"date": rules.line_dates, "dirdate": rules.line_dates})
        in_target = Dates(now=now, defaults={"date": rules.host_dates, "dirdate": rules.line_dates})
        try:
            path = render_pieces(self.path, {}, in_line)
            return Search(
                line=self,
                rules=rules,
                now=now,
                path=path,
                listed=joined(path, render_pieces(rules.wildcard, {}, in_line)),
                name_filter=self._regex(rules.name_filter, in_line) if rules.name_filter else None,
                regex=None if rules.regex is None else self._regex(rules.regex, in_line),
                target=settled(rules.target, in_target),
                metadata=settled(rules.metadata, in_target),
                dates=in_target,
            )
        except InputError as error:
            raise located(error, Place(self.number)) from None

    def _regex(self, pieces: Pieces, dates: Dates) -> re.Pattern[str]:
        source = "".join(
            piece if isinstance(piece, str) else self._inserted(piece, dates) for piece in pieces
        )
        return compile_regex(source)

    def _inserted(self, token: Token, dates: Dates) -> str:
        if token.id == "namePattern":
            return self._regex_source(dates)
        return re.escape(render_pieces((token,), {}, dates))

    def _regex_source(self, dates: Dates) -> str:
        regex = self.rules.regex if self.rules is not None else None
        return ".*" if regex is None else self._regex(regex, dates).pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A compiled directory text; with a `script` its lines come from running that."""

    text: str
    lines: tuple[Line, ...] = ()
    script: Script | None = None

    @property
    def problems(self) -> list[Problem]:
        """Return the errors of all lines."""
        return [
            Problem.of(line.error, line.number) for line in self.lines if line.error is not None
        ]

    def preview(self, now: datetime) -> list[tuple[int, str]]:
        """Return line number and the path that would be listed, or the error, for operators."""
        found: list[tuple[int, str]] = []
        for line in self.lines:
            try:
                found.append((line.number, line.at(now).listed))
            except RuleError as error:
                found.append((line.number, f"error: {error.message}"))
        return found


def located(error: InputError, place: Place) -> RuleError:
    """Return the error with the line of `place`, unless it already tells its own."""
    if isinstance(error, RuleError) and error.facts.get("line"):
        return error
    column = error.facts.get("column")
    if isinstance(column, int) and isinstance(error, RuleError):
        return RuleError(f"line {place.line}, {error.message}", line=place.line, column=column)
    return RuleError(f"line {place.line}: {error.message}", line=place.line, column=place.column)
