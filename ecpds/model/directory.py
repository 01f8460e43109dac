"""The directory text of an acquisition Host: where to look, and what to take.

    line    = [ "[" options "]" ] path [ "{" regex "}" ]      lines with # in front are comments
    options = name op value { (";" | ",") name op value }

A text is compiled once; a line that is wrong keeps its error and does not harm the others.  What
changes with the time of a run (`$date`) is expanded by `Line.at`.

Spec: acquisition.md sections 1 to 4, 7, 10 and 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, tzinfo
from typing import Final, Literal

from ecpds.model import balanced
from ecpds.model.acquisition import HOST_ONLY, AcquisitionOptions
from ecpds.model.comparison import OPERATORS, Comparison
from ecpds.model.decode import key_of
from ecpds.model.errors import InputError, RuleError
from ecpds.model.expression import Expression
from ecpds.model.names import nearest
from ecpds.model.place import Place, Problem
from ecpds.model.rules import compile_regex
from ecpds.model.script import Script
from ecpds.model.search import Directory, Line, LineOption, LineRules, Search, located
from ecpds.model.tokens import (
    DATE_PARAMS,
    NO_DATE,
    DateParams,
    Pieces,
    Token,
    Vocabulary,
    date_param,
    parse_pieces,
)
from ecpds.model.tokenvalues import constant, render_pieces

MAX_TEXT: Final = 1_048_576
"""Longest directory text, in characters."""

MAX_LINES: Final = 10_000
MAX_LINE: Final = 16_384

HOST_TOKENS: Final = Vocabulary.make(
    sections={
        "host": "name comment host login userMail networkCode networkName nickname",
        "transferMethod": "name comment value",
        "ectransModule": "name",
    }
)
"""Tokens replaced in the whole text before anything else; secrets are not among them."""

PATH_TOKENS: Final = Vocabulary.make(dates="date dirdate")
TARGET_TOKENS: Final = Vocabulary.make(
    "destination name target original link timestamp", "dirdate date", {"group": None}
)
REQUEUE_VARIABLES: Final = (
    "time1",
    "size1",
    "time2",
    "size2",
    "destination",
    "target",
    "original",
)
_FILTER_TOKENS: Final = Vocabulary.make("namePattern", "date dirdate")
_KEYS: Final = {key_of(item).lower(): key_of(item) for item in fields(AcquisitionOptions)}
_COMPARED: Final = frozenset({"filesize", "fileage"})
_RAW: Final = frozenset({"dateformat", "datepattern", "requeueon"})


def parse_directory(
    text: str,
    options: Mapping[str, str] | None = None,
    *,
    tokens: Mapping[str, str] | None = None,
    zone: tzinfo = UTC,
    legacy: bool = False,
) -> Directory:
    """Compile a directory text.

    `options` are those of the Host by full key (`acquisition.target`), `tokens` its values by id
    (`host[login]`), `zone` the default zone of dates.  `legacy` takes bare lengths of time for
    hours and keeps unknown tokens as text.  Errors stay with their lines; a text above the limits,
    or host options that cannot be read, give one line with that error.
    """
    if (script := Script.find(text, HOST_TOKENS)) is not None:
        return Directory(text=text, script=script)
    try:
        whole = _with_host_tokens(text, tokens or {})
        maker = _Maker(_own_options(options or {}), zone, legacy)
    except InputError as error:
        return Directory(
            text=text, lines=(Line(number=1, text="", error=located(error, Place(1))),)
        )
    lines = [
        maker.line(line.strip(), number)
        for number, line in enumerate(whole.split("\n"), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    return Directory(text=text, lines=tuple(lines))


def check_directory(
    text: str,
    options: Mapping[str, str] | None = None,
    *,
    tokens: Mapping[str, str] | None = None,
    legacy: bool = False,
) -> list[Problem]:
    """Return errors and warnings of a directory text, for editors; arguments as above."""
    directory = parse_directory(text, options, tokens=tokens, legacy=legacy)
    return directory.problems + [
        Problem(line.number, 1, f"{word} in the path stays as it is{hint}", is_error=False)
        for line in directory.lines
        for piece in line.path
        if isinstance(piece, str)
        for word in _DOLLAR.findall(piece)
        for hint in [_did_you_mean(word)]
    ]


_DOLLAR: Final = re.compile(r"\$[A-Za-z{][A-Za-z0-9]*")


def _did_you_mean(word: str) -> str:
    known = [*PATH_TOKENS.names(), *HOST_TOKENS.names()]
    hint = nearest(word, known)
    return f" (did you mean {hint}?)" if hint else ""


def _with_host_tokens(text: str, tokens: Mapping[str, str]) -> str:
    if len(text) > MAX_TEXT or text.count("\n") >= MAX_LINES:
        raise RuleError(f"a directory text has at most {MAX_LINES} lines, {MAX_TEXT} characters")
    if "$" not in text:
        return text
    lines = []
    values = {key: re.sub(r"[\x00-\x1f\x7f]", " ", value) for key, value in tokens.items()}
    for number, line in enumerate(text.split("\n"), 1):
        place = Place(number)
        pieces = (line,) if len(line) > MAX_LINE else _host_pieces(line, place)
        lines.append(render_pieces(pieces, values))
    return "\n".join(lines)


def _host_pieces(line: str, place: Place) -> Pieces:
    try:
        return parse_pieces(line, HOST_TOKENS, place=place, keep_unknown=True, plain=True)
    except RuleError:
        return (line,)  # the line itself will complain


def _own_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the family by catalogue key; empty ones count as absent."""
    found: dict[str, str] = {}
    for key, value in options.items():
        family, _, name = key.partition(".")
        if family.lower() == "acquisition" and value != "":
            found[_KEYS.get(name.lower(), name)] = value
    return found


@dataclass(frozen=True, slots=True)
class _Maker:
    host: Mapping[str, str]
    zone: tzinfo
    legacy: bool

    def line(self, text: str, number: int) -> Line:
        place = Place(number)
        try:
            if len(text) > MAX_LINE:
                raise place.error(f"a line has at most {MAX_LINE} characters")
            options, path_text, regex_text, where = self.parts(text, place)
            path = _pieces(path_text, PATH_TOKENS, where)
            rules = self.rules(options, regex_text, where.moved(len(path_text)))
            return Line(
                number=number,
                text=text,
                path=path,
                options=options,
                regex_text=regex_text or "",
                rules=rules,
            )
        except InputError as error:
            return Line(number=number, text=text[:MAX_LINE], error=located(error, place))

    def parts(
        self, text: str, place: Place
    ) -> tuple[tuple[LineOption, ...], str, str | None, Place]:
        """Cut a line into options, path and regex; the place is that of the path."""
        options: tuple[LineOption, ...] = ()
        if text.startswith("["):
            end = balanced.closing(text, 0, place)
            options = tuple(self.line_options(text[1:end], place.moved(1)))
            rest = text[end + 1 :]
            place = place.moved(end + 1 + len(rest) - len(rest.lstrip()))
            text = rest.strip()
        regex: str | None = None
        if text.endswith("}") and "{" in text:
            text, _, regex = text[:-1].partition("{")
            text = text.rstrip()
        return options, text, regex, place

    def line_options(self, text: str, place: Place) -> list[LineOption]:
        found: list[LineOption] = []
        for offset, part in balanced.split(text, ";,", place):
            if part.strip():
                found.append(self.line_option(part, place.moved(offset)))
        return found

    def line_option(self, part: str, place: Place) -> LineOption:
        match = _OPTION.fullmatch(part)
        if match is None:
            raise place.error(f"an option is name=value, not {part.strip()[:60]!r}")
        name, sign, raw = match["name"], match["sign"], match["value"].strip()
        key = _KEYS.get(name.lower())
        if key is None:
            hint = nearest(name, _KEYS.values())
            raise place.error(
                f"unknown option {name!r}" + (f" (did you mean {hint!r}?)" if hint else "")
            )
        if key in HOST_ONLY:
            raise place.error(f"the option {key!r} belongs to the host, not to a line")
        if key not in _COMPARED and sign not in {"=", "=="} and not self.legacy:
            raise place.error(f"the option {key!r} is set with =, not with {sign}")
        value = balanced.unwrapped(raw) if key in _RAW else balanced.unquoted(raw, place)
        return LineOption(key, sign, value, place)

    def rules(self, options: tuple[LineOption, ...], regex: str | None, place: Place) -> LineRules:
        own = {option.name: _text_of(option) for option in options if option.value != ""}
        merged = {**self.host, **own}
        read = AcquisitionOptions.read({f"acquisition.{k}": v for k, v in merged.items()})
        places = {option.name: option.place for option in options}
        host_dates = self.dates(self.host, DateParams(timezone=self.zone), {})
        line_dates = self.dates(own, NO_DATE, places).over(host_dates)
        compiled = _regex_pieces(regex, PATH_TOKENS, place) if regex else None
        with _Named(places) as at:
            target = self.template(at("target", read.target))
            _check_groups(target, compiled)
            return LineRules(
                options=read,
                wildcard=_pieces(at("wildcardFilter", read.wildcard_filter), PATH_TOKENS),
                name_filter=_regex_pieces(at("regexPattern", read.regex_pattern), _FILTER_TOKENS),
                regex=compiled,
                exclude=_exclude(at("exclude", read.exclude)),
                filesize=self.comparison(at("filesize", read.filesize), "size"),
                fileage=self.comparison(at("fileage", read.fileage), "age"),
                target=target,
                metadata=self.template(at("metadata", read.metadata)),
                requeue=requeue_rule(read) if at("requeueon", "any") else None,
                line_dates=line_dates,
                host_dates=host_dates,
            )

    def template(self, text: str) -> Pieces:
        return parse_pieces(text, TARGET_TOKENS, legacy=self.legacy)

    def comparison(self, text: str, kind: Literal["size", "age"]) -> Comparison | None:
        return Comparison.parse(text, kind, legacy=self.legacy) if text else None

    def dates(
        self, options: Mapping[str, str], params: DateParams, places: Mapping[str, Place]
    ) -> DateParams:
        for name in DATE_PARAMS:
            if value := options.get(name):
                place = places.get(name, Place())
                params = date_param(
                    params, name, value, place, vocabulary=TARGET_TOKENS, legacy=self.legacy
                )
        return params


class _Named:
    """Errors inside get the name and, on a line, the place of the option that was named last."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._name = ""

    def __call__(self, name: str, value: str) -> str:
        self._name = name
        return value

    def __enter__(self) -> _Named:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, InputError):
            message = f"{self._name}: {error.message}"
            place = self._places.get(self._name)
            raise (RuleError(message) if place is None else place.error(message)) from None


def _pieces(text: str, vocabulary: Vocabulary, place: Place | None = None) -> Pieces:
    return parse_pieces(text, vocabulary, place=place, keep_unknown=True, plain=True)


def _regex_pieces(text: str, vocabulary: Vocabulary, place: Place | None = None) -> Pieces:
    pieces = _pieces(text, vocabulary, place)
    if (plain := constant(pieces)) is not None:
        compile_regex(plain, place)
    return pieces


_OPTION: Final = re.compile(
    rf"\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*(?P<sign>{'|'.join(OPERATORS)})(?P<value>.*)", re.DOTALL
)


def _text_of(option: LineOption) -> str:
    """Return the value, with its operator where that means something."""
    return option.operator + option.value if option.name in _COMPARED else option.value


def _exclude(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    return compile_regex(text[1:-1] if text.startswith("{") and text.endswith("}") else text)


def _check_groups(target: Pieces, regex: Pieces | None) -> None:
    """Refuse `$group[x]` that the regular expression of the line does not have."""
    used = {piece.id[6:-1] for piece in target if isinstance(piece, Token) and "[" in piece.id}
    plain = constant(regex or ())
    if not used or plain is None:
        return
    known = re.compile(plain).groupindex
    for name in sorted(used - set(known)):
        hint = nearest(name, known)
        raise RuleError(
            f"the regular expression has no group {name!r}"
            + (f" (did you mean {hint!r}?)" if hint else "")
        )


_ON_UPDATE: Final = "$time2 > $time1 && $size2 != $size1"
_ON_TIME: Final = "$time2 > $time1"


def requeue_rule(options: AcquisitionOptions) -> Expression | None:
    """Return when a file that is already known is registered again, None for never."""
    text = options.requeue_on
    if not text and options.requeue_on_update:
        text = _ON_TIME if options.requeue_on_same_size else _ON_UPDATE
    return Expression.parse(text, REQUEUE_VARIABLES) if text else None


__all__ = [
    "Directory",
    "Line",
    "LineOption",
    "LineRules",
    "Search",
    "check_directory",
    "parse_directory",
]
